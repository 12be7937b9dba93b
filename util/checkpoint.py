"""Weights on disk: `<epoch>_net_<letter>.pth`, plain state dicts, saved atomically and loaded strictly."""

from __future__ import annotations

import logging
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from util.errors import CheckpointError
from util.files import MARK, atomic_path

logger = logging.getLogger(__name__)

_PARALLEL_PREFIX = "module."


def _how_to_get() -> str:
    """The command for this very Python, which has the packages, whatever `python` is in the shell."""
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    return f"fetch the published weights and samples with: {shown} scripts/download_checkpoints.py --samples"


def network_path(directory: Path, epoch: str, letter: str) -> Path:
    """`<directory>/<epoch>_net_<letter>.pth`."""
    return directory / f"{epoch}_net_{letter}.pth"


def require_networks(directory: Path, epoch: str, letters: Sequence[str]) -> None:
    """Checks that all files are there before any is loaded.

    Raises:
        CheckpointError: names every missing file and the command that gets them.
    """
    missing = [network_path(directory, epoch, letter) for letter in letters]
    missing = [path for path in missing if not path.is_file()]
    if not missing:
        return
    names = ", ".join(path.name for path in missing)
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
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, error)) from error
    except Exception as error:  # damaged files make the unpickler raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: truncated or not a torch file ({reason}); fetch or copy it again") from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise CheckpointError(
            f"{path}: holds {_describe(state)}, not a plain state dict; save network.state_dict() and nothing else"
        )
    if not state:
        raise CheckpointError(f"{path}: an empty state dict")
    if all(key.startswith(_PARALLEL_PREFIX) for key in state):
        state = {key[len(_PARALLEL_PREFIX) :]: tensor for key, tensor in state.items()}
    return state


def load_network(network: nn.Module, path: Path, optional_heads: Sequence[str] = ()) -> list[str]:
    """Copies the weights of a file into a network; every key and shape must match.

    Args:
        network: on any device; floating-point weights are cast to its types (fp16 files become fp32). One on the meta
            device gets the file's own memory, mapped and read only where it is used; heads left out become zeros.
        path: a `.pth` file.
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
        for key in wanted
        if key.startswith(optional or ("\0",)) and (key not in state or state[key].shape != wanted[key].shape)
    ]
    _check_keys(path, state, wanted, skipped)
    for key in wanted:
        if key not in skipped:
            _check_values(path, key, state[key], wanted[key])
    if any(tensor.is_meta for tensor in wanted.values()):
        taken = {key: _in_form_of(tensor, None if key in skipped else state[key]) for key, tensor in wanted.items()}
        network.load_state_dict(taken, assign=True)
    else:
        with torch.no_grad():
            for key, tensor in wanted.items():
                if key not in skipped:
                    tensor.copy_(state[key])
    if skipped:
        logger.info("%s: left out %s (another class count or clip length)", path, ", ".join(skipped))
    return skipped


def _in_form_of(wanted: Tensor, value: Tensor | None) -> Tensor:
    """The value itself if its type and layout are the wanted ones, else a copy that has them; zeros for None."""
    if value is None:
        return torch.zeros_like(wanted, device="cpu")
    if value.dtype == wanted.dtype and value.stride() == wanted.stride():
        return value
    return torch.empty_like(wanted, device="cpu").copy_(value)


def save_state_dict(state: dict[str, Tensor], path: Path) -> None:
    """Saves a plain state dict, on the CPU, atomically.

    Raises:
        CheckpointError: the disk refuses; an older file under that name stays as it was.
    """
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(plain, file)  # given a name, it would write that into the file
            # a comment at the end of the archive, whose length stands in its last two bytes
            file.seek(-2, os.SEEK_END)
            file.write(struct.pack("<H", len(MARK)) + MARK.encode())
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def _check_archive(path: Path) -> bool:
    """Whether a file is a zip archive, as torch writes it since 1.6.

    Raises:
        CheckpointError: one that something else has packed; mapped into memory it would give wrong numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    names = [member.filename for member in members]
    doubled = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    packed = next((m.filename for m in members if m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1), None)
    if doubled or packed:
        what = f"{doubled} is in it twice" if doubled else f"{packed} is compressed"
        raise CheckpointError(
            f"{path}: was packed again by another program ({what}); fetch it anew, or save it by torch"
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


def _check_keys(path: Path, state: dict[str, Tensor], wanted: dict[str, Tensor], skipped: Sequence[str]) -> None:
    missing = [key for key in wanted if key not in state and key not in skipped]
    unexpected = [key for key in state if key not in wanted]
    if missing and len(missing) + len(unexpected) >= len(wanted):
        raise CheckpointError(
            f"{path}: weights of another network (has {next(iter(state))}, needs {missing[0]}); is the file misnamed?"
        )
    for key, tensor in wanted.items():
        if key in state and key not in skipped and state[key].shape != tensor.shape:
            raise CheckpointError(
                f"{path}: {key} is {list(state[key].shape)} in the file and {list(tensor.shape)} in the network; "
                "give the sizes the weights were trained with (flags, or a network.json beside them)"
            )
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{path}: lacks {missing[0]} {list(wanted[missing[0]].shape)}{more}")
    if unexpected:
        more = f" and {len(unexpected) - 1} more" if len(unexpected) > 1 else ""
        raise CheckpointError(f"{path}: has {unexpected[0]} {list(state[unexpected[0]].shape)}{more}, unknown here")


def _refusal(path: Path, error: pickle.UnpicklingError) -> str:
    text = str(error)
    if "Weights only load failed" in text or "Unsupported" in text:
        return (
            f"{path}: refused, because it is more than a plain state dict and loading it could run code; "
            "convert it where you trust it: torch.save(network.state_dict(), ...)"
        )
    return f"{path}: truncated or not a torch file ({text.splitlines()[0] if text else 'empty'}); fetch it again"


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        odd = next((k for k, v in value.items() if not isinstance(v, Tensor)), None)
        return f"a dict with the entry {odd!r}"
    return f"a {type(value).__name__}"
