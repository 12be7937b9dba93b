#!/usr/bin/env python3
"""Measures real clips against damaged copies of themselves: does every metric move the way it should?

  python scripts/sanity_table.py clip1.mp4 clip2.mp4 --frames 50 --syncnet syncnet_v2.model
  python scripts/sanity_table.py clip1.mp4 clip2.mp4 --sync_model checkpoints/synthetic --crop

Copies are made in a temporary folder: blurred, a few frames ahead, with another clip's sound, with a frozen mouth. The
Markdown table of docs/evaluation.md is printed: means over the clips, and what does not move as it should. 25 frames a
second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.evaluate import DEFAULT_SYNCNET
from util.cli import Formatter, positive_int
from util.errors import MediaError, PcavsError
from util.log import setup_logging
from util.metrics.protocol import METRICS, MODEL_SYNC, PROTOCOLS, QUANTITIES

if TYPE_CHECKING:
    import numpy as np

    from scripts.evaluation.clip import Setup, Tools

ITSELF = "itself"
SHIFTS = range(1, 6)  # frames
BLURS = (1.0, 2.0)  # pixels, standard deviation
COLUMNS = (
    "ssim", "psnr", "cpbd", "lmd", "lmd_face", "identity", "lse_c", "lse_d", "sync_offset",
    "model_sync_c", "model_sync_d", "model_sync_offset",
)  # fmt: skip
OFFSETS = ("sync_offset", "model_sync_offset")
UP, DOWN, SAME = "up", "down", "same"
_STILL = 0.02  # of the figure of the clip itself: less counts as the same
_STILL_FRAMES = 0.5  # of an offset
_MOUTH_MARGIN = 1.6  # the pasted ellipse, in sizes of the mouth
_FEATHER = 7.0  # pixels
_NEEDED_FRAMES = 16  # so that there are sync windows after the largest shift


@dataclass(frozen=True)
class Clip:
    """The start of a real clip, with the frames after it that the shifted copies end with."""

    name: str
    frames: list[np.ndarray]  # (H, W, 3) uint8 BGR, `count` + the largest shift
    sound: np.ndarray  # (samples,) int16 at 16 kHz
    count: int


@dataclass(frozen=True)
class Copy:
    """A damaged copy, and how the figures should change against those of the clip itself."""

    name: str
    make: Callable[[Clip], Iterator[np.ndarray]]
    expected: Mapping[str, str]
    other_sound: bool = False
    ahead: int = 0  # frames


def copies(tools: Tools) -> list[Copy]:
    """The rows of the table."""
    same = dict.fromkeys(("ssim", "psnr", "cpbd", "lmd", "lmd_face", "identity"), SAME)
    moved = {"ssim": DOWN, "psnr": DOWN, "lmd": UP, "lmd_face": UP}
    offset = dict.fromkeys(OFFSETS, SAME)  # but for the lead of the copy
    late = {**moved, "cpbd": SAME, "identity": SAME, "lse_c": SAME, "lse_d": SAME, **offset}
    soft = {**moved, "cpbd": DOWN, "identity": DOWN}
    mute = {"lse_c": DOWN, "lse_d": UP, "model_sync_c": DOWN, "model_sync_d": UP}  # hears that something is wrong
    return [
        Copy(ITSELF, _ahead(0), {}),
        *(Copy(f"blurred, sigma {sigma:g} px", _blurred(sigma), soft) for sigma in BLURS),
        *(Copy(f"{n} frame{'s' * (n > 1)} ahead", _ahead(n), late, ahead=n) for n in SHIFTS),
        Copy("another clip's sound", _ahead(0), {**same, **mute}, other_sound=True),
        Copy("mouth frozen", lambda clip: frozen_mouth(clip, tools), {**moved, "cpbd": SAME, **mute}),
    ]


def _ahead(shift: int) -> Callable[[Clip], Iterator[np.ndarray]]:
    return lambda clip: iter(clip.frames[shift:])


def _blurred(sigma: float) -> Callable[[Clip], Iterator[np.ndarray]]:
    import cv2

    return lambda clip: (cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip.frames)


def frozen_mouth(clip: Clip, tools: Tools) -> Iterator[np.ndarray]:
    """The mouth of the first frame, carried along with the rest of the face and pasted with soft edges.

    Raises:
        MediaError: no face in the first frame.
    """
    import cv2
    import numpy as np

    from data.faces.alignment import similarity_transform
    from data.faces.face_tracker import FaceTracker

    assert tools.detector is not None
    tracker = FaceTracker(tools.detector, "largest", 1)
    first = None
    for frame in clip.frames:
        face, _ = tracker.step(frame)
        if first is None:
            if face is None:
                raise MediaError(f"{clip.name}: no face in the first frame; choose another clip")
            first = face.points
            mask = _mouth_mask(first[48:68], frame.shape[:2])
        if face is None:
            yield frame
            continue
        matrix = similarity_transform(first[17:48], face.points[17:48])  # by brows, nose and eyes
        size = (frame.shape[1], frame.shape[0])
        weight = cv2.warpAffine(mask, matrix, size)[..., None]
        mouth = cv2.warpAffine(clip.frames[0], matrix, size, borderMode=cv2.BORDER_REPLICATE)
        yield np.rint(weight * mouth + (1 - weight) * frame).astype(np.uint8)


def _mouth_mask(mouth: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) float32: 1 around the mouth, 0 elsewhere, a soft step between."""
    import cv2
    import numpy as np

    centre = mouth.mean(axis=0)
    radii = _MOUTH_MARGIN * np.maximum(np.abs(mouth - centre).max(axis=0), 8)
    mask = np.zeros(shape, dtype=np.float32)
    cv2.ellipse(mask, (tuple(map(float, centre)), tuple(map(float, 2 * radii)), 0.0), 1.0, -1)
    return cv2.GaussianBlur(mask, (0, 0), _FEATHER / 2)


