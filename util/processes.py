"""How a process ends."""

from __future__ import annotations

import atexit
import os
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
