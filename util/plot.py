"""Loss curves from `loss_log.jsonl` as pictures, drawn with Pillow, so that no plotting package is needed.

plot_curves(Path("checkpoints/x/loss_log.jsonl"), Path("docs/x.png"), {"sync": ["loss/sync", "val/sync"]})
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from util.errors import MediaError
from util.files import write_bytes

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Box = tuple[float, float, float, float]  # left, top, right, bottom

PANEL_SIZE = (640, 400)  # pixels of one panel: width, height
_NO_CURVES = ("step", "epoch")  # numbers of a line that say where it belongs
_OVERSAMPLING = 2  # Pillow's lines have hard edges until the picture is made smaller
_MOST_POINTS = 1200  # of a curve; more than the pixels of a panel show nothing more
_SMOOTHING = 1 / 60  # of a curve's points: standard deviation of the Gaussian
_OUTLIERS_PERCENT = 1.0  # of the raw values on each side that need not fit into the panel
_Y_MARGIN = 0.04  # of the panel's height, above and below the curves
_PAPER, _INK, _GREY, _GRID = (255, 255, 255), (30, 30, 30), (110, 110, 110), (228, 228, 228)
_COLOURS = (  # Okabe and Ito: told apart by colour-blind readers
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (90, 90, 90),
)  # fmt: skip

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Curve:
    """One quantity over the training: steps (N,) int64, values (N,) float64, all finite."""

    steps: np.ndarray
    values: np.ndarray


def read_log(path: Path) -> list[dict[str, Any]]:
    """Reads `loss_log.jsonl`. A damaged line, such as a kill in the middle of writing leaves, is left out and named.

    Raises:
        MediaError: the file is missing or cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(entry)
        else:
            _log.warning("%s:%d: damaged line left out", path, number)
    return entries


