"""Frames on disk: which files are frames and in what order, reading and writing them, and what networks see of one."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from options.config import DataConfig
from util.errors import MediaError
from util.files import open_file, reading, write_bytes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
JPEG_QUALITY = 95
MOST_PIXELS = 120 * 10**6  # of a picture that is read
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
_SMALL_JPEG = MOST_PIXELS // 64 // 8  # bytes
_JPEG_TAIL = 65536  # bytes that cameras may append
_PNG_START = b"\x89PNG\r\n\x1a\n"
_FADE_FRAMES = 20
_PNG_END = b"IEND\xaeB`\x82"

_log = logging.getLogger(__name__)


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder, by name; hidden ones are none. Raises MediaError when it cannot be read."""
    with reading(folder):
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def list_frames(directory: str | Path) -> list[Path]:
    """The frames of a folder that is ready for use: 000000.*, 000001.* ... without a gap, one picture format only.

    Raises MediaError: no such folder, no frames, a gap, a start other than 0, or two formats mixed.
    """
    folder = Path(directory)
    if not os.path.isdir(folder):  # pathlib raises for names no disk can hold
        hint = "it is a file, a folder of frames is needed" if os.path.exists(folder) else "no such folder of frames"
        raise MediaError(f"{folder}: {hint}; make one with scripts/prepare_testing_files.py")
    pictures = pictures_in(folder)
    numbered = _by_number(folder, pictures)
    if not numbered:
        found = f" ({pictures[0].name} is not a frame number)" if pictures else ""
        raise MediaError(f"{folder}: holds no frames named 000000.jpg, 000001.jpg ...{found}")
    suffixes = sorted({p.suffix.lower() for p in numbered})
    if len(suffixes) > 1:
        raise MediaError(f"{folder}: mixes frames of type {' and '.join(suffixes)}; keep one of them")
    for expected, path in enumerate(numbered):
        if int(path.stem) != expected:
            missing = f"frame {expected:06d}{path.suffix} is missing (the next one is {path.name})"
            raise MediaError(f"{folder}: {missing}; frames must be numbered from 000000 on")
    return numbered


def _by_number(folder: Path, pictures: list[Path]) -> list[Path]:
    numbered = sorted((p for p in pictures if p.stem.isdecimal()), key=lambda p: int(p.stem))
    for one, other in itertools.pairwise(numbered):
        if int(one.stem) == int(other.stem):
            raise MediaError(f"{folder}: frame {int(one.stem)} is there twice ({one.name} and {other.name})")
    return numbered


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of any folder: by number where names are numbers (2 before 10), else by name.

    Beside numbers any other picture is a contact sheet, a thumbnail ..., and is left out. Raises MediaError: no
    pictures, or two of one number.
    """
    pictures = pictures_in(folder)
    numbered = _by_number(folder, pictures)
    if not pictures:
        raise MediaError(f"{folder}: holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
    if not numbered:
        return pictures
    if len(numbered) < len(pictures):
        left = next(p for p in pictures if not p.stem.isdecimal())
        _log.info("%s: %s and all else not named by a number is no frame, left out", folder, left.name)
    return numbered


def list_numbered_pictures(folder: Path) -> list[Path]:
    """As `list_pictures`, but names `<one prefix><number>` go by number, too: frame_2 before frame_10.

    Raises MediaError: no pictures, or a number is missing: all frames behind it would be compared with wrong ones.
    """
    pictures = list_pictures(folder)
    matches = [match for match in (re.fullmatch("(.*?)([0-9]+)", path.stem) for path in pictures) if match]
    if len(matches) < len(pictures) or len({match[1] for match in matches}) > 1:
        return pictures
    numbered = sorted((int(match[2]), path) for match, path in zip(matches, pictures, strict=True))
    for expected, (number, _) in enumerate(numbered, start=numbered[0][0]):
        if number != expected:
            name = f"{matches[0][1]}{expected}"
            raise MediaError(f"{folder}: picture {name} is missing or there twice; number the frames without gaps")
    return [path for _, path in numbered]


def is_whole(path: Path) -> bool:
    """Whether a JPEG or PNG file is there with its end marker, so that an interrupted copy is not taken for a frame."""
    ends = {".jpg": JPEG_END, ".png": _PNG_END}
    try:
        with path.open("rb") as file:
            file.seek(-len(ends[path.suffix]), 2)
            return file.read() == ends[path.suffix]
    except (OSError, KeyError):
        return False


def count_whole_frames(folder: Path) -> int:
    """How many frames a folder holds. Raises MediaError as `list_frames` does, and for a frame that is not whole."""
    frames = list_frames(folder)
    for path in frames:
        if not is_whole(path):
            raise MediaError(f"{path}: is not whole")
    return len(frames)


def read_image(path: str | Path) -> np.ndarray:
    """Reads a picture file as (H, W, 3) uint8 BGR; alpha is dropped, grey becomes three channels.

    Raises MediaError: missing, empty, or not a picture OpenCV can decode completely.
    """
    try:
        with reading(path), open_file(path) as file:
            payload = file.read()
        # a block of 64 pixels takes a bit of a JPEG at the least: a small one is no huge picture
        if len(payload) > _SMALL_JPEG or not payload.startswith(JPEG_START):
            require_size(path, io.BytesIO(payload))
        if payload.startswith(_PNG_START) and not _has_room_for_chunks(payload):
            raise MediaError(f"{path}: not a readable picture (damaged)")
        # OpenCV 4 decodes a JPEG that was cut off without a word
        cut_off = payload.startswith(JPEG_START) and JPEG_END not in payload[-_JPEG_TAIL:]
        pixels = np.frombuffer(payload, dtype=np.uint8)
        image = cv2.imdecode(pixels, cv2.IMREAD_COLOR) if payload and not cut_off else None
    except cv2.error as error:
        raise MediaError(f"{path}: not a readable picture: {error.err}") from error
    if image is None:
        raise MediaError(f"{path}: not a readable picture (damaged, empty, or another kind of file)")
    return image


def _has_room_for_chunks(payload: bytes) -> bool:
    """Whether the parts of a PNG are as long as they say: OpenCV takes gigabytes for one that claims them."""
    start, is_last = len(_PNG_START), False
    while not is_last and start + 12 <= len(payload):
        is_last = payload[start + 4 : start + 8] == _PNG_END[:4]
        start += 12 + int.from_bytes(payload[start : start + 4], "big")
    return is_last and start <= len(payload)


def is_sound_jpeg(payload: bytes) -> bool:
    """Whether the data of a JPEG reach to its last row; OpenCV and Pillow fill up with grey what is missing."""
    import av

    decoder: Any = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    try:
        return not any(picture.is_corrupt for picture in decoder.decode(av.Packet(payload)))
    except av.error.InvalidDataError:
        return False
    except av.error.FFmpegError:
        return True  # a kind of JPEG that it does not know


def require_size(path: str | Path, file: Path | io.BytesIO) -> None:
    """Raises MediaError for a picture file of too many pixels, told by its header: a small file may hold a huge one."""
    Image.MAX_IMAGE_PIXELS = None  # phones make pictures larger than Pillow's own alarm
    with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(file) as header:
        if header.width * header.height > MOST_PIXELS:
            size = f"{header.width}x{header.height} pixels"
            raise MediaError(
                f"{path}: has {size}, more than the {MOST_PIXELS // 10**6} million that are read; reduce it"
            )


def encode_image(image_bgr: np.ndarray, suffix: str = ".jpg", quality: int = JPEG_QUALITY) -> bytes:
    """Encodes (H, W, 3) uint8 BGR as JPEG or PNG, chosen by `suffix`."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    ok, payload = cv2.imencode(suffix, image_bgr, flags)
    if not ok:
        raise MediaError(f"OpenCV cannot encode a {image_bgr.shape} picture as {suffix}")
    return payload.tobytes()


