"""scripts/personalize.py from film to report, with tiny networks: what it leaves, stopping, killing, going on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data.clip_list import ClipRecord, write_list
from data.metadata import read_rows
from data.synthetic.pose_head import render_poses
from models.av_model import AvModel
from models.trainers.loop import Trainer
from options.config import OTHERS, TrainConfig
from scripts import personalize
from scripts.inference import rows
from scripts.personal import drive, faces, intake, people, plan
from scripts.personal.faces import Reading
from tests.conftest import voice, write_frames, write_tiny_model, write_wav

STEPS = 3


class StubReader:
    """Instruments that see something in any picture, the same in the same one."""

    def learn(self, frames: list[np.ndarray]) -> int:
        return len(frames)

    def read(self, frames: np.ndarray, likeness_every: int = 1) -> Reading:
        points = np.random.default_rng(0).uniform(0, 28, (len(frames), 68, 2))
        light = frames.reshape(len(frames), -1).mean(axis=1) / 255
        return Reading(points + 10 * light[:, None, None], 0.9 + 0.1 * light, light)


def write_clip(folder: Path, seed: int, label: int = 0, frames: int = 30) -> ClipRecord:
    write_frames(folder, frames, seed, size=56)
    sound = write_wav(folder / "audio.wav", voice(frames / 25, seed))
    return ClipRecord(folder, sound, frames, folder.name, label)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What the intake leaves of a clip, and clips of two other people."""
    root = tmp_path_factory.mktemp("film")
    lists = {}
    for seed, part in enumerate(("train", "watch", "held_out")):
        lists[f"{part}_list"] = root / f"{part}.csv"
        write_list(root / f"{part}.csv", [write_clip(root / part, seed)])
    others = [write_clip(root / f"other{seed}", seed, OTHERS) for seed in (8, 9)]
    photo = write_frames(root / "photo", 1, seed=4) / "000000.jpg"
    return SimpleNamespace(**lists, photos=[], checks=[], others=others, photo=photo)


