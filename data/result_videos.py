"""Videos of a result: each column, all side by side, and with sound; 25 fps H.264, yuv420p.

One ffmpeg encodes all videos of a result: it is given the columns side by side, frame by frame, and cuts them apart.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from data.frames import read_image
from data.results import CONCAT, SPEAKING, WITH_SOUND, Column, find_columns, generated_column, read_note, video_comment
from options.config import DRIVEN, FIXED, FPS, GENERATED, INPUT, MOUTH, POSE
from util.errors import MediaError
from util.ffmpeg import probe, protocol_free, run_ffmpeg_fed, run_ffmpeg_to
from util.files import atomic_path, writing

TITLES = {INPUT: "input", DRIVEN: "generated", FIXED: "generated", POSE: "pose source", MOUTH: "mouth source"}
_H264 = ("-c:v", "libx264", "-crf", "18", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
# a sound of any rate is brought to 48 kHz, so that its last coded block is shorter than a frame
# and counted by its samples, as the networks hear it: gaps between its time stamps would shift it against the mouth
_AAC = ("-af", "asetpts=N/SR/TB", "-c:a", "aac", "-b:a", "192k", "-ar", "48000")
_TITLE_HEIGHT = 24

_log = logging.getLogger(__name__)


def concat(folder: Path, audio: Path, labels: bool = False) -> list[Path]:
    """Makes every video of a result folder: one per column, `concat.mp4`, `avconcat.mp4`, `generated.mp4`.

    audio: anything ffmpeg reads; starts together with frame 0.  labels: titles above the columns of `concat.mp4`.
    Raises MediaError: no columns, a gap in the frames, ffmpeg fails, or the result is not what was asked for.
    """
    columns = find_columns(folder)
    generated = generated_column(folder, columns)
    note = read_note(folder)
    for name in note.columns if note else ():
        if name not in {column.prefix for column in columns}:
            _log.warning("%s: column %s is missing, the videos are made without it", folder, name)
    for column in columns:
        if column.count != generated.count:
            what = "its last frame is held" if column.count < generated.count else "the rest is left out"
            _log.warning(
                "%s: %d frames beside %d generated ones; %s", column.folder, column.count, generated.count, what
            )
    return make_videos(folder, columns, audio, labels)


def make_videos(
    folder: Path,
    columns: Sequence[Column],
    audio: Path,
    labels: bool = False,
    wait: Callable[[int], bool] | None = None,
) -> list[Path]:
    """As `concat`, of columns from left to right whose frames may still be in the making.

    wait: called with n before frame n is read; returns True when it is there, False when it never will be.
    """
    generated = generated_column(folder, columns)
    if probe(audio).audio_codec is None:
        raise MediaError(f"{audio}: holds no sound; choose a file with an audio stream")
    silent = folder / CONCAT
    comment = video_comment(folder)
    outputs = {folder / f"{column.prefix}.mp4": column.count for column in columns} | {silent: generated.count}
    with tempfile.TemporaryDirectory() as scratch:
        sound = Path(scratch) / "sound.m4a"
        length = ["-t", f"{generated.count / FPS:.3f}"]
        run_ffmpeg_to(
            sound, ["-i", protocol_free(audio), "-map", "0:a:0", *_AAC, *length], f"{audio}: coding the sound"
        )
        _encode(folder, columns, outputs, labels, wait, comment)
        for video, name in ((silent, WITH_SOUND), (folder / f"{generated.prefix}.mp4", SPEAKING)):
            mux(video, sound, folder / name, generated.count, comment, ["-c:a", "copy"])
    return [*outputs, folder / WITH_SOUND, folder / SPEAKING]


def mux(video: Path, audio: Path, output: Path, num_frames: int, comment: str, coding: Sequence[str] = _AAC) -> None:
    """Puts sound under a 25 fps video, both starting at 0; the longer of the two is not stretched, sound is cut.

    comment: for the metadata, see `data.results.video_comment`.  coding: ffmpeg's arguments for the sound.
    Raises MediaError: ffmpeg fails, or the file does not have `num_frames` at 25 fps and sound of the same length.
    """
    inputs = ["-i", protocol_free(video), "-i", protocol_free(audio), "-map", "0:v:0", "-map", "1:a:0"]
    length = ["-t", f"{num_frames / FPS:.3f}", "-movflags", "+faststart", "-metadata", f"comment={comment}"]
    run_ffmpeg_to(
        output,
        [*inputs, "-c:v", "copy", *coding, *length],
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


def _encode(
    folder: Path,
    columns: Sequence[Column],
    outputs: Mapping[Path, int],
    labels: bool,
    wait: Callable[[int], bool] | None,
    comment: str,
) -> None:
    """Encodes each column, and all side by side as the last output; outputs are file -> frames."""
    rows = _pictures(folder, columns, wait)
    first = next(rows)
    sizes = [picture.shape[:2] for picture in first]
    for column, (height, width) in zip(columns, sizes, strict=True):
        if height % 2 or width % 2:
            raise MediaError(f"{column.path(0)}: is {width}x{height}, H.264 needs even numbers; resize the frames")
    if len({height for height, _ in sizes}) > 1:
        raise MediaError(
            f"{folder}: columns of heights {', '.join(str(h) for h, _ in sizes)} cannot stand side by side"
        )
    titles = _titles(columns, sizes) if labels else None
    above = 0 if titles is None else len(titles)
    height, width = above + sizes[0][0], sum(size[1] for size in sizes)
    arguments: list[str | Path] = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-video_size", f"{width}x{height}"]
    arguments += ["-framerate", str(FPS), "-i", "pipe:0", "-filter_complex", _cuts(sizes, above)]

    def strips() -> Iterator[memoryview]:
        for pictures in itertools.chain([first], rows):
            row = np.concatenate(pictures, axis=1)
            yield (row if titles is None else np.concatenate([titles, row])).data

    with contextlib.ExitStack() as stack:
        parts = []
        for path in outputs:
            stack.enter_context(writing(path))
            parts.append(stack.enter_context(atomic_path(path)))
        for turn, (part, count) in enumerate(zip(parts, outputs.values(), strict=True)):
            arguments += ["-map", f"[v{turn}]", "-frames:v", str(count), *_H264, "-metadata"]
            is_source = turn < len(columns) and columns[turn].prefix not in GENERATED
            arguments += [f"comment={'source of a ' if is_source else ''}{comment}", protocol_free(part)]
        run_ffmpeg_fed(arguments, strips(), f"{folder}: encoding the videos")
        for part, (path, count) in zip(parts, outputs.items(), strict=True):
            _check(part, path, count)


def _cuts(sizes: Sequence[tuple[int, int]], above: int) -> str:
    """The filters that cut [v0], [v1] ... out of the columns side by side; the last is everything, titles included."""
    names = [f"[s{turn}]" for turn in range(len(sizes))]
    parts = [f"[0:v]format=yuv420p,split={len(sizes) + 1}{''.join(names)}[v{len(sizes)}]"]
    left = 0
    for turn, (height, width) in enumerate(sizes):
        parts.append(f"[s{turn}]crop={width}:{height}:{left}:{above}[v{turn}]")
        left += width
    return ";".join(parts)


def _pictures(
    folder: Path, columns: Sequence[Column], wait: Callable[[int], bool] | None
) -> Iterator[list[np.ndarray]]:
    """The pictures of all columns, frame by frame. A column that ends early holds its last."""
    pictures = [np.empty(0)] * len(columns)
    for number in range(max(column.count for column in columns)):
        if wait is not None and not wait(number):
            raise MediaError(f"{folder}: frame {number} is not made, and neither are the videos")
        for turn, column in enumerate(columns):
            if number < column.count:
                picture = read_image(column.path(number))
                if number and picture.shape != pictures[turn].shape:
                    raise MediaError(f"{column.path(number)}: is of another size than the frames before it")
                pictures[turn] = picture
        yield pictures


def _titles(columns: Sequence[Column], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """(_TITLE_HEIGHT, W, 3) a strip with the name of each column."""
    strips = []
    for column, (_, width) in zip(columns, sizes, strict=True):
        strip = np.full((_TITLE_HEIGHT, width, 3), 255, dtype=np.uint8)
        text = TITLES[column.prefix]
        (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        origin = (max(0, (width - text_width) // 2), 17)
        cv2.putText(strip, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        strips.append(strip)
    return np.concatenate(strips, axis=1)