def write_image(path: str | Path, image_bgr: np.ndarray, quality: int = JPEG_QUALITY) -> None:
    """Writes (H, W, 3) uint8 BGR atomically, in the format of the suffix. Raises MediaError when the disk refuses."""
    write_bytes(path, encode_image(image_bgr, Path(path).suffix.lower(), quality))


def crop_template(image_bgr: np.ndarray, config: DataConfig | None = None) -> np.ndarray:
    """The part of a VoxCeleb2-like frame the networks see, as RGB: (H, W, 3) uint8 -> (crop_size, crop_size, 3) uint8.

    Rows 0-191 and columns 16-207 of the frame, which is resized to 224 x 224 before; bilinear.
    """
    config = config or DataConfig()
    size, cut = config.template_size, config.crop_len
    if image_bgr.shape[:2] != (size, size):
        image_bgr = cv2.resize(image_bgr, (size, size), interpolation=cv2.INTER_LINEAR)
    face = image_bgr[: size - 2 * cut, cut : size - cut]
    if face.shape[:2] != (config.crop_size, config.crop_size):
        face = cv2.resize(face, (config.crop_size, config.crop_size), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(face, cv2.COLOR_BGR2RGB)


def cross_fade(index: int, length: int) -> tuple[int, int, float]:
    """Plays `length` frames again and again from the start, each end blended into the next start for up to 0.8 s.

    Returns:
        two positions, and the share of the second one; without a blend they are the same.

    >>> [cross_fade(i, 5) for i in range(5)]
    [(0, 0, 0.0), (1, 1, 0.0), (2, 2, 0.0), (3, 0, 0.3333333333333333), (4, 1, 0.6666666666666666)]
    """
    overlap = min(_FADE_FRAMES, length // 2)
    turn, position = divmod(index, length - overlap)
    if turn == 0 or position >= overlap:
        return position, position, 0.0
    return position + length - overlap, position, (position + 1) / (overlap + 1)


def ping_pong(index: int, length: int) -> int:
    """Plays `length` frames forth and back without end: 0..n-1, n-1..0, 0...; each end comes twice.

    >>> [ping_pong(i, 3) for i in range(8)]
    [0, 1, 2, 2, 1, 0, 0, 1]
    """
    turn, position = divmod(index, length)
    return position if turn % 2 == 0 else length - 1 - position
