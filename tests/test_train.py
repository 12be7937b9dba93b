"""train.py as it is used: stages in a row, going on exactly, stopping politely, and one clear error for bad input."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import train
from data.clip_list import ClipRecord, scan_tree, write_list
from data.webdataset_shards import ShardIndex, write_index
from models.av_model import AvModel
from models.trainers import build, loop
from options.config import NetworkConfig
from tests.conftest import TINY, voice, write_frames, write_wav
from util import distributed
from util.errors import CheckpointError
from util.json_files import to_builtins
from util.locks import folder_lock

SPEAKERS, CLIPS, FRAMES = 3, 2, 10
SIZES = dataclasses.replace(TINY, clip_len=3, audio_filters=(32, 32, 32, 32))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame folders with sound: <speaker>/<clip>/000000.jpg and audio.wav."""
    root = tmp_path_factory.mktemp("train data")  # with a space
    for speaker in range(SPEAKERS):
        for clip in range(CLIPS):
            folder = root / f"id{speaker:05d}" / f"{clip:05d}"
            write_frames(folder, FRAMES, seed=10 * speaker + clip, size=56)
            write_wav(folder / "audio.wav", voice(FRAMES / 25, seed=10 * speaker + clip))
    sizes = root / "sizes.json"
    sizes.write_text(json.dumps({**to_builtins(SIZES), "num_classes": SPEAKERS}))
    return root


@pytest.fixture
def run(tree: Path, tmp_path: Path) -> Callable[..., int]:
    def start(*flags: str) -> int:
        common = ["--checkpoints_dir", str(tmp_path), "--gpu_ids", "-1", "--nThreads", "0", "--no_tensorboard"]
        data = [] if any(flag in flags for flag in ("--dataroot", "--train_list")) else ["--dataroot", str(tree)]
        return train.main([*common, *data, "--network_file", str(tree / "sizes.json"), "--batchSize", "2", *flags])

    return start


JOINT = ("--no_vgg_loss", "--num_clips", "2", "--ema", "0.9", "--print_freq", "1")


def read_state(folder: Path) -> dict:
    return torch.load(folder / "latest_state.pth", weights_only=True)


def assert_same(one: object, other: object, place: str = "") -> None:
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{place}[{number}]")
    else:
        assert one == other, place


