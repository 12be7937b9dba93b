"""Items from tar shards equal those from files."""

from __future__ import annotations

import pickle
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from data.clip_list import ClipRecord, scan_tree, write_list
from data.voxtrain_dataset import VoxTrainDataset, collate
from data.webdataset_shards import ShardDataset, ShardIndex, read_index, write_index
from options.config import DataConfig
from scripts.write_shards import main, run
from tests.conftest import voice
from tests.numbered_clips import write_numbered, write_tree
from util.errors import MediaError, MetadataError, OptionError
from util.ffmpeg import run_ffmpeg

FIELDS = frozenset({"reference", "target", "augmented", "mel", "voice"})
DATA = DataConfig(crop_size=28, clip_len=3, num_clips=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ClipRecord]:
    """Seven clips; the last has its sound in dev/aac."""
    root = tmp_path_factory.mktemp("clips")
    write_tree(root, 3, 2, 12, size=32)
    silent = root / "dev" / "mp4" / "id00007" / "video" / "00000.mp4"
    write_numbered(silent, 12, 32)
    sound = root / "dev" / "aac" / "id00007" / "video" / "00000.m4a"
    sound.parent.mkdir(parents=True)
    whole = write_numbered(root / "loud.mp4", 12, 32, wave=voice(0.5, seed=77))
    run_ffmpeg(["-i", whole.path, "-vn", "-c", "copy", sound], "making a test sound")
    return scan_tree(root)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, clips: list[ClipRecord]) -> Path:
    """A folder with seven shards of one clip, under a name that is odd in URLs and patterns."""
    pytest.importorskip("webdataset")
    root = tmp_path_factory.mktemp("packed")
    write_list(root / "train.csv", clips)
    folder = root / "my shärds {0..3} a:b"
    flags = ["--list", root / "train.csv", "--output", folder, "--shard_size_mb", "0.000001"]
    assert run(main.parse([str(flag) for flag in flags])) == 0
    return folder


def dataset(folder: Path, **changes: Any) -> ShardDataset:
    values: dict[str, Any] = {"data": DATA, "seed": 3, "fields": FIELDS} | changes
    return ShardDataset(folder, **values)


def indices(data: ShardDataset, epoch: int = 0) -> list[int]:
    data.set_epoch(epoch)
    return [item["index"] for item in data]


@pytest.mark.parametrize("epoch", [0, 2])
def test_items_equal_those_from_files(shards: Path, clips: list[ClipRecord], epoch: int) -> None:
    data, files = dataset(shards), VoxTrainDataset(clips, DATA, 3, FIELDS)
    data.set_epoch(epoch)
    items = {item["index"]: item for item in data}
    assert sorted(items) == list(range(7)) == list(range(len(data)))
    for index, item in items.items():
        expected = files[(epoch, index)]
        assert item.keys() == expected.keys()
        assert all(np.array_equal(item[name], expected[name]) for name in item)


def test_order_follows_seed_and_epoch(shards: Path) -> None:
    fields = frozenset({"target"})
    first = indices(dataset(shards, fields=fields))
    assert first == indices(dataset(shards, fields=fields))
    assert first != indices(dataset(shards, fields=fields), epoch=1)
    assert first != indices(dataset(shards, fields=fields, seed=4))
    assert sorted(first) == sorted(indices(dataset(shards, fields=fields), epoch=1)) == list(range(7))


def test_ranks_share_the_shards(shards: Path) -> None:
    parts = [indices(dataset(shards, rank=rank, world_size=3, fields=frozenset({"target"}))) for rank in range(3)]
    assert sorted(len(part) for part in parts) == [2, 2, 3]
    assert sorted(index for part in parts for index in part) == list(range(7))
    assert len(dataset(shards, rank=1, world_size=3)) == 7


