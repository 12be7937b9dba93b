"""Several ranks: real gloo processes against one process with the whole batch, and torch's launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.losses import contrastive_loss
from tests.ranks import run_ranks
from util import distributed
from util.distributed import Ranks, gather_with_gradient, ranks_from_environment, visible_devices
from util.errors import OptionError

ROOT = Path(__file__).resolve().parents[1]
WORLD_SIZE, ROWS = 2, 4
LOSSES = ("whole", "own_anchors", "not_gathered")


class _TwoTowers(nn.Module):
    """Pictures and sounds to one space, as the sync stage does."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.sound = nn.Linear(6, 5), nn.Linear(3, 5)

    def forward(self, pictures: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor]:
        return self.picture(pictures), self.sound(sounds)


def _model_and_batch() -> tuple[_TwoTowers, Tensor, Tensor]:
    torch.manual_seed(0)
    model = _TwoTowers()
    return model, torch.randn(WORLD_SIZE * ROWS, 6), torch.randn(WORLD_SIZE * ROWS, 3)


def _loss(kind: str, a: Tensor, b: Tensor, rank: int) -> Tensor:
    """What a rank computes of its rows; the mean over ranks of the first two is the loss of the whole batch."""
    if kind == "not_gathered":
        return contrastive_loss(a, b)
    a, b = gather_with_gradient(a), gather_with_gradient(b)
    if kind == "whole":
        return contrastive_loss(a, b) + contrastive_loss(b, a)
    own = slice(rank * ROWS, (rank + 1) * ROWS)  # own anchors against everybody's candidates, in both directions
    logits = 1 / (torch.cdist(nn.functional.normalize(a), nn.functional.normalize(b)) + 1e-8)
    targets = torch.arange(len(a))[own]
    return nn.functional.cross_entropy(logits[own], targets) + nn.functional.cross_entropy(logits.T[own], targets)


