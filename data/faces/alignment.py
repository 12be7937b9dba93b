"""Similarity alignment of faces to the VoxCeleb2 template; points are (x, y) in pixels, matrices 2 x 3.

Source: docs/how_it_works.md section 4, checked against the published code's figures.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from data.prepared import Fingerprint
from util.errors import AlignmentError, MediaError
from util.files import write_text
from util.json_files import read_json

TEMPLATE_SIZE = 224
RIGHT_EYE, LEFT_EYE, MOUTH = slice(36, 42), slice(42, 48), slice(60, 68)
# right eye, left eye, mouth; float32 because the published mean of these points is, which shows at 1e-6
TEMPLATE_POINTS = np.array([[87, 59], [137, 59], [112, 120]], dtype=np.float32)
SMOOTHING = 0.2  # weight of the previous frame's shift
SMOOTH_SIGMA_FRAMES = 5.0  # of mode "smooth": 0.2 s at 25 fps
# Up to this `template_score` a picture counts as aligned. The 20 VoxCeleb2 crops of the published demo, which the model
# takes as they are, score 6 to 32 (median 15; after `align_matrices` 2 to 8) and need scaling by 0.95 to 1.09. A
# head-and-shoulders portrait scores about 40 and needs scaling by 2 or 3; a whole scene scores more.
ALIGNED_SCORE_PX = 33.0
ALIGNED_SCALES = (0.8, 1.25)
SQUARE_TOLERANCE = 0.02  # a template-like picture is square to this part
MEASURED = ("detected", "tracked", "given")  # statuses of frames whose landmarks were seen, not made up
RECORD_NAME = "alignment.json"
RECORD_FORMAT = 1


def three_points(landmarks: np.ndarray) -> np.ndarray:
    """Centres of right eye, left eye and inner mouth: (..., 68, 2) -> (..., 3, 2) float64."""
    if landmarks.shape[-2:] != (68, 2):
        raise AlignmentError(f"landmarks must be shaped (..., 68, 2), got {landmarks.shape}")
    centres = [landmarks[..., part, :].mean(axis=-2, dtype=np.float64) for part in (RIGHT_EYE, LEFT_EYE, MOUTH)]
    return np.stack(centres, axis=-2)


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, uniform scale and shift that take (points, 2) to others with the least squared error.

    Returns a (2, 3) float64 matrix for column vectors (x, y, 1). Raises AlignmentError: the source points coincide.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    s, t = source - source_mean, target - target_mean
    spread = float(np.sum(s * s))
    if not spread > 1e-12:
        raise AlignmentError("the landmarks fall on one point: no face can be aligned by them")
    a = float(np.sum(s * t)) / spread  # scale * cos
    b = float(np.sum(s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0])) / spread  # scale * sin
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Applies a (2, 3) matrix to (..., 2) points."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def align_matrices(points: np.ndarray, known: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One rotation and scale for the whole clip, and a smoothed shift of its own for every frame.

    Args:
        points: (frames, 3, 2), see `three_points`.
        known: (frames,) bool, the frames that count for the clip's mean; None: all, as published.

    Returns:
        the clip's mean matrix (2, 3) and the frames' matrices (frames, 2, 3), float64.
    """
    mean_matrix = _mean_matrix(points, known)
    raw = TEMPLATE_POINTS[2] - transform_points(mean_matrix, points[:, 2])  # (frames, 2)
    matrices = np.repeat(mean_matrix[None], len(points), axis=0)
    bias = raw[0]
    for frame, own in enumerate(raw):
        if frame > 0:
            bias = SMOOTHING * bias + (1 - SMOOTHING) * own
        matrices[frame, :, 2] += bias
    return mean_matrix, matrices


