#!/usr/bin/env python3
"""Compares this implementation with a folder of reference numbers, one line a quantity; exits 1 on a miss.

  python tests/parity.py --golden tests/golden --seed 1
  python tests/parity.py --golden DIR --seed 1 --end_to_end --data DIR      (runs test.py on a real row)
  python tests/parity.py --golden DIR --seed 1 --device cuda

Weights and inputs are drawn by the rule in tests/seeded_weights.py.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from data import audio, frames  # noqa: E402
from data.faces import alignment  # noqa: E402
from data.metadata import Row, read_rows, write_rows  # noqa: E402
from models import losses  # noqa: E402
from models.networks.perceptual import VGG19Features  # noqa: E402
from models.registry import build_network  # noqa: E402
from options.config import NETWORK_LETTERS, NetworkConfig  # noqa: E402
from tests.seeded_weights import fill, seeded_rng  # noqa: E402
from util import images  # noqa: E402
from util.checkpoint import save_state_dict  # noqa: E402
from util.torchvision_compat import ensure_torchvision  # noqa: E402

NETWORK_TOLERANCE = 1e-3  # of each output's largest value
MEL_TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-4  # relative
MATRIX_TOLERANCE = 1e-6
FRAME_TOLERANCE, FRAME_MEAN_TOLERANCE = 1.0, 0.05  # of 255


@dataclass(frozen=True)
class Check:
    """One compared quantity; `difference` beyond `tolerance` is a miss."""

    name: str
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance  # NaN is a miss

    def __str__(self) -> str:
        verdict = "ok  " if self.passed else "MISS"
        return f"{verdict} {self.name:<34} difference {self.difference:.3g} (allowed {self.tolerance:g})"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, required=True, help="folder with the reference numbers")
    parser.add_argument("--seed", type=int, default=1, help="of weights and inputs")
    parser.add_argument("--device", default="cpu", help="for the networks: cpu or cuda")
    parser.add_argument("--end_to_end", action="store_true", help="also run test.py and compare frames")
    parser.add_argument("--data", type=Path, help="folder that takes the place of misc/ in the row")
    parser.add_argument("--row", help="metadata row; by default the one in <data>/demo.csv")
    parser.add_argument("--precision", default="fp32", help="of the end-to-end run")
    parser.add_argument("--all_frames", action="store_true", help="let test.py finish instead of stopping it early")
    arguments = parser.parse_args(argv)
    if arguments.end_to_end and arguments.data is None:
        parser.error("--end_to_end needs --data")
    missing = [
        n for n in ("state_dicts.json", "networks.npz", "processing.npz") if not (arguments.golden / n).is_file()
    ]
    if missing:
        parser.error(f"--golden {arguments.golden}: holds no {missing[0]}")
    checks = static_checks(arguments.golden, arguments.seed, arguments.device)
    if arguments.end_to_end:
        checks = itertools.chain(checks, end_to_end_checks(arguments))
    misses = total = 0
    for check in checks:
        print(check, flush=True)
        total += 1
        misses += not check.passed
    print(f"{total} quantities compared, {misses} missed")
    return 1 if misses else 0


def static_checks(golden: Path, seed: int, device: str = "cpu") -> Iterator[Check]:
    """All comparisons but the end-to-end run."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield from state_dict_checks(golden)
    reference = np.load(golden / "networks.npz")
    yield from network_checks(reference, seed, device)
    processing = np.load(golden / "processing.npz")
    yield from audio_checks(processing)
    yield from image_checks(processing)
    yield from alignment_checks(processing)
    yield from loss_checks(processing, seed, device)


def state_dict_checks(golden: Path) -> Iterator[Check]:
    """Every key and shape of the six networks at the published sizes."""
    expected = json.loads((golden / "state_dicts.json").read_text())
    for letter in NETWORK_LETTERS:
        with torch.device("meta"):
            network = build_network(letter, NetworkConfig())
        shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
        wrong = {k for k in shapes.keys() | expected[letter].keys() if shapes.get(k) != expected[letter].get(k)}
        for key in sorted(wrong):
            print(f"     {letter}: {key} is {shapes.get(key)}, the reference has {expected[letter].get(key)}")
        yield Check(f"{letter}: {len(shapes)} keys and shapes", len(wrong), 0)


