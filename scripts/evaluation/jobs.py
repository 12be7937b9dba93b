"""Measuring many pairs: what is to be measured, what an earlier run has left, and the processes that do the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import logging
import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.metadata import unique_names
from data.video_pairs import VideoPair
from scripts.evaluation.clip import ClipResult, Curves, measure_pair
from scripts.evaluation.instruments import EvaluationConfig, Instruments, load_instruments
from util.errors import MediaError, PcavsError
from util.files import file_states, make_directory, safe_name, write_bytes, write_json
from util.log import progress
from util.parallel import WorkerDiedError, map_processes

logger = logging.getLogger(__name__)

CLIPS = "clips"  # folder of an evaluation: a JSON file for every clip
_FORMAT = 2  # of the files in `clips`; raised when the same clip would come out differently
_LONGEST_NAME = 100  # characters
_one_at_a_time = threading.Lock()  # a Dask worker may have several threads, but dlib keeps state while it looks


@dataclass(frozen=True)
class MeasureTask:
    """A pair to be measured, and the file its figures go to."""

    pair: VideoPair
    path: Path
    with_truth: bool
    key: str  # changes with the pair, its files and all settings


def plan(
    pairs: Sequence[VideoPair], config: EvaluationConfig, folder: Path, missing: Iterable[str] = ()
) -> list[MeasureTask]:
    """A task a pair. Of pairs that share a real video only one measures it, if possible one that compares with it.

    folder: of the evaluation; `clips/<name>.json` gets the figures, `.npz` the features of the Fréchet distance.
    missing: metrics whose instruments are not at hand; once they are, the clip is measured again.
    """
    first: dict[str, int] = {}
    for number in sorted(range(len(pairs)), key=lambda n: bool(pairs[n].apart)):
        if pairs[number].real is not None:
            first.setdefault(pairs[number].truth, number)
    chosen, clips = set(first.values()), make_directory(folder / CLIPS)
    names = unique_names(safe_name(pair.name)[:_LONGEST_NAME] for pair in pairs)
    tasks, weights = [], config.weights_state()
    for number, (pair, name) in enumerate(zip(pairs, names, strict=True)):
        named = dataclasses.replace(pair, name=name)
        files = file_states([pair.generated, pair.real, pair.audio, pair.reference])
        parts = (_FORMAT, named, files, config, number in chosen, weights, sorted(missing))
        key = hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()
        tasks.append(MeasureTask(named, clips / f"{name}.json", number in chosen, key))
    return tasks


def measure_all(
    tasks: Sequence[MeasureTask], config: EvaluationConfig, workers: int = 0, dask: str = "", resume: bool = False
) -> list[ClipResult]:
    """Measures every pair, in the order of the tasks; one that cannot be measured has an `error`.

    Figures and curves of each are on disk as soon as they are known. Raises MediaError: the disk refuses, or a process
    died.

    workers, dask: see `util.parallel.map_processes`.  resume: take figures that an earlier run has left there, if
    neither files nor settings have changed.
    """
    known = [_earlier_result(task) for task in tasks] if resume else []
    results = {result.name: result for result in known if result is not None}
    left = [task for task in tasks if task.pair.name not in results]
    measure = functools.partial(_measure_in_process, config=config, alone=workers < 2 and not dask)
    if dask:  # its workers work in other folders
        left = [dataclasses.replace(_absolute(task), pair=_absolute(task.pair)) for task in left]
        measure = functools.partial(measure, config=_absolute(config))
    with progress(total=len(tasks), initial=len(results), unit="clip", desc="measuring") as bar:
        try:
            for result in map_processes(measure, left, workers, dask):
                results[result.name] = result
                if result.error:
                    logger.error("%s: %s", result.name, result.error)
                bar.update()
        except WorkerDiedError as error:
            raise MediaError(
                "a measuring process died, perhaps out of memory; finished clips are kept: run again with --resume and "
                "fewer --workers"
            ) from error
    return [results[task.pair.name] for task in tasks]


def _absolute(settings: Any) -> Any:
    """A dataclass whose paths are the same in every folder."""
    paths = {name: value.absolute() for name, value in vars(settings).items() if isinstance(value, Path)}
    return dataclasses.replace(settings, **paths)


def _measure_in_process(task: MeasureTask, config: EvaluationConfig, alone: bool) -> ClipResult:
    with _one_at_a_time:
        instruments = load_instruments(config)
        if not alone:  # the other processes have the other cores
            cv2.setNumThreads(1)
            if instruments.sync or instruments.features:
                import torch

                torch.set_num_threads(1)
        return run_task(task, config, instruments)


def run_task(task: MeasureTask, config: EvaluationConfig, instruments: Instruments) -> ClipResult:
    """Measures a pair and writes what came out; a video that cannot be read is an `error`, tried again next time."""
    started = time.monotonic()
    for path in (task.path, task.path.with_suffix(".npz")):  # an older run's would be taken for this one's
        path.unlink(missing_ok=True)
    try:
        result, curves, features = measure_pair(task.pair, config, instruments, task.with_truth)
    except PcavsError as error:
        return ClipResult(task.pair.name, task.pair.group, error=str(error))
    if features:
        buffer = io.BytesIO()
        np.savez(buffer, **features)  # type: ignore[arg-type]
        write_bytes(task.path.with_suffix(".npz"), buffer.getvalue())
    seconds = round(time.monotonic() - started, 3)
    # the features first: figures that are there must be whole
    frames = {side: {name: _plain(values) for name, values in sets.items()} for side, sets in curves.items()}
    stored = {"key": task.key, "seconds": seconds, "result": dataclasses.asdict(result), "frames": frames}
    write_json(task.path, stored)
    return result


def read_curves(path: Path) -> Curves:
    """The curves of `clips/<name>.json`. Raises MediaError when it cannot be read."""
    try:
        frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
        return {s: {name: np.array(v, dtype=np.float64) for name, v in curves.items()} for s, curves in frames.items()}
    except (OSError, ValueError, KeyError) as error:
        raise MediaError(f"{path}: cannot be read ({error}); measure again without --resume") from error


def _plain(values: np.ndarray) -> list[float | None]:
    """JSON knows no NaN."""
    return [round(v, 6) if math.isfinite(v) else None for v in values.tolist()]


def _earlier_result(task: MeasureTask) -> ClipResult | None:
    """What an earlier run has left, if it still holds."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(task.path.read_text(encoding="utf-8"))
        if stored["key"] == task.key:
            return ClipResult(**stored["result"])
    return None
