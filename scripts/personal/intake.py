"""What a person's videos and photos give: prepared, aligned pieces, lists of them, and what was found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.clip_list import ClipRecord, write_list
from data.clip_reader import load_sound
from data.frames import write_image
from data.video_reader import open_video
from options.config import FPS, SAMPLE_RATE_HZ
from util.errors import CheckpointError, MediaError
from util.ffmpeg import run_ffmpeg
from util.files import atomic_folder, make_directory, write_json
from util.json_files import read_json, to_builtins

INTAKE_FILE = "intake.json"
_SHARES = {"train": (0.0, 0.8), "watch": (0.8, 0.9), "held_out": (0.9, 1.0)}


@dataclass(frozen=True)
class Check:
    """Something that was looked at: `figure` in `unit`, `words` for the user, severity ok or warning."""

    name: str
    figure: float
    unit: str
    words: str
    severity: str = "ok"


@dataclass(frozen=True)
class Intake:
    """What a training of one person starts from; a list is None without clips of use. Saved as <work>/intake.json."""

    photos: list[Path] = field(default_factory=list)
    train_list: Path | None = None
    watch_list: Path | None = None
    held_out_list: Path | None = None
    checks: list[Check] = field(default_factory=list)


def read_intake(work: Path) -> Intake:
    """The intake that a folder holds."""
    return read_json(work / INTAKE_FILE, Intake, CheckpointError)


def take_in(videos: Sequence[Path], photos: Sequence[Path], work: Path) -> Intake:
    """Cuts aligned videos with sound into the three parts. Raises MediaError."""
    if (work / INTAKE_FILE).is_file():
        return read_intake(work)
    records: dict[str, list[ClipRecord]] = {part: [] for part in _SHARES}
    for number, video in enumerate(videos):
        frames = list(open_video(video, resample=True).frames())
        wave = load_sound(video)
        for part, (first, last) in _SHARES.items():
            chosen = range(round(first * len(frames)), round(last * len(frames)))
            if len(chosen) < FPS // 2:
                raise MediaError(f"{video}: has {len(frames)} frames, too few for three parts; film 10 s at least")
            folder = work / part / f"{number:03d}"
            with atomic_folder(make_directory(folder.parent) / folder.name) as temporary:
                for place, frame in enumerate(chosen):
                    write_image(temporary / f"{place:06d}.jpg", frames[frame])
                _write_wav(temporary, wave[chosen[0] * 640 : (chosen[-1] + 1) * 640])
            records[part].append(ClipRecord(folder, folder / "audio.wav", len(chosen), "person", 0))
    lists = {part: _write(work / f"{part}.csv", some) for part, some in records.items()}
    intake = Intake(list(photos), lists["train"], lists["watch"], lists["held_out"])
    write_json(work / INTAKE_FILE, to_builtins(intake))
    return intake


def _write(path: Path, records: Sequence[ClipRecord]) -> Path | None:
    if not records:
        return None
    write_list(path, records)
    return path


def _write_wav(folder: Path, wave: np.ndarray) -> None:
    raw = folder / "sound.raw"
    wave.astype("<f4").tofile(raw)
    given: list[str | Path] = ["-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1", "-i", raw]
    run_ffmpeg([*given, folder / "audio.wav"], "writing sound")
    raw.unlink()
