"""Measuring pairs with known differences, by instruments that see what was drawn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.video_pairs import VideoPair
from scripts.evaluation.clip import measure_pair
from scripts.evaluation.instruments import Instruments
from tests.conftest import voice, write_wav
from tests.evaluation_factory import SIDE, config_for, faces_only, write_faces, write_levels
from tests.face_factory import square_landmarks
from util.metrics.landmark_distance import landmark_distances
from util.metrics.ssim import psnr, ssim
from util.metrics.sync_score import SyncScores, score_clip, to_int16


def test_frame_metrics_are_means_over_frames_and_truth_is_best(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)
    for folder, images in zip(("made", "real"), pictures, strict=True):
        (tmp_path / folder).mkdir()
        for number, image in enumerate(images):
            cv2.imwrite(str(tmp_path / folder / f"{number:06d}.png"), image)
    pair = VideoPair("x", tmp_path / "made", tmp_path / "real")
    result, curves, _ = measure_pair(pair, config_for("ssim", "psnr", "cpbd"), Instruments())
    expected = [ssim(real, made) for made, real in zip(*pictures, strict=True)]
    np.testing.assert_allclose(curves["generated"]["ssim"], expected)
    assert result.generated["ssim"] == pytest.approx(np.mean(expected))
    assert result.generated["psnr"] == pytest.approx(np.mean([psnr(*both) for both in zip(*pictures, strict=True)]))
    assert (result.truth["ssim"], result.truth["psnr"]) == (1.0, 100.0)
    assert set(result.truth) == set(result.generated) == {"ssim", "psnr", "cpbd"}
    assert (result.skipped, result.problems, result.num_frames) == ({}, [], 3)


def test_landmark_distance_of_a_larger_face_is_known(tmp_path: Path) -> None:
    made = write_faces(tmp_path / "made", [SIDE] * 3, shift=15)
    real = write_faces(tmp_path / "real", [SIDE - 20] * 3)
    result, _, _ = measure_pair(VideoPair("x", made, real), config_for("lmd"), faces_only())
    points = [square_landmarks((0, 0, side))[None] for side in (SIDE - 20, SIDE)]
    expected = landmark_distances(*points)
    assert result.generated["lmd"] == pytest.approx(float(expected["mouth_mean"][0]))
    assert result.generated["lmd_sum"] == pytest.approx(20 * result.generated["lmd"])
    assert result.generated["lmd_face"] == pytest.approx(float(expected["face_mean"][0]))
    assert set(result.truth.values()) == {0.0}


def test_identity_is_measured_against_reference_picture_or_first_real_face(tmp_path: Path) -> None:
    made = write_faces(tmp_path / "made", [SIDE] * 2, look=1)
    real = write_faces(tmp_path / "real", [0, SIDE], look=2)
    picture = write_faces(tmp_path / "picture", [SIDE], look=1) / "000000.png"
    config = config_for("identity")
    with_picture, _, _ = measure_pair(VideoPair("x", made, real, reference=picture), config, faces_only())
    assert with_picture.generated["identity"] == pytest.approx(1)
    assert with_picture.truth["identity"] < 0.9
    without, _, _ = measure_pair(VideoPair("x", made, real), config, faces_only())
    assert without.truth["identity"] == pytest.approx(1)
    assert without.generated["identity"] == pytest.approx(with_picture.truth["identity"])
    alone, _, _ = measure_pair(VideoPair("x", made), config, faces_only())
    assert "no reference picture, and no real video" in alone.skipped["identity"]


def test_frames_without_a_face_are_left_out_and_counted(tmp_path: Path) -> None:
    made = write_faces(tmp_path / "made", [SIDE, 0, SIDE, SIDE])
    real = write_faces(tmp_path / "real", [SIDE] * 4)
    instruments = faces_only()
    result, curves, _ = measure_pair(VideoPair("x", made, real), config_for("lmd"), instruments)
    assert np.isnan(curves["generated"]["lmd"]).tolist() == [False, True, False, False]
    assert result.generated["lmd"] == 0
    assert result.problems == ["no face in 1 of 4 generated frames, left out of lmd"]


def test_no_face_at_all_skips_with_the_reason(tmp_path: Path) -> None:
    made, real = write_faces(tmp_path / "made", [0, 0]), write_faces(tmp_path / "real", [SIDE, SIDE])
    result, _, _ = measure_pair(VideoPair("x", made, real), config_for("lmd", "identity", "cpbd"), faces_only())
    assert set(result.generated) == {"cpbd"}
    assert result.truth["identity"] == pytest.approx(1)  # the real video has faces
    assert result.skipped == dict.fromkeys(("lmd", "identity"), "no face in any of the 2 generated frames")


def test_video_of_another_pose_is_compared_in_nothing_frame_by_frame(tmp_path: Path) -> None:
    made, real = write_levels(tmp_path / "made", [9, 9], 64), write_levels(tmp_path / "real", [9, 9], 80)
    pair = VideoPair("x", made, real, apart="another head pose", same_person=False)
    result, _, _ = measure_pair(pair, config_for("ssim", "psnr", "cpbd"), Instruments())
    assert result.inapplicable == {"ssim": "another head pose", "psnr": "another head pose"}
    assert result.skipped == {}
    assert list(result.generated) == list(result.truth) == ["cpbd"]


def test_frames_too_small_for_a_metric_skip_only_that_one(tmp_path: Path) -> None:
    made = write_levels(tmp_path / "made", [9, 9])
    result, _, _ = measure_pair(VideoPair("x", made, made), config_for("ssim", "cpbd"), Instruments())
    assert list(result.generated) == ["ssim"]
    assert "CPBD needs a grey" in result.skipped["cpbd"]


def counting_tools() -> Instruments:
    """Lips are known by their grey level, 4 a frame; sound windows are counted, and each is one frame further."""
    counted = {"audio": 0}

    def lips(windows: np.ndarray) -> np.ndarray:
        counted["audio"] = 0 if windows[0, 0, 0, 0, 0] == 0 else counted["audio"]
        return np.eye(64)[np.rint(windows[:, 0, 0, 0, 0] / 4).astype(int)]

    def audio(windows: np.ndarray) -> np.ndarray:
        start = counted["audio"]
        counted["audio"] += len(windows)
        return np.eye(64)[start + np.arange(len(windows))]

    def score(frames: Iterable[np.ndarray], num_frames: int, wave: np.ndarray) -> SyncScores:
        return score_clip(frames, num_frames, to_int16(wave), lips, audio)

    return Instruments(sync={"sync": score})


def test_sync_offset_of_an_early_picture_is_negative(tmp_path: Path) -> None:
    made = write_levels(tmp_path / "made", [4 * (n + 2) for n in range(30)])
    pair = VideoPair("x", made, audio=write_wav(tmp_path / "a.wav", voice(1.3)))
    result, _, _ = measure_pair(pair, config_for("sync"), counting_tools())
    assert result.generated["sync_offset"] == -2
    assert result.generated["lse_d"] == pytest.approx(2 / 25)  # two windows of 25 find zeros: distance 1
    assert result.generated["lse_c"] > 1
    assert result.problems == []


def test_sync_without_sound_and_with_short_sound_is_named(tmp_path: Path) -> None:
    made = write_levels(tmp_path / "made", [4 * n for n in range(30)])
    silent, _, _ = measure_pair(VideoPair("x", made), config_for("sync"), counting_tools())
    assert "no sound found" in silent.skipped["sync"]
    pair = VideoPair("x", made, audio=write_wav(tmp_path / "a.wav", voice(0.8)))
    short, _, _ = measure_pair(pair, config_for("sync"), counting_tools())
    assert short.generated["sync_offset"] == 0
    assert short.problems == ["the sound of the generated video ends 0.40 s before its pictures"]


def test_frechet_frames_are_spread_over_the_clip(tmp_path: Path) -> None:
    made = write_levels(tmp_path / "made", list(range(0, 210, 2)))  # 105 frames
    seen: list[int] = []

    def features(frames: np.ndarray) -> np.ndarray:
        seen.extend(frames[:, 0, 0, 0].tolist())
        return np.zeros((len(frames), 2), np.float32)

    _, _, parts = measure_pair(VideoPair("x", made), config_for("frechet"), Instruments(features=features))
    assert len(seen) == len(parts["generated"]) == 100
    assert (seen[0], seen[-1]) == (0, 208)


def test_reference_folder_without_pictures_skips_identity(tmp_path: Path) -> None:
    made = write_faces(tmp_path / "made", [SIDE] * 2)
    (tmp_path / "reference").mkdir()
    pair = VideoPair("x", made, reference=tmp_path / "reference")
    result, _, _ = measure_pair(pair, config_for("identity"), faces_only())
    assert result.skipped["identity"].startswith(f"{tmp_path / 'reference'}: holds no pictures")
