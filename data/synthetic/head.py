"""Puts a synthetic person together: mesh, atlas, mouth shapes, camera; renders states and gives their landmarks.

Vertices are head coordinates in template pixels; atlas coordinates are texels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.synthetic.paint import (
    Canvas,
    EyePainter,
    Paint,
    paint_background,
    paint_bun,
    paint_curtain,
    paint_ear,
    paint_head,
    paint_neck,
    paint_teeth,
    paint_throat,
    paint_tongue,
)
from data.synthetic.person import (
    COLUMN_ANGLES,
    LONG_STYLES,
    MOUTH_LINE,
    MOUTH_ROW,
    PIVOT,
    ROW_KNOTS,
    FaceShape,
    FaceState,
    Identity,
    Scene,
    Surface,
    bump,
    bun_surface,
    curtain_surface,
    ear_surface,
    head_surface,
    neck_surface,
    smoothstep,
    teeth_surface,
    tongue_surface,
)
from data.synthetic.raster import Lights, rasterise, sample, shade, smooth_outlines, tone

FRAME_SIZE = 224
CAMERA_DISTANCE = 900.0  # pixels; about 1.1 m from a head of natural size
GAP_PIXELS = 21.0  # between the lips at opening 1
TEMPLATE_EYES = np.array([[87.0, 59.0], [137.0, 59.0]])
TEMPLATE_MOUTH = np.array([112.0, 120.0])
SHAPES = ("open", "spread", "round", "lip_teeth", "press", "brow")
_HEAD_TEXELS = (300, 300)
_MARGIN = 3  # texels between the parts of the atlas
_NECK, _THROAT = 1, 2  # places in the list of parts


@dataclass(frozen=True)
class Part:
    """A textured patch: vertices (r, c, 3), paint and normals over (h, w) texels, and what moves it."""

    vertices: np.ndarray
    canvas: Canvas
    paint: Paint
    two_sided: bool
    jaw: float = 0.0  # share of the jaw's drop
    body: np.ndarray | None = None  # (r, c) 0 turns with the head .. 1 stays with the shoulders


def make_canvas(surface: Surface, across: np.ndarray, along: np.ndarray, texels: tuple[int, int]) -> Canvas:
    """Samples a surface at every texel; texels are spread between vertices evenly."""
    height, width = texels
    columns = np.interp(np.linspace(0, len(across) - 1, width), np.arange(len(across)), across)
    rows = np.interp(np.linspace(0, len(along) - 1, height), np.arange(len(along)), along)
    u, v = np.meshgrid(columns, rows)
    return Canvas(u, v, surface(u, v))


def texel_normals(canvas: Canvas, relief: np.ndarray) -> np.ndarray:
    """Unit normals (h, w, 3) of a surface with fine relief (pixels) on it."""
    along_u, along_v = np.gradient(canvas.position, axis=1), np.gradient(canvas.position, axis=0)
    normal = np.cross(along_u, along_v)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal /= length + 1e-9
    step_u, step_v = np.linalg.norm(along_u, axis=-1), np.linalg.norm(along_v, axis=-1)
    tilt_u = np.gradient(relief, axis=1) / np.maximum(step_u, 0.15)
    tilt_v = np.gradient(relief, axis=0) / np.maximum(step_v, 0.15)
    normal = normal - tilt_u[..., None] * along_u / np.maximum(step_u, 0.15)[..., None]
    normal = normal - tilt_v[..., None] * along_v / np.maximum(step_v, 0.15)[..., None]
    return normal / (np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9)


def mouth_shapes(shape: FaceShape, vertices: np.ndarray, row: np.ndarray, upper_side: np.ndarray) -> np.ndarray:
    """Displacements of the head's vertices for each of SHAPES at full strength.

    Args:
        vertices: (r, c, 3); row: (r, c) row parameter; upper_side: (r, c) bool, above the slit.

    Returns:
        (6, r, c, 3) pixels.
    """
    x, y, z = np.moveaxis(vertices, -1, 0)
    ax, s, mw = np.abs(x), row - MOUTH_LINE, shape.mouth_half_width
    q = x / mw
    face = smoothstep(-25, 10, z)
    inner = np.clip(1 - q * q, 0, 1) ** 0.75
    moves = {name: np.zeros_like(vertices) for name in SHAPES}

    reach = mw + 1.05 * np.maximum(s, 0)
    jaw = np.clip(1 - (ax / reach) ** 2, 0, 1) ** 0.75
    drop = 0.78 * GAP_PIXELS * jaw * (1 - 0.18 * smoothstep(0, 45, s)) * smoothstep(68, 50, s)
    lift = 0.22 * GAP_PIXELS * inner * np.exp(np.minimum(s, 0) / 11)
    corner = 0.20 * GAP_PIXELS * bump(ax, mw, 14) * bump(s, 2, 13)
    moves["open"][..., 1] = np.where(upper_side, -lift, drop) * face + corner * face * smoothstep(0.5, 1.1, np.abs(q))
    moves["open"][..., 2] = -np.where(upper_side, 0, 0.22 * drop * smoothstep(0, 40, s)) * face
    moves["open"][..., 0] = -1.6 * np.sign(x) * bump(ax, mw, 12) * bump(s, 0, 14) * face

    near = bump(s, 0, 20) * face
    pull = np.clip(np.abs(q), 0, 1) * smoothstep(2.3, 1.0, np.abs(q)) * np.sign(x) * near
    moves["spread"][..., 0] = 0.17 * mw * pull
    moves["spread"][..., 1] = -1.6 * bump(ax, mw, 9) * near
    moves["spread"][..., 2] = -2.0 * bump(ax, mw, 12) * near
    moves["round"][..., 0] = -0.36 * mw * pull
    moves["round"][..., 2] = 7.0 * bump(q, 0, 0.75) * bump(s, 0, 12) * face
    moves["round"][..., 1] = np.where(upper_side, -1.2, 1.2) * bump(q, 0, 0.7) * bump(np.abs(s), 8, 6) * face

    tuck = inner * face
    moves["lip_teeth"][..., 1] = np.where(upper_side, -2.8 * np.exp(np.minimum(s, 0) / 8), -1.2 * bump(s, 0, 9)) * tuck
    moves["lip_teeth"][..., 2] = np.where(upper_side, 0, -3.6 * bump(s, 0, 7)) * tuck
    squeeze = bump(np.abs(s), 6, 5) * tuck
    moves["press"][..., 1] = np.where(upper_side, 1.9, -2.2) * squeeze
    moves["press"][..., 2] = -1.8 * bump(s, 0, 7) * tuck
    moves["brow"][..., 1] = -3.6 * bump(y, shape.brow_y - 4, 11) * bump(ax, 22, 24) * smoothstep(-6, -12, y) * face
    return np.stack([moves[name] for name in SHAPES])


def rotation_matrix(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Head to world, (3, 3): pitch first, then yaw, then roll; signs as in FaceState."""
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return tilt @ turn @ nod