def _starter(film: SimpleNamespace, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    write_tiny_model(root / "synthetic")
    monkeypatch.chdir(root)
    monkeypatch.setattr(faces, "FaceReader", StubReader)
    monkeypatch.setattr(intake, "take_in", lambda videos, photos, work: film)
    monkeypatch.setattr(intake, "read_intake", lambda work: film)
    monkeypatch.setattr(people, "other_records", lambda *_, **__: film.others)
    monkeypatch.setattr(drive, "render_poses", _render_once)
    whole = plan.train_config

    def quick(*arguments: Any, **others: Any) -> TrainConfig:
        """Without loading processes and pages, which take longer to start and to draw than all the rest."""
        return dataclasses.replace(whole(*arguments, **others), num_threads=0, use_html=False)

    monkeypatch.setattr(plan, "train_config", quick)

    def start(*flags: str, name: str = "me") -> int:
        source = [] if "--continue" in flags else ["--video", "me.mp4", "--steps", str(STEPS)]
        return personalize.main(["--name", name, "--checkpoints_dir", str(root), *source, *flags])

    return start


def _render_once(angles_deg: np.ndarray) -> list[np.ndarray]:
    key = np.ascontiguousarray(angles_deg, dtype=np.float64)
    return _render(key.tobytes())


@functools.cache
def _render(angles: bytes) -> list[np.ndarray]:
    return list(render_poses(np.frombuffer(angles).reshape(-1, 3)))


@pytest.fixture
def run(film: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    return _starter(film, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def undisturbed(film: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A whole run with a first video, whose making is only noted."""
    root = tmp_path_factory.mktemp("undisturbed")
    speech = write_wav(root / "speech.wav", voice(0.4, seed=3))
    videos: list[Any] = []
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(said):
        run = _starter(film, root, monkeypatch)
        monkeypatch.setattr(rows, "run_rows", lambda config: videos.append(config) or 0)
        assert run("--audio", str(speech)) == 0
    return SimpleNamespace(folder=root / "me", speech=speech, videos=videos, said=said.getvalue())


def state_of(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "latest_state.pth", weights_only=True)


def weights_of(folder: Path, epoch: str = "latest") -> dict[str, torch.Tensor]:
    files = [folder / f"{epoch}_net_{letter}.pth" for letter in ("G", "V", "E", "A_sync")]
    return {f"{f.stem}.{k}"[len(epoch) :]: v for f in files for k, v in torch.load(f, weights_only=True).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_film_becomes_a_model_a_report_and_a_first_video(undisturbed: SimpleNamespace):
    folder = undisturbed.folder
    report = json.loads((folder / "report.json").read_text())
    assert set(report["figures"]) == {"base", "personal", "truth"}
    assert same(weights_of(folder), weights_of(folder, str(report["best"]["step"])))
    assert not (folder / "latest_net_D.pth").exists()
    AvModel.from_checkpoints(folder)  # as every command loads it
    assert "watched/identity" in (folder / "loss_log.jsonl").read_text()
    (row,) = read_rows(folder / "me.csv")
    assert row.clip().audio == undisturbed.speech
    (video,) = undisturbed.videos
    assert (video.checkpoint_dir, video.meta_path_vox) == (folder, folder / "me.csv")
    assert video.gen_video
    assert "memory of one device" in undisturbed.said


def test_killed_twice_and_gone_on_with_it_makes_the_same_weights(
    run, undisturbed: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    deaths = [1, 2]
    step = Trainer.training_step

    def die(self: Trainer, chunk: Any) -> dict[str, float]:
        if deaths and self.step == deaths[0] and self.watcher is not None:  # and not while steps are timed
            deaths.pop(0)
            raise SystemExit(9)
        return step(self, chunk)

    monkeypatch.setattr(Trainer, "training_step", die)
    assert run() == 9
    assert run() == 2
    assert "go on with --continue" in capsys.readouterr().err
    assert run("--continue") == 9
    assert run("--continue") == 0
    assert not deaths
    whole, parts = state_of(undisturbed.folder), state_of(tmp_path / "me")
    assert whole["best"] == parts["best"]
    for letter in whole["networks"]:
        assert same(whole["networks"][letter], parts["networks"][letter]), letter
    assert same(weights_of(undisturbed.folder), weights_of(tmp_path / "me"))


def test_ctrl_c_leaves_the_best_weights_in_place(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    step = Trainer.training_step

    def interrupt(self: Trainer, chunk: Any) -> dict[str, float]:
        if self.step == 1 and self.watcher is not None:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, chunk)

    monkeypatch.setattr(Trainer, "training_step", interrupt)
    assert run() == 130
    assert "--continue goes on" in capsys.readouterr().out
    state = state_of(tmp_path / "me")
    assert state["step"] == 2
    assert same(weights_of(tmp_path / "me"), weights_of(tmp_path / "me", str(state["best"]["step"])))
    monkeypatch.setattr(Trainer, "training_step", step)
    assert run("--continue") == 0
    assert state_of(tmp_path / "me")["step"] == STEPS


def test_with_all_it_trains_again_for_as_many_steps_as_were_best(run, tmp_path: Path):
    assert run("--use_all") == 0
    folder = tmp_path / "me"
    watched = state_of(folder / "watched")
    best = watched["best"]["step"]
    assert watched["step"] == STEPS
    assert f"for {best} steps" in (folder / "report.txt").read_text()
    if best:
        assert state_of(folder)["step"] == best
        assert not same(weights_of(folder), weights_of(folder / "watched", str(best)))


def test_photos_alone_are_fitted_too(run, film: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    photos = SimpleNamespace(train_list=None, watch_list=None, held_out_list=None, photos=[film.photo], checks=[])
    monkeypatch.setattr(intake, "take_in", lambda videos, photos_given, work: photos)
    assert run() == 0
    report = json.loads((tmp_path / "me" / "report.json").read_text())
    assert report["plan"]["only_photos"] is True
    assert "identity" not in report["figures"]["personal"]
    assert report["figures"]["personal"]["yaw_identity"] > 0.9
    assert len(list((tmp_path / "me" / "work" / "stills").iterdir())) == 2  # it and its mirror image


def test_dry_run_says_what_moves_and_writes_nothing(run, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run("--dry_run") == 0
    assert "all networks move" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["synthetic"]


def test_wrong_options_are_named(run, capsys: pytest.CaptureFixture):
    cases = {
        ("--name", "me"): "give --video or --photo",
        ("--name", "me", "--continue"): "holds no run",
        ("--name", "me", "--video", "a.mp4", "--base", "mine"): "--base mine",
    }
    for flags, message in cases.items():
        assert personalize.main(list(flags)) == 2
        assert message in capsys.readouterr().err
