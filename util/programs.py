"""Starts programs that may or may not be installed; ffmpeg has a module of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from util.errors import MediaError
from util.ffmpeg import last_lines


def run_program(command: Sequence[str | Path], doing: str, stdin: bytes = b"", timeout_s: float = 120.0) -> bytes:
    """Runs a program, never through a shell, and returns its standard output.

    `doing` is for the error, e.g. `speaking with flite rms`. Raises MediaError: it cannot be started, takes longer than
    `timeout_s`, or fails; with the last lines it printed.
    """
    try:
        done = subprocess.run([*map(str, command)], input=stdin, capture_output=True, check=False, timeout=timeout_s)
    except OSError as error:
        raise MediaError(f"{doing}: {command[0]} cannot be started: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise MediaError(f"{doing}: {command[0]} took longer than {timeout_s:g} s and was stopped") from error
    if done.returncode != 0:
        raise MediaError(f"{doing}: {command[0]} ended with {done.returncode}: {last_lines(done.stderr)}")
    return done.stdout
