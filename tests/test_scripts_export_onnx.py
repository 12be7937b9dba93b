"""The command of the ONNX export: what it prints, and its exit codes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts import export_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"


def test_bundled_model_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Its V has another stride than the published one."""
    flags = ["--checkpoints_dir", str(CHECKPOINTS), "--name", "synthetic", "--output", str(tmp_path)]
    assert export_onnx.main(flags) == 0
    printed = capsys.readouterr().out
    assert printed.count("ok  ") == 5
    assert "4 files" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"V.onnx", "E.onnx", "A_sync.onnx", "G.onnx"}
    weights = sum(path.stat().st_size for path in (CHECKPOINTS / "synthetic").glob("*.pth"))  # in half precision
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * weights


def test_difference_beyond_the_tolerance_fails(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    flags = ["--checkpoints_dir", str(tiny_model.parent), "--name", "tiny", "--output", str(tmp_path)]
    assert export_onnx.main([*flags, "--tolerance", "1e-12"]) == 1
    assert "MISS G.onnx" in capsys.readouterr().out


def test_missing_weights_packages_and_options_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    flags = ["--checkpoints_dir", str(tmp_path), "--name", "none", "--output", str(tmp_path / "onnx")]
    assert export_onnx.main(flags) == 1
    assert "missing weights latest_net_G.pth" in capsys.readouterr().err
    assert export_onnx.main(flags[:4]) == 2
    assert "required: --output" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "models.onnx_graphs", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export_onnx.main(flags) == 2
    assert "onnxruntime is missing: pip install onnx onnxruntime" in capsys.readouterr().err
