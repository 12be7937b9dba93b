"""Pictures as bytes and as what the networks see: uint8 in [0, 255] and float32 in [-1, 1], numpy or torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def to_unit_range(image_rgb: np.ndarray) -> np.ndarray:
    """(..., H, W, 3) uint8 RGB -> (..., 3, H, W) float32 in [-1, 1]."""
    planes = np.moveaxis(image_rgb, -1, -3)
    return np.ascontiguousarray(planes, dtype=np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """(..., 3, H, W) float in [-1, 1] RGB -> (..., H, W, 3) uint8 RGB, truncated as the published code does."""
    scaled = (image.astype(np.float32) + np.float32(1)) / np.float32(2) * np.float32(255)
    return np.moveaxis(np.clip(scaled, 0, 255).astype(np.uint8), -3, -1)


def tensor_to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 pixels of any shape -> float32 in [-1, 1], on the same device; the values of `to_unit_range`."""
    return pixels.float() / 127.5 - 1


def tensor_to_uint8(images: Tensor) -> Tensor:
    """(B, 3, H, W) float in [-1, 1] -> (B, H, W, 3) uint8, on the same device; the values of `to_uint8`."""
    import torch

    scaled = (images.float().permute(0, 2, 3, 1) + 1).div_(2).mul_(255)
    return scaled.clamp_(0, 255).to(torch.uint8).contiguous()
