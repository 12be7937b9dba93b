"""Curves and distributions as PNG pictures, drawn with matplotlib's objects: no pyplot, no display, no global state."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from util.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "dimgrey"


@dataclass(frozen=True)
class Curve:
    """One quantity over steps or frames: steps (N,) int64, values (N,) float64, all finite."""

    steps: np.ndarray
    values: np.ndarray


def draw_panel(title: str, curves: Mapping[str, Curve], x_label: str = "step", show_mean: bool = False) -> Figure:
    """Draws for each curve a pale raw and a strong smoothed line; the legend names the curves with a value of each.

    There is at least one, and none is empty. The value is the mean, or else the last smoothed one.
    """
    from matplotlib.ticker import EngFormatter
    from scipy.ndimage import gaussian_filter1d

    figure, axes = _new_figure(2.5)
    extremes: list[float] = []
    lines = {}
    for number, (name, curve) in enumerate(curves.items()):
        smooth = gaussian_filter1d(curve.values, len(curve.values) * (1 / 60))
        extremes += [*np.percentile(curve.values, [1, 99]), smooth.min(), smooth.max()]  # some outliers may leave it
        marker = "o" if len(smooth) == 1 else None  # a line needs two points
        axes.plot(curve.steps, curve.values, color=f"C{number}", alpha=0.35, linewidth=0.7)
        (line,) = axes.plot(curve.steps, smooth, color=f"C{number}", linewidth=1.6, marker=marker)
        shown = f"{curve.values.mean() if show_mean else smooth[-1]:.4g}"
        lines[shown if name == title else f"{name}  {shown}"] = line
    low, high = min(extremes), max(extremes)
    is_flat = high - low <= 1e-6 * max(abs(low), abs(high))
    margin = (0.1 * abs(high) or 1.0) if is_flat else 0.05 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    axes.margins(x=0)
    axes.set_xlabel(x_label, fontsize=8, color=_GREY)
    axes.locator_params("x", integer=True)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.legend(
        lines.values(), lines, loc="outside upper left", ncols=len(lines), fontsize=8, handlelength=1.2, frameon=False,
        title=textwrap.fill(title, 42), title_fontsize=10, alignment="left",
    )  # fmt: skip
    return figure


def draw_distribution(title: str, groups: Mapping[str, Sequence[float]]) -> Figure:
    """Draws a row of dots for each group with values, a dot a clip, and a stroke at their mean."""
    groups = {label: values for label, values in groups.items() if len(values)}
    figure, axes = _new_figure(0.75 + 0.4 * len(groups))
    for number, values in enumerate(groups.values()):
        apart = (np.arange(len(values)) % 5 - 2) * 0.1  # of a lane, so that equal values show
        axes.plot(values, number + apart, "o", color=f"C{number}", markersize=3)
        axes.vlines(float(np.mean(values)), number - 0.4, number + 0.4, color="black", linewidth=1.5, zorder=3)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks(range(len(groups)), groups, color="black", parse_math=False)
    axes.grid(visible=False, axis="y")
    return figure


def write_png(path: Path, figure: Figure) -> None:
    """Writes a picture atomically, the same bytes for the same picture. Raises MediaError when the disk refuses."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def _new_figure(height_inches: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    # 640 pixels wide, but letters 20 high: pages show it at half its size, so that it is sharp on a phone too
    figure = Figure((4.0, height_inches), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(color=_GREY, labelcolor=_GREY, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.grid(color="gainsboro", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=5, steps=[1, 2, 5, 10])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    return figure, axes
