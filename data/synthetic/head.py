"""Puts a synthetic person together: mesh, atlas, camera; renders states and gives their landmarks.

Vertices are head coordinates in template pixels; pictures are drawn 1.5 times as large as they come out.
"""

from __future__ import annotations

import cv2
import numpy as np

from data.synthetic.backdrop import BACKDROP_SIZE, paint_backdrop
from data.synthetic.clothes import make_clothes
from data.synthetic.eyes import EyePainter
from data.synthetic.hair import cap_relief, curtain_surface, make_locks, paint_cap, paint_curtain
from data.synthetic.landmarks import landmark_grids, sample_grid
from data.synthetic.maths import smoothstep
from data.synthetic.mesh import Mesh, Part, grid_normals, make_part
from data.synthetic.mouth import GAP_PIXELS, JAW_SHARE, SHAPES, mouth_shapes
from data.synthetic.paint import SkinPainter, beard_relief, paint_ear, paint_teeth, paint_throat, paint_tongue
from data.synthetic.person import LONG_STYLES, FaceState, Identity
from data.synthetic.raster import Fragments, Lights, rasterise, sample, shade, smooth_outlines, tone, visibility
from data.synthetic.scene import Scene, scene_lights
from data.synthetic.surface import (
    COLUMN_ANGLES,
    MESH_SHAPE,
    MOUTH_LINE,
    MOUTH_ROW,
    PIVOT,
    ROW_KNOTS,
    FaceShape,
    ear_surface,
    head_surface,
    outward,
    settle,
    tallness,
    teeth_surface,
    tongue_surface,
)
from data.synthetic.wear import headwear_relief, make_earrings, make_glasses, make_headwear, paint_headwear

FRAME_SIZE = 224
TEMPLATE_EYES = np.array([[87.0, 59.0], [137.0, 59.0]])
TEMPLATE_MOUTH = np.array([112.0, 120.0])
_OVERSIZE = 1.5  # of the drawn picture
_DRAWN = int(FRAME_SIZE * _OVERSIZE)
_HEAD_TEXELS = (350, 330)
_FAR = 0.7  # how far the background moves when the shoulders move by 1
_THROAT = 2  # place in the list of parts
_NUM_LIGHTS = 28  # directions for which shadows are known


