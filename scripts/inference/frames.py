"""Frames of one result: which are there and may stay, the others generated and written; 25 frames a second."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from data.frames import encode_image, is_whole
from data.metadata import TestClip
from data.results import (
    CLIP_NOTE,
    CODES,
    ClipNote,
    Column,
    begin_anew,
    holds_results,
    new_folder_of,
    read_note,
    write_note,
)
from data.voxtest_dataset import TestItem, VoxTestDataset
from models.av_model import AvModel
from options.config import DRIVEN, FIXED, GENERATED, INPUT, MOUTH, POSE, TestConfig
from scripts.inference.blinks import ClipBlinks
from scripts.inference.codes import clip_codes
from util.checkpoint import network_path
from util.errors import MediaError
from util.files import file_states, make_directory, write_bytes
from util.images import to_unit_range
from util.log import progress
from util.parallel import Progress, prefetch

logger = logging.getLogger(__name__)

_WAITING_WRITES = 16  # frames


def begin_result(
    result: Path, config: TestConfig, clip: TestClip, frames: Sequence[int], device: str
) -> tuple[Path, list[Column], frozenset[int]]:
    """Makes the folders of a result and notes in `clip.json` what makes it.

    frames: their numbers at 25 fps.  device: its kind, `cpu` or `cuda`.
    Returns its place, or one beside an earlier result that it replaces when it is whole; the columns it is going to
    have, from left to right; and the indices of frames that are there already.
    """
    names = [INPUT, DRIVEN, POSE] if config.driving_pose else [INPUT, FIXED]
    names += [MOUTH] if clip.mouth_dir else []
    note = ClipNote(
        audio=str(clip.audio.absolute()),
        reference=str(clip.reference_dir.absolute()),
        first_frame=frames[0],
        crop_len=config.data.crop_len,
        columns=tuple(names),
        settings=_fingerprint(config, clip, len(frames), device),
        made_with=in_words(config),
    )
    begun = [folder for folder in (new_folder_of(result), result) if config.resume and _note_of(folder) == note]
    if begun:
        folder = begun[0]
    else:
        if config.resume and (result / CLIP_NOTE).exists():
            logger.info("%s: inputs or settings have changed since, starting anew", result)
        folder = begin_anew(result) if holds_results(result) else result
    columns = [Column(folder / name, name, f".{config.frame_format}", len(frames)) for name in names]
    for column in columns:
        make_directory(column.folder)
    write_note(folder, note)
    indices = range(len(frames)) if begun else ()
    kept = frozenset(index for index in indices if all(is_whole(column.path(index)) for column in columns))
    return folder, columns, kept


def generate_frames(
    model: AvModel,
    config: TestConfig,
    dataset: VoxTestDataset,
    columns: Sequence[Column],
    title: str,
    written: Progress,
    blinks: ClipBlinks | None = None,
) -> None:
    """Generates a clip; pictures are loaded ahead and written behind the network in threads.

    What was generated before an exception is on disk when it comes.

    columns: get the pictures.  written: indices in it are left out; the others are added when they are on disk.
    blinks: of the generated face.
    """
    indices = [index for index in range(len(dataset)) if index not in written]
    references = torch.from_numpy(to_unit_range(dataset.references))
    keep_as = columns[0].folder.parent / CODES if config.save_codes else None
    identity, mouth_codes, pose_codes = clip_codes(model, config, dataset, keep_as, in_words(config))
    fixed_pose = None if config.driving_pose else model.encode_pose(references[:1])
    suffix = columns[0].suffix
    reference = _encoded(dataset.references[0], suffix)

    def write(frame: tuple[int, tuple[TestItem, np.ndarray]]) -> None:
        index, (item, image_rgb) = frame
        pictures = {INPUT: reference, POSE: item.pose, MOUTH: item.mouth, DRIVEN: image_rgb, FIXED: image_rgb}
        # the generated picture goes last, because its presence says that the frame is finished
        for column in sorted(columns, key=lambda column: column.prefix in GENERATED):
            picture = pictures[column.prefix]
            payload = picture if isinstance(picture, bytes) else _encoded(picture, suffix)
            write_bytes(column.path(index), payload)
        written.add(index)

    cues = dataset.items(indices, min(config.num_threads, 2))
    ahead = 2 * config.batch_size
    images = model.stream(identity, cues, config.noise, config.seed, fixed_pose, ahead, pose_codes, mouth_codes)
    numbered: Iterable[tuple[int, tuple[TestItem, np.ndarray]]] = zip(indices, images, strict=True)
    if blinks is not None:
        numbered = ((index, (item, blinks.apply(index, image))) for index, (item, image) in numbered)
    done = prefetch(write, numbered, config.num_threads, _WAITING_WRITES)
    bar = progress(total=len(dataset), initial=len(dataset) - len(indices), unit="frame", desc=title[:40])
    with bar, contextlib.closing(cues), contextlib.closing(images), contextlib.closing(done):
        for _ in done:
            bar.update()


def _encoded(image_rgb: np.ndarray | None, suffix: str) -> bytes:
    assert image_rgb is not None  # there are only columns of what the clip has
    return encode_image(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), suffix)


def _note_of(result: Path) -> ClipNote | None:
    try:
        return read_note(result)
    except MediaError as error:
        logger.warning("%s: starting anew", error)
        return None


def in_words(config: TestConfig) -> str:
    """The settings that decide how frames look."""
    pose = "pose of the pose source" if config.driving_pose else "pose of the reference"
    changed = ["identity of the voice"] if config.use_audio_id else []
    changed += [
        f"{option.name} {value}"
        for options in (config.pose, config.mouth)
        for option in dataclasses.fields(options)
        if (value := getattr(options, option.name)) != option.default
    ]
    changed += [f"codes of {config.load_codes}"] if config.load_codes else []
    changed += [f"blink {config.blink}"] if config.blinks else []
    words = [f"model {config.name}", f"epoch {config.which_epoch}", pose, *changed]
    return ", ".join([*words, f"noise {config.noise}", f"seed {config.seed}"])


def _fingerprint(config: TestConfig, clip: TestClip, num_frames: int, device: str) -> str:
    """Hash of all that decides how frames look: settings, row, weights and inputs (files by path, size and time)."""
    weights = [network_path(config.checkpoint_dir, config.which_epoch, letter) for letter in config.letters]
    sources = [clip.reference_dir, clip.pose_dir, clip.audio, clip.mouth_dir, clip.spectrogram, config.load_codes]
    # what the look of a frame does not depend on: where it is put, which rows are made, how the work is cut up
    settings = dataclasses.replace(
        config, results_dir=Path(), list_start=0, list_end=None, how_many=None, batch_size=1, num_threads=0,
        gpu_ids=(), gen_video=False, labels=False, save_codes=False, resume=False, overwrite=False,
        verbose=False,
    )  # fmt: skip
    parts = [settings, clip, num_frames, device, *file_states([*weights, *sources])]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
