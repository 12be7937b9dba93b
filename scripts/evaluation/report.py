"""Tables and the page of scripts/evaluate.py, made of what scripts/evaluation.py has measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from data.frames import write_image
from data.video_pairs import FPS, open_pair
from scripts.evaluation.clip import (
    CLIPS,
    GENERATED,
    TRUTH,
    ClipResult,
    Job,
    Setup,
    Tools,
    metrics_by_reason,
    read_curves,
)
from util.errors import PcavsError
from util.files import make_directory, write_json, write_text
from util.metrics.frechet import Moments, frechet_distance
from util.metrics.protocol import LOWER, NEED_REAL, QUANTITIES
from util.plot import Curve, draw_distribution, draw_panel, write_png
from util.report import (
    Cell,
    ClipView,
    Page,
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


# ----------------------------------------------------------------------------------------------------------- summary


def summarise(results: Sequence[ClipResult], setup: Setup, distances: Mapping[str, Cell] | None = None) -> Table:
    """The table: a row for every group, and the ground truth; `distances` are the Fréchet distances by row."""
    columns = setup.protocol.quantities(setup.metrics)
    groups = dict.fromkeys(result.group for result in results)
    rows = {
        group: _cells(columns, [result.generated for result in results if result.group == group]) for group in groups
    }
    if any(result.truth for result in results):
        rows[TRUTH_LABEL] = _cells(columns, [result.truth for result in results])
    for label, cell in (distances or {}).items():
        rows.setdefault(label, {})["frechet"] = cell
    return Table(columns, rows)


def _cells(columns: Sequence[str], figures: Sequence[Mapping[str, float]]) -> dict[str, Cell]:
    cells = {name: Cell.of(values.get(name) for values in figures) for name in columns}
    return {name: cell for name, cell in cells.items() if cell is not None}


def frechet_cells(results: Sequence[ClipResult], folder: Path) -> tuple[dict[str, Cell], list[str]]:
    """Fréchet distance of every group to all real clips, and of these to themselves; and what is to be said of them.

    Features are read clip by clip. Without real clips there is no distance.
    """
    totals: dict[str, Moments] = {}
    clips: dict[str, int] = {}
    for result in results:
        path = folder / CLIPS / f"{result.name}.npz"
        if result.error or not path.is_file():
            continue
        with np.load(path, allow_pickle=False) as stored:
            for side, label in ((GENERATED, result.group), (TRUTH, TRUTH_LABEL)):
                if side in stored.files:
                    part = Moments.of(stored[side])
                    totals[label] = totals[label] + part if label in totals else part
                    clips[label] = clips.get(label, 0) + 1
    real = totals.get(TRUTH_LABEL)
    if real is None:
        return {}, ["frechet skipped: there is no real video"] if totals else []
    cells, remarks = {}, []
    try:
        for label, total in totals.items():
            cells[label] = Cell(frechet_distance(real, total), math.nan, clips[label])
    except PcavsError as error:
        remarks.append(f"frechet skipped: {error}")
    counts = ", ".join(f"{label} {total.count}" for label, total in totals.items())
    if min(total.count for total in totals.values()) < len(real.mean):
        remarks.append(f"Fréchet distances of so few frames are far too large and compare with none else: {counts}")
    return cells, remarks


def list_problems(
    results: Sequence[ClipResult], before: Sequence[str], tools: Tools, remarks: Sequence[str]
) -> list[str]:
    """Everything that was not measured or looks wrong: what concerns all clips first.

    Args:
        before: what was found out before anything was measured.
        remarks: on the set as a whole.
    """
    lines = [f"{metric} skipped: {reason}" for metric, reason in tools.missing.items()]
    lines += [*before, *remarks]
    for result in results:
        if result.error:
            lines.append(f"{result.name}: not measured: {result.error}")
    lines += _by_reason("skipped for", [(result.name, result.skipped) for result in results])
    lines += [f"{result.name}: {problem}" for result in results for problem in result.problems]
    return lines


def _by_reason(verb: str, clips: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """One line for every metric and reason, however many clips share it."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for clip, missing in clips:
        for metric, reason in missing.items():
            reasons.setdefault((metric, reason), []).append(clip)
    lines = []
    for (metric, reason), names in reasons.items():
        who = names[0] if len(names) == 1 else f"{len(names)} of {len(clips)} clips ({names[0]} ...)"
        lines.append(f"{metric} {verb} {who}: {reason}")
    return lines


