"""Loss curves: reading the log, ticks, smoothing, and what a drawn panel shows where."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.errors import MediaError
from util.plot import (
    PANEL_SIZE,
    Curve,
    _short,
    _smooth,
    _thin_out,
    _ticks,
    curves_of,
    draw_panel,
    plot_curves,
    read_log,
)


def _write_log(path: Path, **columns: list[float]) -> Path:
    steps = range(1, 1 + len(next(iter(columns.values()))))
    lines = [{"step": s, "epoch": 0.1, **{k: v[s - 1] for k, v in columns.items()}} for s in steps]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_read_log_damaged_lines_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "loss_log.jsonl"
    log.write_text('{"step": 1, "a": 2}\nnonsense\n[3]\n{"a": 4}\n{"step": 2, "a": 5}\n{"step": 3, "a"')
    with caplog.at_level(logging.WARNING):
        assert [entry["a"] for entry in read_log(log)] == [2, 5]
    assert [r.getMessage() for r in caplog.records] == [f"{log}:{n}: damaged line left out" for n in (2, 3, 4, 6)]


def test_read_log_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone.jsonl: cannot be read: No such file"):
        read_log(tmp_path / "gone.jsonl")


def test_curves_of_gaps_and_rare_values_keep_their_steps() -> None:
    curves = curves_of([{"step": 5, "epoch": 1, "a": 1.0, "b": None}, {"step": 9, "a": None, "b": 2, "c": "text"}])
    assert {name: (c.steps.tolist(), c.values.tolist()) for name, c in curves.items()} == {
        "a": ([5], [1.0]),
        "b": ([9], [2.0]),
    }


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.32, 0.78, [0.4, 0.5, 0.6, 0.7]),
        (-3, 12, [0, 5, 10]),
        (1, 1e6, [2e5, 4e5, 6e5, 8e5, 1e6]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    np.testing.assert_allclose(_ticks(low, high, count=5), expected, atol=1e-12)


def test_short_numbers() -> None:
    assert [_short(v) for v in (0.01234, 12500, 3_000_000, -0.5, 0, 400)] == [
        "0.0123",
        "12.5k",
        "3M",
        "-0.5",
        "0",
        "400",
    ]


def test_thin_out_keeps_means_and_bounds_points() -> None:
    values = np.arange(10_001, dtype=np.float64)
    thin = _thin_out(Curve(np.arange(10_001), values))
    assert len(thin.steps) == len(thin.values) == 1112  # bins of 9
    assert (thin.values[0], thin.values[-1]) == (4.0, (9999 + 10000) / 2)
    np.testing.assert_array_equal(thin.steps, thin.values)


def test_smooth_leaves_constants_and_lessens_noise() -> None:
    np.testing.assert_allclose(_smooth(np.full(300, 3.0)), 3.0)
    noise = np.random.default_rng(0).standard_normal(600)
    assert _smooth(noise).std() < 0.3 * noise.std()


def test_draw_panel_puts_a_falling_line_from_top_left_to_bottom_right() -> None:
    steps = np.arange(0, 101)
    panel = np.asarray(draw_panel("loss", {"loss": Curve(steps, 100.0 - steps)})).astype(int)
    assert panel.shape == (PANEL_SIZE[1], PANEL_SIZE[0], 3)
    blue = (panel[..., 2] > 140) & (panel[..., 0] < 60)
    plot = blue[80:]  # below title and legend
    rows = [int(np.flatnonzero(plot[:, x]).mean()) for x in (100, 300, 500)]
    assert rows[0] < rows[1] < rows[2]
    assert rows[1] - rows[0] == pytest.approx(rows[2] - rows[1], abs=2)


def test_draw_panel_single_point_and_constant_do_not_divide_by_zero() -> None:
    for curve in (Curve(np.array([7]), np.array([0.0])), Curve(np.array([1, 2]), np.array([4.0, 4.0]))):
        assert np.asarray(draw_panel("x", {"x": curve})).min() < 60


def test_plot_curves_one_panel_per_quantity_in_two_columns(tmp_path: Path) -> None:
    log = _write_log(tmp_path / "loss_log.jsonl", a=[3, 2, 1], b=[1, 1, 1], c=[0, 5, 2])
    plot_curves(log, tmp_path / "all.png")
    plot_curves(log, tmp_path / "one.png", {"both": ["a", "b"]})
    width, height = PANEL_SIZE
    assert Image.open(tmp_path / "all.png").size == (2 * width, 2 * height)
    assert Image.open(tmp_path / "one.png").size == (width, height)


def test_plot_curves_names_what_is_missing(tmp_path: Path) -> None:
    log = _write_log(tmp_path / "loss_log.jsonl", a=[1], b=[2])
    with pytest.raises(MediaError, match=r"has no curve x, y; there are a, b"):
        plot_curves(log, tmp_path / "x.png", {"t": ["a", "y", "x"]})
    log.write_text("")
    with pytest.raises(MediaError, match=r"loss_log.jsonl: holds no values yet"):
        plot_curves(log, tmp_path / "x.png")
    assert [p.name for p in tmp_path.iterdir()] == ["loss_log.jsonl"]


def test_plot_curves_unwritable_png_is_one_line(tmp_path: Path) -> None:
    log = _write_log(tmp_path / "loss_log.jsonl", a=[1])
    with pytest.raises(MediaError, match=r"x.png: cannot be written: No such file"):
        plot_curves(log, tmp_path / "gone" / "x.png")
