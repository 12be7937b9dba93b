"""A small software rasteriser and its lights: textured triangles in, shaded 8-bit BGR out; lengths in pixels.

Everything is numpy and OpenCV over whole arrays: triangles become horizontal spans, spans become fragments, and the
nearest fragment of every pixel is shaded with a normal map.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_SHADOW_REACH = 150.0  # pixels from the middle to the edge of a shadow map
EDGE_DEPTH = 6.0  # a jump in depth (pixels) that counts as an outline and is smoothed
_PANE_DEPTH = 7.0  # cheeks and lashes may reach so far through a pane, which is nearly flat
_SHADE_COLUMNS = 256  # visible pixels are handed to cv2.remap in rows of this length


@dataclass(frozen=True)
class Fragments:
    """The visible pixels of a frame.

    pixel: (K,) int32 index row * size + column.  depth: (K,) float32, larger is nearer.
    values: (A, K) float32, what was given for the vertices.
    """

    pixel: np.ndarray
    depth: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Lights:
    """Directions are unit vectors towards the light (x right, y down, z to the viewer); colours are linear BGR."""

    key_direction: np.ndarray
    key_colour: np.ndarray
    fill_direction: np.ndarray
    fill_colour: np.ndarray
    rim_direction: np.ndarray
    rim_colour: np.ndarray
    sky_colour: np.ndarray
    ground_colour: np.ndarray


def rasterise(
    points: np.ndarray, depth: np.ndarray, values: np.ndarray, triangles: np.ndarray, two_sided: np.ndarray, size: int
) -> Fragments:
    """Finds the nearest surface at every pixel centre of a size x size frame.

    Args:
        points: (N, 2) float32 vertices on the frame, (x, y) in pixels; pixel centres are at whole numbers.
        depth: (N,) float32, larger is nearer.
        values: (N, A) float32, interpolated between the vertices.
        triangles: (M, 3) indices; counter-clockwise on the screen (y down) is the back and is left out,
            except where `two_sided` (M,) is set.
    """
    x, y = points[:, 0][triangles], points[:, 1][triangles]  # (M, 3)
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    seen = np.nonzero((area > 1e-3) | (two_sided & (area < -1e-3)))[0]
    x, y, area = x[seen].T.copy(), y[seen].T.copy(), area[seen]  # (3, M): whole rows are quicker than short columns
    first_row = np.ceil(np.maximum(np.minimum(np.minimum(y[0], y[1]), y[2]), 0)).astype(np.int32)
    last_row = np.floor(np.minimum(np.maximum(np.maximum(y[0], y[1]), y[2]), size - 1)).astype(np.int32)
    rows = np.maximum(last_row - first_row + 1, 0)

    met = np.nonzero(rows)[0].astype(np.int32)
    owner = np.repeat(met, rows[met])  # (spans,) triangle of each span
    row = _runs(first_row[met], rows[met])
    left, right = _span_ends(x, y, area, owner, row.astype(np.float32))
    start = np.ceil(np.maximum(left, 0)).astype(np.int32)
    length = np.maximum(np.floor(np.minimum(right, size - 1)).astype(np.int32) - start + 1, 0)
    filled = np.nonzero(length)[0]
    owner, row, start, length = owner[filled], row[filled], start[filled], length[filled]

    corner = triangles[seen]
    z_corner, z_per_x, z_per_y = _planes(x, y, area, depth[corner])  # (M,) each
    z = z_corner[owner] + z_per_y[owner] * (row.astype(np.float32) - y[0][owner])
    z += z_per_x[owner] * (start.astype(np.float32) + np.float32(0.5) * (length - 1) - x[0][owner])
    order = _by_depth(z)  # of whole spans: they are a few pixels long, and there are ten times fewer than pixels
    owner, length = owner[order], length[order]
    first = (row * size + start)[order]
    winner = np.full(size * size, -1, dtype=np.int32)
    winner[_runs(first, length)] = np.repeat(owner, length)  # the last one written is the nearest
    pixel = np.nonzero(winner >= 0)[0].astype(np.int32)
    chosen = winner[pixel]
    from_x = (pixel % size).astype(np.float32) - x[0][chosen]
    from_y = (pixel // size).astype(np.float32) - y[0][chosen]
    shown = np.empty((values.shape[1], len(pixel)), dtype=np.float32)
    for number, value in enumerate(values.T):
        at_corner, per_x, per_y = _planes(x, y, area, value[corner])
        shown[number] = at_corner[chosen] + per_x[chosen] * from_x + per_y[chosen] * from_y
    at = z_corner[chosen] + z_per_x[chosen] * from_x + z_per_y[chosen] * from_y
    return Fragments(pixel, at, shown)


def _runs(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """first, first + 1, ... for each of `counts` (all at least 1), one after the other: (sum,) int32."""
    ends = np.cumsum(counts)
    if not len(ends):
        return np.zeros(0, dtype=np.int32)
    steps = np.ones(ends[-1], dtype=np.int32)
    steps[0] = first[0]
    steps[ends[:-1]] = first[1:] - first[:-1] - counts[:-1] + 1
    return np.cumsum(steps, dtype=np.int32)


def _span_ends(
    x: np.ndarray, y: np.ndarray, area: np.ndarray, owner: np.ndarray, row: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where each triangle's row begins and ends: (spans,) float32 each."""
    left = np.full(len(owner), -1e9, dtype=np.float32)
    right = np.full(len(owner), 1e9, dtype=np.float32)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        rise = y[b] - y[a]
        flat = np.abs(rise) < 1e-6
        slope = np.where(flat, 0, (x[b] - x[a]) / np.where(flat, 1, rise))
        rising = (rise * area) > 0  # such an edge bounds the triangle on the right
        crossing = slope[owner] * (row - y[a][owner])  # from the corner, because slopes can be huge
        left = np.maximum(left, crossing + np.where(flat | rising, np.float32(-1e9), x[a])[owner])
        right = np.minimum(right, crossing + np.where(flat | ~rising, np.float32(1e9), x[a])[owner])
    return left, right


