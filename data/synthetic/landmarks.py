"""Where the 68 iBUG landmarks lie on the mesh of a synthetic head."""

from __future__ import annotations

import numpy as np

from data.synthetic.paint import Canvas
from data.synthetic.surface import COLUMN_ANGLES, MESH_SHAPE, MOUTH_LINE, MOUTH_ROW, ROW_KNOTS, FaceShape


def landmark_grids(shape: FaceShape, canvas: Canvas, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grid coordinates (row, column) of the 68 points with open and with closed eyes: two (68, 2) float64.

    Args:
        canvas: of the head mesh.  vertices: (r, c, 3), the mesh at rest.
    """
    spots = np.zeros((68, 2))
    ew = shape.eye_half_width
    brow_x = np.linspace(41, 8.5, 5)
    brow_y = shape.brow_y + np.array([2.5, -1.5, -3.0, -2.0, 1.0])
    spots[17:22] = np.stack([-brow_x, brow_y], axis=1)
    spots[22:27] = np.stack([brow_x[::-1], brow_y[::-1]], axis=1)
    base = shape.nose_base_y
    spots[27:31, 1] = np.linspace(-2, base - 10, 4)
    nose_x = np.array([-0.80, -0.40, 0, 0.40, 0.80]) * shape.nose_half_width
    spots[31:36] = np.stack([nose_x, base + np.array([-1.5, 0.4, 1.4, 0.4, -1.5])], axis=1)
    closed = spots.copy()
    # eyes: outer corner, two upper, inner corner, two lower on the left of the picture; mirrored on the right
    u = np.array([0.9 * ew, 0.34 * ew, -0.38 * ew, -ew, -0.38 * ew, 0.34 * ew])
    up, down = shape.lid_up, shape.lid_down
    v = np.array([0, -0.9 * up, -0.9 * up, 0, 0.88 * down, 0.88 * down])
    shut = np.where(v < 0, 0.86 * 0.88 * down, 0.88 * v)
    order = [3, 2, 1, 0, 5, 4]
    for values, lids in ((spots, v), (closed, shut)):
        values[36:42] = np.stack([-(shape.eye_x + u), lids - shape.eye_tilt * u], axis=1)
        values[42:48] = np.stack([shape.eye_x + u[order], (lids - shape.eye_tilt * u)[order]], axis=1)
    grids = []
    jaw = _jaw_grid(vertices)
    for values in (spots, closed):
        grid = np.zeros((68, 2))
        grid[:17] = jaw
        for point in range(17, 48):
            grid[point] = _find(canvas, float(values[point, 0]), float(values[point, 1]))
        grid[48:] = _mouth_grid(shape, vertices)
        grids.append(grid)
    return grids[0], grids[1]


def sample_grid(mesh: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Bilinear look-up of (r, c, 3) vertices at (n, 2) grid coordinates (row, column): (n, 3)."""
    low = np.minimum(np.floor(grid).astype(int), np.array(mesh.shape[:2]) - 2)
    f = grid - low
    r, c = low[:, 0], low[:, 1]
    top = mesh[r, c] + (mesh[r, c + 1] - mesh[r, c]) * f[:, 1:]
    bottom = mesh[r + 1, c] + (mesh[r + 1, c + 1] - mesh[r + 1, c]) * f[:, 1:]
    return top + (bottom - top) * f[:, :1]


def _jaw_grid(vertices: np.ndarray) -> np.ndarray:
    """Grid coordinates (row, column) of points 0-16: along the jaw from ear to ear, evenly spaced from the front."""
    angle = np.linspace(-88, 88, 241)
    row = np.interp(np.abs(angle), [0, 15, 35, 55, 70, 80, 88], [94, 94, 93.5, 92, 83, 52, 2])
    line = np.stack(
        [
            np.interp(row, ROW_KNOTS, np.arange(len(ROW_KNOTS))),
            np.interp(np.radians(angle), COLUMN_ANGLES, np.arange(len(COLUMN_ANGLES))),
        ],
        axis=1,
    )
    seen = sample_grid(vertices, line)[:, :2]
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(seen, axis=0), axis=1))])
    stops = np.linspace(0, way[-1], 17)
    return np.stack([np.interp(stops, way, line[:, 0]), np.interp(stops, way, line[:, 1])], axis=1)


def _mouth_grid(shape: FaceShape, vertices: np.ndarray) -> np.ndarray:
    """Grid coordinates (row, column) of points 48-67; the inner ones lie on the edges of the slit."""
    outer_q = np.array([-1, -0.62, -0.22, 0, 0.22, 0.62, 1, 0.6, 0.25, 0, -0.25, -0.6])
    height = np.array([0, -0.72, -1.0, -0.82, -1.0, -0.72, 0, 0.76, 0.96, 1.0, 0.96, 0.76])
    s = np.where(height < 0, height * (shape.upper_lip + 0.5), height * (shape.lower_lip + 0.8))
    inner_q = np.array([-0.86, -0.30, 0, 0.30, 0.86, 0.30, 0, -0.30])
    rows = np.interp(MOUTH_LINE + s, ROW_KNOTS, np.arange(len(ROW_KNOTS)))
    inner_rows = MOUTH_ROW + np.array([0.5, 0, 0, 0, 0.5, 1, 1, 1])
    row = np.concatenate([rows, inner_rows])
    x = np.concatenate([outer_q, inner_q]) * shape.mouth_half_width
    grid = np.zeros((20, 2))
    front = np.abs(COLUMN_ANGLES) < np.pi / 2
    for point in range(20):
        line = vertices[round(row[point]), :, 0]
        grid[point] = row[point], np.interp(x[point], line[front], np.nonzero(front)[0])
    return grid


def _find(canvas: Canvas, x: float, y: float) -> tuple[float, float]:
    """Grid coordinates (row, column) of the front texel nearest to (x, y)."""
    position = canvas.position
    coarse = _nearest(position[::8, ::8], x, y) * 8
    low = np.maximum(coarse - 12, 0)
    row, column = low + _nearest(position[low[0] : low[0] + 25, low[1] : low[1] + 25], x, y)
    (rows, columns), (height, width) = MESH_SHAPE, canvas.shape
    return float(row * (rows - 1) / (height - 1)), float(column * (columns - 1) / (width - 1))


def _nearest(position: np.ndarray, x: float, y: float) -> np.ndarray:
    distance = (position[..., 0] - x) ** 2 + (position[..., 1] - y) ** 2 + 1e6 * (position[..., 2] < 0)
    return np.array(np.unravel_index(np.argmin(distance), distance.shape))
