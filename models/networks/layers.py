"""Building blocks of the style-based generator; images (B, C, H, W), styles (B, style_dim).

Source: Karras et al. 2020 (StyleGAN2). Weights keep the layout of the checkpoints; the modulation is applied to the
activations instead of to a copy of the weights per sample, which is the same sum in another order:
`conv(x, W * s) * d == conv(x * s, W) * d`.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)
_SLOPE, _GAIN = 0.2, math.sqrt(2)
_DEMODULATION_EPS = 1e-8


def scaled_leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2, times sqrt 2 to keep the variance."""
    return F.leaky_relu(x, _SLOPE) * _GAIN


def resize_to(images: Tensor, size: int | None) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size) by the mean over areas; an image of that size, or None, stays as it is."""
    if size is None or images.shape[-1] == size:
        return images
    return F.adaptive_avg_pool2d(images, size)


def _single_precision(device_type: str) -> AbstractContextManager[object]:
    if device_type == "meta":  # shapes only; autocast does not know it
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


class PixelNorm(nn.Module):
    """Scales every row to unit mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: stored weights are scaled at run time.

    Args:
        in_dim, out_dim: features.
        bias_init: initial value of every bias.
        lr_multiplier: learning-rate multiplier of weight and bias.
        activate: scaled leaky ReLU behind it.
    """

    def __init__(
        self, in_dim: int, out_dim: int, bias_init: float = 0.0, lr_multiplier: float = 1.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_dim,), float(bias_init)))
        self.scale = lr_multiplier / math.sqrt(in_dim)
        self.lr_multiplier = lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x * self.scale, self.weight, self.bias * self.lr_multiplier)
        return scaled_leaky_relu(y) if self.activate else y


class FixedFilter(nn.Module):
    """Holds the [1, 3, 3, 1] filter as the checkpoints do: a (4, 4) buffer `kernel`, gain included."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor(BLUR_TAPS)
        kernel = torch.outer(taps, taps)
        self.register_buffer("kernel", kernel / kernel.sum() * 4)  # gain 4: every second sample was a zero

    def taps(self) -> Tensor:
        """(4,) the one-dimensional filter whose outer product is `kernel`."""
        return self.kernel.sum(dim=0) / self.kernel.sum().sqrt()


class Blur(FixedFilter):
    """Smooths what a stride-2 transposed convolution leaves: (B, C, 2H+1, 2W+1) -> (B, C, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        taps = self.taps().to(x.dtype)
        x = F.conv2d(x, taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1), padding=(1, 0), groups=channels)
        return F.conv2d(x, taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4), padding=(0, 1), groups=channels)


class Upsample(FixedFilter):
    """Doubles an image with the same filter: (B, C, H, W) -> (B, C, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        weight = self.kernel.to(x.dtype).expand(channels, 1, 4, 4)
        return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels are scaled by a style, with optional demodulation and upsampling.

    Args:
        in_channels, out_channels, kernel_size: of the convolution.
        style_dim: length of the style.
        demodulate: scale every output channel to unit expected variance.
        upsample: stride-2 transposed convolution followed by the blur.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_dim: int,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, kernel_size, kernel_size))
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)
        if upsample:
            self.blur = Blur()
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2
        self.demodulate = demodulate
        self.upsample = upsample

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        weight = self.weight[0]
        modulation = self.modulation(style) * self.scale  # (B, in)
        x = x * modulation[:, :, None, None].to(x.dtype)
        if self.upsample:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # (B, out, 2H+1, 2W+1)
            x = self.blur(x)  # (B, out, 2H, 2W)
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            with _single_precision(x.device.type):  # 1e-8 is nothing in half precision
                energy = weight.float().square().sum(dim=(2, 3))  # (out, in)
                factor = torch.rsqrt(modulation.float().square() @ energy.t() + _DEMODULATION_EPS)
            x = x * factor[:, :, None, None].to(x.dtype)
        return x


class NoiseInjection(nn.Module):
    """Adds one weight times a (B or 1, 1, H, W) noise image to all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        return x if noise is None else x + self.weight * noise.to(x.dtype)


class BiasedActivation(nn.Module):
    """Adds a bias per channel, then the scaled leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return scaled_leaky_relu(x + self.bias)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and activation."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, style_dim, upsample=upsample)
        self.noise = NoiseInjection()
        self.activate = BiasedActivation(out_channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        return self.activate(self.noise(self.conv(x, style), noise))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three channels, added to the upsampled image of the resolution below."""

    def __init__(self, in_channels: int, style_dim: int, upsample: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if upsample:
            self.upsample = Upsample()
        self.conv = ModulatedConv2d(in_channels, 3, 1, style_dim, demodulate=False)

    def forward(self, x: Tensor, style: Tensor, image: Tensor | None = None) -> Tensor:
        rgb = self.conv(x, style) + self.bias
        return rgb if image is None else rgb + self.upsample(image)
