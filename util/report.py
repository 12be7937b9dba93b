"""Tables and pages of an evaluation: terminal, Markdown, LaTeX, csv, and an HTML page with plots and frames."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dominate import tags

from util.files import write_text
from util.html import add_definitions, add_picture, open_page, relative_link
from util.metrics.protocol import HIGHER, LOWER, NEITHER, QUANTITIES, Quantity

_ARROWS = {HIGHER: " ↑", LOWER: " ↓", NEITHER: ""}
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "#$%&_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "é": r"\'e"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}
)


@dataclass(frozen=True)
class Cell:
    """A figure of a set: mean and sample deviation (NaN for one clip) over `count` clips."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Cell | None:
        """Of the values that are there and finite; None when there is none."""
        known = [float(value) for value in values if value is not None and math.isfinite(value)]
        if not known:
            return None
        return cls(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan, len(known))


@dataclass(frozen=True)
class Table:
    """The summary: a row a set of clips, a column a quantity; a cell that was not measured is absent."""

    columns: tuple[str, ...]  # names in QUANTITIES
    rows: Mapping[str, Mapping[str, Cell]]  # label -> quantity -> cell

    def lines(self, empty: str = "–") -> list[list[str]]:
        """The head, then for each row its label, its number of clips (that of the cell with the most), its cells."""
        quantities = [QUANTITIES[name] for name in self.columns]
        units = [f" [{quantity.unit}]" if quantity.unit else "" for quantity in quantities]
        titles = [f"{q.title}{unit}{_ARROWS[q.better]}" for q, unit in zip(quantities, units, strict=True)]
        lines = [["", "n", *titles]]
        for label, cells in self.rows.items():
            count = max((cell.count for cell in cells.values()), default=0)
            texts = [cell_text(cells[q.name], q, count) if q.name in cells else empty for q in quantities]
            lines.append([label, str(count), *texts])
        return lines


@dataclass(frozen=True)
class ClipView:
    """A clip on the page."""

    name: str
    facts: Mapping[str, str]
    curves: Sequence[Path]
    frames: Mapping[str, Path]  # caption -> picture
    remarks: Sequence[str]


def cell_text(cell: Cell, quantity: Quantity, row_count: int) -> str:
    """`0.861 ± 0.012`, followed by `(n)` where that differs from the row's; no deviation for one clip or a whole set.

    >>> cell_text(Cell(0.5, 0.25, 3), QUANTITIES["ssim"], 4)
    '0.500 ± 0.250 (3)'
    """
    text = f"{cell.mean:.{quantity.digits}f}"
    if math.isfinite(cell.deviation):
        text += f" ± {cell.deviation:.{quantity.digits}f}"
    return text if row_count == cell.count else f"{text} ({cell.count})"


def terminal_table(table: Table) -> str:
    """Aligned columns for a terminal."""
    lines = table.lines()
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    head, *rows = ["  ".join(line).rstrip() for line in aligned]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([head, rule, *rows])


def markdown_table(table: Table) -> str:
    """A table in Markdown."""
    lines = [[label.replace("|", "\\|"), *texts] for label, *texts in table.lines()]
    head, *rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|---|" + "---:|" * (len(lines[0]) - 1), *rows]) + "\n"


def latex_table(table: Table) -> str:
    """A tabular that needs the package booktabs."""
    head, *rows = table.lines(empty="--")
    lines = [["", "$n$", *(title.translate(_LATEX) for title in head[2:])]]
    for label, *texts in rows:
        cells = [text if text == "--" else f"${text}$".replace(" ± ", r" \pm ") for text in texts]
        lines.append([label.translate(_LATEX), *cells])
    first, *others = [rf"{' & '.join(line)} \\" for line in lines]
    start = rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}"
    return "\n".join([start, r"\toprule", first, r"\midrule", *others, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write_clips_csv(path: Path, quantities: Sequence[str], clips: Iterable[Mapping[str, Any]]) -> None:
    """Writes a line a clip.

    Args:
        quantities: columns; each comes a second time, as `real_...`, with the figures of the real video.
        clips: name, group, num_frames, generated and truth (quantity -> value), remarks (list of texts).
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["clip", "group", "frames", *quantities, *(f"real_{name}" for name in quantities), "remarks"])
    for clip in clips:
        figures = [clip[side].get(name) for side in ("generated", "truth") for name in quantities]
        texts = ["" if value is None else f"{value:.6g}" for value in figures]
        writer.writerow([clip["name"], clip["group"], clip["num_frames"], *texts, "; ".join(clip["remarks"])])
    write_text(path, buffer.getvalue())


def write_page(
    directory: Path,
    title: str,
    table: Table,
    facts: Mapping[str, str],
    problems: Sequence[str],
    distributions: Mapping[str, Path],
    worst: Sequence[ClipView],
    worst_by: str,
) -> None:
    """Writes `index.html`; links are relative to its directory, so that it can be moved or copied.

    Args:
        facts: how it was measured.
        distributions: title -> picture.
        worst: the worst clips, by the quantity with the title `worst_by`.
    """
    with open_page(directory, title):
        with tags.section(cls="card wide"), tags.table(cls="figures"):
            head, *rows = table.lines()
            tags.tr(*map(tags.th, head))
            for row in rows:
                tags.tr(*map(tags.td, row))
        if problems:
            with tags.section(cls="card interrupted"):
                tags.h2("Not measured, or to be looked at")
                tags.ul(*(tags.li(problem) for problem in problems))
        if distributions:
            with tags.section(cls="card curves"):
                for name, picture in distributions.items():
                    tags.img(src=relative_link(directory, picture), alt=f"{name} of every clip")
        if worst:
            tags.h2(f"Worst clips by {worst_by}")
        for clip in worst:
            _clip_card(directory, clip)
        with tags.section(cls="card"):
            tags.h2("How it was measured")
            add_definitions(facts)


def _clip_card(directory: Path, clip: ClipView) -> None:
    with tags.section(cls="card"):
        tags.h2(clip.name)
        for remark in clip.remarks:
            tags.p(remark, cls="say")
        add_definitions(clip.facts)
        with tags.div(cls="curves"):
            for picture in clip.curves:
                tags.img(src=relative_link(directory, picture), alt="figures over the frames", loading="lazy")
        with tags.div(cls="curves"):
            for caption, picture in clip.frames.items():
                add_picture(directory, picture, caption)