def _gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def save_what_a_rank_sees(ranks: Ranks, folder: str) -> None:
    """One rank: everything the tests below look at, saved to a file."""
    rank = ranks.rank
    found: dict[str, object] = {"ranks": (rank, ranks.local_rank, ranks.world_size, ranks.is_main)}
    for kind in LOSSES:
        model, pictures, sounds = _model_and_batch()
        parallel = DistributedDataParallel(model)
        own = slice(rank * ROWS, (rank + 1) * ROWS)
        _loss(kind, *parallel(pictures[own], sounds[own]), rank).backward()
        found[kind] = _gradients(model)
    rows = torch.full((2, 3), float(rank), requires_grad=True)
    gathered = gather_with_gradient(rows)
    (gathered * torch.arange(4.0)[:, None] * (rank + 1)).sum().backward()
    found["gathered"], found["row_gradient"] = gathered.detach(), rows.grad
    values = {"a": 1.0 + rank, "b": 10.0} if rank == 0 else {"b": 20.0, "a": 1.0 + rank}
    found["mean"] = distributed.mean_over_ranks(values)
    found["any"] = [distributed.any_rank(flag) for flag in (False, rank == 1, True)]
    del parallel, model  # see `shutdown`
    distributed.shutdown()
    found["after"] = distributed.any_rank(rank == 1)
    torch.save(found, Path(folder, f"{rank}.pt"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two ranks saw."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks("tests.test_util_distributed:save_what_a_rank_sees", str(folder), world_size=WORLD_SIZE)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD_SIZE)]


def _single_process_gradients(kind: str = "whole") -> list[Tensor]:
    model, pictures, sounds = _model_and_batch()
    _loss(kind, *model(pictures, sounds), rank=0).backward()
    return _gradients(model)


@pytest.mark.parametrize("kind", ["whole", "own_anchors"])
def test_gradients_of_gathered_rows_averaged_by_ddp_equal_one_process(found: list[dict], kind: str) -> None:
    expected = _single_process_gradients()
    assert max(float(g.abs().max()) for g in expected) > 0.01
    for rank in range(WORLD_SIZE):
        for gradient, wanted in zip(found[rank][kind], expected, strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-6)


def test_without_gathering_the_gradients_are_others(found: list[dict]) -> None:
    expected = _single_process_gradients("not_gathered")
    assert max(float((g - e).abs().max()) for g, e in zip(found[0]["not_gathered"], expected, strict=True)) > 1e-3


def test_gather_orders_rows_by_rank_and_sums_their_gradients(found: list[dict]) -> None:
    for rank in range(WORLD_SIZE):
        assert found[rank]["gathered"].tolist() == [[0] * 3, [0] * 3, [1] * 3, [1] * 3]
        # row i is weighted i on rank 0 and 2 i on rank 1
        assert found[rank]["row_gradient"].tolist() == [[3.0 * (2 * rank + i)] * 3 for i in range(2)]


def test_exchanges_give_all_ranks_the_same(found: list[dict]) -> None:
    assert [f["ranks"] for f in found] == [(0, 0, 2, True), (1, 1, 2, False)]
    for rank in range(WORLD_SIZE):
        assert found[rank]["mean"] == {"a": 1.5, "b": 15.0}
        assert list(found[rank]["mean"]) == (["a", "b"] if rank == 0 else ["b", "a"])
        assert found[rank]["any"] == [False, True, True]
        assert found[rank]["after"] is (rank == 1)


def test_alone_everything_is_the_identity() -> None:
    distributed.init_process_group(Ranks(), torch.device("cpu"))
    tensor = torch.ones(2, 3)
    assert gather_with_gradient(tensor) is tensor
    assert distributed.mean_over_ranks({"a": 2.0}) == {"a": 2.0}
    assert (distributed.any_rank(True), distributed.any_rank(False)) == (True, False)
    distributed.shutdown()
    assert (Ranks().is_main, Ranks().is_distributed, Ranks(1, 1, 2).is_main, Ranks(1, 1, 2).is_distributed) == (
        True, False, False, True,
    )  # fmt: skip


def _set_environment(monkeypatch: pytest.MonkeyPatch, *values: str | None) -> None:
    for name, value in zip(("RANK", "LOCAL_RANK", "WORLD_SIZE"), values, strict=True):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def test_ranks_from_environment_reads_what_torchrun_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_environment(monkeypatch, None, None, None)
    assert ranks_from_environment() == Ranks(0, 0, 1)
    _set_environment(monkeypatch, "5", "1", "8")
    assert ranks_from_environment() == Ranks(5, 1, 8)


@pytest.mark.parametrize(
    "values", [("0", None, "2"), (None, "0", None), ("2", "0", "2"), ("a", "0", "2"), ("-1", "0", "2")]
)
def test_ranks_from_environment_half_set_is_an_error(
    monkeypatch: pytest.MonkeyPatch, values: tuple[str | None, ...]
) -> None:
    _set_environment(monkeypatch, *values)
    with pytest.raises(
        OptionError, match=r"the environment says RANK=.*, LOCAL_RANK=.*start several processes with torchrun"
    ):
        ranks_from_environment()


def test_init_process_group_names_the_place_it_cannot_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(OptionError, match=r"rank 1 of 2 cannot join the others at 127.0.0.1:1: "):
        distributed.init_process_group(Ranks(1, 1, 2), torch.device("cpu"), timeout_s=1)


def test_visible_devices_count_within_what_is_visible() -> None:
    assert visible_devices((3, 1), None) == "3,1"
    assert visible_devices((3, 1), "4, 5,6,7") == "7,5"
    assert visible_devices((1,), "GPU-aa,GPU-bb") == "GPU-bb"
    with pytest.raises(OptionError, match=r"--gpu_ids: there is no card 2, CUDA_VISIBLE_DEVICES=4,5 shows 2"):
        visible_devices((0, 2), "4,5")


def _launch(script: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    code = "import sys\nfrom util.distributed import launch\nsys.exit(launch((2, 5), sys.argv[1], sys.argv[2:]))"
    hidden = ("CUDA_VISIBLE_DEVICES", "RANK", "LOCAL_RANK", "WORLD_SIZE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", code, str(script), *argv]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_launch_starts_a_process_per_card_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        "import os, sys\n"
        "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'CUDA_VISIBLE_DEVICES')\n"
        "open(sys.argv[1] + os.environ['RANK'], 'w').write(repr([os.environ[n] for n in names] + sys.argv[2:]))\n"
    )
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    done = _launch(script, str(tmp_path / "out"), "--gpu_ids", "2,5", "a b")
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        expected = [str(rank), str(rank), "2", "2,5", "--gpu_ids", "2,5", "a b"]
        assert (tmp_path / f"out{rank}").read_text() == repr(expected)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_launch_a_killed_rank_ends_the_others_and_gives_its_signal(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        "import os, signal, time\nif os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(100)\n"
    )
    done = _launch(script)
    assert done.returncode == 128 + 9
    assert "error: rank 1 ended first, by signal 9; the others were stopped" in done.stderr


def test_launch_a_failed_rank_gives_its_exit_code(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text("import os, sys\nsys.exit(3 if os.environ['RANK'] == '0' else 0)\n")
    assert _launch(script).returncode == 3
