"""Training by several processes, one per card: who am I, joining the others, gathering rows, starting them all.

A process that is alone may call everything here: there is nobody to wait for, and values come back as they are.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed.nn.functional as collective
from torch import Tensor, distributed

from util.cli import print_error
from util.errors import OptionError


@dataclass(frozen=True)
class Ranks:
    """The place of this process among all."""

    rank: int = 0  # among the processes of all machines
    local_rank: int = 0  # among those of this machine; the number of its card
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.world_size > 1


def ranks_from_environment() -> Ranks:
    """Reads RANK, LOCAL_RANK and WORLD_SIZE as torchrun sets them; none of them: a single process."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    texts = {name: os.environ.get(name) for name in names}
    if all(text is None for text in texts.values()):
        return Ranks()
    numbers = [int(text) for text in texts.values() if text is not None and text.isdecimal()]
    if len(numbers) == len(names) and numbers[0] < numbers[2] and numbers[1] < numbers[2]:
        return Ranks(*numbers)
    found = ", ".join(f"{name}={'(not set)' if text is None else text}" for name, text in texts.items())
    raise OptionError(f"the environment says {found}; start several processes with torchrun, which sets all three")


def init_process_group(ranks: Ranks, device: torch.device, timeout_s: float = 600) -> None:
    """Joins the other processes: NCCL for cards, gloo for CPUs. Returns when all are there; alone it does nothing.

    device: a card becomes the current one.  timeout_s: for a rank that does not answer, also in each later exchange.
    Raises OptionError: the others cannot be reached.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not ranks.is_distributed:
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(
            backend, rank=ranks.rank, world_size=ranks.world_size, timeout=datetime.timedelta(seconds=timeout_s)
        )
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ.get('MASTER_ADDR', '(no MASTER_ADDR)')}:{os.environ.get('MASTER_PORT', '?')}"
        reason = " ".join(str(error).split())
        raise OptionError(
            f"rank {ranks.rank} of {ranks.world_size} cannot join the others at {place}: {reason}"
        ) from error


def shutdown() -> None:
    """Leaves the other processes.

    Every DistributedDataParallel must be gone by then: the last to hold the process group, it would wait for threads
    of the group that wait for Python. And not after an error: that may wait for ranks that wait for this one.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """The rows of all ranks, in the order of ranks; gradients find their way back to the rank a row came from.

    The gradient of a row is the sum over the ranks of what their losses say about it. DistributedDataParallel then
    averages the gradients of parameters over ranks. So when every rank computes the loss of the whole batch from
    gathered rows (or the mean over ranks of what they compute is that loss), training steps as one process with the
    whole batch would: sum over N ranks of the same gradient, divided by N. Nothing is to be scaled by hand.

    (B, ...), of the same shape on all ranks -> (world_size * B, ...); alone, `tensor` itself.
    """
    if not distributed.is_initialized():
        return tensor
    rows = [torch.zeros_like(tensor) for _ in range(distributed.get_world_size())]
    rows[distributed.get_rank()] = tensor
    return collective.all_reduce(torch.cat(rows))  # a sum with zeros; its gradient is summed over ranks, too


def mean_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """The mean of each value over ranks; all ranks must call with the same names."""
    if not distributed.is_initialized():
        return dict(values)
    names = sorted(values)  # the order of insertion may differ between ranks
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"  # NCCL knows cards only
    numbers = torch.tensor([values[name] for name in names], dtype=torch.float64, device=device)
    distributed.all_reduce(numbers)
    means = dict(zip(names, (numbers / distributed.get_world_size()).tolist(), strict=True))
    return {name: means[name] for name in values}


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on any rank; every rank gets the same answer."""
    return mean_over_ranks({"flag": float(flag)})["flag"] > 0


def launch(gpu_ids: Sequence[int], script: str | Path, argv: Sequence[str]) -> int:
    """Runs `python script argv` once per card through torch's own launcher, and waits for all.

    Local rank k sees the cards of `gpu_ids` as its own, in that order, and takes `cuda:k`. When one process fails or is
    killed, the others are told to end (SIGTERM, and SIGKILL 30 s later). Ctrl-C and SIGTERM are passed on likewise.

    Where CUDA_VISIBLE_DEVICES is set `gpu_ids` count within it, as in a single process.

    Returns:
        the exit status: 0 when all ended with 0, else that of the first failure, 128 + the number of a signal.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    os.environ["CUDA_VISIBLE_DEVICES"] = visible_devices(gpu_ids, os.environ.get("CUDA_VISIBLE_DEVICES"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch would set it too, with a page of warning
    try:
        # torch makes a folder for logs, although there are none, and leaves it behind
        with tempfile.TemporaryDirectory(prefix="launch_") as logs:
            main(["--standalone", "--nproc_per_node", str(len(gpu_ids)), "--log_dir", logs, str(script), *argv])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        print_error(f"rank {rank} ended first, {how}; the others were stopped")
        return code if code > 0 else 128 - code
    except SignalException as error:
        return 128 + error.sigval
    return 0


def visible_devices(gpu_ids: Sequence[int], visible: str | None) -> str:
    """The value of CUDA_VISIBLE_DEVICES that makes `gpu_ids`, counted within `visible`, cards 0, 1, 2 ...

    >>> visible_devices((0, 2), "4,5,6")
    '4,6'
    """
    if visible is None:
        return ",".join(map(str, gpu_ids))
    cards = [card.strip() for card in visible.split(",") if card.strip()]
    hidden = [gpu for gpu in gpu_ids if not 0 <= gpu < len(cards)]
    if hidden:
        raise OptionError(f"--gpu_ids: there is no card {hidden[0]}, CUDA_VISIBLE_DEVICES={visible} shows {len(cards)}")
    return ",".join(cards[gpu] for gpu in gpu_ids)
