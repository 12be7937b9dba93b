"""Loading what measures: weights of something else, weights that are missing, and the sync of a model of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.audio import log_mel, mel_window
from models.registry import OPTIONAL_HEADS, build_network
from scripts.evaluation.instruments import load_instruments, load_sync_model, load_syncnet
from tests.conftest import TINY, voice
from tests.evaluation_factory import SIDE, config_for
from tests.face_factory import draw_faces
from util.checkpoint import load_network, save_state_dict
from util.errors import CheckpointError, MediaError
from util.images import to_unit_range
from util.metrics.sync_score import sync_scores


def test_syncnet_of_other_weights_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights at .*none\.model: give the published weights: --syncnet"):
        load_syncnet(tmp_path / "none.model")
    path = tmp_path / "other.model"
    save_state_dict({"conv.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"other\.model: cannot be loaded as SyncNet \(not weights of SyncNet"):
        load_syncnet(path)
    save_state_dict({"netcnnaud.0.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"other\.model: cannot be loaded as SyncNet \(Error"):
        load_syncnet(path)


def test_sync_model_scores_its_own_features_of_sound_and_face(tiny_model: Path) -> None:
    frames = [draw_faces((20.0 + number, 20.0, SIDE), looks=(number % 3,)) for number in range(20)]
    wave = voice(0.7).astype(np.float32)  # 17 frames
    score, name = load_sync_model(tiny_model)
    scores = score(iter(frames), 20, wave)
    hearing, seeing = (build_network(letter, TINY).eval() for letter in ("A_sync", "E"))
    for letter, network in (("A_sync", hearing), ("E", seeing)):
        load_network(network, tiny_model / f"latest_net_{letter}.pth", OPTIONAL_HEADS[letter])
    mel = log_mel(wave)
    with torch.no_grad():
        pictures = torch.stack([torch.from_numpy(to_unit_range(frame[..., ::-1])) for frame in frames[:17]])
        seen = seeing.to_mouth(seeing(pictures))
        heard = hearing(torch.from_numpy(np.stack([mel_window(mel, number) for number in range(17)])))
    unit = [side.numpy() / np.linalg.norm(side.numpy(), axis=1, keepdims=True) for side in (seen, heard)]
    np.testing.assert_allclose(scores.distances, sync_scores(*unit).distances, atol=1e-4)
    assert scores.distances.shape == (17, 31)
    assert name.startswith(f"{tiny_model}: latest_net_A_sync.pth (SHA-256 ")
    with pytest.raises(MediaError, match="at least 6 frames with sound, got 5 frames"):
        score(iter(frames), 5, wave)


def test_sync_model_that_is_missing_or_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give the folder of a trained model as --sync_model DIR"):
        load_sync_model(None)
    with pytest.raises(CheckpointError, match=r"missing weights latest_net_A_sync\.pth, latest_net_E\.pth"):
        load_sync_model(tmp_path)


def test_missing_weights_are_reasons_not_errors(tmp_path: Path) -> None:
    instruments = load_instruments(config_for("sync", "frechet", "cpbd", syncnet=tmp_path / "none.model"))
    assert set(instruments.missing) == {"sync", "frechet"}
    assert instruments.detector is None
    assert instruments.missing["frechet"] == "no weights: give torchvision's Inception v3 as --inception FILE"


def test_missing_detector_is_the_reason_of_all_that_need_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    missing = load_instruments(config_for("cpbd", "lmd", "identity")).missing
    assert set(missing) == {"lmd", "identity"}
    assert missing["lmd"] == missing["identity"]
    assert "dlib" in missing["lmd"]


def test_instruments_are_loaded_again_when_weights_have_changed(tmp_path: Path) -> None:
    config = config_for("identity", "frechet", inception=tmp_path / "net.pth", arcface=tmp_path / "net.onnx")
    first = load_instruments(config)
    assert load_instruments(config) is first
    assert "net.pth: no such file" in first.missing["frechet"]
    assert "net.onnx: no such file" in first.missing["identity"]
    (tmp_path / "net.pth").write_bytes(b"no weights")
    assert "net.pth: no such file" not in load_instruments(config).missing["frechet"]
