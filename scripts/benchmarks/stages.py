"""What scripts/benchmark.py measures: contestants that take turns; times in seconds, work in multiply-adds (MAC)."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.audio import analysis_window, load_audio, log_mel, mel_basis, mel_window, normalise_rms, num_mel_bins
from data.frames import crop_template, encode_image, ping_pong, read_image, write_image
from data.metadata import write_rows
from data.result_videos import concat
from data.synthetic.clips import make_clip
from models.av_model import AvModel
from models.networks.generator import default_channels, resolutions
from models.registry import build_network
from options.config import DRIVEN, FPS, INFERENCE_LETTERS, INPUT, POSE, AudioConfig, DataConfig, NetworkConfig, to_plain
from scripts.benchmarks.textbook import TextbookProcess
from scripts.make_demo_inputs import as_wav
from util.checkpoint import network_path, save_state_dict
from util.errors import PcavsError
from util.files import make_directory, write_bytes, write_json
from util.images import to_uint8, to_unit_range

ROOT = Path(__file__).resolve().parents[2]
OURS, TEXTBOOK, BARE = "ours", "textbook", "bare convolutions"
_AUDIO_SECONDS = 60
_POSE_FRAMES = 50
_PUBLISHED_BATCH = 16
_GPU_BATCHES = (1, 8, 32)
_GPU_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
_GPU_PRODUCT, _CPU_PRODUCT = 8192, 2048
_POLL_S = 0.02


@dataclass(frozen=True)
class Row:
    """The times of one contestant in one stage, a number a round.

    seconds: of one unit.  macs: multiply-adds of one unit, where they are known.  peak_mib: memory.
    """

    stage: str
    contestant: str
    unit: str
    seconds: Sequence[float]
    macs: float | None = None
    peak_mib: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(low), float(high)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **dataclasses.asdict(self),
            "median_s": self.median,
            "least_s": min(self.seconds),
            "quartiles_s": self.quartiles,
            "per_second": 1 / self.median,
            "gmac_per_s": self.macs / self.median / 1e9 if self.macs else None,
        }


@dataclass(frozen=True)
class Figure:
    """One number that is no time, or that is made of several rows."""

    name: str
    value: float
    unit: str


@dataclass
class Bench:
    """A run: what is measured, with what, and what has come out so far.

    directory, epoch, sizes: the weights.  folder: scratch.  frames: length of the clip that test.py makes.
    batch: frames a call of a stage gets on the CPU.
    """

    directory: Path
    epoch: str
    sizes: NetworkConfig
    device: torch.device
    folder: Path
    repeats: int = 5
    frames: int = 50
    batch: int = 4
    precision: str = "fp32"
    train_batch: int = 2
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    _inputs: Inputs | None = None
    _model: AvModel | None = None
    _textbook: TextbookProcess | None = None

    @property
    def inputs(self) -> Inputs:
        if self._inputs is None:
            self._inputs = make_inputs(self.folder / "inputs", self.frames)
        return self._inputs

    @property
    def model(self) -> AvModel:
        if self._model is None:
            self._model = self.load_model(self.precision)
        return self._model

    @property
    def textbook(self) -> TextbookProcess:
        if self._textbook is None:
            threads = torch.get_num_threads()
            self._textbook = TextbookProcess(self.directory, self.epoch, self.sizes, self.device, threads)
        return self._textbook

    def close(self) -> None:
        """Ends the textbook's process."""
        if self._textbook is not None:
            self._textbook.close()
            self._textbook = None

    def load_model(self, precision: str) -> AvModel:
        """AvModel in a precision."""
        return AvModel.from_checkpoints(self.directory, self.epoch, self.sizes, self.device, precision)

    def race(
        self,
        stage: str,
        unit: str,
        contestants: Mapping[str, tuple[Callable[[], object], float]],
        macs: float | None = None,
    ) -> list[Row]:
        """Lets contestants take turns and keeps their rows.

        Args:
            contestants: name -> (function, how many units a call makes).
            macs: multiply-adds of a unit.
        """
        calls = {name: call for name, (call, _) in contestants.items()}
        warm_up = 3 if self.device.type == "cuda" else 1  # a graph is captured after some calls
        times = take_turns(calls, self.repeats, self.synchronise, warm_up)
        made = [
            Row(stage, name, unit, [t / units for t in times[name]], macs) for name, (_, units) in contestants.items()
        ]
        self.rows += made
        return made

    def note(self, name: str, value: float, unit: str = "") -> None:
        """Keeps a figure."""
        self.figures.append(Figure(name, value, unit))

    def synchronise(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def take_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    synchronise: Callable[[], None] = lambda: None,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Seconds of every call, a number a round; every contestant runs `warm_up` times before, uncounted.

    They alternate, so that what disturbs the machine for a while disturbs all of them.
    """
    for call in contestants.values():
        for _ in range(warm_up):
            call()
    synchronise()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            synchronise()
            times[name].append(time.perf_counter() - started)
    return times


# ------------------------------------------------------------------------------------------------ weights and inputs


def write_seeded_weights(directory: Path, sizes: NetworkConfig) -> Path:
    """Saves G, V, E and A_sync with the seeded weights of the parity tests, and their network.json."""
    from tests.seeded_weights import fill

    make_directory(directory)
    for letter in INFERENCE_LETTERS:
        save_state_dict(fill(build_network(letter, sizes), 1).state_dict(), network_path(directory, "latest", letter))
    write_json(directory / "network.json", to_plain(sizes))
    return directory


@dataclass(frozen=True)
class Inputs:
    """Files of one row: a reference, pose frames (224 px JPEG) and sounds."""

    reference: Path
    pose: Path
    sound: Path  # as long as the clip
    long_sound: Path  # 60 s
    frames: Sequence[np.ndarray]  # of the pose source, (224, 224, 3) uint8 BGR


def make_inputs(folder: Path, frames: int) -> Inputs:
    """Draws a synthetic person, a head that moves and a voice."""
    clip = make_clip(60021, 0, _POSE_FRAMES)
    reference, pose = make_directory(folder / "reference"), make_directory(folder / "pose")
    write_image(reference / "000000.jpg", make_clip(60003, 0, 1).frames[0])
    for number, frame in enumerate(clip.frames):
        write_image(pose / f"{number:06d}.jpg", frame)
    sounds = {}
    for name, seconds in (("clip", frames / FPS), ("minute", _AUDIO_SECONDS)):
        sounds[name] = write_sound(folder / f"{name}.wav", clip.wave, seconds)
    return Inputs(reference, pose, sounds["clip"], sounds["minute"], list(clip.frames))


def write_sound(path: Path, wave: np.ndarray, seconds: float) -> Path:
    """Writes a wave, repeated to a length, as WAV."""
    write_bytes(path, as_wav(np.resize(wave, round(seconds * AudioConfig().sample_rate_hz))))
    return path


@dataclass(frozen=True)
class Batch:
    """Network inputs of some frames, on a device."""

    references: Tensor  # (B, 3, H, W)
    poses: Tensor  # (B, 3, H, W)
    mel: Tensor  # (B, 1, 80, 20)
    noise: Sequence[Tensor]  # (B, 1, s, s) a layer


def make_batch(bench: Bench, size: int) -> Batch:
    """Frames 0 ... size - 1 of the synthetic clip."""
    inputs, config = bench.inputs, _data_config(bench.sizes)
    reference = _picture(inputs.reference / "000000.jpg", config)
    poses = [_picture(inputs.pose / f"{ping_pong(i, _POSE_FRAMES):06d}.jpg", config) for i in range(size)]
    mel = log_mel(load_audio(inputs.long_sound))
    noise = bench.model.noise_for("random", 0, range(size))
    assert noise is not None
    move = bench.device
    return Batch(
        torch.from_numpy(reference).expand(size, -1, -1, -1).contiguous().to(move),
        torch.from_numpy(np.stack(poses)).to(move),
        torch.from_numpy(np.stack([mel_window(mel, i) for i in range(size)])).to(move),
        [layer.to(move) for layer in noise],
    )


def _data_config(sizes: NetworkConfig) -> DataConfig:
    return DataConfig(crop_size=sizes.crop_size)


def _picture(path: Path, config: DataConfig) -> np.ndarray:
    """(3, S, S) float32 in [-1, 1]."""
    return to_unit_range(crop_template(read_image(path), config))


# ----------------------------------------------------------------------------------------------------------- ceilings


@dataclass(frozen=True)
class Convolution:
    """One convolution of G: kernel x kernel, from (in, size, size); transposed ones have stride 2."""

    in_channels: int
    out_channels: int
    kernel: int
    size: int
    transposed: bool

    @property
    def macs(self) -> float:
        return float(self.in_channels * self.out_channels * self.kernel**2 * self.size**2)


_CEILING = Convolution(256, 256, 3, 56, False)


def convolutions_of(sizes: NetworkConfig) -> list[Convolution]:
    """G's convolutions in order, to-RGB included: 34.5 GMAC at the published sizes."""
    pixels = resolutions(sizes.image_size)
    channels = sizes.generator_channels or default_channels(sizes.image_size)
    found = [
        Convolution(sizes.generator_input_channels, channels[0], 3, pixels[0], False),
        Convolution(channels[0], 3, 1, pixels[0], False),
    ]
    for level in range(1, len(pixels)):
        below, here = channels[level - 1], channels[level]
        found += [
            Convolution(below, here, 3, pixels[level - 1], True),
            Convolution(here, here, 3, pixels[level], False),
            Convolution(here, 3, 1, pixels[level], False),
        ]
    return found


def bare_convolutions(
    sizes: NetworkConfig, batch: int, layout: torch.memory_format, like: Tensor
) -> Callable[[], None]:
    """A function that runs G's convolutions and nothing else, one after the other, in the type and place of `like`."""
    prepared = []
    for conv in convolutions_of(sizes):
        first, second = conv.out_channels, conv.in_channels
        shape = (second, first) if conv.transposed else (first, second)
        weight = torch.randn(*shape, conv.kernel, conv.kernel).to(like).contiguous(memory_format=layout)
        x = torch.randn(batch, conv.in_channels, conv.size, conv.size).to(like).contiguous(memory_format=layout)
        prepared.append((conv, x, weight))

    def run() -> None:
        with torch.no_grad():  # torch 2.4 counts no work under inference_mode
            for conv, x, weight in prepared:
                if conv.transposed:
                    F.conv_transpose2d(x, weight, stride=2)
                else:
                    F.conv2d(x, weight, padding=conv.kernel // 2)

    return run


def on_every_core(call: Callable[[], object]) -> Callable[[], None]:
    """A function that runs `call` once on every core at the same time, on one thread each."""
    cores = torch.get_num_threads()
    pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))

    def run() -> None:
        for running in [pool.submit(call) for _ in range(cores)]:
            running.result()

    return run


