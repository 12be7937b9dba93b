"""Whose clips a personal training sees: the person's own, made of videos and photos, and other people's, drawn here."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from data.clip_list import ClipRecord, read_list
from data.clip_reader import ClipReader
from data.frames import crop_template, read_image, write_image
from data.synthetic.clips import FRAME_SIZE, RENDERER_VERSION, make_clip, read_truth, write_clip
from options.config import FPS, OTHERS, PERSON, PHOTO, SAMPLE_RATE_HZ, DataConfig
from scripts.personal.faces import FaceReader
from scripts.personal.intake import Intake
from util.errors import MediaError
from util.ffmpeg import run_ffmpeg
from util.files import atomic_folder, make_directory
from util.log import progress
from util.parallel import map_processes

_CANDIDATES = 40  # frames, of which the reference is one
# what makes a frame as much worse as any other of these: degrees off the front, mouth opening and eyes by eye distance
_TURN_DEG, _OPENING, _EYES_OPEN = 8.0, 0.1, 0.05
OTHERS_S = 3  # seconds of each
PHOTO_FRAMES = 2 * FPS  # of the still clip that a photo becomes
_FIRST_OTHER = 1000  # seed; people from FIRST_HELD_OUT on are for measuring

_log = logging.getLogger(__name__)


def person_records(intake: Intake, work: Path, with_all: bool = False) -> list[ClipRecord]:
    """The person's clips to train on, and photos as still and silent ones.

    Args:
        with_all: take the watched and the held-out part, too.
    """
    lists = [intake.train_list, *((intake.watch_list, intake.held_out_list) if with_all else ())]
    records = [record for path in lists if path is not None for record in read_list(path)]
    kept = [dataclasses.replace(record, speaker="person", label=PERSON) for record in records]
    return [*kept, *(record for photo in intake.photos for record in _still_clips(photo, work / "stills"))]


def _still_clips(photo: Path, folder: Path) -> list[ClipRecord]:
    """A photo, and its mirror image, as clips of frames that all show the same, with silence."""
    records = []
    digest = hashlib.sha256(photo.read_bytes()).hexdigest()[:8]  # another photo may have had the name
    for name, turned in ((f"{photo.stem}_{digest}", False), (f"{photo.stem}_{digest}_mirrored", True)):
        target = folder / name
        if not target.is_dir():
            image = read_image(photo)
            image = np.ascontiguousarray(image[:, ::-1]) if turned else image
            with atomic_folder(make_directory(folder) / name) as temporary:
                for number in range(PHOTO_FRAMES):
                    write_image(temporary / f"{number:06d}.jpg", image)
                quiet = f"anullsrc=r={SAMPLE_RATE_HZ}:cl=mono"
                run_ffmpeg(["-f", "lavfi", "-t", str(PHOTO_FRAMES / FPS), "-i", quiet, temporary / "audio.wav"],
                           "writing silence")  # fmt: skip
        records.append(ClipRecord(target, target / "audio.wav", PHOTO_FRAMES, "person", PHOTO))
    return records


def other_records(folder: Path, count: int, workers: int = 1) -> list[ClipRecord]:
    """Clips of synthetic people, who turn their heads and speak as the person's clip never does; drawn once.

    Raises MediaError: the disk refuses, or a speech program fails.
    """
    frames = round(OTHERS_S * FPS)
    paths = {seed: folder / f"id{seed:05d}" / "00001.mp4" for seed in range(_FIRST_OTHER, _FIRST_OTHER + count)}
    missing = [(seed, path) for seed, path in paths.items() if not _is_made(path, frames)]
    bar = progress(total=len(missing), unit="clip", desc="drawing other people", disable=not missing)
    with bar:
        for _ in map_processes(functools.partial(_make, frames=frames), missing, workers):
            bar.update()
    return [ClipRecord(path, None, frames, path.parent.name, OTHERS) for path in paths.values()]


def _is_made(path: Path, frames: int) -> bool:
    try:
        truth = read_truth(path)
    except MediaError:
        return False
    return path.is_file() and len(truth.states) == frames and truth.renderer == RENDERER_VERSION


def _make(job: tuple[int, Path], frames: int) -> None:
    seed, path = job
    cv2.setNumThreads(1)  # the processes are the parallelism
    write_clip(make_clip(seed, 0, frames), path)


def choose_reference(
    folder: Path, person: Sequence[ClipRecord], reader: FaceReader, data: DataConfig, chosen: bool
) -> np.ndarray:
    """The picture that shows the person best, (H, W, 3) uint8 RGB, and the person's likeness for the reader.

    It is one of some frames of all clips, with the face most in front, the mouth at rest and the eyes open.

    Args:
        folder: gets the picture, as test.py wants it.
        chosen: it is there already, and is taken.

    Raises MediaError: no face in any of the frames that were looked at.
    """
    clips = [record for record in person if record.label == PERSON] or list(person[::2])  # photos: not mirrored
    each = max(2, _CANDIDATES // len(clips))
    full = dataclasses.replace(data, crop_size=FRAME_SIZE, crop_len=0, template_size=FRAME_SIZE)
    pictures = np.concatenate([_spread(record, full, each) for record in clips])
    seen = [crop_template(np.ascontiguousarray(picture[..., ::-1]), data) for picture in pictures]
    if not reader.learn(seen):
        raise MediaError(f"{clips[0].path}: no face in any of the {len(seen)} frames that were looked at")
    if not chosen:
        reading = reader.read(np.stack(seen))
        turn = np.abs(reading.angles[:, :2]).sum(axis=1)
        cost = turn / _TURN_DEG + reading.opening / _OPENING - reading.eyes / _EYES_OPEN
        best = pictures[int(np.argmin(np.where(np.isfinite(cost), cost, np.inf)))]
        make_directory(folder)
        write_image(folder / "000000.jpg", np.ascontiguousarray(best[..., ::-1]))
    return crop_template(read_image(folder / "000000.jpg"), data)


def _spread(record: ClipRecord, data: DataConfig, count: int) -> np.ndarray:
    """(count, H, W, 3) uint8 RGB, evenly over the clip."""
    numbers = np.linspace(0, record.num_frames - 1, count).round().astype(int)
    return ClipReader(data).frames(record, numbers.tolist()).transpose(0, 2, 3, 1)
