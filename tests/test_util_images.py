"""Value ranges of pictures."""

from __future__ import annotations

import numpy as np
import torch

from util.images import tensor_to_uint8, tensor_to_unit_range, to_uint8, to_unit_range


def test_unit_range_and_back_is_the_identity_for_all_bytes() -> None:
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = to_unit_range(values)
    assert tensor.shape == (3, 16, 16)
    assert tensor.min() == -1
    assert tensor.max() == 1
    assert np.abs(to_uint8(tensor).astype(int) - values).max() <= 1  # truncation, as published


def test_to_uint8_clips_and_truncates() -> None:
    image = np.array([-2.0, -1.0, 0.0, 0.999, 1.0, 3.0], np.float32).reshape(1, 1, 6).repeat(3, axis=0)
    assert to_uint8(image)[0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_tensor_forms_give_the_values_of_the_array_forms() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    images = to_unit_range(pixels)
    assert images.shape == (2, 3, 5, 7)
    assert np.array_equal(tensor_to_unit_range(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy(), images)
    noisy = images + np.random.default_rng(1).normal(0, 0.2, images.shape).astype(np.float32)
    assert np.array_equal(tensor_to_uint8(torch.from_numpy(noisy)).numpy(), to_uint8(noisy))