def product(size: int, dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    """A function that multiplies two square matrices."""
    one = torch.randn(size, size, device=device, dtype=dtype)

    def run() -> None:
        with torch.inference_mode():
            one @ one

    return run


# ------------------------------------------------------------------------------------------------------------- stages


def stage_ceilings(bench: Bench) -> None:
    """What the machine can do: square matrix products, and one large convolution."""
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        race_ceilings(bench, name, dtype)


def race_ceilings(bench: Bench, name: str, dtype: torch.dtype) -> float:
    """Multiply-adds a second of the faster of two: a square matrix product, a 3x3 convolution.

    They come from different libraries, and on processors of AMD the convolution is twice as fast.
    """
    size = _GPU_PRODUCT if bench.device.type == "cuda" else _CPU_PRODUCT
    rates = []
    for stage, unit, call, macs in (
        ("matrix product", f"{size} x {size}", product(size, dtype, bench.device), float(size**3)),
        ("3x3 convolution", f"{_CEILING.size} px, {_CEILING.in_channels}", *ceiling_convolution(dtype, bench.device)),
    ):
        (row,) = bench.race(stage, unit, {name: (call, 1)}, macs)
        rates.append(macs / min(row.seconds))
    return max(rates)


def ceiling_convolution(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], None], float]:
    """A function that runs one convolution in channels-last layout, and its multiply-adds."""
    batch = 32 if device.type == "cuda" else 1
    channels, size = _CEILING.in_channels, _CEILING.size
    x = torch.randn(batch, channels, size, size, device=device, dtype=dtype)
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    x, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight))

    def run() -> None:
        with torch.inference_mode():
            F.conv2d(x, weight, padding=1)

    return run, batch * _CEILING.macs


