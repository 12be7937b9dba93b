"""What a run leaves on disk: `<epoch>_net_<letter>.pth` for inference and `latest_state.pth` to go on from.

The state file holds everything itself (weights before averaging, optimisers, step), so that a run that is killed
between two files still goes on from one consistent moment.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from options.config import NetworkConfig, to_plain
from util.checkpoint import network_path, save_state_dict
from util.errors import CheckpointError
from util.files import atomic_path, make_directory, write_json

logger = logging.getLogger(__name__)

STATE_FILE = "latest_state.pth"


def save_networks(
    directory: Path,
    epoch: str,
    networks: Mapping[str, nn.Module],
    averages: Mapping[str, Mapping[str, Tensor]],
    sizes: NetworkConfig,
) -> None:
    """Writes the published layout and the `network.json` that describes it.

    Args:
        directory: of the run.
        epoch: first part of the names, `latest` or a number.
        networks: by letter.
        averages: moving averages of parameters by letter and name; they take the place of the parameters.
        sizes: of the networks.

    Raises:
        CheckpointError: the disk refuses.
    """
    make_directory(directory)
    write_json(directory / "network.json", to_plain(sizes))
    for letter, network in networks.items():
        save_state_dict({**network.state_dict(), **averages.get(letter, {})}, network_path(directory, epoch, letter))


def save_state(directory: Path, state: Mapping[str, Any]) -> None:
    """Writes the state file atomically. Raises CheckpointError when the disk refuses; the older one stays."""
    make_directory(directory)
    path = directory / STATE_FILE
    try:
        with atomic_path(path) as temporary:
            torch.save(dict(state), temporary)
            with temporary.open("rb+") as file:  # a power cut must not leave the new name with nothing behind it
                os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}; the older state is still there") from error


def read_state(directory: Path) -> dict[str, Any]:
    """Reads the state file, on the CPU, without running code in it.

    Raises:
        CheckpointError: missing or damaged.
    """
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
