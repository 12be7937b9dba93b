"""Tables in every format."""

from __future__ import annotations

import math

import pytest

from util.metrics.protocol import METRICS, PROTOCOLS, QUANTITIES
from util.report import Cell, Table, cell_text, latex_table, markdown_table, terminal_table

TABLE = Table(
    ("ssim", "cpbd", "frechet"),
    {
        "own | pose_1": {
            "ssim": Cell(0.8612, 0.0123, 3),
            "cpbd": Cell(0.2, 0.1, 2),
            "frechet": Cell(12.34, math.nan, 3),
        },
        "ground truth": {"ssim": Cell(1.0, 0.0, 3)},
    },
)


def test_cell_is_mean_and_sample_deviation_of_what_is_known() -> None:
    cell = Cell.of([1.0, None, 3.0, math.nan])
    assert cell is not None
    assert (cell.mean, cell.count) == (2.0, 2)
    assert cell.deviation == pytest.approx(math.sqrt(2))
    assert Cell.of([None, math.nan]) is None


def test_cell_of_one_clip_has_no_deviation() -> None:
    cell = Cell.of([0.5])
    assert cell is not None
    assert math.isnan(cell.deviation)
    assert cell_text(cell, QUANTITIES["ssim"], 1) == "0.500"


def test_terminal_table_is_aligned_and_counts_clips() -> None:
    lines = terminal_table(TABLE).splitlines()
    assert lines[0].split() == ["n", "SSIM", "↑", "CPBD", "Fréchet", "↓"]
    cells = [part.strip() for part in lines[2].split("  ") if part]
    assert cells == ["own | pose_1", "3", "0.861 ± 0.012", "0.200 ± 0.100 (2)", "12.3"]
    assert lines[3].split("  ")[-1].strip() == "–"
    assert len(lines[2]) == len(lines[3]) == len(lines[1])


def test_markdown_table_escapes_pipes() -> None:
    lines = markdown_table(TABLE).splitlines()
    assert lines[0] == "|  | n | SSIM ↑ | CPBD | Fréchet ↓ |"
    assert lines[1] == "|---|---:|---:|---:|---:|"
    assert lines[2] == "| own \\| pose_1 | 3 | 0.861 ± 0.012 | 0.200 ± 0.100 (2) | 12.3 |"
    assert lines[3] == "| ground truth | 3 | 1.000 ± 0.000 | – | – |"


def test_latex_table_escapes_and_names_what_is_missing() -> None:
    text = latex_table(TABLE)
    assert text.startswith("\\begin{tabular}{lrrrr}\n\\toprule\n")
    assert r" & $n$ & SSIM $\uparrow$ & CPBD & Fr\'echet $\downarrow$ \\" in text
    assert r"own | pose\_1 & $3$ & $0.861 \pm 0.012$ & $0.200 \pm 0.100 (2)$ & $12.3$ \\" in text
    assert r"ground truth & $3$ & $1.000 \pm 0.000$ & -- & -- \\" in text


def test_protocols_know_their_columns() -> None:
    assert METRICS == ("ssim", "psnr", "cpbd", "lmd", "sync", "model_sync", "identity", "frechet")
    paper = PROTOCOLS["paper"]
    assert paper.quantities(paper.metrics) == ("ssim", "cpbd", "lmd", "lse_c")
    assert paper.quantities(("psnr", "lmd")) == ("lmd", "psnr")
    for protocol in PROTOCOLS.values():
        assert set(protocol.columns) <= set(QUANTITIES)
        assert {QUANTITIES[name].metric for name in protocol.columns} == set(protocol.metrics)
    assert paper.quantities(("lmd", "model_sync")) == ("lmd", "model_sync_c")
    assert PROTOCOLS["modern"].metrics == tuple(metric for metric in METRICS if metric != "model_sync")
    assert list(paper.rules(("sync",))) == ["LSE-C", "LSE-D", "AV offset"]
