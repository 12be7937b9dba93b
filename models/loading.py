"""The networks of inference, built at the sizes of a NetworkConfig and filled from `<epoch>_net_<letter>.pth`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from models.registry import OPTIONAL_HEADS, build_network
from options.config import INFERENCE_LETTERS, NetworkConfig
from util.checkpoint import load_network, network_path, require_networks


def load_networks(
    directory: Path, epoch: str, config: NetworkConfig, letters: Sequence[str] = INFERENCE_LETTERS
) -> dict[str, nn.Module]:
    """Networks by letter, on the CPU, in training mode; their memory is that of the files."""
    require_networks(directory, epoch, letters)
    networks = {}
    for letter in letters:
        with _NoRandomWeights():
            network = build_network(letter, config)
        networks[letter] = network.to("meta")
        load_network(network, network_path(directory, epoch, letter), OPTIONAL_HEADS[letter])
    return networks


class _NoRandomWeights(TorchFunctionMode):
    """Leaves weights as the memory comes, for a file overwrites them.

    (Building on the meta device takes longer: the first sum there imports torch's compiler.)
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        draws = func in (torch.Tensor.normal_, torch.Tensor.uniform_)
        if draws or getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)