def stage_audio(bench: Bench) -> None:
    """A minute of sound until its spectrogram is there, beside a short-time transform frame by frame."""
    path = bench.inputs.long_sound
    wave = load_audio(path)
    bench.race(
        "audio",
        f"{_AUDIO_SECONDS} s",
        {
            "ours, file to spectrogram": (lambda: log_mel(load_audio(path)), 1),
            "ours, wave to spectrogram": (lambda: log_mel(wave), 1),
            "frame by frame, wave to spectrogram": (lambda: slow_log_mel(wave), 1),
        },
    )
    bench.note(
        "audio: largest difference of the two spectrograms", float(np.abs(log_mel(wave) - slow_log_mel(wave)).max())
    )


def slow_log_mel(wave: np.ndarray) -> np.ndarray:
    """`log_mel` as a Python loop over STFT frames, in double precision: (bins, bands) float32."""
    config = AudioConfig()
    hop, length = config.hop_length, config.frame_length
    bins = num_mel_bins(len(wave))
    padded = np.zeros((bins - 1) * hop + length)
    padded[length - hop : length - hop + len(wave)] = normalise_rms(wave)
    window, basis = analysis_window(), mel_basis()
    floor = 10 ** (config.min_level_db / 20)
    rows = []
    for number in range(bins):
        magnitude = np.abs(np.fft.rfft(padded[number * hop : number * hop + length] * window))
        level_db = 20 * np.log10(np.maximum(floor, basis @ magnitude)) - config.reference_level_db
        rows.append(np.clip((level_db - config.min_level_db) / -config.min_level_db, 0, 1))
    return np.stack(rows).astype(np.float32)