def _inapplicable(results: Sequence[ClipResult]) -> list[str]:
    """What cannot be compared, in one line for all clips; each clip's own remarks name its sources."""
    merged = [{m: reason.split(" (")[0] for reason, m in metrics_by_reason(r.inapplicable)} for r in results]
    return _by_reason("do not apply to", [(r.name, missing) for r, missing in zip(results, merged, strict=True)])


# ------------------------------------------------------------------------------------------------------------ report


def write_reports(
    folder: Path,
    title: str,
    setup: Setup,
    tools: Tools,
    jobs: Sequence[Job],
    results: Sequence[ClipResult],
    before: Sequence[str] = (),
    show: int = 6,
) -> list[str]:
    """Writes summary.md, summary.tex, clips.csv, evaluation.json and index.html; prints the table.

    Args:
        jobs, results: as they went into `measure_all` and came out of it.
        before: problems that were known before.
        show: how many of the worst clips the page has.

    Returns:
        what was not measured or looks wrong, one line each.

    Raises:
        MediaError: the disk refuses.
    """
    measures_frechet = "frechet" in setup.metrics and "frechet" not in tools.missing
    distances, remarks = frechet_cells(results, folder) if measures_frechet else ({}, [])
    table = summarise(results, setup, distances)
    problems = list_problems(results, before, tools, remarks)
    facts = describe(setup, tools)
    remarks = [*problems, *_inapplicable(results)]
    text = f"# {title}\n\n{markdown_table(table)}\n"
    text += "".join(f"- {remark}\n" for remark in remarks) + ("\n" if remarks else "")
    text += "".join(f"- {name}: {value}\n" for name, value in facts.items())
    write_text(folder / "summary.md", text)
    comments = "".join(f"% {name}: {value}\n" for name, value in facts.items())
    write_text(folder / "summary.tex", comments + latex_table(table))
    clips = [{**dataclasses.asdict(result), "remarks": result.remarks} for result in results]
    write_clips_csv(folder / "clips.csv", [n for n in setup.quantities if n != "frechet"], clips)
    write_json(
        folder / "evaluation.json",
        {
            "protocol": dataclasses.asdict(setup.protocol),
            "metrics": setup.metrics,
            "how": facts,
            "summary": {label: {n: _plain_cell(c) for n, c in cells.items()} for label, cells in table.rows.items()},
            "skipped": tools.missing,
            "problems": problems,
            "clips": clips,
        },
    )
    drawn = _distributions(folder, table, results)
    ruler = _ruler(results, setup)
    worst = _worst(jobs, results, ruler)[:show] if ruler else []
    views = [_view(folder, setup, job, result, str(ruler)) for job, result in worst]
    by = QUANTITIES[ruler].title if ruler else ""
    write_page(folder, Page(title, table, facts, remarks, drawn, views, by))
    print(terminal_table(table))
    for remark in remarks[:_PRINTED_REMARKS]:
        print(f"  {remark}")
    if len(remarks) > _PRINTED_REMARKS:
        print(f"  and {len(remarks) - _PRINTED_REMARKS} more remarks, in {folder / 'summary.md'}")
    print(f"look at {folder / 'index.html'}")
    return problems


