"""Tables and the page of an evaluation, made of what `scripts.evaluation.jobs` has measured."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from data.frames import write_image
from data.video_pairs import open_pair
from options.config import FPS
from scripts.evaluation.clip import FAKE, REAL, ClipResult, metrics_by_reason
from scripts.evaluation.instruments import EvaluationConfig, Instruments
from scripts.evaluation.jobs import CLIPS, MeasureTask, read_curves
from util.errors import PcavsError
from util.files import MARK, carries_mark, claim_output, make_directory, write_json, write_text
from util.metrics.frechet import Moments, frechet_distance
from util.metrics.protocol import LOWER, NEED_REAL, QUANTITIES
from util.plot import Curve, draw_distribution, draw_panel, write_png
from util.report import (
    Cell,
    ClipView,
    Table,
    latex_table,
    markdown_table,
    terminal_table,
    write_clips_csv,
    write_page,
)

TRUTH_LABEL = "ground truth"
_PICTURES = "pictures"
_NOT_DRAWN = ("lmd_sum", "lmd_face")  # curves that look like that of `lmd`
_WORST_FRAMES, _FRAMES_APART = 3, 5
_PRINTED_REMARKS = 20  # lines; summary.md and the page have all


def summarise(
    results: Sequence[ClipResult], config: EvaluationConfig, distances: Mapping[str, Cell] | None = None
) -> Table:
    """The table: a row for every group, and the ground truth; `distances` are the Fréchet distances by row."""
    columns = config.protocol.quantities(config.metrics)
    figures: dict[str, list[dict[str, float]]] = {}
    for result in results:
        figures.setdefault(result.group, []).append(result.generated)
    if any(result.truth for result in results):
        figures[TRUTH_LABEL] = [result.truth for result in results]
    rows = {}
    for label, clips in figures.items():
        cells = {name: Cell.of(clip.get(name) for clip in clips) for name in columns}
        rows[label] = {name: cell for name, cell in cells.items() if cell is not None}
    for label, cell in (distances or {}).items():
        rows.setdefault(label, {})["frechet"] = cell
    return Table(columns, rows)


def frechet_cells(results: Sequence[ClipResult], folder: Path) -> tuple[dict[str, Cell], list[str]]:
    """Fréchet distance of every group to all real clips, and of these to themselves; and what is to be said of them.

    Features are read clip by clip. Without real clips there is no distance.
    """
    totals: dict[str, Moments] = {}
    clips: Counter[str] = Counter()
    for result in results:
        path = folder / CLIPS / f"{result.name}.npz"
        if result.error or not path.is_file():
            continue
        with np.load(path, allow_pickle=False) as stored:
            for side, label in ((FAKE, result.group), (REAL, TRUTH_LABEL)):
                if side in stored.files:
                    part = Moments.of(stored[side])
                    totals[label] = totals[label] + part if label in totals else part
                    clips[label] += 1
    real = totals.get(TRUTH_LABEL)
    if real is None:
        return {}, ["frechet skipped: there is no real video"] if totals else []
    cells, remarks = {}, []
    try:
        for label, total in totals.items():
            cells[label] = Cell(frechet_distance(real, total), math.nan, clips[label])
    except PcavsError as error:
        remarks.append(f"frechet skipped: {error}")
    if min(total.count for total in totals.values()) < len(real.mean):
        counts = ", ".join(f"{label} {total.count}" for label, total in totals.items())
        remarks.append(f"Fréchet distances of so few frames are far too large and compare with none else: {counts}")
    return cells, remarks


def list_problems(
    results: Sequence[ClipResult], before: Sequence[str], instruments: Instruments, remarks: Sequence[str]
) -> list[str]:
    """Everything that was not measured or looks wrong: what concerns all clips first.

    Args:
        before: what was found out before anything was measured.
        remarks: on the set as a whole.
    """
    return [
        *(f"{metric} skipped: {reason}" for metric, reason in instruments.missing.items()),
        *before,
        *remarks,
        *(f"{result.name}: not measured: {result.error}" for result in results if result.error),
        *_by_reason("skipped for", results, [result.skipped for result in results]),
        *(f"{result.name}: {problem}" for result in results for problem in result.problems),
    ]


def _by_reason(verb: str, results: Sequence[ClipResult], missing: Sequence[Mapping[str, str]]) -> list[str]:
    """One line for every metric and reason, however many clips share it."""
    clips: dict[tuple[str, str], list[str]] = {}
    for result, reasons in zip(results, missing, strict=True):
        for metric, reason in reasons.items():
            clips.setdefault((metric, reason), []).append(result.name)
    lines = []
    for (metric, reason), names in clips.items():
        who = names[0] if len(names) == 1 else f"{len(names)} of {len(results)} clips ({names[0]} ...)"
        lines.append(f"{metric} {verb} {who}: {reason}")
    return lines


def _inapplicable(results: Sequence[ClipResult]) -> list[str]:
    """What cannot be compared, in one line for all clips; each clip's own remarks name its sources."""
    merged = [{m: reason.split(" (")[0] for reason, m in metrics_by_reason(r.inapplicable)} for r in results]
    return _by_reason("do not apply to", results, merged)


