"""A small software rasteriser and its lights: textured triangles in, shaded 8-bit BGR out; lengths in pixels.

Everything is numpy and OpenCV over whole arrays: triangles become horizontal spans, spans become fragments, and the
nearest fragment of every pixel is shaded with a normal map.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

EDGE_DEPTH = 6.0  # a jump in depth (pixels) that counts as an outline and is smoothed
_SHADE_COLUMNS = 256  # visible pixels are handed to cv2.remap in rows of this length


@dataclass(frozen=True)
class Fragments:
    """The visible pixels of a frame.

    pixel: (K,) int32 index row * size + column.  depth: (K,) float32, larger is nearer.
    uv: (K, 2) float32 texel coordinates.
    """

    pixel: np.ndarray
    depth: np.ndarray
    uv: np.ndarray


@dataclass(frozen=True)
class Lights:
    """Directions are unit vectors towards the light (x right, y down, z to the viewer); colours are linear BGR."""

    key_direction: np.ndarray
    key_colour: np.ndarray
    fill_direction: np.ndarray
    fill_colour: np.ndarray
    sky_colour: np.ndarray
    ground_colour: np.ndarray


def rasterise(
    points: np.ndarray, depth: np.ndarray, uv: np.ndarray, triangles: np.ndarray, two_sided: np.ndarray, size: int
) -> Fragments:
    """Finds the nearest surface at every pixel centre of a size x size frame.

    Args:
        points: (N, 2) float32 vertices on the frame, (x, y) in pixels; pixel centres are at whole numbers.
        depth: (N,) float32, larger is nearer.
        uv: (N, 2) float32 texel coordinates.
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

    owner = np.repeat(np.arange(len(rows), dtype=np.int32), rows)  # (spans,) triangle of each span
    row = _ramp(rows) + first_row[owner]
    left, right = _span_ends(x, y, area, owner, row.astype(np.float32))
    start = np.ceil(np.maximum(left, 0)).astype(np.int32)
    length = np.maximum(np.floor(np.minimum(right, size - 1)).astype(np.int32) - start + 1, 0)
    filled = np.nonzero(length)[0]
    owner, row, start, length = owner[filled], row[filled], start[filled], length[filled]

    corner = triangles[seen]
    z_corner, z_per_x, z_per_y = _planes(x, y, area, depth[corner])  # (M,) each
    z_slope = z_per_x[owner]
    z_start = z_corner[owner] + z_slope * (start.astype(np.float32) - x[0][owner])
    z_start += z_per_y[owner] * (row.astype(np.float32) - y[0][owner])
    ramp = _ramp(length)
    pixel = ramp + np.repeat(row * size + start, length)
    z = np.repeat(z_start, length) + np.repeat(z_slope, length) * ramp.astype(np.float32)

    nearest = _nearest(pixel, z, size * size)
    chosen = np.repeat(owner, length)[nearest]
    pixel = pixel[nearest]
    from_x = (pixel % size).astype(np.float32) - x[0][chosen]
    from_y = (pixel // size).astype(np.float32) - y[0][chosen]
    chosen_uv = np.empty((len(pixel), 2), dtype=np.float32)
    for axis in (0, 1):
        at_corner, per_x, per_y = _planes(x, y, area, uv[:, axis][corner])
        chosen_uv[:, axis] = at_corner[chosen] + per_x[chosen] * from_x + per_y[chosen] * from_y
    return Fragments(pixel, z[nearest], chosen_uv)


def _ramp(counts: np.ndarray) -> np.ndarray:
    """0..c-1 for every c of `counts`, one after the other: (sum,) int32."""
    ends = np.cumsum(counts, dtype=np.int32)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int32) - np.repeat(ends - counts, counts)


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


