"""G as the papers write it: per-sample weights in grouped convolutions, the blur as a layer of its own.

The slow form of `models.networks.generator`, for tests and scripts/benchmark.py to compare with: it takes a generator's
weights and gives the same images.

Source: Karras et al. 2020 (StyleGAN2), section 2.2 and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.generator import Generator
from models.networks.layers import ModulatedConv2d, StyledConv, ToRGB, Upsample


def modulated_conv(layer: ModulatedConv2d, x: Tensor, style: Tensor, demodulate: bool) -> Tensor:
    """(B, in, H, W) -> (B, out, H, W), or twice the size where the layer upsamples."""
    batch, channels, height, width = x.shape
    weight = layer.scale * layer.weight * layer.modulation(style)[:, None, :, None, None]  # (B, out, in, k, k)
    if demodulate:
        weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    out = weight.shape[1]
    x = x.reshape(1, batch * channels, height, width)
    if not layer.upsample:
        y = F.conv2d(x, weight.flatten(0, 1), padding=layer.padding, groups=batch)
        return y.view(batch, out, height, width)
    y = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    y = F.pad(y, (1, 1, 1, 1)).view(batch * out, 1, 2 * height + 3, 2 * width + 3)
    return F.conv2d(y, layer.blur.kernel[None, None]).view(batch, out, 2 * height, 2 * width)


def styled_conv(layer: StyledConv, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
    """Modulated and demodulated convolution, noise, bias, leaky ReLU with slope 0.2 and gain sqrt 2."""
    x = modulated_conv(layer.conv, x, style, demodulate=True)
    if noise is not None:
        x = x + layer.noise["weight"] * noise
    return F.leaky_relu(x + layer.activate["bias"], 0.2) * math.sqrt(2)


def to_rgb(layer: ToRGB, x: Tensor, style: Tensor, image: Tensor | None = None) -> Tensor:
    """Modulated 1x1 convolution and bias, added to the upsampled image of the resolution below."""
    rgb = modulated_conv(layer.conv, x, style, demodulate=False) + layer.bias
    return rgb if image is None else rgb + upsample(layer.upsample, image)


def upsample(layer: Upsample, image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): a zero behind every sample, then the filter."""
    batch, channels, height, width = image.shape
    spread = image.new_zeros(batch * channels, 1, 2 * height, 2 * width)
    spread[..., ::2, ::2] = image.reshape(batch * channels, 1, height, width)
    y = F.conv2d(F.pad(spread, (2, 1, 2, 1)), layer.kernel[None, None])
    return y.view(batch, channels, 2 * height, 2 * width)


def generate(
    generator: Generator, identity_map: Tensor | None, style: Tensor, noise: Sequence[Tensor] | None = None
) -> Tensor:
    """The images that `generator(identity_map, style, noise)` makes."""
    layers = list(noise) if noise is not None else [None] * len(generator.noise_sizes)
    x, skipped = generator.unfold(identity_map if identity_map is not None else generator.input(style.shape[0]))
    convolutions: Sequence[Any] = [generator.conv1, *generator.convs]
    colours: Sequence[Any] = [generator.to_rgb1, *generator.to_rgbs]
    image = None
    for number, (layer, layer_noise) in enumerate(zip(convolutions, layers, strict=True)):
        x = styled_conv(layer, x, style, layer_noise)
        if number % 2 == 0:  # behind the first convolution, then behind every second one
            image = to_rgb(colours[number // 2], x, style, image)
        else:
            added = skipped[number // 2]
            x = x if added is None else x + added
    assert image is not None
    return torch.tanh(image)
