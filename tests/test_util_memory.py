"""What the process tells its allocator."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from util.memory import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
# page faults of filling 4 MB a hundred times
COUNT_FAULTS = """
import resource, sys
from util.memory import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    first, second = bytearray(4 << 20), bytearray(4 << 20)
    del first, second
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is about glibc")
def test_freed_memory_is_taken_again_without_page_faults() -> None:
    faults = {}
    for mode in ("keep", "default"):
        command = [sys.executable, "-c", COUNT_FAULTS, mode]
        faults[mode] = int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    assert faults["keep"] <= 2 * (8 << 20) // 4096 < faults["default"]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    keep_freed_memory()