def seeded_inputs(seed: int) -> dict[str, Tensor]:
    """image (2, 3, 224, 224), mel (3, 1, 80, 20), style (2, 2560), identity_map (2, 512, 7, 7)."""
    blocks = seeded_rng("image", seed).random((2, 3, 16, 16)) * 2 - 1
    arrays = {
        "image": np.kron(blocks, np.ones((14, 14))),
        "mel": seeded_rng("mel", seed).random((3, 1, 80, 20)),
        "style": 0.3 * seeded_rng("style", seed).standard_normal((2, 2560)),
        "identity_map": np.abs(seeded_rng("identity_map", seed).standard_normal((2, 512, 7, 7))),
    }
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}


def network_checks(reference: Mapping[str, np.ndarray], seed: int, device: str) -> Iterator[Check]:
    """Outputs of V, E, A_sync, G and D with seeded weights, relative to each output's largest value."""
    inputs = {name: tensor.to(device) for name, tensor in seeded_inputs(seed).items()}
    for compute in (_identity_outputs, _pose_outputs, _speech_outputs, _generator_outputs, _discriminator_outputs):
        with torch.inference_mode():
            for name, value in compute(inputs, seed, device).items():
                expected = reference[name]
                difference = np.abs(value.float().cpu().numpy() - expected).max() / np.abs(expected).max()
                yield Check(name, float(difference), NETWORK_TOLERANCE)


def _seeded(letter: str, seed: int, device: str) -> Any:
    return fill(build_network(letter, NetworkConfig()), seed).eval().to(device)


def _identity_outputs(inputs: Mapping[str, Tensor], seed: int, device: str) -> dict[str, Tensor]:
    network = _seeded("V", seed, device)
    vector, identity_map = network(inputs["image"][:, None])
    return {"V.vector": vector, "V.map": identity_map, "V.scores": network.classify(vector)[:, :64]}


def _pose_outputs(inputs: Mapping[str, Tensor], seed: int, device: str) -> dict[str, Tensor]:
    network = _seeded("E", seed, device)
    feature = network(inputs["image"])
    mouth, pose = network.to_mouth(feature), network.to_headpose(feature)
    return {
        "E.feature": feature,
        "E.mouth": mouth,
        "E.headpose": pose,
        "E.mouth_embed": network.mouth_embed(mouth),
        "E.headpose_embed": network.headpose_embed(pose),
    }


def _speech_outputs(inputs: Mapping[str, Tensor], seed: int, device: str) -> dict[str, Tensor]:
    network = _seeded("A_sync", seed, device)
    feature = network(inputs["mel"])
    return {"A_sync.feature": feature, "A_sync.scores": network.classify(feature)[:, :64]}


def _generator_outputs(inputs: Mapping[str, Tensor], seed: int, device: str) -> dict[str, Tensor]:
    network = _seeded("G", seed, device)
    style, noise = inputs["style"], network.stored_noise()
    return {
        "G.image": network(inputs["identity_map"], style, noise)[..., ::4, ::4],
        "G.image_constant_input": network(None, style, noise)[..., ::4, ::4],
        "G.style_rgb0": network.to_rgb1.conv.modulation(style),
    }


def _discriminator_outputs(inputs: Mapping[str, Tensor], seed: int, device: str) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    for scale, levels in enumerate(_seeded("D", seed, device)(inputs["image"])):
        outputs |= {f"D.{scale}.{level}.mean_abs": x.abs().mean() for level, x in enumerate(levels)}
        outputs[f"D.{scale}.last"] = levels[-1]
    return outputs


