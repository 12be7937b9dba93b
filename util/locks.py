"""One run a folder: a lock that says who has it, and that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from util.errors import PcavsError
from util.files import make_directory, try_lock, writing


class FolderInUseError(PcavsError):
    """Another process writes into the folder; says which, and since when."""


@contextlib.contextmanager
def folder_lock(folder: Path, flag: str) -> Iterator[None]:
    """Makes a folder and keeps it for this process until the block ends. FolderInUseError: another process has it."""
    path = make_directory(folder) / ".in_use"
    with writing(folder):
        lock = _taken(path)
        if lock is None:
            who = path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
            raise FolderInUseError(f"{flag} {folder}: is in use by {who}; wait for it, or choose another folder")
        now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        os.truncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {platform.node()} since {now}\n".encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _taken(path: Path) -> int | None:
    """The descriptor of the locked file, or None when another process has it."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if try_lock(lock) is False:
            os.close(lock)
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)  # its last holder has just removed it
