"""Trains the probe that measures generated synthetic heads, and measures the probe on people it has never seen.

    python scripts/train_probe.py --output checkpoints/probe --threads 2

renders its pictures itself, trains for --minutes and writes probe.pth (fp16) and probe.json (accuracy) to --output.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.frames import crop_template
from data.synthetic.clips import (
    STATE_NAMES,
    FaceState,
    Identity,
    make_identity,
    make_performance,
    make_scene,
    render_frame,
)
from models.networks.probe import IDENTITY_DIM, IMAGE_SIZE, QUANTITIES, SCALES, Probe
from scripts.measure_synthetic import FIRST_HELD_OUT, PROBE_FILE, PROBE_REPORT, load_probe, pearson, retrieval
from util.checkpoint import save_state_dict
from util.errors import MediaError, OptionError, PcavsError
from util.files import make_directory, write_json
from util.log import setup_logging
from util.seed import generator_for

SCENES = 2  # of every person: light and clothes must not be taken for who it is
HELD_OUT_PEOPLE, HELD_OUT_FRAMES = 32, 20  # frames of each of a person's scenes
BLUR_SIGMA = 1.0  # pixels of 112, for the second measurement
_BATCH, _LEARNING_RATE, _WARM_UP = 64, 3e-3, 0.05
_IDENTITY_WEIGHT, _MARGIN, _SHARPNESS = 0.15, 0.15, 16.0
_LEAST_TAP = 1e-4  # of a Gaussian
_COLUMNS = [STATE_NAMES.index(name) for name in QUANTITIES]
_MIRRORED = torch.tensor([-1.0 if name in ("yaw", "roll") else 1.0 for name in QUANTITIES])


# --------------------------------------------------------------------------------------------------------- pictures


@dataclass(frozen=True)
class Job:
    """Pictures of one person in one scene."""

    speaker_seed: int
    scene: int
    num_frames: int
    seed: int
    acted: float  # share of states taken from performances; the rest is drawn evenly over all that can be


@dataclass(frozen=True)
class Pictures:
    """frames: (N, 3, 112, 112) uint8 RGB.  values: (N, 6) float32, QUANTITIES.  people, scenes: (N,) int64."""

    frames: Tensor
    values: Tensor
    people: Tensor
    scenes: Tensor


def random_states(rng: np.random.Generator, count: int) -> np.ndarray:
    """States drawn evenly, also such as no speech would make: (count, 13) float32."""
    tracks = {name: np.zeros(count) for name in STATE_NAMES}
    for name, limit in {"yaw": 38, "pitch": 22, "roll": 13, "shift_x": 4, "shift_y": 18, "width": 1, "brow": 1}.items():
        tracks[name] = rng.uniform(-limit, limit, count)
    tracks["gaze_x"], tracks["gaze_y"] = rng.normal(0, [[6], [3]], (2, count))
    tracks["zoom"] = rng.uniform(0.96, 1.04, count)
    closed = rng.random(count) < 0.2
    tracks["opening"] = np.where(closed, 0, rng.random(count))
    tracks["press"] = np.where(closed, rng.random(count), 0)
    tracks["lip_teeth"] = np.where(~closed & (tracks["opening"] < 0.15), rng.random(count), 0)
    tracks["blink"] = np.where(rng.random(count) < 0.5, rng.random(count), 0)
    return np.stack([tracks[name] for name in STATE_NAMES], axis=1).astype(np.float32)


def states_of(job: Job, identity: Identity) -> np.ndarray:
    """(num_frames, 13) float32: frames of performances, a third of a second apart, then random states.

    Where the face is in the frame is random throughout: the probe is to read a nod from the face, not from its place.
    """
    rng = generator_for(job.seed, job.speaker_seed, job.scene)
    acted = round(job.num_frames * job.acted)
    performance = make_performance(int(rng.integers(2**62)), identity, 8 * max(acted, 1))
    drawn = random_states(rng, job.num_frames)
    places = [STATE_NAMES.index("shift_x"), STATE_NAMES.index("shift_y")]
    states = np.concatenate([performance.states[::8][:acted], drawn[acted:]])
    states[:, places] = drawn[:, places]
    return states


def render(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Frames (num_frames, 3, 112, 112) uint8 RGB as the networks see them, and values (num_frames, 6) float32."""
    import cv2

    cv2.setNumThreads(1)  # the processes are the parallelism
    identity = make_identity(job.speaker_seed)
    scene = make_scene(int(generator_for(job.seed, job.speaker_seed, job.scene, 1).integers(2**62)))
    states = states_of(job, identity)
    frames = np.empty((len(states), 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    for number, row in enumerate(states):
        picture = crop_template(render_frame(identity, FaceState(*map(float, row)), scene))
        frames[number] = cv2.resize(picture, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    return frames, states[:, _COLUMNS]


def render_all(jobs: Sequence[Job], workers: int) -> Pictures:
    """Renders all jobs in `workers` processes.

    Raises:
        MediaError: a process died.
    """
    # spawn: a forked child would inherit the locks of OpenCV's threads and could wait for them for ever
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    done: list[tuple[np.ndarray, np.ndarray]] = []
    try:
        with tqdm(total=sum(job.num_frames for job in jobs), unit="frame", desc="rendering") as bar:
            for part in pool.map(render, jobs):
                done.append(part)
                bar.update(len(part[0]))
    except BrokenProcessPool as error:
        raise MediaError("a worker died (out of memory?); try fewer --frames or --threads") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    counts = torch.tensor([job.num_frames for job in jobs])
    return Pictures(
        torch.from_numpy(np.concatenate([frames for frames, _ in done])),
        torch.from_numpy(np.concatenate([values for _, values in done])),
        torch.tensor([job.speaker_seed for job in jobs]).repeat_interleave(counts),
        torch.tensor([job.scene for job in jobs]).repeat_interleave(counts),
    )


def training_jobs(num_identities: int, frames: int, seed: int) -> list[Job]:
    """SCENES jobs for each of the people 0 ... num_identities - 1, `frames` pictures together."""
    share = -(-frames // (num_identities * SCENES))
    return [Job(person, scene, share, seed, 0.5) for person in range(num_identities) for scene in range(SCENES)]


def held_out_jobs(seed: int) -> list[Job]:
    """People of the measurement; they act, because generated clips will."""
    people = range(FIRST_HELD_OUT, FIRST_HELD_OUT + HELD_OUT_PEOPLE)
    return [Job(person, scene, HELD_OUT_FRAMES, seed, 1.0) for person in people for scene in range(SCENES)]


# --------------------------------------------------------------------------------------------------------- training


def blurred(images: Tensor, sigma: float) -> Tensor:
    """(B, 3, S, S) through a Gaussian of `sigma` pixels, cut off and weighed anew at the border."""
    pixel = torch.arange(images.shape[-1])
    kernel = torch.exp(-0.5 * ((pixel[:, None] - pixel) / sigma) ** 2)
    kernel = torch.where(kernel > _LEAST_TAP, kernel, 0)  # denormal numbers are slow
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    across = (images @ kernel.T).transpose(2, 3)
    return (across.contiguous() @ kernel.T).transpose(2, 3)


def augmented(frames: Tensor, values: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What generated frames may look like: mirrored, moved, soft, noisy, of other brightness and tint.

    Args:
        frames: (B, 3, H, W) uint8 RGB.
        values: (B, 6), QUANTITIES; mirroring turns yaw and roll around.

    Returns:
        (B, 3, H, W) float32 around [-1, 1], and the values that go with them.
    """
    batch = len(frames)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    images = frames.float() / 127.5 - 1
    mirror = torch.rand(batch, generator=generator) < 0.5
    values = torch.where(mirror[:, None], values * _MIRRORED, values)
    matrix = torch.zeros(batch, 2, 3)
    zoom = uniform(0.95, 1.05, batch)
    matrix[:, 0, 0], matrix[:, 1, 1] = torch.where(mirror, -zoom, zoom), zoom
    matrix[:, :, 2] = uniform(-0.04, 0.04, batch, 2)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    soft = blurred(images[: batch // 2], float(uniform(0.3, 1.8, 1)))  # batches are shuffled: any half will do
    images = torch.cat([soft, images[batch // 2 :]])
    images = images * uniform(0.8, 1.2, batch, 1, 1, 1) * uniform(0.93, 1.07, batch, 3, 1, 1)
    images = images + uniform(-0.12, 0.12, batch, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator)
    return images + noise * uniform(0, 0.06, batch, 1, 1, 1), values


def identity_loss(codes: Tensor, people: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over cosines to one vector a person, the right one lowered by a margin.

    Args:
        codes: (B, 64) of unit length.  people: (P, 64).  labels: (B,).

    Source: Wang et al. 2018 (CosFace).
    """
    cosine = codes @ F.normalize(people, dim=1).T
    return F.cross_entropy(_SHARPNESS * (cosine - _MARGIN * F.one_hot(labels, len(people))), labels)


def learning_rate(progress: float) -> float:
    """Rises over the first twentieth, then falls along a cosine to 0; progress 0..1."""
    if progress < _WARM_UP:
        return _LEARNING_RATE * max(progress / _WARM_UP, 0.01)
    return _LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - _WARM_UP) / (1 - _WARM_UP))))


def train(pictures: Pictures, num_people: int, minutes: float, seed: int) -> tuple[Probe, int]:
    """Trains for a given time; the learning rate follows the clock, so a slower machine makes fewer steps.

    Args:
        minutes: of processor time for each thread, so that other people's work on the machine costs no accuracy.

    Returns:
        the probe in eval mode, and how many steps it made.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    probe = Probe()
    people = nn.Parameter(torch.randn(num_people, IDENTITY_DIM, generator=generator))
    optimizer = torch.optim.AdamW([*probe.parameters(), people], weight_decay=0.02)
    scales = torch.tensor(list(SCALES.values()))
    seconds = 60 * minutes * torch.get_num_threads()
    started, step, order = time.process_time(), 0, torch.empty(0, dtype=torch.long)
    with tqdm(unit="step", desc="training") as bar:
        while (progress := (time.process_time() - started) / seconds) < 1 or step == 0:
            if len(order) < _BATCH:
                order = torch.randperm(len(pictures.frames), generator=generator)
            chosen, order = order[:_BATCH], order[_BATCH:]
            images, values = augmented(pictures.frames[chosen], pictures.values[chosen], generator)
            readings = probe(images.contiguous(memory_format=torch.channels_last))
            read = torch.stack([readings[name] for name in QUANTITIES], dim=1)
            fit = F.smooth_l1_loss(read / scales, values / scales, beta=0.3)
            who = identity_loss(readings["identity"], people, pictures.people[chosen])
            optimizer.param_groups[0]["lr"] = learning_rate(progress)
            optimizer.zero_grad()
            (fit + _IDENTITY_WEIGHT * who).backward()
            optimizer.step()
            step += 1
            bar.update()
            if step % 50 == 0:
                bar.set_postfix(fit=f"{fit.item():.3f}", identity=f"{who.item():.2f}", refresh=False)
    return probe.eval(), step


# ------------------------------------------------------------------------------------------------------ measurement


def evaluate(probe: Probe, pictures: Pictures, blur: float | None = None) -> dict[str, float]:
    """Accuracy on people of whom the probe has never seen a picture.

    Args:
        blur: Gaussian, pixels of 112, before the probe looks.

    Returns:
        per quantity the correlation over all frames and the mean absolute error (in the quantity's unit); share of
        frames that find their person in another scene.
    """
    images = pictures.frames.float() / 127.5 - 1
    images = images if blur is None else blurred(images, blur)
    with torch.inference_mode():
        parts = [probe(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    readings = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    report = {}
    for column, name in enumerate(QUANTITIES):
        truth = pictures.values[:, column].numpy()
        report[f"correlation/{name}"] = pearson(readings[name], truth)
        report[f"mean_absolute_error/{name}"] = float(np.abs(readings[name] - truth).mean())
    report |= _retrieval(readings["identity"], pictures.people.numpy(), pictures.scenes.numpy())
    return report


def _retrieval(codes: np.ndarray, people: np.ndarray, scenes: np.ndarray) -> dict[str, float]:
    """How often a frame of the last scene is nearest to its own person in the first one.

    Scenes differ, because an untrained network finds most frames of the same scene by the background.

    Returns:
        the share when everybody is known from one picture, and when from the mean code of all pictures of the scene.
    """
    known, asked = scenes == 0, scenes == SCENES - 1
    names = np.unique(people)
    single = np.stack([codes[known & (people == name)][0] for name in names])
    mean = np.stack([codes[known & (people == name)].mean(axis=0) for name in names])
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    right = np.searchsorted(names, people[asked])
    return {
        "identity_retrieval/one_picture": retrieval(codes[asked] @ single.T, right),
        "identity_retrieval/mean_of_pictures": retrieval(codes[asked] @ mean.T, right),
    }


# --------------------------------------------------------------------------------------------------------- the run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, default=Path("checkpoints/probe"), help="folder of the two files")
    parser.add_argument("--num_identities", type=int, default=400, help="people to train on (default 400)")
    parser.add_argument("--frames", type=int, default=20000, help="pictures to train on (default 20000)")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training on a core of its own (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of states, weights and order (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="rendering processes, then threads (default 1)")
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Raises OptionError for values that cannot be honoured."""
    if not 2 <= args.num_identities <= FIRST_HELD_OUT:
        raise OptionError(
            f"--num_identities must lie between 2 and {FIRST_HELD_OUT} (from there on people are held out), "
            f"got {args.num_identities}"
        )
    if args.frames < max(_BATCH, args.num_identities * SCENES):
        least = max(_BATCH, args.num_identities * SCENES)
        raise OptionError(f"--frames must be at least {least} (one a person and scene, one batch), got {args.frames}")
    if not (math.isfinite(args.minutes) and args.minutes > 0):
        raise OptionError(f"--minutes must be above 0, got {args.minutes}")
    if args.seed < 0:
        raise OptionError(f"--seed must not be negative, got {args.seed}")
    if args.threads < 1:
        raise OptionError(f"--threads must be at least 1, got {args.threads}")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Renders, trains, saves, and measures what was saved. Returns the report.

    Raises:
        PcavsError: a flag, the folder, a process or the disk.
    """
    check_args(args)
    make_directory(args.output)
    torch.set_num_threads(args.threads)
    held_out = render_all(held_out_jobs(args.seed), args.threads)
    pictures = render_all(training_jobs(args.num_identities, args.frames, args.seed), args.threads)
    probe, steps = train(pictures, args.num_identities, args.minutes, args.seed)
    state = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in probe.state_dict().items()}
    save_state_dict(state, args.output / PROBE_FILE)
    probe = load_probe(args.output / PROBE_FILE)  # half precision is what everybody will use
    report = {
        "parameters": sum(parameter.numel() for parameter in probe.parameters()),
        "training": {
            "people": args.num_identities,
            "frames": len(pictures.frames),
            "minutes": args.minutes,
            "steps": steps,
            "batch": _BATCH,
            "seed": args.seed,
            "threads": args.threads,
        },
        "held_out": {"people": HELD_OUT_PEOPLE, "first": FIRST_HELD_OUT, "frames": len(held_out.frames)},
        "sharp": evaluate(probe, held_out),
        f"blurred by {BLUR_SIGMA} px of {IMAGE_SIZE}": evaluate(probe, held_out, BLUR_SIGMA),
    }
    write_json(args.output / PROBE_REPORT, report)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    setup_logging()
    try:
        report = run(args)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        return 130
    for name, value in report["sharp"].items():
        print(f"{name:40} {value:.3f}")
    print(f"{args.output}: {PROBE_FILE} and {PROBE_REPORT} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