def audio_checks(reference: Mapping[str, np.ndarray]) -> Iterator[Check]:
    """Normalisation, window, filters and the spectrogram."""
    wave = reference["audio.wave"]
    head = reference["audio.normalised_head"]
    normalised = (wave * audio.scan_pieces([wave]).gain).astype(np.float32)
    yield _close("audio.normalised_head", normalised[: len(head)], head, MEL_TOLERANCE)
    yield _close("audio.window", audio.analysis_window(), reference["audio.window"], MATRIX_TOLERANCE)
    yield _close(
        "audio.mel_basis", audio.mel_basis().sum(axis=1), reference["audio.mel_basis_rowsum"], MATRIX_TOLERANCE
    )
    yield _close("audio.mel", audio.log_mel(wave), reference["audio.mel"], MEL_TOLERANCE)


def image_checks(reference: Mapping[str, np.ndarray]) -> Iterator[Check]:
    """Ping-pong indices and the way from a file to a tensor; exact."""
    for length in (1, 2, 5, 160):
        expected = reference[f"index.pingpong_{length}"]
        indices = np.array([frames.ping_pong(i, length) for i in range(2, 2 + len(expected))])
        yield _close(f"index.pingpong_{length}", indices, expected, 0)
    crop = frames.crop_template(reference["image.bgr"])
    yield _close("image.loaded_rgb", crop, reference["image.loaded_rgb"], 0)
    yield _close("image.tensor_corner", images.to_unit_range(crop)[:, :8, :8], reference["image.tensor_corner"], 0)


def alignment_checks(reference: Mapping[str, np.ndarray]) -> Iterator[Check]:
    """Points, matrices, and one warped image."""
    import cv2

    points = alignment.three_points(reference["align.landmarks"])
    mean_matrix, matrices = alignment.align_matrices(points)
    yield _close("align.three_points", points, reference["align.three_points"], MATRIX_TOLERANCE)
    yield _close("align.mean_matrix", mean_matrix, reference["align.mean_matrix"], MATRIX_TOLERANCE)
    yield _close("align.frame_matrices", matrices, reference["align.frame_matrices"], MATRIX_TOLERANCE)
    large = cv2.resize(reference["image.bgr"], (640, 480))
    yield _close("align.warped_0", alignment.warp(large, matrices[0]), reference["align.warped_0"], 0)


