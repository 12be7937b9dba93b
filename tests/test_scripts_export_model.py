"""Packing a trained model: half precision on disk, the same picture to the eye, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.av_model import AvModel
from options.config import NetworkConfig
from scripts import export_model
from tests.conftest import write_tiny_model
from util.errors import CheckpointError


def test_exported_model_is_half_as_large_and_loads(tmp_path: Path):
    source = write_tiny_model(tmp_path / "trained")
    assert export_model.main(["--source", str(source), "--output", str(tmp_path / "packed")]) == 0
    for letter in ("G", "V", "E", "A_sync"):
        name = f"latest_net_{letter}.pth"
        before = torch.load(source / name, weights_only=True)
        after = torch.load(tmp_path / "packed" / name, weights_only=True)
        assert before.keys() == after.keys()
        for key, tensor in before.items():
            if tensor.is_floating_point():
                assert after[key].dtype == torch.float16
                torch.testing.assert_close(after[key].float(), tensor, rtol=1e-3, atol=1e-6)
    sizes = NetworkConfig.from_file(tmp_path / "packed" / "network.json")
    model = AvModel.from_checkpoints(tmp_path / "packed", "latest", sizes, torch.device("cpu"))
    assert model.encode_pose(torch.zeros(1, 3, 28, 28)).dtype == torch.float32


def test_missing_weights_are_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = write_tiny_model(tmp_path / "trained")
    (source / "latest_net_E.pth").unlink()
    assert export_model.main(["--source", str(source), "--output", str(tmp_path / "packed")]) == 1
    assert "latest_net_E.pth" in capsys.readouterr().err


def test_values_beyond_half_precision_are_refused(tmp_path: Path):
    source = write_tiny_model(tmp_path / "trained")
    path = source / "latest_net_V.pth"
    state = torch.load(path, weights_only=True)
    state["fc.bias"][0] = 1e6
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"fc\.bias holds values that half precision cannot"):
        export_model.export(source, "latest", tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_source_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = write_tiny_model(tmp_path / "trained")
    before = (source / "latest_net_G.pth").read_bytes()
    assert export_model.main(["--source", str(source), "--output", str(source / ".." / "trained")]) == 2
    assert "is the source, whose weights of full precision would be lost" in capsys.readouterr().err
    assert (source / "latest_net_G.pth").read_bytes() == before
