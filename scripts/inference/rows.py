"""What test.py does with its rows: generate, write and encode each, and report; 25 frames a second throughout."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import logging
import os
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from data.frames import encode_image, is_whole
from data.metadata import Row, TestClip, read_rows, unique_names
from data.result_videos import make_videos
from data.results import FIXED_POSE, REPORT, ClipNote, Column, RowReport, read_note, remove_results, write_note
from data.voxtest_dataset import TestItem, VoxTestDataset, to_batch
from models.av_model import AvModel, select_device
from options.config import DRIVEN, FIXED, INFERENCE_LETTERS, INPUT, MOUTH, POSE, TestConfig, to_plain
from util.checkpoint import network_path, require_networks
from util.errors import MediaError, MetadataError, PcavsError
from util.files import make_directory, write_bytes, write_json
from util.html import write_gallery
from util.parallel import BackgroundTasks, Progress

logger = logging.getLogger(__name__)

_BATCHES_IN_WORK = 2
_WAITING_WRITES = 64


def run_rows(config: TestConfig) -> int:
    """Generates the selected rows of the metadata file with one model.

    Args:
        config: the run.

    Returns:
        the exit code: 0 all rows done, 1 some failed, 130 interrupted.

    Raises:
        PcavsError: the metadata file or the weights cannot be read; no row was tried.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if rank == 0:  # an older run's report would be taken for this one's if this one ends early
        (config.results_dir / REPORT).unlink(missing_ok=True)
    require_networks(config.checkpoint_dir, config.which_epoch, INFERENCE_LETTERS)
    cv2.setNumThreads(1)  # every thread here has pictures of its own
    jobs = select_rows(config)
    device = select_device(config.gpu_ids, int(os.environ.get("LOCAL_RANK", "0")), several=world > 1)
    started = time.monotonic()
    try:
        model = AvModel.from_checkpoints(
            config.checkpoint_dir, config.which_epoch, config.network, device, config.precision
        )
    except RuntimeError as error:
        if device.type == "cpu":
            raise
        # memory that others use, or a card that this torch was not built for
        reason = (str(error) or repr(error)).splitlines()[0]
        raise PcavsError(f"{device} cannot take the networks: {reason}; try other --gpu_ids (-1: the CPU)") from error
    logger.info("%s on %s, loaded in %.1f s", config.checkpoint_dir, device, time.monotonic() - started)
    part = config.results_dir / (f"report.{rank}.json" if world > 1 else REPORT)
    reports: list[RowReport] = []
    try:
        for row, name in jobs[rank::world]:
            reports.append(RowReport(row.place, name))
            _try_row(model, config, row, reports[-1])
            _try_to_write_report(config, reports, part)  # after every row, so that a crash loses nothing
        if world > 1:
            reports = _gather(reports)
    except KeyboardInterrupt:
        logger.warning("interrupted; finished frames are kept, and the same command with --resume goes on")
        _try_to_write_report(config, reports, part)
        return 130
    written = True
    if rank == 0:
        written = _try_to_write_report(config, reports, config.results_dir / REPORT)
        for number in range(world if world > 1 else 0):
            (config.results_dir / f"report.{number}.json").unlink(missing_ok=True)
        print(summary(reports))
        print(f"look at {config.results_dir / 'index.html'}")
    return 0 if written and all(report.status == "done" for report in reports) else 1


def _try_row(model: AvModel, config: TestConfig, row: Row, report: RowReport) -> None:
    """Generates a row; an error is noted in the report, so that the other rows go on."""
    try:
        _run_row(model, config, row, report)
        report.status = "done"
    except PcavsError as error:
        report.error = str(error)
        logger.error("%s: %s", report.name, error, exc_info=error if config.verbose else None)
    except torch.cuda.OutOfMemoryError:
        report.error = "out of GPU memory; close other programs, or try --precision fp16 or --gpu_ids -1"
        logger.error("%s: %s", report.name, report.error)
    except KeyboardInterrupt:
        report.status = "interrupted"
        raise
    except Exception as error:  # a mistake of ours must not cost the other rows
        report.error = f"unexpected {type(error).__name__}: {error}; please report it with the traceback in the log"
        logger.exception("%s: %s", report.name, report.error)


def select_rows(config: TestConfig) -> list[tuple[Row, str]]:
    """The rows `--list_start`, `--list_end` and `--how_many` leave, each with its folder name.

    Names are given over the whole file, so that a row's folder does not depend on the selection.
    """
    rows = read_rows(config.meta_path_vox)
    jobs = list(zip(rows, unique_names(_row_name(row) for row in rows), strict=True))
    selected = jobs[config.list_start : config.list_end][: config.how_many]
    if not selected:
        raise MetadataError(
            f"{config.meta_path_vox}: --list_start {config.list_start} --list_end {config.list_end} "
            f"leave none of its {len(rows)} rows"
        )
    return selected


