"""What test.py does with its rows: load the model, generate and encode each row, report what became of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import os
import signal
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import torch

from data.metadata import Row, read_rows, unique_names
from data.pose_source import make_pose_folder
from data.prepare_row import POSE_SOURCE
from data.prepared import NOTE_NAME, SourceNote
from data.result_videos import make_videos
from data.results import CODES, FIXED_POSE, REPORT, Report, RowReport, put_in_place, read_report
from data.voice_activity import require_detector
from data.voxtest_dataset import VoxTestDataset
from models.av_model import AvModel
from options.config import INFERENCE_LETTERS, NETWORK_FILE, SYNTHETIC_PEOPLE, TRAINED_ON, TestConfig
from scripts.inference.blinks import ClipBlinks
from scripts.inference.frames import begin_result, generate_frames, in_words
from util.checkpoint import network_path, require_networks
from util.cli import DONE, FAILED, INTERRUPTED
from util.device import select_device
from util.errors import CheckpointError, MediaError, MetadataError, PcavsError
from util.files import make_directory, write_json
from util.html import write_gallery
from util.json_files import read_json, to_builtins
from util.log import counted, warn_once
from util.parallel import Progress

logger = logging.getLogger(__name__)


def run_rows(config: TestConfig) -> int:
    """Generates the selected rows of the metadata file with one model: 0 all rows done, 1 some failed, 130 interrupted.

    Raises PcavsError before any row is tried: the metadata file or the weights cannot be read.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    _require_weights(config)
    if config.mouth.silence == "rest":
        require_detector()
    cv2.setNumThreads(1)  # every thread here has pictures of its own
    selected = select_rows(config)
    model = _load_model(config, world)
    part = REPORT if world == 1 else f"report.{rank}.json"
    earlier = _earlier_rows(config.results_dir, {name for _, name in selected})
    reports: list[RowReport] = []
    try:
        for row, name in selected[rank::world]:
            reports.append(RowReport(row.place, name))
            _try_row(model, config, row, reports[-1])
            _write_report(config, [*earlier, *reports], part)  # after every row, so that a crash loses nothing
        if world > 1:
            reports = _gather(reports)
    except KeyboardInterrupt:
        logger.warning("interrupted; finished frames are kept, and the same command with --resume goes on")
        _write_report(config, [*earlier, *reports], part)
        return INTERRUPTED
    is_written = True
    if rank == 0:
        is_written = _write_report(config, [*earlier, *reports], REPORT)
        for number in range(world if world > 1 else 0):
            (config.results_dir / f"report.{number}.json").unlink(missing_ok=True)
        print(summary(reports))
        print(f"look at {config.results_dir / 'index.html'}")
    return DONE if is_written and all(report.status == "done" for report in reports) else FAILED


def select_rows(config: TestConfig) -> list[tuple[Row, str]]:
    """The rows `--list_start`, `--list_end` and `--how_many` leave, each with the name of its result.

    Names are given over the whole file, so that the name of a row's result does not depend on the selection.
    """
    rows = read_rows(config.meta_path_vox)
    named = list(zip(rows, unique_names(_name_of(row) for row in rows), strict=True))
    selected = named[config.list_start : config.list_end][: config.how_many]
    if not selected:
        raise MetadataError(
            f"{config.meta_path_vox}: --list_start {config.list_start} --list_end {config.list_end} "
            f"leave none of its {len(rows)} rows"
        )
    return selected


def summary(reports: Sequence[RowReport]) -> str:
    """The run in plain words, one line a row that did not end well."""
    done = sum(report.status == "done" for report in reports)
    lines = [f"{done} of {len(reports)} rows done"]
    lines += [f"  {r.row} {r.status}: {r.error or 'run again with --resume'}" for r in reports if r.status != "done"]
    return "\n".join(lines)


def _earlier_rows(folder: Path, renewed: Collection[str]) -> list[RowReport]:
    """Rows of earlier runs into the same folder that this one leaves as they are."""
    try:
        report = read_report(folder)
    except MediaError as error:
        logger.warning("%s: rows of earlier runs are left out of the new one", error)
        return []
    rows = report.rows if report else []
    return [row for row in rows if row.name not in renewed and (folder / row.name).is_dir()]


def _require_weights(config: TestConfig) -> None:
    folder = config.checkpoint_dir
    require_networks(folder, config.which_epoch, INFERENCE_LETTERS)
    voice, sizes = network_path(folder, config.which_epoch, "A"), folder / NETWORK_FILE
    if config.use_audio_id and not voice.is_file():
        train = f"train.py --train_recognition --use_audio_id 1 --fix_netV --load_pretrain {folder}"
        train += f" --network_file {sizes}" if sizes.is_file() else ""
        raise CheckpointError(f"--use_audio_id 1: {folder} holds no {voice.name}; train it with: {train} ...")


