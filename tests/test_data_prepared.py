"""Prepared things: whole or absent, found again by content, never taken by another source."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data.frames import list_frames
from data.prepared import (
    NOTE_NAME,
    Prepared,
    Shelf,
    fingerprint,
    is_unchanged,
    origin_of,
    prepared_name,
)
from tests.conftest import write_frames
from util.errors import MediaError


def _source(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


class _Maker:
    """Fills folders with frames, or writes files, and counts how often."""

    def __init__(self, shelf: Shelf, frames: int = 2, seed: int = 0) -> None:
        self.shelf, self.frames, self.seed, self.calls = shelf, frames, seed, 0

    def __call__(self, part: Path) -> None:
        self.calls += 1
        if self.shelf.suffix:
            part.write_bytes(bytes([self.seed]) * 100 * self.frames)
            return
        assert list(part.iterdir()) == []
        shutil.rmtree(part)
        write_frames(part, self.frames, self.seed, size=32)

    def get(self, source: Path, **options: object) -> Prepared:
        return self.shelf.get(prepared_name(source), origin_of(source, options), self)


@pytest.fixture(params=["", ".wav"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "misc" / "kind", request.param)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b"".join(p.read_bytes() for p in list_frames(path))


def test_second_call_uses_the_finished_thing_again(shelf: Shelf, tmp_path: Path) -> None:
    source, maker = _source(tmp_path / "clip.mp4", "one"), _Maker(shelf)
    first, second = maker.get(source), maker.get(source)
    assert maker.calls == 1
    assert first == Prepared(shelf.path_of("clip"), first.extent, reused=False)
    assert second == Prepared(first.path, first.extent, reused=True)
    os.utime(source, (0, 0))
    assert maker.get(source).reused  # the content counts
    assert first.extent == (2 if not shelf.suffix else 200)


def test_moved_or_copied_source_finds_its_thing(shelf: Shelf, tmp_path: Path) -> None:
    maker = _Maker(shelf)
    maker.get(_source(tmp_path / "a" / "clip.mp4", "one"))
    assert maker.get(_source(tmp_path / "b" / "clip.mp4", "one")).reused


def test_two_files_of_one_name_get_two_things_and_find_them_again(shelf: Shelf, tmp_path: Path) -> None:
    makers = [_Maker(shelf, seed=seed) for seed in range(3)]
    sources = [_source(tmp_path / str(turn) / "clip.mp4", content) for turn, content in enumerate(("aa", "bb", "cc"))]
    for source in sources:
        os.utime(source, (1, 1))  # same name, size and time: only the content differs
    paths = [maker.get(source).path for maker, source in zip(makers, sources, strict=True)]
    assert paths == [shelf.path_of(name) for name in ("clip", "clip_2", "clip_3")]
    assert len({_content(path) for path in paths}) == 3
    for turn in (2, 0, 1):
        assert makers[turn].get(sources[turn]) == Prepared(paths[turn], makers[turn].get(sources[turn]).extent, True)
    assert [maker.calls for maker in makers] == [1, 1, 1]


def test_changed_file_replaces_what_was_made_of_it_before(shelf: Shelf, tmp_path: Path) -> None:
    source = _source(tmp_path / "clip.mp4", "one")
    before = _Maker(shelf, seed=1).get(source)
    old = _content(before.path)
    source.write_text("two")
    after = _Maker(shelf, seed=2).get(source)
    assert (after.path, after.reused) == (before.path, False)
    assert _content(after.path) != old
    assert _Maker(shelf).get(source).reused


def test_other_options_make_another_thing_and_leave_the_first(shelf: Shelf, tmp_path: Path) -> None:
    source, maker = _source(tmp_path / "clip.mp4", "one"), _Maker(shelf)
    assert maker.get(source, start_s=0.0).path == shelf.path_of("clip")
    assert maker.get(source, start_s=1.0).path == shelf.path_of("clip_2")
    assert maker.get(source, start_s=0.0).path == shelf.path_of("clip")
    assert maker.calls == 2


def test_foreign_thing_of_the_same_name_is_left_alone(shelf: Shelf, tmp_path: Path) -> None:
    foreign = shelf.path_of("clip")
    if not shelf.suffix:
        write_frames(foreign, 3, seed=9, size=32)
    else:
        _source(foreign, "a voice of somebody")
    before = _content(foreign)
    made = _Maker(shelf).get(_source(tmp_path / "clip.mp4", "one"))
    assert made.path == shelf.path_of("clip_2")
    assert _content(foreign) == before


def test_damaged_thing_is_made_again_in_its_place(shelf: Shelf, tmp_path: Path) -> None:
    source, maker = _source(tmp_path / "clip.mp4", "one"), _Maker(shelf)
    made = maker.get(source)
    whole = _content(made.path)
    victims: list[Callable[[], object]] = [lambda: made.path.write_bytes(b"short")]
    if not shelf.suffix:
        frame = made.path / "000001.jpg"
        victims = [frame.unlink, lambda: frame.write_bytes(frame.read_bytes()[:-9])]
    for damage in victims:
        damage()
        again = maker.get(source)
        assert (again.path, again.reused) == (made.path, False)
        assert _content(made.path) == whole


@pytest.mark.parametrize("error", [MediaError("broken"), KeyboardInterrupt(), RuntimeError("bug")])
def test_failure_or_ctrl_c_half_way_leaves_nothing(shelf: Shelf, tmp_path: Path, error: BaseException) -> None:
    source = _source(tmp_path / "clip.mp4", "one")

    def fail(part: Path) -> None:
        _Maker(shelf)(part)
        raise error

    with pytest.raises(type(error)):
        shelf.get("clip", origin_of(source, {}), fail)
    assert list(shelf.parent.iterdir()) == []
    assert not _Maker(shelf).get(source).reused


def _disk_is_full(path: Path, value: object) -> None:
    raise MediaError(f"{path}: cannot be written: No space left on device")


def test_full_disk_when_the_note_is_written_leaves_nothing(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _source(tmp_path / "clip.mp4", "one")
    with monkeypatch.context() as patch:
        patch.setattr("data.prepared.write_json", _disk_is_full)
        with pytest.raises(MediaError, match="No space left on device"):
            _Maker(shelf).get(source)
    assert list(shelf.parent.iterdir()) == []


def test_note_of_an_earlier_sound_is_not_believed_of_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the new note is due, and then the source is what it was at first."""
    shelf, source = Shelf(tmp_path / "misc", ".wav"), _source(tmp_path / "clip.mp4", "one")
    first = _Maker(shelf, seed=1).get(source)
    before = _content(first.path)
    source.write_text("two")
    with monkeypatch.context() as patch:
        patch.setattr("data.prepared.write_json", _disk_is_full)
        with pytest.raises(MediaError, match="No space left"):
            _Maker(shelf, seed=2).get(source)
    source.write_text("one")
    again = _Maker(shelf, seed=1).get(source)
    assert not again.reused
    assert _content(again.path) == before