def write_report(config: TestConfig, reports: Sequence[RowReport], path: Path) -> None:
    """Writes a report, `report.json` or a rank's part of it, and with the former the gallery `index.html`."""
    make_directory(config.results_dir)
    rows = [dataclasses.asdict(report) for report in reports]
    settings = to_plain(config)
    write_json(path, {"config": settings, "rows": rows})
    if path.name == REPORT:
        write_gallery(config.results_dir, rows, settings, f"PC-AVS: {config.name}")


def _try_to_write_report(config: TestConfig, reports: Sequence[RowReport], path: Path) -> bool:
    """Whether the report could be written; a full disk must not keep the summary from being printed."""
    try:
        write_report(config, reports, path)
    except PcavsError as error:
        logger.error("%s", error)
        return False
    return True


def summary(reports: Sequence[RowReport]) -> str:
    """The run in plain words, one line a row that did not end well."""
    done = sum(report.status == "done" for report in reports)
    lines = [f"{done} of {len(reports)} rows done"]
    lines += [f"  {r.row} {r.status}: {r.error or 'run again with --resume'}" for r in reports if r.status != "done"]
    return "\n".join(lines)


def _row_name(row: Row) -> str:
    try:
        return row.clip().name
    except MetadataError:
        return f"line_{row.line}"  # the row will fail when its turn comes


def _run_row(model: AvModel, config: TestConfig, row: Row, report: RowReport) -> None:
    clip = row.clip()
    report.inputs = {
        "reference": str(clip.reference_dir),
        "pose": str(clip.pose_dir or clip.reference_dir) if config.driving_pose else FIXED_POSE,
        "audio": str(clip.audio),
        "mouth": str(clip.mouth_dir or ""),
    }
    started = time.monotonic()
    dataset = VoxTestDataset(clip, config.data, config.audio, config.published_timing, with_pose=config.driving_pose)
    folder = make_directory(config.results_dir / report.name)
    logger.info("%s: %d frames", report.name, len(dataset))
    finished = _prepare_folder(folder, config, clip, dataset.frames, model.device.type)
    report.frames = report.frames_reused = len(finished)
    report.outputs = [str(folder / column) for column in columns_of(config, clip)]
    written = Progress(finished)
    with ThreadPoolExecutor(1) as behind:  # encodes the videos while the frames are made
        videos = None
        try:
            if config.gen_video:
                columns = [
                    Column(folder / name, name, f".{config.frame_format}", len(dataset))
                    for name in columns_of(config, clip)
                ]
                videos = behind.submit(make_videos, folder, columns, clip.audio, config.labels, written.wait)
            with contextlib.closing(generate_frames(model, config, dataset, folder, written)) as frames:
                for _ in frames:
                    report.frames += 1
            made = report.frames - report.frames_reused
            report.seconds = round(time.monotonic() - started, 3)
            report.fps = round(made / report.seconds, 3)
            if videos is not None:
                report.outputs += [str(path) for path in videos.result()]
        finally:
            written.stop()
    report.seconds = round(time.monotonic() - started, 3)


def columns_of(config: TestConfig, clip: TestClip) -> list[str]:
    """Names of the frame folders a clip gets."""
    columns = [INPUT, DRIVEN, POSE] if config.driving_pose else [INPUT, FIXED]
    return columns + ([MOUTH] if clip.mouth_dir else [])


def generate_frames(
    model: AvModel, config: TestConfig, dataset: VoxTestDataset, folder: Path, written: Progress | None = None
) -> Generator[int, None, None]:
    """Generates a clip into `folder`, yielding every output index when its pictures are handed to the writer.

    Pictures are loaded ahead and written behind the network in threads. When the iterator ends, or is closed, all
    pictures handed over are on disk.

    Args:
        written: frames in it are left out; the others are added when they are on disk.

    Raises:
        MediaError: a frame cannot be read or written.
    """
    written = written or Progress()
    indices = [index for index in range(len(dataset)) if index not in written]
    references = torch.from_numpy(to_batch(list(dataset.references)))
    identity = model.encode_identity(references, use_map=config.input_id_feature)
    fixed_pose = None if config.driving_pose else model.encode_pose(references[:1])
    writer = BackgroundTasks(config.num_threads, _WAITING_WRITES)
    input_picture = _encoded(dataset.references[0], config)
    cues = dataset.items(indices, min(config.num_threads, 2))
    images = model.stream(
        identity, cues, config.noise, config.seed, fixed_pose, ahead=_BATCHES_IN_WORK * config.batch_size
    )
    bar = tqdm(total=len(dataset), initial=len(dataset) - len(indices), unit="frame", desc=folder.name[:40])
    try:
        with bar:
            for index, (item, image) in zip(indices, images, strict=True):
                writer.submit(_write_frame, folder, config, index, item, image, input_picture, written)
                yield index
                bar.update()
    except BaseException:  # Ctrl-C included: what was handed over is still written, the first error counts
        with contextlib.suppress(PcavsError):
            writer.wait()
        raise
    finally:
        images.close()
        cues.close()
    writer.wait()