def _load_model(config: TestConfig, world: int) -> AvModel:
    device = select_device(config.gpu_ids, int(os.environ.get("LOCAL_RANK", "0")), several=world > 1)
    started = time.monotonic()
    try:
        model = AvModel.from_checkpoints(
            config.checkpoint_dir, config.which_epoch, config.network, device, config.precision, config.letters
        )
    except RuntimeError as error:
        if device.type == "cpu":
            raise
        # memory that others use, or a card that this torch was not built for
        reason = (str(error) or repr(error)).splitlines()[0]
        raise PcavsError(f"{device} cannot take the networks: {reason}; try other --gpu_ids (-1: the CPU)") from error
    logger.info("%s on %s, loaded in %.1f s", config.checkpoint_dir, device, time.monotonic() - started)
    return model


def _name_of(row: Row) -> str:
    try:
        return row.clip().name
    except Exception:  # whatever it is: the row fails when its turn comes, and keeps no other from running
        return f"line_{row.line}"


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


def _run_row(model: AvModel, config: TestConfig, row: Row, report: RowReport) -> None:
    clip = row.clip()
    if clip.programme is not None and config.driving_pose:
        drawn = make_pose_folder(row.source.parent / POSE_SOURCE, clip.programme, config.seed, clip.audio)
        clip = dataclasses.replace(clip, pose_dir=drawn.path, num_pose_frames=drawn.extent, programme=None)
    report.inputs = {
        "reference": str(clip.reference_dir),
        "pose": str(clip.pose_dir or clip.reference_dir) if config.driving_pose else FIXED_POSE,
        "audio": str(clip.audio),
        "mouth": str(clip.mouth_dir or ""),
    }
    _warn_of_strangers(config, clip.reference_dir)
    started = time.monotonic()
    dataset = VoxTestDataset(
        clip, config.data, config.published_timing, with_pose=config.driving_pose, loop=config.pose.pose_loop
    )
    blinks = ClipBlinks(config, clip, dataset) if config.blinks else None
    result = config.results_dir / report.name
    logger.info("%s: %s", report.name, counted(len(dataset), "frame"))
    folder, columns, kept = begin_result(result, config, clip, dataset.frames, model.device.type)
    report.frames_reused = len(kept)
    report.made_with = in_words(config)
    report.outputs = [str(result / column.prefix) for column in columns]
    report.outputs += [str(result / CODES)] if config.save_codes else []
    written = Progress(kept)
    with ThreadPoolExecutor(1) as behind:  # encodes the videos while the frames are made
        videos = None
        try:
            if config.gen_video:
                videos = behind.submit(make_videos, folder, columns, clip.audio, config.labels, written.wait)
            generate_frames(model, config, dataset, columns, report.name, written, blinks)
            report.blinks = blinks.summary() if blinks else ""
            report.seconds = round(time.monotonic() - started, 3)
            report.fps = round((len(written) - len(kept)) / report.seconds, 3)
            if videos is not None:
                report.outputs += [str(result / path.name) for path in videos.result()]
        finally:
            report.frames = len(written)
            written.stop()
    if folder != result:
        put_in_place(folder, result)
    report.seconds = round(time.monotonic() - started, 3)


def _warn_of_strangers(config: TestConfig, reference: Path) -> None:
    """Says so where a model knows only some people, as the bundled one does, and the reference is no picture of them.

    Rendered heads are told by the name that `make_demo_inputs.py` gives, or by the ground truth beside their source.
    """
    told = config.checkpoint_dir / TRAINED_ON
    if not told.is_file() or reference.name.startswith("synthetic_"):
        return
    with contextlib.suppress(MediaError):
        if Path(read_json(reference / NOTE_NAME, SourceNote).source).with_suffix(".npz").is_file():
            return
    people = told.read_text(encoding="utf-8", errors="replace").strip()
    if people != SYNTHETIC_PEOPLE:  # such as a personal model: nobody but its owner can tell
        return
    warn_once(
        logger,
        f"{reference}: nothing says that this is one of the {people} that {config.checkpoint_dir} knows alone; "
        "of a real face it makes a synthetic one, use the published weights for it",
    )


def _write_report(config: TestConfig, rows: list[RowReport], name: str) -> bool:
    """Writes `report.json` or a rank's part of it, with the former the gallery; whether the disk took it.

    A full disk must not keep the summary from being printed.
    """
    report = Report(rows, to_builtins(config))
    try:
        write_json(make_directory(config.results_dir) / name, to_builtins(report))
        if name == REPORT:
            entries = [dataclasses.asdict(row) for row in rows]
            write_gallery(config.results_dir, entries, report.config, f"PC-AVS: {config.name}")
    except PcavsError as error:
        logger.error("%s", error)
        return False
    return True


def _gather(reports: list[RowReport]) -> list[RowReport]:
    """All ranks' reports in file order; waits for every rank, because torchrun ends the others when one fails."""
    from torch import distributed

    # rows are done and this part of the report is there; while a rank waits in torch, Python hears no signal, and
    # torchrun would wait 30 s for it before it kills it
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    # a rank may have days of rows left when this one is done; the default would give up after half an hour
    distributed.init_process_group("gloo", timeout=datetime.timedelta(days=30))
    everything: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everything, reports)
    distributed.destroy_process_group()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    merged = [report for part in everything for report in part]
    return sorted(merged, key=lambda report: int(report.row.rsplit(":", 1)[1]))
