"""The summary table of an evaluation for a terminal, in Markdown and in LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

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
    lines = table.lines()
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    head, *rows = ["  ".join(line).rstrip() for line in aligned]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([head, rule, *rows])


def markdown_table(table: Table) -> str:
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
