"""Logging for the entry points: plain lines on stderr that live beside tqdm bars, and 'say it once' warnings."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from util.errors import printable

_LINE_EVERY_S = 10.0
Item = TypeVar("Item")
_said: set[str] = set()


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)  # a name of a file may hold what moves a terminal's cursor
        return super().formatMessage(record)


class _TqdmHandler(logging.Handler):
    """Writes through tqdm, so that a message does not tear a progress bar."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        tqdm.write(f"{self._prefix}{level}{self.format(record)}", file=sys.stderr)


def setup_logging(verbose: bool = False, prefix: str = "") -> None:
    """Configures the root logger once per process; `prefix` tells ranks apart."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does it: no name of a file may end a program
        sys.stdout.reconfigure(errors="backslashreplace")
    root = logging.getLogger()
    handler = _TqdmHandler(prefix)
    handler.setFormatter(_Formatter())
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for noisy in ("PIL", "matplotlib", "numba", "h5py", "urllib3", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def warn_once(logger: logging.Logger, message: str) -> None:
    """Logs a warning the first time this very message comes up in the process."""
    if message not in _said:
        _said.add(message)
        logger.warning(message)


def counted(count: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def progress(items: Iterable[Item] | None = None, **settings: Any) -> Any:
    """A tqdm bar with tqdm's settings; in a log file it is a line every ten seconds instead."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        settings = {"mininterval": _LINE_EVERY_S, "delay": _LINE_EVERY_S, "file": _Lines(), "ncols": 100} | settings
    return tqdm(items, **settings)


class _Lines(io.TextIOBase):
    """Makes lines of what tqdm writes over and over again."""

    def write(self, text: str) -> int:
        if shown := text.strip():
            sys.stderr.write(f"{shown}\n")
        return len(text)
