"""Networks are counted before they are built, and those out of proportion are refused by every command."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
import torch

from models.registry import build_network
from options.config import NETWORK_LETTERS, NetworkConfig
from options.network_sizes import count_parameters
from scripts import benchmark, export_model, export_onnx, measure_synthetic
from tests.conftest import TINY, Workspace
from util.errors import CheckpointError, OptionError
from util.json_files import to_builtins

OTHERS = dataclasses.replace(
    TINY, crop_size=64, generator_channels=None, audio_filters=(8, 16, 16, 32), audio_layers=(2, 1, 3, 1),
    identity_layers=(1, 3, 1, 2), clip_len=3, n_mel_t=2, hourglass_depth=2, mapping_layers=2,
    discriminator_face=True, identity_skips=(5, 3),
)  # fmt: skip


@pytest.mark.parametrize("config", [NetworkConfig(), TINY, OTHERS, dataclasses.replace(NetworkConfig(), crop_size=896)])
def test_counts_are_those_of_the_networks(config: NetworkConfig) -> None:
    with torch.device("meta"):
        built = {letter: build_network(letter, config) for letter in NETWORK_LETTERS}
    sums = {letter: sum(p.numel() for p in network.parameters()) for letter, network in built.items()}
    assert count_parameters(config) == sums


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"generator_channels": [10**6] * 3},
            r"network G would have [\d,]{18} parameters, 2 times",
        ),
        ({"identity_width": 8 * 10**5}, "network G would have"),
        ({"num_classes": 10**9}, "network V would have"),
        ({"identity_layers": [1, 1, 1, 10**9]}, "identity_layers is 1,000,000,003, 200 are the most"),
        ({"crop_size": 7 * 2**40, "generator_size": 28}, "crop_size is 7,696,581,394,432 pixels"),
        ({"mapping_layers": 10**17}, "mapping_layers is over 10.15"),
        ({"num_discriminators": 500}, "num_discriminators is 500"),
    ],
)
def test_huge_networks_are_refused_before_they_are_built(tmp_path: Path, sizes: dict, message: str) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps(to_builtins(TINY) | sizes))
    before = time.monotonic()
    with pytest.raises(CheckpointError, match=rf"network.json: {message}.*--any_size"):
        NetworkConfig.from_file(path)
    assert time.monotonic() - before < 1
    assert NetworkConfig.from_file(path, any_size=True).feature_dim == 32


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hourglass_channels": 20}, "multiple of 8, got 20"),
        ({"hourglass_depth": 4}, r"pose_size must be .* 4\*2\^4"),
        ({"pose_size": 30}, "pose_size must be a multiple of 4"),
        ({"crop_size": 1792, "generator_channels": None}, "generator_channels must be given above 1024 px"),
    ],
)
def test_sizes_that_no_forward_pass_survives_are_refused(sizes: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        dataclasses.replace(TINY, **sizes)


def test_every_command_refuses_them_and_has_the_flag(workspace: Workspace, capsys: pytest.CaptureFixture) -> None:
    folder = workspace.root / "checkpoints" / "huge"
    folder.mkdir()
    file = folder / "network.json"
    file.write_text(json.dumps(to_builtins(dataclasses.replace(TINY, num_classes=10**9))))
    for letter in NETWORK_LETTERS:
        (folder / f"latest_net_{letter}.pth").write_bytes(b"weights")
    workspace.write_csv(workspace.add_inputs())
    where = ["--name", "huge", "--checkpoints_dir", str(folder.parent)]
    commands = {
        "test": lambda flags: workspace.run("--name", "huge", *flags),
        "export_onnx": lambda flags: export_onnx.main([*where, "--output", str(workspace.root / "onnx"), *flags]),
        "measure_synthetic": lambda flags: measure_synthetic.main([*where, *flags]),
        "benchmark": lambda flags: benchmark.main(["--network_file", str(file), "--stages", "V", *flags]),
        "export_model": lambda flags: export_model.main(
            ["--source", str(folder), "--output", str(workspace.root / "out"), *flags]
        ),
    }
    for name, run in commands.items():
        assert run([]) == 1, name
        assert "network V would have" in capsys.readouterr().err, name
    assert commands["export_model"](["--any_size"]) == 1
    assert "would have" not in capsys.readouterr().err
