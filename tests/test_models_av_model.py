"""AvModel: the order of the computation, independence of batches, noise, precisions, and a GPU where there is one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.av_model import AvModel
from models.fast.inference import FastConv2d, FastGenerator
from models.loading import load_networks
from tests.conftest import TINY, write_tiny_model
from tests.numbered_cues import NumberedCue, make_cues
from util.checkpoint import read_state_dict, save_state_dict
from util.errors import CheckpointError, MediaError
from util.images import to_uint8, to_unit_range


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> AvModel:
    return AvModel.from_checkpoints(tiny_model)


@pytest.fixture(scope="module")
def noisy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with noise that is seen."""
    directory = write_tiny_model(tmp_path_factory.mktemp("noisy"), TINY)
    state = read_state_dict(directory / "latest_net_G.pth")
    louder = {key: value + 0.5 if key.endswith("noise.weight") else value.clone() for key, value in state.items()}
    save_state_dict(louder, directory / "latest_net_G.pth")
    return directory


@pytest.fixture(scope="module")
def noisy(noisy_folder: Path) -> AvModel:
    return AvModel.from_checkpoints(noisy_folder)


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "references": torch.rand(2, 3, 28, 28, generator=generator) * 2 - 1,
        "pose": torch.rand(7, 3, 28, 28, generator=generator) * 2 - 1,
        "mel": torch.rand(7, 1, 80, 20, generator=generator),
    }


def streamed(model: AvModel, cues: list[NumberedCue], **options: Any) -> np.ndarray:
    """(B, 28, 28, 3) uint8, what `stream` makes of one person."""
    identity = model.encode_identity(torch.full((1, 3, 28, 28), 0.3))
    made = list(model.stream(identity, cues, **options))
    assert [cue for cue, _ in made] == cues
    return np.stack([picture for _, picture in made])


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
        noise = nets["G"].stored_noise()
        expected = nets["G"](identity_map.expand(7, -1, -1, -1), style, noise)
        expected_without_map = nets["G"](None, style, noise)
    codes = model.encode_speech(inputs["mel"]), model.encode_pose(inputs["pose"])
    stored = model.noise_for("stored", 0, range(7))
    image = model.generate(model.encode_identity(inputs["references"]), *codes, stored)
    assert image.shape == (7, 3, 28, 28)
    assert torch.allclose(image, expected, atol=1e-5)
    without_map = model.generate(model.encode_identity(inputs["references"], use_map=False), *codes, stored)
    assert torch.allclose(without_map, expected_without_map, atol=1e-5)
    assert (without_map - image).abs().max() > 1e-3


def test_frames_are_the_same_bits_in_any_batch(noisy: AvModel, inputs: dict[str, torch.Tensor]) -> None:
    identity = noisy.encode_identity(inputs["references"])

    def run(size: int) -> torch.Tensor:
        parts = []
        for start in range(0, 7, size):
            stop = min(start + size, 7)
            noise = noisy.noise_for("random", 5, range(start, stop))
            mouth, pose = noisy.encode_speech(inputs["mel"][start:stop]), noisy.encode_pose(inputs["pose"][start:stop])
            parts.append(noisy.generate(identity, mouth, pose, noise))
        return torch.cat(parts)

    whole = run(7)
    for size in (1, 2, 3):
        assert torch.equal(run(size), whole)


def test_random_noise_depends_on_seed_and_frame_only(model: AvModel) -> None:
    together = model.noise_for("random", 3, [4, 9])
    alone = model.noise_for("random", 3, [9])
    assert together is not None
    assert alone is not None
    assert [layer.shape for layer in together] == [(2, 1, side, side) for side in (7, 14, 14, 28, 28)]
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


def test_bf16_is_close_to_fp32(tiny_model: Path, model: AvModel, inputs: dict[str, torch.Tensor]) -> None:
    half = AvModel.from_checkpoints(tiny_model, precision="bf16")
    images = []
    for candidate in (model, half):
        identity = candidate.encode_identity(inputs["references"])
        mouth, pose = candidate.encode_speech(inputs["mel"]), candidate.encode_pose(inputs["pose"])
        images.append(candidate.generate(identity, mouth, pose))
    assert images[1].dtype == torch.float32
    assert 1e-5 < (images[0] - images[1]).abs().mean() < 0.02


def test_tf32_is_fp32_on_the_cpu(tiny_model: Path, model: AvModel) -> None:
    other = AvModel.from_checkpoints(tiny_model, precision="tf32")
    assert np.array_equal(streamed(other, make_cues(2)), streamed(model, make_cues(2)))


def test_networks_are_in_eval_mode_and_without_gradients(model: AvModel) -> None:
    assert set(model.networks) == {"G", "V", "E", "A_sync"}
    assert not any(module.training for network in model.networks.values() for module in network.modules())
    assert not any(p.requires_grad for network in model.networks.values() for p in network.parameters())


@pytest.mark.parametrize(("precision", "is_fast"), [("fp32", True), ("bf16", False)])
def test_fast_forms_run_in_single_precision_on_the_cpu(tiny_model: Path, precision: str, is_fast: bool) -> None:
    made = AvModel.from_checkpoints(tiny_model, precision=precision)
    assert isinstance(made.networks["G"], FastGenerator) is is_fast
    for letter in ("E", "A_sync"):
        kinds = {type(module) for module in made.networks[letter].modules()}
        assert (FastConv2d in kinds) is is_fast


