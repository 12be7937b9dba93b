"""Puts a synthetic person together: mesh, atlas, camera; renders states and gives their landmarks.

Vertices are head coordinates in template pixels; pictures are drawn 1.5 times as large as they come out.
"""

from __future__ import annotations

import cv2
import numpy as np

from data.synthetic.backdrop import BACKDROP_SIZE, paint_backdrop
from data.synthetic.eyes import EyePainter
from data.synthetic.figure import HEAD, LOWER_TEETH, THROAT, make_figure
from data.synthetic.landmarks import landmark_grids, sample_grid
from data.synthetic.mesh import Mesh, Part
from data.synthetic.mouth import GAP_PIXELS, JAW_SHARE, SHAPES, mouth_shapes
from data.synthetic.person import FaceState, Identity
from data.synthetic.raster import (
    Fragments,
    Glass,
    Lights,
    glaze,
    rasterise,
    sample,
    shade,
    smooth_outlines,
    tone,
    visibility,
)
from data.synthetic.scene import Scene, scene_lights
from data.synthetic.surface import (
    COLUMN_ANGLES,
    MESH_SHAPE,
    MOUTH_LINE,
    MOUTH_ROW,
    PIVOT,
    ROW_KNOTS,
    FaceShape,
    head_surface,
    settle,
    tallness,
)

FRAME_SIZE = 224
TEMPLATE_EYES = np.array([[87.0, 59.0], [137.0, 59.0]])
TEMPLATE_MOUTH = np.array([112.0, 120.0])
_OVERSIZE = 1.5  # of the drawn picture
_DRAWN = int(FRAME_SIZE * _OVERSIZE)
_FAR = 0.7  # how far the background moves when the shoulders move by 1
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
        figure = make_figure(identity, scene, len(self._slit))
        self._lenses = figure.lenses
        self._mesh = mesh = Mesh(figure.parts, self._slit)
        self._throat = slice(mesh.starts[THROAT], mesh.starts[THROAT + 1])
        head = figure.parts[HEAD]
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
        self._cast_shadows(figure.first_lock)
        self._prepare_eyes(head)
        self._fit_camera()

    # -- building

    def _cast_shadows(self, first_lock: int) -> None:
        """Finds which light reaches which vertex; ambient light becomes the length of the normals."""
        mesh = self._mesh
        inside = np.zeros(len(self._rest), dtype=bool)
        inside[mesh.starts[THROAT] : mesh.starts[LOWER_TEETH + 1]] = True  # throat, tongue and teeth
        thin = inside.copy()
        thin[mesh.starts[first_lock] :] = True  # locks of hair lie on what casts their shadow
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
        """Lays tinted and reflecting glass over the frame where nothing is before it, in place."""
        bright = float(np.mean(lights.key_colour + lights.sky_colour))
        for lens in self._lenses:
            outline, depth = self._project(state, settle(self.identity, lens.outline).astype(np.float32))
            outline = outline * np.float32(_OVERSIZE) + np.float32((_OVERSIZE - 1) / 2)
            band = 0.05 * state.yaw - 0.04 * state.pitch
            glaze(
                frame,
                fragments,
                outline,
                depth,
                Glass(lens.tint * min(bright, 1.0), lens.opacity, lens.reflection * bright, band),
            )

    def landmarks(self, state: FaceState) -> np.ndarray:
        """68 points of the surface in iBUG order: (68, 2) float32, (x, y) in pixels, hidden ones included."""
        mesh = self._deform(state)[: self._head_count] + self._bare
        open_eye, closed_eye = self._landmark_grid
        grid = open_eye + (closed_eye - open_eye) * np.clip(state.blink, 0, 1)
        return self._project(state, sample_grid(mesh.reshape(*MESH_SHAPE, 3), grid))[0]
