#!/usr/bin/env python3
"""Teaches E's trunk the 68 landmarks of synthetic people, so that its features know how a head is turned.

    python scripts/train_landmarks.py --source checkpoints/small/sync --train_list lists/train.csv \\
      --output checkpoints/small/landmarks

The trunk is a face alignment network; the published model starts from one that finds landmarks. The sync stage alone
leaves in its feature the mouth and hardly anything else, and a pose code that G does not use yet gets no gradient by
which it could come to say more. E keeps saying of the mouth what it said. Writes latest_net_E.pth and network.json to
--output; `train.py --load_pretrain` takes them. Clips need the ground truth that scripts/make_synthetic_data.py writes.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.clip_list import read_list
from data.clip_reader import ClipReader
from data.synthetic import FRAME_SIZE, read_truth
from models.networks.pose_encoder import PoseEncoder
from models.registry import build_network
from options.config import AudioConfig, DataConfig, NetworkConfig, to_plain
from scripts.measure_synthetic import to_images
from util.checkpoint import load_network, network_path, save_state_dict
from util.errors import MediaError, OptionError, PcavsError
from util.files import make_directory, write_json
from util.log import setup_logging
from util.seed import generator_for

_LEARNING_RATE = 2e-3
_LANDMARK_SCALE = 0.05  # of the side of the picture: about how far a landmark strays from its mean
_GAIN, _SHIFT = 0.2, 0.2  # of brightness, by channel


def read_pictures(train_list: Path, frames: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Frames of every clip of a list, drawn without repetition, and the landmarks in them.

    Args:
        frames: of a clip, at most.
        size: side of the pictures.

    Returns:
        (N, 3, size, size) uint8 RGB and (N, 136) float32, landmarks as shares of the side of the whole frame.

    Raises:
        MetadataError, MediaError: the list or a clip cannot be read, or a clip has no ground truth beside it.
    """
    reader = ClipReader(AudioConfig(), DataConfig(crop_size=size))
    pictures, points = [], []
    for number, record in enumerate(tqdm(read_list(train_list), unit="clip", desc="reading")):
        truth = read_truth(record.path)
        if len(truth.landmarks) < record.num_frames:
            raise MediaError(
                f"{record.path}: {record.num_frames} frames, but ground truth of {len(truth.landmarks)}; make it again"
            )
        drawn = generator_for(seed, number).permutation(record.num_frames)[:frames]
        chosen = sorted(int(frame) for frame in drawn)
        pictures.append(reader.frames(record, chosen))
        points.append(truth.landmarks[chosen].reshape(len(chosen), -1) / FRAME_SIZE)
    return torch.from_numpy(np.concatenate(pictures)), torch.from_numpy(np.concatenate(points)).float()


def train(encoder: PoseEncoder, pictures: Tensor, points: Tensor, steps: int, batch: int, seed: int) -> list[float]:
    """Trains the trunk and the mouth head; the learning rate falls to 0 in a straight line.

    Args:
        encoder: E, changed in place.
        pictures, points: of `read_pictures`.

    Returns:
        the error of the landmarks at every step, root mean square over both coordinates, as a share of the side.
    """
    torch.manual_seed(seed)
    before = copy.deepcopy(encoder).eval().requires_grad_(False)
    mean = points.mean(dim=0)
    head = nn.Linear(encoder.model.fc.out_features, points.shape[1])
    optimizer = torch.optim.Adam([*encoder.model.parameters(), *encoder.to_mouth.parameters(), *head.parameters()])
    encoder.train()
    errors = []
    with tqdm(range(steps), unit="step", desc="training") as bar:
        for step in bar:
            chosen = torch.randint(len(pictures), (batch,))
            images = _lit(to_images(pictures[chosen].numpy())).contiguous(memory_format=torch.channels_last)
            feature = encoder(images)
            miss = head(feature) - (points[chosen] - mean) / _LANDMARK_SCALE
            with torch.no_grad():
                said = before.to_mouth(before(images))
            mouth = F.mse_loss(encoder.to_mouth(feature), said) / said.var()
            optimizer.param_groups[0]["lr"] = _LEARNING_RATE * (1 - step / steps)
            optimizer.zero_grad()
            (miss.square().mean() + mouth).backward()
            optimizer.step()
            errors.append(miss.detach().square().mean().sqrt().item() * _LANDMARK_SCALE)
            bar.set_postfix(landmarks=f"{errors[-1]:.4f}", mouth=f"{mouth.item():.3f}", refresh=False)
    return errors


def _lit(images: Tensor) -> Tensor:
    """(B, 3, S, S) in other light."""
    gain = 1 + _GAIN * (2 * torch.rand(len(images), 3, 1, 1) - 1)
    return (images * gain + _SHIFT * torch.randn(len(images), 3, 1, 1)).clamp(-1, 1)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of the sync stage, with network.json")
    parser.add_argument("--train_list", type=Path, required=True, help="synthetic clips, see prepare_voxceleb2.py")
    parser.add_argument("--output", type=Path, required=True, help="folder for E")
    parser.add_argument("--frames", type=int, default=25, help="of every clip, at most (default 25)")
    parser.add_argument("--steps", type=int, default=1500, help="of training (default 1500)")
    parser.add_argument("--batch", type=int, default=48, help="frames a step (default 48)")
    parser.add_argument("--seed", type=int, default=0, help="of frames, order and weights (default 0)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> float:
    """Reads, trains, saves; returns the error of the last tenth of the steps, as a share of the picture's side.

    Raises:
        PcavsError: a flag, the list, a clip, the weights or the disk.
    """
    for name, least in (("frames", 1), ("steps", 1), ("batch", 2), ("threads", 1), ("seed", 0)):
        if getattr(args, name) < least:
            raise OptionError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    torch.set_num_threads(args.threads)
    network = NetworkConfig.from_file(args.source / "network.json")
    encoder = build_network("E", network)
    assert isinstance(encoder, PoseEncoder)
    load_network(encoder, network_path(args.source, "latest", "E"))
    pictures, points = read_pictures(args.train_list, args.frames, network.crop_size, args.seed)
    make_directory(args.output)
    errors = train(encoder, pictures, points, args.steps, args.batch, args.seed)
    save_state_dict(encoder.state_dict(), network_path(args.output, "latest", "E"))
    write_json(args.output / "network.json", to_plain(network))
    return float(np.mean(errors[-max(1, len(errors) // 10) :]))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    setup_logging()
    try:
        error = run(args)
    except PcavsError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        return 130
    print(f"{args.output}: E written; its landmarks are {100 * error:.2f} % of the picture's side off")
    return 0


if __name__ == "__main__":
    sys.exit(main())
