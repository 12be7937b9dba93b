"""Several processes over gloo: the gradients of one, one run together, and a killed rank."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import train
from models.networks.sync_batch_norm import SyncBatchNorm, convert_batch_norm
from models.registry import build_network
from models.trainers.base import to_device
from models.trainers.build import TRAINERS
from models.trainers.loop import Trainer
from models.trainers.optimiser import Player
from tests.conftest import voice, write_frames, write_wav
from tests.ranks import run_ranks
from tests.test_models_trainers import SIZES, make_batch, make_config
from util.distributed import Ranks
from util.json_files import to_builtins

CLIPS = 4


def gradients_of(stage_name: str, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Gradients of the stage and of its adversary for this rank's part of one batch."""
    config, cpu = make_config(stage_name, batch_size=CLIPS), torch.device("cpu")
    torch.manual_seed(0)
    # double, because rounding would flip signs that the gradients of L1 and ReLU hang on
    networks = {letter: build_network(letter, config.network).double() for letter in config.letters}
    for network in networks.values() if ranks.is_distributed else ():
        convert_batch_norm(network, cpu)
    stage = TRAINERS[stage_name](networks, config)
    for module in stage.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # each process would drop other units
    whole = make_batch(1, clips=CLIPS)
    part = {name: value[ranks.rank :: ranks.world_size] for name, value in whole.items()}
    batch = {k: v.double() if v.is_floating_point() else v for k, v in to_device(part, cpu).items()}
    rest = (config, cpu, torch.amp.GradScaler("cpu", enabled=False), ranks.is_distributed)
    outputs, _ = Player(stage, *rest).backward([(batch,)])
    found = {name: p.grad.clone() for name, p in stage.parameters_to_train()}
    if stage.adversary is not None:
        stage.adversary.set_trainable(True)
        Player(stage.adversary, *rest).backward([outputs[0].for_adversary])
        found |= {name: p.grad.clone() for name, p in stage.adversary.parameters_to_train()}
    # every process draws other noise images, and only their weights' gradients see them: the weights are still 0
    return {name: value for name, value in found.items() if not name.endswith("noise.weight")}


def save_gradients(ranks: Ranks, stage_name: str, folder: str) -> None:
    """One rank's gradients, in a file."""
    torch.save(gradients_of(stage_name, ranks), Path(folder, f"gradients{ranks.rank}.pth"))


@pytest.mark.parametrize(("wanted", "kind"), [(True, SyncBatchNorm), (False, nn.BatchNorm2d)])
def test_batch_norm_is_shared_among_processes_unless_told_otherwise(wanted: bool, kind: type, tmp_path: Path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        config = make_config("sync", sync_batch_norm=wanted)
        networks = {letter: build_network(letter, config.network) for letter in config.letters}
        Trainer(TRAINERS["sync"](networks, config), networks, config, torch.device("cpu"), Ranks(0, 0, 2), 1)
        norms = [m for m in networks["E"].modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        assert {type(norm) for norm in norms} == {kind}
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("stage_name", ["sync", "joint"])
def test_two_ranks_with_half_the_batch_make_the_gradients_of_one(stage_name: str, tmp_path: Path):
    run_ranks("tests.test_train_distributed:save_gradients", stage_name, str(tmp_path))
    alone = gradients_of(stage_name, Ranks())
    for rank in (0, 1):
        shared = torch.load(tmp_path / f"gradients{rank}.pth", weights_only=True)
        assert shared.keys() == alone.keys()
        assert len(alone) > 20
        for name, gradient in alone.items():
            largest = float(gradient.abs().max())
            assert float((shared[name] - gradient).abs().max()) <= 1e-5 * max(largest, 1.0), name


def test_sync_batch_norm_alone_is_batch_norm():
    torch.manual_seed(0)
    plain, copy = nn.BatchNorm2d(5), nn.Sequential(nn.BatchNorm2d(5))
    copy[0].load_state_dict(plain.state_dict())
    convert_batch_norm(copy, torch.device("cpu"))
    assert isinstance(copy[0], SyncBatchNorm)
    assert list(copy[0].state_dict()) == list(plain.state_dict())
    x = torch.randn(4, 5, 3, 3)
    torch.testing.assert_close(copy(x), plain(x))
    torch.testing.assert_close(copy[0].running_var, plain.running_var)


# ------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for speaker in range(2):
        for clip in range(2):
            folder = root / f"id{speaker:05d}" / f"{clip:05d}"
            write_frames(folder, 6, seed=2 * speaker + clip, size=56)
            write_wav(folder / "audio.wav", voice(6 / 25, seed=2 * speaker + clip))
    sizes = dataclasses.replace(SIZES, clip_len=2)
    (root / "sizes.json").write_text(json.dumps({**to_builtins(sizes), "num_classes": 2}))
    return root


def start(tree: Path, checkpoints: Path, *flags: str) -> subprocess.Popen:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    common = [
        *("train.py", "--checkpoints_dir", str(checkpoints), "--gpu_ids", "-1", "--nThreads", "0", "--batchSize", "4"),
        *("--no_tensorboard", "--dataroot", str(tree), "--network_file", str(tree / "sizes.json"), "--name", "two"),
        *("--train_sync", "--print_freq", "1", "--save_freq", "1"),
    ]
    return subprocess.Popen(
        [*launcher, *common, *flags], cwd=Path(train.__file__).parent, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def test_a_killed_rank_ends_the_job_and_leaves_a_usable_checkpoint(tree: Path, tmp_path: Path):
    process = start(tree, tmp_path, "--niter", "100000")
    state = tmp_path / "two" / "latest_state.pth"
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None and not state.is_file():
        time.sleep(0.2)
    assert state.is_file()
    children = [
        int(pid.name)
        for pid in Path("/proc").iterdir()
        if pid.name.isdigit() and _is_rank(pid, process.pid, rank=1)
    ]  # fmt: skip
    assert len(children) == 1
    os.kill(children[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0, errors
    step = torch.load(state, weights_only=True)["step"]
    assert step >= 1
    flags = ["--checkpoints_dir", str(tmp_path), "--gpu_ids", "-1", "--nThreads", "0", "--batchSize", "4",
             "--no_tensorboard", "--dataroot", str(tree), "--name", "two", "--train_sync"]  # fmt: skip
    assert train.main([*flags, "--continue_train", "--max_steps", str(step + 1)]) == 0
    assert torch.load(state, weights_only=True)["step"] == step + 1


def _is_rank(process: Path, parent: int, rank: int) -> bool:
    try:
        environment = (process / "environ").read_bytes().split(b"\0")
        status = (process / "status").read_text()
    except OSError:
        return False
    return f"PPid:\t{parent}\n" in status and f"RANK={rank}".encode() in environment
