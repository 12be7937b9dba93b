"""Cuts between drawn shots, and the package that finds them when it is missing."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from data.scene_cuts import find_cuts
from util.errors import OptionError


def shot(seed: int, count: int, size: int = 300) -> list[np.ndarray]:
    """Frames of one picture that drifts and is noisy."""
    rng = np.random.default_rng(seed)
    scene = cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), (size + 60, size + 60))
    frames = []
    for number in range(count):
        view = scene[number : number + size, 2 * number : 2 * number + size]
        frames.append(np.clip(view + rng.normal(0, 4, view.shape), 0, 255).astype(np.uint8))
    return frames


def test_cuts_are_the_first_frames_of_new_shots() -> None:
    pytest.importorskip("scenedetect")
    assert find_cuts([*shot(0, 20), *shot(1, 12), *shot(2, 25)]) == [20, 32]
    assert find_cuts(shot(3, 25)) == []
    assert find_cuts(shot(4, 1)) == []


def test_repeated_frames_of_a_slower_film_are_no_cuts_and_slides_are() -> None:
    pytest.importorskip("scenedetect")
    slow = [frame for frame in shot(5, 20) for _ in range(2)]
    jumpy = [frame for number, frame in enumerate(shot(6, 30)[::2]) for _ in range(1 + number % 3)]
    assert find_cuts([*slow, *jumpy]) == [40]
    slides = [frame for seed in range(3) for frame in [shot(seed, 1)[0]] * 25]
    assert find_cuts(slides) == [25, 50]


def test_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(OptionError, match=r"scene cuts .* pip install 'scenedetect>=0\.7,<0\.8'"):
        find_cuts([])
