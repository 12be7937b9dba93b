"""JSON read with its types checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from util.errors import CheckpointError, MediaError
from util.files import write_json
from util.json_files import parse_json, read_json, read_json_lines, to_builtins


@dataclass(frozen=True)
class Note:
    name: str
    count: int = 0
    parts: tuple[float, ...] = ()
    more: dict[str, int] = field(default_factory=dict)
    place: Path | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count must not be negative, got {self.count}")


def _read(tmp_path: Path, text: str) -> Note:
    (tmp_path / "note.json").write_text(text)
    return read_json(tmp_path / "note.json", Note)


def test_read_json_fills_a_dataclass_and_gives_it_back(tmp_path: Path) -> None:
    note = _read(tmp_path, '{"name": "ü", "parts": [1, 2.5], "unknown": [[]]}')
    assert note == Note("ü", 0, (1.0, 2.5), {})
    assert to_builtins(note) == {"name": "ü", "count": 0, "parts": (1.0, 2.5), "more": {}, "place": None}


def test_paths_are_text_in_the_file(tmp_path: Path) -> None:
    note = Note("a", place=Path("x", "ü"))
    write_json(tmp_path / "note.json", to_builtins(note))
    assert read_json(tmp_path / "note.json", Note) == note


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": 5}', "Expected `str`, got `int` - at `$.name`"),
        ('{"count": 1}', "missing required field `name`"),
        ('{"name": "a", "parts": [1, "2"]}', "at `$.parts[1]`"),
        ('{"name": "a", "count": 1e999}', "out of range"),
        ('{"name": "a", "count": NaN}', "invalid"),
        ('{"name": "a", "parts": [1e999]}', "out of range"),
        ('{"name": "a", "count": ' + "9" * 5000 + "}", "out of range"),
        ('{"name": "a", "count": -1}', "count must not be negative, got -1"),
        ("[" * 100_000, "Expected `object`, got `array`"),
        ('{"name": "a", "x": ' + "[" * 100_000, "note.json: "),  # too deep or cut off, by the size of the stack
        ("", "truncated"),
    ],
)
def test_wrong_json_is_named_with_file_field_and_type(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(MediaError, match=r"note\.json: ") as error:
        _read(tmp_path, text)
    assert said in str(error.value)


def test_bytes_of_names_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    write_json(tmp_path / "note.json", {"name": "a\udcff"})
    assert read_json(tmp_path / "note.json", Note).name == "a\udcff"


def test_missing_file_raises_the_error_that_was_asked_for_with_the_hint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.json: No such file or directory; train first"):
        read_json(tmp_path / "gone.json", Note, CheckpointError, "train first")


def test_parse_json_names_the_place() -> None:
    assert parse_json(b'{"name": "a"}', Note, "a.tar/1.json") == Note("a")
    with pytest.raises(MediaError, match=r"a\.tar/1\.json: .*missing required field `name`"):
        parse_json(b"{}", Note, "a.tar/1.json")


def test_lines_that_are_torn_or_foreign_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('\n{"name": "a"}\n{"name": "b", "cou\n[]\n' + "[" * 100_000 + '\n{"name": "caf\\udce9"}')
    assert list(read_json_lines(path, Note)) == [Note("a"), Note("caf\udce9")]
    with pytest.raises(MediaError, match="notes: cannot be read: No such file"):
        list(read_json_lines(tmp_path / "notes", Note))
