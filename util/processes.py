"""How a process ends, and how its unfinished files are told from those of others."""

from __future__ import annotations

import atexit
import os
import platform
import re
import sys
from typing import NoReturn


def exit_process(code: int) -> NoReturn:
    """Ends the process with an exit code; of a rank that others wait for, at once.

    What torch leaves running for the exchange of tensors may abort the interpreter on its way out ("terminate called
    without an active exception", seen on a busy machine) when everything is saved already. The launcher would take that
    for a failure and stop the other ranks. So a rank runs Python's own exit functions, writes out what it has printed,
    and leaves without those of the libraries.
    """
    if "RANK" in os.environ:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def process_mark() -> str:
    """`HOST-PROCESS`, for the names of files that this process alone writes."""
    return f"{_host()}-{os.getpid()}"


def is_left_over(mark: str) -> bool:
    """Whether a `process_mark` is that of a process of this machine that has ended."""
    host, _, process = mark.rpartition("-")
    return host == _host() and not _is_running(int(process))


def _host() -> str:
    return re.sub(r"[^\w-]", "_", platform.node())[:40] or "host"


def _is_running(process: int) -> bool:
    if os.name == "nt":  # there signal 0 is no question but Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True
