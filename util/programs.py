"""Starts programs that may or may not be installed; ffmpeg has a module of its own."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from util.errors import MediaError
from util.ffmpeg import last_lines
from util.files import try_lock


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


def start_program(command: Sequence[str | Path], *, log: Path, lock: Path) -> int:
    """Starts a program that outlives this process, in a session of its own, and returns its process id.

    What it prints goes into the new file `log`. `lock` is made, and locked by the program and what it starts until all
    of them have ended. Raises MediaError: it cannot be started.
    """
    with lock.open("wb") as held:
        try_lock(held.fileno())
        try:
            with log.open("xb") as output:
                started = subprocess.Popen(
                    [*map(str, command)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(held.fileno(),),
                )
        except OSError as error:
            raise MediaError(f"{command[0]} cannot be started: {error.strerror or error}") from error
    threading.Thread(target=started.wait, daemon=True).start()  # no zombie is left
    return started.pid
