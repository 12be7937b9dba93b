"""Any picture, clip or recording, told by its content, as frames at 25 fps and 16 kHz sound; times in seconds.

Sound and picture stay in step: instant 0 of a file is when the first of its two streams starts, and both frame 0 and
sample 0 belong to it. So late sound gets silence in front, a late picture repeats its first frame, and nothing is lost.
A file means the same instant 0 whatever it is used for: pose frames and sound of one clip fit, prepared apart.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition
from PIL import Image, UnidentifiedImageError

from data.audio import audio_pieces
from data.frames import (
    JPEG_END,
    JPEG_START,
    encode_image,
    is_sound_jpeg,
    is_whole,
    list_frames,
    read_image,
    require_size,
)
from data.video_reader import first_frames, open_container, open_source
from options.config import FPS, LONGEST_S, SAMPLE_RATE_HZ, AudioConfig
from util.errors import MediaError
from util.ffmpeg import decodable, protocol_free, run_ffmpeg_long
from util.files import open_file, reading, require_utf8_name, write_bytes
from util.log import progress

MIN_SIDE = 32  # pixels; nobody's mouth can be seen in less
# ffmpeg reads text as a film of a terminal, and play lists as the files they name
_NO_RECORDINGS = ("tty", "concat", "hls", "dash", "imf", "sdp", "rtsp")
# the file's own times; before version 7 ffmpeg shifted a transport stream that starts at 0 nevertheless, unless asked
# to move it, here by nothing that can be measured
_COPY_TIMES = ("-copyts", "-itsoffset", "0.000001")
_SEEK_FROM_S = 10.0  # a cut that starts later jumps there instead of decoding all before it
_SEEK_MARGIN_S = 2.0
_WAV_BYTES_PER_S = 2 * SAMPLE_RATE_HZ
_EXIF_ORIENTATION = 0x0112

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cut:
    """The part of a source to take, counted from its instant 0; None: to the end."""

    start_s: float = 0.0
    duration_s: float | None = None

    @property
    def is_everything(self) -> bool:
        return self.start_s == 0 and self.duration_s is None

    @property
    def num_frames(self) -> int | None:
        """The most frames the part can have."""
        return None if self.duration_s is None else max(1, round(self.duration_s * FPS))


@dataclass(frozen=True)
class Media:
    """What a file or folder is."""

    path: Path
    kind: str  # folder, picture, clip, or sound
    has_sound: bool = False
    is_plain_wav: bool = False  # 16 kHz mono 16-bit WAV already
    origin_s: float = 0.0  # the file's own time at our instant 0
    length_s: float = 0.0  # by the file's header; 0: it does not say
    is_interlaced: bool = False
    has_float_sound: bool = False  # which may be no number

    @property
    def has_frames(self) -> bool:
        return self.kind != "sound"


def inspect(path: str | Path) -> Media:
    """Tells by its content, not its suffix, what a source is.

    Raises MediaError: missing, empty, neither picture nor recording, damaged from the start, or smaller than MIN_SIDE.
    """
    source = Path(path)
    require_utf8_name(source)
    with reading(source):
        if source.is_dir():
            open_source(source)
            return Media(source, "folder")
        if not source.exists():
            raise MediaError(f"{source}: no such file or folder")
        with open_file(source) as file:
            if not file.read(1):
                raise MediaError(f"{source}: the file is empty (0 bytes)")
    if cv2.haveImageReader(str(source)) and not _is_animated(source):
        return Media(source, "picture")
    return _inspect_streams(source)


def extract_frames(media: Media, folder: Path, cut: Cut, longest_side: int | None = None) -> int:
    """Writes the pictures of a source as `%06d.jpg` from 0, 25 a second, upright, with square pixels; returns how many.

    A frame shows the picture whose start is nearest to its own, so nothing moves by more than 20 ms and, on average,
    by nothing. Pictures that are JPEG already are copied byte by byte; a folder counts as 25 fps; a single picture is
    one frame whatever the cut. Frames of a clip that are larger than `longest_side` pixels are reduced to it.

    Raises MediaError: no pictures in the source or in the part asked for, damage, mixed sizes, or the disk refuses.
    """
    _require_length(media, cut)
    if media.kind == "folder":
        _copy_folder(media, folder, cut)
    elif media.kind == "picture":
        write_bytes(folder / "000000.jpg", _as_jpeg(media.path, read_image(media.path)))
    elif media.kind == "clip":
        _extract_clip(media, folder, cut, longest_side)
    else:
        raise MediaError(f"{media.path}: holds sound but no pictures")
    try:
        count = len(list_frames(folder))
    except MediaError as error:
        raise MediaError(_nothing("picture", media, cut)) from error
    if count > LONGEST_S * FPS:
        raise MediaError(_too_long(media))
    if not is_whole(folder / f"{count - 1:06d}.jpg"):
        raise MediaError(f"{media.path}: its last frame could not be written completely; is the disk full?")
    return count


def count_ready_frames(folder: Path) -> int:
    """How many frames a folder holds that can be used as it is; 0 if they must be renumbered.

    Raises MediaError: frames of two sizes.
    """
    try:
        frames = list_frames(folder)
    except MediaError:
        return 0
    first = ""
    for path in frames:
        with _pillow(path, path) as opened:  # reads the head of the file only
            width, height = opened.size if opened is not None else read_image(path).shape[1::-1]
        size = f"{width}x{height}"
        first = first or size
        if size != first:
            raise MediaError(f"{path}: is {size}, {frames[0].name} is {first}; the frames of a clip must have one size")
    return len(frames)


def extract_sound(media: Media, wav: Path, cut: Cut) -> int:
    """Writes the sound of a source as 16 kHz mono 16-bit WAV; gaps become silence. Returns how many samples.

    Raises MediaError: no sound in the source or in the part asked for, less than 0.2 s of it, or the disk refuses.
    """
    if not media.has_sound:
        hint = "a video without sound" if media.kind == "clip" else f"a {media.kind}, it has no sound"
        raise MediaError(f"{media.path}: is {hint}; give a recording or a video with sound")
    _require_length(media, cut)
    if media.has_float_sound:  # as whole numbers these would be clicks
        for _ in audio_pieces(media.path):
            pass
    filters = [
        f"asetpts=PTS-round({media.origin_s + cut.start_s:.6f}/TB)",
        f"atrim=start=0:end={LONGEST_S + 1 if cut.duration_s is None else cut.duration_s:.6f}",
        f"aresample={SAMPLE_RATE_HZ}:async=1:first_pts=0",  # silence before the first sample and in gaps
        *([] if cut.duration_s is None else [f"atrim=end_sample={round(cut.duration_s * SAMPLE_RATE_HZ)}"]),
    ]
    check = ["-err_detect", "crccheck"]  # see util.ffmpeg
    arguments = [*_COPY_TIMES, *check, "-i", protocol_free(media.path), "-map", "0:a:0", "-af", ",".join(filters)]
    output = ["-ac", "1", "-c:a", "pcm_s16le", "-map_metadata", "-1", "-fflags", "+bitexact", "-f", "wav"]
    _run(media, "sound", [*arguments, *output, protocol_free(wav)], _expected_s(media, cut))
    try:
        with wave.open(str(wav), "rb") as written:
            samples = written.getnframes()
    except (OSError, EOFError, wave.Error) as error:
        raise MediaError(f"{media.path}: its sound could not be written as WAV: {error}") from error
    if samples > LONGEST_S * SAMPLE_RATE_HZ:
        raise MediaError(_too_long(media))
    if samples == 0:
        raise MediaError(_nothing("sound", media, cut))
    shortest_s = AudioConfig.bins_per_window * AudioConfig.hop_length / SAMPLE_RATE_HZ
    if samples / SAMPLE_RATE_HZ < shortest_s:
        lasts = f"only {samples / SAMPLE_RATE_HZ:.3f} s of sound"
        raise MediaError(f"{media.path}: {lasts}; at least {shortest_s:.1f} s are needed")
    return samples


def _inspect_streams(path: Path) -> Media:
    with open_container(path, "picture, video or recording") as container:
        if container.format.name.split(",")[0] in _NO_RECORDINGS:
            raise MediaError(f"{path}: is a text or a play list, not a picture or recording")
        # an album cover is a video stream of one picture
        pictures = (s for s in decodable(container.streams.video) if not s.disposition & Disposition.attached_pic)
        video = next(pictures, None)
        audio = next(iter(decodable(container.streams.audio)), None)
        streams = [stream for stream in (video, audio) if stream is not None]
        if not streams:
            raise MediaError(f"{path}: holds neither pictures nor sound")
        first = first_frames(container, streams)
        if not first:
            raise MediaError(f"{path}: damaged: not one picture or sound in it can be decoded")
        seen = video is not None and video.index in first
        if seen and video is not None:
            _check_side(path, video.codec_context.width, video.codec_context.height)
        coding = audio and (audio.codec_context.name, audio.codec_context.sample_rate, audio.codec_context.channels)
        is_interlaced = seen and first[video.index][1].interlaced_frame  # type: ignore[union-attr]
        if is_interlaced:
            _log.info("%s: is interlaced; every two half pictures become one whole frame", path)
        return Media(
            path,
            kind="clip" if seen else "sound",
            has_sound=audio is not None and audio.index in first,
            is_plain_wav=not seen and container.format.name == "wav" and coding == ("pcm_s16le", SAMPLE_RATE_HZ, 1),
            origin_s=min(start_s for start_s, _ in first.values()),
            length_s=(container.duration or 0) / av.time_base,
            is_interlaced=is_interlaced,
            has_float_sound=audio is not None and audio.codec_context.name.startswith("pcm_f"),
        )


def _extract_clip(media: Media, folder: Path, cut: Cut, longest_side: int | None) -> None:
    origin_us = round((media.origin_s + cut.start_s) * 1e6)
    seek: list[str] = []
    if cut.start_s > _SEEK_FROM_S:
        # to the key picture before; not "accurate", which would drop the picture that is on screen at the start
        seek = ["-noaccurate_seek", "-seek_timestamp", "1", "-ss", f"{origin_us / 1e6 - _SEEK_MARGIN_S:.3f}"]
    filters = [
        *(["bwdif=mode=send_frame"] if media.is_interlaced else []),
        "settb=1/1000000",
        f"setpts=PTS-({origin_us})",
        f"fps=fps={FPS}:start_time=0:round=near",
        # square pixels; a JPEG means BT.601 in full range whatever the video has
        "scale=w=round(iw*sar):h=ih:out_range=full:out_color_matrix=bt601",
        *([] if longest_side is None else [_reduced_to(longest_side)]),
        "setsar=1",
        "format=yuvj420p",
    ]
    arguments = [
        # without -reinit_filter 0 a change of size within the clip would start the clock of `fps` anew
        *_COPY_TIMES, *seek, "-reinit_filter", "0", "-i", protocol_free(media.path), "-map", "0:V:0",
        "-vf", ",".join(filters), "-q:v", "2", "-start_number", "0",
        "-frames:v", str(LONGEST_S * FPS + 1 if cut.num_frames is None else cut.num_frames),
    ]  # fmt: skip
    pattern = protocol_free(str(folder).replace("%", "%%")) + "/%06d.jpg"
    _run(media, "frames", [*arguments, "-f", "image2", pattern], _expected_s(media, cut))


def _reduced_to(side: int) -> str:
    """A filter; frames that are not larger stay as they are."""
    return f"scale=w='min(iw,{side})':h='min(ih,{side})':force_original_aspect_ratio=decrease:flags=area"


def _require_length(media: Media, cut: Cut) -> None:
    if _expected_s(media, cut) > LONGEST_S:
        raise MediaError(_too_long(media))


def _too_long(media: Media) -> str:
    lasts = f"lasts {media.length_s / 3600:.1f} hours by its header, " if media.length_s > LONGEST_S else ""
    return f"{media.path}: {lasts}more than {LONGEST_S // 3600} hours are not read; take a part by --duration"


def _expected_s(media: Media, cut: Cut) -> float:
    rest = max(0.0, media.length_s - cut.start_s)
    return rest if cut.duration_s is None else min(cut.duration_s, rest or cut.duration_s)


def _run(media: Media, what: str, arguments: list[str], expected_s: float) -> None:
    """Runs ffmpeg with a bar in seconds of the clip; damage that it could pass over is a warning."""
    with progress(total=round(expected_s, 1) or None, desc=_title(media, what), unit="s") as bar:

        def advance(report: Mapping[str, int]) -> None:
            done_s = report.get("frame", 0) / FPS or report.get("total_size", 0) / _WAV_BYTES_PER_S
            bar.update(round(min(done_s, bar.total or done_s) - bar.n, 2))

        complaint = run_ffmpeg_long(arguments, f"{media.path}: reading its {what}", advance)
    if complaint:
        _log.warning("%s: damaged, parts of its %s may be missing or wrong: %s", media.path, what, complaint)


def _title(media: Media, what: str) -> str:
    return f"{media.path.name[:30]}: {what}"


def _copy_folder(media: Media, folder: Path, cut: Cut) -> None:
    source = open_source(media.path)
    first = round(cut.start_s * FPS)
    last = None if cut.num_frames is None else first + cut.num_frames
    files = source.files[first:last]
    if not files:
        raise MediaError(_nothing("picture", dataclasses.replace(media, length_s=len(source.files) / FPS), cut))
    pictures = source.frames(first, last)  # complains when two sizes are mixed
    found = progress(zip(files, pictures, strict=True), total=len(files), desc=_title(media, "frames"), unit="frame")
    for number, (path, (_, image)) in enumerate(found):
        write_bytes(folder / f"{number:06d}.jpg", _as_jpeg(path, image))


def _as_jpeg(path: Path, image: np.ndarray) -> bytes:
    """A picture file as JPEG: its own bytes if they are an upright one, else `image`, which was read from it."""
    _check_side(path, image.shape[1], image.shape[0])
    payload = path.read_bytes()
    if payload.startswith(JPEG_START) and not is_sound_jpeg(payload):
        _log.warning("%s: damaged, a part of the picture is grey or wrong; copy it again", path)
    with _pillow(path, io.BytesIO(payload)) as opened:
        if opened is not None:
            opened.draft("RGB", (MIN_SIDE, MIN_SIDE))  # a small decoding that still reads the file to its end
            opened.load()
            upright = opened.getexif().get(_EXIF_ORIENTATION, 1) == 1
            if upright and payload.startswith(JPEG_START) and payload.endswith(JPEG_END):
                return payload
    return encode_image(image)


@contextmanager
def _pillow(path: Path, file: Any) -> Iterator[Any]:
    """Opens a picture with Pillow, which complains of truncated files; None for formats that only OpenCV knows."""
    require_size(path, file)
    try:
        try:
            opened = Image.open(file)
        except UnidentifiedImageError:
            yield None
            return
        with opened:
            yield opened
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise MediaError(f"{path}: the picture is damaged: {error}") from error


def _is_animated(path: Path) -> bool:
    with _pillow(path, path) as opened:
        if opened is None or not getattr(opened, "is_animated", False):
            return False
        if opened.format == "WEBP":
            raise MediaError(f"{path}: is an animated WebP, which ffmpeg cannot read; convert it to GIF or mp4")
        return opened.format in ("GIF", "PNG")  # others with several pictures hold a photo and its extras, not a film


def _check_side(path: Path, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise MediaError(
            f"{path}: its pictures are {width}x{height} pixels, too small to show a face; {MIN_SIDE} are the least, "
            "224 and more are wanted"
        )


def _nothing(what: str, media: Media, cut: Cut) -> str:
    if cut.is_everything:
        return f"{media.path}: damaged: not one {what} in it can be decoded"
    length = f"; it is {media.length_s:.2f} s long" if media.length_s else ""
    return f"{media.path}: has no {what} in the part from --start {cut.start_s:g} s on{length}"
