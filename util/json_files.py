"""JSON read into dataclasses with every type checked; an error names file, field and the types."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from util.errors import MediaError, PcavsError
from util.files import open_file

Value = TypeVar("Value")


def read_json(path: str | Path, kind: type[Value], error: type[PcavsError] = MediaError, hint: str = "") -> Value:
    """Reads one JSON value of a given shape.

    Args:
        kind: a dataclass, or any type msgspec knows, e.g. `dict[str, int]`; arrays become float64. Fields that the file
            has beyond those of the dataclass are passed over.
        error: raised for a file that is missing, no JSON, too deep, or has a field of another type
            (`clip.json: Expected `int`, got `str` - at `$.first_frame``).
        hint: the next step, put behind the message.
    """
    try:
        with open_file(path) as file:
            payload = file.read()
    except OSError as failure:
        raise error(f"{path}: {failure.strerror or failure}" + (f"; {hint}" if hint else "")) from failure
    return parse_json(payload, kind, str(path), error, hint)


def parse_json(
    payload: bytes, kind: type[Value], place: str, error: type[PcavsError] = MediaError, hint: str = ""
) -> Value:
    """Reads one JSON value from memory, as `read_json` does; `place` says in messages where it comes from."""
    try:
        if rb"\ud" in payload:  # half a character: a byte of a file name that is not UTF-8, see `util.files.write_text`
            return msgspec.convert(json.loads(payload), kind, dec_hook=_to_other)
        return msgspec.json.decode(payload, type=kind, dec_hook=_to_other)
    except (ValueError, RecursionError) as failure:  # msgspec's own errors are ValueErrors
        raise error(f"{place}: {failure}" + (f"; {hint}" if hint else "")) from failure


def read_json_lines(path: str | Path, kind: type[Value]) -> Iterator[Value]:
    """Yields the values of a file that holds one a line; a line that is no such value, torn or foreign, is passed over.

    Text may hold bytes of file names that are not UTF-8, as `\\udc..`. Raises MediaError as `read_json` does.
    """
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    value = msgspec.convert(json.loads(line), kind)
                except (ValueError, RecursionError):
                    continue
                yield value
    except OSError as failure:
        raise MediaError(f"{path}: cannot be read: {failure.strerror or failure}") from failure


def _to_other(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    import numpy as np  # only here: `--help` answers without it

    return np.array(value, dtype=np.float64)


def to_builtins(value: Any) -> Any:
    """A dataclass as nested dicts and lists of JSON values; paths become text."""
    # of a dataclass that it has read, msgspec passes over the fields that the file left out
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    return msgspec.to_builtins(plain, enc_hook=str)