def test_sizes_that_are_given_count_more_than_those_in_the_folder(tiny_model: Path) -> None:
    assert AvModel.from_checkpoints(tiny_model).networks["V"].fc.out_features == TINY.num_classes
    given = AvModel.from_checkpoints(tiny_model, config=dataclasses.replace(TINY, num_classes=9))
    assert given.networks["V"].fc.out_features == 9


def test_missing_weights_raise_before_any_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing weights latest_net_G.pth, latest_net_V.pth, latest_net_E.pth"):
        AvModel.from_checkpoints(tmp_path)


def test_stream_gives_the_pictures_of_generate(noisy: AvModel) -> None:
    cues = make_cues(11)
    identity = noisy.encode_identity(torch.full((1, 3, 28, 28), 0.3))
    poses = np.stack([to_unit_range(cue.pose) for cue in cues if cue.pose is not None])
    pose, mouth = noisy.encode_pose(torch.from_numpy(poses)), np.stack([cue.mel for cue in cues])
    noise = noisy.noise_for("random", 3, [cue.frame for cue in cues])
    images = noisy.generate(identity, noisy.encode_speech(torch.from_numpy(mouth)), pose, noise)
    pictures = streamed(noisy, cues, seed=3, ahead=4)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, np.stack([to_uint8(image) for image in images.numpy()]))
    assert len({picture.tobytes() for picture in pictures}) == len(cues)


@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_frames_do_not_depend_on_how_far_ahead_cues_are_taken(noisy: AvModel, ahead: int) -> None:
    assert np.array_equal(streamed(noisy, make_cues(11), ahead=ahead), streamed(noisy, make_cues(11)))


def test_frames_do_not_depend_on_the_number_of_workers(tiny_model: Path, model: AvModel) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        several = AvModel.from_checkpoints(tiny_model)
        assert np.array_equal(streamed(several, make_cues(40), ahead=20), streamed(model, make_cues(40)))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_each_pose_picture_is_encoded_once(model: AvModel) -> None:
    encoded = []
    hook = model.networks["E"].register_forward_hook(lambda module, given, output: encoded.append(len(given[0])))
    try:
        streamed(model, make_cues(20, poses=5), ahead=3)
    finally:
        hook.remove()
    assert sum(encoded) == 5


def test_cues_without_a_picture_take_the_fixed_pose(model: AvModel) -> None:
    cues = make_cues(3, poses=1)
    assert cues[0].pose is not None
    fixed = model.encode_pose(torch.from_numpy(to_unit_range(cues[0].pose))[None])
    without = [dataclasses.replace(cue, pose=None) for cue in cues]
    assert np.array_equal(streamed(model, without, fixed_pose=fixed), streamed(model, cues))


def test_noise_is_not_drawn_for_a_generator_without_noise_weights(
    model: AvModel, noisy: AvModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    original = AvModel.noise_for
    monkeypatch.setattr(AvModel, "noise_for", lambda *arguments: drawn.append(1) or original(*arguments))
    streamed(model, make_cues(3))
    assert drawn == []
    streamed(noisy, make_cues(3))
    assert len(drawn) == 3


def test_nan_is_an_error_when_its_frame_is_due(model: AvModel) -> None:
    cues = make_cues(6)
    cues[3].mel[:] = np.nan
    identity = model.encode_identity(torch.zeros(1, 3, 28, 28))
    made = []
    with pytest.raises(MediaError, match=r"frame 3: the networks gave NaN or infinity; are the weights damaged\?$"):
        for cue, _ in model.stream(identity, cues, ahead=6):
            made.append(cue.frame)
    assert made == [0, 1, 2]


def test_nan_in_half_precision_names_the_flag(tiny_model: Path) -> None:
    cues = make_cues(1)
    cues[0].mel[:] = np.nan
    with pytest.raises(MediaError, match=r"are the weights damaged\?; try --precision fp32"):
        streamed(AvModel.from_checkpoints(tiny_model, precision="bf16"), cues)


def test_broken_cue_keeps_nobody_waiting_for_its_pose(model: AvModel) -> None:
    cues = make_cues(8, poses=1)
    cues[0] = dataclasses.replace(cues[0], mel="no array")
    with pytest.raises(TypeError):
        streamed(model, cues, ahead=8)
    assert len(streamed(model, make_cues(2))) == 2  # the workers go on


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_frames_of_a_gpu_are_those_of_the_cpu(noisy_folder: Path, noisy: AvModel, precision: str) -> None:
    on_gpu = AvModel.from_checkpoints(noisy_folder, device="cuda", precision=precision)
    expected = streamed(noisy, make_cues(19)).astype(int)
    for ahead in (0, 1, 16):
        difference = np.abs(streamed(on_gpu, make_cues(19), ahead=ahead) - expected)
        assert difference.max() <= (1 if precision == "fp32" else 8)


@pytest.mark.gpu
def test_frames_of_a_gpu_are_the_same_bits_again_and_in_any_batch(noisy_folder: Path) -> None:
    first, second = (AvModel.from_checkpoints(noisy_folder, device="cuda") for _ in range(2))
    expected = streamed(first, make_cues(19), ahead=1)
    for model, ahead in ((first, 24), (second, 1), (second, 24)):  # kernels one by one at first, then as graphs
        assert np.array_equal(streamed(model, make_cues(19), ahead=ahead), expected)