class Head:
    """A person in a scene, ready to be rendered; building takes a fraction of a second, a frame some milliseconds."""

    def __init__(self, identity: Identity, scene: Scene) -> None:
        self.identity, self.scene = identity, scene
        self._shape = FaceShape.of(identity)
        front = np.abs(COLUMN_ANGLES) < 0.62  # more than the slit is wide
        self._slit = MOUTH_ROW * len(COLUMN_ANGLES) + np.nonzero(front)[0]  # vertices of the upper lip's edge
        end = COLUMN_ANGLES[front] / np.abs(COLUMN_ANGLES[front]).max()
        self._throat_depth = np.sqrt(1 - end**2)[:, None].astype(np.float32)  # the bag closes at both ends
        parts = self._build_parts()
        self._assemble(parts)
        head = parts[0]
        row = np.broadcast_to(ROW_KNOTS[:, None], head.vertices.shape[:2])
        upper = np.broadcast_to((np.arange(len(ROW_KNOTS)) <= MOUTH_ROW)[:, None], row.shape)
        shapes = mouth_shapes(self._shape, head.vertices, row, upper)
        self._head_count = head.vertices.shape[0] * head.vertices.shape[1]
        self._shapes = shapes.reshape(len(SHAPES), -1).astype(np.float32)
        self._background = paint_background(scene, FRAME_SIZE)
        self._lights = scene_lights(scene)
        self._prepare_eyes(head)
        self._fit_camera()
        self._landmark_grid = _landmark_grid(self._shape, head)

    # -- building

    def _build_parts(self) -> list[Part]:
        who = self.identity

        def part(surface, across, along, texels, painter, two_sided=False, jaw=0.0, body=None):  # type: ignore[no-untyped-def]
            canvas = make_canvas(surface, across, along, texels)
            u, v = np.meshgrid(across, along)
            weights = None if body is None else body(surface(u, v))
            return Part(surface(u, v), canvas, painter(canvas), two_sided, jaw, weights)

        line = np.linspace
        parts = [
            part(
                lambda u, v: head_surface(who, u, v),
                COLUMN_ANGLES,
                ROW_KNOTS,
                _HEAD_TEXELS,
                lambda c: paint_head(who, c),
            ),
            part(
                lambda u, v: neck_surface(who, u, v),
                line(-1.9, 1.9, 27),
                np.concatenate([line(0, 0.5, 9), line(0.55, 1, 9)]),
                (150, 200),
                lambda c: paint_neck(who, self.scene, c),
                body=lambda p: smoothstep(72, 132, p[..., 1]),
            ),
            part(
                lambda u, v: np.stack([u, v, 0 * u], axis=-1),
                line(-1, 1, len(self._slit)),
                line(0, 1, 4),
                (24, 24),
                paint_throat,
                True,
            ),
            part(tongue_surface, line(-1, 1, 7), line(0, 1, 6), (24, 24), paint_tongue, True, 0.72),
            part(
                lambda u, v: teeth_surface(True, u, v),
                line(-1, 1, 9),
                line(0, 1, 3),
                (30, 90),
                lambda c: paint_teeth(True, c),
            ),
            part(
                lambda u, v: teeth_surface(False, u, v),
                line(-1, 1, 9),
                line(1, 0, 3),
                (24, 90),
                lambda c: paint_teeth(False, c),
                jaw=0.80,
            ),
        ]
        if who.hair_style not in LONG_STYLES:
            for side in (-1, 1):
                across = line(0, 1, 6)[::side]
                parts.append(
                    part(
                        lambda u, v, s=side: ear_surface(who, s, u, v),
                        across,
                        line(0.02, 0.98, 11),
                        (40, 32),
                        lambda c: paint_ear(who, c),
                        True,
                    )
                )
        else:
            parts.append(
                part(
                    lambda u, v: curtain_surface(who, u, v),
                    line(1, -1, 25),
                    line(0, 1, 15),
                    (120, 260),
                    lambda c: paint_curtain(who, c),
                    True,
                    body=lambda p: 0.8 * smoothstep(60, 140, p[..., 1]),
                )
            )
        if who.hair_style == "bun":
            parts.append(
                part(bun_surface, line(-np.pi, np.pi, 15), line(0.05, 2.4, 8), (40, 90), lambda c: paint_bun(who, c))
            )
        return parts

    def _assemble(self, parts: list[Part]) -> None:
        """Stacks vertices, triangles and texels of all parts."""
        width = max(p.canvas.shape[1] for p in parts) + 1
        height = sum(p.canvas.shape[0] + _MARGIN for p in parts)
        self._albedo = np.zeros((height, width, 4), dtype=np.float32)
        self._normals = np.zeros((height, width, 4), dtype=np.float32)
        vertices, uv, triangles, two_sided, body, jaw = [], [], [], [], [], []
        top = base = 0
        for number, p in enumerate(parts):
            (rows, columns), (h, w) = p.vertices.shape[:2], p.canvas.shape
            window = (slice(top, top + h), slice(0, w))
            self._albedo[window][..., :3] = np.clip(p.paint.colour, 0, 1) ** 2
            self._albedo[window][..., 3] = p.paint.hair
            self._normals[window][..., :3] = texel_normals(p.canvas, p.paint.relief)
            self._normals[window][..., 3] = p.paint.gloss
            if number == _NECK:
                self._neck_rows = (top - 1.5, top + h + 1.5)
            if number == _THROAT:
                self._throat = slice(base, base + rows * columns)
            u, v = np.meshgrid(np.linspace(0, w - 1, columns), np.linspace(0, h - 1, rows) + top)
            uv.append(np.stack([u, v], axis=-1).reshape(-1, 2))
            vertices.append(p.vertices.reshape(-1, 3))
            faces = _grid_triangles(rows, columns, base, self._slit if number == 0 else None)
            triangles.append(faces)
            two_sided.append(np.full(len(faces), p.two_sided))
            body.append(np.zeros(rows * columns) if p.body is None else p.body.ravel())
            jaw.append(np.full(rows * columns, p.jaw))
            top, base = top + h + _MARGIN, base + rows * columns
        self._vertices = np.concatenate(vertices).astype(np.float32)
        self._uv = np.concatenate(uv).astype(np.float32)
        self._triangles = np.concatenate(triangles)
        self._two_sided = np.concatenate(two_sided)
        self._body = np.concatenate(body).astype(np.float32)[:, None]
        self._jaw = np.concatenate(jaw).astype(np.float32)

    def _prepare_eyes(self, head: Part) -> None:
        self._eyes = []
        position = head.canvas.position
        for side in (-1, 1):
            near = (
                (np.abs(position[..., 0] - side * self._shape.eye_x) < 16.5)
                & (np.abs(position[..., 1]) < 12)
                & (position[..., 2] > 0)
            )
            rows, columns = np.nonzero(near.any(axis=1))[0], np.nonzero(near.any(axis=0))[0]
            window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            skin = np.sqrt(self._albedo[window][..., :3])
            self._eyes.append(
                (window, EyePainter(self.identity, position[window][..., 0], position[window][..., 1], side, skin))
            )

    def _fit_camera(self) -> None:
        """Chooses size and place so that eyes and mouth of the frontal face fall on the template."""
        shape = self._shape
        spots = np.array([[-shape.eye_x, 0, 60.0], [shape.eye_x, 0, 60.0], [0, MOUTH_LINE, 73.0]])
        self._anchor = spots.mean(axis=0)
        target = np.vstack([TEMPLATE_EYES, TEMPLATE_MOUTH])
        seen = spots[:, :2] * (CAMERA_DISTANCE / (CAMERA_DISTANCE - spots[:, 2:]))
        seen_spread, target_spread = seen - seen.mean(axis=0), target - target.mean(axis=0)
        self._scale = float((seen_spread * target_spread).sum() / (seen_spread**2).sum())
        self._centre = target.mean(axis=0)

    # -- posing

    def _deform(self, state: FaceState) -> np.ndarray:
        weights = np.array(
            [state.opening, max(state.width, 0), max(-state.width, 0), state.lip_teeth, state.press, state.brow],
            dtype=np.float32,
        )
        vertices = self._vertices.copy()
        vertices[: self._head_count] += (weights @ self._shapes).reshape(-1, 3)
        drop = 0.78 * GAP_PIXELS * state.opening
        vertices[:, 1] += self._jaw * drop
        vertices[:, 2] += self._jaw * (-0.15 * drop)
        # the throat hangs on the lips, so that no gap opens whatever they do
        upper, lower = vertices[self._slit], vertices[self._slit + len(COLUMN_ANGLES)]
        inward = self._throat_depth * np.array([0, 3, -27], dtype=np.float32)
        deep_lower = lower * (1 - self._throat_depth * np.array([0.2, 0, 0], dtype=np.float32)) + inward
        deep_upper = upper * (1 - self._throat_depth * np.array([0.2, 0, 0], dtype=np.float32)) + inward * [1, -1, 1]
        vertices[self._throat] = np.concatenate([upper, deep_upper, deep_lower, lower])
        return vertices

    def _project(
        self, state: FaceState, vertices: np.ndarray, body: np.ndarray | float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Head coordinates to the frame: (N, 2) pixels and (N,) depth."""
        rotation = rotation_matrix(state.yaw, state.pitch, state.roll)
        turned = (vertices - PIVOT) @ rotation.T + PIVOT
        world = turned + (vertices - turned) * body
        anchor = rotation @ (self._anchor - PIVOT) + PIVOT
        focus = self._scale * state.zoom
        anchor_xy = anchor[:2] * (focus * CAMERA_DISTANCE / (CAMERA_DISTANCE - anchor[2]))
        offset = self._centre - anchor_xy + np.array([state.shift_x, state.shift_y])
        scale = focus * CAMERA_DISTANCE / (CAMERA_DISTANCE - world[:, 2:])
        points = world[:, :2] * scale + offset
        return points.astype(np.float32), world[:, 2].astype(np.float32)

    # -- results

    def render(self, state: FaceState) -> np.ndarray:
        """One frame: (224, 224, 3) uint8 BGR."""
        rotation = rotation_matrix(state.yaw, state.pitch, state.roll)
        light = rotation.T @ self._lights.key_direction
        for window, painter in self._eyes:
            self._albedo[window][..., :3] = painter.paint(state, float(light[0])) ** 2
        points, depth = self._project(state, self._deform(state), self._body)
        depth[self._throat] -= 2  # where it touches the lips, the lips are seen
        fragments = rasterise(points, depth, self._uv, self._triangles, self._two_sided, FRAME_SIZE)
        low, high = self._neck_rows
        on_neck = (fragments.uv[:, 1] > low) & (fragments.uv[:, 1] < high)
        frame = self._background.copy()
        pixels = frame.reshape(-1, 3)
        for group, turned in ((np.nonzero(on_neck)[0], np.eye(3)), (np.nonzero(~on_neck)[0], rotation)):
            uv = fragments.uv[group]
            linear = shade(sample(self._albedo, uv), sample(self._normals, uv), turned, self._lights)
            pixels[fragments.pixel[group]] = tone(linear)
        return smooth_outlines(frame, fragments)

    def landmarks(self, state: FaceState) -> np.ndarray:
        """68 points of the surface in iBUG order: (68, 2) float32, (x, y) in pixels, hidden ones included."""
        rows, columns = MESH_SHAPE
        mesh = self._deform(state)[: self._head_count].reshape(rows, columns, 3)
        open_eye, closed_eye = self._landmark_grid
        points = _sample_grid(mesh, open_eye + (closed_eye - open_eye) * np.clip(state.blink, 0, 1))
        return self._project(state, points)[0]


MESH_SHAPE = (len(ROW_KNOTS), len(COLUMN_ANGLES))


def scene_lights(scene: Scene) -> Lights:
    """Key light, fill light from the other side, sky and ground."""
    azimuth, elevation = np.radians([scene.light_azimuth_deg, scene.light_elevation_deg])
    key = np.array([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    warm = np.array([1 - 0.10 * scene.light_warmth, 1.0, 1 + 0.08 * scene.light_warmth])
    fill = np.array([-np.sign(key[0]) * 0.8, -0.1, 0.6])
    surroundings = np.array(scene.background_bgr) / max(np.mean(scene.background_bgr), 0.1)
    ambient = 0.6 + 0.4 * surroundings
    return Lights(
        key_direction=key,
        key_colour=scene.key_strength * warm,
        fill_direction=fill / np.linalg.norm(fill),
        fill_colour=scene.fill_strength * (2 - warm) * ambient,
        sky_colour=0.20 * ambient,
        ground_colour=0.10 * ambient * np.array([0.9, 0.97, 1.1]),
    )


def _grid_triangles(rows: int, columns: int, base: int, slit: np.ndarray | None) -> np.ndarray:
    """Two triangles for each cell of a grid, (M, 3), without the cells below and between the vertices of `slit`."""
    index = np.arange(rows * columns).reshape(rows, columns) + base
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    cells = np.stack([np.stack([a, b, c], axis=-1), np.stack([b, d, c], axis=-1)], axis=2)  # (rows, columns, 2, 3)
    if slit is not None:
        cells = cells[~(np.isin(a, slit) & np.isin(b, slit))]
    return cells.reshape(-1, 3)


def _landmark_grid(shape: FaceShape, head: Part) -> tuple[np.ndarray, np.ndarray]:
    """Grid coordinates (row, column) of the 68 points with open and with closed eyes: two (68, 2) float64."""
    spots = np.zeros((68, 2))
    ew, mw = shape.eye_half_width, shape.mouth_half_width
    brow_x = np.linspace(41, 12, 5)
    brow_y = shape.brow_y + np.array([2.5, -2.0, -3.2, -2.0, 1.5])
    spots[17:22] = np.stack([-brow_x, brow_y], axis=1)
    spots[22:27] = np.stack([brow_x[::-1], brow_y[::-1]], axis=1)
    base = shape.nose_base_y
    spots[27:31, 1] = np.linspace(-3, base - 6, 4)
    nose_x = np.array([-0.85, -0.42, 0, 0.42, 0.85]) * shape.nose_half_width
    spots[31:36] = np.stack([nose_x, base + np.array([0.5, 2.2, 3, 2.2, 0.5])], axis=1)
    closed = spots.copy()
    # eyes: outer corner, two upper, inner corner, two lower on the left of the picture; mirrored on the right
    u = np.array([ew, 0.42 * ew, -0.42 * ew, -ew, -0.42 * ew, 0.42 * ew])
    v = np.array([0, -0.9, -0.9, 0, 0.82, 0.82]) * np.array(
        [1, shape.lid_up, shape.lid_up, 1, shape.lid_down, shape.lid_down]
    )
    shut = np.where(v < 0, 0.8 * 0.82 * shape.lid_down, v)
    order = [3, 2, 1, 0, 5, 4]
    for values, lids in ((spots, v), (closed, shut)):
        values[36:42] = np.stack([-(shape.eye_x + u), lids - shape.eye_tilt * u], axis=1)
        values[42:48] = np.stack([shape.eye_x + u[order], (lids - shape.eye_tilt * u)[order]], axis=1)
    grids = []
    jaw = _jaw_grid(head)
    for values in (spots, closed):
        grid = np.zeros((68, 2))
        grid[:17] = jaw
        for point in range(17, 48):
            grid[point] = _find(head, float(values[point, 0]), float(values[point, 1]))
        grid[48:] = _mouth_grid(shape, head, mw)
        grids.append(grid)
    return grids[0], grids[1]


def _jaw_grid(head: Part) -> np.ndarray:
    """Grid coordinates (row, column) of points 0-16: along the jaw from ear to ear, evenly spaced from the front."""
    angle = np.linspace(-88, 88, 241)
    row = np.interp(np.abs(angle), [0, 15, 35, 55, 70, 80, 88], [105, 105, 104.5, 103, 94, 62, 6])
    line = np.stack(
        [
            np.interp(row, ROW_KNOTS, np.arange(len(ROW_KNOTS))),
            np.interp(np.radians(angle), COLUMN_ANGLES, np.arange(len(COLUMN_ANGLES))),
        ],
        axis=1,
    )
    seen = _sample_grid(head.vertices, line)[:, :2]
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(seen, axis=0), axis=1))])
    stops = np.linspace(0, way[-1], 17)
    return np.stack([np.interp(stops, way, line[:, 0]), np.interp(stops, way, line[:, 1])], axis=1)


def _mouth_grid(shape: FaceShape, head: Part, mw: float) -> np.ndarray:
    """Grid coordinates (row, column) of points 48-67; the inner ones lie on the edges of the slit."""
    outer_q = np.array([-1, -0.62, -0.22, 0, 0.22, 0.62, 1, 0.6, 0.25, 0, -0.25, -0.6])
    height = np.array([0, -0.72, -1.0, -0.82, -1.0, -0.72, 0, 0.76, 0.96, 1.0, 0.96, 0.76])
    s = np.where(height < 0, height * shape.upper_lip, height * shape.lower_lip)
    inner_q = np.array([-0.9, -0.4, 0, 0.4, 0.9, 0.4, 0, -0.4])
    last = len(ROW_KNOTS) - 1
    rows = np.interp(MOUTH_LINE + s, ROW_KNOTS, np.arange(last + 1))
    inner_rows = MOUTH_ROW + np.array([0.5, 0, 0, 0, 0.5, 1, 1, 1])
    row = np.concatenate([rows, inner_rows])
    x = np.concatenate([outer_q, inner_q]) * mw
    grid = np.zeros((20, 2))
    for point in range(20):
        line = head.vertices[round(row[point]), :, 0]
        front = np.abs(COLUMN_ANGLES) < np.pi / 2
        grid[point] = row[point], np.interp(x[point], line[front], np.nonzero(front)[0])
    return grid


def _find(head: Part, x: float, y: float) -> tuple[float, float]:
    """Grid coordinates (row, column) of the front texel nearest to (x, y)."""
    position = head.canvas.position
    distance = (position[..., 0] - x) ** 2 + (position[..., 1] - y) ** 2 + 1e6 * (position[..., 2] < 0)
    row, column = np.unravel_index(np.argmin(distance), distance.shape)
    rows, columns = MESH_SHAPE
    return float(row * (rows - 1) / (distance.shape[0] - 1)), float(column * (columns - 1) / (distance.shape[1] - 1))


def _sample_grid(mesh: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Bilinear look-up of (r, c, 3) vertices at (n, 2) grid coordinates (row, column): (n, 3)."""
    low = np.minimum(np.floor(grid).astype(int), np.array(mesh.shape[:2]) - 2)
    f = grid - low
    r, c = low[:, 0], low[:, 1]
    top = mesh[r, c] + (mesh[r, c + 1] - mesh[r, c]) * f[:, 1:]
    bottom = mesh[r + 1, c] + (mesh[r + 1, c + 1] - mesh[r + 1, c]) * f[:, 1:]
    return top + (bottom - top) * f[:, :1]
