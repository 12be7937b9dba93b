"""What a personal model is judged by: readings of faces, the score of a look, warnings in words, the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from models.trainers.loop import Best
from options.config import ANGLES
from scripts.personal.faces import Reading, best_shift, correlation, detail, mean
from scripts.personal.intake import Check
from scripts.personal.measure import Measured, share_found, warnings
from scripts.personal.plan import Plan
from scripts.personal.report import Facts, write_report, write_row
from scripts.personal.watch import score

GOOD = {
    "identity": 0.97, "cpbd": 0.08, "detail": 0.9, "ssim": 0.8, "lmd": 2.5, "mouth": 0.7, "yaw": 0.9, "pitch": 0.8,
    "offset": 0.0, "faces": 1.0, "voices": 0.6, "voices_found": 0.9,
    **{f"{name}_{what}": value for name in ANGLES[:2]
       for what, value in (("control", 0.97), ("slope", 0.9), ("faces", 1.0), ("identity", 0.95))},
}  # fmt: skip
TRUTH = {"identity": 0.985, "cpbd": 0.09, "faces": 1.0}


def test_correlation_knows_frames_without_a_face_and_tracks_that_never_move():
    true = np.array([0.0, 1.0, 0.0, 1.0, 2.0])
    assert correlation(2 * true + 3, true) == pytest.approx(1.0)
    made = np.array([0.0, 1.0, np.nan, 1.0, 2.0])
    assert correlation(made, true) == pytest.approx(1.0)
    assert correlation(np.ones(5), true) == 0.0
    assert correlation(np.full(5, np.nan), true) == 0.0


@pytest.mark.parametrize("late", [-3, 0, 4])
def test_best_shift_says_how_far_a_mouth_runs_behind(late: int):
    track = np.random.default_rng(0).standard_normal(60)
    assert best_shift(np.roll(track, late), track) == late


def test_a_reading_measures_mouth_and_eyes_by_the_width_of_the_eyes():
    points = np.zeros((2, 68, 2))
    points[:, 36], points[:, 45] = (50, 80), (150, 80)
    points[0, 66] = (0, 25)
    points[0, [41, 40, 47, 46], 1] = 10.0
    points[1] = np.nan
    reading = Reading(points, np.array([0.9, np.nan]), np.zeros(2))
    assert reading.opening[0] == pytest.approx(0.25)
    assert reading.eyes[0] == pytest.approx(0.1)
    assert reading.found == 0.5
    assert mean(reading.likeness) == pytest.approx(0.9)
    assert math.isnan(mean(np.array([np.nan])))


def test_detail_is_what_a_mean_over_squares_takes_away():
    board = np.indices((8, 9)).sum(axis=0)[None, ..., None].repeat(3, axis=-1) % 2 * 200
    assert detail(board.astype(np.uint8)) == pytest.approx(100)
    assert detail(np.full((2, 8, 8, 3), 77, np.uint8)) == 0


def test_score_is_one_for_the_truth_and_falls_with_every_part():
    best = {
        "identity": 0.97,
        "cpbd": 0.1,
        "cpbd_of_truth": 0.1,
        "detail": 1.0,
        "yaw": 1.0,
        "faces": 1.0,
        "mouth": 1.0,
        "ssim": 1.0,
    }
    assert score(best) == pytest.approx(1.0)
    assert score({**best, "identity": 0.8}) == pytest.approx(1 - 2 / 6)
    for name in ("cpbd", "detail", "yaw", "faces", "mouth", "ssim"):
        assert score({**best, name: 0.0}) == pytest.approx(1 - 1 / 6), name
    assert score({**best, "cpbd": 0.3}) == pytest.approx(1.0)  # sharper than the truth is noise
    assert score({name: best[name] for name in best if name not in ("mouth", "ssim")}) == pytest.approx(1.0)


def test_a_mouth_finds_its_sound_where_it_moves_with_it():
    rng = np.random.default_rng(0)
    heard = [rng.standard_normal((40, 6)) for _ in range(2)]
    moved = [5 + 2 * part + 0.1 * rng.standard_normal(part.shape) for part in heard]
    assert share_found(moved, heard) == 1.0
    asleep = [rng.standard_normal((40, 6)) for _ in range(2)]
    assert share_found(asleep, heard) < 0.4


def test_warnings_name_what_is_poor():
    assert warnings(GOOD, TRUTH, 10) == []
    poor = {**GOOD, "identity": math.nan, "cpbd": 0.02, "mouth": 0.1, "offset": 3.0, "faces": 0.5, "yaw_control": 0.2,
            "pitch_faces": 0.75, "voices": 0.1}  # fmt: skip
    found = warnings(poor, TRUTH, 10)
    assert len(found) == 8
    assert "22 % of its sharpness" in found[1]
    assert "+3 frames apart" in found[3]
    assert "yaw follows with correlation 0.20" in found[5]
    assert "25 % of the frames of a pitch sweep" in found[6]
    assert "better than the base" in warnings(GOOD, TRUTH, 0)[0]
    assert len(warnings(poor, {}, 10)) == 3  # a person of photos: control and voices alone


def test_the_report_is_text_json_page_and_card(tmp_path: Path):
    plan = Plan("me", tmp_path, tmp_path / "synthetic", tmp_path / "work", 30.0, False, False, (-1,), 0, 4, 100, 10)
    plan.directory.mkdir()
    frames = np.zeros((12, 28, 28, 3), np.uint8)
    sides = {
        "base": Measured({**GOOD, "identity": math.nan}, {"held out": frames}),
        "personal": Measured(GOOD, {"held out": frames, "yaw -25 to 25": frames}),
        "truth": Measured(TRUTH, {"held out": frames}),
    }
    check = Check("yaw", -5.0, "degrees", "the clip never shows the left side of the face", "warning")
    facts = Facts(plan, Best(60, 0.8, 1), "done", 12.5, 6.2, 1, [check], ["frames are softer than the clip"])
    text = write_report(plan.directory, facts, sides)
    assert (plan.directory / "report.txt").read_text() == text
    assert "step 60 of 100" in text
    line = next(line for line in text.splitlines() if line.startswith("identity"))
    assert line.split()[-3:] == ["–", "0.970", "0.985"]
    stored = json.loads((plan.directory / "report.json").read_text())
    assert stored["figures"]["base"]["identity"] is None
    assert stored["figures"]["personal"] == GOOD
    page = (plan.directory / "report.html").read_text()
    assert "never shows the left side" in page
    assert sorted(p.name for p in (plan.directory / "report").iterdir()) == [
        "held_out_base.jpg", "held_out_personal.jpg", "held_out_truth.jpg", "yaw_-25_to_25_personal.jpg",
    ]  # fmt: skip
    assert (plan.directory / "README.md").read_text().startswith("# me\n")
    assert (plan.directory / "trained_on.txt").read_text() == "me, from synthetic\n"


def test_the_row_to_start_from_can_be_read(tmp_path: Path):
    from data.metadata import read_rows

    plan = Plan("me", tmp_path, tmp_path / "synthetic", tmp_path / "work", 30.0, False, False, (-1,), 0, 4)
    plan.directory.mkdir()
    row = write_row(plan, (tmp_path / "clip", 40), tmp_path / "a b.wav")
    (clip,) = (row.clip() for row in read_rows(row))
    assert (clip.reference_dir, clip.pose_dir, clip.num_pose_frames) == (plan.reference, tmp_path / "clip", 40)
    assert clip.audio == tmp_path / "a b.wav"
