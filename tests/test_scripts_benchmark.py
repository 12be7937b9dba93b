"""The benchmark: contestants that compute the same, counts of work that are right, and a report that can be read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data.audio import log_mel
from models.av_model import AvModel
from options.config import NetworkConfig, to_plain
from scripts import benchmark
from scripts.benchmarks import stages as benchmarking
from scripts.benchmarks import training as benchmark_training
from scripts.benchmarks.stages import OURS, SAMENESS, TEXTBOOK, Bench, Convolution, Row, convolutions_of
from tests.conftest import TINY, voice, write_tiny_model
from util.errors import MediaError, PcavsError


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Path) -> Iterator[Bench]:
    made = Bench(tiny_model, "latest", TINY, torch.device("cpu"), tmp_path, repeats=2, frames=5, batch=2)
    with contextlib.closing(made):
        yield made


@pytest.fixture
def sizes_file(tmp_path: Path) -> Path:
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps(to_plain(TINY)))
    return path


# ---------------------------------------------------------------------------------------------------- how it measures


def test_contestants_take_turns_after_a_round_that_does_not_count():
    calls: list[str] = []
    contestants: dict[str, Callable[[], object]] = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = benchmarking.take_turns(contestants, rounds=3)
    assert calls == ["a", "b"] + ["a", "b"] * 3
    assert [len(times[name]) for name in "ab"] == [3, 3]


def test_row_tells_median_quartiles_and_rate():
    row = Row("G", OURS, "frame", [0.5, 0.1, 0.2, 0.4, 0.3], macs=6e9)
    plain = row.as_dict()
    assert (plain["median_s"], plain["least_s"], plain["quartiles_s"]) == (0.3, 0.1, (0.2, 0.4))
    assert plain["gmac_per_s"] == pytest.approx(20)
    assert plain["per_second"] == pytest.approx(1 / 0.3)
    json.dumps(plain)


def test_generator_of_the_published_size_makes_34_5_billion_multiply_adds():
    found = convolutions_of(NetworkConfig())
    assert sum(conv.macs for conv in found) == pytest.approx(34.5e9, rel=0.002)
    assert found[2] == Convolution(512, 512, 3, 7, True)
    assert found[-1] == Convolution(128, 3, 1, 224, False)
    assert len(found) == 2 + 3 * 5


def test_bare_convolutions_are_those_of_the_generator(bench: Bench):
    """Their count of work is what torch counts when the networks run; the blur and the modulation come on top."""
    run = benchmarking.bare_convolutions(TINY, 2, torch.channels_last, torch.zeros(1))
    with benchmark_training.FlopCounterMode(display=False) as counter:
        run()
    assert counter.get_total_flops() / 2 == 2 * sum(conv.macs for conv in convolutions_of(TINY))


def test_backward_of_a_grouped_convolution_counts_twice_its_forward():
    layers = nn.Sequential(nn.Conv2d(8, 8, 3, groups=4), nn.ConvTranspose2d(8, 4, 3, stride=2))
    x = torch.rand(2, 8, 10, 10, requires_grad=True)
    forward = 2 * (8 * 2 * 9 * 8 * 8 + 8 * 4 * 9 * 8 * 8)
    assert benchmark_training.count_macs(lambda: layers(x)) == forward
    assert benchmark_training.count_macs(lambda: layers(x).sum().backward()) == 3 * forward
    assert (
        benchmark_training.count_macs(lambda: layers(x.detach()).sum().backward()) == 3 * forward - 2 * 8 * 2 * 9 * 64
    )


def test_peak_memory_of_a_process_is_read_or_unknown():
    own = benchmarking.peak_memory_mib(os.getpid())
    if own is None:
        pytest.skip("the system does not tell")
    assert 20 < own < 100_000
    assert benchmarking.peak_memory_mib(2**30) is None


def test_memory_of_a_step_is_what_it_adds():
    # in a fresh process: here other tests may have left memory that the step would find again
    code = (
        "import torch; from scripts.benchmarks.training import step_memory_mib; "
        "print(step_memory_mib(lambda: torch.ones(64 * 2**20 // 4).add_(1), torch.device('cpu')))"
    )
    root = Path(__file__).resolve().parents[1]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    if said.strip() == "None":
        pytest.skip("the system does not tell")
    assert 48 < float(said) < 160


# -------------------------------------------------------------------------------------------- contestants are the same


def test_spectrogram_frame_by_frame_is_the_same():
    wave = voice(1.0).astype(np.float32)
    np.testing.assert_allclose(benchmarking.slow_log_mel(wave), log_mel(wave), atol=2e-5)


def test_textbook_frames_are_those_of_the_model(bench: Bench):
    batch, model = benchmarking.make_batch(bench, 2), bench.model
    driven, own = bench.textbook.result("frames", batch.references, batch.poses, batch.mel, batch.noise)
    identity, mouth = model.encode_identity(batch.references[:1]), model.encode_speech(batch.mel)
    expected = model.generate(identity, mouth, model.encode_pose(batch.poses), batch.noise)
    np.testing.assert_allclose(driven.numpy(), expected.numpy(), atol=1e-5)
    pose = model.encode_pose(batch.references)
    np.testing.assert_allclose(own.numpy(), model.generate(identity, mouth, pose, batch.noise).numpy(), atol=1e-5)
    assert (driven - own).abs().max() > 5e-5


def test_training_steps_with_the_textbook_generator_make_the_same_losses(bench: Bench):
    bench.sizes = dataclasses.replace(TINY, clip_len=2)
    config = benchmark_training.training_config(bench)
    batch = benchmark_training.random_batch(config, bench.device)
    losses = []
    for with_textbook in (False, True):
        torch.manual_seed(0)
        trainer = benchmark_training.build_trainer(config, bench.device, with_textbook)
        trainer.networks["E"].get_submodule("model.m0.dropout").p = 0  # type: ignore[assignment]  # follows the layout
        losses.append(trainer.training_step([batch]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert {"G/vgg", "D/fake"} < losses[0].keys()


# ------------------------------------------------------------------------------------------------------------- running


def test_run_prints_writes_and_appends(
    tmp_path: Path, sizes_file: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(benchmarking, "_CPU_PRODUCT", 64)
    monkeypatch.setattr(benchmarking, "_AUDIO_SECONDS", 1)
    report = tmp_path / "performance.md"
    report.write_text("# Before\n")
    flags = [
        "--network_file", str(sizes_file), "--stages", "ceilings", "audio", "images", "V", "E", "A_sync", "G",
        "encoding", "test", "--repeats", "2", "--frames", "5", "--batch", "2",
    ]  # fmt: skip
    outputs = ["--json", str(tmp_path / "b.json"), "--append", str(report)]
    assert benchmark.main([*flags, *outputs]) == 0
    printed = capsys.readouterr().out
    assert "G: bare convolutions" in printed
    written = json.loads((tmp_path / "b.json").read_text())
    rows = {(row["stage"], row["contestant"]): row for row in written["rows"]}
    for stage in ("V", "E", "A_sync", "G"):
        assert rows[stage, OURS]["median_s"] > 0
        assert len(rows[stage, TEXTBOOK]["seconds"]) == 2
    assert rows["test.py with videos", "ours, start to exit"]["median_s"] > 0
    assert rows["first frame of a clip", OURS]["median_s"] > 0
    figures = {figure["name"]: figure["value"] for figure in written["figures"]}
    assert figures[SAMENESS] <= 1
    assert figures["test.py: times the frames a second of the textbook, batches of 16 as published"] > 0
    assert figures["test.py, start-up counted: times the frames a second of the textbook, frame by frame"] > 0
    assert written["command"].endswith("--frames 5 --batch 2")
    assert str(tmp_path / "b.json") not in written["command"]
    text = report.read_text()
    assert text.startswith("# Before\n\n### 20")
    assert "| G | textbook |" in text
    assert f"- {SAMENESS}: 0 of 255" in text or f"- {SAMENESS}: 1 of 255" in text


def test_training_stage_measures_steps_and_loading(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(benchmarking, "_CPU_PRODUCT", 64)
    bench.repeats = 1
    benchmark_training.stage_training(bench)
    rows = {row.contestant: row for row in bench.rows if row.stage.startswith("training step")}
    assert rows.keys() == {OURS, TEXTBOOK}
    assert rows[OURS].macs > 1e8
    assert {figure.name for figure in bench.figures} == {
        "training: share of the machine's fp32 rate", "training: loading processes that keep one device busy",
    }  # fmt: skip


def test_gpu_stage_covers_batches_and_precisions(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """On the CPU, which runs the same code."""
    monkeypatch.setattr(benchmarking, "_CPU_PRODUCT", 64)
    monkeypatch.setattr(benchmarking, "_GPU_BATCHES", (1, 3))
    monkeypatch.setattr(benchmarking, "_GPU_PRECISIONS", ("fp32", "bf16"))
    bench.repeats = 1
    benchmarking.stage_gpu(bench)
    figures = {figure.name: figure.value for figure in bench.figures}
    assert figures[f"{SAMENESS}, fp32"] <= 1
    assert figures["PSNR of a frame against the textbook's, bf16"] > 20
    assert {row.stage for row in bench.rows if row.contestant == TEXTBOOK} == {
        f"{what}, {precision}, batch {size}"
        for what in ("G", "whole chain") for precision in ("fp32", "bf16") for size in (1, 3)
    }  # fmt: skip
    slow = next(row for row in bench.rows if row.stage == "G, fp32, batch 3" and row.contestant == TEXTBOOK)
    ours = next(row for row in bench.rows if row.stage == "G, bf16, batch 3" and row.contestant == OURS)
    assert figures["G, bf16, batch 3: times the fp32 textbook"] == pytest.approx(slow.median / ours.median)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_growth_varies_one_thing_at_a_time(bench: Bench):
    benchmarking.stage_growth(bench)
    assert [row.stage for row in bench.rows] == [
        f"growth, {what}" for what, count in (("length", 3), ("batch", 3), ("workers", 3), ("ranks", 2))
        for _ in range(count)
    ]  # fmt: skip
    assert all(row.median > 0 for row in bench.rows)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_length_of_the_sound(bench: Bench):
    benchmarking.stage_long(bench)
    if bench.figures:
        assert bench.figures[-1].value < 1.1


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
        (["--name", "nobody", "--stages", "V"], 1, "missing weights latest_net_G.pth"),
        (["--network_file", "nowhere.json"], 1, "nowhere.json: not a readable JSON object of network sizes"),
    ],
)
def test_wrong_flags_are_named(
    flags: list[str], code: int, message: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main(flags) == code
    assert message in capsys.readouterr().err


def test_test_py_that_fails_is_reported_with_its_output(bench: Bench, tmp_path: Path):
    broken = write_tiny_model(tmp_path / "broken")
    (broken / "latest_net_V.pth").write_bytes(b"nothing")
    with pytest.raises(PcavsError, match=r"(?s)test\.py failed with exit code 1.*latest_net_V\.pth"):
        benchmarking.run_test(bench, broken, bench.inputs.sound)


def test_failure_of_the_textbook_is_told(bench: Bench):
    call = bench.textbook.job("pose", torch.zeros(1, 3, 28, 28))
    call()
    with pytest.raises(PcavsError, match="the textbook form failed: RuntimeError"):
        bench.textbook.job("pose", torch.zeros(1, 5, 28, 28))()
    call()
    bench.textbook._process.kill()
    with pytest.raises(PcavsError, match="the textbook's process died"):
        call()


def test_report_that_is_no_text_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "picture.md"
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(MediaError, match=r"picture\.md: cannot be read as text"):
        benchmark.append(path, "section")
    assert path.read_bytes() == b"\xff\xd8\xff"


def test_stages_follow_from_the_flags():
    def chosen(*flags: str) -> list[str]:
        return benchmark.chosen_stages(benchmark.parse_args(flags))

    assert "G" in chosen()
    assert not {"long", "growth", "train", "gpu"} & set(chosen())
    assert chosen("--device", "cuda") == ["test", "gpu"]
    assert chosen("--stages", "test", "G", "--train") == ["G", "test", "train"]
    assert set(benchmark.STAGES) == {name for name in benchmark.STAGES if callable(benchmark.stage_function(name))}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.34, "12.3 s"), (1.0, "1.00 s"), (0.1234, "123 ms"), (0.00205, "2.05 ms"), (4e-6, "4.00 us")],
)
def test_seconds_are_shown_with_three_digits(seconds: float, text: str):
    assert benchmark.show_seconds(seconds) == text
