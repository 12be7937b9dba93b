"""G: an identity map and a style make one frame; images RGB in [-1, 1]."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from models.networks.layers import EqualLinear, StyledConv, ToRGB

# channels up to a resolution (pixels), as in StyleGAN2's larger configuration
_CHANNEL_TABLE = ((64, 512), (128, 256), (256, 128), (512, 64), (1024, 32))


def resolutions(image_size: int) -> list[int]:
    """Pixel sizes from the smallest map to the image: 7, 14 ... 224, or 4, 8 ... for a power of two.

    >>> resolutions(56)
    [7, 14, 28, 56]
    """
    sizes = [image_size]
    while sizes[0] % 2 == 0 and sizes[0] > 4:
        sizes.insert(0, sizes[0] // 2)
    return sizes


def default_channels(image_size: int) -> tuple[int, ...]:
    """StyleGAN2's channel counts for `resolutions(image_size)`."""
    return tuple(next(c for limit, c in _CHANNEL_TABLE if size <= limit) for size in resolutions(image_size))


class ConstantInput(nn.Module):
    """The learned start map, for generation without an identity map."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, size, size))

    def forward(self, batch: int) -> Tensor:
        return self.input.expand(batch, -1, -1, -1)


class Generator(nn.Module):
    """StyleGAN2 with skip connections to RGB.

    Args:
        image_size: pixels, 7*2^k or 4*2^k.
        channels: per resolution, from the smallest; None takes StyleGAN2's table.
        input_channels: of the identity map.
        mapping_layers: of the mapping network, whose weights are in the checkpoints; it is never run.
        skips: channels of `IdentityEncoder` that are added at the second, third ... resolution; none are published.

    Source: Karras et al. 2020; Zhou et al. 2021, section 3.4.
    """

    def __init__(
        self,
        image_size: int = 224,
        style_dim: int = 2560,
        channels: Sequence[int] | None = None,
        input_channels: int = 512,
        mapping_layers: int = 8,
        skips: Sequence[int] = (),
    ) -> None:
        super().__init__()
        sizes = resolutions(image_size)
        channels = tuple(channels) if channels is not None else default_channels(image_size)
        self.image_size = image_size
        self.checkpointing = False  # compute activations again in backward instead of keeping them
        # (H, W) of every layer's noise: one at the smallest resolution, two at each further one
        self.noise_sizes = [sizes[0]] + [size for size in sizes[1:] for _ in range(2)]

        mapping = [EqualLinear(style_dim, style_dim, lr_multiplier=0.01) for _ in range(mapping_layers)]
        self.style = nn.Sequential(nn.Identity(), *mapping)  # published keys count a layer without weights before them
        self.input = ConstantInput(input_channels, sizes[0])
        self.conv1 = StyledConv(input_channels, channels[0], style_dim)
        self.to_rgb1 = ToRGB(channels[0], style_dim, upsample=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for below, here in itertools.pairwise(channels):
            self.convs.append(StyledConv(below, here, style_dim, upsample=True))
            self.convs.append(StyledConv(here, here, style_dim))
            self.to_rgbs.append(ToRGB(here, style_dim))
        self.skips = nn.ModuleList()
        for given, here in zip(skips, channels[1:], strict=False):
            skip = nn.Conv2d(given, here, 1)
            nn.init.zeros_(skip.weight)  # what G makes does not change until it has learned to use them
            nn.init.zeros_(cast(Tensor, skip.bias))
            self.skips.append(skip)
        # channels of the map: those it starts from, and what belongs to each skip, folded
        self.map_parts = [input_channels, *(given * 4**level for level, given in enumerate(skips, start=1))]
        self.noises = nn.Module()
        for layer, size in enumerate(self.noise_sizes):
            self.noises.register_buffer(f"noise_{layer}", torch.randn(1, 1, size, size))

    def stored_noise(self) -> list[Tensor]:
        """The noise images that came with the checkpoint, (1, 1, H, W) a layer."""
        return [getattr(self.noises, f"noise_{layer}") for layer in range(len(self.noise_sizes))]

    def forward(self, identity_map: Tensor | None, style: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Makes images.

        Args:
            identity_map: (B, input_channels, s, s) with s the smallest resolution, or with folded skips behind those
                channels; None starts from the constant.
            style: (B, style_dim).
            noise: one (B or 1, 1, H, W) image per layer, or None for no noise.

        Returns:
            (B, 3, image_size, image_size) in [-1, 1], RGB.
        """
        layer_noise = list(noise) if noise is not None else [None] * len(self.noise_sizes)
        x, skipped = self.unfold(identity_map if identity_map is not None else self.input(style.shape[0]))
        x = self.conv1(x, style, layer_noise[0])  # (B, input_channels, s, s) -> (B, channels[0], s, s)
        image = self.to_rgb1(x, style)
        for level in range(len(self.to_rgbs)):
            noises = layer_noise[2 * level + 1 : 2 * level + 3]
            if self.checkpointing and torch.is_grad_enabled():
                x, image = checkpoint(self._level, level, x, image, style, skipped[level], *noises, use_reentrant=False)
            else:
                x, image = self._level(level, x, image, style, skipped[level], *noises)
        return torch.tanh(image)

    def unfold(self, identity_map: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """What G starts from, (B, input_channels, s, s), and what each further resolution adds, (B, C, s', s')."""
        skipped: list[Tensor | None] = [None] * len(self.to_rgbs)
        if not self.skips or identity_map.shape[1] == self.map_parts[0]:
            return identity_map, skipped
        start, *folded = identity_map.split(self.map_parts, dim=1)
        for level, skip in enumerate(self.skips):
            skipped[level] = skip(F.pixel_shuffle(folded[level], 2 ** (level + 1)))
        return start, skipped

    def _level(
        self, level: int, x: Tensor, image: Tensor, style: Tensor, skipped: Tensor | None, first: Tensor | None,
        second: Tensor | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """One resolution: (B, C, s, s) and (B, 3, s, s) -> both twice the size."""
        x = self.convs[2 * level](x, style, first)
        if skipped is not None:
            x = x + skipped
        x = self.convs[2 * level + 1](x, style, second)
        return x, self.to_rgbs[level](x, style, image)
