"""Weights that depend only on key, shape and seed, so that figures can be compared without a checkpoint.

The rule is that of the reference figures; every tensor is drawn by a generator of its own.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch


def seeded_rng(tag: str, seed: int) -> np.random.Generator:
    """The generator that belongs to a tag, e.g. `image`, or to a state-dict key."""
    return np.random.default_rng(zlib.crc32(f"{seed}:{tag}".encode()))


def seeded_tensor(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The float64 values that stand under `key` in a seeded state dict."""
    rng = seeded_rng(key, seed)
    normal = rng.standard_normal(shape)
    leaf = key.rsplit(".", maxsplit=1)[-1]
    if leaf == "running_var":
        return 0.75 + 0.5 * rng.random(shape)
    if leaf == "running_mean" or key.endswith("noise.weight"):
        return 0.1 * normal
    if len(shape) == 5:
        return 0.2 * normal if key.startswith("to_rgb") else normal
    if key.startswith("noises.") or key == "input.input" or "modulation.weight" in key:
        return normal
    if key.startswith("style.") and leaf == "weight":
        return normal
    if "modulation.bias" in key:
        return 1 + 0.1 * normal
    if leaf in ("weight", "weight_orig"):
        return normal / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 1 + 0.1 * normal
    return 0.1 * normal


@torch.no_grad()
def fill(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Overwrites parameters and floating-point buffers, the fixed blur kernels excepted; returns the module."""
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not key.endswith("kernel"):
            tensor.copy_(torch.from_numpy(np.array(seeded_tensor(key, tuple(tensor.shape), seed))))
    return module
