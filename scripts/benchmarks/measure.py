"""How is measured: contestants take turns with the same inputs; times in seconds."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.benchmark import select_unit, trim_sigfig

from data.audio import log_mel, mel_window
from data.frames import crop_template
from data.synthetic.clips import Clip, make_clip
from models.av_model import AvModel
from models.registry import build_network
from options.config import INFERENCE_LETTERS, NETWORK_FILE, DataConfig, NetworkConfig
from scripts.benchmarks.textbook import Batch, Textbook
from util.checkpoint import network_path, save_state_dict
from util.files import make_directory, write_json
from util.images import to_unit_range
from util.json_files import to_builtins

OURS, TEXTBOOK = "ours", "textbook"
POSE_FRAMES = 50
HEADER = f"| {'stage':26} | {'contestant':33} |    median |           quartiles | of one      | |\n{'|---' * 6}|"


@dataclass(frozen=True)
class Row:
    """The times of one contestant in one stage."""

    stage: str
    contestant: str
    unit: str
    seconds: Sequence[float]  # of one unit, a number a round
    peak_mib: float | None = None

    @property
    def median(self) -> float:
        """Seconds of one unit."""
        return statistics.median(self.seconds)


@dataclass
class Bench:
    """A run: what is measured, with what, and what has come out so far."""

    directory: Path  # of the weights
    epoch: str
    sizes: NetworkConfig
    device: torch.device
    folder: Path  # scratch
    repeats: int = 5  # rounds
    frames: int = 50  # that test.py makes
    batch: int = 4  # frames a call of a network gets on the CPU
    precision: str = "fp32"
    train_batch: int = 2
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)  # numbers that are no times, or made of several rows
    differing: list[str] = field(default_factory=list)  # frames that are not the textbook's

    @functools.cached_property
    def clip(self) -> Clip:
        """Who speaks and moves the head."""
        return make_clip(60021, 0, POSE_FRAMES)

    @functools.cached_property
    def model(self) -> AvModel:
        return self.load_model(self.precision)

    @functools.cached_property
    def textbook(self) -> Textbook:
        return Textbook(self.directory, self.epoch, self.sizes, self.device)

    def load_model(self, precision: str) -> AvModel:
        return AvModel.from_checkpoints(self.directory, self.epoch, self.sizes, self.device, precision)

    def make_batch(self, count: int) -> Batch:
        """What the networks get for the first frames of the clip, on the device.

        References and poses (B, 3, S, S) in [-1, 1], mel windows (B, 1, 80, 20), noise (B, 1, s, s) a layer.
        """
        config, mel = DataConfig(crop_size=self.sizes.crop_size), log_mel(self.clip.wave)
        noise = self.model.noise_for("random", 0, range(count)) or []
        images = [to_unit_range(crop_template(frame, config)) for frame in self.clip.frames]
        inputs = images[-1:] * count, images[:count], [mel_window(mel, frame) for frame in range(count)]
        references, poses, windows = (torch.from_numpy(np.stack(each)).to(self.device) for each in inputs)
        return references, poses, windows, [layer.to(self.device) for layer in noise]

    def race(
        self,
        stage: str,
        unit: str,
        contestants: Mapping[str, tuple[Callable[[], object], float]],
        peaks_mib: Mapping[str, float | None] | None = None,
    ) -> list[Row]:
        """Lets contestants take turns, so that what disturbs the machine disturbs all of them, and keeps their rows.

        contestants: name -> (function, how many units a call makes).
        """
        times: dict[str, list[float]] = {name: [] for name in contestants}
        warm_up = 3 if self.device.type == "cuda" else 1  # a graph is captured after some calls
        for turn in range(-warm_up, self.repeats):
            for name, (call, units) in contestants.items():
                started = time.perf_counter()
                call()
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                if turn >= 0:
                    times[name].append((time.perf_counter() - started) / units)
        made = [Row(stage, name, unit, seconds, (peaks_mib or {}).get(name)) for name, seconds in times.items()]
        self.rows += made
        return made


def seeded_weights(directory: Path, sizes: NetworkConfig) -> Path:
    """Saves freshly initialised G, V, E and A_sync as `latest`, with their network.json; returns the folder."""
    make_directory(directory)
    torch.manual_seed(0)
    for letter in INFERENCE_LETTERS:
        network = build_network(letter, sizes)
        for name, parameter in network.named_parameters():
            if name.endswith("noise.weight"):  # it starts at 0, and AvModel spares itself noise that is not used
                nn.init.constant_(parameter, 0.1)
            elif letter != "G" and parameter.dim() > 1:  # else codes vanish or grow so much that the picture saturates
                nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        save_state_dict(network.state_dict(), network_path(directory, "latest", letter))
    write_json(directory / NETWORK_FILE, to_builtins(sizes))
    return directory


def table_lines(rows: Sequence[Row]) -> list[str]:
    """Lines of a Markdown table; the last cell compares with the first row of the same stage."""
    lines = []
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        head = first.setdefault((row.stage, row.unit), row)
        remarks = [f"{row.median / head.median:.2f} x the first"] if row is not head else []
        remarks += [f"{1 / row.median:.3g} frames/s"] if row.unit == "frame" else []
        remarks += [f"{row.peak_mib:.0f} MiB"] if row.peak_mib else []
        quartiles = " - ".join(show_seconds(value) for value in np.percentile(row.seconds, [25, 75]))
        lines.append(
            f"| {row.stage:26} | {row.contestant:33} | {show_seconds(row.median):>9} | {quartiles:>19} "
            f"| {row.unit:11} | {'; '.join(remarks)} |"
        )
    return lines


def show_seconds(seconds: float) -> str:
    """Three digits with a fitting unit: 0.01234 -> `12.3 ms`."""
    unit, scale = select_unit(seconds)
    return f"{trim_sigfig(seconds / scale, 3):g} {unit}"


def peak_memory_mib(pid: int) -> float | None:
    """The most memory a running process has had in RAM so far; None where /proc does not tell."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1024 if found else None
    return None


def describe_machine(device: torch.device) -> str:
    """Card, processor, threads, instructions, versions; and the load, which should be near 0."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        processor = found[1] if found else processor
    card = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{card}{processor}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"torch {torch.__version__}, Python {platform.python_version()}{load}"
    )