def read_clip(path: Path, count: int, crop: bool = False) -> Clip:
    """The first `count` frames of a clip, those after them that the shifts need, and the sound.

    Args:
        crop: show what the networks see of a frame.

    Raises:
        MediaError: not readable, no sound, or too short.
    """
    import itertools

    import numpy as np

    from data.clip_reader import load_sound
    from data.frames import crop_template
    from data.video_reader import open_video
    from util.metrics.sync_score import to_int16

    whole = itertools.islice(open_video(path).frames(), count + max(SHIFTS))
    frames = [np.ascontiguousarray(crop_template(frame)[..., ::-1]) if crop else frame for frame in whole]
    count = min(count, len(frames) - max(SHIFTS))
    if count < _NEEDED_FRAMES:
        raise MediaError(f"{path}: has only {len(frames)} frames, at least {_NEEDED_FRAMES + max(SHIFTS)} are needed")
    return Clip(path.stem, frames, to_int16(load_sound(path)), count)


def measure_copy(clip: Clip, copy: Copy, sound: np.ndarray, setup: Setup, tools: Tools) -> dict[str, float]:
    """Figures of a copy against the clip; both lie in a temporary folder while they are measured."""
    from data.frames import write_image
    from data.video_pairs import VideoPair
    from scripts.evaluation.clip import measure_clip
    from util.files import make_directory

    with tempfile.TemporaryDirectory() as scratch:
        sides = {"real": (clip.frames, clip.sound), "copy": (copy.make(clip), sound)}
        for side, (frames, samples) in sides.items():
            folder = make_directory(Path(scratch) / side)
            for number, frame in zip(range(clip.count), frames, strict=False):
                write_image(folder / f"{number:06d}.png", frame)
            _write_wav(folder / "audio.wav", samples)
        pair = VideoPair(f"{clip.name}, {copy.name}", Path(scratch) / "copy", Path(scratch) / "real")
        result, _, _ = measure_clip(pair, setup, tools, with_truth=False)
    for remark in result.remarks:
        print(f"{result.name}: {remark}", file=sys.stderr)
    return result.generated


def _write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.astype("<i2").tobytes())


