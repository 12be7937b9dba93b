"""The model in checkpoints/synthetic and its sample inputs: small, whole, and doing what its card says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from data.audio import SILENCE
from data.metadata import read_rows
from data.voxtest_dataset import VoxTestDataset
from models.av_model import AvModel
from models.networks.probe import Probe
from options.config import INFERENCE_LETTERS, DataConfig
from util.checkpoint import load_network
from util.images import to_unit_range

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "checkpoints" / "synthetic"


@pytest.fixture(scope="module")
def model() -> AvModel:
    return AvModel.from_checkpoints(FOLDER)


@pytest.fixture(scope="module")
def probe() -> Probe:
    network = Probe()
    load_network(network, ROOT / "checkpoints" / "probe" / "probe.pth")
    return network.eval()


def test_files_are_all_there_and_as_large_as_the_card_says() -> None:
    card = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    line = next(line for line in card.splitlines() if line.startswith("| files |"))
    megabytes = {letter: float(size) for letter, size in re.findall(r"\b([A-Z]\w*) (\d+\.\d)", line)}
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert {letter: round(sizes[f"latest_net_{letter}.pth"] / 1e6, 1) for letter in INFERENCE_LETTERS} == megabytes
    assert "network.json" in sizes
    assert sum(sizes.values()) < 24e6


# by row, how far the phones of its sentence open a mouth (`data.synthetic.phones.mouth_track`), in hundredths, at every
# third frame
OPENINGS = (
    (0, 0, 0, 4, 19, 39, 23, 17, 0, 0, 2, 15, 20, 18, 18, 28, 34, 16, 28, 63, 62, 33, 67, 27, 25),
    (0, 15, 35, 38, 35, 15, 16, 47, 11, 31, 14, 11, 67, 17, 28, 56, 12, 62, 33, 17, 0, 20, 18, 28, 0),
)


def test_demo_rows_speak_turn_nod_and_fall_silent(model: AvModel, probe: Probe) -> None:
    replaced = ROOT / "misc" / "demo_synthetic.csv"  # once the authors' samples are there
    rows = read_rows(replaced if replaced.is_file() else ROOT / "misc" / "demo.csv")
    for row, frames, spoken in zip(rows, (133, 149), OPENINGS, strict=True):
        data = VoxTestDataset(row.clip(), DataConfig())
        assert len(data) == frames
        items = list(data.items(range(75)))
        references = torch.from_numpy(to_unit_range(data.references))
        identity = model.encode_identity(references)
        pictures = torch.from_numpy(to_unit_range(np.stack([item.pose for item in items if item.pose is not None])))
        windows = torch.from_numpy(np.stack([item.mel for item in items]))
        pose = model.encode_pose(pictures)
        images = model.generate(identity, model.encode_speech(windows), pose)
        silent = model.generate(identity, model.encode_speech(torch.full_like(windows[::5], SILENCE)), pose[::5])
        with torch.no_grad():
            made, source, closed, person = probe(images), probe(pictures), probe(silent), probe(references)
        for name, least in (("yaw", 0.98), ("pitch", 0.95)):
            assert torch.corrcoef(torch.stack([made[name], source[name]]))[0, 1] > least, name
        truth = torch.tensor(spoken) / 100
        assert torch.corrcoef(torch.stack([made["opening"][::3], truth]))[0, 1] > 0.6
        assert made["opening"].max() > 0.4
        assert closed["opening"].abs().max() < 0.05
        assert (made["identity"] @ person["identity"].T).mean() > 0.5
