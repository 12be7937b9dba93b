"""Convolutions of the prepared networks, in fp32 on the CPU; images are (H, W, C) where not said otherwise.

Two means: weights that oneDNN has brought into its own layout once instead of at every call, and Winograd's form of 3x3
filters, which takes 1.9 multiplications a value and input channel instead of 9.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Points of the polynomials by values a tile, infinity besides: of many sets the one with the least rounding
_POINTS = {
    4: (0, 1, -1, 2, Fraction(-1, 2)),
    8: (0, 1, -1, Fraction(2, 5), Fraction(-2, 5), Fraction(4, 3), Fraction(-4, 3), Fraction(5, 2), Fraction(-5, 2)),
}
_SMALLEST_SIDE, _FEWEST_CHANNELS = 28, 128  # below, what the transforms cost outweighs what they save
_FEWEST_BYTES, _MOST_BYTES = 4 << 20, 12 << 20  # of transformed tiles

Load = Callable[[slice, Tensor], object]
Finish = Callable[[slice, Tensor], object]


def available() -> bool:
    """Whether this torch has oneDNN and MKL, which everything here is made for."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    )


class PackedConv2d:
    """A convolution whose weights lie as oneDNN wants them for one input size; other sizes work, slower.

    Args:
        weight: (out, in / groups, kh, kw).
        size: (H, W) of the input.
        padding, stride, groups: of the convolution.
        batch: images at a time.
    """

    def __init__(
        self,
        weight: Tensor,
        size: Sequence[int],
        padding: Sequence[int] = (0, 0),
        stride: Sequence[int] = (1, 1),
        groups: int = 1,
        batch: int = 1,
    ) -> None:
        self.padding, self.stride, self.groups = list(padding), list(stride), groups
        input_size = [batch, weight.shape[1] * groups, *size]
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight  # torch's stub lacks the last argument
        self.weight = reorder(weight.detach().to_mkldnn(), self.padding, self.stride, [1, 1], groups, input_size)

    def __call__(self, x: Tensor, bias: Tensor | None = None, slope: float | None = None) -> Tensor:
        """(B, in, H, W), best channels last -> (B, out, H', W'), channels last.

        Args:
            bias: (out,).
            slope: of a leaky ReLU behind it; None for none.
        """
        activation, scalars = ("none", []) if slope is None else ("leaky_relu", [slope])
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, bias, self.padding, self.stride, [1, 1], self.groups, activation, scalars, ""
        )


