"""Weights on disk: `<epoch>_net_<letter>.pth`, plain state dicts, saved atomically and loaded strictly."""

from __future__ import annotations

import logging
import os
import pickle
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from util.errors import CheckpointError
from util.files import MARK, atomic_path

logger = logging.getLogger(__name__)


def _how_to_get() -> str:
    """The command for this very Python, which has the packages, whatever `python` is in the shell."""
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    return f"fetch the published weights and samples with: {shown} scripts/download_checkpoints.py --samples"


def network_path(directory: Path, epoch: str, letter: str) -> Path:
    return directory / f"{epoch}_net_{letter}.pth"


def require_networks(directory: Path, epoch: str, letters: Sequence[str]) -> None:
    """Raises CheckpointError unless all files are there; names the missing ones and the command that gets them."""
    paths = [network_path(directory, epoch, letter) for letter in letters]
    names = ", ".join(path.name for path in paths if not path.is_file())
    if not names:
        return
    others = sorted({path.name.split("_net_")[0] for path in directory.glob("*_net_*.pth")} - {epoch})
    hint = f"; there are weights of epoch {', '.join(others)}: choose with --which_epoch" if others else ""
    raise CheckpointError(f"{directory}: missing weights {names}{hint}; {_how_to_get()}")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a plain state dict, without running any code in it.

    A `module.` prefix (saved under DataParallel) is taken off; CUDA tensors arrive on the CPU.

    Raises:
        CheckpointError: missing, truncated, not a torch file, or anything but names and tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; {_how_to_get()}")
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith((b"<", b"version https://git-lfs")):
        raise CheckpointError(f"{path}: a text (a web page or a git-lfs pointer), not weights; {_how_to_get()}")
    if start[8:10] == b'{"':
        how = "torch.save(safetensors.torch.load_file(FILE), FILE.pth)"
        raise CheckpointError(f"{path}: a safetensors file, which is not read here; convert it: {how}")
    is_zip = _check_archive(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # damaged files make the unpickler raise nearly anything
        reason = str(error)
        if isinstance(error, pickle.UnpicklingError) and ("Weights only load" in reason or "Unsupported" in reason):
            raise CheckpointError(
                f"{path}: refused, because it is more than a plain state dict and loading it could run code; "
                "convert it where you trust it: torch.save(network.state_dict(), ...)"
            ) from error
        reason = reason.splitlines()[0] if reason else type(error).__name__
        raise CheckpointError(f"{path}: truncated or not a torch file ({reason}); fetch or copy it again") from error
    holds = f"a {type(state).__name__}"
    if isinstance(state, dict):
        odd = [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
        holds = f"a dict with the entry {odd[0]!r}" if odd else "" if state else "nothing"
    if holds:
        raise CheckpointError(f"{path}: holds {holds}, not a plain state dict; save network.state_dict() alone")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


def load_network(network: nn.Module, path: Path, optional_heads: Sequence[str] = ()) -> list[str]:
    """Copies the weights of a file into a network; every key and shape must match.

    Args:
        network: on any device; floating-point weights are cast to its types (fp16 files become fp32). One on the meta
            device gets the file's own memory, mapped and read only where it is used; heads left out become zeros.
        optional_heads: key prefixes that may be absent or of another shape; they stay as they are.

    Returns:
        the keys that were left out; they are also logged.

    Raises:
        CheckpointError: a missing, unexpected or differently shaped key; names file, key and both shapes.
    """
    state = read_state_dict(path)
    wanted = network.state_dict()
    optional = tuple(optional_heads)
    skipped = [
        key
        for key, tensor in wanted.items()
        if key.startswith(optional) and (key not in state or state[key].shape != tensor.shape)
    ]
    is_meta = any(tensor.is_meta for tensor in wanted.values())
    for key in skipped:
        state[key] = torch.zeros_like(wanted[key], device="cpu") if is_meta else wanted[key]
    _check_keys(path, state, wanted)
    for key, tensor in wanted.items():
        if key not in skipped:
            _check_values(path, key, state[key], tensor)
        if is_meta:
            state[key] = _in_form_of(tensor, state[key])
    network.load_state_dict(state, assign=is_meta)
    if skipped:
        why = "not in the file, or of another class count or clip length"
        logger.info("%s: left out %s (%s)", path, ", ".join(skipped), why)
    return skipped


def _in_form_of(wanted: Tensor, value: Tensor) -> Tensor:
    """The value itself if its type and layout are the wanted ones, else a copy that has them."""
    if value.dtype == wanted.dtype and value.stride() == wanted.stride():
        return value
    return torch.empty_like(wanted, device="cpu").copy_(value)


def save_state_dict(state: dict[str, Tensor], path: Path) -> None:
    """Saves a plain state dict, on the CPU, atomically. Raises CheckpointError when the disk refuses."""
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(plain, file)  # given a name, it would write that into the file
            # a comment at the end of the archive, whose length stands in its last two bytes
            file.seek(-2, os.SEEK_END)
            file.write(struct.pack("<H", len(MARK)) + MARK.encode())
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be written: {write_failure(error)}") from error


def write_failure(error: BaseException) -> str:
    """Why `torch.save` failed: where the system refuses, torch hides that behind an error about its own file format."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return str((cause and cause.strerror) or cause or error)


def _check_archive(path: Path) -> bool:
    """Whether a file is a zip archive, as torch writes it since 1.6.

    Raises CheckpointError for one that something else has packed: mapped into memory it would give wrong numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    counts = Counter(member.filename for member in members)
    faults = [f"{name} is in it twice" for name, count in counts.items() if count > 1]
    packed = [m for m in members if m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1]
    faults += [f"{member.filename} is compressed" for member in packed]
    if faults:
        raise CheckpointError(
            f"{path}: was packed again by another program ({faults[0]}); fetch it anew, or save it by torch"
        )
    return True


def _check_values(path: Path, key: str, value: Tensor, wanted: Tensor) -> None:
    """Raises CheckpointError for numbers of a kind that would be copied wrongly, and for such as are none."""
    is_plain = value.layout == torch.strided and not value.is_quantized and not value.is_meta
    is_float = wanted.is_floating_point()
    is_kind = value.is_floating_point() if is_float else value.dtype in (torch.int64, torch.int32)
    if not is_plain or not is_kind:
        kind = f"{value.layout} {value.dtype}{' without values' if value.is_meta else ''}".replace("torch.", "")
        needed = "ordinary floating-point numbers" if is_float else "whole numbers"
        raise CheckpointError(f"{path}: {key} holds {kind}, the network needs {needed}; save the network's own weights")
    # a sum is quicker than a look at every number, and not finite if one of them is not
    if is_float and not value.sum(dtype=torch.float32).isfinite() and not value.isfinite().all():
        raise CheckpointError(f"{path}: {key} holds NaN or infinity: a training that went wrong; take earlier weights")


def _check_keys(path: Path, state: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    if missing and len(missing) + len(unexpected) >= len(wanted):
        raise CheckpointError(
            f"{path}: weights of another network (has {next(iter(state))}, needs {missing[0]}); is the file misnamed?"
        )
    for key, tensor in wanted.items():
        if key in state and state[key].shape != tensor.shape:
            raise CheckpointError(
                f"{path}: {key} is {list(state[key].shape)} in the file and {list(tensor.shape)} in the network; "
                "give the sizes the weights were trained with (flags, or a network.json beside them)"
            )
    for keys, tensors, has, end in ((missing, wanted, "lacks", ""), (unexpected, state, "has", ", unknown here")):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise CheckpointError(f"{path}: {has} {keys[0]} {list(tensors[keys[0]].shape)}{more}{end}")
