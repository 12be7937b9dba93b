"""Logging for the entry points: plain lines on stderr that live beside tqdm bars, and 'say it once' warnings."""

from __future__ import annotations

import io
import logging
import sys

_said: set[str] = set()


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
    root.handlers[:] = [_TqdmHandler(prefix)]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for noisy in ("PIL", "matplotlib", "numba", "h5py", "urllib3", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def warn_once(logger: logging.Logger, message: str) -> None:
    """Logs a warning the first time this very message comes up in the process."""
    if message not in _said:
        _said.add(message)
        logger.warning(message)
