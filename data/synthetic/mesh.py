"""Textured patches and how they are put together: one list of triangles, one atlas.

Vertices are head coordinates in template pixels; atlas coordinates are texels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data.synthetic.paint import Canvas, Paint
from data.synthetic.surface import Surface

Painter = Callable[[Canvas], Paint]
_MARGIN = 3  # texels between the parts of the atlas


@dataclass(frozen=True)
class Part:
    """A textured patch: vertices (r, c, 3), paint over (h, w) texels, and what moves it.

    jaw: share of the jaw's drop.  body: (r, c), 0 turns with the head .. 1 stays with the shoulders.
    normals: (h, w, 3) where they are not those of the canvas.  holes: (r - 1, c - 1) bool, cells that are left out.
    clothing: lit as part of the shoulders.
    """

    vertices: np.ndarray
    canvas: Canvas
    paint: Paint
    two_sided: bool = False
    jaw: float = 0.0
    body: np.ndarray | None = None
    normals: np.ndarray | None = None
    holes: np.ndarray | None = None
    clothing: bool = False


def make_canvas(surface: Surface, across: np.ndarray, along: np.ndarray, texels: tuple[int, int]) -> Canvas:
    """Samples a surface at every texel; texels are spread between vertices evenly."""
    height, width = texels
    columns = np.interp(np.linspace(0, len(across) - 1, width), np.arange(len(across)), across)
    rows = np.interp(np.linspace(0, len(along) - 1, height), np.arange(len(along)), along)
    u, v = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    return Canvas(u, v, surface(u, v).astype(np.float32))


def make_part(
    surface: Surface,
    across: np.ndarray,
    along: np.ndarray,
    texels: tuple[int, int],
    painter: Painter,
    *,
    two_sided: bool = False,
    jaw: float = 0.0,
    body: Callable[[np.ndarray], np.ndarray] | None = None,
    clothing: bool = False,
) -> Part:
    """A patch of a surface over the grid of `across` and `along`.

    Args:
        body: share that stays with the shoulders, from positions (r, c, 3).
    """
    vertices = surface(*np.meshgrid(across, along))
    canvas = make_canvas(surface, across, along, texels)
    weights = None if body is None else body(vertices)
    return Part(vertices, canvas, painter(canvas), two_sided, jaw, weights, clothing=clothing)


def grid_normals(position: np.ndarray) -> np.ndarray:
    """Unit normals of a (h, w, 3) grid of positions, towards the viewer where x grows with w and y with h."""
    normal = np.cross(np.gradient(position, axis=1), np.gradient(position, axis=0))
    return normal / (np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9)


def texel_normals(canvas: Canvas, relief: np.ndarray) -> np.ndarray:
    """Unit normals (h, w, 3) of a surface with fine relief (pixels) on it."""
    along_u, along_v = np.gradient(canvas.position, axis=1), np.gradient(canvas.position, axis=0)
    normal = np.cross(along_u, along_v)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
    for axis, along in ((1, along_u), (0, along_v)):
        step = np.maximum(np.linalg.norm(along, axis=-1), 0.15)
        tilt = np.gradient(relief, axis=axis) / step**2
        normal -= tilt[..., None] * along
    return normal / (np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9)


class Mesh:
    """All parts of a person as arrays.

    Attributes:
        vertices: (N, 3) float32.  triangles: (M, 3).  two_sided: (M,) bool.  uv: (N, 2) float32 texels.
        body: (N, 1) float32, jaw: (N,) float32, see Part.  clothing: (N,) bool.
        albedo: (H, W, 4) float32, linear BGR and hair.  normals: (H, W, 4) float32, normal and gloss.
        first_body_row: atlas rows from here on are lit with the shoulders.
        windows: where each part lies in the atlas.  starts: (P + 1,) first vertex of each part.
    """

    def __init__(self, parts: Sequence[Part], slit: np.ndarray) -> None:
        """`slit`: vertices of the first part between and below which it is cut open."""
        width = max(p.canvas.shape[1] for p in parts) + 1
        height = sum(p.canvas.shape[0] + _MARGIN for p in parts)
        self.albedo = np.zeros((height, width, 4), dtype=np.float32)
        self.normals = np.zeros((height, width, 4), dtype=np.float32)
        self.windows: list[tuple[slice, slice]] = []
        self.starts = np.cumsum([0] + [p.vertices.shape[0] * p.vertices.shape[1] for p in parts])
        vertex_normals, uv, triangles, two_sided = [], [], [], []
        order = sorted(range(len(parts)), key=lambda number: parts[number].clothing)
        tops = np.cumsum([0] + [parts[number].canvas.shape[0] + _MARGIN for number in order])
        top_of = dict(zip(order, tops[:-1], strict=True))
        self.first_body_row = min((top_of[n] for n in order if parts[n].clothing), default=height) - 1.5
        for number, p in enumerate(parts):
            (rows, columns), (h, w), top = p.vertices.shape[:2], p.canvas.shape, int(top_of[number])
            window = (slice(top, top + h), slice(0, w))
            self.windows.append(window)
            self.albedo[window][..., :3] = np.clip(p.paint.colour, 0, 1) ** 2
            self.albedo[window][..., 3] = p.paint.hair
            self.normals[window][..., :3] = texel_normals(p.canvas, p.paint.relief) if p.normals is None else p.normals
            self.normals[window][..., 3] = p.paint.gloss
            u, v = np.meshgrid(np.linspace(0, w - 1, columns), np.linspace(0, h - 1, rows) + top)
            uv.append(np.stack([u, v], axis=-1).reshape(-1, 2))
            vertex_normals.append(_at_vertices(p).reshape(-1, 3))
            faces = _grid_triangles(rows, columns, int(self.starts[number]), slit if number == 0 else None, p.holes)
            triangles.append(faces)
            two_sided.append(np.full(len(faces), p.two_sided))
        self.vertices = np.concatenate([p.vertices.reshape(-1, 3) for p in parts]).astype(np.float32)
        self.vertex_normals = np.concatenate(vertex_normals).astype(np.float32)
        self.uv = np.concatenate(uv).astype(np.float32)
        self.triangles = np.concatenate(triangles)
        self.two_sided = np.concatenate(two_sided)
        bodies = [np.zeros(p.vertices.shape[:2]) if p.body is None else p.body for p in parts]
        self.body = np.concatenate([b.ravel() for b in bodies]).astype(np.float32)[:, None]
        self.jaw = np.concatenate([np.full(p.vertices.shape[0] * p.vertices.shape[1], p.jaw) for p in parts]).astype(
            np.float32
        )
        self._shapes = [p.vertices.shape[:2] for p in parts]

    def scale_normals(self, ambient: np.ndarray) -> None:
        """Makes normals as long as the ambient light that reaches them; `ambient` (N,) at the vertices, 0..1."""
        for number, window in enumerate(self.windows):
            rows, columns = self._shapes[number]
            grid = ambient[self.starts[number] : self.starts[number + 1]].reshape(rows, columns).astype(np.float32)
            h, w = self.normals[window].shape[:2]
            u, v = np.meshgrid(np.linspace(0, columns - 1, w), np.linspace(0, rows - 1, h))
            self.normals[window][..., :3] *= cv2.remap(
                grid, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )[..., None]


def _at_vertices(part: Part) -> np.ndarray:
    """Normals at the vertices: (r, c, 3)."""
    if part.normals is None:
        return grid_normals(part.vertices)
    (rows, columns), (h, w) = part.vertices.shape[:2], part.canvas.shape
    row, column = (np.rint(np.linspace(0, n - 1, count)).astype(int) for n, count in ((h, rows), (w, columns)))
    return part.normals[row][:, column]


def _grid_triangles(
    rows: int, columns: int, base: int, slit: np.ndarray | None, holes: np.ndarray | None
) -> np.ndarray:
    """Two triangles for each cell of a grid, (M, 3), without `holes` and the cells below vertices of `slit`."""
    index = np.arange(rows * columns).reshape(rows, columns) + base
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    cells = np.stack([np.stack([a, b, c], axis=-1), np.stack([b, d, c], axis=-1)], axis=2)  # (rows, columns, 2, 3)
    keep = np.ones(a.shape, dtype=bool) if holes is None else ~holes
    if slit is not None:
        keep &= ~(np.isin(a, slit) & np.isin(b, slit))
    return cells[keep].reshape(-1, 3)
