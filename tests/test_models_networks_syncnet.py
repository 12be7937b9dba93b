"""SyncNet against the published keys and the figures of seeded weights."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.networks.syncnet import SyncNet, published_state
from tests.seeded_weights import fill, seeded_rng
from util.checkpoint import load_network, save_state_dict

GOLDEN = Path(__file__).parent / "golden"
SEED = 1


@pytest.fixture(scope="module")
def network() -> SyncNet:
    network = SyncNet()
    fill(network, SEED)
    return network.eval().requires_grad_(False)


def relative_difference(ours: torch.Tensor, theirs: np.ndarray) -> float:
    return float(np.abs(ours.numpy() - theirs).max() / np.abs(theirs).max())


def test_syncnet_keys_and_shapes_equal_published(network: SyncNet) -> None:
    published = json.loads((GOLDEN / "syncnet_state_dict.json").read_text())
    assert {key: list(tensor.shape) for key, tensor in network.state_dict().items()} == published


def test_embed_lip_with_seeded_weights_equals_reference(network: SyncNet) -> None:
    lip = np.kron(seeded_rng("lip", SEED).random((2, 3, 5, 14, 14)) * 255, np.ones((16, 16)))
    vectors = network.embed_lip(torch.from_numpy(lip.astype(np.float32)))
    reference = np.load(GOLDEN / "evaluation.npz")["syncnet.lip"]
    assert vectors.shape == (2, 1024)
    assert relative_difference(vectors, reference) < 1e-4


def test_embed_audio_with_seeded_weights_equals_reference(network: SyncNet) -> None:
    audio = 10 * seeded_rng("aud", SEED).standard_normal((2, 1, 13, 20))
    vectors = network.embed_audio(torch.from_numpy(audio.astype(np.float32)))
    reference = np.load(GOLDEN / "evaluation.npz")["syncnet.audio"]
    assert vectors.shape == (2, 1024)
    assert relative_difference(vectors, reference) < 1e-4


def without_counters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return OrderedDict((k, v) for k, v in state.items() if not k.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    "saved_as",
    [
        dict,
        lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
        lambda state: {f"module.__S__.{key}": tensor for key, tensor in state.items()},
        without_counters,
    ],
    ids=["plain", "data parallel", "trainer", "before torch 0.4.1"],
)
def test_published_state_of_any_layout_loads_strict(
    network: SyncNet, saved_as: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    fresh = SyncNet()
    fresh.load_state_dict(published_state(saved_as(network.state_dict())), strict=True)
    for key, tensor in network.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], tensor), key


def test_published_state_of_foreign_weights_raises() -> None:
    with pytest.raises(KeyError, match=r"not weights of SyncNet: no netcnnaud\.0\.weight among 1 keys"):
        published_state({"conv1.weight": torch.zeros(1)})


def test_load_state_dict_with_key_missing_raises(network: SyncNet) -> None:
    state = published_state(network.state_dict())
    del state["netfclip.3.bias"]
    with pytest.raises(RuntimeError, match=r"netfclip\.3\.bias"):
        SyncNet().load_state_dict(state)


def test_load_network_reads_syncnet_file(network: SyncNet, tmp_path: Path) -> None:
    path = tmp_path / "syncnet_v2.model"
    save_state_dict(network.state_dict(), path)
    fresh = SyncNet()
    assert load_network(fresh, path) == []
    assert torch.equal(fresh.netfclip[3].weight, network.netfclip[3].weight)
