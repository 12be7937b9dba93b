"""The device a process computes on, and what is set for the whole process because of it."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from collections.abc import Sequence

import torch

logger = logging.getLogger(__name__)


def select_device(gpu_ids: Sequence[int], local_rank: int = 0, several: bool = False) -> torch.device:
    """The device of a process: `--gpu_ids -1` is the CPU; without CUDA the CPU is taken with one warning.

    `local_rank` is that among `several` processes on this machine, which take the GPUs in turn: those of `gpu_ids` if
    it names more than one, else all there are.
    """
    if not gpu_ids or gpu_ids[0] < 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        logger.warning("--gpu_ids %s, but CUDA is not available here: running on the CPU", gpu_ids[0])
        return torch.device("cpu")
    if several and len(gpu_ids) == 1:
        gpu_ids = range(torch.cuda.device_count())
    if not several and len(gpu_ids) > 1:
        logger.warning("one process uses one GPU, %d; for all of them: torchrun --nproc_per_node N test.py", gpu_ids[0])
    chosen = gpu_ids[local_rank % len(gpu_ids)]
    if chosen >= torch.cuda.device_count():
        logger.warning("--gpu_ids %d, but there are only %d GPUs: using GPU 0", chosen, torch.cuda.device_count())
        chosen = 0
    return torch.device("cuda", chosen)


def set_up_for_inference(device: torch.device, allow_tf32: bool) -> None:
    """Makes the process fast on a CPU, and repeatable on a GPU: the same command gives the same bytes."""
    if device.type == "cpu":
        keep_freed_memory()
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def keep_freed_memory() -> None:
    """Lets the process keep what networks free, for the next layer takes it again.

    By default glibc gives buffers of some megabytes back to the system at once, which has to clear each page before it
    hands it out again: a third of the time of a small generator, a tenth of that of the full one. Peak memory stays
    the same. Where there is no glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-8, 1)  # M_ARENA_MAX, of which threads share one: what one gives back, another can take
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
