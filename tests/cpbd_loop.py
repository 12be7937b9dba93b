#!/usr/bin/env python3
"""CPBD pixel after pixel, the way it is usually written, and a table of how much faster `util.metrics.cpbd` is.

  python tests/cpbd_loop.py

Both are measured in the same run on the pictures of the reference figures. Of the loop only Canny is
the library's; pixels are read from lists, which Python does faster than from arrays.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from skimage import data
from skimage.feature import canny

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.metrics.cpbd import cpbd

GOLDEN = np.load(Path(__file__).parent / "golden" / "evaluation.npz")
PHOTOS, BLURS = ("astronaut", "camera"), (0, 1, 2, 4)
_REPEATS = 5  # the fastest counts
_CALLS = 20  # of the fast one in a repeat


def photo(name: str, blur: int = 0) -> np.ndarray:
    """224 x 224 grey crop of a photo that scikit-image brings along."""
    grey = data.camera() if name == "camera" else cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    crop = np.ascontiguousarray(grey[:224, 100:324])
    return cv2.GaussianBlur(crop, (0, 0), blur) if blur else crop


def walk(row: list[float], start: int, step: int, rises: bool) -> int:
    """1 + how many pixels brightness goes on to rise (or fall), walking from `start` by `step`; 101 at most."""
    count = 1
    while count <= 100 and 0 <= start + step < len(row):
        gain = row[start + step] - row[start]
        if not (gain > 0 if rises else gain < 0):
            break
        start, count = start + step, count + 1
    return count


def loop_edge_widths(grey: np.ndarray) -> np.ndarray:
    """`edge_widths`, pixel after pixel."""
    strength, rows = loop_strength(grey), grey.tolist()
    widths = np.zeros(grey.shape, dtype=int)
    for y in range(1, grey.shape[0] - 1):
        for x in range(1, grey.shape[1] - 1):
            here = strength[y][x]
            in_row = here > strength[y][x - 1] and here > strength[y][x + 1]
            in_column = here > strength[y - 1][x] and here > strength[y + 1][x]
            if not (in_row or in_column):
                continue
            horizontal, vertical = rows[y][x + 1] - rows[y][x - 1], rows[y + 1][x] - rows[y - 1][x]
            turn = abs(round(math.degrees(math.atan2(vertical, horizontal)) / 45)) if horizontal else 0
            if turn in (0, 4):
                right = turn == 0  # brighter to the right
                widths[y, x] = walk(rows[y], x - 1, -1, not right) + walk(rows[y], x + 1, 1, right)
    return widths


def loop_strength(grey: np.ndarray) -> list[list[float]]:
    """Squared response to the horizontal Sobel filter, 0 up to the threshold; borders repeat the outermost pixels."""
    rows = np.pad(grey, 1, mode="edge").tolist()
    strength = [
        [(((a[x + 2] - a[x]) + 2 * (b[x + 2] - b[x]) + (c[x + 2] - c[x])) / 8) ** 2 for x in range(grey.shape[1])]
        for a, b, c in zip(rows, rows[1:], rows[2:], strict=False)
    ]
    threshold = 2 * math.sqrt(sum(map(sum, strength)) / grey.size)
    return [[value if value > threshold else 0 for value in row] for row in strength]


def loop_cpbd(grey: np.ndarray) -> float:
    """`cpbd`, pixel after pixel."""
    edges, widths = canny(grey.astype(np.float64)).tolist(), loop_edge_widths(grey).tolist()
    histogram = [0] * 101
    for top in range(0, grey.shape[0] - 63, 64):
        for left in range(0, grey.shape[1] - 63, 64):
            rows = range(top, top + 64)
            if sum(sum(edges[y][left : left + 64]) for y in rows) <= 0.002 * 64 * 64:
                continue
            block = grey[top : top + 64, left : left + 64]
            noticeable = 5.0 if int(block.max()) - int(block.min()) <= 50 else 3.0
            for y in rows:
                for x in range(left, left + 64):
                    if widths[y][x]:
                        histogram[round(100 * (1 - math.exp(-((widths[y][x] / noticeable) ** 3.6))))] += 1
    return sum(histogram[:64]) / sum(histogram) if any(histogram) else 0.0


def _milliseconds(function: Callable[[np.ndarray], float], grey: np.ndarray, calls: int) -> float:
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        for _ in range(calls):
            function(grey)
        times.append((time.perf_counter() - started) / calls)
    return 1000 * min(times)


def main() -> int:
    """Entry point; returns 0 when every figure is right and all pictures together take at most a twentieth."""
    print("picture             cpbd  reference      loop      ms  loop ms  times faster")
    total, loop_total, right = 0.0, 0.0, True
    for name in PHOTOS:
        for blur in BLURS:
            grey, reference = photo(name, blur), float(GOLDEN[f"cpbd.{name}_blur{blur}"])
            ours, loop = cpbd(grey), loop_cpbd(grey)
            fast, slow = _milliseconds(cpbd, grey, _CALLS), _milliseconds(loop_cpbd, grey, 1)
            print(
                f"{name + f' blur {blur}':<16}{ours:>8.4f}{reference:>11.4f}{loop:>10.4f}{fast:>8.2f}{slow:>9.1f}"
                f"{slow / fast:>14.1f}"
            )
            total, loop_total = total + fast, loop_total + slow
            right = right and abs(ours - reference) < 1e-3 and abs(loop - ours) < 1e-3
    print(f"all together: {total:.1f} ms and {loop_total:.0f} ms, {loop_total / total:.1f} times faster")
    return 0 if right and loop_total >= 20 * total else 1


if __name__ == "__main__":
    sys.exit(main())