def verdict(figures: Mapping[str, float], own: Mapping[str, float], expected: Mapping[str, str], ahead: int = 0) -> str:
    """Which quantities do not move as they should; empty when all do.

    Args:
        figures, own: of a copy, and of the clip itself.
        expected: quantity -> UP, DOWN or SAME.
        ahead: frames that the copy's picture is early by, which its offsets should tell.

    >>> verdict({"ssim": 0.9, "lmd": 0.0}, {"ssim": 1.0, "lmd": 0.0}, {"ssim": DOWN, "lmd": UP})
    'LMD same, not up'
    """
    wrong = []
    for name, way in expected.items():
        if name in figures and name in own:
            change = figures[name] - own[name] + (ahead if name in OFFSETS else 0)
            still = _STILL_FRAMES if name in OFFSETS else _STILL * abs(own[name])
            moved = SAME if abs(change) <= still else UP if change > 0 else DOWN
            if moved != way:
                wrong.append(f"{QUANTITIES[name].title} {moved}, not {way}")
    return "; ".join(wrong)


def table(rows: Mapping[str, Mapping[str, float]], verdicts: Mapping[str, str]) -> str:
    """The Markdown table; columns that were not measured are left out."""
    columns = [name for name in COLUMNS if any(name in figures for figures in rows.values())]
    lines = ["| copy | " + " | ".join(QUANTITIES[name].title for name in columns) + " | does not move as it should |"]
    lines.append("|---|" + "---:|" * len(columns) + "---|")
    for label, figures in rows.items():
        cells = [f"{figures[name]:.{QUANTITIES[name].digits}f}" if name in figures else "–" for name in columns]
        lines.append(f"| {label} | {' | '.join(cells)} | {verdicts[label]} |")
    return "\n".join(lines)


def run(paths: Sequence[Path], frames: int, setup: Setup, crop: bool = False) -> str:
    """Measures every copy of every clip; returns the table.

    Raises:
        PcavsError: a clip that cannot be used.
    """
    import numpy as np
    from tqdm import tqdm

    from scripts.evaluation.clip import load_tools

    if len(paths) < 2:
        raise MediaError("give at least two clips: one lends its sound to the other")
    tools = load_tools(setup)
    if tools.detector is None:
        raise MediaError(f"the mouth cannot be frozen without landmarks: {tools.missing}")
    for metric, reason in tools.missing.items():
        print(f"{metric} skipped: {reason}", file=sys.stderr)
    clips = [read_clip(path, frames, crop) for path in paths]
    rows, verdicts = {}, {}
    for copy in tqdm(copies(tools), unit="copy", desc="measuring", disable=None):
        measured = []
        for number, clip in enumerate(clips):
            sound = clips[(number + 1) % len(clips)].sound if copy.other_sound else clip.sound
            measured.append(measure_copy(clip, copy, sound, setup, tools))
        names = [name for name in COLUMNS if any(name in figures for figures in measured)]
        rows[copy.name] = {n: float(np.mean([figures[n] for figures in measured if n in figures])) for n in names}
        verdicts[copy.name] = verdict(rows[copy.name], rows[ITSELF], copy.expected, copy.ahead)
    return table(rows, verdicts)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Formatter, allow_abbrev=False)
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP", help="real talking heads at 25 fps, with sound")
    parser.add_argument("--frames", type=positive_int, default=50, help="of each clip")
    parser.add_argument("--metrics", nargs="+", choices=METRICS, metavar="METRIC",
        default=["ssim", "psnr", "cpbd", "lmd", "sync", "identity"], help="what is measured")  # fmt: skip
    parser.add_argument(
        "--syncnet", type=Path, default=DEFAULT_SYNCNET, metavar="FILE", help="weights syncnet_v2.model"
    )
    parser.add_argument("--sync_model", type=Path, metavar="DIR", help="folder of a trained model, for model_sync")
    parser.add_argument("--crop", action="store_true", help="show what the networks see of a frame, as results do")
    args = parser.parse_args(argv)
    setup_logging()
    from scripts.evaluation.clip import Instruments, Setup

    wanted = {*args.metrics, "lmd", *([MODEL_SYNC] if args.sync_model else [])}
    metrics = tuple(metric for metric in METRICS if metric in wanted)
    setup = Setup(PROTOCOLS["paper"], metrics, Instruments(syncnet=args.syncnet, sync_model=args.sync_model))
    try:
        print(run(args.clips, args.frames, setup, args.crop))
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
