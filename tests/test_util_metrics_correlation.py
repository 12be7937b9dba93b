"""Correlation of series: known values, single precision, series that never move."""

from __future__ import annotations

import numpy as np
import pytest

from util.metrics.correlation import pearson


def test_pearson_known_series() -> None:
    assert pearson(np.array([1.0, 2, 3, 4]), np.array([2.0, 4, 6, 9])) == pytest.approx(11.5 / np.sqrt(5 * 26.75))
    assert pearson(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert pearson(np.array([1.0, 1, 1]), np.array([3.0, 2, 1])) == 0


def test_pearson_agrees_with_numpy_in_single_precision() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(500).astype(np.float32)
    b = (0.5 * a + rng.standard_normal(500)).astype(np.float32)
    assert pearson(a + 1000, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-4)
