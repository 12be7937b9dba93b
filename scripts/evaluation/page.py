"""The page of an evaluation: table, distributions, and the worst clips with their curves and frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from dominate import tags

from data.frames import write_image
from data.video_pairs import open_pair
from options.config import FPS
from scripts.evaluation.clip import FAKE, REAL, ClipResult
from scripts.evaluation.instruments import EvaluationConfig
from scripts.evaluation.jobs import MeasureTask, read_curves
from util.files import make_directory
from util.html import add_definitions, add_picture, open_page, relative_link
from util.metrics.protocol import LOWER, NEED_REAL, QUANTITIES
from util.plot import Curve, draw_distribution, draw_panel, write_png
from util.report import Table

TRUTH_LABEL = "ground truth"
_PICTURES = "pictures"
_NOT_DRAWN = ("lmd_sum", "lmd_face")  # curves that look like that of `lmd`
_WORST_FRAMES, _FRAMES_APART = 3, 5


def write_page(
    folder: Path,
    title: str,
    table: Table,
    facts: Mapping[str, str],
    remarks: Sequence[str],
    config: EvaluationConfig,
    tasks: Sequence[MeasureTask],
    results: Sequence[ClipResult],
    show: int,
) -> None:
    """Writes `index.html` and its pictures; links are relative, so that the folder can be moved or copied."""
    make_directory(folder / _PICTURES)
    ruler, worst = _worst_clips(tasks, results, config)
    with open_page(folder, title):
        with tags.section(cls="card wide"), tags.table(cls="figures"):
            head, *rows = table.lines()
            tags.tr(*map(tags.th, head))
            for row in rows:
                tags.tr(*map(tags.td, row))
        if remarks:
            with tags.section(cls="card interrupted"):
                tags.h2("Not measured, or to be looked at")
                tags.ul(*(tags.li(remark) for remark in remarks))
        groups = {name: found for name in table.columns if (found := _values_by_group(name, results))}
        if groups:
            with tags.section(cls="card curves"):
                for name, values in groups.items():
                    quantity, path = QUANTITIES[name].title, folder / _PICTURES / f"distribution_{name}.png"
                    write_png(path, draw_distribution(quantity, values))
                    tags.img(src=relative_link(folder, path), alt=f"{quantity} of every clip")
        if worst[:show]:
            tags.h2(f"Worst clips by {QUANTITIES[ruler].title}")
        for task, result in worst[:show]:
            _add_clip(folder, config, task, result, ruler)
        with tags.section(cls="card"):
            tags.h2("How it was measured")
            add_definitions(facts)


def _values_by_group(name: str, results: Sequence[ClipResult]) -> dict[str, list[float]]:
    """Figures of single clips; empty where there is none."""
    groups: dict[str, list[float]] = {result.group: [] for result in results}
    if QUANTITIES[name].metric not in NEED_REAL:  # there it is the best value, by definition
        groups[TRUTH_LABEL] = [result.truth[name] for result in results if name in result.truth]
    for result in results:
        if name in result.generated:
            groups[result.group].append(result.generated[name])
    return groups if any(groups.values()) else {}


def _worst_clips(
    tasks: Sequence[MeasureTask], results: Sequence[ClipResult], config: EvaluationConfig
) -> tuple[str, list[tuple[MeasureTask, ClipResult]]]:
    """A quantity, and the clips that have it, the worst first; "" where none has one with a curve.

    It is the first quantity with curves that knows good from bad, else CPBD.
    """
    curved = [name for name in config.quantities if QUANTITIES[name].per_frame]
    for ruler in sorted(curved, key=lambda name: not QUANTITIES[name].better):
        known = [pair for pair in zip(tasks, results, strict=True) if ruler in pair[1].generated]
        if known:
            worst_is_high = QUANTITIES[ruler].better == LOWER
            return ruler, sorted(known, key=lambda pair: pair[1].generated[ruler], reverse=worst_is_high)
    return "", []


def _add_clip(folder: Path, config: EvaluationConfig, task: MeasureTask, result: ClipResult, ruler: str) -> None:
    """A card: figures, curves of both videos, and the worst frames."""
    curves = read_curves(task.path)
    facts = {"frames": f"{result.num_frames}, {result.num_frames / FPS:.2f} s", "group": result.group}
    for name in config.quantities:
        if name in result.generated:
            digits = QUANTITIES[name].digits
            truth = f", real {result.truth[name]:.{digits}f}" if name in result.truth else ""
            facts[QUANTITIES[name].title] = f"{result.generated[name]:.{digits}f}{truth}"
    with tags.section(cls="card"):
        tags.h2(result.name)
        for remark in result.remarks:
            tags.p(remark, cls="say")
        add_definitions(facts)
        with tags.div(cls="curves"):
            for name in [name for name in config.quantities if name in curves[FAKE] and name not in _NOT_DRAWN]:
                lines = {}
                for label, side in (("generated", FAKE), ("real", REAL)):
                    values = curves.get(side, {}).get(name, np.empty(0))
                    steps = np.flatnonzero(np.isfinite(values))
                    if len(steps) and (side == FAKE or QUANTITIES[name].metric not in NEED_REAL):
                        lines[label] = Curve(steps, values[steps])
                if lines:
                    path = folder / _PICTURES / f"{result.name}_{name}.png"
                    write_png(path, draw_panel(QUANTITIES[name].title, lines, "frame", show_mean=True))
                    tags.img(src=relative_link(folder, path), alt="figures over the frames", loading="lazy")
        with tags.div(cls="curves"):
            _add_worst_frames(folder, config, task, ruler, curves[FAKE][ruler])


def _add_worst_frames(
    folder: Path, config: EvaluationConfig, task: MeasureTask, ruler: str, values: np.ndarray
) -> None:
    """Pictures of the worst frames, worst first, the real one at the left."""
    quantity = QUANTITIES[ruler]
    numbers = worst_numbers(values if quantity.better != LOWER else -values)
    paths: dict[int, Path] = {}
    for number, (real, generated) in enumerate(open_pair(task.pair, config.resample).frames()):
        if number > max(numbers, default=-1):
            break
        if number in numbers:
            paths[number] = folder / _PICTURES / f"{task.pair.name}_{number}.jpg"
            write_image(
                paths[number], generated if real is None else np.hstack([_of_height(real, generated), generated])
            )
    shows = "generated" if task.pair.real is None else "real and generated"
    for number in (number for number in numbers if number in paths):
        caption = f"frame {number}, {shows}: {quantity.title} {values[number]:.{quantity.digits}f}"
        add_picture(folder, paths[number], caption)


def _of_height(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    if len(image) == len(like):
        return image
    return cv2.resize(image, (round(image.shape[1] * len(like) / len(image)), len(like)))


def worst_numbers(values: np.ndarray, count: int = _WORST_FRAMES, apart: int = _FRAMES_APART) -> list[int]:
    """Numbers of the smallest values, each at least `apart` from the others, smallest first; NaN are left out.

    >>> worst_numbers(np.array([5.0, 1.0, 2.0, 9.0, 3.0]), count=2, apart=2)
    [1, 4]
    """
    chosen: list[int] = []
    for number in np.argsort(values, kind="stable").tolist():
        if len(chosen) == count or not math.isfinite(values[number]):
            break
        if all(abs(number - other) >= apart for other in chosen):
            chosen.append(number)
    return chosen