def stage_images(bench: Bench) -> None:
    """A 224 px JPEG from disk to a tensor."""
    paths = sorted(bench.inputs.pose.iterdir())
    config = _data_config(bench.sizes)
    bench.race("image loading", "frame", {OURS: (lambda: [_picture(path, config) for path in paths], len(paths))})


def stage_identity(bench: Bench) -> None:
    """V, once a clip here, once a frame in the published code."""
    reference, slow = make_batch(bench, 1).references, bench.textbook
    bench.race("V", "image", {
        OURS: (lambda: bench.model.encode_identity(reference), 1),
        TEXTBOOK: (slow.job("identity", reference), 1),
    })  # fmt: skip


def stage_pose(bench: Bench) -> None:
    """E with the head-pose heads."""
    poses, slow = make_batch(bench, bench.batch).poses, bench.textbook
    bench.race("E", "frame", {
        OURS: (lambda: bench.model.encode_pose(poses), len(poses)),
        TEXTBOOK: (slow.job("pose", poses[:1]), 1),
    })  # fmt: skip


def stage_speech(bench: Bench) -> None:
    """A_sync with the mouth embedding."""
    mel, slow = make_batch(bench, 16).mel, bench.textbook
    bench.race("A_sync", "frame", {
        OURS: (lambda: bench.model.encode_speech(mel), len(mel)),
        TEXTBOOK: (slow.job("mouth", mel), len(mel)),
    })  # fmt: skip


def stage_generator(bench: Bench) -> None:
    """G beside its textbook form and its convolutions alone, and whether all give the same frame."""
    batch, slow, model = make_batch(bench, bench.batch), bench.textbook, bench.model
    one = [layer[:1] for layer in batch.noise]
    with torch.inference_mode():
        identity = model.encode_identity(batch.references[:1])
        mouth, pose = model.encode_speech(batch.mel), model.encode_pose(batch.poses)
        style = torch.cat([identity.vector, mouth[:1], pose[:1]], dim=1)
    assert identity.map is not None
    start, count, cores = identity.map, len(mouth), torch.get_num_threads()
    like = torch.zeros(1, device=bench.device)
    last = torch.channels_last
    rows = bench.race("G", "frame", {
        OURS: (lambda: model.generate(identity, mouth, pose, batch.noise), count),
        TEXTBOOK: (slow.job("image", start, style, one), 1),
        BARE: (bare_convolutions(bench.sizes, 1, last, like), 1),
        f"{BARE}, a frame a core": (on_every_core(bare_convolutions(bench.sizes, 1, last, like)), cores),
        f"{BARE}, NCHW": (bare_convolutions(bench.sizes, 1, torch.contiguous_format, like), 1),
    }, sum(conv.macs for conv in convolutions_of(bench.sizes)))  # fmt: skip
    medians = {row.contestant: row.median for row in rows}
    bare = min(value for name, value in medians.items() if name.startswith(BARE))
    bench.note("G: ours against its bare convolutions (their fastest layout)", medians[OURS] / bare, "times")
    note_sameness(bench, model, batch, "")


