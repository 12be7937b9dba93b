"""First and last losses of a log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.compare_losses import first_and_last, main


def test_first_and_last_are_means_of_a_tenth():
    assert first_and_last([5.0]) == (5.0, 5.0)
    assert first_and_last(list(range(20))) == (0.5, 18.5)


def test_table_names_run_and_loss(tmp_path: Path, capsys: pytest.CaptureFixture):
    lines = [{"step": step, "epoch": 0.1, "loss/G/gan": 1.0 / step, "lr": 1e-3} for step in (1, 2, 4)]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "loss_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main([str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["run", "G/gan", "1.0000", "0.2500"]


def test_missing_log_is_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([str(tmp_path)]) == 1
    assert "loss_log.jsonl" in capsys.readouterr().err
