"""What cameras do to synthetic clips: every fault is as large as it says, and the face stays where it is."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from data.synthetic.camera import BORDERS, Camera, film, make_camera

PERFECT = Camera(
    seed=1,
    crf=18,
    detail=1.0,
    blur=0.0,
    sharpening=0.0,
    noise=0.0,
    contrast=1.0,
    brightness=0.0,
    gain_bgr=(1.0, 1.0, 1.0),
    saturation=1.0,
    border="none",
    border_width=0.0,
    border_level=0,
    caption=False,
    logo=False,
)


def _frames(count: int = 4) -> np.ndarray:
    """Soft blobs, the same in every frame."""
    noise = np.random.default_rng(0).uniform(0, 255, (28, 28, 3)).astype(np.float32)
    picture = cv2.resize(noise, (224, 224), interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(picture * 0.6 + 50, 0, 255).astype(np.uint8)[None], count, axis=0)


def _filmed(**faults: object) -> np.ndarray:
    return film(_frames(), dataclasses.replace(PERFECT, **faults)).astype(float)


def test_film_perfect_camera_changes_nothing() -> None:
    np.testing.assert_array_equal(_filmed(), _frames())


def test_film_same_camera_gives_the_same_frames_and_cameras_differ() -> None:
    one, two = make_camera(5), make_camera(6)
    assert one == make_camera(5)
    assert one != two
    np.testing.assert_array_equal(film(_frames(), one), film(_frames(), one))


def test_film_noise_is_as_strong_as_said_and_new_in_every_frame() -> None:
    grain = _filmed(noise=6.0) - _frames()
    assert grain.std() == pytest.approx(6, rel=0.1)
    assert abs(np.corrcoef(grain[0].ravel(), grain[1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("faults", [{"blur": 1.0}, {"detail": 0.5}])
def test_film_soft_cameras_lose_detail_and_keep_the_place(faults: dict[str, float]) -> None:
    camera = dataclasses.replace(PERFECT, **faults)
    fine, coarse = np.zeros((2, 1, 224, 224, 3), np.uint8)
    fine[:, :, ::3] = 200
    assert film(fine, camera).std() < 0.5 * fine.std()
    coarse[:, :, ::8] = coarse[:, :, 1::8] = 200
    columns = film(coarse, camera)[0, 100:120, :, 1].mean(axis=0)
    centres = [(np.arange(8) * part).sum() / part.sum() for part in (columns[76:84], columns[124:132])]
    np.testing.assert_allclose(centres, 4.5, atol=0.25)


def test_film_sharpening_overshoots_at_edges() -> None:
    step = np.full((1, 224, 224, 3), 80, np.uint8)
    step[:, :, 112:] = 160
    sharp = film(step, dataclasses.replace(PERFECT, sharpening=0.8))[0].astype(int)
    assert sharp.max() > 170
    assert sharp.min() < 70
    assert sharp[50, 50, 1] == 80


def test_film_colours() -> None:
    grey = _filmed(saturation=0.0)
    assert np.abs(grey[..., 0] - grey[..., 2]).max() <= 1
    red = _filmed(gain_bgr=(0.8, 1.0, 1.1)) / np.maximum(_frames(), 1)
    np.testing.assert_allclose(red.mean(axis=(0, 1, 2)), [0.8, 1.0, 1.1], atol=0.02)
    assert _filmed(contrast=1.3).std() == pytest.approx(1.3 * _frames().std(), rel=0.1)


@pytest.mark.parametrize("border", BORDERS[1:])
def test_film_border_covers_its_edge_and_wanders(border: str) -> None:
    frames = film(_frames(100), dataclasses.replace(PERFECT, border=border, border_width=20.0, border_level=0))
    lines = frames.max(axis=(2, 3) if border in ("top", "bottom") else (1, 3)) == 0  # (T, 224)
    widths = lines.sum(axis=1)
    assert widths.mean() == pytest.approx(20, abs=6)
    assert widths.std() > 0.5
    edge = 0 if border in ("top", "left") else -1
    assert lines[:, edge].all()


def test_film_captions_stay_off_the_face() -> None:
    changed = (_filmed(caption=True, logo=True) != _frames()).any(axis=(0, 3))
    assert changed[195:].any()
    assert changed[:20, 130:].any()
    assert not changed[40:190].any()


def test_make_camera_most_are_decent() -> None:
    cameras = [make_camera(seed) for seed in range(500)]
    assert 19 < np.mean([camera.crf for camera in cameras]) < 25
    assert 0.1 < np.mean([camera.border != "none" for camera in cameras]) < 0.35
    assert {camera.border for camera in cameras} == set(BORDERS)
    assert np.median([camera.noise for camera in cameras]) < 2
