"""AvModel: the order of the computation, independence of batches, noise and devices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from models.av_model import AvModel, select_device
from tests.conftest import TINY
from util.errors import CheckpointError


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> AvModel:
    return AvModel.from_checkpoints(tiny_model, "latest", TINY, torch.device("cpu"))


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "references": torch.rand(2, 3, 28, 28, generator=generator) * 2 - 1,
        "pose": torch.rand(7, 3, 28, 28, generator=generator) * 2 - 1,
        "mel": torch.rand(7, 1, 80, 20, generator=generator),
    }


def test_generate_follows_the_published_formula(model: AvModel, inputs: dict[str, torch.Tensor]) -> None:
    nets = model.networks
    with torch.inference_mode():
        vector, identity_map = nets["V"](inputs["references"][None])
        mouth = nets["E"].mouth_embed(1.2 * nets["A_sync"](inputs["mel"]))
        pose = nets["E"].headpose_embed(nets["E"].to_headpose(nets["E"](inputs["pose"])))
        style = torch.cat([vector.expand(7, -1), mouth, pose], dim=1)
        expected = nets["G"](identity_map.expand(7, -1, -1, -1), style, nets["G"].stored_noise())
    identity = model.encode_identity(inputs["references"])
    noise = model.noise_for("stored", 0, range(7))
    image = model.generate(identity, model.encode_speech(inputs["mel"]), model.encode_pose(inputs["pose"]), noise)
    assert image.shape == (7, 3, 28, 28)
    assert torch.allclose(image, expected, atol=1e-5)


def test_heads_of_another_class_count_are_zero_and_change_no_frame(
    tiny_model: Path, model: AvModel, inputs: dict[str, torch.Tensor]
) -> None:
    config = dataclasses.replace(TINY, num_classes=9)
    other = AvModel.from_checkpoints(tiny_model, "latest", config, torch.device("cpu"))
    head = other.networks["V"].state_dict()["fc.weight"]
    assert head.shape[0] == 9
    assert not head.any()
    assert torch.equal(other.encode_pose(inputs["pose"]), model.encode_pose(inputs["pose"]))
    assert torch.equal(other.encode_speech(inputs["mel"]), model.encode_speech(inputs["mel"]))


def test_frames_are_the_same_bits_in_any_batch(model: AvModel, inputs: dict[str, torch.Tensor]) -> None:
    identity = model.encode_identity(inputs["references"])

    def run(size: int) -> torch.Tensor:
        parts = []
        for start in range(0, 7, size):
            stop = min(start + size, 7)
            noise = model.noise_for("random", 5, range(start, stop))
            mouth, pose = model.encode_speech(inputs["mel"][start:stop]), model.encode_pose(inputs["pose"][start:stop])
            parts.append(model.generate(identity, mouth, pose, noise))
        return torch.cat(parts)

    whole = run(7)
    for size in (1, 2, 3):
        assert torch.equal(run(size), whole)


def test_random_noise_depends_on_seed_and_frame_only(model: AvModel) -> None:
    together = model.noise_for("random", 3, [4, 9])
    alone = model.noise_for("random", 3, [9])
    assert together is not None
    assert alone is not None
    assert [layer.shape[-1] for layer in alone] == [7, 14, 14, 28, 28]
    assert all(torch.equal(a[1:], b) for a, b in zip(together, alone, strict=True))
    assert not torch.equal(together[0][0], together[0][1])
    other_seed = model.noise_for("random", 4, [9])
    assert other_seed is not None
    assert not torch.equal(other_seed[0], alone[0])
    values = torch.cat([layer.flatten() for layer in model.noise_for("random", 0, range(20)) or []])
    assert abs(values.mean().item()) < 0.02
    assert values.std().item() == pytest.approx(1, abs=0.02)


def test_no_noise_is_none(model: AvModel) -> None:
    assert model.noise_for("none", 0, [0]) is None


def test_without_identity_map_the_constant_is_the_start(model: AvModel, inputs: dict[str, torch.Tensor]) -> None:
    mouth, pose = model.encode_speech(inputs["mel"]), model.encode_pose(inputs["pose"])
    with_map = model.generate(model.encode_identity(inputs["references"]), mouth, pose)
    identity = model.encode_identity(inputs["references"], use_map=False)
    assert identity.map is None
    image = model.generate(identity, mouth, pose)
    assert image.shape == with_map.shape
    assert (image - with_map).abs().max() > 1e-3


def test_bf16_is_close_to_fp32(tiny_model: Path, model: AvModel, inputs: dict[str, torch.Tensor]) -> None:
    half = AvModel.from_checkpoints(tiny_model, "latest", TINY, torch.device("cpu"), "bf16")
    images = []
    for candidate in (model, half):
        identity = candidate.encode_identity(inputs["references"])
        mouth, pose = candidate.encode_speech(inputs["mel"]), candidate.encode_pose(inputs["pose"])
        images.append(candidate.generate(identity, mouth, pose))
    assert images[1].dtype == torch.float32
    assert 1e-5 < (images[0] - images[1]).abs().mean() < 0.02


def test_inference_changes_no_weight(model: AvModel) -> None:
    assert not any(network.training for network in model.networks.values())
    assert not any(p.requires_grad for network in model.networks.values() for p in network.parameters())


def test_missing_weights_raise_before_any_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing weights latest_net_G.pth, latest_net_V.pth, latest_net_E.pth"):
        AvModel.from_checkpoints(tmp_path, "latest", TINY, torch.device("cpu"))


def test_minus_one_is_the_cpu_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert select_device((-1,)) == torch.device("cpu")
    assert caplog.text == ""


def test_gpu_without_cuda_falls_back_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device((0, 1)) == torch.device("cpu")
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "CUDA is not available" in caplog.text


def test_ranks_take_the_gpus_in_turn(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [select_device((0, 1), rank, several=True).index for rank in range(3)] == [0, 1, 0]
    assert [select_device((0,), rank, several=True).index for rank in range(3)] == [0, 1, 0]
    assert caplog.text == ""
    assert select_device((5,)).index == 0
    assert "only 2 GPUs" in caplog.text
    assert select_device((1, 0)).index == 1
    assert "one process uses one GPU, 1; for all of them: torchrun" in caplog.text
