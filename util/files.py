"""Files that are whole or absent: everything is written under a temporary name and then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from util.errors import MediaError

MARK = "made by PC-AVS"  # stands in every page, report and video, so that they are told from the user's own files


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it becomes `path` when the block ends well and vanishes when it does not.

    The suffix is kept, because tools such as ffmpeg choose the format by it.
    """
    final = Path(path)
    stem = final.stem.encode()[:100].decode(errors="ignore")  # names may have 255 bytes
    temporary = final.with_name(f".{stem}.{os.getpid()}.part{final.suffix}")
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, payload: bytes) -> None:
    """Writes `payload` atomically. Raises MediaError with the system's reason (disk full, read-only ...)."""
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(payload)
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically; what is no text, a byte of a file name, as `\\udc..`, which JSON reads again."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def require_utf8_name(path: str | Path) -> None:
    """Raises MediaError for a name whose bytes are not UTF-8: OpenCV dies of it, and JSON cannot hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise MediaError(f"{str(path)!a}: the name is not UTF-8; rename the file") from error


def make_directory(path: str | Path) -> Path:
    """Makes a folder with its parents. Raises MediaError with the system's reason."""
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{directory}: the folder cannot be made: {error.strerror or error}") from error
    return directory


def safe_name(text: str) -> str:
    """Turns any text into one path component: letters (of every script), digits, `.`, `_`, `-` and spaces stay.

    >>> safe_name("../a:b/c")
    '.._a_b_c'
    """
    cleaned = re.sub(r"[^\w.\- ]", "_", text, flags=re.UNICODE).strip()
    if cleaned.strip(". ") == "":
        return "_" * max(1, len(cleaned))
    return cleaned
