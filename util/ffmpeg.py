"""The only place that starts ffmpeg; argument lists in, files or arrays out; times in seconds, rates in Hz.

The system's ffmpeg is used when there is one, else the binary inside the package imageio-ffmpeg. Probing goes through
PyAV, because that package brings no ffprobe.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from util.errors import MediaError
from util.files import atomic_path, writing
from util.log import warn_once

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds. Durations in seconds, counted from the packets, not read from the header."""

    video_codec: str | None
    video_frames: int
    video_duration_s: float
    fps: float
    width: int
    height: int
    audio_codec: str | None
    audio_duration_s: float


@functools.cache
def ffmpeg_path() -> str:
    """Path of an ffmpeg binary. Raises MediaError when there is none."""
    if chosen := os.environ.get("PCAVS_FFMPEG"):
        return chosen
    system = shutil.which("ffmpeg")
    if system:  # some distributions build it without libx264
        listed = subprocess.run([system, "-hide_banner", "-encoders"], capture_output=True, check=False)
        if b" libx264 " in listed.stdout:
            return system
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        why = f"{system} has no H.264 encoder" if system else "no ffmpeg found"
        raise MediaError(f"{why}: install ffmpeg with libx264, or `pip install imageio-ffmpeg`") from error


def run_ffmpeg(arguments: Sequence[str | Path], doing: str) -> None:
    """Runs ffmpeg, never through a shell; raises MediaError with the last lines it printed.

    arguments: all after the global flags.  doing: for the error, e.g. `encoding results/x/G_Pose_Driven_.mp4`.
    """
    with _started(arguments, doing):
        pass


def run_ffmpeg_to(
    output: Path, arguments: Sequence[str | Path], doing: str, check: Callable[[Path], None] | None = None
) -> None:
    """Runs ffmpeg with `output` as its last argument; the file appears when it is finished and `check` is content."""
    with writing(output), atomic_path(output) as temporary:
        run_ffmpeg([*arguments, protocol_free(temporary)], doing)
        if check is not None:
            check(temporary)


def run_ffmpeg_long(
    arguments: Sequence[str | Path], doing: str, on_progress: Callable[[Mapping[str, int]], None]
) -> str:
    """Runs a job of ffmpeg that may take minutes; arguments and errors as for `run_ffmpeg`.

    on_progress: called about twice a second, and at the end, with the numbers of ffmpeg's report, such as `frame` and
    `total_size`. (`out_time_us` is no measure under -copyts.)

    Returns the last lines of what ffmpeg complained about while it went on, such as damaged packets.
    """
    with _started(["-nostats", "-progress", "pipe:1", *arguments], doing, stdout=subprocess.PIPE) as (process, said):
        assert process.stdout is not None
        report: dict[str, int] = {}
        for line in process.stdout:
            key, _, value = line.decode("ascii", "replace").strip().partition("=")
            if value.isdecimal():
                report[key] = int(value)
            if key == "progress":  # the last line of a report
                on_progress(report)
    return said[0]


def run_ffmpeg_fed(arguments: Sequence[str | Path], chunks: Iterable[bytes | memoryview], doing: str) -> None:
    """Runs ffmpeg with `chunks` as its input `pipe:0`, each passed on before the next one is asked for.

    Whatever is raised, also by `chunks`, ffmpeg has ended before.
    """
    with _started(arguments, doing, stdin=subprocess.PIPE) as (process, _):
        assert process.stdin is not None
        for chunk in chunks:
            try:
                process.stdin.write(chunk)
            except OSError:  # ffmpeg has given up, and says why
                return


@contextlib.contextmanager
def _started(
    arguments: Sequence[str | Path], doing: str, stdin: int | None = None, stdout: int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """Starts ffmpeg; when the block is left it has ended: by itself, or killed if the block raised.

    The list then holds the last lines of what it printed as errors.
    """
    said: list[str] = []
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)]
    # a file, because a pipe that nobody empties would stop ffmpeg when a broken video fills it
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=complaints)
        except OSError as error:
            raise MediaError(f"{doing}: {command[0]} cannot be started: {error.strerror or error}") from error
        try:
            yield process, said
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()  # the end of the input
            process.wait()
        finally:
            process.kill()  # Ctrl-C, or an error of the block: nothing may write behind our back
            process.communicate()  # closes the pipes and waits
        complaints.seek(0)
        said.append(last_lines(complaints.read()))
    if process.returncode != 0:
        raise MediaError(f"{doing}: ffmpeg failed: {said[0] or 'no message'}")


def last_lines(stderr: bytes) -> str:
    """The last three lines of a program's error output as one line of text."""
    text = re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] ", "", stderr.decode("utf-8", "replace"))  # which part of ffmpeg says it
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-3:])


