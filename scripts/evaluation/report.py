"""Tables of an evaluation and what was not measured, made of what `scripts.evaluation.jobs` has measured."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scripts.evaluation.clip import FAKE, REAL, ClipResult, metrics_by_reason
from scripts.evaluation.instruments import EvaluationConfig, Instruments
from scripts.evaluation.jobs import CLIPS, MeasureTask
from scripts.evaluation.page import TRUTH_LABEL, write_page
from util.errors import PcavsError
from util.files import MARK, carries_mark, claim_output, write_json, write_text
from util.metrics.frechet import Moments, frechet_distance
from util.report import Cell, Table, latex_table, markdown_table, terminal_table

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
    """Everything that was not measured or looks wrong; `before`: known early, `remarks`: on the set as a whole."""
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
    """Writes evaluation.json, summary.md, summary.tex, clips.csv and index.html; prints the table.

    before: problems that were known before.  show: how many of the worst clips the page has.
    Returns what was not measured or looks wrong, one line each.
    """
    measures_frechet = "frechet" in config.metrics and "frechet" not in instruments.missing
    distances, remarks = frechet_cells(results, folder) if measures_frechet else ({}, [])
    table = summarise(results, config, distances)
    problems = list_problems(results, before, instruments, remarks)
    remarks = [*problems, *_inapplicable(results)]
    facts = describe(config, instruments)
    report = {
        "made_by": MARK,
        "protocol": dataclasses.asdict(config.protocol),
        "metrics": config.metrics,
        "how": facts,
        "summary": {label: {n: _plain_cell(c) for n, c in cells.items()} for label, cells in table.rows.items()},
        "skipped": instruments.missing,
        "problems": problems,
        "clips": [{**dataclasses.asdict(result), "remarks": result.remarks} for result in results],
    }
    write_json(folder / "evaluation.json", report)  # first: by it the next run knows the others (`claim_reports`)
    text = f"# {title}\n\n{markdown_table(table)}\n"
    text += "".join(f"- {remark}\n" for remark in remarks) + ("\n" if remarks else "")
    text += "".join(f"- {name}: {value}\n" for name, value in facts.items())
    write_text(folder / "summary.md", text)
    comments = "".join(f"% {name}: {value}\n" for name, value in facts.items())
    write_text(folder / "summary.tex", comments + latex_table(table))
    write_clips_csv(folder / "clips.csv", [name for name in config.quantities if name != "frechet"], results)
    write_page(folder, title, table, facts, remarks, config, tasks, results, show)
    print(terminal_table(table))
    for remark in remarks[:_PRINTED_REMARKS]:
        print(f"  {remark}")
    if len(remarks) > _PRINTED_REMARKS:
        print(f"  and {len(remarks) - _PRINTED_REMARKS} more remarks, in {folder / 'summary.md'}")
    print(f"look at {folder / 'index.html'}")
    return problems


def write_clips_csv(path: Path, quantities: Sequence[str], results: Sequence[ClipResult]) -> None:
    """A line a clip; each quantity comes a second time, as `real_...`, with the figures of the real video."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["clip", "group", "frames", *quantities, *(f"real_{name}" for name in quantities), "remarks"])
    for clip in results:
        figures = [side.get(name) for side in (clip.generated, clip.truth) for name in quantities]
        texts = ["" if value is None else f"{value:.6g}" for value in figures]
        writer.writerow([clip.name, clip.group, clip.num_frames, *texts, "; ".join(clip.remarks)])
    write_text(path, buffer.getvalue())


def describe(config: EvaluationConfig, instruments: Instruments) -> dict[str, str]:
    """How it was measured, for every report."""
    protocol = config.protocol
    facts = {"protocol": f"{protocol.name}: {protocol.about}", "metrics": ", ".join(config.metrics)}
    facts |= protocol.rules(config.metrics)
    facts |= {f"{metric} by": name for metric, name in instruments.names.items()}
    facts["figures"] = "mean ± sample deviation over clips; a clip's figure is the mean over its frames; n is clips"
    facts["ground truth"] = "every real clip once, against itself where two videos are compared"
    facts["resampling"] = f"other rates and sizes are {'resampled' if config.resample else 'refused'}"
    return facts


def _plain_cell(cell: Cell) -> dict[str, float | int | None]:
    deviation = cell.deviation if math.isfinite(cell.deviation) else None
    return {"mean": cell.mean, "deviation": deviation, "n": cell.count}