# ------------------------------------------------------------------------------------------------------------ report


def claim_reports(folder: Path, overwrite: bool = False) -> None:
    """Makes sure that the reports replace nothing but earlier ones. Raises OptionError: names the user's file."""
    reports = ("evaluation.json", "index.html", "summary.md", "summary.tex", "clips.csv")
    are_ours = carries_mark(folder / reports[0])  # the others cannot all carry it
    for name in reports:
        claim_output(folder / name, "--output:", overwrite=overwrite, is_ours=lambda _: are_ours)


def write_reports(
    folder: Path,
    title: str,
    config: EvaluationConfig,
    instruments: Instruments,
    tasks: Sequence[MeasureTask],
    results: Sequence[ClipResult],
    before: Sequence[str] = (),
    show: int = 6,
) -> list[str]:
    """Writes summary.md, summary.tex, clips.csv, evaluation.json and index.html; prints the table.

    Args:
        tasks, results: as they went into `measure_all` and came out of it.
        before: problems that were known before.
        show: how many of the worst clips the page has.

    Returns:
        what was not measured or looks wrong, one line each.

    Raises:
        MediaError: the disk refuses.
    """
    measures_frechet = "frechet" in config.metrics and "frechet" not in instruments.missing
    distances, remarks = frechet_cells(results, folder) if measures_frechet else ({}, [])
    table = summarise(results, config, distances)
    problems = list_problems(results, before, instruments, remarks)
    remarks = [*problems, *_inapplicable(results)]
    facts = describe(config, instruments)
    _write_tables(folder, title, table, facts, remarks)
    clips = [{**dataclasses.asdict(result), "remarks": result.remarks} for result in results]
    write_clips_csv(folder / "clips.csv", [n for n in config.quantities if n != "frechet"], clips)
    write_json(
        folder / "evaluation.json",
        {
            "made_by": MARK,
            "protocol": dataclasses.asdict(config.protocol),
            "metrics": config.metrics,
            "how": facts,
            "summary": {label: {n: _plain_cell(c) for n, c in cells.items()} for label, cells in table.rows.items()},
            "skipped": instruments.missing,
            "problems": problems,
            "clips": clips,
        },
    )
    drawn = _distributions(folder, table, results)
    ruler, worst = _worst_clips(tasks, results, config)
    views = [_view(folder, config, task, result, ruler) for task, result in worst[:show]]
    by = QUANTITIES[ruler].title if ruler else ""
    write_page(folder, title, table, facts, remarks, drawn, views, by)
    print(terminal_table(table))
    for remark in remarks[:_PRINTED_REMARKS]:
        print(f"  {remark}")
    if len(remarks) > _PRINTED_REMARKS:
        print(f"  and {len(remarks) - _PRINTED_REMARKS} more remarks, in {folder / 'summary.md'}")
    print(f"look at {folder / 'index.html'}")
    return problems


