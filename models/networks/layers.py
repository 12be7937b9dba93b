"""Building blocks of the style-based generator; images (B, C, H, W), styles (B, style_dim).

Source: Karras et al. 2020 (StyleGAN2). Weights keep the layout of the checkpoints; the modulation is applied to the
activations instead of to a copy of the weights per sample, which is the same sum in another order:
`conv(x, W * s) * d == conv(x * s, W) * d`.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SLOPE, GAIN = 0.2, math.sqrt(2)  # of the leaky ReLU; the gain keeps the variance
DEMODULATION_EPS = 1e-8


def resize_to(images: Tensor, size: int | None) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size) by the mean over areas; an image of that size, or None, stays as it is."""
    if size is None or images.shape[-1] == size:
        return images
    return F.adaptive_avg_pool2d(images, size)


class _ScaleAndShift(torch.autograd.Function):
    """`x * factor + shift` per channel, with the fewest passes over memory in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, shift: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, factor)
        ctx.shift_dtype = None if shift is None else shift.dtype
        if shift is None:
            return x * _rows(factor, x)
        return torch.addcmul(_rows(shift[None], x), x, _rows(factor, x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, factor = ctx.saved_tensors
        needs_x, needs_factor, needs_shift = ctx.needs_input_grad
        for_x = grad * _rows(factor, grad) if needs_x else None
        for_factor = (grad * x).sum(dim=(2, 3)).to(factor.dtype) if needs_factor else None
        for_shift = grad.sum(dim=(0, 2, 3)).to(ctx.shift_dtype) if needs_shift else None
        return for_x, for_factor, for_shift


def scale_and_shift(x: Tensor, factor: Tensor, shift: Tensor | None = None) -> Tensor:
    """(B, C, H, W) scaled by a factor (B, C) and shifted by (C,), if anything; x's type and layout stay."""
    return _ScaleAndShift.apply(x, factor, shift)


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """(B or 1, C) -> (B or 1, C, 1, W) in the type of `like`.

    In channels-last layout whole rows lie in one piece then, which is several times faster than C numbers at a time.
    """
    rows = values.to(like.dtype)[:, :, None, None].expand(-1, -1, 1, like.shape[3])
    return rows.contiguous(memory_format=torch.channels_last)


def _single_precision(device_type: str) -> AbstractContextManager[object]:
    if device_type == "meta":  # shapes only; autocast does not know it
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: stored weights are scaled at run time."""

    def __init__(self, in_dim: int, out_dim: int, bias_init: float = 0.0, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_dim,), float(bias_init)))
        self.scale = lr_multiplier / math.sqrt(in_dim)
        self.lr_multiplier = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.scale, self.weight, self.bias * self.lr_multiplier)


class FixedFilter(nn.Module):
    """Holds the [1, 3, 3, 1] filter of each channel as the checkpoints do: a (4, 4) buffer `kernel`, gain included."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        taps = torch.tensor((1.0, 3.0, 3.0, 1.0))
        kernel = torch.outer(taps, taps)
        self.register_buffer("kernel", kernel / kernel.sum() * 4)  # gain 4: every second sample was a zero

    def taps(self) -> Tensor:
        """(4,) the one-dimensional filter whose outer product is `kernel`."""
        return self.kernel.sum(dim=0) / self.kernel.sum().sqrt()

    def _weight(self, dtype: torch.dtype) -> Tensor:
        return self.kernel.to(dtype).expand(self.channels, 1, 4, 4)


class Blur(FixedFilter):
    """Smooths what a stride-2 transposed convolution leaves: (B, C, 2H+1, 2W+1) -> (B, C, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        # all sixteen taps at once: in channels-last layout one pass over memory costs more than the sums saved by two
        return F.conv2d(x, self._weight(x.dtype), padding=1, groups=self.channels)


class Upsample(FixedFilter):
    """Doubles an image with the same filter: (B, C, H, W) -> (B, C, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self._weight(x.dtype), stride=2, padding=1, groups=self.channels)


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels are scaled by a style; upsampling is a transposed one followed by the blur."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, style_dim: int, upsample: bool = False
    ) -> None:
        super().__init__()
        weight = torch.randn(out_channels, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last)[None])
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)
        if upsample:
            self.blur = Blur(out_channels)
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2
        self.upsample = upsample

    def modulate(self, style: Tensor) -> Tensor:
        """(B, style_dim) -> (B, in_channels), what the input channels are scaled with."""
        return self.modulation(style) * self.scale

    def demodulation(self, modulation: Tensor) -> Tensor:
        """(B, in_channels) -> (B, out_channels), what brings every output channel to unit expected variance."""
        with _single_precision(modulation.device.type):  # 1e-8 is nothing in half precision
            energy = self.weight[0].float().square().sum(dim=(2, 3))  # (out, in)
            return torch.rsqrt(modulation.float().square() @ energy.t() + DEMODULATION_EPS)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W), or twice the size; not demodulated."""
        weight = self.weight[0]
        x = scale_and_shift(x, modulation)
        if self.upsample:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # (B, out, 2H+1, 2W+1)
            return self.blur(x)  # (B, out, 2H, 2W)
        return F.conv2d(x, weight, padding=self.padding)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, demodulation, noise, bias and scaled leaky ReLU.

    What follows the convolution passes over memory as seldom as it can: the gain of the activation goes into the small
    factors before it, since `gain * leaky(x) == leaky(gain * x)`.
    """

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, style_dim, upsample=upsample)
        # the names are keys of the checkpoints
        self.noise = nn.ParameterDict({"weight": nn.Parameter(torch.zeros(1))})
        self.activate = nn.ParameterDict({"bias": nn.Parameter(torch.zeros(1, out_channels, 1, 1))})

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        modulation = self.conv.modulate(style)
        factor = self.conv.demodulation(modulation) * GAIN  # (B, out)
        x = scale_and_shift(self.conv(x, modulation), factor, self.activate["bias"][0, :, 0, 0] * GAIN)
        if noise is not None:
            x = x.add_(noise.to(x.dtype) * (self.noise["weight"] * GAIN).to(x.dtype))
        return F.leaky_relu_(x, SLOPE)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three channels, added to the upsampled image of the resolution below.

    With three output channels the weights of every sample are smaller than its activations, so here they are what is
    modulated, and the convolution is a product of matrices.
    """

    def __init__(self, in_channels: int, style_dim: int, upsample: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if upsample:
            self.upsample = Upsample(3)
        self.conv = ModulatedConv2d(in_channels, 3, 1, style_dim)

    def forward(self, x: Tensor, style: Tensor, image: Tensor | None = None) -> Tensor:
        weights = self.conv.weight[0, :, :, 0, 0] * self.conv.modulate(style)[:, None]  # (B, 3, in)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, in, H, W) -> (B, H*W, in)
        rgb = (pixels @ weights.to(x.dtype).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[-2:]) + self.bias
        return rgb if image is None else rgb + self.upsample(image)
