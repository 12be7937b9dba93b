"""Export to ONNX: the same figures as AvModel in ONNX Runtime at any batch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.av_model import AvModel
from tests.conftest import TINY, write_tiny_model
from util.errors import CheckpointError
from util.json_files import to_builtins

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def noisy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with noise that reaches the picture."""
    directory = write_tiny_model(tmp_path_factory.mktemp("models") / "noisy")
    path = directory / "latest_net_G.pth"
    state = torch.load(path, weights_only=True)
    for number, key in enumerate(key for key in state if key.endswith("noise.weight")):
        state[key].fill_(0.2 + 0.1 * number)
    torch.save(state, path)
    return directory


@pytest.fixture(scope="module")
def exported(noisy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from models.onnx_graphs import export

    return export(noisy_model, "latest", TINY, tmp_path_factory.mktemp("onnx"))


def test_every_file_agrees_with_torch_at_several_batches(exported: dict[str, Path], noisy_model: Path):
    from models.onnx_graphs import compare

    found = compare(exported, noisy_model, "latest", TINY)
    assert [(file, output) for file, output, *_ in found] == [
        ("V.onnx", "identity_vector"), ("V.onnx", "identity_map"), ("E.onnx", "pose"), ("A_sync.onnx", "mouth"),
        ("G.onnx", "image"),
    ]  # fmt: skip
    assert 0 < max(relative for *_, relative in found) < TOLERANCE


def test_file_of_other_weights_is_found_to_differ(exported: dict[str, Path], tmp_path: Path):
    from models.onnx_graphs import compare

    other = write_tiny_model(tmp_path / "other")
    state = torch.load(other / "latest_net_E.pth", weights_only=True)
    state["headpose_embed.1.bias"] += 0.01
    torch.save(state, other / "latest_net_E.pth")
    (found,) = compare({"E": exported["E"]}, other, "latest", TINY)
    assert found[2] == pytest.approx(0.01, rel=0.01)


def test_files_chained_as_the_help_says_give_a_frame_of_the_model(exported: dict[str, Path], noisy_model: Path):
    run = {letter: onnxruntime.InferenceSession(str(path)).run for letter, path in exported.items()}
    rng = np.random.default_rng(4)
    images = rng.uniform(-1, 1, (2, 3, 28, 28)).astype(np.float32)
    mel = rng.uniform(0, 1, (2, 1, 80, 20)).astype(np.float32)
    vectors, maps = run["V"](None, {"images": images})
    (pose,), (mouth,) = run["E"](None, {"frames": images}), run["A_sync"](None, {"mel": mel})
    model = AvModel.from_checkpoints(noisy_model)
    layers = model.noise_for("random", 0, [5, 6])
    assert layers is not None
    inputs = {
        "identity_vector": vectors.mean(axis=0, keepdims=True).repeat(2, axis=0),
        "identity_map": maps.mean(axis=0, keepdims=True).repeat(2, axis=0),
        "mouth": mouth,
        "pose": pose,
        "noise": torch.cat([layer.flatten(1) for layer in layers], dim=1).numpy(),
    }
    (frames,) = run["G"](None, inputs)
    identity = model.encode_identity(torch.from_numpy(images))
    codes = model.encode_speech(torch.from_numpy(mel)), model.encode_pose(torch.from_numpy(images))
    np.testing.assert_allclose(frames, model.generate(identity, *codes, layers).numpy(), atol=TOLERANCE)
    (without,) = run["G"](None, inputs | {"noise": np.zeros_like(inputs["noise"])})
    np.testing.assert_allclose(without, model.generate(identity, *codes, None).numpy(), atol=TOLERANCE)
    assert np.abs(without - frames).max() > 1e-2


@pytest.mark.parametrize(
    "changes",
    [
        {"pose_size": 20, "identity_size": 16},  # 28 -> 20 px is no whole factor, which ONNX cannot pool by
        {"identity_size": 56, "identity_stem_pool": False},  # as in the bundled model: V divides by 16, not by 32
    ],
)
def test_encoders_of_other_sizes_and_strides_are_exported(changes: dict[str, int], tmp_path: Path):
    from models.onnx_graphs import compare, export

    sizes = dataclasses.replace(TINY, **changes)
    directory = write_tiny_model(tmp_path / "tiny", sizes)
    files = export(directory, "latest", sizes, tmp_path / "onnx")
    found = compare({letter: files[letter] for letter in ("V", "E")}, directory, "latest", sizes)
    assert max(relative for *_, relative in found) < TOLERANCE


def test_folded_map_reaches_g_in_its_file_too(tmp_path: Path):
    from models.onnx_graphs import compare, export

    sizes = dataclasses.replace(TINY, identity_size=56, identity_stem_pool=False, identity_skips=(3, 2))
    directory = write_tiny_model(tmp_path / "tiny", sizes)
    state = torch.load(directory / "latest_net_G.pth", weights_only=True)
    for key in ("skips.0.weight", "skips.1.weight"):
        torch.nn.init.normal_(state[key])
    torch.save(state, directory / "latest_net_G.pth")
    files = export(directory, "latest", sizes, tmp_path / "onnx")
    found = compare({letter: files[letter] for letter in ("V", "G")}, directory, "latest", sizes)
    assert 0 < max(relative for *_, relative in found) < TOLERANCE


def test_metadata_names_sizes_and_conventions(exported: dict[str, Path]):
    session = onnxruntime.InferenceSession(str(exported["G"]))
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["sizes"]) == json.loads(json.dumps(to_builtins(TINY)))
    assert json.loads(notes["noise_sizes"]) == [7, 14, 14, 28, 28]
    assert "[-1, 1]" in notes["images"]
    assert notes["network"] == "G"
    assert [i.name for i in session.get_inputs()] == ["identity_vector", "identity_map", "mouth", "pose", "noise"]
    assert session.get_inputs()[4].shape == ["batch", 49 + 2 * (14**2 + 28**2)]


def test_damaged_file_is_refused(noisy_model: Path, tmp_path: Path):
    from models.onnx_graphs import compare

    (tmp_path / "V.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"V\.onnx: ONNX Runtime cannot load it"):
        compare({"V": tmp_path / "V.onnx"}, noisy_model, "latest", TINY)