def _write_tables(folder: Path, title: str, table: Table, facts: Mapping[str, str], remarks: Sequence[str]) -> None:
    text = f"# {title}\n\n{markdown_table(table)}\n"
    text += "".join(f"- {remark}\n" for remark in remarks) + ("\n" if remarks else "")
    text += "".join(f"- {name}: {value}\n" for name, value in facts.items())
    write_text(folder / "summary.md", text)
    comments = "".join(f"% {name}: {value}\n" for name, value in facts.items())
    write_text(folder / "summary.tex", comments + latex_table(table))


def describe(config: EvaluationConfig, instruments: Instruments) -> dict[str, str]:
    """How it was measured, for every report."""
    protocol = config.protocol
    facts = {"protocol": f"{protocol.name}: {protocol.about}", "metrics": ", ".join(config.metrics)}
    facts |= protocol.rules(config.metrics)
    facts |= {f"{metric} by": name for metric, name in instruments.names.items()}
    facts["figures"] = "mean ± sample deviation over clips; a clip's figure is the mean over its frames; n is clips"
    facts["ground truth"] = "every real clip once, against itself where two videos are compared"
    facts["resampling"] = (
        "other rates and sizes are resampled" if config.resample else "other rates and sizes are refused"
    )
    return facts


def _plain_cell(cell: Cell) -> dict[str, float | int | None]:
    deviation = cell.deviation if math.isfinite(cell.deviation) else None
    return {"mean": cell.mean, "deviation": deviation, "n": cell.count}


def _distributions(folder: Path, table: Table, results: Sequence[ClipResult]) -> dict[str, Path]:
    """A picture for every column of which there are figures of single clips."""
    pictures = make_directory(folder / _PICTURES)
    drawn = {}
    for name in table.columns:
        groups: dict[str, list[float]] = {result.group: [] for result in results}
        if QUANTITIES[name].metric not in NEED_REAL:  # there it is the best value, by definition
            groups[TRUTH_LABEL] = [result.truth[name] for result in results if name in result.truth]
        for result in results:
            if name in result.generated:
                groups[result.group].append(result.generated[name])
        if any(groups.values()):
            drawn[QUANTITIES[name].title] = path = pictures / f"distribution_{name}.png"
            write_png(path, draw_distribution(QUANTITIES[name].title, groups))
    return drawn


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


def _view(folder: Path, config: EvaluationConfig, task: MeasureTask, result: ClipResult, ruler: str) -> ClipView:
    """A card of the page: figures, curves of both videos, and the worst frames."""
    curves = read_curves(task.path)
    names = [name for name in config.quantities if name in curves[FAKE] and name not in _NOT_DRAWN]
    panels = []
    for name in names:
        sides = {"generated": FAKE} | ({"real": REAL} if QUANTITIES[name].metric not in NEED_REAL else {})
        drawn = {label: _curve(curves[side][name]) for label, side in sides.items() if name in curves.get(side, {})}
        lines = {label: line for label, line in drawn.items() if line is not None}
        if lines:
            panels.append(folder / _PICTURES / f"{result.name}_{name}.png")
            write_png(panels[-1], draw_panel(QUANTITIES[name].title, lines, "frame", show_mean=True))
    facts = {"frames": f"{result.num_frames}, {result.num_frames / FPS:.2f} s", "group": result.group}
    for name in config.quantities:
        if name in result.generated:
            digits = QUANTITIES[name].digits
            truth = f", real {result.truth[name]:.{digits}f}" if name in result.truth else ""
            facts[QUANTITIES[name].title] = f"{result.generated[name]:.{digits}f}{truth}"
    frames = _worst_frames(folder, config, task, ruler, curves[FAKE][ruler])
    return ClipView(result.name, facts, panels, frames, result.remarks)


def _curve(values: np.ndarray) -> Curve | None:
    steps = np.flatnonzero(np.isfinite(values))
    return Curve(steps, values[steps]) if len(steps) else None


def _worst_frames(
    folder: Path, config: EvaluationConfig, task: MeasureTask, ruler: str, values: np.ndarray
) -> dict[str, Path]:
    """Pictures of the worst frames, worst first, the real one at the left: caption -> file."""
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
    return {
        f"frame {number}, {shows}: {quantity.title} {values[number]:.{quantity.digits}f}": paths[number]
        for number in numbers
        if number in paths
    }


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