def _write_frame(
    folder: Path,
    config: TestConfig,
    index: int,
    item: TestItem,
    image_rgb: np.ndarray,
    input_picture: bytes,
    written: Progress,
) -> None:
    """Writes the pictures of one output frame, the generated one last, because its presence says 'finished'."""
    generated = DRIVEN if config.driving_pose else FIXED
    pictures = {INPUT: input_picture}
    if item.pose is not None:
        pictures[POSE] = _encoded(item.pose, config)
    if item.mouth is not None:
        pictures[MOUTH] = _encoded(item.mouth, config)
    pictures[generated] = _encoded(image_rgb, config)
    for column, payload in pictures.items():
        write_bytes(_frame_path(folder, column, index, config), payload)
    written.add(index)


def _encoded(image_rgb: np.ndarray, config: TestConfig) -> bytes:
    return encode_image(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), f".{config.frame_format}")


def _frame_path(folder: Path, column: str, index: int, config: TestConfig) -> Path:
    return folder / column / f"{column}{index}.{config.frame_format}"


def _prepare_folder(
    folder: Path, config: TestConfig, clip: TestClip, frames: Sequence[int], device: str
) -> frozenset[int]:
    """Makes the column folders; returns the frames that may stay: whole ones of the same settings, under `--resume`."""
    columns = columns_of(config, clip)
    note = ClipNote(
        audio=str(clip.audio.absolute()),
        reference=str(clip.reference_dir.absolute()),
        first_frame=frames[0],
        crop_len=config.data.crop_len,
        columns=tuple(columns),
        settings=_fingerprint(config, clip, len(frames), device),
    )
    before = _note_before(folder) if config.resume else None
    keep = before == note
    if before is not None and not keep:
        logger.info("%s: inputs or settings have changed since, starting anew", folder)
    if not keep:
        remove_results(folder)
    for column in columns:
        make_directory(folder / column)
    write_note(folder, note)
    if not keep:
        return frozenset()
    return frozenset(
        index
        for index in range(len(frames))
        if all(is_whole(_frame_path(folder, column, index, config)) for column in columns)
    )


def _note_before(folder: Path) -> ClipNote | None:
    try:
        return read_note(folder)
    except MediaError as error:
        logger.warning("%s: starting anew", error)
        return None


def _fingerprint(config: TestConfig, clip: TestClip, num_frames: int, device: str) -> str:
    """Hash of all that decides how frames look: settings, row, weights and inputs (files by path, size and time)."""
    weights = [network_path(config.checkpoint_dir, config.which_epoch, letter) for letter in INFERENCE_LETTERS]
    sources = [clip.reference_dir, clip.pose_dir, clip.audio, clip.mouth_dir, clip.spectrogram]
    frames = [f for s in sources if s is not None and s.is_dir() for f in sorted(s.iterdir())]
    files = [*weights, *(s for s in sources if s is not None), *frames]
    # what the look of a frame does not depend on: where it is put, which rows are made, how the work is cut up
    settings = dataclasses.replace(
        config, results_dir=Path(), list_start=0, list_end=None, how_many=None, batch_size=1, num_threads=0,
        gpu_ids=(), gen_video=False, labels=False, resume=False, verbose=False,
    )  # fmt: skip
    parts = [settings, clip, num_frames, device, *(_file_state(file) for file in files)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _file_state(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError:
        return str(path.absolute()), -1, -1  # a dangling link beside the frames
    return str(path.absolute()), state.st_size, state.st_mtime_ns


def _gather(reports: list[RowReport]) -> list[RowReport]:
    """All ranks' reports in file order; waits for every rank, because torchrun ends the others when one fails."""
    from torch import distributed

    # a rank may have days of rows left when this one is done; the default would give up after half an hour
    distributed.init_process_group("gloo", timeout=datetime.timedelta(days=30))
    everything: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everything, reports)
    distributed.destroy_process_group()
    merged = [report for part in everything for report in part]
    return sorted(merged, key=lambda report: int(report.row.rsplit(":", 1)[1]))
