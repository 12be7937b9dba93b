"""The whole command: what it writes, what it says is wrong, and its exit codes."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.clip_list import ClipRecord, scan_tree, write_list
from data.frames import crop_template
from data.video_pairs import OTHER, OWN
from options.config import DataConfig
from scripts import evaluate
from scripts.evaluation.jobs import read_curves
from scripts.inference import rows
from tests.conftest import Workspace, voice, write_wav
from tests.evaluation_factory import SIDE, write_faces, write_levels
from tests.numbered_clips import write_tree
from util.metrics.ssim import psnr


def run(*flags: object) -> int:
    return evaluate.main([str(flag) for flag in flags])


def load(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def test_command_writes_every_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name, noise in (("bad", 80), ("good", 5)):
        real = write_faces(tmp_path / "real" / name, [SIDE] * 8)
        made = tmp_path / "made" / name
        made.mkdir(parents=True)
        for number, path in enumerate(sorted(real.iterdir())):
            strength = noise * (3 if number == 6 else 1)
            image = cv2.imread(str(path)) + rng.normal(0, strength, (160, 200, 3))
            cv2.imwrite(str(made / path.name), np.clip(image, 0, 255).astype(np.uint8))
    flags = ("--generated", tmp_path / "made", "--real", tmp_path / "real", "--metrics", "ssim", "cpbd", "--show", 1)
    assert run(*flags, "--output", tmp_path / "out", "--strict") == 0
    printed = capsys.readouterr().out
    report = load(tmp_path / "out")
    assert report["protocol"]["name"] == "paper"
    assert report["summary"]["ground truth"]["ssim"] == {"mean": 1.0, "deviation": 0.0, "n": 2}
    figures = {clip["name"]: clip["generated"]["ssim"] for clip in report["clips"]}
    cell = report["summary"]["generated"]["ssim"]
    assert cell["mean"] == pytest.approx(np.mean(list(figures.values())))
    assert cell["deviation"] == pytest.approx(np.std(list(figures.values()), ddof=1))
    text = f"{cell['mean']:.3f} ± {cell['deviation']:.3f}"
    assert text in printed
    assert text in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert text.replace(" ± ", r" \pm ") in (tmp_path / "out" / "summary.tex").read_text(encoding="utf-8")
    rows = list(csv.DictReader((tmp_path / "out" / "clips.csv").open(encoding="utf-8")))
    assert {row["clip"]: float(row["ssim"]) for row in rows} == pytest.approx(figures, abs=1e-5)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "pictures/bad_6.jpg" in page
    assert "pictures/good_6.jpg" not in page
    assert cv2.imread(str(tmp_path / "out" / "pictures" / "bad_6.jpg")).shape == (160, 400, 3)  # real and generated
    assert (tmp_path / "out" / "pictures" / "bad_ssim.png").is_file()
    curve = read_curves(tmp_path / "out" / "clips" / "bad.json")["generated"]["ssim"]
    assert curve.argmin() == 6


def test_what_is_wrong_is_named_and_strict_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_levels(tmp_path / "made" / "a", [40] * 12)
    write_levels(tmp_path / "real" / "a", [40] * 4)
    write_levels(tmp_path / "made" / "b", [40] * 4)
    write_levels(tmp_path / "real" / "b", [40] * 4, size=24)
    write_levels(tmp_path / "made" / "nobody", [40] * 4)
    flags = (
        "--generated", tmp_path / "made", "--real", tmp_path / "real", "--metrics", "ssim", "cpbd", "sync",
        "--syncnet", tmp_path / "none.model", "--output", tmp_path / "out",
    )  # fmt: skip
    assert run(*flags) == 0
    problems, printed = load(tmp_path / "out")["problems"], capsys.readouterr().out
    for part in (
        "sync skipped: no weights at", "nobody: no real video of this name", "b: not measured: ",
        "frames are 16x16, the real ones of", "cpbd skipped for a: CPBD needs", "a: lengths differ: 12 generated",
    ):  # fmt: skip
        assert any(part in problem for problem in problems), part
        assert part in printed
    assert run(*flags, "--strict") == 1
    assert run(*flags, "--strict", "--resume", "--metrics", "ssim", "--resample") == 1


def test_results_of_published_timing_are_compared_with_the_same_moments(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    workspace.write_csv(workspace.add_inputs("a", seconds=0.5, pose_frames=3, mouth_frames=20))
    assert workspace.run("--driving_pose", "--published_timing", "--frame_format", "png") == 0
    assert run("--results", "results", "--metrics", "psnr", "--strict") == 0
    report = load(workspace.results / "evaluation")
    (clip,) = report["clips"]
    assert clip["notes"] == ["published timing: frame 0 is number 2, and the picture runs ahead by as much"]
    folder = workspace.results / clip["name"]
    made, real = (cv2.imread(str(folder / column / f"{column}0.png")) for column in ("G_Pose_Driven_", "Mouth_Source_"))
    third = cv2.imread(str(workspace.misc / "Mouth_Source" / "a" / "000002.jpg"))
    np.testing.assert_array_equal(real, crop_template(third, DataConfig(crop_size=28))[..., ::-1])
    curve = read_curves(workspace.results / "evaluation" / "clips" / f"{clip['name']}.json")["generated"]["psnr"]
    assert curve[0] == pytest.approx(psnr(real, made), abs=1e-5)


def test_nothing_measured_or_no_pairs_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_levels(tmp_path / "made", [40] * 3)
    assert run("--generated", tmp_path / "made", "--metrics", "ssim", "--output", tmp_path / "out") == 1
    assert "nothing could be measured" in capsys.readouterr().err
    assert "ssim skipped for made: no real video was given" in load(tmp_path / "out")["problems"][0]
    (tmp_path / "empty").mkdir()
    assert run("--results", tmp_path / "empty") == 1
    assert "holds no finished results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give one of --results, --generated, --pairs, --self_reenact, got none of them"),
        (("--results", "a", "--pairs", "b"), "got --results and --pairs"),
        (("--results", "a", "--real", "b"), "--real goes with --generated; --results knows by itself"),
        (("--pairs", "a", "--first_frame", "2"), "--first_frame goes with --generated"),
        (("--generated", "a", "--crop_real"), "--crop_real needs --real"),
        (("--results", "a", "--how_many", "3"), "--how_many goes with --self_reenact; --results has its clips already"),
        (("--self_reenact", "a", "--test_flags", "--name 'x"), "--test_flags --name 'x: No closing quotation"),
    ],
)
def test_flags_that_do_not_go_together(
    flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*flags) == 2
    assert message in capsys.readouterr().err


def test_weights_that_are_given_add_their_metric() -> None:
    flags = ["--results", "a", "--metrics", "ssim", "--arcface", "a.onnx", "--inception", "i.pth"]
    config = evaluate.evaluation_config(evaluate.main.parse(flags))
    assert config.metrics == ("ssim", "identity", "frechet")


def test_test_flags_go_before_the_flags_of_the_evaluation(tmp_path: Path) -> None:
    parse = evaluate.main.parse
    flags = ["--self_reenact", "a", "--name", "x", "--checkpoints_dir", str(tmp_path), "--output", "out", "--resume"]
    config = evaluate.generation_config(parse([*flags, "--test_flags", "--seed 3 --gpu_ids 1"]))
    assert (config.name, config.checkpoints_dir, config.seed, config.gpu_ids) == ("x", tmp_path, 3, (1,))
    assert config.results_dir == Path("out/generated")
    assert config.driving_pose
    assert config.input_id_feature
    assert config.resume
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "network.json").write_text('{"crop_size": 112}')
    other = evaluate.generation_config(parse([*flags, "--test_flags", "--name y"]))
    assert (other.name, other.network.crop_size, other.data.crop_size) == ("y", 112, 112)


def test_sync_model_is_a_metric_of_its_own_in_the_report(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_faces(tmp_path / "made", [SIDE] * 12)
    write_wav(tmp_path / "made" / "audio.wav", voice(0.48))
    flags = ("--generated", tmp_path / "made", "--metrics", "cpbd", "--output", tmp_path / "out", "--show", 0)
    assert run(*flags, "--sync_model", tiny_model, "--strict") == 0
    report = load(tmp_path / "out")
    assert set(report["clips"][0]["generated"]) == {"cpbd", "model_sync_c", "model_sync_d", "model_sync_offset"}
    assert "latest_net_E.pth (SHA-256" in report["how"]["model_sync by"]
    assert "Model sync C" in capsys.readouterr().out
    assert run(*flags, "--metrics", "model_sync", "cpbd", "--strict") == 1
    assert "model_sync skipped: no weights: give the folder" in capsys.readouterr().out


def test_name_that_is_no_text_is_told_in_every_report(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for folder in (made / "a", made / "cafe", tmp_path / "real" / "a"):
        write_levels(folder, [10, 20], size=32)
    (made / "cafe").rename(made / os.fsdecode(b"caf\xe9"))
    flags = ("--generated", made, "--real", tmp_path / "real", "--metrics", "psnr", "--output", tmp_path / "out")
    assert run(*flags) == 0
    assert "caf\\udce9: no real video of this name" in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert any("caf\udce9" in problem for problem in load(tmp_path / "out")["problems"])


def test_self_reenact_makes_generates_and_measures_own_and_other_poses(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_tree(workspace.root / "vox", speakers=2, clips=1, count=14)
    records = scan_tree(tree)
    broken = ClipRecord(tree / "none.mp4", None, 9, "x", 2)
    write_list(workspace.root / "test.csv", [*records, broken])
    monkeypatch.chdir(workspace.root)
    flags = (
        "--self_reenact", "test.csv", "--name", "tiny", "--output", "out", "--metrics", "ssim", "psnr",
        "--max_seconds", 0.4, "--test_flags=--nThreads 1 --batchSize 8",
    )  # fmt: skip
    assert run(*flags) == 0
    assert run(*flags, "--resume", "--strict", "--show", 0) == 1  # the broken clip; what is finished is used again
    report = load(workspace.root / "out")
    assert [clip["group"] for clip in report["clips"]] == [OWN, OWN, OTHER, OTHER]
    assert all(clip["num_frames"] == 10 for clip in report["clips"])
    assert report["summary"][OWN]["ssim"]["n"] == report["summary"]["ground truth"]["ssim"]["n"] == 2
    assert report["summary"]["ground truth"]["ssim"]["mean"] == 1.0
    assert report["summary"][OTHER] == {}
    assert all("another person or head pose" in clip["inapplicable"]["ssim"] for clip in report["clips"][2:])
    (problem,) = report["problems"]
    assert "none.mp4: left out: " in problem
    test_set = workspace.root / "out" / "testset"
    assert not any(path.is_symlink() for path in test_set.rglob("*"))
    assert len((test_set / "test.csv").read_text().splitlines()) == 4
    reference = next((test_set / "reference").iterdir())
    assert (reference / "000000.jpg").read_bytes() == (test_set / "frames" / reference.name / "000000.jpg").read_bytes()
    write_list(workspace.root / "test.csv", records[1:])  # clips of the earlier list are no part of this evaluation
    assert run(*flags, "--poses", "self", "--strict", "--show", 0) == 0
    assert len(load(workspace.root / "out")["clips"]) == 1


def test_self_reenact_without_usable_clips_or_weights_fails(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace.root)
    write_list("test.csv", [ClipRecord(workspace.root / "none.mp4", None, 9, "x", 0)])
    assert run("--self_reenact", "test.csv", "--name", "tiny", "--output", "out") == 1
    assert "--self_reenact test.csv: no clip can be used: " in capsys.readouterr().err
    assert run("--self_reenact", "nowhere.csv", "--output", "out") == 1
    assert "no such list of clips" in capsys.readouterr().err


def test_self_reenact_that_is_interrupted_says_how_to_go_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = write_tree(workspace.root / "vox", speakers=1, clips=1, count=14)
    monkeypatch.chdir(workspace.root)
    monkeypatch.setattr(rows, "run_rows", lambda _: 130)
    assert run("--self_reenact", tree, "--name", "tiny", "--output", "out") == 130
    assert "interrupted: finished clips are kept, and the same command with --resume goes on" in capsys.readouterr().err
