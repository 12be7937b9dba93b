"""The end of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import atexit, ctypes
from util.processes import exit_process
libc = ctypes.CDLL(None)
libc.on_exit(libc.abort, None)  # a library that aborts on the way out
atexit.register(print, "saved")
print("done", end=" ")
exit_process(3)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="on_exit is glibc's")
@pytest.mark.parametrize(("rank", "code"), [("1", 3), (None, -6)])
def test_a_rank_ends_with_its_own_code_whatever_libraries_do_at_exit(rank: str | None, code: int):
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}
    environment |= {} if rank is None else {"RANK": rank}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    if rank is not None:
        assert done.stdout == "done saved\n"