def describe(setup: Setup, tools: Tools) -> dict[str, str]:
    """How it was measured, for every report."""
    protocol = setup.protocol
    facts = {"protocol": f"{protocol.name}: {protocol.about}", "metrics": ", ".join(setup.metrics)}
    facts |= protocol.rules(setup.metrics)
    facts |= {f"{metric} by": name for metric, name in tools.names.items()}
    facts["figures"] = "mean ± sample deviation over clips; a clip's figure is the mean over its frames; n is clips"
    facts["ground truth"] = "every real clip once, against itself where two videos are compared"
    facts["resampling"] = (
        "other rates and sizes are resampled" if setup.resample else "other rates and sizes are refused"
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
        groups = _values_by_row(name, results)
        if any(groups.values()):
            drawn[QUANTITIES[name].title] = path = pictures / f"distribution_{name}.png"
            write_png(path, draw_distribution(QUANTITIES[name].title, groups))
    return drawn


def _values_by_row(name: str, results: Sequence[ClipResult]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {result.group: [] for result in results}
    if QUANTITIES[name].metric not in NEED_REAL:  # there it is the best value, by definition
        groups[TRUTH_LABEL] = [result.truth[name] for result in results if name in result.truth]
    for result in results:
        if name in result.generated:
            groups[result.group].append(result.generated[name])
    return groups


def _ruler(results: Sequence[ClipResult], setup: Setup) -> str | None:
    """The quantity that clips are ordered by: the first with curves that knows good from bad, else CPBD."""
    curved = [name for name in setup.quantities if QUANTITIES[name].per_frame]
    ordered = sorted(curved, key=lambda name: not QUANTITIES[name].better)
    return next((name for name in ordered if any(name in result.generated for result in results)), None)


def _worst(jobs: Sequence[Job], results: Sequence[ClipResult], ruler: str) -> list[tuple[Job, ClipResult]]:
    known = [(job, result) for job, result in zip(jobs, results, strict=True) if ruler in result.generated]
    return sorted(known, key=lambda pair: pair[1].generated[ruler], reverse=QUANTITIES[ruler].better == LOWER)


def _view(folder: Path, setup: Setup, job: Job, result: ClipResult, ruler: str) -> ClipView:
    """A card of the page: figures, curves of both videos, and the worst frames."""
    curves = read_curves(job.path)
    names = [name for name in setup.quantities if name in curves[GENERATED] and name not in _NOT_DRAWN]
    panels = []
    for name in names:
        sides = {"generated": GENERATED} | ({"real": TRUTH} if QUANTITIES[name].metric not in NEED_REAL else {})
        drawn = {label: _curve(curves[side][name]) for label, side in sides.items() if name in curves.get(side, {})}
        lines = {label: line for label, line in drawn.items() if line is not None}
        if lines:
            panels.append(folder / _PICTURES / f"{result.name}_{name}.png")
            write_png(panels[-1], draw_panel(QUANTITIES[name].title, lines, "frame", show_mean=True))
    facts = {"frames": f"{result.num_frames}, {result.num_frames / FPS:.2f} s", "group": result.group}
    for name in setup.quantities:
        if name in result.generated:
            digits = QUANTITIES[name].digits
            truth = f", real {result.truth[name]:.{digits}f}" if name in result.truth else ""
            facts[QUANTITIES[name].title] = f"{result.generated[name]:.{digits}f}{truth}"
    frames = _worst_frames(folder, setup, job, ruler, curves[GENERATED][ruler])
    return ClipView(result.name, facts, panels, frames, result.remarks)


def _curve(values: np.ndarray) -> Curve | None:
    steps = np.flatnonzero(np.isfinite(values))
    return Curve(steps, values[steps]) if len(steps) else None


def _worst_frames(folder: Path, setup: Setup, job: Job, ruler: str, values: np.ndarray) -> dict[str, Path]:
    """Pictures of the worst frames, worst first, the real one at the left: caption -> file."""
    quantity = QUANTITIES[ruler]
    numbers = worst_numbers(values if quantity.better != LOWER else -values)
    paths: dict[int, Path] = {}
    for number, (real, generated) in enumerate(open_pair(job.pair, setup.resample).frames()):
        if number > max(numbers, default=-1):
            break
        if number in numbers:
            paths[number] = folder / _PICTURES / f"{job.pair.name}_{number}.jpg"
            write_image(
                paths[number], generated if real is None else np.hstack([_of_height(real, generated), generated])
            )
    shows = "generated" if job.pair.real is None else "real and generated"
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
