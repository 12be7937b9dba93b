"""JSON files come back with the types that are asked for, or say what is wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from util.errors import CheckpointError, MediaError
from util.files import write_json
from util.json_files import read_json, to_builtins


@dataclass(frozen=True)
class Note:
    path: str
    count: int = 0


def test_file_name_that_is_no_text_comes_back_as_it_was(tmp_path: Path) -> None:
    note = Note(os.fsdecode(b"caf\xe9"), 3)
    write_json(tmp_path / "note.json", to_builtins(note))
    assert read_json(tmp_path / "note.json", Note) == note


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a", "count": "3"}', r"Expected `int`, got `str` - at `\$\.count`"),
        ('{"count": 3}', "missing required field `path`"),
        ('{"path": ', "Expecting value"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_is_wrong_is_told_with_the_file_and_the_next_step(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "note.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=rf"note\.json: .*{message}.*; write it again"):
        read_json(path, Note, CheckpointError, hint="write it again")
    with pytest.raises(MediaError, match=r"none\.json: No such file"):
        read_json(tmp_path / "none.json", Note)
