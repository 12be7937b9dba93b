"""Loading the networks of inference: no weight is drawn, and only the heads of training may differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from models.loading import load_networks
from tests.conftest import TINY
from util.checkpoint import read_state_dict
from util.errors import CheckpointError


def test_networks_hold_the_files_and_no_weight_is_drawn(tiny_model: Path) -> None:
    before = torch.get_rng_state()
    networks = load_networks(tiny_model, "latest", TINY)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(networks) == ["G", "V", "E", "A_sync"]
    for letter, network in networks.items():
        stored, loaded = read_state_dict(tiny_model / f"latest_net_{letter}.pth"), network.state_dict()
        assert loaded.keys() == stored.keys()
        assert all(torch.equal(loaded[key], value) for key, value in stored.items())


def test_heads_of_another_class_count_are_zero_and_all_else_is_loaded(tiny_model: Path) -> None:
    networks: dict[str, Any] = load_networks(tiny_model, "latest", dataclasses.replace(TINY, num_classes=9))
    assert networks["V"].fc.weight.shape[0] == 9
    assert not networks["V"].fc.weight.any()
    stored = read_state_dict(tiny_model / "latest_net_E.pth")
    assert torch.equal(networks["E"].to_mouth[0].weight, stored["to_mouth.0.weight"])


def test_other_sizes_are_refused(tiny_model: Path) -> None:
    with pytest.raises(CheckpointError, match=r"latest_net_E.pth: .* is \[\d+.*\] in the file and \[\d+"):
        load_networks(tiny_model, "latest", dataclasses.replace(TINY, hourglass_channels=32))
