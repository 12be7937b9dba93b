"""The probe's shapes, sizes and invariances."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.networks.probe import IDENTITY_DIM, QUANTITIES, Probe
from util.checkpoint import save_state_dict


@pytest.fixture(scope="module")
def probe() -> Probe:
    torch.manual_seed(0)
    return Probe().eval().requires_grad_(False)


@pytest.mark.parametrize("size", [112, 128, 192, 224])
def test_probe_reads_every_quantity_at_any_size(probe: Probe, size: int) -> None:
    readings = probe(torch.rand(3, 3, size, size) * 2 - 1)
    assert list(readings) == [*QUANTITIES, "identity"]
    assert all(readings[name].shape == (3,) for name in QUANTITIES)
    assert readings["identity"].shape == (3, IDENTITY_DIM)
    assert torch.allclose(readings["identity"].norm(dim=1), torch.ones(3), atol=1e-5)


def test_probe_enlarged_frame_reads_like_the_small_one(probe: Probe) -> None:
    small = torch.rand(2, 3, 112, 112) * 2 - 1
    large = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    for name, value in probe(small).items():
        torch.testing.assert_close(probe(large)[name], value, atol=1e-4, rtol=1e-4)


def test_probe_readings_do_not_depend_on_the_batch(probe: Probe) -> None:
    frames = torch.rand(4, 3, 112, 112) * 2 - 1
    torch.testing.assert_close(probe(frames)["yaw"][2:3], probe(frames[2:3])["yaw"], atol=1e-3, rtol=1e-4)


def test_probe_outputs_are_scaled_to_their_units(probe: Probe) -> None:
    assert probe.scales.tolist() == pytest.approx([12.0, 7.0, 4.5, 0.3, 0.45, 0.3])
    assert "scales" not in probe.state_dict()


def test_probe_file_in_half_precision_stays_below_one_and_a_half_megabytes(probe: Probe, tmp_path: Path) -> None:
    save_state_dict({key: value.half() for key, value in probe.state_dict().items()}, tmp_path / "probe.pth")
    assert 300_000 < sum(p.numel() for p in probe.parameters()) < 600_000
    assert (tmp_path / "probe.pth").stat().st_size < 1_500_000