def _planes(
    x: np.ndarray, y: np.ndarray, area: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The linear function through three corners, value (M, 3): at the first corner, d/dx and d/dy, (M,) each."""
    a, b = value[:, 1] - value[:, 0], value[:, 2] - value[:, 0]
    per_x = (a * (y[2] - y[0]) - b * (y[1] - y[0])) / area
    per_y = (b * (x[1] - x[0]) - a * (x[2] - x[0])) / area
    return value[:, 0], per_x, per_y


def _by_depth(z: np.ndarray) -> np.ndarray:
    """Order from far to near, in 65536 steps, because numpy sorts 16-bit integers in linear time."""
    if not len(z):
        return np.zeros(0, dtype=np.int64)
    low, high = float(z.min()), float(z.max())
    step = ((z - np.float32(low)) * np.float32(65535.0 / max(high - low, 1e-6))).astype(np.uint16)
    return np.argsort(step, kind="stable")


def sample(atlas: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear look-up of (H, W, C) float32 at (2, K) texel coordinates: (C, K) float32."""
    count = uv.shape[1]
    if not count:
        return np.zeros((atlas.shape[2], 0), dtype=np.float32)
    rows = -(-count // _SHADE_COLUMNS)
    grid = np.zeros((2, rows * _SHADE_COLUMNS), dtype=np.float32)
    grid[:, :count] = uv
    grid = grid.reshape(2, rows, _SHADE_COLUMNS)
    picked = cv2.remap(atlas, grid[0], grid[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.stack([plane.ravel()[:count] for plane in cv2.split(picked)])


def shade(
    colour: np.ndarray,
    normal: np.ndarray,
    lit: np.ndarray,
    rotation: np.ndarray,
    still: np.ndarray,
    lights: Lights,
    steps: int = 0,
) -> np.ndarray:
    """Lights the visible pixels.

    Args:
        colour: (4, K) float32: linear BGR albedo and how much it is hair (0..1).
        normal: (4, K) float32: outward normal in the part's own frame, as long as the ambient light that gets there
            (0..1), and gloss (0..1).
        lit: (K,) float32: how much of the key light gets there (0..1).
        rotation: (3, 3), head to world.
        still: indices of pixels that do not turn with the head.
        steps: so many steps of light, as in a drawn cartoon; 0: smooth.

    Returns:
        (3, K) float32 linear BGR. Skin lets light creep past the terminator, red furthest; hair shines in a band.
    """
    half = lights.key_direction + np.array([0, 0, 1.0])
    half /= np.linalg.norm(half)
    directions = np.stack(
        [lights.key_direction, lights.fill_direction, half, lights.rim_direction, [0, 1.0, 0], [0, 0, 1.0]]
    )
    ambient = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2] + np.float32(1e-9))
    toward = (directions @ rotation).astype(np.float32) @ normal[:3]
    toward[:, still] = directions.astype(np.float32) @ normal[:3, still]
    toward /= ambient
    toward *= np.where(toward[5] < -0.25, np.float32(-1), np.float32(1))  # the back of something thin
    key, fill, shine, rim, down, facing = toward
    fill = np.maximum(fill * np.float32(0.7) + np.float32(0.3), 0) * ambient
    rim = np.maximum(rim, 0) * ambient
    down = (down * np.float32(0.5) + np.float32(0.5)) * ambient
    edge = 1 - np.clip(facing, 0, 1)
    edge = edge * edge
    edge = edge * edge * ambient * np.float32(0.30)  # at grazing angles everything shines
    shine = np.maximum(shine, 0)
    shine = shine * shine
    shine = shine * shine
    shine = shine * shine  # to the 8th
    wide = shine * shine
    gloss = normal[3] * lit * (colour[3] * shine + (1 - colour[3]) * (np.float32(0.35) * wide + wide * wide))
    if steps:
        key = np.floor(np.maximum(key * lit, 0) * steps + np.float32(0.5)) / np.float32(steps)
    out = np.empty((3, len(key)), dtype=np.float32)
    for channel, wrap in enumerate((0.08, 0.14, 0.28)):
        bright = np.float32(lights.key_colour[channel])
        light = np.maximum(key + np.float32(wrap), 0) * (bright / np.float32(1 + wrap)) * lit
        light += fill * np.float32(lights.fill_colour[channel])
        light += rim * np.float32(lights.rim_colour[channel])
        light += down * np.float32(lights.ground_colour[channel] - lights.sky_colour[channel])
        light += ambient * np.float32(lights.sky_colour[channel])
        out[channel] = colour[channel] * light + gloss * bright
        out[channel] += edge * np.float32(lights.sky_colour[channel] + 0.4 * lights.fill_colour[channel])
    return out


def tone(linear: np.ndarray) -> np.ndarray:
    """Linear (3, K) float32 to 8 bit (K, 3): a square root (gamma 2) with a soft shoulder."""
    compressed = np.maximum(linear, 0)
    compressed = compressed / (np.float32(0.80) + np.float32(0.35) * compressed)
    eight_bit = (np.sqrt(np.minimum(compressed, 1)) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(eight_bit.T)


def smooth_outlines(frame: np.ndarray, fragments: Fragments, ink: float = 1.0) -> np.ndarray:
    """Softens the stairs where depth jumps; (size, size, 3) uint8 in and out. `ink` below 1 draws the outline dark."""
    size = frame.shape[0]
    depth = np.zeros(size * size, dtype=np.uint8)
    depth[fragments.pixel] = np.clip(fragments.depth + 160, 1, 255).astype(np.uint8)
    depth = depth.reshape(size, size)
    box = np.ones((3, 3), dtype=np.uint8)
    outline = (cv2.subtract(cv2.dilate(depth, box), cv2.erode(depth, box)) > EDGE_DEPTH).view(np.uint8)
    cv2.copyTo(cv2.convertScaleAbs(cv2.GaussianBlur(frame, (3, 3), 0.8), alpha=ink), outline, frame)
    return frame


@dataclass(frozen=True)
class Glass:
    """What a pane does: linear BGR tint, its opacity at the upper and the lower end, and a band of reflected light."""

    tint: np.ndarray
    opacity: tuple[float, float]
    reflection: float
    band: float  # where the band lies


def glaze(frame: np.ndarray, fragments: Fragments, outline: np.ndarray, depth: np.ndarray, glass: Glass) -> None:
    """Lays a pane over a frame, in place, where nothing is before it.

    Args:
        frame: (size, size, 3) uint8.  fragments: what it shows.
        outline: (K, 2) float32 pixels, depth: (K,) float32 there.
    """
    size = frame.shape[0]
    low = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, size)
    high = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 1, 0, size)
    if (high <= low).any():
        return
    (x0, y0), (x1, y1) = low, high
    mask = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    cv2.fillPoly(mask, [np.round((outline - low) * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    plane, *_ = np.linalg.lstsq(np.column_stack([outline, np.ones_like(depth)]), depth, rcond=None)
    near = np.full(size * size, -1e3, dtype=np.float32)
    near[fragments.pixel] = fragments.depth
    behind = near.reshape(size, size)[y0:y1, x0:x1] < plane[0] * x + plane[1] * y + plane[2] + _PANE_DEPTH
    part = mask.astype(np.float32) / 255 * behind
    down = (y - y0) / max(y1 - y0, 1)
    slant = (x - x0) / max(x1 - x0, 1) + 0.6 * down + glass.band
    light = glass.reflection * 160 * np.maximum(np.cos(slant * 3.0 - 1.2), 0) ** 6 * np.clip(1.2 - down, 0, 1)
    opacity = (glass.opacity[0] + (glass.opacity[1] - glass.opacity[0]) * down) * part
    there = frame[y0:y1, x0:x1].astype(np.float32)
    there += ((np.sqrt(glass.tint) * 255).astype(np.float32) - there) * opacity[..., None] + (light * part)[..., None]
    frame[y0:y1, x0:x1] = np.clip(there, 0, 255).astype(np.uint8)


def visibility(
    points: np.ndarray, normals: np.ndarray, triangles: np.ndarray, directions: np.ndarray, cells: int = 96
) -> np.ndarray:
    """How much of the light from each direction reaches each vertex past everything else.

    Args:
        points, normals: (N, 3) float32, pixels; light is looked for a little above the surface.
        directions: (D, 3) unit vectors towards the light.
        cells: of the square shadow map.

    Returns:
        (N, D) float32, 0..1.
    """
    both = np.ones(len(triangles), dtype=bool)
    nothing = np.zeros((len(points), 0), dtype=np.float32)
    scale = np.float32((cells / 2 - 2) / _SHADOW_REACH)
    seen = np.empty((len(points), len(directions)), dtype=np.float32)
    for number, direction in enumerate(directions):
        side = np.cross([0.0, 1.0, 0.0], direction)
        side /= np.linalg.norm(side) + 1e-9
        basis = np.stack([side, np.cross(direction, side), direction]).astype(np.float32)
        turned = points @ basis.T  # (N, 3)
        depth = np.ascontiguousarray(turned[:, 2])
        place = (turned[:, :2] + np.array([0, 10], np.float32)) * scale + np.float32(cells / 2)
        fragments = rasterise(place, depth, nothing, triangles, both, cells)
        nearest = np.full(cells * cells, -1e3, dtype=np.float32)
        nearest[fragments.pixel] = fragments.depth
        above = normals @ basis.T * np.float32(2.5)  # (N, 3)
        column, row = (place + above[:, :2] * scale).T
        depth = depth + above[:, 2]
        total = np.zeros(len(points), dtype=np.float32)
        for dx, dy in ((-0.8, -0.4), (0.4, -0.8), (0.8, 0.4), (-0.4, 0.8)):
            x = np.clip(np.rint(column + dx), 0, cells - 1).astype(np.int32)
            y = np.clip(np.rint(row + dy), 0, cells - 1).astype(np.int32)
            behind = nearest[y * cells + x] - depth
            total += 1 - np.clip((behind - np.float32(3.0)) * np.float32(0.4), 0, 1)
        seen[:, number] = total / 4
    return seen
