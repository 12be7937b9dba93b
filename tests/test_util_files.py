"""Atomic writes, names, and errors of the disk."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from util.errors import MediaError
from util.files import atomic_path, make_directory, safe_name, write_bytes, write_json


def test_atomic_path_replaces_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_atomic_path_takes_the_longest_names_a_disk_does(tmp_path: Path) -> None:
    target = tmp_path / ("长" * 83 + ".jpg")
    with atomic_path(target) as temporary:
        temporary.write_text("x")
    assert target.read_text() == "x"


def test_atomic_path_leaves_nothing_behind_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_write_bytes_on_full_disk_raises_media_error_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.bin"
    write_bytes(target, b"old")

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MediaError, match=r"a.bin: cannot be written: No space left on device"):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_write_json_keeps_umlauts_and_ends_with_a_line_break(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "ü", "path": Path("x")})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "ü", "path": "x"}
    assert "ü" in text
    assert text.endswith("}\n")


def test_make_directory_below_a_file_raises_media_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match=r"the folder cannot be made: Not a directory"):
        make_directory(tmp_path / "file" / "sub")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a b-c_1.x", "a b-c_1.x"),
        ("../../etc", ".._.._etc"),
        ("ümlaut 中", "ümlaut 中"),
        ("a\n\tb", "a__b"),
        ("..", "__"),
    ],
)
def test_safe_name_is_one_component(text: str, name: str) -> None:
    assert safe_name(text) == name
