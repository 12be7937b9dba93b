"""Which pairs are measured, by how many processes, and what of an earlier run is taken."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.video_pairs import VideoPair
from scripts.evaluation import jobs
from scripts.evaluation.clip import ClipResult
from scripts.evaluation.instruments import EvaluationConfig
from scripts.evaluation.jobs import measure_all, plan, read_curves
from tests.evaluation_factory import config_for, write_levels
from util.errors import MediaError
from util.parallel import WorkerDiedError


def test_a_real_video_is_measured_once_by_the_pair_that_compares_with_it(tmp_path: Path) -> None:
    made = write_levels(tmp_path / "made", [1])
    pairs = [
        VideoPair("cross", made, made, apart="another pose", truth="M/a"),
        VideoPair("own", made, made, truth="M/a"),
        VideoPair("own", made, made, truth="M/b"),
        VideoPair("alone", made),
    ]
    tasks = plan(pairs, config_for("ssim"), tmp_path)
    assert [task.with_truth for task in tasks] == [False, True, True, False]
    assert [task.pair.name for task in tasks] == ["cross", "own", "own_2", "alone"]


def measure(pairs: list[VideoPair], config: EvaluationConfig, folder: Path, **how: Any) -> list[ClipResult]:
    return measure_all(plan(pairs, config, folder), config, **how)


def test_resume_measures_only_what_has_changed(tmp_path: Path) -> None:
    pairs = [VideoPair(name, write_levels(tmp_path / name, [1, 2])) for name in "abcd"]
    pairs.append(VideoPair("broken", tmp_path / "none"))
    config = config_for("psnr", "ssim")
    first = measure(pairs, config, tmp_path)
    assert first[4].error is not None
    files = [tmp_path / "clips" / f"{name}.json" for name in "abcd"]
    before = [file.stat().st_mtime_ns for file in files]
    cv2.imwrite(str(tmp_path / "b" / "000002.png"), np.zeros((16, 16, 3), np.uint8))
    files[2].write_text("{")
    files[3].write_text(files[3].read_text().replace('"num_frames": 2', '"frames": 2'))
    again = measure(pairs, config, tmp_path, resume=True)
    after = [file.stat().st_mtime_ns for file in files]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False, False]
    assert again == [first[0], dataclasses.replace(first[1], num_frames=3), *first[2:]]
    measure(pairs, config_for("psnr"), tmp_path, resume=True)  # other settings
    assert all(file.stat().st_mtime_ns != time for file, time in zip(files, after, strict=True))


def test_clip_is_measured_again_once_a_missing_instrument_is_there(tmp_path: Path) -> None:
    pair = VideoPair("x", write_levels(tmp_path / "made", [1, 2]))
    keys = [plan([pair], config_for("lmd"), tmp_path, missing)[0].key for missing in (("lmd",), ())]
    assert keys[0] != keys[1]


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    real = write_levels(tmp_path / "real", [40, 40])
    pairs = [VideoPair(f"x{n}", write_levels(tmp_path / f"x{n}", [40 + n, 50]), real) for n in range(3)]
    pairs.append(VideoPair("broken", tmp_path / "none"))
    config = config_for("psnr", "lmd")
    one = measure(pairs, config, tmp_path / "one")
    assert measure(pairs, config, tmp_path / "two", workers=2) == one
    files = [{f.name: read_curves(f) for f in (tmp_path / run / "clips").glob("*.json")} for run in ("one", "two")]
    assert len(files[0]) == 3
    np.testing.assert_equal(files[0], files[1])


def test_process_that_dies_is_told_with_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_: object) -> None:
        raise WorkerDiedError("gone")

    monkeypatch.setattr(jobs, "map_processes", dead)
    pair = VideoPair("x", write_levels(tmp_path / "made", [1, 2]))
    with pytest.raises(MediaError, match="finished clips are kept: run again with --resume and fewer --workers"):
        measure([pair], config_for("psnr"), tmp_path, workers=2)
