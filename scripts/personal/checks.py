"""What is said about clips before a training: figures, and plain words that somebody who filmed himself understands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from data.faces.eyelids import eye_contrast
from data.faces.head_pose import head_angles
from data.faces.landmarks import box_size
from data.frames import crop_template
from options.config import FPS
from util.metrics.cpbd import cpbd

OK, WARNING = "ok", "warning"
WANTED_S, GOOD_S = 10.0, 30.0  # of a clip
_SMALL_FACE = 80.0  # pixels from brows to chin: a crop of 224 px is then enlarged to about the double
_SOFT = 0.10  # CPBD; 0.15 to 0.35 on 14 clips of VoxCeleb2, under 0.1 when they are blurred by a pixel
_SHARP_STEP = 5  # every so many-th frame is measured
_YAW, _PITCH = 8.0, 4.0  # degrees to either side that a clip should show
_CLOSED, _MANY_CLOSED = 0.6, 0.25  # of the eyes' usual contrast; of the frames
_STILL = 0.35  # grey levels between two frames of a face
_SMOOTHING = 0.1 * FPS


@dataclass(frozen=True)
class Check:
    """Something that was looked at: `figure` in `unit`, `words` for the user, severity ok or warning."""

    name: str
    figure: float
    unit: str
    words: str
    severity: str = OK

    def __str__(self) -> str:
        return self.words if self.severity == OK else f"{self.severity}: {self.words}"


@dataclass(frozen=True, eq=False)
class Look:
    """What the crops of one piece look like.

    angles: (T, 3) degrees.  contrasts: (T,) of the eyes.  sharpness: (K,) CPBD.  changes: (T - 1,) grey levels from
    frame to frame.
    """

    angles: np.ndarray
    contrasts: np.ndarray
    sharpness: np.ndarray
    changes: np.ndarray

    @property
    def still_share(self) -> float:
        """Share of frames that show what the frame before them showed."""
        return float(np.mean(self.changes < _STILL)) if len(self.changes) else 1.0


def look_at(frames: Iterable[np.ndarray], points: np.ndarray) -> Look:
    """Measures aligned frames.

    Args:
        frames: (H, W, 3) uint8 BGR.
        points: (T, 68, 2) in their pixels.
    """
    contrasts, sharpness, changes = [], [], []
    before = None
    for number, (frame, own) in enumerate(zip(frames, points, strict=True)):
        contrasts.append(eye_contrast(frame, own))
        grey = cv2.cvtColor(crop_template(frame), cv2.COLOR_RGB2GRAY)
        if number % _SHARP_STEP == 0:
            sharpness.append(cpbd(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)))
        if before is not None:
            changes.append(float(np.mean(cv2.absdiff(grey, before))))
        before = grey
    angles = gaussian_filter1d(head_angles(points), _SMOOTHING, axis=0, mode="nearest")
    return Look(angles, np.array(contrasts), np.array(sharpness), np.array(changes))


def check_length(seconds: float) -> Check:
    """Of the seconds that can be used."""
    if seconds < WANTED_S:
        words = f"{seconds:.1f} s of the face can be used; that is little, {GOOD_S:.0f} s are good"
        return Check("length", seconds, "s", words, WARNING)
    return Check("length", seconds, "s", f"{seconds:.1f} s of the face can be used")


def check_face_size(points: Sequence[np.ndarray], reduction: Sequence[float]) -> Check:
    """Of landmarks of pieces, (T, 68, 2) each, and what a pixel of theirs is in pixels of the video."""
    sides = [
        factor * box_size(np.concatenate([own.min(axis=0), own.max(axis=0)]))
        for track, factor in zip(points, reduction, strict=True)
        for own in track
    ]
    side = float(np.median(sides))
    if side < _SMALL_FACE:
        words = f"the face measures {side:.0f} px, {_SMALL_FACE:.0f} are the least that comes out sharp: go nearer"
        return Check("face_size", side, "px", words, WARNING)
    return Check("face_size", side, "px", f"the face measures {side:.0f} px")


def check_looks(looks: Sequence[Look]) -> list[Check]:
    """Of all pieces together: sharpness, head turns, eyes, still frames."""
    angles = np.concatenate([look.angles for look in looks])
    return [
        _check_sharpness(float(np.mean(np.concatenate([look.sharpness for look in looks])))),
        _check_turns(angles[:, 0], "yaw", "turns", ("left", "right"), _YAW),
        # how a face is built moves all of its pitch
        _check_turns(angles[:, 1] - np.median(angles[:, 1]), "pitch", "nods", ("bottom", "top"), _PITCH),
        _check_eyes(looks),
    ]


def _check_sharpness(value: float) -> Check:
    if value < _SOFT:
        words = f"the pictures are blurred (CPBD {value:.2f}, sharp ones have 0.15); so will be what is learned"
        return Check("sharpness", value, "CPBD", words, WARNING)
    return Check("sharpness", value, "CPBD", f"the pictures are sharp (CPBD {value:.2f})")


def _check_turns(angles: np.ndarray, name: str, verb: str, sides: tuple[str, str], least: float) -> Check:
    """`angles` in degrees, negative towards the first side."""
    low, high = (float(np.percentile(angles, share)) for share in (2, 98))
    missing = [side for side, reach in zip(sides, (-low, high), strict=True) if reach < least]
    span = f"the head {verb} from {low:.0f} to {high:.0f} degrees"
    if missing:
        words = f"{span}; how it looks further to the {' or '.join(missing)} is guessed"
        return Check(name, high - low, "degrees", words, WARNING)
    return Check(name, high - low, "degrees", span)


def _check_eyes(looks: Sequence[Look]) -> Check:
    usual = float(np.median(np.concatenate([look.contrasts for look in looks])))
    share = float(np.mean(np.concatenate([look.contrasts for look in looks]) < _CLOSED * usual))
    words = f"the eyes are closed in {share:.0%} of the frames"
    if share > _MANY_CLOSED:
        return Check("eyes", share, "share", f"{words}; they may come out half closed", WARNING)
    return Check("eyes", share, "share", words)
