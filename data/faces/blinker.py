"""Blinks in a stream of finished frames, BGR uint8 of any size: follows the face, and leaves alone what is no open eye.

blinker = Blinker(make_detector("dlib"))
for frame, closure in zip(frames, live_closures(rate=17, seed=0)):
    shown = blinker.apply(frame, closure)
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from data.faces.alignment import similarity_transform
from data.faces.eyelids import Eye, close_eyes, find_eyes, unsuited
from data.faces.face_tracker import FaceTracker
from data.faces.landmarks import LandmarkDetector

_STEADY = slice(17, 48)  # brows, nose and eyes: what moves with the eyes
_KEPT = 0.3  # of the landmarks of the frame before: steadies them
_SEARCH_EVERY = 1000  # frames of blinks; a face that is lost is looked for at once


class Blinker:
    """Closes the eyes of the largest face of a stream.

    The eyes are measured in the first frame of each blink and carried along with the head until it ends; between
    blinks nothing is computed.

    Attributes:
        blinks: how many there were.
        left_alone: how many more there would have been, by the reason why there were not.
    """

    def __init__(self, detector: LandmarkDetector) -> None:
        self.blinks = 0
        self.left_alone: Counter[str] = Counter()
        self._tracker = FaceTracker(detector, "largest", _SEARCH_EVERY)
        self._eyes: list[Eye] | None = None  # None: no blink has begun; []: this one is left out
        self._first = self._last = np.zeros((68, 2))  # landmarks

    def apply(self, frame_bgr: np.ndarray, closure: float) -> np.ndarray:
        """The next frame, whose eyes are open, with its eyes closed; the frame itself where there is nothing to do.

        closure: from 0 (open) to 1.
        """
        if closure <= 0:
            self._eyes = None
            return frame_bgr
        if self._eyes == []:
            return frame_bgr
        points = self._tracker.landmarks(frame_bgr)
        has_face = not np.isnan(points).any()
        if self._eyes is None:
            eyes = find_eyes(frame_bgr, points) if has_face else []
            reason = unsuited(frame_bgr, eyes) if has_face else "no face"
            if reason:
                self.left_alone[reason] += 1
            self._eyes = [] if reason else eyes
            self.blinks += not reason
            self._first = self._last = points
            return close_eyes(frame_bgr, self._eyes, closure) if self._eyes else frame_bgr
        if has_face:
            self._last = _KEPT * self._last + (1 - _KEPT) * points
        matrix = similarity_transform(self._first[_STEADY], self._last[_STEADY])
        return close_eyes(frame_bgr, [eye.moved(matrix) for eye in self._eyes], closure)
