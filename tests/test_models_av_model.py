"""AvModel: the order of the computation, independence of batches, noise and devices."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from models import av_model
from models.av_model import AvModel, load_networks, select_device
from models.cuda_graphs import CudaGraphs
from models.fast.inference import FastConv2d, FastGenerator
from tests.conftest import TINY, write_tiny_model
from util.checkpoint import read_state_dict, save_state_dict
from util.errors import CheckpointError, MediaError
from util.images import tensor_to_uint8, to_uint8, to_unit_range


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


def test_generate_follows_the_published_formula(
    tiny_model: Path, model: AvModel, inputs: dict[str, torch.Tensor]
) -> None:
    """In the fast form of the CPU, as the plain networks do."""
    nets: dict[str, Any] = {
        letter: network.eval() for letter, network in load_networks(tiny_model, "latest", TINY).items()
    }
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


def test_tf32_is_fp32_on_the_cpu(tiny_model: Path, model: AvModel) -> None:
    other = AvModel.from_checkpoints(tiny_model, "latest", TINY, torch.device("cpu"), "tf32")
    assert np.array_equal(_pictures(other, _cues(2)), _pictures(model, _cues(2)))


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


@dataclass(frozen=True)
class Cue:
    """See models.av_model.Cue."""

    frame: int
    mel: np.ndarray
    pose_index: int
    pose: np.ndarray | None


def _cues(count: int = 11, poses: int = 5, with_pictures: bool = True) -> list[Cue]:
    rng = np.random.default_rng(7)
    pictures = rng.integers(0, 256, (poses, 28, 28, 3), dtype=np.uint8)
    return [
        Cue(
            frame,
            rng.random((1, 80, 20), np.float32),
            frame % poses,
            pictures[frame % poses] if with_pictures else None,
        )
        for frame in range(count)
    ]


def _pictures(model: AvModel, cues: list[Cue], **options: object) -> np.ndarray:
    identity = model.encode_identity(torch.full((1, 3, 28, 28), 0.3))
    made = list(model.stream(identity, cues, **options))  # type: ignore[arg-type]
    assert [cue for cue, _ in made] == cues
    return np.stack([picture for _, picture in made])


def _noisy(directory: Path) -> Path:
    """The tiny model with noise that is seen."""
    write_tiny_model(directory, TINY)
    state = read_state_dict(directory / "latest_net_G.pth")
    louder = {key: value + 0.5 if key.endswith("noise.weight") else value.clone() for key, value in state.items()}
    save_state_dict(louder, directory / "latest_net_G.pth")
    return directory


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> AvModel:
    directory = _noisy(tmp_path_factory.mktemp("noisy"))
    return AvModel.from_checkpoints(directory, "latest", TINY, torch.device("cpu"))


def test_stream_gives_the_pictures_of_generate(noisy: AvModel) -> None:
    cues = _cues()
    identity = noisy.encode_identity(torch.full((1, 3, 28, 28), 0.3))
    pose = noisy.encode_pose(
        torch.from_numpy(np.stack([to_unit_range(cue.pose) for cue in cues if cue.pose is not None]))
    )
    mouth = noisy.encode_speech(torch.from_numpy(np.stack([cue.mel for cue in cues])))
    images = noisy.generate(identity, mouth, pose, noisy.noise_for("random", 3, [cue.frame for cue in cues]))
    streamed = _pictures(noisy, cues, seed=3, ahead=4)
    assert streamed.dtype == np.uint8
    assert np.array_equal(streamed, np.stack([to_uint8(image) for image in images.numpy()]))
    assert len({picture.tobytes() for picture in streamed}) == len(cues)


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_frames_do_not_depend_on_how_far_ahead_cues_are_taken(noisy: AvModel, ahead: int) -> None:
    assert np.array_equal(_pictures(noisy, _cues(), ahead=ahead), _pictures(noisy, _cues()))


def test_frames_do_not_depend_on_the_number_of_workers(tiny_model: Path, model: AvModel) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        several = AvModel.from_checkpoints(tiny_model, "latest", TINY, torch.device("cpu"))
        assert np.array_equal(_pictures(several, _cues(40), ahead=20), _pictures(model, _cues(40)))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_frames_of_the_way_a_gpu_is_used_are_the_same(tiny_model: Path, model: AvModel) -> None:
    """Pieces of eight, filled up; one worker at a time; graphs that cannot be made: all but the card."""
    other = AvModel.from_checkpoints(tiny_model, "latest", TINY, torch.device("cpu"))
    other._piece, other._one_at_a_time, other._graphs = av_model._GPU_PIECE, threading.Lock(), CudaGraphs()
    expected = _pictures(model, _cues(19)).astype(int)
    for ahead in (0, 1, 16):
        assert np.abs(_pictures(other, _cues(19), ahead=ahead) - expected).max() <= 1
    assert np.array_equal(_pictures(other, _cues(19), ahead=1), _pictures(other, _cues(19), ahead=24))


def test_cuda_graphs_without_cuda_call_the_function() -> None:
    calls = []

    def double(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return 2 * x

    graphs = CudaGraphs()
    for value in (1.0, 2.0, 3.0):
        assert torch.equal(graphs(double, [torch.full((2,), value)]), torch.full((2,), 2 * value))
    assert len(calls) == 3


def test_cuda_graphs_failed_capture_gives_the_stream_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that is acted: capture fails, and whoever goes on does so on the stream that was current before."""
    current, given_back = MagicMock(name="current"), []

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    for name, value in {
        "CUDAGraph": MagicMock(), "Stream": MagicMock(), "stream": lambda _: contextlib.nullcontext(),
        "current_stream": lambda: current, "graph": refuse, "set_stream": given_back.append,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    graphs, double = CudaGraphs(), lambda x: 2 * x
    for value in (1.0, 2.0, 3.0):
        assert torch.equal(graphs(double, [torch.full((2,), value)]), torch.full((2,), 2 * value))
    assert given_back == [current]


def test_live_frame_comes_before_the_next_cue_is_asked_for(model: AvModel) -> None:
    asked = []

    def arriving() -> Iterator[Cue]:
        for cue in _cues(4):
            asked.append(cue.frame)
            yield cue

    identity = model.encode_identity(torch.zeros(1, 3, 28, 28))
    for cue, picture in model.stream(identity, arriving()):
        assert asked[-1] == cue.frame
        assert picture.shape == (28, 28, 3)


def test_only_so_many_cues_are_taken_ahead(model: AvModel) -> None:
    asked = []

    def arriving() -> Iterator[Cue]:
        for cue in _cues(30):
            asked.append(cue.frame)
            yield cue

    identity = model.encode_identity(torch.zeros(1, 3, 28, 28))
    stream = model.stream(identity, arriving(), ahead=5)
    for count in range(1, 10):
        next(stream)
        assert len(asked) <= count + 5
    stream.close()
    assert len(asked) < 20


def test_each_pose_picture_is_encoded_once_until_it_is_forgotten(
    model: AvModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = 0
    original: Callable[..., torch.Tensor] = model._pose_codes

    def counted(images: torch.Tensor) -> torch.Tensor:
        nonlocal encoded
        encoded += len(images)
        return original(images)

    monkeypatch.setattr(model, "_pose_codes", counted)
    frames = _pictures(model, _cues(20, poses=5), ahead=3)
    assert encoded == 5
    monkeypatch.setattr(av_model, "_POSES_KEPT", 2)
    assert np.array_equal(_pictures(model, _cues(20, poses=5), ahead=3), frames)
    assert encoded == 5 + 20


def test_cues_without_a_picture_take_the_fixed_pose(model: AvModel) -> None:
    cues, alike = _cues(3, poses=1), _cues(3, poses=1, with_pictures=False)
    assert cues[0].pose is not None
    fixed = model.encode_pose(torch.from_numpy(to_unit_range(cues[0].pose))[None])
    assert np.array_equal(_pictures(model, alike, fixed_pose=fixed), _pictures(model, cues))


def test_noise_is_not_drawn_for_a_generator_without_noise_weights(
    model: AvModel, noisy: AvModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    original = AvModel.noise_for
    monkeypatch.setattr(AvModel, "noise_for", lambda *arguments: drawn.append(1) or original(*arguments))
    _pictures(model, _cues(3))
    assert drawn == []
    _pictures(noisy, _cues(3))
    assert len(drawn) == 3


def test_nan_is_an_error_when_its_frame_is_due(model: AvModel) -> None:
    cues = _cues(6)
    cues[3].mel[:] = np.nan
    identity = model.encode_identity(torch.zeros(1, 3, 28, 28))
    made = []
    with pytest.raises(MediaError, match="frame 3: the networks gave NaN or infinity; are the weights damaged"):
        for cue, _ in model.stream(identity, cues, ahead=6):
            made.append(cue.frame)
    assert made == [0, 1, 2]


def test_error_of_a_pose_reaches_every_frame_that_waits_for_it(model: AvModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(images: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such face")

    monkeypatch.setattr(model, "_pose_codes", refuse)
    identity = model.encode_identity(torch.zeros(1, 3, 28, 28))
    with pytest.raises(ValueError, match="no such face"):
        list(model.stream(identity, _cues(8, poses=1), ahead=8))
    assert model.encode_speech(torch.zeros(1, 1, 80, 20)).shape == (1, 28)  # the workers go on


def test_broken_cue_keeps_nobody_waiting_for_its_pose(model: AvModel) -> None:
    cues = _cues(8, poses=1)
    cues[0] = dataclasses.replace(cues[0], mel="no array")  # type: ignore[arg-type]
    identity = model.encode_identity(torch.zeros(1, 3, 28, 28))
    with pytest.raises(TypeError):
        list(model.stream(identity, cues, ahead=8))
    assert model.encode_speech(torch.zeros(1, 1, 80, 20)).shape == (1, 28)  # the workers go on


def test_stream_that_is_closed_keeps_nobody_waiting(model: AvModel) -> None:
    identity = model.encode_identity(torch.zeros(1, 3, 28, 28))
    for _ in range(10):
        stream = model.stream(identity, _cues(30, poses=2), ahead=20)
        next(stream)
        stream.close()
    assert model.encode_speech(torch.zeros(1, 1, 80, 20)).shape == (1, 28)


def test_error_of_the_cues_ends_the_stream(model: AvModel) -> None:
    def breaking() -> Iterator[Cue]:
        yield from _cues(2)
        raise MediaError("the microphone is gone")

    identity = model.encode_identity(torch.zeros(1, 3, 28, 28))
    with pytest.raises(MediaError, match="the microphone is gone"):
        list(model.stream(identity, breaking(), ahead=5))


def test_pictures_are_truncated_like_arrays() -> None:
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(1)) * 2.4 - 1.2
    images[0, 0, 0, :3] = torch.tensor([-1.0, 1.0, 0.0])
    for layout in (torch.contiguous_format, torch.channels_last):
        pictures = tensor_to_uint8(images.contiguous(memory_format=layout)).numpy()
        assert pictures.flags.c_contiguous
        assert np.array_equal(pictures, np.stack([to_uint8(image) for image in images.numpy()]))


@pytest.mark.parametrize(("precision", "is_fast"), [("fp32", True), ("bf16", False)])
def test_fast_forms_run_in_single_precision_on_the_cpu(tiny_model: Path, precision: str, is_fast: bool) -> None:
    made = AvModel.from_checkpoints(tiny_model, "latest", TINY, torch.device("cpu"), precision)
    assert isinstance(made.networks["G"], FastGenerator) is is_fast
    for letter in ("E", "A_sync"):
        kinds = {type(module) for module in made.networks[letter].modules()}
        assert (FastConv2d in kinds) is is_fast


def test_networks_are_built_without_drawing_weights(tiny_model: Path) -> None:
    before = torch.get_rng_state()
    networks = load_networks(tiny_model, "latest", TINY)
    assert torch.equal(torch.get_rng_state(), before)
    for letter, network in networks.items():
        stored = read_state_dict(tiny_model / f"latest_net_{letter}.pth")
        assert all(torch.equal(network.state_dict()[key], value) for key, value in stored.items())