def curves_of(entries: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Every number of the log over the steps, by name, in order of appearance; values that are no number are gaps."""
    points: dict[str, list[tuple[int, float]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name not in _NO_CURVES and isinstance(value, (int, float)) and math.isfinite(value):
                points.setdefault(name, []).append((entry["step"], value))
    return {
        name: Curve(np.array([step for step, _ in pairs]), np.array([value for _, value in pairs], dtype=np.float64))
        for name, pairs in points.items()
    }


def plot_curves(
    log: Path, output_png: Path, groups: Mapping[str, Sequence[str]] | None = None, columns: int = 2
) -> None:
    """Draws the curves of a training into one PNG.

    Args:
        log: a `loss_log.jsonl`.
        groups: title of a panel -> the names of its curves; by default every quantity has a panel of its own.
        columns: panels side by side.

    Raises:
        MediaError: the log cannot be read, holds nothing, or lacks a curve; the PNG cannot be written.
    """
    from PIL import Image

    curves = curves_of(read_log(log))
    if not curves:
        raise MediaError(f"{log}: holds no values yet; train some steps first")
    groups = groups or {name: [name] for name in curves}
    missing = sorted({name for names in groups.values() for name in names} - set(curves))
    if missing:
        raise MediaError(f"{log}: has no curve {', '.join(missing)}; there are {', '.join(sorted(curves))}")
    panels = [draw_panel(title, {name: curves[name] for name in names}) for title, names in groups.items()]
    columns = min(columns, len(panels))
    width, height = PANEL_SIZE
    sheet = Image.new("RGB", (columns * width, -(-len(panels) // columns) * height), _PAPER)
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number % columns * width, number // columns * height))
    write_png(output_png, sheet)


def write_png(path: Path, image: Image.Image) -> None:
    """Writes a picture atomically. Raises MediaError when the disk refuses."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def draw_panel(
    title: str,
    curves: Mapping[str, Curve],
    size: tuple[int, int] = PANEL_SIZE,
    x_label: str = "step",
    show_mean: bool = False,
) -> Image.Image:
    """Draws axes, a legend with a value of each curve, and for each curve a pale raw and a strong smoothed line.

    Args:
        curves: by name, at least one, none of them empty.
        size: width and height in pixels.
        x_label: what the steps are.
        show_mean: the legend has the mean of a curve instead of its last smoothed value.
    """
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING), _PAPER)
    draw = ImageDraw.Draw(image)
    raw = {name: _thin_out(curve) for name, curve in curves.items()}
    smooth = {name: Curve(curve.steps, _smooth(curve.values)) for name, curve in raw.items()}
    shown = {name: curves[name].values.mean() if show_mean else smooth[name].values[-1] for name in curves}
    legend = [(name, _colour(i), shown[name]) for i, name in enumerate(curves)]
    top = _draw_heading(draw, title, legend, image.width)
    box = (_px(64), top + _px(10), image.width - _px(20), image.height - _px(34))
    x_range = _span([float(v) for c in raw.values() for v in (c.steps.min(), c.steps.max())])
    low, high = _span(_extent(raw.values(), smooth.values()))
    y_range = low - _Y_MARGIN * (high - low), high + _Y_MARGIN * (high - low)
    _draw_axes(draw, box, x_range, y_range, x_label)
    for lines, width, pale in ((raw, 1.0, True), (smooth, 2.2, False)):
        for i, curve in enumerate(lines.values()):
            colour = tuple((2 * 255 + c) // 3 for c in _colour(i)) if pale else _colour(i)
            xs, ys = _place(box, x_range, y_range, curve)
            _draw_line(draw, xs, ys, colour, _px(width))
    return image.resize(size, Image.Resampling.LANCZOS)


def _colour(number: int) -> tuple[int, ...]:
    return _COLOURS[number % len(_COLOURS)]


def _px(length: float) -> int:
    return round(length * _OVERSAMPLING)


def _thin_out(curve: Curve) -> Curve:
    """At most _MOST_POINTS points: means of neighbours; what does not fill a last bin is averaged into it."""
    step = -(-len(curve.steps) // _MOST_POINTS)
    starts = np.arange(0, len(curve.steps), step)
    counts = np.diff(np.append(starts, len(curve.steps)))
    return Curve(np.add.reduceat(curve.steps, starts) / counts, np.add.reduceat(curve.values, starts) / counts)


def _smooth(values: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    sigma = len(values) * _SMOOTHING
    if sigma < 0.5:
        return values
    # zeros beyond the ends, divided out again: the last value of a noisy curve must not bend its end
    weights = gaussian_filter1d(np.ones_like(values), sigma, mode="constant")
    return gaussian_filter1d(values, sigma, mode="constant") / weights


def _extent(raw: Iterable[Curve], smooth: Iterable[Curve]) -> list[float]:
    """The values a panel must show: all smoothed ones, and the raw ones but for some spikes."""
    percent = (_OUTLIERS_PERCENT, 100 - _OUTLIERS_PERCENT)
    values = [float(v) for curve in raw for v in np.percentile(curve.values, percent)]
    return values + [float(v) for curve in smooth for v in (curve.values.min(), curve.values.max())]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    margin = abs(low) * 0.1 or 1.0  # a single point, or a constant
    return low - margin, high + margin


def _place(
    box: Box, x_range: tuple[float, float], y_range: tuple[float, float], curve: Curve
) -> tuple[np.ndarray, np.ndarray]:
    """Where points lie in the picture; what is out of range lies on the edge of the box."""
    left, top, right, bottom = box
    x = left + (curve.steps - x_range[0]) / (x_range[1] - x_range[0]) * (right - left)
    y = bottom - (curve.values - y_range[0]) / (y_range[1] - y_range[0]) * (bottom - top)
    return np.clip(x, left, right), np.clip(y, top, bottom)


def _draw_line(draw: ImageDraw.ImageDraw, xs: np.ndarray, ys: np.ndarray, colour: tuple[int, ...], width: int) -> None:
    points = [(float(a), float(b)) for a, b in zip(xs, ys, strict=True)]
    if len(points) == 1:
        x, y, radius = *points[0], 1.5 * width
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        draw.line(points, fill=colour, width=width, joint="curve")


def _draw_heading(
    draw: ImageDraw.ImageDraw, title: str, legend: Sequence[tuple[str, tuple[int, ...], float]], width: int
) -> int:
    """Writes the title and the legend under it, in as many lines as it needs; returns where the legend ends."""
    title_font, font = _font(17), _font(13)
    left, gap = _px(16), _px(18)
    draw.text((left, _px(10)), title, font=title_font, fill=_INK)
    x, y = left, _px(38)
    for name, colour, value in legend:
        text = _short(value) if name == title else f"{name}  {_short(value)}"
        needed = _px(20) + font.getlength(text)
        if x > left and x + needed > width - left:
            x, y = left, y + _px(20)
        draw.line([(x, y + _px(8)), (x + _px(14), y + _px(8))], fill=colour, width=_px(3))
        draw.text((x + _px(20), y), text, font=font, fill=_INK)
        x += round(needed) + gap
    return y + _px(20)


def _draw_axes(
    draw: ImageDraw.ImageDraw, box: Box, x_range: tuple[float, float], y_range: tuple[float, float], x_label: str
) -> None:
    left, top, right, bottom = box
    font = _font(12)
    for value in _ticks(*y_range, count=5):
        y = bottom - (value - y_range[0]) / (y_range[1] - y_range[0]) * (bottom - top)
        draw.line([(left, y), (right, y)], fill=_GRID, width=_px(1))
        draw.text((left - _px(8), y), _short(value), font=font, fill=_GREY, anchor="rm")
    for value in _ticks(*x_range, count=6):
        x = left + (value - x_range[0]) / (x_range[1] - x_range[0]) * (right - left)
        draw.line([(x, top), (x, bottom)], fill=_GRID, width=_px(1))
        draw.text((x, bottom + _px(7)), _short(value), font=font, fill=_GREY, anchor="ma")
    draw.line([(left, top), (left, bottom), (right, bottom)], fill=_GREY, width=_px(1))
    draw.text((left - _px(8), bottom + _px(7)), x_label, font=font, fill=_GREY, anchor="ra")


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], about `count` of them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
    """A number in few characters.

    >>> _short(0.01234), _short(12500), _short(3_000_000)
    ('0.0123', '12.5k', '3M')
    """
    for unit, sign in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{sign}"
    return f"{value:.3g}"


def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(_px(size))
