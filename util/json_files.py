"""JSON files read into dataclasses with every type checked; an error names file, field and the types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from util.errors import MediaError, PcavsError

Value = TypeVar("Value")


def read_json(path: str | Path, kind: type[Value], error: type[PcavsError] = MediaError, hint: str = "") -> Value:
    """Reads one JSON value of a given shape.

    Args:
        path: the file.
        kind: a dataclass, or any type msgspec knows, e.g. `dict[str, int]`; arrays become float64. Fields that the file
            has beyond those of the dataclass are passed over.
        error: what is raised.
        hint: the next step, put behind the message.

    Raises:
        PcavsError: of the kind `error`: the file is missing, no JSON, too deep, or a field has another type
            (`clip.json: Expected `int`, got `str` - at `$.first_frame``).
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=kind, dec_hook=_to_array)
    except OSError as failure:
        reason = failure.strerror or str(failure)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as failure:
        reason = str(failure)
    raise error(f"{path}: {reason}" + (f"; {hint}" if hint else ""))


def _to_array(_: type, value: Any) -> Any:
    import numpy as np  # only here: `--help` answers without it

    return np.array(value, dtype=np.float64)


def to_builtins(value: Any) -> Any:
    """A dataclass as nested dicts and lists of JSON values; paths become text."""
    return msgspec.to_builtins(value, enc_hook=str)
