"""Cues for streams of frames: seeded sounds and pose pictures under their numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class NumberedCue:
    """See models.stream.Cue."""

    frame: int
    mel: np.ndarray
    pose_index: int
    pose: np.ndarray | None


def make_cues(count: int, poses: int = 5, size: int = 28) -> list[NumberedCue]:
    """Cues that go through `poses` pictures (size, size, 3) again and again."""
    rng = np.random.default_rng(7)
    pictures = rng.integers(0, 256, (poses, size, size, 3), dtype=np.uint8)
    return [
        NumberedCue(frame, rng.random((1, 80, 20), np.float32), frame % poses, pictures[frame % poses])
        for frame in range(count)
    ]
