"""Stages: what moves and what does not, what losses they make, and that every head inference uses is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from models.losses import contrastive_loss, independence_loss
from models.networks.probe import QUANTITIES, Probe
from models.registry import build_network
from models.trainers.base import retrieval_accuracy, to_device, weighted_sum
from models.trainers.build import TRAINERS, build_networks, load_measures
from models.trainers.loop import Trainer
from models.trainers.optimiser import Player, make_optimiser
from models.trainers.sync import readings_loss
from options.config import DataConfig, LossConfig, OptimConfig, TrainConfig
from tests.conftest import TINY
from util.checkpoint import save_state_dict
from util.distributed import Ranks
from util.errors import CheckpointError, PcavsError

CLIPS, PIECES, FRAMES, TARGETS = 3, 2, 4, 2
SIZES = dataclasses.replace(TINY, clip_len=FRAMES, n_mel_t=2, audio_filters=(32, 32, 32, 32))  # no gate of one unit
DATA = DataConfig(crop_size=28, clip_len=FRAMES, num_clips=PIECES, generate_interval=2)
LOSS = LossConfig(lambda_vgg=0.0, lambda_confusion=0.0)


def make_config(stage: str = "joint", **changes: object) -> TrainConfig:
    base = TrainConfig(
        stage=stage, gpu_ids=(-1,), batch_size=CLIPS, data=DATA, network=SIZES, loss=LOSS, checkpoints_dir=Path("none")
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def make_batch(seed: int = 0, clips: int = CLIPS) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)

    def pictures(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, (*shape, 3, 28, 28), generator=draw, dtype=torch.uint8)

    return {
        "reference": pictures(clips, 2),
        "target": pictures(clips, TARGETS),
        "augmented": pictures(clips, PIECES, FRAMES),
        "mel": torch.rand(clips, PIECES, FRAMES, 1, 80, 20, generator=draw),
        "voice": torch.rand(clips, 1, 160, 20, generator=draw),
        "label": torch.arange(clips) % SIZES.num_classes,
    }


def make_trainer(config: TrainConfig, **measures: torch.nn.Module) -> Trainer:
    torch.manual_seed(0)
    networks = {letter: build_network(letter, config.network) for letter in config.letters}
    stage = TRAINERS[config.stage](networks, config, measures=measures)
    return Trainer(stage, networks, config, torch.device("cpu"), Ranks(), steps_per_epoch=10)


def moved(config: TrainConfig, steps: int = 2) -> tuple[set[str], set[str]]:
    """Names (`letter.parameter` and buffers) that changed in some steps, and those that did not."""
    trainer = make_trainer(config)
    before = {f"{k}.{n}": t.clone() for k, net in trainer.networks.items() for n, t in net.state_dict().items()}
    for step in range(steps):
        trainer.training_step([to_device(make_batch(step), trainer.device)])
    after = {f"{k}.{n}": t for k, net in trainer.networks.items() for n, t in net.state_dict().items()}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    return changed, set(before) - changed


def parameters(config: TrainConfig, *prefixes: str) -> set[str]:
    names = {f"{k}.{n}" for k in config.letters for n, _ in build_network(k, config.network).named_parameters()}
    return {name for name in names if name.startswith(prefixes)}


def test_recognition_trains_v_and_a_and_leaves_the_identity_map():
    config = make_config("recognition", use_audio_id=True)
    changed, same = moved(config)
    assert parameters(config, "V.", "A.") - parameters(config, "V.model.fc.", "V.conv1x1.") <= changed
    assert parameters(config, "V.model.fc.", "V.conv1x1.") <= same


def test_recognition_pulls_the_vector_of_a_voice_to_that_of_the_face():
    config = make_config("recognition", use_audio_id=True)
    stage = make_trainer(config).stage.eval()
    batch = to_device(make_batch(), torch.device("cpu"))
    seen, heard = stage.network("V")(batch["reference"])[0].detach(), stage.network("A")(batch["voice"])
    losses = stage(batch).losses
    assert losses["A/face"].item() == pytest.approx((heard - seen).abs().mean().item(), rel=1e-5)
    assert losses["A/contrastive"].item() == pytest.approx(contrastive_loss(heard, seen).item(), rel=1e-4)
    assert stage.weights["A/face"] == 100.0
    losses["A/face"].backward()
    assert all(parameter.grad is None for parameter in stage.network("V").parameters())


def test_sync_trains_what_hears_and_sees_and_no_pose_head():
    config = make_config("sync")
    changed, same = moved(config)
    trained = ("A_sync.model.", "E.model.", "E.to_mouth.")
    assert parameters(config, *trained) <= changed
    rest = parameters(config, "E.", "A_sync.") - parameters(config, *trained)
    assert rest == {n for n in same if n in rest}
    assert any(name.startswith("E.headpose_embed") for name in rest)


def test_joint_trains_every_parameter_that_inference_uses():
    config = make_config("joint")
    changed, same = moved(config)
    used = ("G.", "V.model.", "V.conv1x1.", "E.model.", "E.to_headpose.", "E.headpose_embed.", "E.mouth_embed.",
            "A_sync.model.", "D.")  # fmt: skip
    idle = parameters(config, "G.style.", "G.input.", "V.model.fc.")
    assert parameters(config, *used) - idle <= changed
    assert idle <= same
    assert parameters(config, "E.classifier.", "E.mouth_fc.", "E.headpose_fc.", "A_sync.fc.") <= same


def test_joint_without_noise_leaves_the_noise_weights_at_zero_and_repeats_itself():
    config = make_config("joint", use_noise=False)
    changed, same = moved(config)
    noise = {name for name in parameters(config, "G.") if name.endswith("noise.weight")}
    assert len(noise) == 5
    assert noise <= same
    assert parameters(config, "G.") - noise - parameters(config, "G.style.", "G.input.") <= changed
    assert not noise & {name for name, _ in make_trainer(config).stage.parameters_to_train()}


def test_independence_of_the_pose_code_is_a_loss_of_its_changes_within_a_piece():
    loss = dataclasses.replace(LOSS, lambda_independence=2.0)
    stage = make_trainer(make_config("joint", loss=loss)).stage
    stage.eval()
    batch = to_device(make_batch(), torch.device("cpu"))
    features = stage.network("E")(batch["augmented"].flatten(0, 2))
    codes = {
        "pose": stage.network("E").headpose_embed(stage.network("E").to_headpose(features)),
        "speech": stage.network("A_sync")(batch["mel"].flatten(0, 2)),
    }
    changes = [code.unflatten(0, (CLIPS * PIECES, FRAMES)).diff(dim=1).flatten(0, 1) for code in codes.values()]
    by_hand = independence_loss(*changes).item()
    assert stage(batch).losses["E/independence"].item() == pytest.approx(by_hand, rel=1e-5)
    assert stage.weights["E/independence"] == 2.0


def test_skips_are_part_of_the_identity_map():
    sizes = dataclasses.replace(SIZES, identity_skips=(3,))
    assert not {name for name in moved(make_config("recognition", network=sizes))[0] if ".skips." in name}
    assert not {
        name for name in moved(make_config("joint", network=sizes, input_id_feature=False))[0] if ".skips." in name
    }
    changed, _ = moved(make_config("joint", network=sizes))
    assert {name for name in changed if ".skips." in name} == {
        f"{letter}.skips.0.{kind}" for letter in "GV" for kind in ("weight", "bias")
    }


def test_joint_without_identity_map_trains_the_learned_constant():
    changed, same = moved(make_config("joint", input_id_feature=False))
    assert "G.input.input" in changed
    assert "V.conv1x1.weight" in same


def test_dis_pose_trains_the_head_pose_classifier_with_the_discriminator():
    loss = dataclasses.replace(LOSS, lambda_confusion=1e6)
    config = make_config("dis_pose", loss=loss)
    changed, _ = moved(config)
    assert parameters(config, "E.headpose_fc.") <= changed
    trainer = make_trainer(config)
    stage_names = {name for name, _ in trainer.stage.parameters_to_train()}
    assert not stage_names & parameters(config, "E.headpose_fc.", "D.")
    losses = trainer.training_step([to_device(make_batch(), trainer.device)])
    assert {"E/confusion", "D/headpose"} <= set(losses)


@pytest.mark.parametrize(
    ("part", "frozen"),
    [
        ("V", ("V.",)),
        ("E", ("E.model.",)),
        ("E_mouth", ("E.to_mouth.", "E.mouth_embed.")),
        ("E_headpose", ("E.to_headpose.", "E.headpose_embed.")),
        ("A_sync", ("A_sync.",)),
        ("G", ("G.",)),
        ("D", ("D.",)),
    ],
)
def test_fix_net_freezes_parameters_and_batch_norm_statistics(part: str, frozen: tuple[str, ...]):
    changed, _ = moved(make_config("joint", frozen=(part,)))
    still = {name for name in changed if name.startswith(frozen)}
    # spectral normalisation keeps estimating D's largest singular values; they are no parameters
    assert {name for name in still if not name.endswith(("weight_u", "weight_v", ".weight"))} == set()
    assert not still & parameters(make_config("joint"), *frozen)
    assert len(changed) > 20


def test_everything_frozen_is_refused():
    with pytest.raises(PcavsError, match="nothing to train"):
        make_trainer(make_config("recognition", frozen=("V",)))


def test_overfitting_one_batch_lowers_every_loss_of_the_joint_stage():
    # D stands still, because its features are what feature matching is measured in
    trainer = make_trainer(make_config("joint", generate_from_audio_only=True, frozen=("D",)))
    batch = to_device(make_batch(), trainer.device)
    history = []
    for _ in range(60):
        history.append(trainer.training_step([batch]))
    first, last = history[0], history[-1]
    assert last["G/feature_matching"] < 0.9 * first["G/feature_matching"]
    assert last["sync/contrastive"] < first["sync/contrastive"]
    assert last["V/identity"] < 0.1 * first["V/identity"]


def test_stage_losses_match_their_weights():
    trainer = make_trainer(make_config("joint"))
    losses = trainer.stage(to_device(make_batch(), trainer.device)).losses
    assert set(losses) == {"G/gan", "G/feature_matching", "V/identity", "sync/contrastive"}
    loss = dataclasses.replace(LOSS, lambda_contrastive=0.0, lambda_cross_modal=1.0)
    other = make_trainer(make_config("joint", loss=loss)).stage(to_device(make_batch(), trainer.device)).losses
    assert "sync/cross_modal" in other
    weights = trainer.stage.weights
    by_hand = sum(weights[name] * value.item() for name, value in losses.items())
    assert float(weighted_sum(losses, weights)) == pytest.approx(by_hand, rel=1e-6)
    assert weights["sync/contrastive"] == 100
    assert weights["G/feature_matching"] == 10


def test_visual_mouth_code_doubles_the_generated_frames():
    both = make_trainer(make_config("joint"))
    alone = make_trainer(make_config("joint", generate_from_audio_only=True))
    batch = to_device(make_batch(), both.device)
    assert len(both.stage(batch).for_adversary[0]) == 2 * CLIPS * TARGETS
    assert len(alone.stage(batch).for_adversary[0]) == CLIPS * TARGETS


def test_generated_frames_follow_every_other_frame_of_the_first_piece():
    config = make_config("joint", generate_from_audio_only=True, use_noise=False)
    stage = make_trainer(config).stage
    stage.eval()
    batch = to_device(make_batch(), torch.device("cpu"))
    before = stage(batch).for_adversary[0].unflatten(0, (CLIPS, TARGETS))
    changes = {(0, 0): [True, False], (0, 1): [False, False], (0, 2): [False, True], (1, 0): [False, False]}
    for place, moved in changes.items():  # (piece, frame) whose sound is another -> which generated frames change
        mel = batch["mel"].clone()
        mel[:, place[0], place[1]] = 1 - mel[:, place[0], place[1]]
        after = stage({**batch, "mel": mel}).for_adversary[0].unflatten(0, (CLIPS, TARGETS))
        assert [not torch.equal(before[:, n], after[:, n]) for n in range(TARGETS)] == moved, place


def test_pictures_and_validation_need_no_gradient_and_have_the_right_shapes():
    trainer = make_trainer(make_config("joint"))
    trainer.stage.eval()
    batch = to_device(make_batch(), trainer.device)
    shown = trainer.stage.pictures(batch)
    assert {image.shape for image in shown.values()} == {torch.Size([CLIPS, 3, 28, 28])}
    figures = trainer.stage.validate(batch)
    assert 0 <= figures["val/l1"] <= 2
    assert 0 <= figures["val/sync_sound_to_picture"] <= 1


def test_to_device_scales_pictures_and_leaves_the_rest():
    sent = to_device({"a": torch.tensor([0, 255], dtype=torch.uint8), "b": torch.tensor([3]), "c": ["x"]}, "cpu")
    assert sent["a"].tolist() == [-1.0, 1.0]
    assert sent["b"].tolist() == [3]
    assert sent["c"] == ["x"]


def test_retrieval_accuracy_counts_rows_that_find_their_partner():
    queries = torch.eye(4)
    candidates = torch.eye(4)[[0, 1, 3, 2]]
    assert retrieval_accuracy(queries, candidates) == 0.5


@pytest.mark.parametrize(
    ("stage", "no_ttur", "adversary", "rate", "betas"),
    [
        ("joint", False, False, 5e-4, (0.0, 0.9)),
        ("joint", False, True, 2e-3, (0.0, 0.9)),
        ("joint", True, True, 1e-3, (0.9, 0.999)),
        ("sync", False, False, 1e-3, (0.9, 0.999)),
    ],
)
def test_make_optimiser_uses_two_time_scales(stage, no_ttur, adversary, rate, betas):
    config = make_config(stage, optim=OptimConfig(no_ttur=no_ttur))
    weight = torch.nn.Parameter(torch.zeros(2))
    group = make_optimiser({"w": weight}, config, adversary).param_groups[0]
    assert (group["lr"], group["betas"]) == (rate, betas)
    assert group["amsgrad"] == (stage == "joint" and not adversary)


def test_rate_factor_holds_then_falls_to_zero():
    trainer = make_trainer(make_config("sync", optim=OptimConfig(niter=2, niter_decay=4)))
    factors = []
    for step in (0, 20, 40, 60, 80):
        trainer.step = step
        factors.append(trainer.rate_factor())
    assert factors == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert trainer.total_steps == 60


def test_accumulated_batches_give_the_gradient_of_their_mean():
    trainer = make_trainer(make_config("recognition"))
    stage, cpu = trainer.stage.eval(), trainer.device
    chunk = [to_device(make_batch(seed), cpu) for seed in (1, 2)]
    Player(stage, stage.config, cpu, torch.amp.GradScaler("cpu", enabled=False), False).backward([(b,) for b in chunk])
    together = {n: p.grad.clone() for n, p in stage.parameters_to_train()}
    stage.zero_grad()
    for batch in chunk:
        weighted_sum(stage(batch).losses, stage.weights).backward()
    for name, parameter in stage.parameters_to_train():
        torch.testing.assert_close(together[name], parameter.grad / 2, rtol=1e-5, atol=1e-7)


def test_moving_average_lags_behind_and_is_put_in_and_out():
    config = make_config("joint", optim=OptimConfig(ema=0.9))
    trainer = make_trainer(config)
    before = trainer.networks["G"].conv1.conv.weight.detach().clone()
    trainer.step = 1000  # past the warm-up of the average
    trainer.training_step([to_device(make_batch(), trainer.device)])
    own = trainer.networks["G"].conv1.conv.weight.detach().clone()
    with trainer.average.in_use():
        average = trainer.networks["G"].conv1.conv.weight.detach().clone()
    torch.testing.assert_close(average, 0.9 * before + 0.1 * own, rtol=1e-5, atol=1e-6)
    assert torch.equal(trainer.networks["G"].conv1.conv.weight, own)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for on in (False, True):
        trainer = make_trainer(make_config("joint", gradient_checkpointing=on))
        torch.manual_seed(5)
        trainer.stage.train()
        batch = to_device(make_batch(), trainer.device)
        weighted_sum(trainer.stage(batch).losses, trainer.stage.weights).backward()
        gradients.append({n: p.grad for n, p in trainer.stage.parameters_to_train()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


def test_nan_stops_with_the_batch_saved_and_nothing_overwritten(tmp_path: Path):
    config = make_config("sync", checkpoints_dir=tmp_path)
    trainer = make_trainer(config)
    trainer.save("latest")
    saved = {p.name: p.read_bytes() for p in config.directory.iterdir()}
    batch = make_batch()
    batch["mel"][1, 0, 0, 0, 3, 3] = float("nan")
    with pytest.raises(PcavsError, match=r"sync/contrastive is nan.*nan_batch_0_rank0\.pth"):
        trainer.fit([batch] * 3)
    assert {n: (config.directory / n).read_bytes() for n in saved} == saved
    stored = torch.load(config.directory / "nan_batch_0_rank0.pth", weights_only=True)
    assert torch.isnan(stored[0]["mel"]).sum() == 1


def test_nan_whose_batch_cannot_be_saved_is_still_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\nstack")

    monkeypatch.setattr(torch, "save", full)
    batch = make_batch()
    batch["mel"][1, 0, 0, 0, 3, 3] = float("nan")
    with pytest.raises(
        PcavsError, match=r"sync/contrastive is nan; the batch could not be saved \(PytorchStream.*failed\)"
    ):
        make_trainer(make_config("sync", checkpoints_dir=tmp_path)).fit([batch])


def test_full_gpu_memory_is_one_clear_error(monkeypatch: pytest.MonkeyPatch):
    trainer = make_trainer(make_config("sync"))

    def no_room(chunk: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(trainer.stage, "forward", no_room)
    with pytest.raises(PcavsError, match=r"memory is full with --batchSize 3; lower it"):
        trainer.training_step([to_device(make_batch(), trainer.device)])


@pytest.mark.parametrize("stage", ["sync", "joint"])
def test_bf16_losses_are_close_to_those_in_single_precision(stage: str):
    values = []
    for precision in ("fp32", "bf16"):
        trainer = make_trainer(make_config(stage, precision=precision))
        values.append(trainer.training_step([to_device(make_batch(), trainer.device)]))
    for name, value in values[0].items():
        assert values[1][name] == pytest.approx(value, rel=0.1, abs=0.05)


def test_generator_of_a_smaller_size_is_compared_with_smaller_targets():
    sizes = dataclasses.replace(SIZES, crop_size=56, generator_size=28, identity_size=28, pose_size=28)
    trainer = make_trainer(make_config("joint", network=sizes, data=dataclasses.replace(DATA, crop_size=56)))
    batch = to_device(make_batch(), trainer.device)
    large = {k: v.repeat_interleave(2, -1).repeat_interleave(2, -2) if v.dim() > 3 and k != "mel" else v
             for k, v in batch.items()}  # fmt: skip
    output = trainer.stage(large)
    assert output.for_adversary[0].shape[-2:] == output.for_adversary[1].shape[-2:] == (28, 28)
    torch.testing.assert_close(output.for_adversary[1][: CLIPS * TARGETS], batch["target"].flatten(0, 1))


def test_discriminator_that_sees_a_square_compares_the_same_one_of_true_and_generated_frames():
    sizes = dataclasses.replace(SIZES, discriminator_crop=14)
    stage = make_trainer(make_config("joint", network=sizes)).stage.eval()
    torch.manual_seed(0)
    frames = torch.rand(3, 3, 28, 28)
    with torch.no_grad():
        same = [float(stage.picture_losses(frames, frames)["G/feature_matching"]) for _ in range(5)]
        opinions = {round(float(stage.picture_losses(frames, frames)["G/gan"]), 6) for _ in range(5)}
    assert same == [0] * 5
    assert len(opinions) > 1  # it looks elsewhere every time


def test_probe_figures_are_correlations_of_generated_and_true_frames():
    class Mirror(torch.nn.Module):
        def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
            brightness = frames.mean(dim=(1, 2, 3))
            code = torch.nn.functional.normalize(frames.mean(dim=(2, 3)), dim=1)
            return {**dict.fromkeys(QUANTITIES, brightness), "identity": code}

    class Copy(torch.nn.Module):
        def forward(self, *_: object) -> torch.Tensor:
            return 0.5 * batch["target"].flatten(0, 1) + 0.1

    class Backwards(torch.nn.Module):
        """Every item right on average, and moving the other way."""

        def forward(self, *_: object) -> torch.Tensor:
            return batch["target"].flip(1).flatten(0, 1)

    stage = make_trainer(make_config("joint"), probe=Mirror()).stage
    batch = to_device(make_batch(), torch.device("cpu"))
    stage.networks["G"] = Copy()
    figures = stage.eval().validate(batch)
    assert [figures[f"val/probe_{name}"] for name in QUANTITIES] == pytest.approx([1] * len(QUANTITIES))
    assert figures["val/detail"] == pytest.approx(0.5)
    assert figures["val/probe_identity"] < 1
    assert figures["val/follows_yaw"] == pytest.approx(1)
    batch["target"] = batch["target"] + 10 * torch.arange(CLIPS).view(-1, 1, 1, 1, 1)
    stage.networks["G"] = Backwards()
    figures = stage.eval().validate(batch)
    assert figures["val/probe_yaw"] > 0.9
    assert figures["val/follows_yaw"] == pytest.approx(-1)


def test_swapped_figures_tell_a_mouth_that_moves_with_the_pose_code():
    class Bright(torch.nn.Module):
        def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
            brightness = frames.mean(dim=(1, 2, 3))
            return dict.fromkeys(QUANTITIES, brightness) | {"identity": torch.ones(len(frames), 1)}

    class FromPose(torch.nn.Module):
        def forward(self, start: object, style: torch.Tensor, noise: object) -> torch.Tensor:
            return style[:, -1].view(-1, 1, 1, 1).expand(-1, 3, 28, 28)

    stage = make_trainer(make_config("joint"), probe=Bright()).stage.eval()
    batch = to_device(make_batch(), torch.device("cpu"))
    own = stage.encode(batch)["pose"].unflatten(0, batch["mel"].shape[:3])[:, 0, :, -1]  # (B, T)
    own = own[:, :: stage.config.data.generate_interval].detach()
    batch["target"] = own[:, :, None, None, None].expand_as(batch["target"]).clone()
    stage.networks["G"] = FromPose()
    with torch.no_grad():
        figures = stage.validate(batch)
    expected = float(torch.corrcoef(torch.stack([own.roll(1, 0).diff().flatten(), own.diff().flatten()]))[0, 1])
    assert figures["val/follows_opening"] == pytest.approx(1)
    assert figures["val/swapped_opening"] == pytest.approx(expected, abs=1e-4)
    assert expected < 0.95


def test_own_features_are_compared_and_stay_as_they_are(tmp_path: Path):
    torch.manual_seed(1)
    for letter in ("V", "E"):
        save_state_dict(build_network(letter, SIZES).state_dict(), tmp_path / f"latest_net_{letter}.pth")
    config = make_config(loss=dataclasses.replace(LOSS, lambda_own=2.0), pretrain_dirs=(tmp_path,))
    own = load_measures(config)["own"]
    trainer = make_trainer(config, own=own)
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    losses = trainer.training_step([to_device(make_batch(), trainer.device)])
    assert losses["G/own"] > 0
    for name, tensor in own.state_dict().items():  # batch norm's statistics, too
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    picture = torch.rand(2, 3, 28, 28)
    torch.testing.assert_close(own(picture)[4], own.identity.model(picture), rtol=0, atol=0)
    assert len(own(picture)) == 8
    with pytest.raises(CheckpointError, match="--lambda_own compares features of trained encoders: give --load_pretr"):
        load_measures(dataclasses.replace(config, pretrain_dirs=()))


def test_new_generator_does_not_begin_saturated_behind_trained_encoders(tmp_path: Path) -> None:
    """Trained features are long, since a cosine does not see their length: those of A_sync here 5 times as long."""
    config = make_config(pretrain_dirs=(tmp_path,))
    for letter in ("A_sync", "E", "V"):
        torch.manual_seed(3)
        network = build_network(letter, config.network)
        if letter == "A_sync":
            network.model.fc.weight.data *= 5  # type: ignore[union-attr, operator]
        save_state_dict(network.state_dict(), tmp_path / f"latest_net_{letter}.pth")
    networks = build_networks(config, torch.device("cpu"))
    stage = TRAINERS["joint"](networks, config)
    batch = to_device(make_batch(), torch.device("cpu"))
    with torch.no_grad():
        frames = stage.from_speech(batch, stage.encode(batch), noise=False)
    assert float((frames.abs() > 0.99).float().mean()) < 0.02
    assert float(frames.std()) > 0.01  # and is not blank either


@pytest.fixture
def random_probe(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    random = Probe().train()
    for _ in range(20):  # statistics, without which it tells hardly any two pictures apart
        random(2 * torch.rand(8, 3, 28, 28) - 1)
    save_state_dict(random.state_dict(), tmp_path / "probe.pth")
    return tmp_path / "probe.pth"


def test_attributes_pull_the_frames_towards_what_a_probe_reads_of_the_truth(random_probe: Path):
    alone = dataclasses.replace(
        LOSS, lambda_attributes=1.0, lambda_gan=0.0, lambda_feat=0.0, lambda_identity=0.0, lambda_contrastive=0.0
    )
    config = make_config(loss=alone, attributes_path=random_probe, optim=OptimConfig(lr=1e-3))
    probe = load_measures(config)["attributes"]
    trainer = make_trainer(config, attributes=probe)
    before = {name: tensor.clone() for name, tensor in probe.state_dict().items()}
    batch = to_device(make_batch(), trainer.device)
    first, *later = (trainer.training_step([batch])["G/attributes"] for _ in range(30))
    assert sum(later[-5:]) / 5 < 0.6 * first
    for name, tensor in probe.state_dict().items():  # batch norm's statistics, too
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="give --attributes_path FILE"):
        load_measures(dataclasses.replace(config, attributes_path=None))


@pytest.mark.parametrize(("stage", "contrastive"), [("sync", 1e-3), ("joint", 0.0)])
def test_sound_and_mouth_learn_to_say_what_a_probe_reads_of_the_mouth(
    stage: str, contrastive: float, random_probe: Path
) -> None:
    loss = dataclasses.replace(LOSS, lambda_readings=1.0, lambda_contrastive=contrastive, lambda_cross_modal=0.0)
    config = make_config(stage, loss=loss, attributes_path=random_probe, optim=OptimConfig(lr=3e-3))
    probe = load_measures(config)["attributes"]
    trainer = make_trainer(config, attributes=probe)
    batch = to_device(make_batch(), trainer.device)
    first, *later = (trainer.training_step([batch])["sync/readings"] for _ in range(40))
    assert sum(later[-5:]) / 5 < 0.3 * first


def test_features_of_sound_and_mouth_can_be_held_to_mean_0_and_deviation_1() -> None:
    loss = dataclasses.replace(LOSS, lambda_standard=1.0, lambda_contrastive=1e-3)
    trainer = make_trainer(make_config("sync", loss=loss, optim=OptimConfig(lr=3e-3)))
    batch = to_device(make_batch(), trainer.device)
    first, *later = (trainer.training_step([batch])["sync/standard"] for _ in range(40))
    assert sum(later[-5:]) / 5 < 0.3 * first


def test_readings_are_compared_in_the_probes_units_with_the_first_numbers_alone() -> None:
    class Brightness(torch.nn.Module):
        def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
            bright = frames.mean(dim=(1, 2, 3))
            return {"opening": bright, "width": -bright, "yaw": 40 * bright, "pitch": 0 * bright}

    frames = torch.tensor([0.3, 0.6]).view(1, 1, 2, 1, 1, 1).expand(1, 1, 2, 3, 4, 4)
    right = torch.tensor([[0.3 / 0.3, -0.3 / 0.45, 7.0], [0.6 / 0.3, -0.6 / 0.45, -7.0]])
    pose = 12 * torch.tensor([[1.0, 0.0], [2.0, 0.0]])  # a pose code of two numbers, twelve times as loud
    assert float(readings_loss(right, right, pose, Brightness(), frames)) == pytest.approx(0, abs=1e-10)
    wrong = right + torch.tensor([[0.2, 0.0, 5.0], [0.0, 0.0, 5.0]])  # 0.2 ** 2 / 4 of one of three
    assert float(readings_loss(right, wrong, pose, Brightness(), frames)) == pytest.approx(0.01 / 3, rel=1e-5)
    assert float(readings_loss(right, right, pose + 2.4, Brightness(), frames)) == pytest.approx(0.04 / 3, rel=1e-5)


def test_four_numbers_of_the_pose_code_are_held_to_yaw_pitch_roll_and_blink() -> None:
    class Still(torch.nn.Module):
        def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
            values = {"opening": 0.0, "width": 0.0, "yaw": 12.0, "pitch": -7.0, "roll": 9.0, "blink": 0.6}
            return {name: torch.full((len(frames),), value) for name, value in values.items()}

    pose = 12 * torch.tensor([[1.0, -1.0, 2.0, 2.0, 7.0]])  # the fifth is free
    frames, mouth = torch.zeros(1, 1, 1, 3, 4, 4), torch.zeros(1, 2)
    assert float(readings_loss(mouth, mouth, pose, Still(), frames)) == pytest.approx(0, abs=1e-10)
    closed = pose - torch.tensor([[0.0, 0.0, 0.0, 12.0, 0.0]])  # 1 ** 2 / 4 of one of three
    assert float(readings_loss(mouth, mouth, closed, Still(), frames)) == pytest.approx(1 / 12, rel=1e-5)


def test_gradient_penalty_is_a_loss_of_d_alone():
    config = make_config(loss=dataclasses.replace(LOSS, lambda_r1=3.0))
    trainer = make_trainer(config)
    adversary = trainer.stage.adversary
    assert adversary is not None
    losses = trainer.training_step([to_device(make_batch(), trainer.device)])
    assert losses["D/r1"] > 0
    assert adversary.weights["D/r1"] == 3.0
    assert "D/r1" not in make_trainer(make_config()).training_step([to_device(make_batch(), trainer.device)])
