"""Augmentation against a slow version written out step by step."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from data.audio import log_mel
from data.augment import (
    Augmentation,
    SoundChange,
    apply_augmentation,
    change_sound,
    draw_augmentation,
    draw_sound_change,
)

SIZE = 28
NOTHING = Augmentation(
    size=SIZE, gain=1.0, first_channel=0, end_channel=1, stretched_axis=0, stretch=0, extra=0, taper=0, enlarge=0,
    median=1,
)  # fmt: skip


def frames(count: int = 2, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """(T, 3, S, S) smooth pictures."""
    small = np.random.default_rng(seed).integers(20, 236, (count, 4, 4, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR) for image in small]).transpose(
        0, 3, 1, 2
    )


def reference_warp(image: np.ndarray, a: Augmentation) -> np.ndarray:
    """The geometry for (S, S) float, pixel by pixel. Positions are in pixel edges, 0..size."""
    size, canvas = a.size, a.size + 2 * a.extra
    low, high = -a.enlarge / 2, size + a.enlarge / 2
    top, bottom = (a.taper, 0) if a.taper > 0 else (0, -a.taper)
    target = [(low + top, low), (high - top, low), (high - bottom, high), (low + bottom, high)]
    source = [(0, 0), (canvas, 0), (canvas, canvas), (0, canvas)]
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    h = np.append(np.linalg.solve(np.array(rows, float), np.array(values, float)), 1).reshape(3, 3)
    scale = [(size + 2 * a.stretch) / size, (size - 2 * a.stretch) / size]
    scale_x, scale_y = scale if a.stretched_axis == 0 else scale[::-1]
    result = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            u, v, w = h @ (column + 0.5, row + 0.5, 1)
            # the canvas repeats its border
            u, v = (min(max(value / w, 0.5), canvas - 0.5) for value in (u, v))
            # its middle is the middle of the stretched frame
            x = (u - canvas / 2) / scale_x + size / 2 - 0.5
            y = (v - canvas / 2) / scale_y + size / 2 - 0.5
            result[row, column] = _bilinear(image, x, y)
    return result


def _bilinear(image: np.ndarray, x: float, y: float) -> float:
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    last = len(image) - 1

    def pixel(row: int, column: int) -> float:
        def mirror(i: int) -> int:
            i = abs(i)
            return i if i <= last else 2 * last - i

        return float(image[mirror(row), mirror(column)])

    above = (1 - fx) * pixel(y0, x0) + fx * pixel(y0, x0 + 1)
    below = (1 - fx) * pixel(y0 + 1, x0) + fx * pixel(y0 + 1, x0 + 1)
    return (1 - fy) * above + fy * below


def neighbourhoods(image: np.ndarray, width: int, mode: str) -> np.ndarray:
    """(S, S) -> (S, S, width, width)."""
    padded = np.pad(image, width // 2, mode=mode)
    return np.lib.stride_tricks.sliding_window_view(padded, (width, width))


@pytest.mark.parametrize("seed", range(8))
def test_geometry_equals_slow_reference(seed: int) -> None:
    drawn = dataclasses.replace(draw_augmentation(np.random.default_rng(seed), SIZE), gain=1.0, median=1)
    images = frames(1, seed=seed)
    result = apply_augmentation(images, drawn)
    expected = np.stack([reference_warp(plane.astype(float), drawn) for plane in images[0]])
    # positions are rounded to 1/32 pixel, weights and levels to 8 bits
    assert np.abs(result[0] - expected).max() < 2.5
    assert np.abs(result[0] - expected).mean() < 0.4


def test_nothing_drawn_changes_nothing() -> None:
    assert np.array_equal(apply_augmentation(frames(), NOTHING), frames())


def test_gain_changes_its_channels_only_and_is_clipped() -> None:
    images = frames()
    result = apply_augmentation(images, dataclasses.replace(NOTHING, gain=1.5, first_channel=1, end_channel=3))
    assert np.array_equal(result[:, 0], images[:, 0])
    assert np.array_equal(result[:, 1:], np.minimum(np.rint(images[:, 1:] * np.float32(1.5)), 255).astype(np.uint8))
    assert result[:, 1:].max() == 255


@pytest.mark.parametrize("width", [3, 5, 7, 9])
def test_median_blur_equals_slow_reference(width: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (1, 3, SIZE, SIZE), dtype=np.uint8)
    result = apply_augmentation(images, dataclasses.replace(NOTHING, median=width))
    expected = [np.median(neighbourhoods(plane, width, "edge"), axis=(2, 3)) for plane in images[0]]
    assert np.array_equal(result[0], np.stack(expected))


def test_sharpening_equals_slow_reference() -> None:
    images = frames()
    result = apply_augmentation(images, dataclasses.replace(NOTHING, median=0))
    around = neighbourhoods(images[1, 2].astype(int), 3, "reflect").sum(axis=(2, 3))
    expected = np.clip(10 * images[1, 2].astype(int) - around, 0, 255)
    assert np.array_equal(result[1, 2], expected)


def test_all_frames_of_a_clip_are_treated_alike() -> None:
    drawn = draw_augmentation(np.random.default_rng(3), SIZE)
    images = frames(3)
    together = apply_augmentation(images, drawn)
    assert np.array_equal(together, np.concatenate([apply_augmentation(images[k : k + 1], drawn) for k in range(3)]))
    assert np.array_equal(apply_augmentation(images[[1, 1]], drawn)[0], apply_augmentation(images[[1, 1]], drawn)[1])
    assert together.dtype == np.uint8
    assert np.array_equal(images, frames(3)), "the input is left alone"


def test_drawn_numbers_lie_in_the_ranges_of_the_spec_and_reach_their_ends() -> None:
    drawn = [draw_augmentation(np.random.default_rng(seed), 224) for seed in range(3000)]

    def values(name: str) -> set:
        return {getattr(a, name) for a in drawn}

    assert min(values("gain")) >= 0.3
    assert max(values("gain")) < 1.6
    assert {(a.first_channel, a.end_channel) for a in drawn} == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)}
    assert values("stretched_axis") == {0, 1}
    assert values("stretch") == set(range(15, 25))
    assert values("extra") == set(range(12))
    assert all(a.extra <= a.stretch // 2 - 1 for a in drawn)
    assert values("taper") == {s * t for s in (-1, 1) for t in range(20, 30)}
    assert values("enlarge") == {s * t for s in (-1, 1) for t in range(20, 40)}
    assert values("median") == {0, 3, 5, 7, 9}
    assert abs(np.mean([a.median == 0 for a in drawn]) - 0.5) < 0.03


def test_lengths_scale_with_the_frame() -> None:
    for seed in range(20):
        full, half = (draw_augmentation(np.random.default_rng(seed), size) for size in (224, 112))
        for name in ("stretch", "extra", "taper", "enlarge"):
            assert getattr(half, name) == getattr(full, name) / 2
        assert half.median == {0: 0, 3: 3, 5: 3, 7: 3, 9: 5}[full.median]
        assert (half.gain, half.stretched_axis) == (full.gain, full.stretched_axis)


def test_same_generator_draws_the_same() -> None:
    assert draw_augmentation(np.random.default_rng(5), 64) == draw_augmentation(np.random.default_rng(5), 64)


@pytest.mark.parametrize(
    ("shape", "where"), [({"stretched_axis": 0}, "x"), ({"stretched_axis": 1}, "y")], ids=["x", "y"]
)
def test_stretching_widens_one_axis_and_narrows_the_other(shape: dict, where: str) -> None:
    image = np.zeros((1, 3, SIZE, SIZE), np.uint8)
    image[..., 10:18, 10:18] = 255
    result = apply_augmentation(image, dataclasses.replace(NOTHING, stretch=4, **shape))[0, 0] / 255
    width, height = result.sum(axis=1).max(), result.sum(axis=0).max()
    wider, narrower = (width, height) if where == "x" else (height, width)
    assert wider == pytest.approx(8 * 36 / 28, abs=0.3)
    assert narrower == pytest.approx(8 * 20 / 28, abs=0.3)


def test_shape_strength_scales_distortions_and_nothing_else() -> None:
    full, weak = (draw_augmentation(np.random.default_rng(3), 112, shape) for shape in (1.0, 0.25))
    for name in ("stretch", "extra", "taper", "enlarge"):
        assert getattr(weak, name) == pytest.approx(0.25 * getattr(full, name))
    for name in ("gain", "first_channel", "end_channel", "stretched_axis", "median"):
        assert getattr(weak, name) == getattr(full, name)


def test_without_distortion_every_pixel_stays_where_it_is() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 3, 56, 56), dtype=np.uint8)
    drawn = draw_augmentation(np.random.default_rng(3), 56, shape=0.0)
    plain = dataclasses.replace(drawn, gain=1.0, median=1)
    assert np.array_equal(apply_augmentation(frames, plain), frames)


# ------------------------------------------------------------------------------------------------------------- sound

SAME = SoundChange(tract=1.0, tone_db=np.zeros(80), noise_db=np.full(80, -np.inf), noise_seed=0)


def tone_mel(hz: float) -> np.ndarray:
    """Half a second of a tone, then half a second of nothing: (107, 80)."""
    wave = 0.1 * np.sin(2 * np.pi * hz * np.arange(16000) / 16000).astype(np.float32)
    wave[8000:] = 0
    return log_mel(wave)


def test_no_strength_changes_no_sound() -> None:
    mel = tone_mel(1000)
    change = draw_sound_change(np.random.default_rng(0), 0)
    assert np.abs(change_sound(mel, change) - mel).max() < 1e-6


@pytest.mark.parametrize("tract", [0.85, 1.15])
def test_tract_moves_a_tone_to_where_a_tone_of_that_height_is(tract: float) -> None:
    moved = change_sound(tone_mel(1000), dataclasses.replace(SAME, tract=tract))[20:40].mean(axis=0)
    wanted = tone_mel(1000 * tract)[20:40].mean(axis=0)
    assert abs(int(moved.argmax()) - int(wanted.argmax())) <= 1
    assert np.abs(moved - wanted).mean() < 0.04


def test_tone_adds_decibels_to_sound_and_nothing_to_silence() -> None:
    mel = tone_mel(1000)
    changed = change_sound(mel, dataclasses.replace(SAME, tone_db=np.full(80, -5.0)))
    loud = mel > 0.1
    assert changed[loud] == pytest.approx(mel[loud] - 0.05, abs=1e-6)
    assert (mel == 0).any()
    assert (changed[mel == 0] == 0).all()


def test_noise_fills_the_pause_at_its_level_and_leaves_what_is_louder() -> None:
    mel = tone_mel(1000)
    changed = change_sound(mel, dataclasses.replace(SAME, noise_db=np.full(80, -40.0), noise_seed=3))
    pause = changed[70:]
    power = 10 * np.log10((10 ** (pause * 10)).mean())  # decibels above 0; 1 is 100 dB
    assert power == pytest.approx(100 * mel.max() - 40, abs=0.5)
    assert 0.005 < pause.std() < 0.06  # not a constant
    peak = mel[30].argmax()
    assert changed[30, peak] == pytest.approx(mel[30, peak], abs=1e-3)


def test_changes_come_from_the_seed_and_are_within_reason() -> None:
    changes = [draw_sound_change(np.random.default_rng(seed), 1) for seed in range(300)]
    again = draw_sound_change(np.random.default_rng(7), 1)
    assert again.tract == changes[7].tract
    assert (again.tone_db == changes[7].tone_db).all()
    tracts = np.array([change.tract for change in changes])
    assert 0.85 < tracts.min() < 0.88
    assert 1.14 < tracts.max() < 1.18
    noisy = np.mean([np.isfinite(change.noise_db).all() for change in changes])
    assert 0.3 < noisy < 0.5
    mel = tone_mel(500)
    one, other = (change_sound(mel, change) for change in (changes[7], again))
    assert one.dtype == np.float32
    assert (one == other).all()
    assert 0 <= one.min() < one.max() <= 1
