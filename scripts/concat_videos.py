#!/usr/bin/env python3
"""Encodes the frame folders of a result to videos: each column, all side by side, and with sound.

  python scripts/concat_videos.py results/id_a_pose_b_audio_c
  python scripts/concat_videos.py results/id_* --labels
  python scripts/concat_videos.py results/id_a_pose_b_audio_c --audio voice.wav

test.py --gen_video calls the same functions. Everything is 25 fps H.264, yuv420p.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.errors import MediaError, PcavsError
from util.ffmpeg import probe, protocol_free, run_ffmpeg_to
from util.log import setup_logging

FPS = 25
INPUT, DRIVEN, FIXED, POSE, MOUTH = "Input_", "G_Pose_Driven_", "G_Fix_Pose_", "Pose_Source_", "Mouth_Source_"
COLUMNS = (INPUT, DRIVEN, FIXED, POSE, MOUTH)  # from left to right
GENERATED = (DRIVEN, FIXED)
TITLES = {INPUT: "input", DRIVEN: "generated", FIXED: "generated", POSE: "pose source", MOUTH: "mouth source"}
_H264 = ("-c:v", "libx264", "-crf", "18", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
_TITLE_HEIGHT = 24


@dataclass(frozen=True)
class Column:
    """A folder of frames `<prefix><n>.<suffix>`, n from 0."""

    folder: Path
    prefix: str
    suffix: str
    count: int

    @property
    def pattern(self) -> str:
        """What ffmpeg's image reader takes; a `%` in a folder's name must not read as a number format."""
        return protocol_free(str(self.folder / self.prefix).replace("%", "%%") + f"%d{self.suffix}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="result folders of test.py")
    parser.add_argument("--audio", type=Path, help="sound; by default what the folder's clip.json names")
    parser.add_argument("--labels", action="store_true", help="write column titles above the pictures")
    arguments = parser.parse_args(argv)
    setup_logging()
    failures = 0
    for folder in arguments.folders:
        try:
            for path in concat(folder, arguments.audio or recorded_audio(folder), labels=arguments.labels):
                print(path)
        except PcavsError as error:
            failures += 1
            print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print("interrupted; videos that are finished stay", file=sys.stderr)
            return 130
    return 1 if failures else 0


def concat(folder: Path, audio: Path, labels: bool = False) -> list[Path]:
    """Makes every video of a result folder.

    Args:
        folder: holds the column folders.
        audio: anything ffmpeg reads; starts together with frame 0.
        labels: titles above the columns of `concat.mp4`.

    Returns:
        the videos: one per column, `concat.mp4`, `avconcat.mp4`, `generated.mp4`.

    Raises:
        MediaError: no columns, a gap in the frames, ffmpeg fails, or the result is not what was asked for.
    """
    columns = find_columns(folder)
    _check_sound(audio)
    generated = next((column for column in columns if column.prefix in GENERATED), None)
    if generated is None:
        raise MediaError(f"{folder}: has no {DRIVEN} or {FIXED} folder, nothing was generated here; run test.py first")
    for column in columns:
        if column.count != generated.count:
            what = "its last frame is held" if column.count < generated.count else "the rest is left out"
            print(
                f"{column.folder}: {column.count} frames beside {generated.count} generated ones; {what}",
                file=sys.stderr,
            )
    outputs = []
    for column in columns:
        outputs.append(folder / f"{column.prefix}.mp4")
        _encode(["-i", column.pattern], [], outputs[-1], column.count)
    outputs.append(folder / "concat.mp4")
    _side_by_side(columns, outputs[-1], generated.count, labels)
    for silent, name in ((outputs[-1], "avconcat.mp4"), (folder / f"{generated.prefix}.mp4", "generated.mp4")):
        outputs.append(folder / name)
        mux(silent, audio, outputs[-1], generated.count)
    return outputs


def find_columns(folder: Path) -> list[Column]:
    """The column folders that are there, from left to right, each checked for gaps."""
    if not folder.is_dir():
        raise MediaError(f"{folder}: no such result folder")
    present = [name for name in COLUMNS if (folder / name).is_dir() and any((folder / name).iterdir())]
    for name in _recorded(folder).get("columns", []):
        if name not in present:
            print(f"{folder}: column {name} is missing, the videos are made without it", file=sys.stderr)
    return [_read_column(folder / name) for name in present]


def recorded_audio(folder: Path) -> Path:
    """The sound test.py noted in `clip.json`. Raises MediaError when there is no such note."""
    audio = _recorded(folder).get("audio")
    if audio is None:
        raise MediaError(f"{folder}: no readable clip.json says which sound belongs here; give --audio FILE")
    return Path(audio)


def mux(video: Path, audio: Path, output: Path, num_frames: int) -> None:
    """Puts sound under a 25 fps video, both starting at 0; the longer of the two is not stretched, sound is cut.

    Raises:
        MediaError: ffmpeg fails, or the file does not have `num_frames` at 25 fps and sound of the same length.
    """
    # a sound of any rate is brought to 48 kHz, so that its last coded block is shorter than a frame
    sound = ["-af", "asetpts=PTS-STARTPTS", "-c:a", "aac", "-b:a", "192k", "-ar", "48000"]
    inputs = ["-i", protocol_free(video), "-i", protocol_free(audio), "-map", "0:v:0", "-map", "1:a:0"]
    length = ["-t", f"{num_frames / FPS:.3f}", "-movflags", "+faststart"]
    run_ffmpeg_to(
        output,
        [*inputs, "-c:v", "copy", *sound, *length],
        f"{output}: adding the sound of {audio}",
        lambda path: _check(path, output, num_frames, with_sound=True),
    )


def _check(path: Path, shown_as: Path, num_frames: int, with_sound: bool = False) -> None:
    info = probe(path)
    if info.video_frames != num_frames or abs(info.fps - FPS) > 0.01:
        raise MediaError(
            f"{shown_as}: has {info.video_frames} frames at {info.fps:.2f} fps, asked for {num_frames} at {FPS}"
        )
    # sound may stop within the last frame, and coding may lengthen it by a millisecond or two
    if with_sound and abs(info.audio_duration_s - info.video_duration_s) > 1 / FPS + 0.005:
        raise MediaError(
            f"{shown_as}: {info.audio_duration_s:.3f} s of sound beside {info.video_duration_s:.3f} s of picture"
        )


def _check_sound(audio: Path) -> None:
    """Before minutes of encoding: is there any sound?"""
    if probe(audio).audio_codec is None:
        raise MediaError(f"{audio}: holds no sound; choose a file with an audio stream")


def _recorded(folder: Path) -> dict[str, Any]:
    """What test.py noted in `clip.json`; nothing if there is no such note."""
    try:
        note = json.loads((folder / "clip.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _read_column(folder: Path) -> Column:
    prefix = folder.name
    frames = [p for p in folder.iterdir() if p.stem.startswith(prefix) and p.stem[len(prefix) :].isdecimal()]
    if not frames:
        raise MediaError(f"{folder}: holds no frames {prefix}0.jpg, {prefix}1.jpg ...")
    suffixes = sorted({p.suffix for p in frames})
    if len(suffixes) > 1:
        raise MediaError(f"{folder}: mixes frames of type {' and '.join(suffixes)}; run test.py again")
    numbers = {int(p.stem[len(prefix) :]) for p in frames}
    gap = next((n for n in range(len(numbers)) if n not in numbers), None)
    if gap is not None:
        raise MediaError(f"{folder}: frame {prefix}{gap}{suffixes[0]} is missing; finish the row with test.py --resume")
    return Column(folder, prefix, suffixes[0], len(numbers))


def _encode(inputs: Sequence[str | Path], filters: Sequence[str], output: Path, num_frames: int) -> None:
    arguments = ["-framerate", str(FPS), *inputs, *filters, "-frames:v", str(num_frames), *_H264]
    run_ffmpeg_to(output, arguments, f"{output}: encoding", lambda path: _check(path, output, num_frames))


def _side_by_side(columns: Sequence[Column], output: Path, num_frames: int, labels: bool) -> None:
    inputs: list[str | Path] = []
    for index, column in enumerate(columns):
        inputs += [*(["-framerate", str(FPS)] if index else []), "-i", column.pattern]
    # a column that ends early holds its last frame
    parts = [f"[{i}:v]tpad=stop=-1:stop_mode=clone[c{i}]" for i in range(len(columns))]
    row = "".join(f"[c{i}]" for i in range(len(columns)))
    parts.append(f"{row}hstack=inputs={len(columns)}[row]" if len(columns) > 1 else "[c0]null[row]")
    if not labels:
        _encode(inputs, ["-filter_complex", ";".join(parts), "-map", "[row]"], output, num_frames)
        return
    with tempfile.TemporaryDirectory() as scratch:
        titles = Path(scratch) / "titles.png"
        _draw_titles(columns, titles)
        inputs += ["-loop", "1", "-framerate", str(FPS), "-i", protocol_free(titles)]
        parts.append(f"[{len(columns)}:v][row]vstack=inputs=2[all]")
        _encode(inputs, ["-filter_complex", ";".join(parts), "-map", "[all]"], output, num_frames)


def _draw_titles(columns: Sequence[Column], path: Path) -> None:
    import cv2
    import numpy as np

    from data.frames import read_image, write_image

    strips = []
    for column in columns:
        width = read_image(column.folder / f"{column.prefix}0{column.suffix}").shape[1]
        strip = np.full((_TITLE_HEIGHT, width, 3), 255, dtype=np.uint8)
        text = TITLES[column.prefix]
        (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        origin = (max(0, (width - text_width) // 2), 17)
        cv2.putText(strip, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        strips.append(strip)
    write_image(path, np.concatenate(strips, axis=1))


if __name__ == "__main__":
    sys.exit(main())
