"""`latest_state.pth`, which a run goes on from, and what happens to older `<epoch>_net_<letter>.pth`.

The state file holds everything itself (weights before averaging, optimisers, step), so that a run that is killed
between two files still goes on from one consistent moment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from options.config import STATE_FILE
from util.checkpoint import write_failure
from util.errors import CheckpointError
from util.files import atomic_path


def save_state(directory: Path, state: Mapping[str, Any]) -> None:
    """Writes the state file atomically. Raises CheckpointError when the disk refuses; the older one stays."""
    path = directory / STATE_FILE
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave the new name with nothing behind it
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: cannot be written: {write_failure(error)}; the older state is still there"
        ) from error


def read_state(directory: Path) -> dict[str, Any]:
    """Reads the state file, on the CPU, without running code in it; CheckpointError if it is missing or damaged."""
    path = directory / STATE_FILE
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; nothing to --continue_train, leave the flag out to start")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make the unpickler raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: damaged ({reason}); start again from --load_pretrain {directory}") from error


def drop_old_epochs(directory: Path, keep: int) -> None:
    """Deletes the weights of all numbered epochs but the newest `keep`."""
    pattern = re.compile(r"(\d+)_net_\w+\.pth")
    numbered = [(int(match[1]), path) for path in directory.iterdir() if (match := pattern.fullmatch(path.name))]
    kept = sorted({epoch for epoch, _ in numbered})[-keep:]
    for epoch, path in numbered:
        if epoch not in kept:
            path.unlink(missing_ok=True)
