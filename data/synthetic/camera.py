"""What cameras, editors and croppers do to the frames of a clip; 224 px BGR frames, levels of 255."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data.synthetic.maths import smooth_drift
from util.seed import generator_for

_NOISE_SIDE = 320  # pixels of the sheet of grain from which every frame takes another part
BORDERS = ("none", "bottom", "top", "left", "right")


@dataclass(frozen=True)
class Camera:
    """How a clip was filmed; one for each clip."""

    seed: int
    crf: int  # of H.264; more is coarser
    detail: float  # resolution of the source as a share of the frame's
    blur: float  # pixels
    sharpening: float  # 0 none .. 1 hard edges with halos
    noise: float  # levels
    contrast: float
    brightness: float  # levels
    gain_bgr: tuple[float, float, float]
    saturation: float
    border: str  # where the frame reaches beyond the source, one of BORDERS
    border_width: float  # pixels on average
    border_level: int
    caption: bool
    logo: bool


def make_camera(seed: int) -> Camera:
    """Draws a camera; most are decent."""
    rng = generator_for(seed, 141)
    soft = rng.random() < 0.35
    bordered = rng.random() < 0.22
    gain = 1 + 0.04 * rng.standard_normal(3)
    return Camera(
        seed=seed,
        crf=int(np.clip(round(22 + 6 * rng.standard_normal()), 14, 37)),
        detail=float(rng.uniform(0.45, 0.8) if soft else rng.uniform(0.8, 1.3)),
        blur=float(max(0.0, rng.uniform(-0.5, 1.1))),
        sharpening=float(max(0.0, rng.uniform(-0.6, 1.0))),
        noise=float(np.exp(rng.normal(0.3, 0.7))),
        contrast=float(np.clip(1.08 + 0.13 * rng.standard_normal(), 0.75, 1.4)),
        brightness=float(9 * rng.standard_normal()),
        gain_bgr=(float(gain[0]), float(gain[1]), float(gain[2])),
        saturation=float(np.clip(1.08 + 0.18 * rng.standard_normal(), 0.3, 1.5) * (rng.random() > 0.03)),
        border=str(rng.choice(BORDERS[1:], p=[0.55, 0.15, 0.15, 0.15])) if bordered else "none",
        border_width=float(rng.uniform(3, 30)),
        border_level=int(rng.choice([0, 0, 16, 128])),
        caption=bool(rng.random() < 0.08),
        logo=bool(rng.random() < 0.06),
    )


def film(frames: np.ndarray, camera: Camera) -> np.ndarray:
    """What the camera makes of (T, S, S, 3) uint8 BGR frames, the same shape; the face stays where it is."""
    rng = generator_for(camera.seed, 142)
    count, size = frames.shape[:2]
    levels, colours = _grading(camera)
    grain = _grain(rng, camera)
    graphics = _graphics(rng, camera, size)
    edges = camera.border_width + 4 * smooth_drift(rng, count, 20)
    out = np.empty_like(frames)
    for number, frame in enumerate(frames):
        picture = cv2.LUT(cv2.transform(frame, colours), levels)
        picture = _optics(picture, camera)
        y, x = rng.integers(0, _NOISE_SIDE - size, 2)
        picture = cv2.add(picture, grain[y : y + size, x : x + size], dtype=cv2.CV_8U)
        for drawn, opacity in graphics:
            picture = (picture + (drawn - picture) * opacity).astype(np.uint8)
        out[number] = picture
        _add_border(out[number], camera, edges[number])
    return out


def _grading(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """A table of levels (1, 256, 3) uint8 and a matrix of colours (3, 3)."""
    level = np.arange(256)[:, None] * np.array(camera.gain_bgr)
    curve = (level - 110) * camera.contrast + 110 + camera.brightness
    grey = np.array([0.114, 0.587, 0.299])
    colours = camera.saturation * np.eye(3) + (1 - camera.saturation) * np.tile(grey, (3, 1))
    return np.clip(np.round(curve), 0, 255).astype(np.uint8)[None], colours.astype(np.float32)


def _optics(picture: np.ndarray, camera: Camera) -> np.ndarray:
    size = picture.shape[0]
    if camera.blur > 0.25:
        picture = cv2.GaussianBlur(picture, (5, 5), camera.blur)
    if camera.detail < 1:
        small = max(round(size * camera.detail), 8)
        picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)
    if camera.sharpening > 0.05:
        soft = cv2.GaussianBlur(picture, (5, 5), 1.2)
        picture = cv2.addWeighted(picture, 1 + camera.sharpening, soft, -camera.sharpening, 0)
    return picture


def _grain(rng: np.random.Generator, camera: Camera) -> np.ndarray:
    """Noise of sensors, (320, 320, 3) int16: the same in all colours for the most part, and not quite white."""
    sheet = rng.standard_normal((_NOISE_SIDE, _NOISE_SIDE, 3)).astype(np.float32)
    sheet = 0.8 * sheet.mean(axis=2, keepdims=True) * np.sqrt(3) + 0.5 * sheet
    sheet = cv2.GaussianBlur(sheet, (3, 3), 0.6)
    return np.round(camera.noise * sheet / sheet.std()).astype(np.int16)


def _graphics(rng: np.random.Generator, camera: Camera, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Captions and logos: pictures (S, S, 3) and opacities (S, S, 1), float32."""
    layers = []
    for shown, place, tall in ((camera.caption, 0.90, 0.10), (camera.logo, 0.02, 0.07)):
        if not shown:
            continue
        picture, opacity = np.zeros((size, size, 3), np.float32), np.zeros((size, size, 1), np.float32)
        colour, ink = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
        top = int(size * (place + rng.uniform(-0.03, 0.03)))
        left = int(size * rng.uniform(-0.5, 0.3)) if place > 0.5 else int(size * rng.uniform(0.6, 0.85))
        bottom, right = min(top + int(size * tall), size), size if place > 0.5 else left + int(0.2 * size)
        if place > 0.5:
            picture[top:bottom, max(left, 0) : right] = colour
            opacity[top:bottom, max(left, 0) : right] = 0.95
        letters = "".join(rng.choice(list("ABCDEFGHIKLMNOPRSTUVWZ"), 9))
        text = np.zeros((size, size), np.uint8)
        baseline = (max(left, 0) + 4, top + int(0.7 * tall * size))
        cv2.putText(text, letters, baseline, cv2.FONT_HERSHEY_DUPLEX, 0.5, 255, 1, cv2.LINE_AA)
        mark = (text / np.float32(255))[..., None]
        picture += (ink.astype(np.float32) - picture) * mark
        opacity = np.maximum(opacity, mark * (1.0 if place > 0.5 else 0.6))
        layers.append((picture, opacity.astype(np.float32)))
    return layers


def _add_border(picture: np.ndarray, camera: Camera, width: float) -> None:
    """Fills what lies beyond the edge of the source, in place."""
    reach = round(max(width, 0))
    if camera.border == "none" or reach == 0:
        return
    lines = picture if camera.border in ("top", "bottom") else picture.transpose(1, 0, 2)
    if camera.border in ("top", "left"):
        lines[:reach] = camera.border_level
    else:
        lines[-reach:] = camera.border_level