def test_workers_share_the_shards_of_their_rank(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # what a spawned worker does: unpickle, and ask which one it is
    data = pickle.loads(pickle.dumps(dataset(shards, fields=frozenset({"target"}), rank=1, world_size=2)))
    alone = indices(data)
    parts = []
    for number in range(5):
        worker = SimpleNamespace(id=number, num_workers=5)
        monkeypatch.setattr("torch.utils.data.get_worker_info", lambda worker=worker: worker)
        parts.append(indices(data))
    assert sorted(index for part in parts for index in part) == sorted(alone)
    assert sorted(len(part) for part in parts) == [0, 0, 1, 1, 1]


def test_loader_makes_batches(shards: Path) -> None:
    batches = list(DataLoader(dataset(shards, fields=frozenset({"target"})), batch_size=3, collate_fn=collate))
    assert [len(batch["index"]) for batch in batches] == [3, 3, 1]


def test_iteration_leaves_no_files_behind(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    items = iter(dataset(shards))
    next(items)
    assert list(tmp_path.iterdir()) == []


def pack(tmp_path: Path, clips: list[ClipRecord]) -> Path:
    """One shard."""
    pytest.importorskip("webdataset")
    write_list(tmp_path / "train.csv", clips)
    flags = ["--list", str(tmp_path / "train.csv"), "--output", str(tmp_path / "shards")]
    assert run(main.parse(flags)) == 0
    return tmp_path / "shards"


def test_unreadable_clips_are_named_in_the_next_item(
    tmp_path: Path, clips: list[ClipRecord], caplog: pytest.LogCaptureFixture
) -> None:
    damaged = write_numbered(tmp_path / "d.mp4", 12, 32, wave=voice(0.5))
    folder = pack(tmp_path, [clips[0], damaged, clips[1]])
    # now damage it within the shard
    shard = folder / "shard-000000.tar"
    content = shard.read_bytes()
    place = content.index(damaged.path.read_bytes())
    shard.write_bytes(content[:place] + b"x" * 600 + content[place + 600 :])
    items = list(dataset(folder))
    assert sorted(item["index"] for item in items) == [0, 2]
    assert f"{shard}/00000001.mp4: not a readable video" in caplog.text
    followers = [path for item in items for path in item["skipped"]]
    assert followers in ([], [f"{shard}/00000001.mp4"]), "nothing follows when it comes last"


def test_ten_unreadable_clips_in_a_row_raise_media_error(tmp_path: Path) -> None:
    folder = _foreign_shard(tmp_path, 10)
    with pytest.raises(MediaError, match=r"10 clips in a row cannot be read, the last: .*a.tar/.*: not a clip as scr"):
        list(dataset(folder))
    assert list(dataset(_foreign_shard(tmp_path, 9))) == []


def _foreign_shard(tmp_path: Path, count: int) -> Path:
    pytest.importorskip("webdataset")
    folder = tmp_path / f"foreign{count}"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number in range(count):
            tar.addfile(tarfile.TarInfo(f"{number}.txt"))
    write_index(folder, ShardIndex({"a.tar": count}, 1, {}))
    return folder


def test_short_clips_are_left_out_and_named(
    tmp_path: Path, clips: list[ClipRecord], caplog: pytest.LogCaptureFixture
) -> None:
    short = write_numbered(tmp_path / "s.mp4", 3, 32, wave=voice(0.3))
    items = list(dataset(pack(tmp_path, [clips[0], short])))
    assert [(item["index"], item["skipped"]) for item in items] == [(0, [])]
    assert "shard-000000.tar/00000001.mp4: has 3 frames, 4 are needed; left out" in caplog.text


def test_damaged_shard_raises_media_error(tmp_path: Path, clips: list[ClipRecord]) -> None:
    folder = pack(tmp_path, clips)
    shard = folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"shards: a shard is damaged: .*shard-000000.tar.*; delete it and write it"):
        list(dataset(folder))


def test_missing_shards_and_too_many_ranks_are_errors(tmp_path: Path, clips: list[ClipRecord]) -> None:
    folder = pack(tmp_path, clips)
    with pytest.raises(OptionError, match=r"shards: has 1 shards for 2 processes; write more with a smaller --shard_"):
        dataset(folder, world_size=2)
    (folder / "shard-000000.tar").unlink()
    with pytest.raises(MediaError, match=r"1 of 1 shards are missing, the first is shard-000000.tar; run"):
        dataset(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "truncated"),
        ("[]", "Expected `object`, got `array`"),
        ('{"a": 1}', "missing required field `shards`"),
        ('{"shards": {"a.tar": "1"}, "num_speakers": 1, "made_of": {}}', "Expected `int`, got `str`"),
        ('{"shards": {}, "num_speakers": 1, "made_of": {}}', "lists no clips"),
        (None, "No such file or directory"),
    ],
)
def test_missing_or_damaged_index_raises_metadata_error(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "shards.json").write_text(content)
    with pytest.raises(MetadataError, match=r"shards\.json: .*; write it with scripts/write_shards\.py") as error:
        read_index(tmp_path)
    assert message in str(error.value)


def test_missing_package_raises_option_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(OptionError, match=r"need the package webdataset: pip install webdataset"):
        dataset(tmp_path)
