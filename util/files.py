"""Files and folders that are whole or absent, leftovers of dead processes, and outputs that are never the user's own.

What is being made has a temporary name beside its final one, `.<name>.<token>.part<suffix>`, and is locked by the
process that makes it. The lock ends with the process, however that ends: whoever can take it has found a leftover.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from util.errors import MediaError, OptionError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and no leftover is removed
    fcntl = None  # type: ignore[assignment]

MARK = "made by PC-AVS"  # stands in every page, report and video, so that they are told from the user's own files
_MARK_REACH = 1 << 16  # bytes at the start and the end of a file in which the mark stands
_PART = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<state>part|old)(\..*)?", re.DOTALL)
FileStates = tuple[tuple[str, int, int], ...]  # path, size and time of every file
_swept: set[str] = set()  # folders that this process has looked through


@contextlib.contextmanager
def temporary_path(path: str | Path, folder: bool = False) -> Iterator[Path]:
    """Yields an empty file or folder beside `path`, locked for this process; at the end it is gone unless renamed.

    The suffix of a file is kept, because tools such as ffmpeg choose the format by it.
    """
    with _temporary(Path(path), folder) as (temporary, _):
        yield temporary


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a `temporary_path`; it becomes `path` when the block ends well and vanishes when it does not."""
    with temporary_path(path) as temporary:
        yield temporary
        os.replace(temporary, path)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`; it takes the place of `path` when the block ends well, else it vanishes."""
    with temporary_path(path, folder=True) as temporary:
        yield temporary
        replace_folder(temporary, Path(path))


def replace_folder(temporary: Path, final: Path) -> None:
    """Puts one folder in the place of another, which is removed; both lie in the same folder.

    The other one is back when the system refuses. A process that dies in between leaves it where the next one finds it.
    """
    if not final.exists():
        os.replace(temporary, final)
        return
    aside = final.with_name(f".{final.name}.{secrets.token_hex(4)}.old")
    lock = os.open(final, os.O_RDONLY)
    try:
        try_lock(lock)
        os.replace(final, aside)
        try:
            os.replace(temporary, final)
        except OSError:
            os.replace(aside, final)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        os.close(lock)


def remove_leftovers(folder: Path) -> None:
    """Removes what processes that have died left unfinished in a folder; once in the life of this process.

    A folder that `atomic_folder` had moved aside, and whose successor never came, goes back to its place.
    """
    if (key := os.path.abspath(folder)) in _swept:
        return
    _swept.add(key)
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            if (match := _PART.fullmatch(name)) is not None:
                _remove_if_dead(folder / name, folder / match["name"], match["state"])


@contextlib.contextmanager
def writing(path: str | Path, failure: str = "cannot be written") -> Iterator[None]:
    """Turns an OSError of the block into a MediaError with the system's reason: disk full, read-only ..."""
    try:
        yield
    except OSError as error:
        raise MediaError(f"{path}: {failure}: {error.strerror or error}") from error


def reading(path: str | Path) -> contextlib.AbstractContextManager[None]:
    """As `writing`, for a block that reads."""
    return writing(path, "cannot be read")


def open_file(path: str | Path) -> BinaryIO:
    """Opens an input for reading. Raises OSError, also for a pipe, socket or device, which might never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError as error:  # a name no disk can hold
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_text(path: str | Path) -> str:
    """Reads UTF-8 text, with or without a byte-order mark. Raises OSError, as `open_file`, and UnicodeDecodeError."""
    with open_file(path) as file:
        return file.read().decode("utf-8-sig").replace("\r\n", "\n")


def file_states(paths: Iterable[Path | None]) -> FileStates:
    """Of files and of the files in folders; what is not there is left out."""
    found = [path.absolute() for path in paths if path is not None]
    files = [file for path in found for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file())


def write_bytes(path: str | Path, payload: bytes) -> None:
    """Writes `payload` atomically. Raises MediaError with the system's reason (disk full, read-only ...)."""
    with writing(path), _temporary(Path(path)) as (temporary, lock):
        with open(lock, "wb", closefd=False) as file:  # opened anew, it would be flushed to the disk when closed
            file.write(payload)
        os.replace(temporary, path)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically; what is no text, a byte of a file name, as `\\udc..`, which JSON reads again."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def claim_output(
    path: Path,
    flag: str,
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool,
    is_ours: Callable[[Path], bool] | None = None,
) -> None:
    """Makes sure, before any work, that a file about to be written replaces nothing of the user's.

    Args:
        flag: that names the output, for the error.
        inputs: files and folders that are read.
        overwrite: whether the user wants it replaced, whatever it is.
        is_ours: whether a file is an earlier output, told by its content; None: it carries MARK.

    Raises:
        OptionError: it is an input, no regular file, or somebody else's.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there; whether it can be written is seen when it is
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no regular file"
        raise OptionError(f"{flag} {path}: is {kind}; give the name of a file")
    for source in inputs:
        with contextlib.suppress(OSError):
            if path.samefile(source) or (source.is_dir() and path.resolve().parent == source.resolve()):
                raise OptionError(f"{flag} {path}: is read by this very command; choose another name")
    if not overwrite and not (is_ours or carries_mark)(path):
        raise OptionError(
            f"{flag} {path}: is there and was not made by this command; choose another name, or add --overwrite"
        )


def carries_mark(path: Path) -> bool:
    """Whether MARK stands near the start or the end of a file."""
    try:
        with path.open("rb") as file:
            if MARK.encode() in file.read(_MARK_REACH):
                return True
            file.seek(-min(_MARK_REACH, path.stat().st_size), os.SEEK_END)
            return MARK.encode() in file.read()
    except OSError:
        return False


def require_utf8_name(path: str | Path) -> None:
    """Raises MediaError for a name whose bytes are not UTF-8: OpenCV dies of it, and JSON cannot hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise MediaError(f"{str(path)!a}: the name is not UTF-8; rename the file") from error


def make_directory(path: str | Path) -> Path:
    """Makes a folder with its parents. Raises MediaError with the system's reason."""
    directory = Path(path)
    with writing(directory, "the folder cannot be made"):
        directory.mkdir(parents=True, exist_ok=True)
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


def try_lock(descriptor: int) -> bool | None:
    """Locks an open file or folder for this process: True; another one has it: False; nothing can be locked: None."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


@contextlib.contextmanager
def _temporary(final: Path, folder: bool = False) -> Iterator[tuple[Path, int]]:
    """A temporary file or folder, and the open descriptor that holds its lock."""
    remove_leftovers(final.parent)
    temporary, lock = _reserved(final, folder)
    try:
        yield temporary, lock
    finally:
        if os.path.lexists(temporary):
            _remove(temporary)
        os.close(lock)


def _reserved(final: Path, folder: bool) -> tuple[Path, int]:
    """A new temporary file or folder beside `final`, and the descriptor that holds its lock."""
    suffix = "" if folder else final.suffix
    stem = final.name.removesuffix(suffix).encode()[:220].decode(errors="ignore")  # names may have 255 bytes
    while True:
        temporary = final.with_name(f".{stem}.{secrets.token_hex(4)}.part{suffix}")
        if folder:
            temporary.mkdir()
        lock = os.open(temporary, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # somebody may have taken it for a leftover before it was locked
        if try_lock(lock) is not False and os.path.lexists(temporary):
            return temporary, lock
        os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_if_dead(path: Path, final: Path, state: str) -> None:
    with contextlib.suppress(OSError):
        lock = os.open(path, os.O_RDONLY)
        try:
            if try_lock(lock) is not True:
                return
            if state == "old" and not final.exists():
                os.replace(path, final)
            else:
                _remove(path)
        finally:
            os.close(lock)