def _nearest(pixel: np.ndarray, z: np.ndarray, num_pixels: int) -> np.ndarray:
    """Index of the nearest fragment of every pixel that has one, in pixel order.

    Depths are compared in 65536 steps, because numpy sorts 16-bit integers in linear time.
    """
    if not len(z):
        return np.zeros(0, dtype=np.int32)
    low, high = float(z.min()), float(z.max())
    step = ((z - np.float32(low)) * np.float32(65535.0 / max(high - low, 1e-6))).astype(np.uint16)
    order = np.argsort(step, kind="stable")
    winner = np.full(num_pixels, -1, dtype=np.int32)
    winner[pixel[order]] = order
    return winner[winner >= 0]


def sample(atlas: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear look-up of (H, W, C) float32 at (K, 2) texel coordinates: (C, K) float32."""
    count = len(uv)
    if not count:
        return np.zeros((atlas.shape[2], 0), dtype=np.float32)
    rows = -(-count // _SHADE_COLUMNS)
    padded = np.zeros((rows * _SHADE_COLUMNS, 2), dtype=np.float32)
    padded[:count] = uv
    grid = padded.reshape(rows, _SHADE_COLUMNS, 2)
    picked = cv2.remap(  # type: ignore[call-overload]  # the stubs know no absent second map
        atlas, grid, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.stack([plane.ravel()[:count] for plane in cv2.split(picked)])


def shade(colour: np.ndarray, normal: np.ndarray, rotation: np.ndarray, lights: Lights) -> np.ndarray:
    """Lights one rigid part.

    Args:
        colour: (4, K) float32: linear BGR albedo and how much it is hair (0..1).
        normal: (4, K) float32: outward normal in the part's own frame and gloss (0..1).
        rotation: (3, 3), part to world.

    Returns:
        (3, K) float32 linear BGR. Skin lets light creep past the terminator, red furthest; hair shines in a band.
    """
    half = lights.key_direction + np.array([0, 0, 1.0])
    half /= np.linalg.norm(half)
    directions = np.stack([lights.key_direction, lights.fill_direction, half, np.array([0, 1.0, 0])])
    length = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2] + np.float32(1e-9))
    toward = (directions @ rotation).astype(np.float32) @ normal[:3]
    key, fill, shine, down = toward / length
    fill = np.maximum(fill * np.float32(0.7) + np.float32(0.3), 0)
    down = down * np.float32(0.5) + np.float32(0.5)
    shine = np.maximum(shine, 0)
    shine = shine * shine
    shine = shine * shine
    shine = shine * shine  # to the 8th
    gloss = normal[3] * shine * (colour[3] + (1 - colour[3]) * shine * shine)
    out = np.empty((3, len(key)), dtype=np.float32)
    for channel, wrap in enumerate((0.10, 0.16, 0.30)):
        bright = np.float32(lights.key_colour[channel])
        light = np.maximum(key + np.float32(wrap), 0) * (bright / np.float32(1 + wrap))
        light += fill * np.float32(lights.fill_colour[channel])
        light += down * np.float32(lights.ground_colour[channel] - lights.sky_colour[channel])
        light += np.float32(lights.sky_colour[channel])
        out[channel] = colour[channel] * light + gloss * bright
    return out


def tone(linear: np.ndarray) -> np.ndarray:
    """Linear (3, K) float32 to 8 bit (K, 3), with a square root as the tone curve (gamma 2)."""
    eight_bit = (np.sqrt(np.clip(linear, 0, 1)) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(eight_bit.T)


def smooth_outlines(frame: np.ndarray, fragments: Fragments) -> np.ndarray:
    """Softens the stairs where depth jumps; (size, size, 3) uint8 in and out."""
    size = frame.shape[0]
    depth = np.zeros(size * size, dtype=np.uint8)
    depth[fragments.pixel] = np.clip(fragments.depth + 160, 1, 255).astype(np.uint8)
    depth = depth.reshape(size, size)
    box = np.ones((3, 3), dtype=np.uint8)
    outline = (cv2.subtract(cv2.dilate(depth, box), cv2.erode(depth, box)) > EDGE_DEPTH).view(np.uint8)
    cv2.copyTo(cv2.GaussianBlur(frame, (3, 3), 0.8), outline, frame)
    return frame
