"""Atomic writes, names, and errors of the disk."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import fail_writing
from util import files
from util.errors import MediaError, OptionError
from util.files import (
    MARK,
    atomic_folder,
    atomic_path,
    carries_mark,
    claim_output,
    make_directory,
    remove_leftovers,
    safe_name,
    write_bytes,
    write_json,
)


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

    fail_writing(monkeypatch, "a.")
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


# ------------------------------------------------------------------------------------------------------- leftovers


def _in_another_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs `code`, says `ready`, and waits for its end."""
    root = Path(files.__file__).resolve().parents[1]
    command = [sys.executable, "-c", f"import sys, time\nfrom util.files import *\n{code}", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


_WRITER = """
with atomic_path(sys.argv[1]) as part, atomic_folder(sys.argv[2]) as folder:
    part.write_text('half')
    (folder / 'half').write_text('half')
    print('ready', flush=True)
    time.sleep(60)
"""


def test_leftovers_of_a_killed_process_go_and_those_of_a_living_one_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_swept", set())
    killed = _in_another_process(_WRITER, tmp_path / "a.mp4", tmp_path / "a")
    living = _in_another_process(_WRITER, tmp_path / "b.mp4", tmp_path / "b")
    killed.kill()
    killed.wait()
    try:
        assert len(os.listdir(tmp_path)) == 4
        write_bytes(tmp_path / "c.txt", b"whole")
        left = sorted(re.sub("[0-9a-f]{8}", "TOKEN", name) for name in os.listdir(tmp_path))
        assert left == [".b.TOKEN.part", ".b.TOKEN.part.mp4", "c.txt"]
    finally:
        living.kill()
        living.wait()


def test_hidden_files_of_the_user_are_no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_swept", set())
    for name in (".a.part", ".a.123.part.mp4", "a.0123abcd.part.mp4", ".0123abcd.part"):
        (tmp_path / name).write_text("mine")
    remove_leftovers(tmp_path)
    assert len(os.listdir(tmp_path)) == 4


def test_atomic_folder_replaces_the_old_one_only_at_the_end(tmp_path: Path) -> None:
    target = make_directory(tmp_path / "a.b")
    (target / "old").write_text("old")
    with atomic_folder(target) as folder:
        (folder / "new").write_text("new")
        assert os.listdir(target) == ["old"]
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["a.b"]
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as folder:
        raise ZeroDivisionError
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["a.b"]


def test_folder_moved_aside_by_a_process_that_died_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_swept", set())
    make_directory(tmp_path / ".a.0123abcd.old").joinpath("kept").write_text("old")
    make_directory(tmp_path / ".a.0123abcd.part").joinpath("new").write_text("half")
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["kept"]


# ------------------------------------------------------------------------------------------------ the user's own files


def test_claim_output_takes_new_names_and_what_carries_the_mark(tmp_path: Path) -> None:
    claim_output(tmp_path / "new.html", "--output", overwrite=False, is_ours=carries_mark)
    for name, payload in {"head": MARK.encode() + bytes(200_000), "tail": bytes(200_000) + MARK.encode()}.items():
        (tmp_path / name).write_bytes(payload)
        claim_output(tmp_path / name, "--output", overwrite=False, is_ours=carries_mark)


def test_claim_output_refuses_what_somebody_else_has_made(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"jpeg" * 100_000)
    with pytest.raises(
        OptionError,
        match=r"--csv photo.*was not made by this command.*--overwrite".replace("photo", str(tmp_path / "photo")),
    ):
        claim_output(tmp_path / "photo.jpg", "--csv", overwrite=False, is_ours=carries_mark)
    claim_output(tmp_path / "photo.jpg", "--csv", overwrite=True, is_ours=carries_mark)
    claim_output(tmp_path / "photo.jpg", "--csv", overwrite=False, is_ours=lambda path: path.suffix == ".jpg")


def test_claim_output_refuses_all_but_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("nowhere")
    for name, kind in {
        ".": "a folder",
        "fifo": "no regular file",
        "link": "a link",
        "/dev/null": "no regular file",
    }.items():
        with pytest.raises(OptionError, match=f"is {kind}; give the name of a file"):
            claim_output(tmp_path / name, "--output", overwrite=True, is_ours=carries_mark)