def align_matrices_per_frame(points: np.ndarray, known: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Every frame its own rotation, scale and shift, arguments and result as in `align_matrices`.

    Follows zooms and tilts, and all the landmarks' jitter.
    """
    matrices = np.stack([similarity_transform(own, TEMPLATE_POINTS) for own in points])
    return _mean_matrix(points, known), matrices


def align_matrices_smooth(points: np.ndarray, known: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rotation, scale and shift of every frame from points smoothed over time by a Gaussian.

    At the ends of the clip the weights that remain are normalised. Arguments and result as in `align_matrices`.
    """
    smooth = functools.partial(gaussian_filter1d, sigma=SMOOTH_SIGMA_FRAMES, axis=0, mode="constant")
    smoothed = smooth(points) / smooth(np.ones((len(points), 1, 1)))
    return _mean_matrix(points, known), align_matrices_per_frame(smoothed)[1]


def _mean_matrix(points: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    chosen = points if known is None or not known.any() else points[known]
    return similarity_transform(chosen.mean(axis=0), TEMPLATE_POINTS)


# how the matrices of a clip are computed, by the name of the mode
MODES: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "mean": align_matrices,
    "per_frame": align_matrices_per_frame,
    "smooth": align_matrices_smooth,
}


def fill_gaps(landmarks: np.ndarray, max_gap: int) -> tuple[np.ndarray, list[str]]:
    """Gives frames without a face the landmarks of their neighbours.

    Up to `max_gap` frames in a row between two known ones are interpolated linearly; longer gaps hold the frame before
    them, and frames before the first known one hold that.

    landmarks: (frames, points, 2) float, NaN where no face was found.
    Returns landmarks without NaN, and a status per frame: "" where it was known, else "interpolated" or "held".
    Raises AlignmentError: no frame is known.
    """
    known = np.flatnonzero(~np.isnan(landmarks).any(axis=(1, 2)))
    if not len(known):
        raise AlignmentError("no frame has landmarks")
    filled = landmarks.copy()
    status = ["held"] * len(landmarks)
    filled[: known[0]] = landmarks[known[0]]
    for before, after in itertools.pairwise([*known.tolist(), len(landmarks)]):
        status[before] = ""
        gap = range(before + 1, after)
        bridged = after < len(landmarks) and len(gap) <= max_gap
        for frame in gap:
            filled[frame] = landmarks[before]
            if bridged:
                part = (frame - before) / (after - before)
                filled[frame] = (1 - part) * landmarks[before] + part * landmarks[after]
                status[frame] = "interpolated"
    return filled, status


def template_score(landmarks: np.ndarray, width: float = TEMPLATE_SIZE, height: float = TEMPLATE_SIZE) -> float:
    """How far a picture or clip is from a VoxCeleb2 crop, as the networks would see it; 0 is a perfect fit.

    Args:
        landmarks: (68, 2) or (frames, 68, 2) in pixels of the picture; frames of NaN are left out.
        width, height: of the picture; it is thought resized to 224 x 224 as the networks' input is.

    Returns:
        root mean square distance of eyes and mouth from their places in the template, in its pixels.
    """
    points = _points_at_template_size(landmarks, width, height)
    return float(np.sqrt(np.mean(np.sum((points - TEMPLATE_POINTS) ** 2, axis=-1))))


def is_template_like(landmarks: np.ndarray, width: float, height: float) -> bool:
    """Whether the networks can take a picture or clip as it is: square, with a low score and a face of fitting size."""
    matrix = similarity_transform(_points_at_template_size(landmarks, width, height).mean(axis=0), TEMPLATE_POINTS)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    square = abs(width / height - 1) <= SQUARE_TOLERANCE
    sized = ALIGNED_SCALES[0] <= scale <= ALIGNED_SCALES[1]
    return square and sized and template_score(landmarks, width, height) <= ALIGNED_SCORE_PX


def _points_at_template_size(landmarks: np.ndarray, width: float, height: float) -> np.ndarray:
    """(frames, 3, 2) of the frames that have landmarks."""
    points = three_points(np.asarray(landmarks, dtype=np.float64)).reshape(-1, 3, 2)
    points = points[~np.isnan(points).any(axis=(1, 2))]
    if not len(points):
        raise AlignmentError("no frame has landmarks")
    return points * (TEMPLATE_SIZE / np.array([width, height], dtype=np.float64))


@dataclass(frozen=True)
class AlignmentInfo:
    """How an alignment was made."""

    detector: str = ""
    source_score: float = 0.0  # template_score of the source
    most_faces: int = 1  # in one frame
    source_kind: str = ""  # see data.video_reader.FrameSource
    options: dict[str, Any] = field(default_factory=dict)
    state: Fingerprint | None = None  # of the source


@dataclass(frozen=True)
class AlignmentRecord:
    """What `alignment.json` in an aligned folder says; index n is frame n, `%06d.jpg`."""

    source: str
    source_width: int
    source_height: int
    mode: str
    score: float  # template_score of the aligned frames that were measured
    mean_matrix: np.ndarray  # (2, 3), source pixels to template
    matrices: np.ndarray  # (frames, 2, 3)
    landmarks: np.ndarray  # (frames, 68, 2) in source pixels, without NaN
    status: list[str]  # detected, tracked, given, interpolated or held
    info: AlignmentInfo = AlignmentInfo()
    format: int = RECORD_FORMAT

    @property
    def num_frames(self) -> int:
        return len(self.status)


def write_record(path: str | Path, record: AlignmentRecord) -> None:
    """Writes an alignment atomically, one line a frame; landmarks to 0.001 px, matrices exactly."""
    head = {
        "format": record.format,
        "source": record.source,
        "source_width": record.source_width,
        "source_height": record.source_height,
        "template_size": TEMPLATE_SIZE,
        "num_frames": record.num_frames,
        "mode": record.mode,
        "score": round(record.score, 3),
        "mean_matrix": record.mean_matrix.tolist(),
        "info": asdict(record.info),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    # array by array: a ten-minute clip has two million landmark numbers
    lists: dict[str, Iterable[Any]] = {
        "status": record.status,
        "matrices": (matrix.tolist() for matrix in record.matrices),
        "landmarks": (points.round(3).tolist() for points in record.landmarks),
    }
    for key, rows in lists.items():
        body = ",\n  ".join(json.dumps(row) for row in rows)
        lines.append(f' "{key}": [\n  {body}\n ]')
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_record(path: str | Path) -> AlignmentRecord:
    """Reads what `write_record` wrote. Raises MediaError: no such file, or lists of different lengths."""
    hint = "run scripts/align_68.py"
    record = read_json(path, AlignmentRecord, hint=hint)
    if record.format != RECORD_FORMAT:
        raise MediaError(f"{path}: format {record.format}, this version reads {RECORD_FORMAT}; {hint} again")
    count = record.num_frames
    for name, shape in (("mean_matrix", (2, 3)), ("matrices", (count, 2, 3)), ("landmarks", (count, 68, 2))):
        if getattr(record, name).shape != shape:
            found = getattr(record, name).shape
            raise MediaError(f"{path}: {count} frames, but {name} is shaped {found}; {hint} again")
    size = np.array([record.source_width, record.source_height])
    for number, matrix in enumerate(record.matrices):
        if not _shows_a_part(matrix, size):
            raise MediaError(f"{path}: the face of frame {number} lies outside the picture; {hint} again")
    return record


def _shows_a_part(matrix: np.ndarray, size: np.ndarray) -> bool:
    """Whether a crop by this matrix shows anything of a picture of that (width, height)."""
    if not (np.isfinite(matrix).all() and abs(np.linalg.det(matrix[:, :2])) > 1e-9):
        return False
    corners = TEMPLATE_SIZE * np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float64)
    places = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return bool((places.max(axis=0) > 0).all() and (places.min(axis=0) < size).all())


def warp(image: np.ndarray, matrix: np.ndarray, size: int = TEMPLATE_SIZE) -> np.ndarray:
    """Brings an image to the template, bilinear, black outside: (H, W, 3) uint8 -> (size, size, 3) uint8."""
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
