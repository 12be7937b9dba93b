"""Puts the generated face of a result back into the photo or video it was cropped from; 25 fps, sizes in pixels.

Where the face goes is what `alignment.json` says. A photo stays behind all frames. A video plays forth and back,
generated frame i on its frame i.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.faces.alignment import RECORD_NAME, AlignmentRecord, read_record
from data.faces.paste import Canvas, Paster, compose, picture_to_source
from data.frames import ping_pong, read_image, write_image
from data.prepared import is_unchanged
from data.result_videos import mux
from data.results import (
    PUBLISHED_FIRST_FRAME,
    ClipNote,
    Column,
    find_columns,
    generated_column,
    noted_audio,
    read_note,
    video_comment,
)
from data.video_reader import FrameSource, open_source
from options.config import FPS, DataConfig, PasteOptions
from util.errors import MediaError
from util.ffmpeg import probe, protocol_free, run_ffmpeg_fed
from util.files import make_directory, writing
from util.log import counted, progress

_KEPT_QUALITY = 98  # of a video's frames that are shown again; PNG takes ten times as long
# without a note of the matrix, players take BT.709 for large pictures and BT.601 for small ones
_BT709 = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
_TO_YUV = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int,format=yuv420p"
_H264 = ("-vf", _TO_YUV, "-c:v", "libx264", "-crf", "18", "-preset", "veryfast", *_BT709)
_ALIGN_AGAIN = "align it again with scripts/align_68.py"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """The photo or video that the face goes into."""

    record: AlignmentRecord
    clip: FrameSource
    canvas: Canvas

    def frames(self, first: int, count: int, scratch: Path) -> Iterator[tuple[int, np.ndarray]]:
        """Yields `count` frames, each with its number: forth and back, from the `first` on.

        One frame is in memory at a time. A video can only be read forwards: what comes again is kept in `scratch`.

        Raises:
            MediaError: a frame cannot be read or has another size, or the video ends too early.
        """
        numbers = [ping_pong(index, self.record.num_frames) for index in range(first, first + count)]
        if self.record.num_frames == 1:
            pictures: Iterator[np.ndarray] = itertools.repeat(next(self._forwards()), count)
        elif self.clip.kind == "folder":
            files = (self.clip.files[number] for number in numbers)
            pictures = (self._fit(str(path), read_image(path)) for path in files)
        else:
            pictures = self._video(first, numbers, scratch)
        yield from zip(numbers, pictures, strict=True)

    def _forwards(self) -> Iterator[np.ndarray]:
        for name, image in self.clip.frames():
            yield self._fit(name, image)

    def _video(self, first: int, numbers: Sequence[int], scratch: Path) -> Iterator[np.ndarray]:
        length, end = self.record.num_frames, first + len(numbers)
        played = 0
        for played, picture in enumerate(itertools.islice(self._forwards(), min(length, end)), start=1):
            if end > length:
                write_image(scratch / f"{played - 1:06d}.jpg", picture, _KEPT_QUALITY)
            if played > first:
                yield picture
        if played < min(length, end):
            raise MediaError(f"{self.clip.path}: has {played} frames, its alignment {length}; {_ALIGN_AGAIN}")
        for number in numbers[max(0, length - first) :]:
            yield read_image(scratch / f"{number:06d}.jpg")

    def _fit(self, name: str, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        expected = (self.record.source_width, self.record.source_height)
        if (width, height) != expected:
            raise MediaError(
                f"{name}: is {width}x{height}, but {expected[0]}x{expected[1]} was aligned; give that very photo or "
                "video as --background, or align this one with scripts/align_68.py"
            )
        return self.canvas.fit(image)


def paste_result(
    result: Path,
    output: Path,
    options: PasteOptions | None = None,
    alignment: Path | None = None,
    background: Path | None = None,
    audio: Path | None = None,
    frames_dir: Path | None = None,
) -> str:
    """Makes the video of one result folder; it appears when it is finished.

    alignment, background, audio: None: what the result's `clip.json` and the alignment name.  frames_dir: gets every
    frame as `%06d.png`, too. Returns a line that says what was made.

    Raises MediaError: frames, background, sound or alignment are missing, broken or do not fit; ffmpeg or the disk
    fails.
    """
    options = options or PasteOptions()
    note = read_note(result) or ClipNote(first_frame=PUBLISHED_FIRST_FRAME)
    column = generated_column(result, find_columns(result))
    target = _target(_alignment_file(result, note, alignment), background, options.max_size)
    audio = audio or noted_audio(result)
    _check_sound(audio, column.count)
    _check_places(output, frames_dir, column.count, (target.clip.path, audio))
    make_directory(output.parent)
    with writing(output), tempfile.TemporaryDirectory(dir=output.parent, prefix=".paste_") as scratch:
        silent = Path(scratch) / "silent.mp4"
        frames = _pasted(column, target, options, note, Path(scratch))
        _encode(frames, target.canvas, silent, output, column.count, frames_dir)
        mux(silent, audio, output, column.count, video_comment(result))
    size = f"{target.canvas.width}x{target.canvas.height}"
    return f"{output}: {counted(column.count, 'frame')} of {size} on {target.clip.path}"


def _alignment_file(result: Path, note: ClipNote, given: Path | None) -> Path:
    if given is None and note.reference is None:
        raise MediaError(f"{result}: no clip.json names its reference; give --alignment NAME_cropped")
    folder = given or Path(str(note.reference))
    if folder.is_file():
        return folder
    if not (folder / RECORD_NAME).is_file():
        raise MediaError(
            f"{folder}: holds no {RECORD_NAME}, which says where the face was; scripts/align_68.py makes a folder "
            "NAME_cropped with one: run test.py with that as reference, or name it by --alignment"
        )
    return folder / RECORD_NAME


def _target(record_file: Path, background: Path | None, max_size: int) -> Target:
    record = read_record(record_file)
    path = background or record_file.absolute().parent.parent / record.source
    if background is None and not path.exists():
        raise MediaError(f"{path}: what was aligned is no longer there; give --background FILE_OR_FOLDER")
    clip = open_source(path)
    if clip.kind != "video" and len(clip.files) != record.num_frames:
        raise MediaError(f"{path}: has {len(clip.files)} frames, its alignment {record.num_frames}; {_ALIGN_AGAIN}")
    if background is None and not is_unchanged(clip.files, record.info.state):
        _log.warning("%s: has changed since it was aligned; if the face sits wrong, %s", path, _ALIGN_AGAIN)
    return Target(record, clip, Canvas.fitting(record.source_width, record.source_height, max_size))


def _check_sound(audio: Path, num_frames: int) -> None:
    """Before the work, not after it."""
    info = probe(audio)
    if info.audio_codec is None:
        raise MediaError(f"{audio}: holds no sound; give --audio FILE")
    if info.audio_duration_s < (num_frames - 1.5) / FPS:
        raise MediaError(f"{audio}: {info.audio_duration_s:.2f} s of sound for {num_frames / FPS:.2f} s of picture")


def _check_places(output: Path, frames_dir: Path | None, count: int, inputs: Sequence[Path]) -> None:
    """Nothing that is read or was not made here may be overwritten."""
    for path in inputs:
        if output.resolve() == path.resolve():
            raise MediaError(f"--output {output}: would overwrite what it is made from; choose another name")
    if frames_dir is None:
        return
    read = {folder.resolve() for path in inputs for folder in (path, path.parent)}
    if frames_dir.resolve() in read:
        raise MediaError(f"--frames_dir {frames_dir}: holds what the video is made from; choose another folder")
    make_directory(frames_dir)
    names = {f"{number:06d}.png" for number in range(count)}
    foreign = next((path for path in sorted(frames_dir.iterdir()) if path.name not in names), None)
    if foreign is not None:
        raise MediaError(f"--frames_dir {frames_dir}: holds {foreign.name}, which is none of these frames; empty it")


def _pasted(
    column: Column, target: Target, options: PasteOptions, note: ClipNote, scratch: Path
) -> Iterator[np.ndarray]:
    """Finished frames, (height, width, 3) uint8 BGR, one at a time."""
    paster = Paster(options.mask, options.feather, options.match_colours)
    config = DataConfig(crop_len=note.crop_len)
    size = 0
    backgrounds = target.frames(note.first_frame, column.count, scratch)
    for index, (number, canvas) in enumerate(backgrounds):
        path = column.path(index)
        picture = read_image(path)
        size = size or picture.shape[0]
        if picture.shape[:2] != (size, size):
            found = f"{picture.shape[1]}x{picture.shape[0]}"
            raise MediaError(f"{path}: is {found}, generated frames are square and of one size; run test.py again")
        matrix = compose(target.canvas.matrix, picture_to_source(target.record.matrices[number], size, config))
        yield paster.paste(canvas, picture, matrix)


def _encode(
    frames: Iterator[np.ndarray], canvas: Canvas, silent: Path, output: Path, count: int, frames_dir: Path | None
) -> None:
    def chunks() -> Iterator[bytes]:
        bar = progress(frames, total=count, desc=output.parent.name[:40], unit="frame")
        for number, frame in enumerate(bar):
            if frames_dir is not None:
                write_image(frames_dir / f"{number:06d}.png", frame)
            yield frame.tobytes()

    raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-video_size", f"{canvas.width}x{canvas.height}"]
    arguments = [*raw, "-framerate", str(FPS), "-i", "pipe:0", *_H264, protocol_free(silent)]
    run_ffmpeg_fed(arguments, chunks(), f"{output}: encoding")
