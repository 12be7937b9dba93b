"""Locks of folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from util import locks
from util.locks import FolderInUseError, folder_lock

_HOLDER = """
import sys, time
from pathlib import Path
from util.locks import folder_lock
with folder_lock(Path(sys.argv[1]), "--results_dir"):
    print("ready", flush=True)
    time.sleep(60)
"""


def _holder(folder: Path) -> subprocess.Popen[str]:
    root = Path(locks.__file__).resolve().parents[1]
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, folder], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_folder_in_use_is_refused_with_who_and_since_when(tmp_path: Path) -> None:
    holder = _holder(tmp_path / "results")
    try:
        with (
            pytest.raises(FolderInUseError, match=rf"--results_dir .*in use by process {holder.pid} on .* since 20"),
            folder_lock(tmp_path / "results", "--results_dir"),
        ):
            pass
    finally:
        holder.kill()
        holder.wait()


def test_lock_of_a_killed_process_does_not_count_and_nothing_is_left(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    holder.kill()
    holder.wait()
    with folder_lock(tmp_path, "--results_dir"):
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def test_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path, "--results_dir"):
        raise ZeroDivisionError
    with folder_lock(tmp_path, "--results_dir"):
        pass
    assert os.listdir(tmp_path) == []
