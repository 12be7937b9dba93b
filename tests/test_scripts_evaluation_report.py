"""Tables over all clips, the remarks, and the page."""

from __future__ import annotations

import csv
import errno
import math
import os
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from data.video_pairs import VideoPair
from scripts.evaluation.clip import ClipResult
from scripts.evaluation.instruments import Instruments
from scripts.evaluation.jobs import plan, run_task
from scripts.evaluation.page import worst_numbers
from scripts.evaluation.report import claim_reports, frechet_cells, summarise, write_clips_csv, write_reports
from tests.evaluation_factory import config_for, two_features, write_levels
from util.errors import MediaError, OptionError


def test_frechet_distance_is_over_all_clips_and_zero_for_the_truth(tmp_path: Path) -> None:
    config = config_for("frechet")
    pairs = []
    for number in range(2):
        made = write_levels(tmp_path / f"made{number}", list(range(50, 90, 3)))
        real = write_levels(tmp_path / f"real{number}", list(range(10 + number, 50, 3)))
        pairs.append(VideoPair(f"x{number}", made, real, truth=str(real)))
    tasks = plan(pairs, config, tmp_path / "out")
    results = [run_task(task, config, Instruments(features=two_features)) for task in tasks]
    cells, remarks = frechet_cells(results, tmp_path / "out")
    assert cells["ground truth"].mean == pytest.approx(0, abs=1e-5)
    assert cells["generated"].mean > 10
    assert cells["generated"].count == 2
    assert remarks == []
    assert summarise(results, config, cells).rows["generated"]["frechet"] == cells["generated"]


def test_page_of_clips_without_curves_and_worst_numbers(tmp_path: Path) -> None:
    assert worst_numbers(np.array([3.0, math.nan, 1.0, 1.5, 2.0, 9.0]), count=3, apart=2) == [2, 4, 0]
    assert worst_numbers(np.array([math.nan])) == []
    made = write_levels(tmp_path / "made", [1])
    config = config_for("sync")
    tasks = plan([VideoPair("x", made)], config, tmp_path / "out")
    result = ClipResult("x", "generated", 1, generated={"lse_c": 5.0})
    assert write_reports(tmp_path / "out", "t", config, Instruments(), tasks, [result]) == []
    assert "Worst clips" not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_page_shows_everything_with_relative_links(tmp_path: Path) -> None:
    made, real = write_levels(tmp_path / "made", [1, 9, 1]), write_levels(tmp_path / "real", [1, 1, 1])
    config = config_for("psnr", "sync")
    tasks = plan([VideoPair("clip ä & b", made, real)], config, tmp_path / "out")
    results = [run_task(task, config, Instruments(missing={"sync": "no weights"})) for task in tasks]
    write_reports(tmp_path / "out", "Title", config, Instruments(missing={"sync": "no weights"}), tasks, results)
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    links = [unquote(link) for link in re.findall(r'src="([^"]+)"', text)]
    name = tasks[0].pair.name
    assert links == ["pictures/distribution_psnr.png", f"pictures/{name}_psnr.png", f"pictures/{name}_1.jpg"]
    assert all((tmp_path / "out" / link).is_file() for link in links)
    for part in ("clip ä _ b", "sync skipped: no weights", "Worst clips by PSNR", "frame 1, real and generated: PSNR"):
        assert part in text


def test_clips_csv_has_both_sides_and_empty_fields_for_missing_figures(tmp_path: Path) -> None:
    clip = ClipResult("a,b", "g", 7, {"ssim": 0.123456789}, {"cpbd": 0.5}, problems=["one"], notes=["two"])
    write_clips_csv(tmp_path / "clips.csv", ["ssim", "cpbd"], [clip])
    head, row = csv.reader((tmp_path / "clips.csv").open(encoding="utf-8"))
    assert head == ["clip", "group", "frames", "ssim", "cpbd", "real_ssim", "real_cpbd", "remarks"]
    assert row == ["a,b", "g", "7", "0.123457", "", "", "0.5", "one; two"]


def test_many_remarks_share_lines_and_the_terminal_shows_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for n in range(30):
        apart = dict.fromkeys(("ssim", "lmd"), f"other pose (pose {n})")
        results.append(ClipResult(f"x{n}", "generated", 1, {"cpbd": 0.5}, inapplicable=apart, problems=[f"p{n}"]))
    pairs = [VideoPair(result.name, write_levels(tmp_path / result.name, [1])) for result in results]
    config = config_for("cpbd")
    problems = write_reports(
        tmp_path / "out", "t", config, Instruments(), plan(pairs, config, tmp_path / "out"), results, show=0
    )
    assert len(problems) == 30
    printed = capsys.readouterr().out
    assert "x19: p19" in printed
    assert "x20: p20" not in printed
    assert "and 11 more remarks, in " in printed
    written = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "x29: p29" in written
    assert "- ssim, lmd do not apply to 30 of 30 clips (x0 ...): other pose\n" in written


def test_features_of_an_earlier_run_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    made, real = write_levels(tmp_path / "made", [1, 2, 9]), write_levels(tmp_path / "real", [1, 5, 9])
    config = config_for("frechet")
    tasks = plan([VideoPair("x", made, real)], config, tmp_path / "out")
    run_task(tasks[0], config, Instruments(features=two_features))
    assert tasks[0].path.with_suffix(".npz").is_file()
    without = Instruments(missing={"frechet": "no weights"})
    results = [run_task(tasks[0], config, without)]
    assert not tasks[0].path.with_suffix(".npz").exists()
    assert frechet_cells(results, tmp_path / "out") == ({}, [])


@pytest.mark.parametrize("name", ["index.html", "summary.md", "evaluation.json"])
def test_reports_replace_earlier_reports_only(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OptionError, match=rf"--output: .*{name}: is there and was not made by this command"):
        claim_reports(tmp_path)
    claim_reports(tmp_path, overwrite=True)
    (tmp_path / "evaluation.json").write_text('{"made_by": "made by PC-AVS"}')
    claim_reports(tmp_path)


@pytest.mark.parametrize("last", ["evaluation.json", "summary.md", "summary.tex", "clips.csv"])
def test_reports_of_which_a_full_disk_took_the_rest_are_replaced_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    put = os.replace

    def put_until_full(source: Path, target: Path) -> None:
        if (tmp_path / "out" / last).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        put(source, target)

    made = write_levels(tmp_path / "made", [1])
    config = config_for("sync")
    tasks = plan([VideoPair("x", made)], config, tmp_path / "out")
    result = ClipResult("x", "generated", 1, generated={"lse_c": 5.0})
    monkeypatch.setattr(os, "replace", put_until_full)
    with pytest.raises(MediaError, match="No space left"):
        write_reports(tmp_path / "out", "t", config, Instruments(), tasks, [result])
    claim_reports(tmp_path / "out")