def note_sameness(bench: Bench, model: AvModel, batch: Batch, label: str) -> None:
    """Compares a frame, all networks included, with the textbook's."""
    one = Batch(batch.references[:1], batch.poses[:1], batch.mel[:1], [layer[:1] for layer in batch.noise])
    expected = bench.textbook.result("frames", one.references, one.poses, one.mel, one.noise)[0]
    identity = model.encode_identity(one.references)
    frame = model.generate(identity, model.encode_speech(one.mel), model.encode_pose(one.poses), one.noise)
    difference = (frame.cpu() - expected).double()
    bytes_apart = np.abs(_bytes(frame).astype(int) - _bytes(expected).astype(int)).max()
    psnr = 10 * torch.log10(4 / difference.square().mean().clamp(min=1e-20))
    bench.note(f"{SAMENESS}{label}", float(bytes_apart), "of 255")
    bench.note(f"PSNR of a frame against the textbook's{label}", float(psnr), "dB")


SAMENESS = "largest difference of a frame from the textbook's"


def _bytes(images: Tensor) -> np.ndarray:
    return to_uint8(images.float().cpu().numpy())


def stage_encoding(bench: Bench) -> None:
    """Pictures as JPEG, and the six videos of a result folder."""
    frames, folder = bench.inputs.frames, bench.folder / "encoding"
    for column in (INPUT, DRIVEN, POSE):
        make_directory(folder / column)
        for number, frame in enumerate(frames):
            write_image(folder / column / f"{column}{number}.jpg", frame)
    sound = write_sound(folder / "sound.wav", load_audio(bench.inputs.long_sound), len(frames) / FPS)
    count = len(frames)
    bench.race("encoding, JPEG", "frame", {OURS: (lambda: [encode_image(frame) for frame in frames], count)})
    bench.race("encoding, three columns to six mp4", "frame", {OURS: (lambda: concat(folder, sound), count)})


def stage_startup(bench: Bench) -> None:
    """Until `--help` answers, beside bare interpreters."""
    bench.race("start-up", "start", {
        "test.py --help": (lambda: _run_python([str(ROOT / "test.py"), "--help"]), 1),
        "python alone": (lambda: _run_python(["-c", "pass"]), 1),
        "import torch, cv2": (lambda: _run_python(["-c", "import torch, cv2"]), 1),
    })  # fmt: skip


def _run_python(arguments: Sequence[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)


# ------------------------------------------------------------------------------------------------------------ test.py


@dataclass(frozen=True)
class Run:
    """One run of test.py: seconds from its start, and what it reports itself."""

    wall_s: float
    first_frame_s: float
    row_s: float  # of the row: spectrogram, frames and videos; without start-up and loading of the model
    frames: int
    peak_mib: float | None  # of the process alone, without ffmpeg; None where the system does not tell


def run_test(
    bench: Bench, directory: Path, sound: Path, flags: Sequence[str] = (), rows: int = 1, ranks: int = 1
) -> Run:
    """Runs test.py on the synthetic row.

    Args:
        directory: of the weights.
        rows: how often the row stands in the table.
        ranks: processes that share the rows, each with its share of the cores.

    Raises:
        PcavsError: it failed; with the end of its output.
    """
    results = Path(tempfile.mkdtemp(dir=bench.folder))
    table, log = results / "row.csv", results / "log.txt"
    inputs = bench.inputs
    write_rows(table, [[inputs.reference, 1, inputs.pose, _POSE_FRAMES, sound, "None", 0, "None"]] * rows)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    command = [
        sys.executable, *launcher, str(ROOT / "test.py"), "--checkpoints_dir", str(directory.parent),
        "--name", directory.name, "--which_epoch", bench.epoch, "--meta_path_vox", str(table),
        "--results_dir", str(results / "out"), "--gpu_ids", "-1" if bench.device.type == "cpu" else "0",
        "--precision", bench.precision, "--input_id_feature", "--driving_pose", "--gen_video", *flags,
    ]  # fmt: skip
    environment = dict(os.environ)
    if ranks > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // ranks))
    peak = first = None
    started = time.perf_counter()
    with (
        log.open("w") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment) as process,
    ):
        while process.poll() is None:
            peak = peak_memory_mib(process.pid) or peak
            if first is None and next((results / "out").glob(f"id_*/{DRIVEN}/{DRIVEN}*"), None):
                first = time.perf_counter() - started
            time.sleep(_POLL_S)
    wall = time.perf_counter() - started
    if process.returncode:
        raise PcavsError(f"test.py failed with exit code {process.returncode}: {log.read_text()[-2000:]}")
    reports = json.loads((results / "out" / "report.json").read_text())["rows"]
    seconds, frames = (sum(report[name] for report in reports) for name in ("seconds", "frames"))
    return Run(wall, first or wall, seconds / ranks, frames, peak if ranks == 1 else None)


