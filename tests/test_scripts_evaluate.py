"""Measuring pairs with known differences, by tools that see what was drawn; reports, exit codes, self-reenactment."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from data.audio import log_mel, mel_window
from data.clip_list import ClipRecord, scan_tree, write_list
from data.frames import crop_template
from data.video_pairs import OTHER, OWN, VideoPair
from models.av_model import AvModel
from options.config import DataConfig
from scripts import evaluate, sanity_table
from scripts.evaluation import clip as evaluation
from scripts.evaluation.clip import (
    ClipResult,
    Instruments,
    Setup,
    Tools,
    load_sync_model,
    load_syncnet,
    load_tools,
    measure_all,
    measure_clip,
    plan,
    read_curves,
    run_job,
)
from scripts.evaluation.report import frechet_cells, summarise, worst_numbers, write_reports
from scripts.synthetic.figures import sync_features
from scripts.synthetic.speakers import Speaker
from tests.conftest import TINY, Workspace, voice, write_frames, write_wav
from tests.face_factory import SquareDetector, draw_faces, square_landmarks
from tests.numbered_clips import write_tree
from util.checkpoint import save_state_dict
from util.errors import CheckpointError, MediaError, OptionError
from util.metrics.landmark_distance import landmark_distances
from util.metrics.protocol import PROTOCOLS
from util.metrics.ssim import psnr, ssim
from util.metrics.sync_score import SyncScores, score_clip, sync_scores, to_int16

SIDE = 100  # pixels of the drawn faces


class CornerEmbedder:
    """The colours in the middle of the face: another texture is another person."""

    name = "corners"

    def embed(self, image_bgr: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        x, y = landmarks.mean(axis=0).astype(int)
        return image_bgr[y - 2 : y + 2, x - 2 : x + 2].reshape(-1, 3).mean(axis=0) - 175.0


def write_faces(folder: Path, sides: list[float], look: int = 0, shift: float = 0) -> Path:
    """Frames with one drawn face each, of these sides; 0 draws none."""
    folder.mkdir(parents=True)
    for number, side in enumerate(sides):
        squares = [(20.0 + shift, 20.0, side)] if side else []
        image = draw_faces(*squares, looks=(look,))
        assert cv2.imwrite(str(folder / f"{number:06d}.png"), image)
    return folder


def write_levels(folder: Path, levels: list[int], size: int = 16) -> Path:
    """Flat grey frames."""
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        assert cv2.imwrite(str(folder / f"{number:06d}.png"), np.full((size, size, 3), level, dtype=np.uint8))
    return folder


def setup_for(*metrics: str, protocol: str = "paper", **instruments: Any) -> Setup:
    return Setup(PROTOCOLS[protocol], metrics, Instruments(**instruments))


def faces_only() -> Tools:
    return Tools(detector=SquareDetector(), embedder=CornerEmbedder())


def run(*flags: object) -> int:
    return evaluate.main([str(flag) for flag in flags])


def load(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------------- a clip


def test_frame_metrics_are_means_over_frames_and_truth_is_best(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)
    for folder, images in zip(("made", "real"), pictures, strict=True):
        (tmp_path / folder).mkdir()
        for number, image in enumerate(images):
            cv2.imwrite(str(tmp_path / folder / f"{number:06d}.png"), image)
    pair = VideoPair("x", tmp_path / "made", tmp_path / "real")
    result, curves, _ = measure_clip(pair, setup_for("ssim", "psnr", "cpbd"), Tools())
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
    result, _, _ = measure_clip(VideoPair("x", made, real), setup_for("lmd"), faces_only())
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
    setup = setup_for("identity")
    with_picture, _, _ = measure_clip(VideoPair("x", made, real, reference=picture), setup, faces_only())
    assert with_picture.generated["identity"] == pytest.approx(1)
    assert with_picture.truth["identity"] < 0.9
    without, _, _ = measure_clip(VideoPair("x", made, real), setup, faces_only())
    assert without.truth["identity"] == pytest.approx(1)
    assert without.generated["identity"] == pytest.approx(with_picture.truth["identity"])
    alone, _, _ = measure_clip(VideoPair("x", made), setup, faces_only())
    assert "no reference picture, and no real video" in alone.skipped["identity"]


def test_frames_without_a_face_are_left_out_and_counted(tmp_path: Path) -> None:
    made = write_faces(tmp_path / "made", [SIDE, 0, SIDE, SIDE])
    real = write_faces(tmp_path / "real", [SIDE] * 4)
    tools = faces_only()
    result, curves, _ = measure_clip(VideoPair("x", made, real), setup_for("lmd"), tools)
    assert np.isnan(curves["generated"]["lmd"]).tolist() == [False, True, False, False]
    assert result.generated["lmd"] == 0
    assert result.problems == ["no face in 1 of 4 generated frames, left out of lmd"]


def test_no_face_at_all_skips_with_the_reason(tmp_path: Path) -> None:
    made, real = write_faces(tmp_path / "made", [0, 0]), write_faces(tmp_path / "real", [SIDE, SIDE])
    result, _, _ = measure_clip(VideoPair("x", made, real), setup_for("lmd", "identity", "cpbd"), faces_only())
    assert set(result.generated) == {"cpbd"}
    assert result.truth["identity"] == pytest.approx(1)  # the real video has faces
    assert result.skipped == dict.fromkeys(("lmd", "identity"), "no face in any of the 2 generated frames")


def test_video_of_another_pose_is_compared_in_nothing_frame_by_frame(tmp_path: Path) -> None:
    made, real = write_levels(tmp_path / "made", [9, 9], 64), write_levels(tmp_path / "real", [9, 9], 80)
    pair = VideoPair("x", made, real, apart="another head pose", same_person=False)
    result, _, _ = measure_clip(pair, setup_for("ssim", "psnr", "cpbd"), Tools())
    assert result.inapplicable == {"ssim": "another head pose", "psnr": "another head pose"}
    assert result.skipped == {}
    assert list(result.generated) == list(result.truth) == ["cpbd"]


def test_frames_too_small_for_a_metric_skip_only_that_one(tmp_path: Path) -> None:
    made = write_levels(tmp_path / "made", [9, 9])
    result, _, _ = measure_clip(VideoPair("x", made, made), setup_for("ssim", "cpbd"), Tools())
    assert list(result.generated) == ["ssim"]
    assert "CPBD needs a grey" in result.skipped["cpbd"]


# --------------------------------------------------------------------------------------------------------------- sync


def counting_tools() -> Tools:
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

    return Tools(sync={"sync": score})


def test_sync_offset_of_an_early_picture_is_negative(tmp_path: Path) -> None:
    made = write_levels(tmp_path / "made", [4 * (n + 2) for n in range(30)])
    pair = VideoPair("x", made, audio=write_wav(tmp_path / "a.wav", voice(1.3)))
    result, _, _ = measure_clip(pair, setup_for("sync"), counting_tools())
    assert result.generated["sync_offset"] == -2
    assert result.generated["lse_d"] == pytest.approx(2 / 25)  # two windows of 25 find zeros: distance 1
    assert result.generated["lse_c"] > 1
    assert result.problems == []


def test_sync_without_sound_and_with_short_sound_is_named(tmp_path: Path) -> None:
    made = write_levels(tmp_path / "made", [4 * n for n in range(30)])
    silent, _, _ = measure_clip(VideoPair("x", made), setup_for("sync"), counting_tools())
    assert "no sound found" in silent.skipped["sync"]
    pair = VideoPair("x", made, audio=write_wav(tmp_path / "a.wav", voice(0.8)))
    short, _, _ = measure_clip(pair, setup_for("sync"), counting_tools())
    assert short.generated["sync_offset"] == 0
    assert short.problems == ["the sound of the generated video ends 0.40 s before its pictures"]


def test_syncnet_of_other_weights_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights at .*none\.model: give the published weights: --syncnet"):
        load_syncnet(tmp_path / "none.model")
    path = tmp_path / "other.model"
    save_state_dict({"conv.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"other\.model: cannot be loaded as SyncNet \(not weights of SyncNet"):
        load_syncnet(path)
    save_state_dict({"netcnnaud.0.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"other\.model: cannot be loaded as SyncNet \(Error"):
        load_syncnet(path)


def test_sync_model_scores_its_own_features_of_sound_and_face(tiny_model: Path) -> None:
    frames = [draw_faces((20.0 + number, 20.0, SIDE), looks=(number % 3,)) for number in range(20)]
    wave = voice(0.7).astype(np.float32)  # 17 frames
    scores = load_sync_model(tiny_model)(iter(frames), 20, wave)
    model = AvModel.from_checkpoints(tiny_model, "latest", TINY, torch.device("cpu"))
    pictures = np.stack([frame[..., ::-1].transpose(2, 0, 1) for frame in frames[:17]])
    windows = np.stack([mel_window(log_mel(wave), number) for number in range(17)])
    speaker = Speaker(0, 0, pictures, windows, np.zeros((17, 13)), pictures[0], pictures)
    heard, seen = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sync_features(model, speaker))
    expected = sync_scores(seen, heard)
    np.testing.assert_allclose(scores.distances, expected.distances, atol=1e-4)
    assert scores.distances.shape == (17, 31)
    with pytest.raises(MediaError, match="at least 6 frames with sound, got 5 frames"):
        load_sync_model(tiny_model)(iter(frames), 5, wave)


def test_sync_model_that_is_missing_or_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give the folder of a trained model as --sync_model DIR"):
        load_sync_model(None)
    with pytest.raises(CheckpointError, match=r"missing weights latest_net_A_sync\.pth, latest_net_E\.pth"):
        load_sync_model(tmp_path)


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


def test_missing_weights_are_reasons_not_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "make_detector", lambda *_: SquareDetector())
    setup = setup_for("sync", "frechet", "cpbd", syncnet=tmp_path / "none.model")
    tools = load_tools(setup)
    assert set(tools.missing) == {"sync", "frechet"}
    assert tools.detector is None
    assert tools.missing["frechet"] == "no weights: give torchvision's Inception v3 as --inception FILE"
    tools = load_tools(setup_for("frechet", "identity", inception=tmp_path / "no.pth", arcface=tmp_path / "no.onnx"))
    assert "no.pth: no such file" in tools.missing["frechet"]
    assert "no.onnx: no such file" in tools.missing["identity"]


# ------------------------------------------------------------------------------------------------------------ Fréchet


def test_frechet_distance_is_over_all_clips_and_zero_for_the_truth(tmp_path: Path) -> None:
    def features(frames: np.ndarray) -> np.ndarray:
        return np.stack([frames[:, 0, 0, 0] / 10.0, frames[:, 0, 0, 0] % 7], axis=1).astype(np.float32)

    setup = setup_for("frechet", protocol="modern")
    pairs = []
    for number in range(2):
        made = write_levels(tmp_path / f"made{number}", list(range(50, 90, 3)))
        real = write_levels(tmp_path / f"real{number}", list(range(10 + number, 50, 3)))
        pairs.append(VideoPair(f"x{number}", made, real, truth=str(real)))
    jobs = plan(pairs, setup, tmp_path / "out")
    results = [run_job(job, setup, Tools(features=features)) for job in jobs]
    cells, remarks = frechet_cells(results, tmp_path / "out")
    assert cells["ground truth"].mean == pytest.approx(0, abs=1e-5)
    assert cells["generated"].mean > 10
    assert cells["generated"].count == 2
    assert remarks == []
    assert summarise(results, setup, cells).rows["generated"]["frechet"] == cells["generated"]


def test_frechet_frames_are_spread_over_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_levels(tmp_path / "made", list(range(0, 210, 2)))  # 105 frames
    seen: list[int] = []

    def features(frames: np.ndarray) -> np.ndarray:
        seen.extend(frames[:, 0, 0, 0].tolist())
        return np.zeros((len(frames), 2), np.float32)

    _, _, parts = measure_clip(VideoPair("x", made), setup_for("frechet"), Tools(features=features))
    assert len(seen) == len(parts["generated"]) == 100
    assert (seen[0], seen[-1]) == (0, 208)


# ---------------------------------------------------------------------------------------------------------- all clips


def test_a_real_video_is_measured_once_by_the_pair_that_compares_with_it(tmp_path: Path) -> None:
    made = write_levels(tmp_path / "made", [1])
    pairs = [
        VideoPair("cross", made, made, apart="another pose", truth="M/a"),
        VideoPair("own", made, made, truth="M/a"),
        VideoPair("own", made, made, truth="M/b"),
        VideoPair("alone", made),
    ]
    jobs = plan(pairs, setup_for("ssim"), tmp_path)
    assert [job.with_truth for job in jobs] == [False, True, True, False]
    assert [job.pair.name for job in jobs] == ["cross", "own", "own_2", "alone"]


def test_resume_measures_only_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [VideoPair(name, write_levels(tmp_path / name, [1, 2])) for name in "abc"]
    pairs.append(VideoPair("broken", tmp_path / "none"))
    setup = setup_for("psnr", "cpbd")
    jobs = plan(pairs, setup, tmp_path / "out")
    first = measure_all(jobs, setup, 0, False, Tools())
    assert first[3].error is not None
    measured: list[str] = []
    real_run = evaluation.run_job
    monkeypatch.setattr(
        evaluation, "run_job", lambda job, *rest: measured.append(job.pair.name) or real_run(job, *rest)
    )
    cv2.imwrite(str(tmp_path / "b" / "000002.png"), np.zeros((16, 16, 3), np.uint8))
    jobs[2].path.write_text("{")
    again = measure_all(plan(pairs, setup, tmp_path / "out"), setup, 0, True, Tools())
    assert measured == ["b", "c", "broken"]
    assert [again[0], again[2]] == [first[0], first[2]]
    measured.clear()
    other = setup_for("psnr")
    measure_all(plan(pairs, other, tmp_path / "out"), other, 0, True, Tools())
    assert measured == ["a", "b", "c", "broken"]


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    for name, level in (("a", 40), ("b", 50), ("c", 60)):
        write_levels(tmp_path / "made" / name, [level, level])
        write_levels(tmp_path / "real" / name, [40, 40])
    flags = ("--generated", tmp_path / "made", "--real", tmp_path / "real", "--metrics", "psnr", "--show", 0)
    assert run(*flags, "--output", tmp_path / "one") == 0
    assert run(*flags, "--output", tmp_path / "two", "--workers", 2) == 0
    one, two = ((tmp_path / name / "clips.csv").read_text() for name in ("one", "two"))
    assert one == two
    assert load(tmp_path / "one")["summary"] == load(tmp_path / "two")["summary"]


# ------------------------------------------------------------------------------------------------------- whole command


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
    with pytest.raises(OptionError, match=message):
        evaluate.check_args(evaluate.build_parser().parse_args(flags))
    assert run(*flags) == 2
    assert message in capsys.readouterr().err


def test_page_of_clips_without_curves_and_worst_numbers(tmp_path: Path) -> None:
    assert worst_numbers(np.array([3.0, math.nan, 1.0, 1.5, 2.0, 9.0]), count=3, apart=2) == [2, 4, 0]
    assert worst_numbers(np.array([math.nan])) == []
    made = write_levels(tmp_path / "made", [1])
    setup = setup_for("sync")
    jobs = plan([VideoPair("x", made)], setup, tmp_path / "out")
    result = ClipResult("x", "generated", 1, generated={"lse_c": 5.0})
    assert write_reports(tmp_path / "out", "t", setup, Tools(), jobs, [result]) == []
    assert "Worst clips" not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_many_remarks_share_lines_and_the_terminal_shows_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for n in range(30):
        apart = dict.fromkeys(("ssim", "lmd"), f"other pose (pose {n})")
        results.append(ClipResult(f"x{n}", "generated", 1, {"cpbd": 0.5}, inapplicable=apart, problems=[f"p{n}"]))
    pairs = [VideoPair(result.name, write_levels(tmp_path / result.name, [1])) for result in results]
    setup = setup_for("cpbd")
    problems = write_reports(
        tmp_path / "out", "t", setup, Tools(), plan(pairs, setup, tmp_path / "out"), results, show=0
    )
    assert len(problems) == 30
    printed = capsys.readouterr().out
    assert "x19: p19" in printed
    assert "x20: p20" not in printed
    assert "and 11 more remarks, in " in printed
    written = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "x29: p29" in written
    assert "- ssim, lmd do not apply to 30 of 30 clips (x0 ...): other pose\n" in written


# -------------------------------------------------------------------------------------------------- self-reenactment


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


def test_self_reenact_without_usable_clips_or_weights_fails(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace.root)
    write_list("test.csv", [ClipRecord(workspace.root / "none.mp4", None, 9, "x", 0)])
    assert run("--self_reenact", "test.csv", "--name", "tiny", "--output", "out") == 1
    assert "--self_reenact test.csv: no clip can be used: " in capsys.readouterr().err
    assert run("--self_reenact", "nowhere.csv", "--output", "out") == 1
    assert "no such list of clips" in capsys.readouterr().err


def test_one_speaker_has_no_other_pose() -> None:
    clips = [evaluate.TestRow(name, "s", Path("r"), Path("f"), 3, Path("w")) for name in "ab"]
    rows, problems = evaluate.metadata_rows(clips, ["self", "cross"])
    assert len(rows) == 2
    assert problems[0] == "a: no cross-pose row, because no clip of another speaker is in the list"


def test_other_pose_is_of_the_next_clip_of_another_speaker() -> None:
    clips = [
        evaluate.TestRow(name, name[0], Path(f"r/{name}"), Path(f"f/{name}"), 3, Path("w"))
        for name in ("a1", "a2", "b1")
    ]
    rows, problems = evaluate.metadata_rows(clips, ["cross"])
    assert [Path(str(row[2])).name for row in rows] == ["b1", "b1", "a1"]
    assert problems == []


def test_records_are_spread_over_the_list_and_lrw_takes_its_test_split(tmp_path: Path) -> None:
    records = [ClipRecord(Path(str(n)), None, 9, str(n), n) for n in range(10)]
    assert [r.label for r in evaluate.spread_over(records, 3)] == [0, 3, 6]
    assert evaluate.spread_over(records, None) == records
    for split in ("train", "test"):
        path = tmp_path / "lipread_mp4" / "ABOUT" / split / f"ABOUT_{split}.mp4"
        path.parent.mkdir(parents=True)
        path.touch()
    assert [r.path.name for r in evaluate.read_records(tmp_path)] == ["ABOUT_test.mp4"]
    assert [r.path.name for r in evaluate.read_records(tmp_path / "lipread_mp4")] == ["ABOUT_test.mp4"]


def test_voxceleb_tree_gives_its_test_split_where_it_has_one(tmp_path: Path) -> None:
    write_frames(tmp_path / "dev" / "mp4" / "id0" / "v" / "00001", 3)
    assert [r.speaker for r in evaluate.read_records(tmp_path)] == ["id0"]
    write_frames(tmp_path / "test" / "mp4" / "id9" / "v" / "00001", 3)
    assert [r.speaker for r in evaluate.read_records(tmp_path)] == ["id9"]


def test_weights_that_are_given_add_their_metric() -> None:
    flags = ["--results", "a", "--metrics", "ssim", "--arcface", "a.onnx", "--inception", "i.pth"]
    assert evaluate.to_setup(evaluate.build_parser().parse_args(flags)).metrics == ("ssim", "identity", "frechet")


def test_reference_folder_without_pictures_is_an_error_of_its_clip(tmp_path: Path) -> None:
    made = write_faces(tmp_path / "made", [SIDE] * 2)
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "audio.wav").touch()
    pair = VideoPair("x", made, reference=tmp_path / "reference")
    (job,) = plan([pair], setup_for("identity"), tmp_path / "out")
    result = run_job(job, setup_for("identity"), faces_only())
    assert "reference: the reference holds no picture" in (result.error or str(result.skipped))


def test_clip_is_measured_again_once_a_missing_tool_is_there(tmp_path: Path) -> None:
    pair = VideoPair("x", write_levels(tmp_path / "made", [1, 2]))
    keys = [plan([pair], setup_for("lmd"), tmp_path / "out", missing)[0].key for missing in (("lmd",), ())]
    assert keys[0] != keys[1]


def test_features_of_an_earlier_run_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    def features(frames: np.ndarray) -> np.ndarray:
        return np.stack([frames[:, 0, 0, 0] / 10.0, frames[:, 0, 0, 0] % 7], axis=1).astype(np.float32)

    made, real = write_levels(tmp_path / "made", [1, 2, 9]), write_levels(tmp_path / "real", [1, 5, 9])
    setup = setup_for("frechet", protocol="modern")
    jobs = plan([VideoPair("x", made, real)], setup, tmp_path / "out")
    run_job(jobs[0], setup, Tools(features=features))
    assert jobs[0].path.with_suffix(".npz").is_file()
    without = Tools(missing={"frechet": "no weights"})
    results = [run_job(jobs[0], setup, without)]
    assert not jobs[0].path.with_suffix(".npz").exists()
    write_reports(tmp_path / "out", "t", setup, without, jobs, results)
    assert "frechet" not in load(tmp_path / "out")["summary"].get("generated", {})


def test_name_that_is_no_text_is_told_in_every_report(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for folder in (made / "a", made / "cafe", tmp_path / "real" / "a"):
        write_levels(folder, [10, 20], size=32)
    (made / "cafe").rename(made / os.fsdecode(b"caf\xe9"))
    flags = ("--generated", made, "--real", tmp_path / "real", "--metrics", "psnr", "--output", tmp_path / "out")
    assert run(*flags) == 0
    assert "caf\\udce9: no real video of this name" in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert any("caf\udce9" in problem for problem in load(tmp_path / "out")["problems"])


# ------------------------------------------------------------------------------------------------------- sanity table


def test_sanity_verdict_names_what_moves_the_wrong_way() -> None:
    own = {"ssim": 1.0, "lmd": 0.0, "cpbd": 0.2}
    expected = {"ssim": "down", "lmd": "up", "cpbd": "same", "lse_c": "down"}
    assert sanity_table.verdict({"ssim": 0.9, "lmd": 0.5, "cpbd": 0.201}, own, expected) == ""
    assert sanity_table.verdict({"sync_offset": -3.0}, {"sync_offset": 0.0}, {"sync_offset": "same"}, ahead=3) == ""
    assert (
        sanity_table.verdict({"sync_offset": 0.0}, {"sync_offset": 0.0}, {"sync_offset": "same"}, ahead=3)
        == "AV offset up, not same"
    )
    wrong = sanity_table.verdict({"ssim": 0.99, "lmd": 0.0, "cpbd": 0.3}, own, expected)
    assert wrong == "SSIM same, not down; LMD same, not up; CPBD up, not same"
    table = sanity_table.table({"itself": own, "x": {"ssim": 0.5}}, {"itself": "", "x": wrong})
    assert table.splitlines()[0] == "| copy | SSIM | CPBD | LMD | does not move as it should |"
    assert table.splitlines()[3] == f"| x | 0.500 | – | – | {wrong} |"


def test_frozen_mouth_keeps_the_first_mouth_and_the_rest_of_each_frame() -> None:
    looks = (1, 2, 3)
    frames = [draw_faces((20.0 + 10 * n, 20.0, SIDE), looks=(look,)) for n, look in enumerate(looks)]
    clip = sanity_table.Clip("x", frames, np.zeros(0, np.int16), 3)
    made = list(sanity_table.frozen_mouth(clip, faces_only()))
    for number, (copy, frame) in enumerate(zip(made, frames, strict=True)):
        x, y = square_landmarks((20.0 + 10 * number, 20.0, SIDE))[48:68].mean(axis=0).round().astype(int)
        first = frames[0][y - 3 : y + 3, x - 10 * number - 3 : x - 10 * number + 3].astype(int)
        assert np.abs(copy[y - 3 : y + 3, x - 3 : x + 3] - first).max() <= 3
        np.testing.assert_array_equal(copy[20:40], frame[20:40])  # the forehead
    with pytest.raises(MediaError, match="x: no face in the first frame"):
        next(sanity_table.frozen_mouth(sanity_table.Clip("x", [frames[0] * 0], clip.sound, 1), faces_only()))


def test_sanity_needs_two_clips_that_are_long_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sanity_table.main([str(tmp_path / "a.mp4")]) == 1
    assert "give at least two clips" in capsys.readouterr().err
    with pytest.raises(MediaError, match="has only 6 frames, at least 21 are needed"):
        sanity_table.read_clip(write_levels(tmp_path / "short", [1] * 6), 50)


def test_sanity_clip_is_cropped_as_the_networks_see_it(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip", 21, suffix=".png")
    write_wav(folder / "audio.wav", voice(1))
    whole, cropped = (sanity_table.read_clip(folder, 50, crop) for crop in (False, True))
    assert (whole.count, cropped.count) == (16, 16)
    np.testing.assert_array_equal(cropped.frames[3], crop_template(whole.frames[3])[..., ::-1])
