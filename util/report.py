"""Tables and pages of an evaluation: terminal, Markdown, LaTeX, csv, and an HTML page with plots and frames."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from util.files import write_text
from util.html import _link, _page
from util.metrics.protocol import HIGHER, LOWER, QUANTITIES, Quantity
from util.plot import _GREY, _GRID, _INK, _PAPER, _colour, _font, _px, _short, _span, _ticks

if TYPE_CHECKING:
    from PIL import Image

_ARROWS = {HIGHER: "↑", LOWER: "↓"}
_LATEX_ARROWS = {HIGHER: r" $\uparrow$", LOWER: r" $\downarrow$"}
_LATEX_SIGNS = {c: f"\\{c}" for c in "#$%&_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "é": r"\'e",
}  # fmt: skip
_EMPTY = "–"
_LANE_HEIGHT = 44  # pixels of a row of dots
_PANEL_WIDTH = 420
_MARGIN = 0.03  # of the axis, beyond the outermost dots


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

    def titles(self) -> list[str]:
        """Heads of the columns, with the unit and which way is better."""
        titles = []
        for quantity in (QUANTITIES[name] for name in self.columns):
            unit = f" [{quantity.unit}]" if quantity.unit else ""
            titles.append(f"{quantity.title}{unit} {_ARROWS.get(quantity.better, '')}".rstrip())
        return titles

    def count(self, label: str) -> int:
        """Clips of a row: the most that any of its cells has."""
        return max((cell.count for cell in self.rows[label].values()), default=0)

    def texts(self, label: str, empty: str = _EMPTY) -> list[str]:
        """The cells of a row; one with fewer clips than the row names its own number."""
        texts = []
        for name in self.columns:
            cell = self.rows[label].get(name)
            texts.append(empty if cell is None else cell_text(cell, QUANTITIES[name], self.count(label)))
        return texts


@dataclass(frozen=True)
class ClipView:
    """A clip on the page."""

    name: str
    facts: Mapping[str, str]
    curves: Sequence[Path] = ()
    frames: Sequence[Mapping[str, Path]] = ()  # rows of caption -> picture
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """Everything on the page of an evaluation."""

    title: str
    table: Table
    facts: Mapping[str, str]  # how it was measured
    problems: Sequence[str]
    distributions: Mapping[str, Path] = field(default_factory=dict)  # title -> picture
    worst: Sequence[ClipView] = ()
    worst_by: str = ""


def cell_text(cell: Cell, quantity: Quantity, row_count: int | None = None) -> str:
    """`0.861 ± 0.012`, followed by `(n)` where that differs from the row's; no deviation for one clip or a whole set.

    >>> cell_text(Cell(0.5, 0.25, 3), QUANTITIES["ssim"], 4)
    '0.500 ± 0.250 (3)'
    """
    text = f"{cell.mean:.{quantity.digits}f}"
    if math.isfinite(cell.deviation):
        text += f" ± {cell.deviation:.{quantity.digits}f}"
    return text if row_count in (None, cell.count) else f"{text} ({cell.count})"


def terminal_table(table: Table) -> str:
    """Aligned columns for a terminal."""
    lines = [["", "n", *table.titles()]]
    lines += [[label, str(table.count(label)), *table.texts(label)] for label in table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = [
        [line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    texts = ["  ".join(line).rstrip() for line in aligned]
    return "\n".join([texts[0], rule, *texts[1:]])


def markdown_table(table: Table) -> str:
    """A table in Markdown."""
    lines = [["", "n", *table.titles()]]
    lines += [[_unpiped(label), str(table.count(label)), *table.texts(label)] for label in table.rows]
    texts = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([texts[0], "|---|" + "---:|" * (len(lines[0]) - 1), *texts[1:]]) + "\n"


def latex_table(table: Table) -> str:
    """A tabular that needs the package booktabs."""
    heads = []
    for quantity in (QUANTITIES[name] for name in table.columns):
        unit = f" [{quantity.unit}]" if quantity.unit else ""
        heads.append(_latex(quantity.title + unit) + _LATEX_ARROWS.get(quantity.better, ""))
    lines = [" & ".join(["", "$n$", *heads])]
    for label in table.rows:
        cells = [text.replace(" ± ", r" \pm ") for text in table.texts(label, "--")]
        cells = [f"${text}$" if text != "--" else text for text in cells]
        lines.append(" & ".join([_latex(label), f"${table.count(label)}$", *cells]))
    body = [rf"{line} \\" for line in lines]
    start = rf"\begin{{tabular}}{{l{'r' * (1 + len(table.columns))}}}"
    return "\n".join([start, r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


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


def draw_distribution(title: str, groups: Mapping[str, Sequence[float]]) -> Image.Image:
    """Draws a row of dots for each group, a dot a clip, and a stroke at their mean.

    Args:
        groups: label -> finite values, at least one in all.
    """
    from PIL import Image, ImageDraw

    groups = {label: values for label, values in groups.items() if len(values)}
    left, top, foot = _px(110), _px(40), _px(34)
    lane = _px(_LANE_HEIGHT)
    image = Image.new("RGB", (_px(_PANEL_WIDTH), top + lane * len(groups) + foot), _PAPER)
    draw = ImageDraw.Draw(image)
    right, bottom = image.width - _px(20), image.height - foot
    low, high = _span([float(value) for values in groups.values() for value in values])
    low, high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
    draw.text((_px(16), _px(10)), title, font=_font(17), fill=_INK)
    for tick in _ticks(low, high, count=4):
        x = left + (tick - low) / (high - low) * (right - left)
        draw.line([(x, top), (x, bottom)], fill=_GRID, width=_px(1))
        draw.text((x, bottom + _px(7)), _short(tick), font=_font(12), fill=_GREY, anchor="ma")
    for number, (label, values) in enumerate(groups.items()):
        middle = top + lane * (number + 0.5)
        draw.text((left - _px(12), middle), label, font=_font(12), fill=_INK, anchor="rm")
        places = left + (np.asarray(values, dtype=np.float64) - low) / (high - low) * (right - left)
        for turn, x in enumerate(places):
            y = middle + (turn % 5 - 2) * _px(4)  # a little apart, so that equal values show
            draw.ellipse((x - _px(3), y - _px(3), x + _px(3), y + _px(3)), fill=_colour(number))
        mean = float(places.mean())
        draw.line([(mean, middle - _px(16)), (mean, middle + _px(16))], fill=_INK, width=_px(2))
    return image.resize((_PANEL_WIDTH, image.height * _PANEL_WIDTH // image.width), Image.Resampling.LANCZOS)


def write_page(directory: Path, page: Page) -> Path:
    """Writes `index.html`: summary, problems, distributions, the worst clips with curves and frames, the protocol.

    Args:
        directory: links are relative to it, so that it can be moved or copied.

    Returns:
        the path of the page.
    """
    from dominate import tags

    document = _page(page.title)
    with document:
        tags.h1(page.title)
        with tags.section(cls="card wide"):
            _html_table(page.table)
        if page.problems:
            with tags.section(cls="card interrupted"):
                tags.h2("Not measured, or to be looked at")
                tags.ul(*(tags.li(problem) for problem in page.problems))
        if page.distributions:
            with tags.section(cls="card curves"):
                for title, picture in page.distributions.items():
                    tags.img(src=_link(directory, picture), alt=f"{title} of every clip")
        if page.worst:
            tags.h2(f"Worst clips by {page.worst_by}")
        for clip in page.worst:
            _clip_card(directory, clip)
        with tags.section(cls="card"):
            tags.h2("How it was measured")
            _definitions(page.facts)
    path = directory / "index.html"
    write_text(path, document.render())
    return path


def _html_table(table: Table) -> None:
    from dominate import tags

    with tags.table(cls="figures"):
        tags.tr(*(tags.th(text) for text in ("", "n", *table.titles())))
        for label in table.rows:
            tags.tr(*(tags.td(text) for text in (label, str(table.count(label)), *table.texts(label))))


def _clip_card(directory: Path, clip: ClipView) -> None:
    from dominate import tags

    with tags.section(cls="card"):
        tags.h2(clip.name)
        for remark in clip.remarks:
            tags.p(remark, cls="say")
        _definitions(clip.facts)
        with tags.div(cls="curves"):
            for picture in clip.curves:
                tags.img(src=_link(directory, picture), alt="figures over the frames", loading="lazy")
        for row in clip.frames:
            with tags.div(cls="curves"):
                for caption, picture in row.items():
                    with tags.figure():
                        tags.img(src=_link(directory, picture), alt=caption, loading="lazy")
                        tags.figcaption(caption)


def _definitions(facts: Mapping[str, str]) -> None:
    from dominate import tags

    with tags.dl():
        for name, value in facts.items():
            tags.dt(name)
            tags.dd(value)


def _unpiped(text: str) -> str:
    return text.replace("|", "\\|")


def _latex(text: str) -> str:
    return "".join(_LATEX_SIGNS.get(character, character) for character in text)
