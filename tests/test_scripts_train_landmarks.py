"""The script that teaches E's trunk landmarks: what it reads, what it changes, and that the error falls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data.clip_list import ClipRecord, write_list
from data.synthetic import FRAME_SIZE, read_truth
from models.registry import build_network
from options.config import NetworkConfig, to_plain
from scripts import make_synthetic_data
from scripts.train_landmarks import main, read_pictures
from util.checkpoint import load_network, save_state_dict

SIZES = NetworkConfig(
    crop_size=56, pose_size=56, num_classes=3, feature_dim=32, pose_dim=4, hourglass_channels=16, hourglass_depth=1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people with a second of video each, their list, and seeded weights of E."""
    root = tmp_path_factory.mktemp("landmarks")
    flags = ["--num_speakers", "2", "--clips_per_speaker", "1", "--seconds", "1", "--workers", "1"]
    assert make_synthetic_data.main(["--output", str(root / "clips"), *flags]) == 0
    videos = sorted((root / "clips").rglob("*.mp4"))
    write_list(root / "train.csv", [ClipRecord(video, None, 25, str(i), i) for i, video in enumerate(videos)])
    torch.manual_seed(0)
    (root / "sync").mkdir()
    save_state_dict(build_network("E", SIZES).state_dict(), root / "sync" / "latest_net_E.pth")
    (root / "sync" / "network.json").write_text(json.dumps(to_plain(SIZES)))
    return root


def _run(folder: Path, output: str, *flags: str, train_list: str = "train.csv") -> int:
    paths = ["--source", str(folder / "sync"), "--train_list", str(folder / train_list)]
    return main([*paths, "--output", str(folder / output), "--threads", "1", *flags])


def test_pictures_come_with_the_landmarks_of_their_frames(folder: Path):
    pictures, points = read_pictures(folder / "train.csv", 25, 56, seed=0)
    assert pictures.shape == (50, 3, 56, 56)
    truths = [read_truth(video).landmarks for video in sorted((folder / "clips").rglob("*.mp4"))]
    expected = np.concatenate(truths).reshape(50, -1) / FRAME_SIZE
    np.testing.assert_allclose(points.numpy(), expected, atol=1e-6)
    drawn, _ = read_pictures(folder / "train.csv", 3, 56, seed=0)
    assert len(drawn) == 6
    assert all(any(torch.equal(frame, other) for other in pictures) for frame in drawn)


def test_the_error_falls_and_only_trunk_and_mouth_move(folder: Path, capsys: pytest.CaptureFixture[str]):
    errors = {}
    for steps in (2, 120):
        assert _run(folder, f"E{steps}", "--steps", str(steps), "--batch", "16") == 0
        text = capsys.readouterr().out
        errors[steps] = float(text.split("are ")[1].split(" %")[0])
    assert errors[120] < 0.7 * errors[2]
    before, after = build_network("E", SIZES), build_network("E", SIZES)
    load_network(before, folder / "sync" / "latest_net_E.pth")
    load_network(after, folder / "E120" / "latest_net_E.pth")
    moved = {
        name.split(".")[0]
        for (name, a), (_, b) in zip(before.named_parameters(), after.named_parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert moved == {"model", "to_mouth"}
    assert NetworkConfig.from_file(folder / "E120" / "network.json") == SIZES


def test_a_seed_gives_the_same_weights_again(folder: Path):
    for name in ("first", "second"):
        assert _run(folder, name, "--steps", "3", "--batch", "4", "--frames", "4") == 0
    states = [torch.load(folder / name / "latest_net_E.pth", weights_only=True) for name in ("first", "second")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_what_cannot_be_done_is_said_before_anything_is_written(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert _run(folder, "none", "--batch", "1") == 1
    assert "--batch must be at least 2, got 1" in capsys.readouterr().err
    assert _run(folder, "none", train_list="other.csv") == 1
    assert "other.csv: no such list of clips" in capsys.readouterr().err
    video = folder / "bare.mp4"
    video.write_bytes(sorted((folder / "clips").rglob("*.mp4"))[0].read_bytes())
    write_list(folder / "bare.csv", [ClipRecord(video, None, 25, "0", 0)])
    assert _run(folder, "none", train_list="bare.csv") == 1
    assert "bare.npz" in capsys.readouterr().err
    assert not (folder / "none").exists()
