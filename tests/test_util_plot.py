"""What pictures show where: curves, their limits and legends, distributions, and the bytes of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.errors import MediaError
from util.plot import Curve, draw_distribution, draw_panel, write_png


def _curve(values: np.ndarray) -> Curve:
    return Curve(50 * np.arange(1, len(values) + 1), values)


def _noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count)


def test_panel_has_a_raw_and_a_smoothed_line_a_curve() -> None:
    noise = _noise(600)
    (axes,) = draw_panel("both", {"a": _curve(noise), "b": _curve(np.full(300, 3.0))}).axes
    raw_a, smooth_a, raw_b, smooth_b = axes.lines
    np.testing.assert_array_equal(raw_a.get_xydata(), np.stack([50 * np.arange(1, 601), noise], axis=1))
    assert smooth_a.get_ydata().std() < 0.3 * noise.std()
    assert smooth_a.get_ydata().mean() == pytest.approx(noise.mean(), abs=0.01)
    np.testing.assert_allclose(smooth_b.get_ydata(), raw_b.get_ydata())
    assert smooth_a.get_linewidth() > raw_a.get_linewidth()
    assert raw_a.get_color() == smooth_a.get_color() != smooth_b.get_color()
    assert axes.get_xlim() == (50, 30000)


def test_panel_smoothing_follows_a_straight_line_to_its_middle() -> None:
    (axes,) = draw_panel("x", {"x": _curve(np.arange(600.0))}).axes
    np.testing.assert_allclose(axes.lines[1].get_ydata()[50:550], np.arange(50, 550))


def test_panel_outliers_do_not_rule_the_axis() -> None:
    values = _noise(2000)
    values[1000] = 1e3
    (axes,) = draw_panel("x", {"x": _curve(values)}).axes
    low, high = axes.get_ylim()
    assert low == pytest.approx(np.percentile(values, 1), abs=1)
    assert axes.lines[1].get_ydata().max() < high < 15


@pytest.mark.parametrize(
    ("show_mean", "name", "expected"),
    [(False, "loss", ["2"]), (True, "loss", ["1.5"]), (False, "real", ["real  2"]), (True, "real", ["real  1.5"])],
)
def test_panel_legend_has_last_value_or_mean(show_mean: bool, name: str, expected: list[str]) -> None:
    figure = draw_panel("loss", {name: _curve(np.array([1.0, 1.5, 1.5, 2.0]))}, "frame", show_mean)
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "loss"
    assert [text.get_text() for text in legend.get_texts()] == expected
    assert figure.axes[0].get_xlabel() == "frame"


@pytest.mark.parametrize(
    ("value", "count", "limits"), [(0.0, 1, (-1, 1)), (4.0, 2, (3.6, 4.4)), (-2e-4, 300, (-2.2e-4, -1.8e-4))]
)
def test_panel_of_constant_has_room_above_and_below(value: float, count: int, limits: tuple[float, float]) -> None:
    (axes,) = draw_panel("x", {"x": _curve(np.full(count, value))}).axes
    assert axes.get_ylim() == pytest.approx(limits)
    assert axes.lines[1].get_marker() == ("o" if count == 1 else "None")  # a line of one point would not show


def test_distribution_draws_dots_in_lanes_and_the_mean() -> None:
    (axes,) = draw_distribution("SSIM", {"one": [0.0, 0.2, 1.0], "none": [], "other": [0.5, 0.5]}).axes
    one, other = axes.lines
    assert one.get_xdata().tolist() == [0.0, 0.2, 1.0]
    assert other.get_xdata().tolist() == [0.5, 0.5]
    assert len(set(other.get_ydata())) == 2  # equal values show
    for lane, dots in enumerate((one, other)):
        assert np.abs(dots.get_ydata() - lane).max() < 0.4
    strokes = [collection.get_segments()[0][:, 0].tolist() for collection in axes.collections]
    assert strokes == [pytest.approx([0.4, 0.4]), [0.5, 0.5]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "other"]
    assert axes.yaxis_inverted()  # the first group on top
    assert axes.get_title(loc="left") == "SSIM"


@pytest.mark.parametrize("size", [1e-7, 1.0, 123456.0])
def test_nothing_is_cut_off(size: float) -> None:
    values = _noise(40) * size
    name = "val/sync_sound_to_picture_of_the_people_held_out_from_training"
    groups = {"own pose": values, "$cost$_of another's pose": values + size, "ground truth": values[:1]}
    for figure in (draw_panel(name, {name: _curve(values)}), draw_distribution("Model sync offset", groups)):
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        assert figure.axes[0].get_window_extent().width / figure.dpi > width / 3  # most is left for the values


def test_same_picture_has_same_bytes_and_no_metadata(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, draw_panel("loss", {"loss": _curve(_noise(100))}))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (640, 400)
        assert set(image.info) == {"dpi"}


def test_unwritable_png_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"x.png: cannot be written: No such file"):
        write_png(tmp_path / "gone" / "x.png", draw_panel("loss", {"loss": _curve(_noise(3))}))