def test_resumed_joint_training_is_bit_identical_in_mid_epoch(run, tmp_path: Path):
    # 6 clips in batches of 2: 3 steps an epoch, so both the break after 2 steps and the end at 4 lie inside an epoch
    assert run("--name", "whole", *JOINT, "--max_steps", "4") == 0
    assert run("--name", "parts", *JOINT, "--max_steps", "2") == 0
    assert read_state(tmp_path / "parts")["step"] == 2
    assert run("--name", "parts", *JOINT, "--max_steps", "4", "--continue_train") == 0
    whole, parts = read_state(tmp_path / "whole"), read_state(tmp_path / "parts")
    for part in ("step", "networks", "optimisers", "averages", "scaler"):
        assert_same(whole[part], parts[part], part)
    logs = [(tmp_path / name / "loss_log.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    losses = [[{k: v for k, v in json.loads(line).items() if k.startswith("loss/")} for line in log] for log in logs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def test_flags_of_a_continued_run_count(run, tmp_path: Path):
    assert run("--name", "c", "--no_vgg_loss", "--max_steps", "1", "--lr", "1e-3") == 0
    flags = ("--no_vgg_loss", "--max_steps", "2", "--continue_train", "--lr", "1e-5", "--ema", "0.9")
    assert run("--name", "c", *flags) == 0
    state = read_state(tmp_path / "c")
    rates = [group["initial_lr"] for saved in state["optimisers"] for group in saved["param_groups"]]
    assert rates == pytest.approx([5e-6, 2e-5])
    assert set(state["averages"]) == set(state["networks"]["G"]) - {n for n in state["networks"]["G"] if _is_buffer(n)}


def _is_buffer(name: str) -> bool:
    return name.startswith("noises.") or name.endswith("kernel")


def test_another_batch_size_keeps_the_place_in_the_schedule(run, tmp_path: Path, capsys: pytest.CaptureFixture):
    # 6 clips: 3 steps an epoch with 2 of them, 2 with 3; 2 of 4 epochs are over when the run stops
    recognition = ("--train_recognition", "--name", "b", "--niter", "2", "--niter_decay", "2", "--save_epoch_freq", "1")
    assert run(*recognition, "--max_steps", "6") == 0
    assert run(*recognition, "--batchSize", "3", "--continue_train", "--max_steps", "7") == 0
    assert "an epoch has 2 steps now, had 3; the schedule goes on at epoch 2.00" in capsys.readouterr().err
    assert run(*recognition, "--batchSize", "3", "--continue_train") == 0
    assert read_state(tmp_path / "b")["step"] == 6 + 2 * 2
    assert sorted(p.name for p in (tmp_path / "b").glob("?_net_V.pth")) == [f"{n}_net_V.pth" for n in (2, 3, 4)]


def test_amsgrad_can_be_left_out_and_taken_up_again(run, tmp_path: Path):
    runs = (("--no_amsgrad",), ("--continue_train",), ("--no_amsgrad", "--continue_train"))
    for steps, flags in enumerate(runs, start=1):
        assert run("--name", "a", "--no_vgg_loss", "--max_steps", str(steps), *flags) == 0
        group = read_state(tmp_path / "a")["optimisers"][0]["param_groups"][0]
        assert group["amsgrad"] is ("--no_amsgrad" not in flags)


def test_shards_with_more_speakers_than_classes_are_refused(run, tmp_path: Path, capsys: pytest.CaptureFixture):
    write_index(tmp_path, ShardIndex({"shard-000000.tar": 4}, 5, {}))
    flags = ("--dataset_mode", "webdataset", "--dataroot", str(tmp_path), "--num_classes", "4")
    assert run("--name", "s", "--train_recognition", *flags) == 2
    assert "--num_classes 4: the data has labels up to 4" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_unexpected_error_ends_the_process_with_its_loaders(tree: Path, tmp_path: Path, workers: int):
    code = (
        "import sys, train\n"
        "from models.trainers.loop import Trainer\n"
        "if __name__ == '__main__':\n"
        "    def fail(self, chunk): raise RuntimeError('connection closed by peer')\n"
        "    Trainer.training_step = fail\n"
        "    train.exit_process(train.main(sys.argv[1:]))\n"
    )
    (tmp_path / "broken.py").write_text(code)
    command = [sys.executable, str(tmp_path / "broken.py"), "--checkpoints_dir", str(tmp_path), "--gpu_ids", "-1",
               "--nThreads", str(workers), "--no_tensorboard", "--no_html", "--dataroot", str(tree),
               "--network_file", str(tree / "sizes.json"), "--batchSize", "2", "--name", "x",
               "--train_recognition"]  # fmt: skip
    root = Path(train.__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "RuntimeError: connection closed by peer" in done.stderr


def test_a_swapped_freeze_flag_is_refused_at_resume(run, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run("--name", "f", "--no_vgg_loss", "--max_steps", "1", "--fix_netE_mouth") == 0
    flags = ("--no_vgg_loss", "--max_steps", "2", "--continue_train", "--fix_netE_headpose")
    assert run("--name", "f", *flags) == 1
    assert "trains other parameters (E." in capsys.readouterr().err
    assert read_state(tmp_path / "f")["step"] == 1


def test_a_folder_with_weights_alone_is_not_overwritten(run, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "latest_net_G.pth").write_bytes(b"the published weights")
    assert run("--name", "demo", *JOINT, "--max_steps", "1") == 2
    assert "holds weights already" in capsys.readouterr().err


def test_options_file_of_a_training_can_be_used_again(run, tree: Path, tmp_path: Path):
    assert run("--train_recognition", "--name", "o", "--max_steps", "1") == 0
    options = str(tmp_path / "o" / "options.json")
    assert train.main(["--load_from_opt_file", options, "--name", "again"]) == 0
    assert read_state(tmp_path / "again")["step"] == 1


def test_stages_in_a_row_start_from_one_another(run, tmp_path: Path):
    assert run("--train_recognition", "--name", "v", "--max_steps", "2") == 0
    assert run("--train_sync", "--name", "s", "--num_clips", "2", "--max_steps", "2") == 0
    folders = [str(tmp_path / name) for name in ("v", "s")]
    # a rate of nearly nothing, so that what was loaded can still be recognised
    tiny_step = ("--lr", "1e-12")
    assert run("--name", "g", *JOINT, "--load_pretrain", *folders, *tiny_step, "--max_steps", "1") == 0
    assert (
        run("--name", "g", *JOINT, "--load_pretrain", *folders, *tiny_step, "--max_steps", "2", "--continue_train") == 0
    )
    assert read_state(tmp_path / "g")["config"]["pretrain_dirs"] == tuple(folders)
    for letter, folder in (("V", "v"), ("A_sync", "s"), ("E", "s")):
        before = torch.load(tmp_path / folder / f"latest_net_{letter}.pth", weights_only=True)
        after = torch.load(tmp_path / "g" / f"latest_net_{letter}.pth", weights_only=True)
        weights = [key for key in before if key.endswith("weight")]
        assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in weights)
    assert json.loads((tmp_path / "g" / "network.json").read_text())["num_classes"] == SPEAKERS
    sizes = NetworkConfig.from_file(tmp_path / "g" / "network.json")
    AvModel.from_checkpoints(tmp_path / "g", "latest", sizes, torch.device("cpu"))  # test.py can use it


def test_grown_generator_keeps_what_the_smaller_one_learned(run, tree: Path, tmp_path: Path):
    assert run("--name", "small", *JOINT, "--max_steps", "1") == 0
    larger = dataclasses.replace(
        SIZES, crop_size=56, generator_channels=(16, 16, 16, 8), identity_size=28, pose_size=28
    )
    file = tmp_path / "larger.json"
    file.write_text(json.dumps({**to_builtins(larger), "num_classes": SPEAKERS}))
    flags = ("--name", "large", *JOINT, "--network_file", str(file), "--lr", "1e-12", "--max_steps", "1")
    assert run(*flags, "--load_pretrain", str(tmp_path / "small"), "--grow_G") == 0
    small = torch.load(tmp_path / "small" / "latest_net_G.pth", weights_only=True)
    large = torch.load(tmp_path / "large" / "latest_net_G.pth", weights_only=True)
    assert len(large) > len(small)
    for key in small:
        assert torch.allclose(small[key], large[key], atol=1e-6), key


def test_validation_and_pictures_appear(run, tree: Path, tmp_path: Path):
    write_list(tmp_path / "val.csv", scan_tree(tree))
    flags = ("--name", "shown", *JOINT, "--max_steps", "2", "--val_list", str(tmp_path / "val.csv"), "--val_freq", "1")
    assert run(*flags, "--val_batches", "1", "--display_freq", "2") == 0
    lines = [json.loads(line) for line in (tmp_path / "shown" / "loss_log.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "val/l1" in line]
    assert len(measured) == 2
    assert all(0 <= line["val/sync_sound_to_picture"] <= 1 for line in measured)
    page = (tmp_path / "shown" / "web" / "index.html").read_text()
    for label in ("input", "target", "generated"):
        assert label in page


def test_signals_are_given_back(run):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run("--train_recognition", "--name", "polite", "--max_steps", "1") == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_trainer_is_gone_before_the_processes_part(run, monkeypatch: pytest.MonkeyPatch):
    # freed after the process group, DistributedDataParallel would wait for threads that wait for Python
    trainers = []

    def build_trainer(*arguments: object) -> object:
        trainer = build_trainer_before(*arguments)  # type: ignore[arg-type]
        trainers.append(weakref.ref(trainer))
        return trainer

    build_trainer_before = build.build_trainer
    monkeypatch.setattr(build, "build_trainer", build_trainer)
    monkeypatch.setattr(distributed, "shutdown", lambda: trainers.append(trainers[0]()))
    assert run("--train_recognition", "--name", "gone", "--max_steps", "1") == 0
    assert trainers[1:] == [None]


def test_numbered_saves_are_limited(run, tmp_path: Path):
    flags = ("--train_recognition", "--name", "kept", "--niter", "4", "--niter_decay", "0", "--save_epoch_freq", "1")
    assert run(*flags, "--keep_last", "2") == 0
    numbered = sorted(p.name for p in (tmp_path / "kept").glob("[0-9]*_net_V.pth"))
    assert numbered == ["3_net_V.pth", "4_net_V.pth"]


def test_dry_run_prints_the_plan_and_writes_nothing(run, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run("--name", "plan", *JOINT, "--dry_run", "--niter", "2", "--niter_decay", "1") == 0
    text = capsys.readouterr().out
    assert "6 clips, 3 steps an epoch, 3 epochs, 9 steps" in text
    assert re.search(r"G +0\.13 M parameters, +0\.05 M trained", text)
    assert "G/feature_matching x 10" in text
    assert re.search(r"memory of one device, estimated: \d+\.\d GiB", text)
    assert not (tmp_path / "plan").exists()


@pytest.mark.parametrize(
    ("number", "code", "workers"), [(signal.SIGINT, 130, 0), (signal.SIGTERM, 143, 0), (signal.SIGINT, 130, 1)]
)
def test_signal_saves_and_stops(tree: Path, tmp_path: Path, number: signal.Signals, code: int, workers: int):
    command = [sys.executable, "train.py", "--checkpoints_dir", str(tmp_path), "--gpu_ids", "-1",
               "--nThreads", str(workers),
               "--no_tensorboard", "--dataroot", str(tree), "--network_file", str(tree / "sizes.json"),
               "--batchSize", "2", "--name", "stopped", "--train_recognition",
               "--niter", "100000", "--print_freq", "1"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    # a background job of a shell without job control ignores SIGINT, and so would its children
    process = subprocess.Popen(
        command, cwd=Path(train.__file__).parent, env=environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), start_new_session=True,
    )  # fmt: skip
    log = tmp_path / "stopped" / "loss_log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not (log.is_file() and log.read_text()):
        time.sleep(0.1)
    os.killpg(process.pid, number)  # as a terminal does: loading processes get it, too
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # says where every thread of every process is
        pytest.fail(process.communicate()[1][-8000:])
    assert process.returncode == code, errors
    state = read_state(tmp_path / "stopped")
    assert state["step"] >= 1
    assert (tmp_path / "stopped" / "latest_net_V.pth").is_file()


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--batchSize", "7"), 1, "only 6 clips for --batchSize 7"),
        (("--train_sync", "--train_recognition"), 2, "choose one stage"),
        (("--train_dis_pose",), 2, "clip_len \\* frame_interval >= 20"),
        (("--continue_train",), 1, "nothing to --continue_train"),
        (("--load_pretrain", "nowhere"), 1, "--load_pretrain nowhere: holds no latest_net"),
        (("--network_file", "nowhere.json"), 2, "--network_file nowhere.json: no such file"),
        (("--load_separately",), 2, "--load_separately: give at least one"),
        (("--num_classes", "2"), 2, "--num_classes 2: the data has labels up to 2"),
        (("--crop_len", "112"), 2, "--crop_len must be less than 112, got 112"),
        (("--train_list", "a.csv", "--dataset_mode", "webdataset"), 2, "--train_list lists clips"),
        (("--no_gan_loss", "--no_ganFeat_loss", "--no_id_loss", "--no_cross_modal"), 2, "every loss is switched off"),
        (("--train_recognition", "--no_id_loss"), 2, "learns from speakers"),
        (("--gpu_ids", "0,1", "--batchSize", "3"), 2, "multiple of the 2 GPUs"),
        (("--niter", "0", "--niter_decay", "0"), 2, "nothing to train"),
        (("--ema", "1"), 2, "--ema must lie in"),
        (("--lambda_independence", "1", "--clip_len", "1"), 2, "--clip_len must be at least 2, got 1"),
        (("--train_list", "nowhere.csv"), 1, "nowhere.csv"),
        (("--clip_len", "50"), 1, "none of 6 clips has the"),
        (("--vgg_path", "nowhere.pth"), 1, "--no_vgg_loss"),
    ],
)
def test_bad_input_is_one_clear_error(run, capsys: pytest.CaptureFixture, flags, code: int, message: str):
    vgg = () if "--vgg_path" in flags else ("--no_vgg_loss",)
    assert run("--name", "bad", *vgg, "--max_steps", "1", *flags) == code
    errors = capsys.readouterr().err
    assert re.search(message, errors), errors
    assert "Traceback" not in errors


def test_a_finished_run_is_not_overwritten(run, capsys: pytest.CaptureFixture, tmp_path: Path):
    assert run("--train_recognition", "--name", "once", "--max_steps", "1") == 0
    before = (tmp_path / "once" / "latest_net_V.pth").read_bytes()
    assert run("--train_recognition", "--name", "once", "--max_steps", "1") == 2
    assert "add --continue_train" in capsys.readouterr().err
    assert (tmp_path / "once" / "latest_net_V.pth").read_bytes() == before
    assert run("--train_sync", "--name", "once", "--max_steps", "2", "--continue_train") == 1
    assert "holds stage 'recognition'" in capsys.readouterr().err


def test_weights_of_other_sizes_are_refused(run, capsys: pytest.CaptureFixture, tree: Path, tmp_path: Path):
    assert run("--train_recognition", "--name", "v", "--max_steps", "1") == 0
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**to_builtins(SIZES), "identity_width": 16, "num_classes": SPEAKERS}))
    flags = ("--train_recognition", "--name", "w", "--max_steps", "1", "--network_file", str(other))
    assert run(*flags, "--load_pretrain", str(tmp_path / "v")) == 1
    assert re.search(r"latest_net_V\.pth: .* is \[.*\] in the file and \[.*\] in the network", capsys.readouterr().err)


def test_a_broken_clip_among_others_is_skipped_counted_and_named(run, tree: Path, tmp_path: Path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film at all")
    records = [*scan_tree(tree), ClipRecord(broken, None, FRAMES, "id00000", 0)]
    write_list(tmp_path / "list.csv", records)
    flags = ("--train_recognition", "--name", "r", "--train_list", str(tmp_path / "list.csv"), "--batchSize", "7")
    assert run(*flags, "--max_steps", "3") == 0
    assert re.search(r"1 clips could not be read: .*broken\.mp4", capsys.readouterr().err)
    assert read_state(tmp_path / "r")["step"] == 3


@pytest.mark.parametrize(("refused", "flags"), [("save_state_dict", ["--continue_train"]), ("save_state", [])])
def test_first_save_on_a_full_disk_leaves_one_way_out(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, refused: str, flags: list[str]
):
    def full(*_: object) -> None:
        raise CheckpointError("latest: cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loop, refused, full)
        assert run("--train_sync", "--name", "sync", "--max_steps", "2") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert run("--train_sync", "--name", "sync", "--max_steps", "2", *flags) == 0
    assert (tmp_path / "sync" / "latest_net_E.pth").is_file()


def test_equal_runs_write_equal_files(run, tmp_path: Path):
    for name in ("one", "two"):
        assert run("--train_sync", "--name", name, "--max_steps", "1") == 0
    for file in ("latest_net_E.pth", "latest_net_A_sync.pth"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_folder_of_a_run_is_left_to_who_trains_in_it(run, tmp_path: Path, capsys: pytest.CaptureFixture):
    with folder_lock(tmp_path / "sync", "--name:"):
        assert run("--train_sync", "--name", "sync", "--max_steps", "1") == 1
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err
    assert run("--train_sync", "--name", "sync", "--max_steps", "1") == 0
    assert not (tmp_path / "sync" / ".in_use").exists()