def transforms(outputs: int, taps: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Toom and Cook's matrices for `outputs` values of a filter: `y = a @ ((g @ filter) * (b @ x))`, in float64.

    Returns:
        a (outputs, n), g (n, taps), b (n, n) with n = outputs + taps - 1; rows of b and columns of a have about unit
        norm, by powers of two.
    """
    points = [Fraction(point) for point in _POINTS[outputs]]
    a = [[point**power for point in points] + [Fraction(power == outputs - 1)] for power in range(outputs)]
    g, b = [], []
    for i, point in enumerate(points):
        others = points[:i] + points[i + 1 :]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        g.append([point**power / scale for power in range(taps)])
        b.append([*_polynomial(others), Fraction(0)])
    g.append([Fraction(power == taps - 1) for power in range(taps)])
    b.append(_polynomial(points))
    exact_a, exact_g, exact_b = (
        torch.tensor([[float(value) for value in row] for row in matrix], dtype=torch.float64) for matrix in (a, g, b)
    )
    of_a = torch.exp2(exact_a.norm(dim=0).log2().round())
    of_b = torch.exp2(exact_b.norm(dim=1).log2().round())
    return exact_a / of_a, exact_g * (of_a * of_b)[:, None], exact_b / of_b[:, None]


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the product of (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(root * c for c in coefficients), Fraction(0)]
        coefficients = [high - low for high, low in zip(shifted, scaled, strict=True)]
    return coefficients


class WinogradConv2d:
    """3x3 convolution with padding 1 in Winograd's form, on tiles 4 high and 4 or 8 wide.

    Works on columns of tiles, which stay in the cache from one step to the next: the transforms are small products of
    matrices, the products at all points one grouped 1x1 convolution. See Conv3x3 for `load` and `finish`.

    Args:
        weight: (out, in, 3, 3).
        height, width: of the image, multiples of 4.
    """

    def __init__(self, weight: Tensor, height: int, width: int) -> None:
        self.out_channels, self.in_channels = weight.shape[:2]
        self.height, self.width = height, width
        self.tile_height, self.tile_width = 4, 8 if width % 8 == 0 else 4
        self.rows = height // self.tile_height  # of tiles
        a, g, b = transforms(self.tile_height)
        a_across, g_across, b_across = transforms(self.tile_width)
        self.down, self.across = len(g), len(g_across)  # points
        points = self.down * self.across
        self.b, self.a = b.float().expand(self.rows, -1, -1), a.float().expand(self.rows, -1, -1)
        self.b_across = b_across.float().expand(height + 2, -1, -1)
        self.a_across = a_across.float().expand(height, -1, -1)
        # (points, 9) @ (9, out * in) -> one 1x1 filter per point
        filters = torch.kron(g, g_across) @ weight.double().flatten(0, 1).flatten(1).t()
        filters = filters.float().view(points * self.out_channels, self.in_channels, 1, 1)
        # columns in one convolution: its tiles stay in the cache, but are not so few that reading the filters counts
        limit = min(max(filters.nbytes, _FEWEST_BYTES), _MOST_BYTES)
        columns, bytes_each = width // self.tile_width, 4 * self.rows * points * self.in_channels
        self.chunk = max(n for n in range(1, columns + 1) if columns % n == 0 and (n == 1 or n * bytes_each <= limit))
        self.products = PackedConv2d(filters, (self.chunk, self.rows), groups=points)

    def __call__(self, load: Load, finish: Finish | None) -> Tensor:
        result = torch.empty(self.height, self.width, self.out_channels)
        chunk_width = self.chunk * self.tile_width
        for start in range(0, self.width, chunk_width):
            lefts = range(start, start + chunk_width, self.tile_width)
            products = self.products(self._transformed(load, lefts)).permute(0, 2, 3, 1)[0]
            for left, column in zip(lefts, products, strict=True):
                columns = slice(left, left + self.tile_width)
                y = self._restored(column)
                if finish is not None:
                    finish(columns, y)
                result[:, columns] = y
        return result

    def _transformed(self, load: Load, lefts: range) -> Tensor:
        """The columns of tiles that begin at `lefts` -> (1, points * in, columns, rows), channels last."""
        line = self.across * self.in_channels
        tiles = torch.empty(len(lefts), self.rows, self.down, line)
        padded = torch.zeros(self.height + 2, self.across, self.in_channels)
        lines = torch.empty(padded.shape)
        windows = lines.as_strided((self.rows, self.down, line), (self.tile_height * line, line, 1))
        for left, tile in zip(lefts, tiles, strict=True):
            first, last = max(left - 1, 0), min(left + self.tile_width + 1, self.width)
            if last == self.width:
                padded[:, -1] = 0
            load(slice(first, last), padded[1:-1, first - left + 1 : last - left + 1])
            torch.bmm(self.b_across, padded, out=lines)
            torch.bmm(self.b, windows, out=tile)
        return tiles.flatten(2)[None].permute(0, 3, 1, 2)

    def _restored(self, products: Tensor) -> Tensor:
        """(rows, points * out) -> (H, tile width, out)."""
        lines = torch.bmm(self.a, products.view(self.rows, self.down, -1))
        return torch.bmm(self.a_across, lines.view(self.height, self.across, self.out_channels))


class Conv3x3:
    """3x3 convolution with stride 1 and padding 1 of one image, in the form that is faster for its sizes.

    Args:
        weight: (out, in, 3, 3).
        height, width: of the image.
    """

    def __init__(self, weight: Tensor, height: int, width: int) -> None:
        self.shape = (height, width, weight.shape[1])
        wide = min(weight.shape[:2]) >= _FEWEST_CHANNELS and min(height, width) >= _SMALLEST_SIDE
        self.winograd = WinogradConv2d(weight, height, width) if wide and height % 4 == width % 4 == 0 else None
        self.direct = None if self.winograd else PackedConv2d(weight, (height, width), padding=(1, 1))

    def __call__(self, load: Load, finish: Finish | None = None) -> Tensor:
        """Convolves what `load` gives, some columns at a time.

        Args:
            load: `load(columns, out)` writes these columns of the input to out (H, columns, in).
            finish: `finish(columns, y)` may change these columns of the output, y (H, columns, out), in place.

        Returns:
            (H, W, out).
        """
        if self.winograd is not None:
            return self.winograd(load, finish)
        assert self.direct is not None
        memory = torch.empty(self.shape)
        load(slice(None), memory)
        y = self.direct(memory[None].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[0]
        if finish is not None:
            finish(slice(None), y)
        return y


class UpsamplingConv2d:
    """Stride-2 transposed 3x3 convolution, as four ordinary ones: one for each parity of row and column.

    Args:
        weight: (out, in, 3, 3).
        height, width: of the input.
    """

    def __init__(self, weight: Tensor, height: int, width: int) -> None:
        self.height, self.width, self.out_channels = height, width, len(weight)
        size = (height, width)
        self.parts = []
        for row in (0, 1):
            for column in (0, 1):
                # an even output sees taps 2 and 0 of the filter, an odd one tap 1
                part = weight[:, :, row::2, column::2].flip(2, 3)
                packed = PackedConv2d(part, size, padding=(1 - row, 1 - column))
                self.parts.append((row, column, packed))

    def __call__(self, x: Tensor) -> Tensor:
        """(1, in, H, W) -> (1, out, 2H + 1, 2W + 1), channels last."""
        result = torch.empty(1, 2 * self.height + 1, 2 * self.width + 1, self.out_channels).permute(0, 3, 1, 2)
        for row, column, part in self.parts:
            result[:, :, row::2, column::2] = part(x)
        return result


def upsampling_matrix(taps: Tensor, size: int) -> Tensor:
    """(4,) -> (2 * size, size), what doubles a row of an image: a zero behind every sample, then the filter."""
    unit = torch.eye(size)[:, None]
    return F.conv_transpose1d(unit, taps.detach().cpu().view(1, 1, 4), stride=2, padding=1)[:, 0].t().contiguous()
