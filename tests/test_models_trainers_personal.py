"""Fitting a model to one person: what the losses compare, what moves and how fast, and that the best look is kept."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.losses import laplacian_loss, relative_error
from models.networks.perceptual import EncoderFeatures
from models.registry import build_network
from models.trainers.base import to_device
from models.trainers.loop import Best, Look, Trainer
from models.trainers.personal import PersonalStage, around_lips, foreign_pairs
from models.trainers.plan import describe_personal_plan
from options.config import OTHERS, PERSON, PHOTO, DataConfig, LossConfig, OptimConfig, PersonalConfig, TrainConfig
from tests.conftest import TINY
from util.distributed import Ranks

FRAMES = 2
SIZES = dataclasses.replace(TINY, audio_filters=(32, 32, 32, 32))
LOSS = LossConfig(lambda_vgg=0.0, lambda_own=1.0, lambda_laplacian=1.0, lambda_identity=0.0, lambda_contrastive=1.0)


def make_config(**changes: object) -> TrainConfig:
    base = TrainConfig(
        stage="personal", gpu_ids=(-1,), batch_size=3, data=DataConfig(crop_size=28, clip_len=FRAMES), network=SIZES,
        loss=LOSS, checkpoints_dir=Path("none"), generate_from_audio_only=True,
        optim=OptimConfig(niter=10, niter_decay=0, amsgrad=False),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def make_batch(labels: tuple[int, ...] = (PERSON, PHOTO, OTHERS, OTHERS), seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)

    def pictures(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, (len(labels), *shape, 3, 28, 28), generator=draw, dtype=torch.uint8)

    batch = {
        "reference": pictures(1),
        "target": pictures(FRAMES),
        "augmented": pictures(1, FRAMES),
        "mel": torch.rand(len(labels), 1, FRAMES, 1, 80, 20, generator=draw),
        "label": torch.tensor(labels),
    }
    return to_device(batch, torch.device("cpu"))


def make_trainer(config: TrainConfig) -> Trainer:
    """A trainer whose networks are still those of the base."""
    torch.manual_seed(0)
    networks = {letter: build_network(letter, config.network) for letter in config.letters}
    base = nn.ModuleDict({letter: copy.deepcopy(networks[letter]) for letter in ("G", "V", "E", "A_sync")})
    own = EncoderFeatures(copy.deepcopy(networks["V"]), copy.deepcopy(networks["E"]))
    stage = PersonalStage(networks, config, {"base": base, "own": own})
    return Trainer(stage, networks, config, torch.device("cpu"), Ranks(), steps_per_epoch=1)


def state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {f"{k}.{n}": t.clone() for k, net in trainer.networks.items() for n, t in net.state_dict().items()}


def test_the_person_takes_on_the_motion_of_one_and_the_sound_of_another():
    assert foreign_pairs([PERSON, OTHERS, PHOTO, OTHERS]) == ([0, 2], [1, 3], [3, 1])
    assert foreign_pairs([PERSON, PERSON, OTHERS]) == ([0, 1], [2, 2], [2, 2])


def test_relative_error_is_one_for_codes_of_nothing():
    wanted = torch.tensor([[3.0, 4.0]])
    assert relative_error(torch.zeros(1, 2), wanted).item() == pytest.approx(1.0)
    assert relative_error(wanted * 1.1, wanted).item() == pytest.approx(0.01, rel=1e-4)


def test_what_is_held_costs_nothing_while_the_model_is_its_base():
    stage = make_trainer(make_config()).stage.train()
    losses = stage(make_batch()).losses
    assert set(losses) <= set(stage.weights)
    assert losses["G/pose"].item() < 1e-9
    assert losses["G/mouth"].item() < 1e-5
    assert losses["G/likeness"].item() > 1e-5  # its frames are not the person's


def test_lips_cost_by_themselves_where_an_aligned_face_has_them():
    config = make_config(personal=PersonalConfig(lambda_lips=2.0), use_noise=False)
    stage = make_trainer(config).stage.train()
    batch = make_batch()
    losses = stage(batch).losses
    assert stage.weights["G/lips"] == 2.0
    marked = torch.zeros(1, 3, 224, 224)
    marked[..., 112:196, 56:168] = 1  # rows, columns of a crop in which the mouth moves
    assert around_lips(marked).shape == (1, 3, 84, 112)
    assert around_lips(marked).sum() == marked.sum()
    fake, real = (frames[: 4 * FRAMES, :, 8:14, 4:12] for frames in stage(batch).for_adversary[:2])
    assert losses["G/lips"].item() == pytest.approx(laplacian_loss(fake, real).item(), rel=1e-5)
    assert "G/lips" not in make_trainer(make_config()).stage.train()(batch).losses


def test_a_photo_shows_the_mouth_it_has_whatever_is_heard():
    config = make_config(use_noise=False)
    stage = make_trainer(config).stage.train()
    batch = make_batch()
    shown = stage(batch).for_adversary[0]
    batch["mel"] = 1 - batch["mel"]
    after = stage(batch).for_adversary[0]
    same = [torch.equal(a, b) for a, b in zip(shown[: 4 * FRAMES], after[: 4 * FRAMES], strict=True)]
    assert same == [False, False, True, True, False, False, False, False]


def test_other_people_come_out_as_the_base_makes_them_where_that_is_asked_for():
    personal = PersonalConfig(base_is_target=True)
    batch = make_batch()
    for asked in (False, True):
        config = make_config(personal=dataclasses.replace(personal, base_is_target=asked))
        fake, real, _, _ = make_trainer(config).stage.train()(batch).for_adversary
        equal = [torch.allclose(fake[n], real[n], atol=1e-5) for n in range(4 * FRAMES)]
        assert equal == [False] * 4 + [asked] * 4
        assert torch.equal(real[:4], batch["target"][:2].flatten(0, 1))


def test_batch_statistics_stay_and_everything_that_inference_uses_moves():
    trainer = make_trainer(make_config())
    before = state_of(trainer)
    for seed in range(2):
        trainer.training_step([make_batch(seed=seed)])
    moved = {name for name, tensor in state_of(trainer).items() if not torch.equal(tensor, before[name])}
    assert not {name for name in moved if "running_" in name or "num_batches" in name}
    idle = ("G.style.", "G.input.", "V.fc.", "V.model.fc.", "A_sync.fc.", "E.classifier.", "E.mouth_fc.", "E.headpose_")
    weights = {f"{k}.{n}" for k, net in trainer.networks.items() for n, _ in net.named_parameters()}
    assert {name for name in weights if not name.startswith(idle)} <= moved


def test_of_a_large_base_only_what_was_chosen_moves():
    config = make_config(frozen=("V", "E", "A_sync"), moving=("G.to_rgbs.1.", "G.convs.2.", "G.convs.3."))
    trainer = make_trainer(config)
    before = state_of(trainer)
    trainer.training_step([make_batch()])
    moved = {name for name, tensor in state_of(trainer).items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in moved} == {"G", "D"}
    chosen = {f"G.{n}" for n, _ in trainer.networks["G"].named_parameters() if f"G.{n}".startswith(config.moving)}
    assert {name for name in moved if name.startswith("G.")} == chosen


def test_networks_go_at_paces_of_their_own_and_may_begin_late():
    optim = OptimConfig(
        niter=10, niter_decay=0, amsgrad=False, rates=(("E", 0.25),), late=(("G", 1),), lr=1e-3, no_ttur=True
    )
    trainer = make_trainer(make_config(optim=optim))
    before = state_of(trainer)
    trainer.training_step([make_batch()])
    after = state_of(trainer)
    steps = {k: (after[k] - before[k]).abs().max().item() for k in before if before[k].is_floating_point()}
    assert max(step for name, step in steps.items() if name.startswith("G.")) == 0
    largest = [max(step for name, step in steps.items() if name.startswith(letter)) for letter in ("E.", "V.")]
    assert largest == pytest.approx([2.5e-4, 1e-3], rel=1e-3)  # Adam's first step is the rate
    trainer.training_step([make_batch(seed=1)])
    assert not torch.equal(state_of(trainer)["G.conv1.conv.weight"], before["G.conv1.conv.weight"])


class Scores:
    """A watcher that gives what it is told, and keeps a weight of every look."""

    def __init__(self, *scores: float) -> None:
        self.left = list(scores)
        self.weights: list[torch.Tensor] = []

    def __call__(self, networks: object) -> Look:
        self.weights.append(networks["V"].conv1x1.weight.detach().clone())  # type: ignore[index]
        return Look(self.left.pop(0), {"identity": 0.5}, [{"generated": np.zeros((8, 8, 3), np.uint8)}])


def watched_config(folder: Path, **changes: object) -> TrainConfig:
    personal = PersonalConfig(patience=2)
    return make_config(checkpoints_dir=folder, name="me", val_freq=1, save_epoch_freq=10**9, personal=personal,
                       print_freq=10**9, display_freq=10**9, keep_last=2, save_freq=10**9, **changes)  # fmt: skip


def batches(start: int) -> itertools.chain:
    return (make_batch(seed=number) for number in itertools.count(start))


def test_the_best_look_is_kept_and_training_ends_when_it_gets_worse(tmp_path: Path):
    config = watched_config(tmp_path)
    trainer = make_trainer(config)
    trainer.watcher = scores = Scores(0.1, 0.3, 0.2, 0.25, 0.9)
    assert trainer.fit(batches(0)) == "worse"
    assert (trainer.step, trainer.best) == (3, Best(1, 0.3, 2, 0.3))
    kept = torch.load(tmp_path / "me" / "1_net_V.pth", weights_only=True)["conv1x1.weight"]
    assert torch.equal(kept, scores.weights[1])
    assert not torch.equal(kept, scores.weights[2])

    # gone on with, it knows that it is past its best, and takes no further step
    again = make_trainer(dataclasses.replace(config, continue_train=True))
    again.resume()
    assert again.best == trainer.best
    assert again.fit(batches(3)) == "worse"
    assert again.step == 3


def test_of_equal_looks_the_last_is_kept_but_the_base_only_left_for_better():
    best = Best().after(0, 0.5)
    assert best.after(1, 0.5) == Best(0, 0.5, 1, 0.5)
    best = best.after(1, 0.6)
    assert best == Best(1, 0.6, 0, 0.6)
    best = best.after(2, 0.592)
    assert best == Best(2, 0.592, 1, 0.6)
    assert best.after(3, 0.589) == Best(2, 0.592, 2, 0.6)  # the highest counts: equals do not add up


def test_a_run_that_was_killed_looks_and_keeps_as_if_it_had_not_been(tmp_path: Path):
    whole = make_trainer(watched_config(tmp_path / "whole", max_steps=3))
    whole.watcher = Scores(0.1, 0.2, 0.3, 0.4)
    assert whole.fit(batches(0)) == "done"
    config = watched_config(tmp_path / "parts", max_steps=3)
    first = make_trainer(config)
    first.watcher = Scores(0.1, 0.2)
    with pytest.raises(IndexError):  # dies while it looks at step 2, whose weights are lost
        first.fit(batches(0))
    second = make_trainer(dataclasses.replace(config, continue_train=True))
    second.resume()
    assert second.step == 1
    second.watcher = Scores(0.3, 0.4)
    assert second.fit(batches(1)) == "done"
    assert second.best == whole.best == Best(3, 0.4, 0, 0.4)
    one, other = state_of(whole), state_of(second)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_the_plan_says_what_moves_and_what_it_takes():
    text = describe_personal_plan(make_config(frozen=("V", "E", "A_sync"), moving=("G.to_rgbs.1.",)))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["G", "V", "E", "A_sync", "D"]
    assert [line.split()[-3] for line in lines[1:4]] == ["0.00", "0.00", "0.00"]
    assert "G/pose x 1" in text
    assert "memory of one device" in text