def rotation_matrix(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Head to world, (3, 3): pitch first, then yaw, then roll; signs as in FaceState."""
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return tilt @ turn @ nod


def _light_directions() -> np.ndarray:
    """Unit vectors spread over the half of the sphere before the face, and a little behind: (_NUM_LIGHTS, 3)."""
    number = np.arange(_NUM_LIGHTS) + 0.5
    z = 1 - 1.35 * number / _NUM_LIGHTS
    turn = number * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1).astype(np.float32)


_DIRECTIONS = _light_directions()


class Head:
    """A person in a scene, ready to be rendered; building takes a fraction of a second, a frame some milliseconds."""

    def __init__(self, identity: Identity, scene: Scene) -> None:
        self.identity, self.scene = identity, scene
        self._shape = FaceShape.of(identity)
        front = np.abs(COLUMN_ANGLES) < 0.58  # more than the slit is wide
        self._slit = MOUTH_ROW * len(COLUMN_ANGLES) + np.nonzero(front)[0]  # vertices of the upper lip's edge
        end = COLUMN_ANGLES[front] / np.abs(COLUMN_ANGLES[front]).max()
        self._throat_depth = np.sqrt(1 - end**2)[:, None].astype(np.float32)  # the bag closes at both ends
        parts = self._build_parts()
        self._mesh = mesh = Mesh(parts, self._slit)
        self._throat = slice(mesh.starts[_THROAT], mesh.starts[_THROAT + 1])
        head = parts[0]
        rest = head_surface(identity, *np.meshgrid(COLUMN_ANGLES, ROW_KNOTS))
        self._landmark_grid = landmark_grids(self._shape, head.canvas, rest)
        row = np.broadcast_to(ROW_KNOTS[:, None], MESH_SHAPE)
        upper = np.broadcast_to((np.arange(len(ROW_KNOTS)) <= MOUTH_ROW)[:, None], row.shape)
        shapes = mouth_shapes(self._shape, rest, row, upper)
        self._head_count = MESH_SHAPE[0] * MESH_SHAPE[1]
        self._shapes = shapes.reshape(len(SHAPES), -1).astype(np.float32)
        self._rest = mesh.vertices.copy()
        self._rest[: self._head_count] += self.scene.mood * self._shapes[SHAPES.index("smile")].reshape(-1, 3)
        self._rest = settle(identity, self._rest).astype(np.float32)
        self._bare = (rest.reshape(-1, 3) - head.vertices.reshape(-1, 3)).astype(np.float32)  # skin under hair and hat
        self._backdrop = paint_backdrop(scene)
        self._lights = scene_lights(scene)
        self._steps = 2 if identity.style == "toon" else 0
        self._cast_shadows()
        self._prepare_eyes(head)
        self._fit_camera()

    # -- building

    def _build_parts(self) -> list[Part]:
        who, line = self.identity, np.linspace

        def covered(u: np.ndarray, v: np.ndarray) -> np.ndarray:
            skin = head_surface(who, u, v)
            thickness = beard_relief(who, np.abs(skin[..., 0]), skin[..., 1], v - MOUTH_LINE, skin[..., 2])
            thickness = thickness + headwear_relief(who, u, v, cap_relief(who, u, v))
            return skin + outward(skin) * thickness[..., None]

        collars = make_clothes(who, self.scene)
        parts = [
            make_part(
                covered,
                COLUMN_ANGLES,
                ROW_KNOTS,
                _HEAD_TEXELS,
                lambda c: paint_headwear(who, c, paint_cap(who, c, SkinPainter(who, c).paint())),
            ),
            collars[0],
            make_part(
                lambda u, v: np.stack([u, v, 0 * u], axis=-1),
                line(-1, 1, len(self._slit)),
                line(0, 1, 4),
                (24, 24),
                paint_throat,
                two_sided=True,
            ),
            make_part(tongue_surface, line(-1, 1, 7), line(0, 1, 6), (24, 24), paint_tongue, two_sided=True, jaw=0.72),
        ]
        white = 1 - 0.6 * who.age
        for upper in (True, False):
            along = line(0, 1, 3) if upper else line(1, 0, 3)
            parts.append(
                make_part(
                    lambda u, v, upper=upper: teeth_surface(upper, u, v),
                    line(-1, 1, 11),
                    along,
                    (30, 100),
                    lambda c, upper=upper: paint_teeth(upper, white, c),
                    jaw=0.0 if upper else 0.80,
                )
            )
        for side in (-1, 1) if who.headwear not in ("scarf", "headphones") else ():
            parts.append(
                make_part(
                    lambda u, v, s=side: ear_surface(who, s, u, v),
                    line(0, 1, 8)[::side],
                    line(0.02, 0.98, 12),
                    (56, 44),
                    lambda c: paint_ear(who, c),
                    two_sided=True,
                )
            )
        frame, self._lenses = make_glasses(who)
        parts += [*collars[1:], *frame, *make_headwear(who), *make_earrings(who)]
        if who.hair_style in LONG_STYLES and who.headwear not in ("scarf", "turban"):
            parts.append(
                make_part(
                    lambda u, v: curtain_surface(who, u, v),
                    line(1, -1, 25),
                    line(0, 1, 14),
                    (160, 260),
                    lambda c: paint_curtain(who, c),
                    two_sided=True,
                    body=lambda p: 0.85 * smoothstep(85, 150, p[..., 1]),
                )
            )
        self._first_lock = len(parts)
        locks = make_locks(who)
        return parts if locks is None else [*parts, locks]

    def _cast_shadows(self) -> None:
        """Finds which light reaches which vertex; ambient light becomes the length of the normals."""
        mesh = self._mesh
        inside = np.zeros(len(self._rest), dtype=bool)
        inside[mesh.starts[_THROAT] : mesh.starts[_THROAT + 4]] = True  # throat, tongue and teeth
        thin = inside.copy()
        thin[mesh.starts[self._first_lock] :] = True  # locks of hair lie on what casts their shadow
        solid = ~thin[mesh.triangles].any(axis=1)
        self._seen = visibility(self._rest, mesh.vertex_normals, mesh.triangles[solid], _DIRECTIONS)
        self._seen[inside] = 0.6
        facing = np.maximum(mesh.vertex_normals @ _DIRECTIONS.T, 0) + 0.05
        ambient = (facing * self._seen).sum(axis=1) / facing.sum(axis=1)
        ambient[inside] = 0.75
        mesh.scale_normals(0.25 + 0.75 * ambient)

    def _prepare_eyes(self, head: Part) -> None:
        mesh, shape = self._mesh, self._shape
        self._eyes = []
        position = head.canvas.position
        for side in (-1, 1):
            near = (
                (np.abs(position[..., 0] - side * shape.eye_x) < shape.eye_half_width + 4)
                & (np.abs(position[..., 1]) < shape.lid_up + 6)
                & (position[..., 2] > 0)
            )
            rows, columns = np.nonzero(near.any(axis=1))[0], np.nonzero(near.any(axis=0))[0]
            window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            skin = np.sqrt(mesh.albedo[window][..., :3])
            bare = head_surface(self.identity, head.canvas.across[window], head.canvas.along[window])
            x, y = bare[..., 0], bare[..., 1]
            self._eyes.append((window, EyePainter(self.identity, x, y, side, skin, mesh.normals[window])))

    def _fit_camera(self) -> None:
        """Chooses size and place so that eyes and mouth of the frontal face fall on the template."""
        shape, distance = self._shape, self.scene.camera_distance
        mouth = MOUTH_LINE * tallness(self.identity)
        spots = np.array([[-shape.eye_x, 0, 60.0], [shape.eye_x, 0, 60.0], [0, mouth, 76.0]])
        self._anchor = spots.mean(axis=0)
        target = np.vstack([TEMPLATE_EYES, TEMPLATE_MOUTH])
        seen = spots[:, :2] * (distance / (distance - spots[:, 2:]))
        seen_spread, target_spread = seen - seen.mean(axis=0), target - target.mean(axis=0)
        self._scale = float((seen_spread * target_spread).sum() / (seen_spread**2).sum())
        self._centre = target.mean(axis=0)

    # -- posing

    def _deform(self, state: FaceState) -> np.ndarray:
        weights = np.array(
            [state.opening, max(state.width, 0), max(-state.width, 0), state.lip_teeth, state.press, state.brow, 0],
            dtype=np.float32,
        )
        vertices = self._rest.copy()
        vertices[: self._head_count] += (weights @ self._shapes).reshape(-1, 3)
        drop = JAW_SHARE * GAP_PIXELS * state.opening
        vertices[:, 1] += self._mesh.jaw * drop
        vertices[:, 2] += self._mesh.jaw * (-0.15 * drop)
        # the throat hangs on the lips, so that no gap opens whatever they do
        upper, lower = vertices[self._slit], vertices[self._slit + len(COLUMN_ANGLES)]
        inward = self._throat_depth * np.array([0, 3, -27], dtype=np.float32)
        deep_lower = lower * (1 - self._throat_depth * np.array([0.2, 0, 0], dtype=np.float32)) + inward
        deep_upper = upper * (1 - self._throat_depth * np.array([0.2, 0, 0], dtype=np.float32)) + inward * [1, -1, 1]
        vertices[self._throat] = np.concatenate([upper, deep_upper, deep_lower, lower])
        return vertices

    def _offset(self, state: FaceState) -> np.ndarray:
        """Where the joint of head and neck comes to lie on the frame, (2,) pixels: the crop keeps to the face."""
        distance = self.scene.camera_distance
        anchor = rotation_matrix(state.yaw, state.pitch, state.roll) @ (self._anchor - PIVOT) + PIVOT
        anchor_xy = anchor[:2] * (self._scale * state.zoom * distance / (distance - anchor[2]))
        return self._centre - anchor_xy + np.array([state.shift_x, state.shift_y])

    def _project(
        self, state: FaceState, vertices: np.ndarray, body: np.ndarray | float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Head coordinates to the frame: (N, 2) pixels and (N,) depth."""
        distance = self.scene.camera_distance
        world = (vertices - PIVOT) @ rotation_matrix(state.yaw, state.pitch, state.roll).T + PIVOT
        if not np.isscalar(body):
            shoulders = (vertices - PIVOT) @ rotation_matrix(self.scene.body_yaw_deg, 0, 0.25 * state.roll).T + PIVOT
            world = world + (shoulders - world) * body
        scale = self._scale * state.zoom * distance / (distance - world[:, 2:])
        points = world[:, :2] * scale + self._offset(state)
        return points.astype(np.float32), world[:, 2].astype(np.float32)

    def _behind(self, state: FaceState) -> np.ndarray:
        """The background as the camera's pan and zoom show it: (_DRAWN, _DRAWN, 3) uint8."""
        moved = _FAR * (self._offset(state) - self._offset(FaceState()))
        scale = _OVERSIZE * (1 + _FAR * (state.zoom - 1))
        shift = _DRAWN / 2 + _OVERSIZE * moved - scale * BACKDROP_SIZE / 2
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        size = (_DRAWN, _DRAWN)
        return cv2.warpAffine(self._backdrop, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    # -- results

    def render(self, state: FaceState, lights: Lights | None = None) -> np.ndarray:
        """One frame: (224, 224, 3) uint8 BGR; `lights` are the scene's by default."""
        mesh, lights = self._mesh, lights or self._lights
        rotation = rotation_matrix(state.yaw, state.pitch, state.roll)
        light = (rotation.T @ lights.key_direction).astype(np.float32)
        for window, painter in self._eyes:
            patch, normals = painter.paint(state, float(light[0]))
            mesh.albedo[window][..., :3] = patch * patch
            mesh.normals[window] = normals
        weight = np.exp(12 * (_DIRECTIONS @ light - 1))
        lit = self._seen @ (weight / weight.sum())
        points, depth = self._project(state, self._deform(state), mesh.body)
        points = points * np.float32(_OVERSIZE) + np.float32((_OVERSIZE - 1) / 2)
        depth[self._throat] -= 6  # where it touches the lips, the lips are seen
        values = np.concatenate([mesh.uv, lit[:, None]], axis=1)
        fragments = rasterise(points, depth, values, mesh.triangles, mesh.two_sided, _DRAWN)
        uv = fragments.values[:2]
        still = np.nonzero(uv[1] > mesh.first_body_row)[0]
        linear = shade(
            sample(mesh.albedo, uv), sample(mesh.normals, uv), fragments.values[2], rotation, still, lights, self._steps
        )
        frame = self._behind(state)
        frame.reshape(-1, 3)[fragments.pixel] = tone(linear)
        frame = smooth_outlines(frame, fragments, 0.25 if self._steps else 1.0)
        if self._lenses:
            self._glaze(frame, fragments, state, lights)
        return cv2.resize(frame, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_AREA)

    def _glaze(self, frame: np.ndarray, fragments: Fragments, state: FaceState, lights: Lights) -> None:
        """Lays tinted and reflecting glass over the frame where nothing is before it."""
        near = np.full(_DRAWN * _DRAWN, -1e3, dtype=np.float32)
        near[fragments.pixel] = fragments.depth
        near = near.reshape(_DRAWN, _DRAWN)
        bright = float(np.mean(lights.key_colour + lights.sky_colour))
        for lens in self._lenses:
            points, depth = self._project(state, settle(self.identity, lens.outline).astype(np.float32))
            points = points * np.float32(_OVERSIZE) + np.float32((_OVERSIZE - 1) / 2)
            low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, _DRAWN)
            high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, _DRAWN)
            if (high <= low).any():
                continue
            (x0, y0), (x1, y1) = low, high
            mask = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
            cv2.fillPoly(mask, [np.round((points - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
            y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
            plane = np.linalg.lstsq(np.column_stack([points, np.ones(len(points))]), depth, rcond=None)[0].astype(
                np.float32
            )
            before = near[y0:y1, x0:x1] > plane[0] * x + plane[1] * y + plane[2] + 1.5
            part = mask.astype(np.float32) / 255 * ~before
            down = (y - y0) / max(y1 - y0, 1)
            opacity = (lens.opacity[0] + (lens.opacity[1] - lens.opacity[0]) * down) * part
            slant = (x - x0) / max(x1 - x0, 1) + 0.6 * down + 0.05 * state.yaw - 0.04 * state.pitch
            band = np.maximum(np.cos(slant * 3.0 - 1.2), 0) ** 6 * np.clip(1.2 - down, 0, 1)
            shine = (lens.reflection * bright * 160) * band * part
            there = frame[y0:y1, x0:x1].astype(np.float32)
            tint = (np.sqrt(lens.tint * min(bright, 1.0)) * 255).astype(np.float32)
            there += (tint - there) * opacity[..., None] + shine[..., None]
            frame[y0:y1, x0:x1] = np.clip(there, 0, 255).astype(np.uint8)

    def landmarks(self, state: FaceState) -> np.ndarray:
        """68 points of the surface in iBUG order: (68, 2) float32, (x, y) in pixels, hidden ones included."""
        mesh = self._deform(state)[: self._head_count] + self._bare
        open_eye, closed_eye = self._landmark_grid
        grid = open_eye + (closed_eye - open_eye) * np.clip(state.blink, 0, 1)
        return self._project(state, sample_grid(mesh.reshape(*MESH_SHAPE, 3), grid))[0]
