"""How a base is fitted: how many steps fit into the minutes, what moves of a small and of a large one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from models.registry import build_network
from options.config import NetworkConfig
from scripts.personal.plan import PLAN_FILE, Plan, find_base, require_free, train_config
from tests.conftest import TINY, write_tiny_model
from util.errors import CheckpointError, OptionError
from util.json_files import read_json, to_builtins


def make_plan(base: Path, **changes: object) -> Plan:
    plan = Plan("me", base.parent, base, base.parent / "work", 30.0, False, False, (-1,), 0, 4)
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A folder without network.json, whose sizes are the published ones."""
    folder = tmp_path / "demo"
    folder.mkdir()
    return folder


def test_steps_fill_the_minutes_between_looks_once_a_minute(tiny_model: Path):
    plan = make_plan(tiny_model).with_times(step_s=0.5, look_s=4.0)
    assert (plan.steps, plan.look_every) == (30 * 112, 112)  # 56 s of steps and 4 s of looking


def test_a_slow_look_comes_less_often(tiny_model: Path):
    plan = make_plan(tiny_model).with_times(step_s=1.0, look_s=60.0)
    assert (plan.steps, plan.look_every) == (6 * 240, 240)  # every 5 minutes, of which it takes one


def test_a_large_base_and_photos_take_few_steps(large: Path, tiny_model: Path):
    plan = make_plan(large).with_times(step_s=1.0, look_s=1.0)
    assert (plan.steps, plan.look_every) == (250, 50)
    assert make_plan(tiny_model, only_photos=True).with_times(0.1, 1.0).steps == 300
    assert make_plan(tiny_model).with_steps(7).steps == 7


def test_a_plan_comes_back_from_its_file(tiny_model: Path, tmp_path: Path):
    plan = make_plan(tiny_model).with_steps(40)
    (tmp_path / PLAN_FILE).write_text(__import__("json").dumps(to_builtins(plan)))
    assert read_json(tmp_path / PLAN_FILE, Plan) == plan


def test_all_of_a_small_base_moves_and_the_schedule_counts_steps(tiny_model: Path):
    plan = make_plan(tiny_model).with_steps(90)
    config = train_config(plan, plan.directory, "fp32", use_noise=False)
    assert (config.moving, config.frozen) == ((), ())
    assert (config.optim.niter, config.optim.niter_decay, config.max_steps) == (60, 30, 90)
    assert config.personal.patience == 14  # of 22 looks
    assert (config.batch_size, config.personal.first_share, config.personal.last_share) == (4, 0.5, 0.25)
    assert not config.personal.base_is_target
    assert config.loss.lambda_contrastive > 0
    photo = train_config(make_plan(tiny_model, only_photos=True).with_steps(90), plan.directory, "fp32", False)
    assert (photo.frozen, photo.loss.lambda_contrastive) == (("E", "A_sync"), 0)  # nothing is heard or seen to move
    assert photo.personal.lambda_pose > config.personal.lambda_pose
    assert photo.personal.last_share == photo.personal.first_share == 0.5
    assert train_config(plan, plan.directory, "fp32", False, max_steps=12).max_steps == 12


def test_a_d_beside_the_base_is_taken_unless_the_base_has_its_own(tiny_model: Path):
    plan = make_plan(tiny_model).with_steps(9)
    assert train_config(plan, plan.directory, "fp32", use_noise=False).pretrain_paths == ()
    beside = tiny_model.with_name(f"{tiny_model.name}_training") / "latest_net_D.pth"
    beside.parent.mkdir()
    beside.touch()
    config = train_config(plan, plan.directory, "fp32", use_noise=False)
    assert (config.pretrain_dirs, config.pretrain_paths) == ((tiny_model,), (("D", beside),))
    (tiny_model / "latest_net_D.pth").touch()
    assert train_config(plan, plan.directory, "fp32", use_noise=False).pretrain_paths == ()


def test_of_a_large_base_the_last_levels_of_g_move(large: Path):
    config = train_config(make_plan(large), large, "fp32", use_noise=True)
    names = [f"G.{name}" for name, _ in build_network("G", NetworkConfig()).named_parameters()]
    moving = {name.split(".")[1] + name.split(".")[2] for name in names if name.startswith(config.moving)}
    assert moving == {*(f"convs{n}" for n in range(4, 10)), "to_rgbs2", "to_rgbs3", "to_rgbs4"}
    assert config.frozen == ("V", "E", "A_sync")
    assert config.personal.base_is_target
    photo = train_config(make_plan(large, only_photos=True).with_steps(90), large, "fp32", use_noise=True)
    assert "V.conv1x1." in photo.moving
    assert photo.optim.late == (("G", 30),)  # the identity first


def test_the_base_is_demo_where_it_is_there(tmp_path: Path):
    write_tiny_model(tmp_path / "synthetic", TINY)
    assert find_base(None, tmp_path) == tmp_path / "synthetic"
    write_tiny_model(tmp_path / "demo", TINY)
    assert find_base(None, tmp_path) == tmp_path / "demo"
    assert find_base("synthetic", tmp_path) == tmp_path / "synthetic"
    with pytest.raises(OptionError, match=r"--base mine: .* holds no base"):
        find_base("mine", tmp_path)


def test_nothing_that_is_there_is_overwritten(tiny_model: Path, tmp_path: Path):
    plan = make_plan(tiny_model, checkpoints_dir=tmp_path)
    require_free(plan)
    plan.directory.mkdir()
    (plan.directory / "latest_net_G.pth").write_bytes(b"weights of somebody")
    with pytest.raises(CheckpointError, match="holds weights already"):
        require_free(plan)
    (plan.directory / PLAN_FILE).write_text("{}")
    with pytest.raises(OptionError, match="go on with --continue"):
        require_free(plan)
