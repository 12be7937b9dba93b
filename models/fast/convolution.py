"""Convolutions of the fast networks, in fp32 on the CPU; images are (H, W, C) where not said otherwise.

They are faster for two reasons: oneDNN brings the weights into its own layout once instead of at every call, and 3x3
filters are computed in Winograd's form, with 1.9 multiplications a value and input channel instead of 9.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.polynomial.polynomial import polyfromroots
from torch import Tensor
from torch.nn import functional as F

# Where the polynomials are evaluated, by values a tile, and at infinity: of many sets those that round the least
_POINTS = {
    4: (0, 1, -1, 2, Fraction(-1, 2)),
    8: (0, 1, -1, Fraction(2, 5), Fraction(-2, 5), Fraction(4, 3), Fraction(-4, 3), Fraction(5, 2), Fraction(-5, 2)),
}
_SMALLEST_SIDE, _FEWEST_CHANNELS = 28, 128  # of an image in Winograd's form; below, the transforms cost too much
_FEWEST_BYTES, _MOST_BYTES = 4 << 20, 12 << 20  # of transformed tiles

Load = Callable[[slice, Tensor], object]
Finish = Callable[[slice, Tensor], object]


def available() -> bool:
    """Whether this torch has oneDNN and MKL, without which nothing here runs."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    )


class PackedConv2d:
    """A convolution whose weights lie as oneDNN wants them for one image of one size; other inputs work, slower.

    weight: (out, in / groups, kh, kw).  size: (H, W) of the image.
    """

    def __init__(
        self,
        weight: Tensor,
        size: Sequence[int],
        padding: Sequence[int] = (0, 0),
        stride: Sequence[int] = (1, 1),
        groups: int = 1,
    ) -> None:
        self.padding, self.stride, self.groups = list(padding), list(stride), groups
        input_size = [1, weight.shape[1] * groups, *size]
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight  # torch's stub lacks the last argument
        self.weight = reorder(weight.detach().to_mkldnn(), self.padding, self.stride, [1, 1], groups, input_size)

    def __call__(self, x: Tensor, bias: Tensor | None = None, slope: float | None = None) -> Tensor:
        """(B, in, H, W), best channels last -> (B, out, H', W'), channels last; with a slope, a leaky ReLU follows."""
        activation, scalars = ("none", []) if slope is None else ("leaky_relu", [slope])
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, bias, self.padding, self.stride, [1, 1], self.groups, activation, scalars, ""
        )


def transforms(outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Toom and Cook's matrices for `outputs` values of a filter with 3 taps: `y = a @ ((g @ filter) * (b @ x))`.

    Returns:
        a (outputs, n), g (n, 3), b (n, n) in float64, n = outputs + 2; powers of two bring the rows of b and the
        columns of a to about unit norm.
    """
    points = [Fraction(point) for point in _POINTS[outputs]]
    a = [[*(point**power for point in points), power == outputs - 1] for power in range(outputs)]
    g: list[Sequence[Any]] = []
    b: list[Sequence[Any]] = []
    for i, point in enumerate(points):
        others = points[:i] + points[i + 1 :]
        scale = math.prod(point - other for other in others)
        g.append([point**power / scale for power in range(3)])
        b.append([*polyfromroots(np.array(others)), 0])
    g.append([0, 0, 1])
    b.append([*polyfromroots(np.array(points))])
    exact_a, exact_g, exact_b = (torch.from_numpy(np.array(matrix, dtype=np.float64)) for matrix in (a, g, b))
    of_a = torch.exp2(exact_a.norm(dim=0).log2().round())
    of_b = torch.exp2(exact_b.norm(dim=1).log2().round())
    return exact_a / of_a, exact_g * (of_a * of_b)[:, None], exact_b / of_b[:, None]


class WinogradConv2d:
    """3x3 convolution with padding 1 in Winograd's form, on tiles 4 high and 4 or 8 wide.

    It takes one column of tiles after the other, so that a column stays in the cache from step to step. The transforms
    are small products of matrices; the products at all points are one 1x1 convolution with a group a point. See
    `conv3x3` for all arguments; height and width are multiples of 4.
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
        # Columns in one convolution: few enough that their tiles stay in the cache, and so many that reading the
        # filters takes little of the time.
        limit = min(max(filters.nbytes, _FEWEST_BYTES), _MOST_BYTES)
        columns, bytes_each = width // self.tile_width, 4 * self.rows * points * self.in_channels
        self.chunk = max(n for n in range(1, columns + 1) if columns % n == 0 and (n == 1 or n * bytes_each <= limit))
        self.products = PackedConv2d(filters, (self.chunk, self.rows), groups=points)

    def __call__(self, load: Load, finish: Finish | None = None) -> Tensor:
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


class DirectConv2d:
    """3x3 convolution with padding 1 by oneDNN; see `conv3x3` for all arguments."""

    def __init__(self, weight: Tensor, height: int, width: int) -> None:
        self.shape = (height, width, weight.shape[1])
        self.packed = PackedConv2d(weight, (height, width), padding=(1, 1))

    def __call__(self, load: Load, finish: Finish | None = None) -> Tensor:
        x = torch.empty(self.shape)
        load(slice(None), x)
        y = self.packed(x[None].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[0]
        if finish is not None:
            finish(slice(None), y)
        return y


def conv3x3(weight: Tensor, height: int, width: int) -> WinogradConv2d | DirectConv2d:
    """3x3 convolution with stride 1 and padding 1 of one image, in the form that is faster for its sizes.

    Returns:
        `convolve(load, finish) -> (H, W, out)`, which works on some columns at a time. `load(columns, out)` writes
        these columns of the input to `out`, (H, columns, in). `finish(columns, y)`, if given, may change `y`,
        (H, columns, out), these columns of the output, in place.
    """
    wide = min(weight.shape[:2]) >= _FEWEST_CHANNELS and min(height, width) >= _SMALLEST_SIDE
    form = WinogradConv2d if wide and height % 4 == width % 4 == 0 else DirectConv2d
    return form(weight, height, width)


class UpsamplingConv2d:
    """Transposed 3x3 convolution with stride 2, as four ordinary ones, for even and odd rows and columns."""

    def __init__(self, weight: Tensor, height: int, width: int) -> None:
        self.height, self.width, self.out_channels = height, width, len(weight)
        size = (height, width)
        self.parts = []
        for row in (0, 1):
            for column in (0, 1):
                # an even row or column of the output sees taps 2 and 0 of the filter, an odd one sees tap 1
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
    """(4,) taps -> (2 * size, size), which doubles a row: it puts a zero behind every sample, then filters."""
    unit = torch.eye(size)[:, None]
    return F.conv_transpose1d(unit, taps.detach().cpu().view(1, 1, 4), stride=2, padding=1)[:, 0].t().contiguous()
