"""Fixtures: a tiny model on disk, and generated frames, sounds and rows to feed it."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.metadata import write_rows
from options.config import NetworkConfig
from util import files
from util.json_files import to_builtins

SAMPLE_RATE_HZ = 16000
TINY = NetworkConfig(
    crop_size=28,
    num_classes=4,
    feature_dim=32,
    pose_dim=4,
    generator_channels=(16, 16, 16),
    generator_input_channels=16,
    mapping_layers=1,
    identity_layers=(1, 1, 1, 1),
    identity_width=8,
    identity_groups=2,
    identity_group_width=4,
    hourglass_channels=16,
    hourglass_depth=1,
    audio_layers=(1, 1, 1, 1),
    audio_filters=(8, 8, 8, 16),
    discriminator_width=8,
)


def write_frames(folder: Path, count: int, seed: int = 0, size: int = 224, suffix: str = ".jpg") -> Path:
    """A folder of smooth coloured frames `%06d<suffix>` that differ from one another."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        small = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        image = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(folder / f"{number:06d}{suffix}"), image)
    return folder


def write_wav(path: Path, samples: np.ndarray, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Path:
    """16-bit WAV of (samples,) or (samples, channels) float in [-1, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def voice(seconds: float, seed: int = 0, sample_rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """(samples,) a sound with changing pitch and loudness."""
    time_s = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    rng = np.random.default_rng(seed)
    pitch = 120 + 60 * np.sin(2 * np.pi * (1 + rng.random()) * time_s)
    tone = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate_hz))
    return 0.3 * tone * np.abs(np.sin(2 * np.pi * 2 * time_s)) + 0.01 * rng.standard_normal(len(time_s))


def write_tiny_model(directory: Path, config: NetworkConfig = TINY) -> Path:
    """Seeded weights of G, V, E and A_sync with their network.json."""
    from tests.parity import write_seeded_checkpoints

    write_seeded_checkpoints(directory, seed=3, config=config)
    (directory / "network.json").write_text(json.dumps(to_builtins(config)))
    return directory


def fail_writing(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException | None = None) -> None:
    """Lets files with `name` in theirs fail after a hundred bytes: the disk is full, or `error` comes up."""

    class Failing(io.FileIO):
        def write(self, payload: Any) -> int:
            if name in os.path.basename(os.readlink(f"/proc/self/fd/{self.fileno()}")):
                super().write(payload[:100])
                raise error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(payload)

    monkeypatch.setattr(files, "open", lambda file, mode, closefd: Failing(file, mode, closefd), raising=False)


@dataclass(frozen=True)
class Workspace:
    """A folder like the user's: checkpoints/tiny, misc/, results/."""

    root: Path

    @property
    def misc(self) -> Path:
        return self.root / "misc"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def csv(self) -> Path:
        return self.misc / "demo.csv"

    def add_inputs(
        self, name: str = "a", seconds: float = 0.5, pose_frames: int = 5, mouth_frames: int = 0
    ) -> list[str]:
        """Makes reference, pose, mouth and sound called `name` and returns their row."""
        write_frames(self.misc / "Input" / name, 2, seed=1)
        write_frames(self.misc / "Pose_Source" / name, pose_frames, seed=2)
        if mouth_frames:
            write_frames(self.misc / "Mouth_Source" / name, mouth_frames, seed=3)
        write_wav(self.misc / "Audio_Source" / f"{name}.wav", voice(seconds))
        mouth = f"misc/Mouth_Source/{name}" if mouth_frames else "None"
        pose = f"misc/Pose_Source/{name}"
        audio = f"misc/Audio_Source/{name}.wav"
        return [f"misc/Input/{name}", "2", pose, str(pose_frames), audio, mouth, str(mouth_frames), "dummy"]

    def write_csv(self, *rows: Sequence[object]) -> Path:
        write_rows(self.csv, rows)
        return self.csv

    def run(self, *flags: object) -> int:
        """test.py in this process, on the CPU with the tiny model."""
        import test as entry_point

        standard = [
            "--name", "tiny", "--checkpoints_dir", self.root / "checkpoints", "--meta_path_vox", self.csv,
            "--results_dir", self.results, "--gpu_ids", "-1", "--input_id_feature", "--nThreads", "2",
        ]  # fmt: skip
        return entry_point.main([str(part) for part in (*standard, *flags)])

    def report(self) -> list[dict]:
        return json.loads((self.results / "report.json").read_text())["rows"]

    def frames(self, name: str, column: str = "G_Pose_Driven_") -> list[bytes]:
        """The encoded frames of a column, in order."""
        folder = self.results / name / column
        paths = sorted(folder.iterdir(), key=lambda p: int(p.stem.removeprefix(column)))
        return [path.read_bytes() for path in paths]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoints/tiny, made once."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Path) -> Workspace:
    """A fresh workspace in a folder with a space and an umlaut in its name."""
    root = tmp_path / "my wörk"
    (root / "misc").mkdir(parents=True)
    (root / "checkpoints").mkdir()
    (root / "checkpoints" / "tiny").symlink_to(tiny_model, target_is_directory=True)
    return Workspace(root)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what is marked `gpu` where there is no CUDA."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs CUDA")


@pytest.fixture(autouse=True)
def _forget_once_messages() -> None:
    from util import log

    log._said.clear()


@pytest.fixture(autouse=True)
def _usual_signals() -> None:
    """Signals do what they do in a terminal, also for the programs that a test starts.

    A job that a shell starts in the background ignores Ctrl-C, and so does this process once a test has called what
    loading processes call first; children inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _all_threads() -> Iterator[int]:
    """Tiny networks only lose by threads that wait for each other, those of wider fixtures and child processes too."""
    import torch

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield threads


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _all_threads: int) -> Iterator[None]:
    """Full-size networks ask for all of them by `all_cores`."""
    import torch

    if "all_cores" in request.keywords:
        monkeypatch.delenv("OMP_NUM_THREADS")
        torch.set_num_threads(_all_threads)
    yield
    torch.set_num_threads(1)
