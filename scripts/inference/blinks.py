"""The blinks of one clip: when they are (`--blink`), and eyes closed in its frames as they are generated."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from data.audio import audio_pieces
from data.blink import blink_seconds, closures, natural_blinks, phrase_ends, seen_blinks
from data.faces.blinker import Blinker
from data.faces.eyelids import eye_contrast, find_eyes
from data.faces.face_tracker import FaceTracker
from data.faces.landmarks import LandmarkDetector, make_detector
from data.frames import list_frames, read_image
from data.metadata import TestClip
from data.voxtest_dataset import VoxTestDataset
from options.config import FPS, TestConfig, blink_choice
from util.errors import MediaError


class ClipBlinks:
    """Blinks of one clip.

    Raises:
        MediaError: times beyond the end, `follow` without a pose video, or pictures that cannot be read.
        AlignmentError: dlib is missing.
    """

    def __init__(self, config: TestConfig, clip: TestClip, dataset: VoxTestDataset) -> None:
        detector = make_detector("dlib")
        choice = blink_choice(config.blink)
        count = dataset.frames[-1] + 1
        if isinstance(choice, tuple):
            late = [time_s for time_s in choice if round(time_s * FPS) >= count]
            if late:
                raise MediaError(f"--blink {late[0]:g} lies beyond the end of the clip, {count / FPS:.2f} s")
            self._frames = [round(time_s * FPS) for time_s in choice]
        elif choice is None:
            if clip.pose_dir is None:
                raise MediaError("--blink follow takes the blinks of a pose video, the row has none; try --blink auto")
            self._frames = _followed(clip.pose_dir, dataset, detector)
        else:
            self._frames = natural_blinks(count, choice, config.seed, phrase_ends(audio_pieces(clip.audio)))
        self._closures = closures(self._frames, count, _duration_s(dataset.references[0], detector))
        self._numbers = dataset.frames
        self._blinker = Blinker(detector)

    def apply(self, index: int, image_rgb: np.ndarray) -> np.ndarray:
        """The generated frame of an index, (S, S, 3) uint8, with its eyes as far closed as they are then."""
        frame_bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
        shown = self._blinker.apply(frame_bgr, self._closures[self._numbers[index]])
        return cv2.cvtColor(shown, cv2.COLOR_BGR2RGB)

    def summary(self) -> str:
        """What the report says: where blinks are, and how many were left out in the frames made now, and why."""
        times = " ".join(f"{frame / FPS:.2f}" for frame in self._frames)
        left = [f"{count} left out ({reason})" for reason, count in sorted(self._blinker.left_alone.items())]
        return ", ".join([f"at {times} s" if times else "none", *left])


def _duration_s(reference_rgb: np.ndarray, detector: LandmarkDetector) -> float:
    picture = cv2.cvtColor(reference_rgb, cv2.COLOR_RGB2BGR)
    points = FaceTracker(detector, "largest").landmarks(picture)
    openings = [0.0] if np.isnan(points).any() else [eye.opening for eye in find_eyes(picture, points)]
    return blink_seconds(max(openings) or 1.0)


def _followed(pose_dir: Path, dataset: VoxTestDataset, detector: LandmarkDetector) -> list[int]:
    """Frames for which the pose video shows closed eyes."""
    places = [dataset.pose_place(frame) for frame in range(dataset.frames[-1] + 1)]
    shown = [other if share > 0.5 else one for one, other, share in places]
    tracker = FaceTracker(detector, "largest")
    contrasts = []
    for path in list_frames(pose_dir)[: max(shown) + 1]:
        picture = read_image(path)
        points = tracker.landmarks(picture)
        contrasts.append(np.nan if np.isnan(points).any() else eye_contrast(picture, points))
    blinks = seen_blinks(np.array(contrasts))
    closed = [frame for frame, index in enumerate(shown) if index in blinks]
    return [frame for frame in closed if frame - 1 not in closed]  # where a video turns, a picture comes twice
