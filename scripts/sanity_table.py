#!/usr/bin/env python3
"""Measures real clips against damaged copies of themselves: which metric sees which damage?

  python scripts/sanity_table.py clip1.mp4 clip2.mp4 --frames 50 --syncnet syncnet_v2.model
  python scripts/sanity_table.py clip1.mp4 clip2.mp4 --sync_model checkpoints/synthetic --crop

Copies are made in a temporary folder: blurred, a few frames ahead, with another clip's sound, with a frozen mouth. The
Markdown table of docs/evaluation.md is printed: means over the clips. 25 frames a second.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import SAMPLE_RATE_HZ
from scripts.evaluation.instruments import DEFAULT_SYNCNET, EvaluationConfig
from util.cli import Command, add_size_flag, positive_int
from util.errors import MediaError
from util.metrics.protocol import METRICS, MODEL_SYNC, PROTOCOLS

if TYPE_CHECKING:
    import numpy as np

    from data.faces.landmarks import LandmarkDetector

OTHER_SOUND = "another clip's sound"
SHIFTS = range(1, 6)  # frames
BLURS = (1.0, 2.0)  # pixels, standard deviation
COLUMNS = (
    "ssim", "psnr", "cpbd", "lmd", "lmd_face", "identity", "lse_c", "lse_d", "sync_offset",
    "model_sync_c", "model_sync_d", "model_sync_offset",
)  # fmt: skip


@dataclass(frozen=True)
class RealClip:
    """The start of a real clip."""

    name: str
    frames: list[np.ndarray]  # (H, W, 3) uint8 BGR, as many as are measured and as the largest shift needs
    sound: np.ndarray  # (samples,) int16 at 16 kHz


def damaged_copies(clip: RealClip, detector: LandmarkDetector) -> dict[str, Iterable[np.ndarray]]:
    """The rows of the table: what is wrong with a copy -> its frames."""
    import cv2

    copies: dict[str, Iterable[np.ndarray]] = {"itself": clip.frames}
    for sigma in BLURS:
        copies[f"blurred, sigma {sigma:g} px"] = [cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip.frames]
    for shift in SHIFTS:
        copies[f"{shift} frame{'s' * (shift > 1)} ahead"] = clip.frames[shift:]
    copies[OTHER_SOUND] = clip.frames
    copies["mouth frozen"] = frozen_mouth(clip, detector)
    return copies


def frozen_mouth(clip: RealClip, detector: LandmarkDetector) -> Iterator[np.ndarray]:
    """The mouth of the first frame, carried along with the rest of the face and pasted with soft edges."""
    import cv2
    import numpy as np

    from data.faces.alignment import similarity_transform
    from data.faces.face_tracker import FaceTracker

    tracker = FaceTracker(detector, "largest", 1)
    first, _ = tracker.step(clip.frames[0])
    if first is None:
        raise MediaError(f"{clip.name}: no face in the first frame; choose another clip")
    yield clip.frames[0]
    mouth = first.points[48:68]
    centre = mouth.mean(axis=0)
    axes = 2 * 1.6 * np.maximum(np.abs(mouth - centre).max(axis=0), 8)  # somewhat more than the mouth
    mask: np.ndarray = np.zeros(clip.frames[0].shape[:2], dtype=np.float32)
    cv2.ellipse(mask, (tuple(map(float, centre)), tuple(map(float, axes)), 0.0), 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 3.5)
    for frame in clip.frames[1:]:
        face, _ = tracker.step(frame)
        if face is None:
            yield frame
            continue
        matrix = similarity_transform(first.points[17:48], face.points[17:48])  # by brows, nose and eyes
        size = (frame.shape[1], frame.shape[0])
        weight = cv2.warpAffine(mask, matrix, size)[..., None]
        pasted = cv2.warpAffine(clip.frames[0], matrix, size, borderMode=cv2.BORDER_REPLICATE)
        yield np.rint(weight * pasted + (1 - weight) * frame).astype(np.uint8)


def read_clip(path: Path, count: int, crop: bool = False) -> RealClip:
    """The first `count` frames of a clip and those after them that the shifts need, and the sound.

    `crop`: what the networks see of a frame. Raises MediaError: not readable, no sound, or too short.
    """
    import numpy as np

    from data.clip_reader import load_sound
    from data.frames import crop_template
    from data.video_reader import open_video
    from util.metrics.sync_score import to_int16

    needed = count + max(SHIFTS)
    frames = list(itertools.islice(open_video(path).frames(), needed))
    if len(frames) < needed:
        raise MediaError(f"{path}: has only {len(frames)} frames, --frames {count} needs {needed}; ask for fewer")
    if crop:
        frames = [np.ascontiguousarray(crop_template(frame)[..., ::-1]) for frame in frames]
    return RealClip(path.stem, frames, to_int16(load_sound(path)))


def write_video(folder: Path, frames: Iterable[np.ndarray], count: int, sound: np.ndarray) -> Path:
    """Writes the first `count` frames, and the sound beside them."""
    from scipy.io import wavfile

    from data.frames import write_image

    folder.mkdir(parents=True)
    for number, image in enumerate(itertools.islice(frames, count)):
        write_image(folder / f"{number:06d}.png", image)
    wavfile.write(folder / "audio.wav", SAMPLE_RATE_HZ, sound)
    return folder


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP", help="real talking heads at 25 fps, with sound")
    parser.add_argument("--frames", type=positive_int, default=50, help="of each clip")
    parser.add_argument("--metrics", nargs="+", choices=METRICS, metavar="METRIC",
        default=["ssim", "psnr", "cpbd", "lmd", "sync", "identity"], help="what is measured")  # fmt: skip
    parser.add_argument(
        "--syncnet", type=Path, default=DEFAULT_SYNCNET, metavar="FILE", help="weights syncnet_v2.model"
    )
    parser.add_argument("--sync_model", type=Path, metavar="DIR", help="folder of a trained model, for model_sync")
    add_size_flag(parser.add_argument)
    parser.add_argument("--crop", action="store_true", help="show what the networks see of a frame, as results do")


def run(args: argparse.Namespace) -> None:
    from data.video_pairs import VideoPair
    from scripts.evaluation.instruments import load_instruments
    from scripts.evaluation.jobs import measure_all, plan
    from scripts.evaluation.report import list_problems, summarise
    from util.report import Table, markdown_table

    if len(args.clips) < 2:
        raise MediaError("give at least two clips: one lends its sound to the other")
    wanted = {*args.metrics, "lmd", *([MODEL_SYNC] if args.sync_model else [])}
    protocol = dataclasses.replace(PROTOCOLS["paper"], columns=COLUMNS)
    metrics = tuple(metric for metric in METRICS if metric in wanted)
    config = EvaluationConfig(
        protocol, metrics, syncnet=args.syncnet, sync_model=args.sync_model, any_size=args.any_size
    )
    instruments = load_instruments(config)
    if instruments.detector is None:
        raise MediaError(f"the mouth cannot be frozen without landmarks: {instruments.missing['lmd']}")
    clips = [read_clip(path, args.frames, args.crop) for path in args.clips]
    with tempfile.TemporaryDirectory() as scratch:
        pairs = []
        for number, clip in enumerate(clips):
            folder = Path(scratch) / str(number)
            real = write_video(folder / "real", clip.frames, args.frames, clip.sound)
            for name, frames in damaged_copies(clip, instruments.detector).items():
                sound = clips[(number + 1) % len(clips)].sound if name == OTHER_SOUND else clip.sound
                copy = write_video(folder / name, frames, args.frames, sound)
                pairs.append(VideoPair(f"{clip.name}, {name}", copy, real, group=name))
        tasks = [dataclasses.replace(task, with_truth=False) for task in plan(pairs, config, Path(scratch))]
        results = measure_all(tasks, config)
    for remark in list_problems(results, (), instruments, ()):
        print(remark, file=sys.stderr)
    measured = tuple(metric for metric in metrics if metric not in instruments.missing)
    table = summarise(results, dataclasses.replace(config, metrics=measured))
    means = {
        label: {name: dataclasses.replace(cell, deviation=math.nan) for name, cell in cells.items()}
        for label, cells in table.rows.items()
    }
    print(markdown_table(Table(table.columns, means)), end="")


main = Command(__doc__, add_flags, run, interrupted="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