def test_refusing_disk_raises_media_error_with_the_reason(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    source = _source(tmp_path / "clip.mp4", "one")
    monkeypatch.setattr("os.rename", refuse)
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(MediaError, match=r"clip: cannot be written: Permission denied|Permission denied"):
        _Maker(shelf).get(source)
    assert list(shelf.parent.iterdir()) == []


@pytest.mark.parametrize("same_file", [False, True])
def test_two_runs_at_a_time_do_not_meet(shelf: Shelf, tmp_path: Path, same_file: bool) -> None:
    """The second run begins and ends while the first is at work, after that has looked what is there."""
    one, two = _source(tmp_path / "1" / "clip.mp4", "one"), _source(tmp_path / "2" / "clip.mp4", "two")
    results: list[Prepared] = []

    def slowly(part: Path) -> None:
        results.append(_Maker(shelf, seed=2).get(one if same_file else two))
        _Maker(shelf, seed=1)(part)

    results.append(shelf.get("clip", origin_of(one, {}), slowly))
    names = [made.path.stem for made in results]
    assert names == (["clip", "clip"] if same_file else ["clip", "clip_2"])
    assert [made.reused for made in results] == [False, same_file]
    assert sorted(p.stem for p in shelf.parent.iterdir() if not p.name.startswith(".")) == sorted(set(names))
    for source, made in ((one, results[1]), (one if same_file else two, results[0])):
        assert _Maker(shelf).get(source).path == made.path


def test_fingerprint_goes_by_time_or_by_content(tmp_path: Path) -> None:
    files = [_source(tmp_path / name, name) for name in ("a", "b")]
    known = fingerprint(files)
    assert is_unchanged(files, known)
    os.utime(files[0], ns=(1, 1))
    assert fingerprint(files).stat != known.stat
    assert is_unchanged(files, known)  # copied: another time, the same content
    assert not is_unchanged([*files, _source(tmp_path / "c", "c")], known)
    files[0].write_text("A")
    assert not is_unchanged(files, known)
    assert not is_unchanged(files, None)


def test_fingerprint_of_a_vanished_file_raises(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="gone: cannot be read: No such file"):
        fingerprint([tmp_path / "gone"])


def test_source_in_a_folder_whose_name_is_not_utf8_finds_its_thing(shelf: Shelf, tmp_path: Path) -> None:
    source, maker = _source(tmp_path / os.fsdecode(b"caf\xe9") / "clip.mp4", "one"), _Maker(shelf)
    maker.get(source)
    assert maker.get(source).reused


def test_note_tells_path_hash_and_options(tmp_path: Path) -> None:
    source = _source(tmp_path / "clip.mp4", "one")
    made = _Maker(Shelf(tmp_path / "misc")).get(source, start_s=1.5)
    note = json.loads((made.path / NOTE_NAME).read_text())
    assert note["source"] == str(source)
    assert len(note["sha256"]) == 64
    assert (note["options"], note["extent"]) == ({"start_s": 1.5}, 2)


def test_folder_source_changes_with_any_of_its_pictures(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "shots", 3, size=32)
    before = origin_of(folder, {})
    (folder / "000001.jpg").write_bytes((folder / "000002.jpg").read_bytes())
    assert origin_of(folder, {}).sha256 != before.sha256


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("my clip (1) ü.mov", "my clip (1) ü"),
        ("a.b.mp4", "a.b"),
        ("line\nbreak.mp4", "line_break"),
        (" . .mp4", "_"),
        ("ü" * 120 + ".mp4", "ü" * 80),
    ],
)
def test_prepared_name_keeps_what_a_row_and_a_file_system_can_bear(source: str, name: str) -> None:
    assert prepared_name(Path(source)) == name


def test_prepared_name_of_a_folder_keeps_its_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "take.2").mkdir()
    assert prepared_name(tmp_path / "take.2") == "take.2"
    monkeypatch.chdir(tmp_path / "take.2")
    assert prepared_name(Path(".")) == "take.2"
