"""Matrices, gaps, scores and records of the alignment; the published figures are checked in test_parity."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from data.faces.alignment import (
    ALIGNED_SCORE_PX,
    MODES,
    TEMPLATE_POINTS,
    AlignmentInfo,
    AlignmentRecord,
    align_matrices,
    align_matrices_per_frame,
    align_matrices_smooth,
    fill_gaps,
    is_template_like,
    read_record,
    similarity_transform,
    template_score,
    three_points,
    transform_points,
    warp,
    write_record,
)
from data.prepared import Fingerprint
from tests.face_factory import template_landmarks
from util.errors import AlignmentError, MediaError


def _similarity(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    a, b = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[a, -b, shift[0]], [b, a, shift[1]]])


def _clip(frames: int, jitter: float = 0.0) -> np.ndarray:
    """(frames, 3, 2): the template's points seen twice as large, drifting, with noise."""
    rng = np.random.default_rng(0)
    drift = np.stack([3.0 * np.arange(frames), np.zeros(frames)], axis=1)[:, None]
    return 2 * TEMPLATE_POINTS.astype(float) + drift + jitter * rng.standard_normal((frames, 3, 2))


def test_three_points_are_means_of_eyes_and_inner_mouth() -> None:
    assert np.allclose(three_points(template_landmarks()), TEMPLATE_POINTS)


def test_three_points_of_other_shape_raises() -> None:
    with pytest.raises(AlignmentError, match=r"shaped \(\.\.\., 68, 2\), got \(5, 2\)"):
        three_points(np.zeros((5, 2)))


def test_similarity_transform_recovers_scale_rotation_and_shift() -> None:
    truth = _similarity(0.37, 25, (12, -7))
    points = np.random.default_rng(1).random((9, 2)) * 100
    assert np.allclose(similarity_transform(points, transform_points(truth, points)), truth)


def test_similarity_transform_of_coinciding_points_raises() -> None:
    with pytest.raises(AlignmentError, match="fall on one point"):
        similarity_transform(np.ones((3, 2)), TEMPLATE_POINTS)


def test_align_matrices_smooths_the_shift_with_weight_one_fifth() -> None:
    points = _clip(4)
    mean_matrix, matrices = align_matrices(points)
    raw = TEMPLATE_POINTS[2] - transform_points(mean_matrix, points[:, 2])
    bias = matrices[:, :, 2] - mean_matrix[:, 2]
    assert np.allclose(bias[0], raw[0])
    assert np.allclose(bias[1], 0.2 * raw[0] + 0.8 * raw[1])
    assert np.allclose(bias[2], 0.2 * bias[1] + 0.8 * raw[2])
    assert np.allclose(matrices[:, :, :2], mean_matrix[:, :2])
    assert np.allclose(raw[:, 0], [2.25, 0.75, -0.75, -2.25])  # the clip drifts 1.5 template pixels a frame


def test_align_matrices_leaves_unknown_frames_out_of_the_mean() -> None:
    points = _clip(6)
    points[4:] *= 3
    known = np.array([True] * 4 + [False] * 2)
    assert np.allclose(align_matrices(points, known=known)[0], align_matrices(points[:4])[0])
    assert not np.allclose(align_matrices(points)[0], align_matrices(points[:4])[0])
    assert np.allclose(align_matrices(points, known=np.zeros(6, bool))[0], align_matrices(points)[0])


def test_align_matrices_per_frame_puts_every_frame_on_the_template() -> None:
    truths = [_similarity(0.5 + 0.1 * t, 7 * t, (t, -t)) for t in range(5)]
    points = np.stack([transform_points(truth, TEMPLATE_POINTS.astype(float)) for truth in truths])
    _, matrices = align_matrices_per_frame(points)
    for matrix, own in zip(matrices, points, strict=True):
        assert np.allclose(transform_points(matrix, own), TEMPLATE_POINTS)


def test_align_matrices_smooth_follows_a_zoom_with_less_jitter() -> None:
    zoom = 1 + 0.01 * np.arange(60)[:, None, None]
    still = TEMPLATE_POINTS.astype(float) * zoom
    noisy = still + np.random.default_rng(2).standard_normal(still.shape)
    truth = align_matrices_per_frame(still)[1]
    rough = np.abs(align_matrices_per_frame(noisy)[1] - truth)[10:-10, :, 2].mean()
    smooth = np.abs(align_matrices_smooth(noisy)[1] - truth)[10:-10, :, 2].mean()
    assert smooth < 0.4 * rough
    assert np.abs(align_matrices_smooth(still)[1] - truth)[10:-10].max() < 0.1


def test_align_matrices_smooth_of_a_still_clip_is_exact_to_its_ends() -> None:
    points = np.repeat(_clip(1), 12, axis=0)
    assert np.allclose(align_matrices_smooth(points)[1], align_matrices_per_frame(points)[1])


@pytest.mark.parametrize("mode", MODES)
def test_matrices_of_one_frame_fit_in_every_mode(mode: str) -> None:
    mean_matrix, matrices = MODES[mode](_clip(1))
    assert matrices.shape == (1, 2, 3)
    assert np.allclose(matrices[0], mean_matrix, atol=1e-5)  # the template's mean is float32, as published
    assert np.allclose(transform_points(matrices[0], _clip(1)[0]), TEMPLATE_POINTS)


def _gappy(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None, None] * np.ones((1, 68, 2))


NAN = float("nan")