def loss_checks(reference: Mapping[str, np.ndarray], seed: int, device: str) -> Iterator[Check]:
    """The published losses, relative."""

    def normal(tag: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(seeded_rng(tag, seed).standard_normal(shape).astype(np.float32)).to(device)

    def picture(tag: str) -> Tensor:
        values = seeded_rng(tag, seed).random((1, 3, 224, 224)) * 2 - 1
        return torch.from_numpy(values.astype(np.float32)).to(device)

    anchors, candidates = normal("fa", (6, 96)), normal("fb", (6, 96))
    scores = [normal(f"p{scale}", (2, 1, 9, 9)) for scale in range(2)]
    values = {
        "loss.contrastive": losses.contrastive_loss(anchors, candidates),
        "loss.l2_softmax": losses.confusion_loss(anchors),
        "loss.hinge_g": losses.gan_loss(scores, True, for_discriminator=False),
        "loss.hinge_d_real": losses.gan_loss(scores, True, for_discriminator=True),
        "loss.hinge_d_fake": losses.gan_loss(scores, False, for_discriminator=True),
    }
    for mode in ("ls", "original", "w"):
        values[f"loss.{mode}_real"] = losses.gan_loss(scores, True, True, mode)
        values[f"loss.{mode}_fake"] = losses.gan_loss(scores, False, True, mode)
    vgg: Any = fill(ensure_torchvision().models.vgg19(weights=None), seed)
    extractor = VGG19Features(vgg.features).eval().to(device)
    with torch.inference_mode():
        fake, real = extractor(picture("xa")), extractor(picture("xb"))
    weights = losses.VGG_LAYER_WEIGHTS
    values["loss.vgg"] = losses.perceptual_loss(fake, real)
    values["loss.vgg_from_layer2"] = losses.perceptual_loss(fake[2:], real[2:], weights[2:])
    for name, value in values.items():
        expected = float(reference[name].reshape(-1)[0])
        yield Check(name, abs(float(value) - expected) / abs(expected), LOSS_TOLERANCE)


def end_to_end_checks(arguments: argparse.Namespace) -> Iterator[Check]:
    """Runs test.py with seeded weights on a real row, driven and with the reference's own pose, and compares frames."""
    reference = np.load(arguments.golden / "end_to_end.npz")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_seeded_checkpoints(folder / "checkpoints" / "seeded", arguments.seed)
        _write_metadata(arguments, folder / "row.csv")
        for prefix, column, flags in (
            ("driven_", "G_Pose_Driven_", ["--driving_pose"]),
            ("reference_pose_", "G_Fix_Pose_", []),
        ):
            wanted = sorted(int(key.removeprefix(prefix)) for key in reference.files if key.startswith(prefix))
            results = folder / column
            announced = _run_test(arguments, folder, results, flags, f"{column}/{column}{wanted[-1]}.png")
            yield Check(f"{prefix}num_frames", abs(announced - int(reference["num_frames"])), 0)
            for number in wanted:
                path = next(results.glob(f"id_*/{column}/{column}{number}.png"))
                image = frames.read_image(path)[..., ::-1]
                yield from _frame_checks(f"{prefix}{number}", image, reference[f"{prefix}{number}"])


def write_seeded_checkpoints(directory: Path, seed: int, config: NetworkConfig | None = None) -> None:
    """Saves G, V, E and A_sync with seeded weights; G's noise weights are zero, so that frames can be compared."""
    directory.mkdir(parents=True, exist_ok=True)
    for letter in ("G", "V", "E", "A_sync"):
        network = fill(build_network(letter, config or NetworkConfig()), seed)
        state = network.state_dict()
        for key in state:
            if key.endswith("noise.weight"):
                state[key].zero_()
        save_state_dict(state, directory / f"latest_net_{letter}.pth")


def _write_metadata(arguments: argparse.Namespace, path: Path) -> None:
    row = Row(Path("--row"), 1, arguments.row) if arguments.row else read_rows(arguments.data / "demo.csv")[0]
    fields = [
        str(arguments.data.absolute() / field.removeprefix("misc/")) if field.startswith("misc/") else field
        for field in row.fields()
    ]
    write_rows(path, [fields])


def _run_test(arguments: argparse.Namespace, folder: Path, results: Path, flags: Sequence[str], last_frame: str) -> int:
    """Runs test.py, by default only until the last frame that is compared is there; returns the frames it announced."""
    command = [
        sys.executable, str(ROOT / "test.py"), "--name", "seeded", "--checkpoints_dir", str(folder / "checkpoints"),
        "--meta_path_vox", str(folder / "row.csv"), "--results_dir", str(results), "--input_id_feature",
        "--published_timing", "--frame_format", "png", "--precision", arguments.precision,
        "--gpu_ids", "0" if arguments.device.startswith("cuda") else "-1", *flags,
    ]  # fmt: skip
    log = folder / f"{results.name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=folder, env=dict(os.environ))
        while process.poll() is None:
            time.sleep(0.5)
            if not arguments.all_frames and next(results.glob(f"id_*/{last_frame}"), None):
                process.send_signal(signal.SIGINT)  # enough: what is compared is there, and Ctrl-C must keep it
                process.wait()
    text = log.read_text()
    if process.returncode not in (0, 130):
        raise SystemExit(f"test.py failed with exit code {process.returncode}:\n{text[-3000:]}")
    return int(next(line for line in text.splitlines() if line.endswith(" frames")).split()[-2])


def _frame_checks(name: str, image: np.ndarray, expected: np.ndarray) -> Iterator[Check]:
    difference = np.abs(image.astype(np.int16) - expected.astype(np.int16))
    yield Check(f"{name} largest", float(difference.max()), FRAME_TOLERANCE)
    yield Check(f"{name} mean", float(difference.mean()), FRAME_MEAN_TOLERANCE)


def _close(name: str, value: np.ndarray, expected: np.ndarray, tolerance: float) -> Check:
    if value.shape != expected.shape:
        print(f"     {name}: shape {value.shape}, the reference has {expected.shape}")
        return Check(name, float("inf"), tolerance)
    return Check(name, float(np.abs(value.astype(np.float64) - expected.astype(np.float64)).max()), tolerance)


if __name__ == "__main__":
    sys.exit(main())
