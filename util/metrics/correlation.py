"""How far one series follows another: Pearson's correlation."""

from __future__ import annotations

import numpy as np


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two (N,) series; 0 when one of them never moves, for it follows nothing."""
    a, b = a - np.mean(a, dtype=np.float64), b - np.mean(b, dtype=np.float64)
    power = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return float(np.sum(a * b)) / power if power > 1e-12 else 0.0
