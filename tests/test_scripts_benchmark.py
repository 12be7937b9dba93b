"""The benchmark: contestants that compute the same, counts of work that are right, and a table that can be read."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.av_model import AvModel
from scripts import benchmark
from scripts.benchmarks import measure, stages, training
from scripts.benchmarks.measure import OURS, TEXTBOOK, Bench, Row
from tests.conftest import TINY, write_tiny_model
from util.errors import PcavsError
from util.json_files import to_builtins

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Path) -> Bench:
    return Bench(tiny_model, "latest", TINY, CPU, tmp_path, repeats=2, frames=5, batch=2)


@pytest.fixture
def sizes_file(tmp_path: Path) -> Path:
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps(to_builtins(TINY)))
    return path


# ---------------------------------------------------------------------------------------------------- how it measures


def test_contestants_take_turns_after_a_round_that_does_not_count(bench: Bench):
    calls: list[str] = []
    rows = bench.race("stage", "frame", {name: (lambda name=name: calls.append(name), 4) for name in "ab"})
    assert calls == ["a", "b"] * 3
    assert [(row.contestant, len(row.seconds)) for row in rows] == [("a", 2), ("b", 2)]
    assert bench.rows == rows


def test_table_compares_with_the_first_row_of_the_stage():
    rows = [Row("G", OURS, "frame", [0.5, 0.1, 0.2, 0.4, 0.3]), Row("G", TEXTBOOK, "frame", [1.2], 7.4)]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in measure.table_lines(rows)]
    assert lines == [
        ["G", "ours", "300 ms", "200 ms - 400 ms", "frame", "3.33 frames/s"],
        ["G", "textbook", "1.2 s", "1.2 s - 1.2 s", "frame", "4.00 x the first; 0.833 frames/s; 7 MiB"],
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.34, "12.3 s"), (1.0, "1 s"), (0.1234, "123 ms"), (0.00205, "2.05 ms"), (4e-6, "4 us")],
)
def test_seconds_are_shown_with_three_digits(seconds: float, text: str):
    assert measure.show_seconds(seconds) == text


def test_peak_memory_of_a_process_is_read_or_unknown():
    own = measure.peak_memory_mib(os.getpid())
    if own is None:
        pytest.skip("the system does not tell")
    assert 20 < own < 100_000
    assert measure.peak_memory_mib(2**30) is None


def test_memory_of_a_step_is_what_it_adds():
    # in a fresh process: here other tests may have left memory that the step would find again
    code = (
        "import torch; from scripts.benchmarks.training import step_memory_mib; "
        "print(step_memory_mib(lambda: torch.ones(64 * 2**20 // 4).add_(1), torch.device('cpu')))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if said.strip() == "None":
        pytest.skip("the system does not tell")
    assert 48 < float(said) < 160


# -------------------------------------------------------------------------------------------- contestants are the same


def test_seeded_weights_are_the_same_again_and_make_a_picture_that_depends_on_everything(bench: Bench):
    bench.directory = measure.seeded_weights(bench.folder / "a", TINY)
    measure.seeded_weights(bench.folder / "b", TINY)
    names = [path.name for path in sorted((bench.folder / "a").iterdir())]
    assert names == [*(f"latest_net_{letter}.pth" for letter in ("A_sync", "E", "G", "V")), "network.json"]
    for name in names[:-1]:
        states = [torch.load(bench.folder / folder / name, weights_only=True) for folder in "ab"]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    references, poses, mel, noise = bench.make_batch(2)

    def image(references: torch.Tensor, mel: torch.Tensor, poses: torch.Tensor, noise: list | None) -> torch.Tensor:
        codes = bench.model.encode_speech(mel[:1]), bench.model.encode_pose(poses[:1])
        return bench.model.generate(bench.model.encode_identity(references), *codes, noise)

    first = [layer[:1] for layer in noise]
    right = image(references[:1], mel, poses, first)
    assert 0.02 < right.std() < 0.8
    for other in (
        image(poses[:1], mel, poses, first), image(references[:1], mel[1:], poses, first),
        image(references[:1], mel, -poses, first), image(references[:1], mel, poses, None),
    ):  # fmt: skip
        assert (other - right).abs().max() > 1e-5


def test_textbook_frames_are_those_of_the_model(bench: Bench):
    batch, model = bench.make_batch(2), bench.model
    driven, own = bench.textbook.frames(batch)
    np.testing.assert_allclose(driven, stages.images_call(model, batch)().numpy(), atol=1e-5)
    references, _, mel, noise = batch
    theirs = stages.images_call(model, (references, references, mel, noise))()
    np.testing.assert_allclose(own, theirs.numpy(), atol=1e-5)
    assert np.abs(driven - own).max() > 5e-5


def test_training_steps_with_the_textbook_generator_make_the_same_losses(bench: Bench):
    bench.sizes = dataclasses.replace(TINY, clip_len=2)
    config, _, batch = training.training_inputs(bench)
    losses = []
    for with_textbook in (False, True):
        torch.manual_seed(0)
        trainer = training.build_trainer(config, CPU, with_textbook)
        trainer.networks["E"].get_submodule("model.m0.dropout").p = 0  # type: ignore[assignment]  # follows the layout
        losses.append(trainer.training_step([batch]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert {"G/vgg", "D/fake"} < losses[0].keys()


# ------------------------------------------------------------------------------------------------------------- running


def test_run_prints_and_writes(tmp_path: Path, sizes_file: Path, capsys: pytest.CaptureFixture):
    flags = [
        "--network_file", str(sizes_file), "--stages", "V", "E", "A_sync", "G", "test",
        "--repeats", "2", "--frames", "5", "--batch", "2", "--json", str(tmp_path / "b.json"),
    ]  # fmt: skip
    assert benchmark.main(flags) == 0
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "b.json").read_text())
    rows = {(row["stage"], row["contestant"]): row for row in written["rows"]}
    for stage in ("V", "E", "A_sync", "G"):
        assert len(rows[stage, TEXTBOOK]["seconds"]) == 2
        assert f"| {stage:26} | ours " in printed
    whole, slow = (
        rows["test.py with videos", name]["median_s"] for name in ("ours, start to exit", "textbook, frame by frame")
    )
    figures = written["figures"]
    rate = "test.py, start-up counted: times the frames a second of the textbook, frame by frame"
    assert figures[rate] == pytest.approx(slow / whole)
    assert 5 * whole > rows["first frame of a clip", OURS]["median_s"] > 0
    assert figures[f"{stages.SAMENESS}, fp32"] <= 1
    assert f"- {stages.SAMENESS}, fp32: " in printed


def test_training_stage_measures_steps_and_loading(bench: Bench):
    bench.repeats = 1
    training.stage_training(bench)
    step, slow, loading = bench.rows
    assert (step.contestant, slow.contestant, loading.unit) == (OURS, TEXTBOOK, "clip")
    assert bench.figures == {
        "training: loading processes that keep one device busy": pytest.approx(2 * loading.median / step.median)
    }


def test_gpu_stage_covers_batches_and_precisions(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """On the CPU, which runs the same code."""
    monkeypatch.setattr(stages, "GPU_BATCHES", (1, 3))
    monkeypatch.setattr(stages, "GPU_PRECISIONS", ("fp32", "bf16"))
    bench.repeats = 1
    stages.stage_gpu(bench)
    assert bench.figures[f"{stages.SAMENESS}, fp32"] <= 1
    assert bench.figures[f"{stages.PSNR}, bf16"] > 20
    rows = {(row.stage, row.contestant): row.median for row in bench.rows}
    assert [stage for stage, contestant in rows if contestant == TEXTBOOK] == [
        f"{what}, {precision}, batch {size}"
        for precision in ("fp32", "bf16") for size in (1, 3) for what in ("G", "whole chain")
    ]  # fmt: skip
    ratio = rows["G, fp32, batch 3", TEXTBOOK] / rows["G, bf16, batch 3", OURS]
    assert bench.figures["G, bf16, batch 3: times the fp32 textbook"] == pytest.approx(ratio)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_length_of_the_sound(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stages, "LONG_S", (10, 600))
    stages.stage_long(bench)
    if bench.rows[0].peak_mib is None:
        pytest.skip("the system does not tell")
    assert bench.figures["memory of 600 s of sound in that of 10 s"] < 1.1


def test_frames_that_differ_are_an_error(
    sizes_file: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    right = AvModel.generate
    monkeypatch.setattr(AvModel, "generate", lambda *arguments: right(*arguments) + 0.05)
    assert benchmark.main(["--network_file", str(sizes_file), "--stages", "G", "--repeats", "1"]) == 1
    assert "ours and the textbook form compute different frames" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--name", "a", "--network_file", "b.json"], 2, "--network_file is for seeded weights"),
        (["--device", "cuda"], 2, "--device cuda: no CUDA device here"),
        (["--frames", "4"], 2, "--frames must be at least 5 (0.2 s of sound), got 4"),
        (["--stages", "gpu"], 2, "--stages gpu needs --device cuda"),
        (["--repeats", "0"], 2, "argument --repeats: must be at least 1, got 0"),
        (["--name", "nobody", "--stages", "V"], 1, "missing weights latest_net_G.pth"),
        (["--network_file", "nowhere.json"], 1, "nowhere.json: No such file or directory"),
    ],
)
def test_wrong_flags_are_named(
    flags: list[str], code: int, message: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main(flags) == code
    assert message in capsys.readouterr().err


def test_test_py_that_fails_is_reported_with_its_output(bench: Bench):
    bench.directory = write_tiny_model(bench.folder / "broken")
    (bench.directory / "latest_net_V.pth").write_bytes(b"nothing")
    with pytest.raises(PcavsError, match=r"(?s)test\.py failed with exit code 1.*latest_net_V\.pth"):
        stages.run_test(bench, 0.2)


def test_stages_follow_from_the_flags():
    def chosen(*flags: str) -> list[str]:
        return benchmark.chosen_stages(benchmark.main.parse(flags))

    assert "G" in chosen()
    assert not {"long", "train", "gpu"} & set(chosen())
    assert chosen("--device", "cuda") == ["test", "gpu"]
    assert chosen("--stages", "test", "G", "--train") == ["G", "test", "train"]
    assert set(benchmark.STAGES) == set(stages.STAGES)