def test_fill_gaps_interpolates_short_gaps_and_holds_long_ones() -> None:
    landmarks = _gappy(NAN, 2, NAN, NAN, 8, NAN, NAN, NAN, 0, NAN)
    filled, status = fill_gaps(landmarks, max_gap=2)
    assert filled[:, 0, 0].tolist() == [2, 2, 4, 6, 8, 8, 8, 8, 0, 0]
    expected = ["held", "", "interpolated", "interpolated", "", "held", "held", "held", "", "held"]
    assert status == expected
    assert np.isnan(landmarks[0]).all()  # the argument is left alone


def test_fill_gaps_with_max_gap_zero_interpolates_nothing() -> None:
    assert fill_gaps(_gappy(1, NAN, 3), max_gap=0)[1] == ["", "held", ""]


def test_fill_gaps_without_a_known_frame_raises() -> None:
    with pytest.raises(AlignmentError, match="no frame has landmarks"):
        fill_gaps(_gappy(NAN, NAN), max_gap=5)


def _moved(points: np.ndarray, right: float, down: float) -> np.ndarray:
    return points + np.array([right, down])


def test_template_score_is_rms_distance_at_224_pixels() -> None:
    points = template_landmarks()
    assert template_score(points) < 1e-9
    assert abs(template_score(_moved(points, 3, 4)) - 5) < 1e-9
    assert abs(template_score(_moved(points, 3, 4) * (2, 4), width=448, height=896) - 5) < 1e-9
    clip = np.stack([points, _moved(points, 6, 8), np.full((68, 2), NAN)])
    assert abs(template_score(clip) - np.sqrt(50)) < 1e-9


def test_template_score_without_landmarks_raises() -> None:
    with pytest.raises(AlignmentError, match="no frame has landmarks"):
        template_score(np.full((2, 68, 2), NAN))


def test_is_template_like_wants_a_square_of_fitting_scale_and_place() -> None:
    points = template_landmarks()
    assert is_template_like(points * 2, 448, 448)
    assert is_template_like(_moved(points, ALIGNED_SCORE_PX - 1, 0), 224, 224)
    assert not is_template_like(_moved(points, ALIGNED_SCORE_PX + 1, 0), 224, 224)
    assert not is_template_like(points * (2, 1), 448, 224)
    centre = TEMPLATE_POINTS.mean(axis=0)
    assert not is_template_like((points - centre) * 0.7 + centre, 224, 224)


def _record(frames: int = 3) -> AlignmentRecord:
    rng = np.random.default_rng(3)
    return AlignmentRecord(
        source="clip ü.mp4",
        source_width=1280,
        source_height=720,
        mode="mean",
        score=1.2345,
        mean_matrix=rng.random((2, 3)),
        matrices=rng.random((frames, 2, 3)),
        landmarks=rng.random((frames, 68, 2)) * 1000,
        status=["detected", "tracked", "held"][:frames],
        info=AlignmentInfo(detector="dlib", options={"face": "track"}, state=Fingerprint("a", "b")),
    )


def test_record_comes_back_as_written(tmp_path: Path) -> None:
    record = _record()
    write_record(tmp_path / "alignment.json", record)
    back = read_record(tmp_path / "alignment.json")
    assert (back.source, back.source_width, back.source_height) == ("clip ü.mp4", 1280, 720)
    assert (back.mode, back.status, back.info, back.num_frames) == ("mean", record.status, record.info, 3)
    assert abs(back.score - record.score) <= 0.0005 + 1e-9
    assert np.array_equal(back.matrices, record.matrices)
    assert np.array_equal(back.mean_matrix, record.mean_matrix)
    assert np.abs(back.landmarks - record.landmarks).max() <= 0.0005 + 1e-9


def test_record_has_a_line_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(path, _record())
    lines = path.read_text().splitlines()
    assert len(lines) == 3 * 3 + 18
    assert json.loads(lines[-3]) == json.loads(path.read_text())["landmarks"][2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: v.pop("matrices"), "missing required field `matrices`; run scripts/align_68.py"),
        (lambda v: v.update(format=99), "format 99, this version reads 1"),
        (lambda v: v["status"].pop(), "2 frames, but matrices is shaped .*; run scripts/align_68.py again"),
        (lambda v: v["landmarks"][1].pop(), "landmarks"),
        (lambda v: v.update(matrices="none"), "could not convert string to float: 'none' - at `\\$.matrices`"),
    ],
)
def test_read_record_of_damaged_file_raises(tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "alignment.json"
    write_record(path, _record())
    value = json.loads(path.read_text())
    damage(value)  # type: ignore[operator]
    path.write_text(json.dumps(value))
    with pytest.raises(MediaError, match=message):
        read_record(path)


def test_read_record_of_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"alignment\.json: No such file.*; run scripts/align_68\.py"):
        read_record(tmp_path / "alignment.json")


def test_warp_shifts_and_is_black_outside() -> None:
    image = np.random.default_rng(4).integers(1, 256, (50, 40, 3), dtype=np.uint8)
    crop = warp(image, np.array([[1.0, 0, 10], [0, 1, 20]]))
    assert crop.shape == (224, 224, 3)
    assert np.array_equal(crop[20:70, 10:50], image)
    assert crop.sum(dtype=int) == image.sum(dtype=int)


def test_record_whose_crop_lies_off_the_picture_is_refused(tmp_path: Path) -> None:
    matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
    for shift, is_outside in ((0.0, False), (-5000.0, True)):
        moved = matrix + np.array([[0, 0, shift], [0, 0, 0]])
        record = AlignmentRecord("a.jpg", 300, 300, "mean", 1.0, matrix, moved[None], np.zeros((1, 68, 2)), ["given"])
        write_record(tmp_path / "alignment.json", record)
        told = pytest.raises(MediaError, match="the face of frame 0 lies outside the picture; run")
        with told if is_outside else contextlib.nullcontext():
            assert read_record(tmp_path / "alignment.json").num_frames == 1
