"""Packing a trained model: half precision on disk, the same picture to the eye, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.av_model import AvModel
from models.registry import OPTIONAL_HEADS
from scripts import export_model
from tests.conftest import write_tiny_model


def test_exported_model_is_half_as_large_and_loads(tmp_path: Path):
    source = write_tiny_model(tmp_path / "trained")
    assert export_model.main(["--source", str(source), "--output", str(tmp_path / "packed")]) == 0
    for letter in ("G", "V", "E", "A_sync"):
        name = f"latest_net_{letter}.pth"
        before = torch.load(source / name, weights_only=True)
        after = torch.load(tmp_path / "packed" / name, weights_only=True)
        assert {key for key in before if not key.startswith(OPTIONAL_HEADS[letter])} == after.keys()
        for key, tensor in before.items():
            if key in after and tensor.is_floating_point():
                assert after[key].dtype == torch.float16
                torch.testing.assert_close(after[key].float(), tensor, rtol=1e-3, atol=1e-6)
        assert (tmp_path / "packed" / name).stat().st_size < 0.75 * (source / name).stat().st_size
    frame = torch.full((1, 3, 28, 28), 0.3)
    packed, trained = (AvModel.from_checkpoints(folder).encode_pose(frame) for folder in (tmp_path / "packed", source))
    assert 0 < (packed - trained).abs().max() < 1e-2


def test_missing_weights_are_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = write_tiny_model(tmp_path / "trained")
    (source / "latest_net_E.pth").unlink()
    assert export_model.main(["--source", str(source), "--output", str(tmp_path / "packed")]) == 1
    assert "latest_net_E.pth" in capsys.readouterr().err


def test_values_beyond_half_precision_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = write_tiny_model(tmp_path / "trained")
    path = source / "latest_net_V.pth"
    state = torch.load(path, weights_only=True)
    state["conv1x1.bias"][0] = 1e6
    torch.save(state, path)
    assert export_model.main(["--source", str(source), "--output", str(tmp_path / "packed")]) == 1
    assert "conv1x1.bias holds values that half precision cannot" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()


def test_source_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = write_tiny_model(tmp_path / "trained")
    before = (source / "latest_net_G.pth").read_bytes()
    assert export_model.main(["--source", str(source), "--output", str(source / ".." / "trained")]) == 2
    assert "is the source, whose weights of full precision would be lost" in capsys.readouterr().err
    assert (source / "latest_net_G.pth").read_bytes() == before
