"""Export to ONNX: the same figures as AvModel in ONNX Runtime at any batch, and clear refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.av_model import AvModel
from options.config import NetworkConfig, to_plain
from scripts import export_onnx
from tests.conftest import TINY, write_tiny_model
from util.errors import CheckpointError, OptionError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def noisy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoints/noisy: the tiny model, with noise that reaches the picture."""
    directory = write_tiny_model(tmp_path_factory.mktemp("models") / "noisy")
    path = directory / "latest_net_G.pth"
    state = torch.load(path, weights_only=True)
    for number, key in enumerate(key for key in state if key.endswith("noise.weight")):
        state[key].fill_(0.2 + 0.1 * number)
    torch.save(state, path)
    return directory


@pytest.fixture(scope="module")
def exported(noisy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return export_onnx.export(noisy_model, "latest", TINY, tmp_path_factory.mktemp("onnx"))


def test_every_file_agrees_with_torch_at_several_batches(exported: dict[str, Path], noisy_model: Path):
    results = export_onnx.check(exported, noisy_model, "latest", TINY)
    assert {(result.file, result.output) for result in results} == {
        ("V.onnx", "identity_vector"), ("V.onnx", "identity_map"), ("E.onnx", "pose"), ("A_sync.onnx", "mouth"),
        ("G.onnx", "image"),
    }  # fmt: skip
    assert max(result.relative for result in results) < TOLERANCE


def test_files_chained_as_the_help_says_give_a_frame_of_the_model(exported: dict[str, Path], noisy_model: Path):
    import onnxruntime

    run = {letter: onnxruntime.InferenceSession(str(path)).run for letter, path in exported.items()}
    rng = np.random.default_rng(4)
    images = rng.uniform(-1, 1, (2, 3, 28, 28)).astype(np.float32)
    mel = rng.uniform(0, 1, (2, 1, 80, 20)).astype(np.float32)
    vectors, maps = run["V"](None, {"images": images})
    (pose,), (mouth,) = run["E"](None, {"frames": images}), run["A_sync"](None, {"mel": mel})
    model = AvModel.from_checkpoints(noisy_model, "latest", TINY, torch.device("cpu"))
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


def test_networks_that_resize_by_a_broken_ratio_are_exported(tmp_path: Path):
    # 28 -> 20 px is no whole factor, which ONNX has no adaptive pooling for
    sizes = NetworkConfig(**{**vars(TINY), "pose_size": 20, "identity_size": 16})
    directory = write_tiny_model(tmp_path / "tiny", sizes)
    files = export_onnx.export(directory, "latest", sizes, tmp_path / "onnx")
    results = export_onnx.check({letter: files[letter] for letter in ("V", "E")}, directory, "latest", sizes)
    assert max(result.relative for result in results) < TOLERANCE


def test_metadata_names_sizes_and_conventions(exported: dict[str, Path]):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported["G"]))
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["sizes"]) == to_plain(TINY)
    assert json.loads(notes["noise_sizes"]) == [7, 14, 14, 28, 28]
    assert "[-1, 1]" in notes["images"]
    assert notes["network"] == "G"
    assert [i.name for i in session.get_inputs()] == ["identity_vector", "identity_map", "mouth", "pose", "noise"]
    assert session.get_inputs()[4].shape == ["batch", 49 + 2 * (14**2 + 28**2)]


def test_command_line_prints_differences_and_fails_beyond_the_tolerance(
    noisy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    flags = ["--checkpoints_dir", str(noisy_model.parent), "--name", "noisy", "--output", str(tmp_path / "onnx")]
    assert export_onnx.main(flags) == 0
    printed = capsys.readouterr().out
    assert printed.count("ok  ") == 5
    assert "4 files" in printed
    assert export_onnx.main([*flags, "--tolerance", "1e-12"]) == 1
    assert "MISS G.onnx" in capsys.readouterr().out


def test_missing_weights_and_packages_are_named(
    noisy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    flags = ["--checkpoints_dir", str(tmp_path), "--name", "none", "--output", str(tmp_path / "onnx")]
    assert export_onnx.main(flags) == 1
    assert "missing weights latest_net_V.pth" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export_onnx.main(flags) == 2
    assert "onnxruntime is missing: pip install onnx onnxruntime" in capsys.readouterr().err
    with pytest.raises(OptionError, match="pip install onnx onnxruntime"):
        export_onnx.check({}, noisy_model, "latest", TINY)


def test_damaged_file_is_refused(noisy_model: Path, tmp_path: Path):
    (tmp_path / "V.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"V\.onnx: ONNX Runtime cannot load it"):
        export_onnx.check({"V": tmp_path / "V.onnx"}, noisy_model, "latest", TINY)
