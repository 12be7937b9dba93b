"""The stages of scripts/benchmark.py: contestants race, and what follows from their times is noted."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor

from data.frames import crop_template, write_image
from data.metadata import write_rows
from data.results import RowReport, read_report
from data.voxtest_dataset import TestItem
from models.av_model import AvModel
from options.config import DRIVEN, FPS, SAMPLE_RATE_HZ, DataConfig, NetworkConfig
from scripts.benchmarks.measure import OURS, POSE_FRAMES, TEXTBOOK, Bench, Row, peak_memory_mib, seeded_weights
from scripts.benchmarks.textbook import Batch
from scripts.benchmarks.training import stage_training
from util.errors import PcavsError
from util.files import make_directory
from util.images import to_uint8

ROOT = Path(__file__).resolve().parents[2]
LONG_S = (10, 600, 3600)
GPU_BATCHES = (1, 8, 32)
GPU_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
SAMENESS = "largest difference of a frame from the textbook's, of 255"
PSNR = "PSNR of a frame against the textbook's, dB"
_PUBLISHED_BATCH = 16


def stage_encoder(bench: Bench, letter: str) -> None:
    """V, E or A_sync; the textbook form in the batches that suit it best."""
    model = bench.model
    count, slow_count = {"V": (1, 1), "E": (bench.batch, 1), "A_sync": (16, 16)}[letter]
    references, poses, mel, _ = bench.make_batch(count)
    ours: dict[str, Callable[[], object]] = {
        "V": lambda: model.encode_identity(references),
        "E": lambda: model.encode_pose(poses),
        "A_sync": lambda: model.encode_speech(mel),
    }
    bench.race(letter, "frame", {
        OURS: (ours[letter], count),
        TEXTBOOK: (bench.textbook.call(letter, bench.make_batch(slow_count)), slow_count),
    })  # fmt: skip


def stage_generator(bench: Bench) -> None:
    """G beside its textbook form, and whether it gives the textbook's frame."""
    ours, slow = bench.race("G", "frame", {
        OURS: (images_call(bench.model, bench.make_batch(bench.batch)), bench.batch),
        TEXTBOOK: (bench.textbook.call("G", bench.make_batch(1)), 1),
    })  # fmt: skip
    bench.figures["G: times the frames a second of the textbook"] = slow.median / ours.median
    note_sameness(bench, bench.model, bench.precision)


def note_sameness(bench: Bench, model: AvModel, precision: str) -> None:
    """Compares a frame, all networks included, with the textbook's; in single precision it must be equal within 1."""
    batch = bench.make_batch(1)
    theirs = bench.textbook.frames(batch)[0]
    frame = images_call(model, batch)().cpu().numpy()
    apart = float(np.abs(to_uint8(frame).astype(int) - to_uint8(theirs)).max())
    error = float(np.square(frame - theirs, dtype=np.float64).mean())
    bench.figures[f"{SAMENESS}, {precision}"] = apart
    bench.figures[f"{PSNR}, {precision}"] = 10 * math.log10(4 / max(error, 1e-20))
    if precision == "fp32" and apart > 1:
        bench.differing.append(f"ours and the textbook form compute different frames: {apart:g} of 255 apart")


def images_call(model: AvModel, batch: Batch) -> Callable[[], Tensor]:
    """A function that makes the frames of a batch from codes that are there."""
    references, poses, mel, noise = batch
    identity = model.encode_identity(references[:1])
    mouth, pose = model.encode_speech(mel), model.encode_pose(poses)
    return lambda: model.generate(identity, mouth, pose, noise)


class RunTimes(NamedTuple):
    """One run of test.py."""

    wall_s: float  # from start to exit
    first_frame_s: float  # from the start
    row: RowReport  # its own account, without start-up and loading of the model
    peak_mib: float | None  # of the process alone, without ffmpeg; None where the system does not tell


