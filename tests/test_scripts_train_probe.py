"""The script that trains the probe: states, augmentation, loss, and a run of a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data.clip_list import ClipRecord, write_list
from data.frames import crop_template
from data.synthetic.clips import FIRST_HELD_OUT, STATE_NAMES, make_clip, make_identity, write_clip
from models.networks.probe import IDENTITY_DIM, IMAGE_SIZE, QUANTITIES, Probe
from scripts.synthetic import probe_training
from scripts.synthetic.figures import load_probe, read
from scripts.synthetic.probe_training import (
    Pictures,
    Shots,
    augmented,
    blurred,
    evaluate,
    held_out_shots,
    identity_loss,
    learning_rate,
    random_states,
    read_all,
    render,
    render_all,
    states_of,
    together,
    train,
    training_shots,
)
from scripts.train_probe import main


def _column(states: np.ndarray, name: str) -> np.ndarray:
    return states[:, STATE_NAMES.index(name)]


def _pictures(count: int = 64, people: int = 2) -> Pictures:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % people
    frames = torch.randint(0, 256, (count, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator, dtype=torch.uint8)
    values = torch.randn(count, len(QUANTITIES), generator=generator)
    return Pictures(frames, values, labels, torch.zeros(count, dtype=torch.long))


def test_random_states_fill_their_ranges_and_keep_lips_possible() -> None:
    states = random_states(np.random.default_rng(0), 2000)
    assert states.shape == (2000, len(STATE_NAMES))
    assert _column(states, "yaw").min() < -41
    assert _column(states, "yaw").max() > 41
    assert 23 < abs(_column(states, "pitch")).max() <= 24
    assert 17 < abs(_column(states, "roll")).max() <= 18
    assert 0.7 < (_column(states, "opening") > 0).mean() < 0.9
    assert _column(states, "press")[_column(states, "opening") > 0].max() == 0
    assert _column(states, "lip_teeth")[_column(states, "opening") >= 0.15].max() == 0


def test_states_of_depend_on_seed_person_and_scene_alone() -> None:
    job = Shots(3, 0, 6, 0, 0.5)
    who = make_identity(3)
    assert states_of(job, who).shape == (6, len(STATE_NAMES))
    np.testing.assert_array_equal(states_of(job, who), states_of(job, who))
    assert not np.array_equal(states_of(job, who), states_of(Shots(3, 1, 6, 0, 0.5), who))


def test_states_of_place_the_face_independently_of_the_nod() -> None:
    states = np.concatenate([states_of(Shots(seed, 0, 20, 0, 0.5), make_identity(seed)) for seed in range(40)])
    assert abs(np.corrcoef(_column(states, "pitch"), _column(states, "shift_y"))[0, 1]) < 0.1
    assert abs(_column(states, "shift_y")).max() > 17


def test_render_gives_what_the_networks_see_with_its_truth() -> None:
    _, frames, values = render(Shots(3, 0, 2, 0, 0.5))
    assert frames.shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert frames.dtype == np.uint8
    states = states_of(Shots(3, 0, 2, 0, 0.5), make_identity(3))
    np.testing.assert_array_equal(values[:, QUANTITIES.index("yaw")], _column(states, "yaw"))
    np.testing.assert_array_equal(values[:, QUANTITIES.index("blink")], _column(states, "blink"))


def test_render_all_in_another_process_keeps_the_order_of_the_jobs() -> None:
    jobs = [Shots(4, 1, 1, 0, 0.0), Shots(3, 0, 2, 0, 0.0)]
    pictures = render_all(jobs, workers=1)
    assert pictures.people.tolist() == [4, 3, 3]
    assert pictures.scenes.tolist() == [1, 0, 0]
    _, frames, values = render(jobs[1])
    assert torch.equal(pictures.frames[1:], torch.from_numpy(frames))
    assert torch.equal(pictures.values[1:], torch.from_numpy(values))


def test_jobs_training_people_and_held_out_people_never_meet() -> None:
    training = training_shots(3, 100, 0)
    assert sum(job.num_frames for job in training) == 102
    assert {job.speaker_seed for job in training} == {FIRST_HELD_OUT - 3, FIRST_HELD_OUT - 2, FIRST_HELD_OUT - 1}
    assert min(job.speaker_seed for job in held_out_shots(0)) == FIRST_HELD_OUT


def test_augmented_mirrors_yaw_and_roll_and_nothing_else() -> None:
    pictures = _pictures()
    images, values = augmented(pictures.frames, pictures.values, torch.Generator().manual_seed(1))
    assert images.shape == pictures.frames.shape
    sign = values / pictures.values
    yaw, pitch, roll = (sign[:, QUANTITIES.index(name)] for name in ("yaw", "pitch", "roll"))
    torch.testing.assert_close(yaw, roll)
    assert set(yaw.round().int().tolist()) == {-1, 1}
    assert set(pitch.round().int().tolist()) == {1}
    torch.testing.assert_close(sign[:, 3:], torch.ones(64, 3))


def test_augmented_mirrored_rows_are_mirrored_pictures() -> None:
    ramp = torch.linspace(0, 255, IMAGE_SIZE).round().to(torch.uint8).expand(32, 3, IMAGE_SIZE, -1).contiguous()
    values = torch.ones(32, len(QUANTITIES))
    images, turned = augmented(ramp, values, torch.Generator().manual_seed(0))
    rises = images[..., -20:].mean(dim=(1, 2, 3)) > images[..., :20].mean(dim=(1, 2, 3))
    assert torch.equal(rises, turned[:, 0] > 0)


def test_augmented_same_generator_gives_the_same() -> None:
    pictures = _pictures(8)
    first, second = (augmented(pictures.frames, pictures.values, torch.Generator().manual_seed(5))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_blurred_keeps_the_mean_and_spreads_a_point() -> None:
    point = torch.zeros(1, 3, 41, 41)
    point[:, :, 20, 20] = 1
    soft = blurred(point, 1.5)
    assert soft.sum().item() == pytest.approx(3, abs=1e-4)
    row = soft[0, 0, 20] / soft[0, 0, 20].sum()
    spread = (row * (torch.arange(41) - 20.0) ** 2).sum().sqrt().item()
    assert spread == pytest.approx(1.5, rel=0.05)


def test_identity_loss_known_cosines() -> None:
    codes = torch.eye(2, IDENTITY_DIM)
    people = torch.ones(2, IDENTITY_DIM)
    people[:, 2:] = 0  # both at 45 degrees: cosines of 0.707, the right one lowered by 0.15
    loss = identity_loss(codes, people, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(np.log1p(np.exp(16 * 0.15)), rel=1e-5)


def test_pictures_of_clips_are_their_frames_with_their_truth(tmp_path: Path) -> None:
    clip = make_clip(3, 0, 5, clean=True)
    clip.truth.states[:, STATE_NAMES.index("blink")] = [0, 0.2, 0, 0.9, 0]
    write_clip(clip, tmp_path / "clip.mp4")
    record = ClipRecord(tmp_path / "clip.mp4", None, 5, "three", 1)
    pictures = read_all([record, record], 8, 1)
    assert pictures.frames.shape == (8, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert pictures.people.tolist() == [1] * 8
    columns = [STATE_NAMES.index(name) for name in QUANTITIES]
    # from the first to the last, and those with the eyes most closed
    expected = torch.from_numpy(clip.truth.states[[0, 4, 3, 1]][:, columns])
    torch.testing.assert_close(pictures.values, torch.cat([expected, expected]))
    drawn = cv2.resize(crop_template(clip.frames[3]), (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
    assert np.abs(pictures.frames[2].numpy().transpose(1, 2, 0) - drawn.astype(float)).mean() < 4  # H.264


def test_pictures_of_both_kinds_keep_their_people_apart() -> None:
    both = together(_pictures(4), _pictures(6))
    assert both.people.tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 2, 3]
    assert torch.equal(both.frames[4:], _pictures(6).frames)
    assert len(both.values) == len(both.scenes) == 10


def test_learning_rate_rises_and_falls_to_zero() -> None:
    assert learning_rate(0) < learning_rate(0.05) == pytest.approx(3e-3)
    assert learning_rate(0.5) < learning_rate(0.2)
    assert learning_rate(1) == pytest.approx(0)


def test_train_one_step_moves_every_weight_and_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_training, "learning_rate", lambda progress: 1e-3)  # does not look at the clock
    first, steps = train(_pictures(), 1e-9, seed=0)
    second, _ = train(_pictures(), 1e-9, seed=0)
    torch.manual_seed(0)
    start = Probe().state_dict()
    assert steps == 1
    assert not first.training
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
        assert not torch.equal(value, start[key]), key


def test_evaluate_perfect_probe_is_perfect() -> None:
    pictures = Pictures(
        _pictures(8).frames, _pictures(8).values, torch.arange(4).repeat_interleave(2), torch.tensor([0, 1] * 4)
    )
    pictures = Pictures(*(t.repeat_interleave(3, dim=0) for t in vars(pictures).values()))
    codes = torch.nn.functional.one_hot(pictures.people, IDENTITY_DIM).float()

    class Perfect(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            assert len(images) == 24
            return dict(zip(QUANTITIES, pictures.values.unbind(1), strict=True)) | {"identity": codes}

    report = evaluate(Perfect(), pictures)  # type: ignore[arg-type]
    assert report["correlation/yaw"] == pytest.approx(1)
    assert report["mean_absolute_error/opening"] == 0
    assert report["identity_retrieval/one_picture"] == report["identity_retrieval/mean_of_pictures"] == 1


def test_retrieval_is_across_scenes_and_a_mean_of_pictures_helps() -> None:
    people, scenes = torch.tensor([7, 7, 7, 9, 9, 9]), torch.tensor([0, 0, 1, 0, 0, 1])
    angles = torch.deg2rad(torch.tensor([50.0, -20, 5, 40, 60, 55]))  # the first picture of 7 looks more like 9
    values = torch.zeros(6, len(QUANTITIES))

    class Probed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            codes = torch.stack([angles.cos(), angles.sin()], dim=1)
            return dict(zip(QUANTITIES, values.unbind(1), strict=True)) | {"identity": codes}

    report = evaluate(Probed(), Pictures(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), values, people, scenes))  # type: ignore[arg-type]
    assert report["identity_retrieval/one_picture"] == 0.0
    assert report["identity_retrieval/mean_of_pictures"] == 1.0


def test_main_trains_a_few_steps_and_writes_weights_and_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"HELD_OUT_PEOPLE": 2, "HELD_OUT_FRAMES": 2, "BATCH": 8}.items():
        monkeypatch.setattr(probe_training, name, value)
    flags = ["--output", str(tmp_path / "probe"), "--num_identities", "2", "--frames", "8", "--minutes", "0.001"]
    assert main(flags) == 0
    report = json.loads((tmp_path / "probe" / "probe.json").read_text())
    assert report["training"]["frames"] == 8
    assert report["held_out"] == {"people": 2, "first": FIRST_HELD_OUT, "frames": 8}
    assert set(report["sharp"]) == set(report["blurred by 1.0 px of 112"])
    assert "correlation/yaw" in capsys.readouterr().out
    readings = read(load_probe(tmp_path / "probe" / "probe.pth"), np.zeros((2, 3, 224, 224), np.uint8))
    assert readings["yaw"].shape == (2,)


def test_half_of_a_teachers_pictures_are_of_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"HELD_OUT_PEOPLE": 2, "HELD_OUT_FRAMES": 2, "BATCH": 8}.items():
        monkeypatch.setattr(probe_training, name, value)
    write_clip(make_clip(3, 0, 5), tmp_path / "clip.mp4")
    write_list(tmp_path / "list.csv", [ClipRecord(tmp_path / "clip.mp4", None, 5, "three", 0)])
    flags = ["--output", str(tmp_path / "teacher"), "--num_identities", "2", "--clips", str(tmp_path / "list.csv")]
    assert main([*flags, "--frames", "7"]) == 2
    assert "--frames must be at least 8" in capsys.readouterr().err
    assert main([*flags, "--frames", "8", "--minutes", "0.001"]) == 0
    training = json.loads((tmp_path / "teacher" / "probe.json").read_text())["training"]
    assert (training["people"], training["frames"]) == (3, 8)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_identities", "1"], "--num_identities must be 2 to 50000"),
        (["--num_identities", "50001"], "from there on people are held out"),
        (["--frames", "10"], "--frames must be at least 800"),
        (["--minutes", "0"], "--minutes: must be a number above 0, got 0"),
        (["--minutes", "nan"], "--minutes: must be a number above 0"),
        (["--seed", "-1"], "--seed: must not be negative, got -1"),
        (["--threads", "0"], "--threads: must be at least 1, got 0"),
    ],
)
def test_main_bad_value_names_the_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main(["--output", str(tmp_path / "probe"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_main_interrupt_returns_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(probe_training, "render_all", interrupt)
    assert main(["--output", str(tmp_path)]) == 130
    assert "nothing was written" in capsys.readouterr().err


def test_main_output_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--output", str(tmp_path / "file")]) == 1
    assert "the folder cannot be made" in capsys.readouterr().err
