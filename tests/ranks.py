"""Two ranks for a test, started as train.py is on several cards: by torch's launcher, which keeps the store.

Unlike `torch.multiprocessing.spawn` this tells what a rank printed that a signal has killed, and ranks end as those of
train.py do (see util.cli).

    python -m torch.distributed.run ... -m tests.ranks tests.test_train_distributed:save_gradients sync /tmp/folder
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import torch

from util.cli import exit_process
from util.distributed import init_process_group, ranks_from_environment, shutdown

ROOT = Path(__file__).resolve().parents[1]


def run_ranks(target: str, *arguments: str, world_size: int = 2) -> None:
    """Runs `module:function` with a Ranks and `arguments` in every rank, joined over gloo, one thread each.

    Raises:
        AssertionError: a rank failed; with what the ranks printed, and the stack of one that was killed.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world_size)]
    hidden = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.ranks", target, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def _main(target: str, *arguments: str) -> None:
    torch.set_num_threads(1)
    module, function = target.split(":")
    ranks = ranks_from_environment()
    init_process_group(ranks, torch.device("cpu"), timeout_s=120)
    getattr(importlib.import_module(module), function)(ranks, *arguments)
    shutdown()
    exit_process(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