def peak_memory_mib(pid: int) -> float | None:
    """The most memory a running process has had in RAM so far; None where /proc does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(line.split()[1]) / 1024 if line else None


def stage_end_to_end(bench: Bench) -> None:
    """test.py from start to exit, in turn with textbook frames, which are spared start-up, sound and videos."""
    inputs, folder = bench.inputs, make_directory(bench.folder / "textbook")
    batch = make_batch(bench, _PUBLISHED_BATCH)
    calls = {}
    for size in (1, _PUBLISHED_BATCH):
        poses = [inputs.pose / f"{i:06d}.jpg" for i in range(size)]
        noise = [layer[:size] for layer in batch.noise]
        calls[size] = bench.textbook.job(
            "written_frames", inputs.reference / "000000.jpg", poses, batch.mel[:size], noise, folder
        )
    calls[1]()
    runs = []
    times: dict[int, list[float]] = {size: [] for size in calls}
    for _ in range(max(1, bench.repeats // 2)):  # each takes long
        runs.append(run_test(bench, bench.directory, inputs.sound))
        for size in (1, 1, _PUBLISHED_BATCH):
            started = time.perf_counter()
            calls[size]()
            times[size].append((time.perf_counter() - started) / size)
    peaks = [run.peak_mib for run in runs if run.peak_mib is not None]
    stage, count = "test.py with videos", runs[0].frames
    rows = [
        Row(
            stage, "ours, start to exit", "frame", [run.wall_s / count for run in runs], None, max(peaks, default=None)
        ),
        Row(stage, "ours, without start-up", "frame", [run.row_s / count for run in runs]),
        Row(stage, "textbook, frame by frame", "frame", times[1]),
        Row(stage, f"textbook, batches of {_PUBLISHED_BATCH} as published", "frame", times[_PUBLISHED_BATCH]),
    ]
    bench.rows += rows
    bench.rows.append(Row("first frame of a clip", OURS, "start", [run.first_frame_s for run in runs]))
    whole, row, *slow = rows
    for other in slow:
        rate = f"times the frames a second of the {other.contestant}"
        bench.note(f"test.py: {rate}", other.median / row.median)
        bench.note(f"test.py, start-up counted: {rate}", other.median / whole.median)


def stage_long(bench: Bench) -> None:
    """Memory and speed of ten seconds and of ten minutes with a tiny model."""
    sizes = NetworkConfig.from_file(ROOT / "experiments" / "networks" / "tiny.json")
    directory = write_seeded_weights(bench.folder / "tiny_model", sizes)
    wave = load_audio(bench.inputs.long_sound)
    peaks = []
    for seconds in (10, 600):
        sound = write_sound(bench.folder / f"sound_{seconds}.wav", wave, seconds)
        run = run_test(dataclasses.replace(bench, epoch="latest"), directory, sound)
        label = f"{seconds} s of sound, tiny model"
        bench.rows.append(Row("length", label, "frame", [run.row_s / run.frames], None, run.peak_mib))
        peaks.append(run.peak_mib)
    if None not in peaks:
        bench.note("length: memory of ten minutes against that of ten seconds", peaks[1] / peaks[0], "times")  # type: ignore[operator]


def stage_growth(bench: Bench) -> None:
    """How the cost of a frame changes with length, batch, threads and processes; start-up is left out."""
    wave = load_audio(bench.inputs.long_sound)
    seconds = bench.frames / FPS
    sounds = {
        factor: write_sound(bench.folder / f"growth_{factor}.wav", wave, factor * seconds) for factor in (1, 2, 4)
    }
    run_test(bench, bench.directory, sounds[1])  # files get into the system's cache
    cases: list[tuple[str, str, dict[str, Any]]] = [
        *(("length", f"{factor * seconds:g} s of sound", {"sound": sounds[factor]}) for factor in sounds),
        *(("batch", f"--batchSize {size}", {"flags": ("--batchSize", str(size))}) for size in (1, 4, 16)),
        *(("workers", f"--nThreads {count}", {"flags": ("--nThreads", str(count))}) for count in (0, 1, 4)),
        *(("ranks", f"{ranks} of them, two rows", {"rows": 2, "ranks": ranks}) for ranks in (1, 2)),
    ]
    for what, label, how in cases:
        run = run_test(bench, bench.directory, **{"sound": sounds[2], **how})
        bench.rows.append(Row(f"growth, {what}", label, "frame", [run.row_s / run.frames], None, run.peak_mib))


# ---------------------------------------------------------------------------------------------------------------- GPU


def stage_gpu(bench: Bench) -> None:
    """G and the whole chain on the GPU by batch and precision, each beside its textbook form. Not verified."""
    peak = race_ceilings(bench, "bf16", torch.bfloat16)
    macs = sum(conv.macs for conv in convolutions_of(bench.sizes))
    plain: dict[tuple[str, int], float] = {}  # seconds of the textbook in fp32, the first precision
    for precision in _GPU_PRECISIONS:
        model = bench.load_model(precision)
        for size in _GPU_BATCHES:
            for what, ours_call, slow_call in _gpu_contestants(bench, model, precision, size):
                stage = f"{what}, {precision}, batch {size}"
                ours, slow = bench.race(
                    stage, "frame", {OURS: ours_call, TEXTBOOK: (slow_call, size)}, macs if what == "G" else None
                )
                bench.note(
                    f"{stage}: times the fp32 textbook",
                    plain.setdefault((what, size), slow.median) / ours.median,
                )
                if what == "G":
                    bench.note(f"{stage}: share of the bf16 peak", macs / ours.median / peak)
        note_sameness(bench, model, make_batch(bench, 1), f", {precision}")


def _gpu_contestants(
    bench: Bench, model: AvModel, precision: str, size: int
) -> Iterator[tuple[str, tuple[Callable[[], object], int], Callable[[], object]]]:
    """What races, with ours, the frames a call of it makes, and the textbook's for `size` frames.

    G alone, and all that a frame needs until it is in RAM.
    """
    batch, slow = make_batch(bench, size), bench.textbook
    identity = model.encode_identity(batch.references[:1])
    assert identity.map is not None
    mouth, pose = model.encode_speech(batch.mel), model.encode_pose(batch.poses)
    style = torch.cat([identity.vector.expand(size, -1), mouth, pose], dim=1)
    start = identity.map.expand(size, -1, -1, -1).contiguous()

    config = _data_config(bench.sizes)
    pictures = [crop_template(frame, config) for frame in bench.inputs.frames]
    count = 8 if size == 1 else 2 * size
    cues = [StreamCue(i, batch.mel[i % size].cpu().numpy(), i, pictures[i % len(pictures)]) for i in range(count)]

    def chain() -> list[tuple[StreamCue, np.ndarray]]:
        return list(model.stream(identity, cues, ahead=0 if size == 1 else size))

    slow_image = slow.job("image", start, style, batch.noise, precision=precision)
    yield "G", (lambda: model.generate(identity, mouth, pose, batch.noise), size), slow_image
    everything = (batch.references, batch.poses, batch.mel, batch.noise)
    yield "whole chain", (chain, count), slow.job("frames", *everything, precision=precision)


@dataclass(frozen=True)
class StreamCue:
    """What `AvModel.stream` asks of a frame."""

    frame: int
    mel: np.ndarray
    pose_index: int
    pose: np.ndarray | None