def protocol_free(path: str | Path) -> str:
    """A path as ffmpeg takes it for a local file, also when it contains `:` or starts with `-`."""
    return f"file:{path}"


def open_media(path: str | Path) -> InputContainer:
    """`av.open` of a local file; titles and comments in it that are not UTF-8 are no error."""
    import av

    # PyAV 19 reads such text without being told, and no longer knows the argument
    keywords: dict[str, Any] = {"metadata_errors": "replace"} if _pyav_version() < 19 else {}
    return av.open(protocol_free(path), "r", **keywords)


def decodable(streams: Iterable[Any]) -> list[Any]:
    """The streams that there is a decoder for."""
    return [stream for stream in streams if stream.codec_context is not None]


def named_colours(picture: VideoFrame) -> dict[str, Any]:
    """Keywords for PyAV's conversion to RGB, so that it goes by the matrix and range that the video names.

    PyAV does so by itself from 17 on. Before, it takes every video for BT.601: HD is up to 22 levels off.
    """
    if _pyav_version() >= 17:
        return {}
    source = {"src_colorspace": picture.colorspace, "src_color_range": picture.color_range}
    return {**source, "dst_colorspace": 0, "dst_color_range": "JPEG"}


@functools.cache
def _pyav_version() -> int:
    import av

    return int(av.__version__.split(".")[0])


def decode_audio_pieces(path: str | Path, sample_rate_hz: int, piece_samples: int) -> Iterator[bytes]:
    """Decodes the first audio stream to mono 32-bit float PCM, little endian, while it is asked for.

    Every piece but the last has `piece_samples`. Raises MediaError for a file that is missing, empty, or holds no sound
    ffmpeg can read; damage may show only at the end.
    """
    source = Path(path)
    if not os.path.isfile(source):  # pathlib raises for names no disk can hold
        raise MediaError(f"{source}: no such audio file")
    if source.stat().st_size == 0:
        raise MediaError(f"{source}: the file is empty (0 bytes)")
    check = ["-err_detect", "crccheck"]  # what a sum in the file tells, such as that of each FLAC frame
    output = ["-map", "0:a:0", "-vn", "-ac", "1", "-ar", str(sample_rate_hz), "-f", "f32le", "-"]
    heard = False
    try:
        doing = f"{source}: reading the sound"
        command = [*check, "-i", protocol_free(source), *output]
        with _started(command, doing, stdout=subprocess.PIPE) as (process, said):
            assert process.stdout is not None
            while piece := process.stdout.read(4 * piece_samples):
                heard = True
                yield piece
        # of its own output ffmpeg complains where quiet Opus, as of voice messages, has packets without sound
        if told := " | ".join(line for line in said[0].split(" | ") if line and "to muxer" not in line):
            warn_once(_log, f"{source}: damaged, parts of its sound may be missing or wrong: {told}")
    except MediaError:
        if probe(source).audio_codec is None:
            raise MediaError(f"{source}: holds no sound; choose a file with an audio stream") from None
        raise
    if not heard:
        raise MediaError(f"{source}: the audio stream holds no samples")


def probe(path: str | Path) -> MediaInfo:
    """Counts frames and measures durations of the first video and audio stream. Raises MediaError: no media file."""
    import av

    source = Path(path)
    if not os.path.isfile(source):
        raise MediaError(f"{source}: no such file")
    try:
        with open_media(source) as container:
            video: Any = next(iter(decodable(container.streams.video)), None)
            audio: Any = next(iter(decodable(container.streams.audio)), None)
            spans: dict[int, list[Fraction]] = {}
            frames = 0
            for packet in container.demux([s for s in (video, audio) if s is not None]):
                if packet.pts is None or packet.time_base is None:
                    continue
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                # before 0 an encoder warms up, and nothing is heard
                start = max(packet.pts * packet.time_base, Fraction(0))
                span = spans.setdefault(packet.stream.index, [start, end])
                span[0], span[1] = min(span[0], start), max(span[1], end)
                frames += video is not None and packet.stream.index == video.index
            lengths = {index: float(end - start) for index, (start, end) in spans.items()}
            return MediaInfo(
                video_codec=video.codec_context.name if video else None,
                video_frames=frames,
                video_duration_s=lengths.get(video.index, 0.0) if video else 0.0,
                fps=float(video.average_rate or 0) if video else 0.0,
                width=video.codec_context.width if video else 0,
                height=video.codec_context.height if video else 0,
                audio_codec=audio.codec_context.name if audio else None,
                audio_duration_s=lengths.get(audio.index, 0.0) if audio else 0.0,
            )
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{source}: not a readable media file: {error}") from error