def run_test(bench: Bench, seconds: float, directory: Path | None = None) -> RunTimes:
    """Runs test.py on the synthetic row with so many seconds of sound, and with other weights if a folder is given."""
    results, weights = Path(tempfile.mkdtemp(dir=bench.folder)), directory or bench.directory
    table, log, output = results / "row.csv", results / "log.txt", results / "out"
    pictures, sound = make_directory(results / "pictures"), results / "sound.wav"
    for number, frame in enumerate(bench.clip.frames):
        write_image(pictures / f"{number:06d}.jpg", frame)
    wave = np.resize(bench.clip.wave, round(seconds * SAMPLE_RATE_HZ))
    wavfile.write(sound, SAMPLE_RATE_HZ, (wave.clip(-1, 1) * 32767).astype(np.int16))
    write_rows(table, [(pictures, 1, pictures, POSE_FRAMES, sound, "None", 0, "None")])
    command: list[object] = [
        sys.executable, "test.py", "--checkpoints_dir", weights.parent, "--name", weights.name, "--which_epoch",
        "latest" if directory else bench.epoch, "--meta_path_vox", table, "--results_dir", output, "--gpu_ids",
        "-1" if bench.device.type == "cpu" else "0", "--precision", bench.precision, "--input_id_feature",
        "--driving_pose", "--gen_video",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    peak = first = None
    started = time.perf_counter()
    words = [str(word) for word in command]
    with log.open("w") as file, subprocess.Popen(words, stdout=file, stderr=file, cwd=ROOT, env=environment) as process:
        try:
            while process.poll() is None:
                peak = peak_memory_mib(process.pid) or peak
                if first is None and next(output.glob(f"id_*/{DRIVEN}/{DRIVEN}*"), None):
                    first = time.perf_counter() - started
                time.sleep(0.02)
        finally:
            process.kill()  # when it still runs, this one was interrupted
    wall, report = time.perf_counter() - started, read_report(output)
    if process.returncode or report is None:
        raise PcavsError(f"test.py failed with exit code {process.returncode}: {log.read_text()[-4000:]}")
    return RunTimes(wall, first or wall, report.rows[0], peak)


def stage_end_to_end(bench: Bench) -> None:
    """test.py from start to exit, in turn with textbook frames, which are spared start-up, files, sound and videos."""
    calls = {size: bench.textbook.call("frames", bench.make_batch(size)) for size in (1, _PUBLISHED_BATCH)}
    times: dict[int, list[float]] = {size: [] for size in calls}
    runs = []
    for _ in range(max(1, bench.repeats // 2)):  # each takes long
        runs.append(run_test(bench, bench.frames / FPS))
        for size, call in calls.items():
            for _ in range(2):
                started = time.perf_counter()
                call()
                times[size].append((time.perf_counter() - started) / size)
    stage, count = "test.py with videos", runs[0].row.frames
    peak = max((run.peak_mib for run in runs if run.peak_mib), default=None)
    whole, row, *slow = rows = [
        Row(stage, "ours, start to exit", "frame", [run.wall_s / count for run in runs], peak_mib=peak),
        Row(stage, "ours, without start-up", "frame", [run.row.seconds / count for run in runs]),
        Row(stage, "textbook, frame by frame", "frame", times[1]),
        Row(stage, "textbook, published batches of 16", "frame", times[_PUBLISHED_BATCH]),
    ]
    bench.rows += [*rows, Row("first frame of a clip", OURS, "start", [run.first_frame_s for run in runs])]
    for other in slow:
        rate = f"times the frames a second of the {other.contestant}"
        bench.figures[f"test.py: {rate}"] = other.median / row.median
        bench.figures[f"test.py, start-up counted: {rate}"] = other.median / whole.median


def stage_long(bench: Bench) -> None:
    """Memory and speed of ten seconds, ten minutes and an hour of sound with a tiny model."""
    sizes = NetworkConfig.from_file(ROOT / "experiments" / "networks" / "tiny.json")
    directory = seeded_weights(bench.folder / "tiny_model", sizes)
    runs = [run_test(bench, seconds, directory) for seconds in LONG_S]
    for seconds, (_, _, row, peak) in zip(LONG_S, runs, strict=True):
        bench.rows.append(
            Row("tiny model", f"{seconds} s of sound", "frame", [row.seconds / row.frames], peak_mib=peak)
        )
        if peak and runs[0].peak_mib:
            bench.figures[f"memory of {seconds} s of sound in that of {LONG_S[0]} s"] = peak / runs[0].peak_mib


def stage_gpu(bench: Bench) -> None:
    """G and the whole chain on the GPU by batch and precision, each beside its textbook form. (Not verified so far.)"""
    plain: dict[tuple[str, int], float] = {}  # seconds of the textbook in fp32, the first precision
    for precision in GPU_PRECISIONS:
        model = bench.load_model(precision)
        for size in GPU_BATCHES:
            batch = bench.make_batch(size)
            for what, ours, slow in (
                ("G", (images_call(model, batch), size), "G"),
                ("whole chain", chain_call(bench, model, batch), "frames"),
            ):
                stage = f"{what}, {precision}, batch {size}"
                theirs = (bench.textbook.call(slow, batch, precision), size)
                row, other = bench.race(stage, "frame", {OURS: ours, TEXTBOOK: theirs})
                fp32 = plain.setdefault((what, size), other.median)
                bench.figures[f"{stage}: times the fp32 textbook"] = fp32 / row.median
        note_sameness(bench, model, precision)


def chain_call(bench: Bench, model: AvModel, batch: Batch) -> tuple[Callable[[], object], int]:
    """A function that makes frames as test.py does until they are in RAM, and how many it makes."""
    references, _, mel, _ = batch
    identity = model.encode_identity(references[:1])
    mel_windows = mel.cpu().numpy()
    config, size = DataConfig(crop_size=bench.sizes.crop_size), len(mel)
    pictures = [crop_template(frame, config) for frame in bench.clip.frames]
    count = 8 if size == 1 else 2 * size
    cues = [TestItem(i, mel_windows[i % size], i, pictures[i % POSE_FRAMES]) for i in range(count)]
    return lambda: list(model.stream(identity, cues, ahead=0 if size == 1 else size)), count


STAGES: Mapping[str, Callable[[Bench], None]] = {
    "V": functools.partial(stage_encoder, letter="V"),
    "E": functools.partial(stage_encoder, letter="E"),
    "A_sync": functools.partial(stage_encoder, letter="A_sync"),
    "G": stage_generator,
    "test": stage_end_to_end,
    "long": stage_long,
    "train": stage_training,
    "gpu": stage_gpu,
}
