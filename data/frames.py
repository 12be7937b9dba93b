"""Frames on disk (`%06d.jpg` from 0) and as tensors (RGB, [-1, 1]); sizes in pixels."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from options.config import DataConfig
from util.errors import MediaError
from util.files import write_bytes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
JPEG_QUALITY = 95
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_TAIL = 65536  # bytes that cameras may append


def list_frames(directory: str | Path) -> list[Path]:
    """The frames of a folder in order.

    Returns:
        paths named 000000.*, 000001.* ... without a gap, one picture format only.

    Raises:
        MediaError: no such folder, no frames, a gap, a start other than 0, or two formats mixed.
    """
    folder = Path(directory)
    if not os.path.isdir(folder):  # pathlib raises for names no disk can hold
        hint = "it is a file, a folder of frames is needed" if os.path.exists(folder) else "no such folder of frames"
        raise MediaError(f"{folder}: {hint}; make one with scripts/prepare_testing_files.py")
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    except OSError as error:
        raise MediaError(f"{folder}: cannot be read: {error.strerror or error}") from error
    numbered = sorted((int(p.stem), p) for p in paths if p.stem.isdecimal())
    if not numbered:
        found = f" ({paths[0].name} is not a frame number)" if paths else ""
        raise MediaError(f"{folder}: holds no frames named 000000.jpg, 000001.jpg ...{found}")
    suffixes = sorted({p.suffix.lower() for _, p in numbered})
    if len(suffixes) > 1:
        raise MediaError(f"{folder}: mixes frames of type {' and '.join(suffixes)}; keep one of them")
    for expected, (number, path) in enumerate(numbered):
        if number == expected:
            continue
        if expected == 0:
            raise MediaError(f"{folder}: frames start at {path.name}, they must be numbered from 000000{path.suffix}")
        if number < expected:
            raise MediaError(f"{folder}: frame {number} is there twice ({path.name})")
        raise MediaError(f"{folder}: frame {expected:06d}{path.suffix} is missing (the next one is {path.name})")
    return [path for _, path in numbered]


def read_image(path: str | Path) -> np.ndarray:
    """Reads a picture file.

    Returns:
        (H, W, 3) uint8 BGR; alpha is dropped, grey becomes three channels.

    Raises:
        MediaError: missing, empty, or not a picture OpenCV can decode completely.
    """
    try:
        payload = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        # OpenCV 4 decodes a JPEG that was cut off without a word
        cut_off = payload[:2].tobytes() == _JPEG_START and _JPEG_END not in payload[-_JPEG_TAIL:].tobytes()
        image = cv2.imdecode(payload, cv2.IMREAD_COLOR) if payload.size and not cut_off else None
    except cv2.error as error:
        raise MediaError(f"{path}: not a readable picture: {error.err}") from error
    if image is None:
        raise MediaError(f"{path}: not a readable picture (damaged, empty, or another kind of file)")
    return image


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
    """The part of a VoxCeleb2-like frame the networks see, as RGB.

    Args:
        image_bgr: (H, W, 3) uint8; any other size than 224 x 224 is resized to it first.

    Returns:
        (crop_size, crop_size, 3) uint8 RGB: rows 0-191 and columns 16-207 of the 224 px frame, bilinear.
    """
    config = config or DataConfig()
    size, cut = config.template_size, config.crop_len
    if image_bgr.shape[:2] != (size, size):
        image_bgr = cv2.resize(image_bgr, (size, size), interpolation=cv2.INTER_LINEAR)
    face = image_bgr[: size - 2 * cut, cut : size - cut]
    if face.shape[:2] != (config.crop_size, config.crop_size):
        face = cv2.resize(face, (config.crop_size, config.crop_size), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(face, cv2.COLOR_BGR2RGB)


def ping_pong(index: int, length: int) -> int:
    """Plays `length` frames forth and back without end: 0..n-1, n-1..0, 0...; each end comes twice.

    >>> [ping_pong(i, 3) for i in range(8)]
    [0, 1, 2, 2, 1, 0, 0, 1]
    """
    turn, position = divmod(index, length)
    return position if turn % 2 == 0 else length - 1 - position


def is_whole(path: Path) -> bool:
    """Whether a JPEG or PNG file is there with its end marker, so that an interrupted copy is not taken for a frame."""
    ends = {".jpg": _JPEG_END, ".png": b"IEND\xaeB`\x82"}
    try:
        with path.open("rb") as file:
            file.seek(-len(ends[path.suffix]), 2)
            return file.read() == ends[path.suffix]
    except (OSError, KeyError):
        return False
