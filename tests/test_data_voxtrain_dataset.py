"""Training items: what is in them, what they depend on, and what happens to clips that cannot be read."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data.audio import mel_window
from data.augment import apply_augmentation
from data.clip_list import ClipRecord, scan_tree
from data.clip_reader import ClipReader
from data.voxtrain_dataset import (
    VoxTrainDataset,
    collate,
    draw_plan,
    draw_starts,
    shortest_clip,
    worker_init,
)
from options.config import DataConfig
from tests.conftest import voice
from tests.numbered_clips import numbers_in, write_numbered, write_tree
from util.errors import MediaError, MetadataError
from util.seed import generator_for

FIELDS = frozenset({"reference", "target", "augmented", "mel", "voice"})
DATA = DataConfig(crop_size=28, clip_len=4, num_clips=3, num_inputs=2, frame_interval=2, generate_interval=2)
FRAMES = 40


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ClipRecord]:
    """Two speakers with two clips each."""
    return scan_tree(write_tree(tmp_path_factory.mktemp("vox"), 2, 2, FRAMES, size=64))


def dataset(records: list[ClipRecord], data: DataConfig = DATA, **changes: Any) -> VoxTrainDataset:
    values: dict[str, Any] = {"seed": 7, "fields": FIELDS, "n_mel_t": 4} | changes
    return VoxTrainDataset(records, data, **values)


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_item_has_the_shapes_and_types_of_the_contract(records: list[ClipRecord]) -> None:
    item = dataset(records)[(1, 2)]
    described = {k: (v.shape, v.dtype.name) for k, v in item.items() if isinstance(v, np.ndarray)}
    assert described == {
        "reference": ((2, 3, 28, 28), "uint8"),
        "target": ((2, 3, 28, 28), "uint8"),
        "augmented": ((3, 4, 3, 28, 28), "uint8"),
        "mel": ((3, 4, 1, 80, 20), "float32"),
        "voice": ((1, 320, 20), "float32"),
        "start": ((3,), "int64"),
    }
    assert (item["label"], item["index"], item["skipped"]) == (1, 2, [])


def test_item_holds_the_frames_its_starts_say(records: list[ClipRecord]) -> None:
    data = dataclasses.replace(DATA, augment=False)
    for index in range(4):
        item = dataset(records, data)[(0, index)]
        offset = 5 * (index % 2)
        pieces = item["start"][:, None] + 2 * np.arange(4) + offset
        assert numbers_in(item["augmented"].reshape(12, 3, 28, 28)) == list(pieces.ravel())
        assert numbers_in(item["target"]) == list(pieces[0, ::2])
        assert all(offset <= number < offset + FRAMES for number in numbers_in(item["reference"]))


def test_item_holds_the_mel_windows_of_its_frames(records: list[ClipRecord]) -> None:
    item, mel = dataset(records)[3], ClipReader(DATA).mel(records[3])
    for piece, start in enumerate(item["start"]):
        for place in range(4):
            assert np.array_equal(item["mel"][piece, place], mel_window(mel, int(start) + 2 * place))
    assert item["mel"].max() > 0.3


def test_voice_is_a_continuous_piece_of_sound(records: list[ClipRecord]) -> None:
    mel = ClipReader(DATA).mel(records[0])
    starts = set()
    for epoch in range(30):
        item = dataset(records, fields=frozenset({"voice"}), n_mel_t=3)[(epoch, 0)]
        windows = item["voice"].reshape(3, 80, 20)
        sound = np.concatenate(list(windows), axis=1).T  # (60, 80)
        found = [b for b in range(0, len(mel) - 59, 4) if np.array_equal(mel[b : b + 60], sound)]
        assert len(found) == 1
        starts.add(found[0] // 4)
    assert min(starts) >= 0
    assert max(starts) <= FRAMES - 15
    assert len(starts) > 12


def test_voice_of_a_short_clip_ends_in_silence(tmp_path: Path) -> None:
    record = write_numbered(tmp_path / "a.mp4", 12, 32, wave=voice(12 / 25))
    item = VoxTrainDataset([record], DataConfig(crop_size=28), 0, frozenset({"voice"}), n_mel_t=4)[0]
    windows = item["voice"].reshape(4, 80, 20)
    assert windows[0].max() > 0.2
    assert windows[3].max() == 0


def test_augmented_frames_have_one_augmentation_and_targets_none(records: list[ClipRecord]) -> None:
    plain = dataset(records, dataclasses.replace(DATA, augment=False))[(5, 1)]
    item = dataset(records)[(5, 1)]
    *_, augmentation = draw_plan(generator_for(7, 5, 1), FRAMES, DATA, 4)
    frames = plain["augmented"].reshape(12, 3, 28, 28)
    assert np.array_equal(item["augmented"].reshape(frames.shape), apply_augmentation(frames, augmentation))
    assert not np.array_equal(item["augmented"], plain["augmented"])
    for name in ("target", "reference", "mel", "voice", "start"):
        assert np.array_equal(item[name], plain[name])


def test_changed_sound_is_one_for_a_clip_and_leaves_the_frames(records: list[ClipRecord]) -> None:
    plain = dataset(records)[3, 1]
    changed = dataset(records, dataclasses.replace(DATA, augment_sound=1.0))
    one, other = changed[3, 1], changed[4, 1]
    assert np.abs(one["mel"] - plain["mel"]).max() > 0.02
    assert (one["mel"] == changed[3, 1]["mel"]).all()
    assert (one["target"] == plain["target"]).all()
    assert np.abs(one["mel"] - other["mel"]).max() > 0.02  # another epoch has another voice


def test_fields_choose_what_is_made_but_not_how(records: list[ClipRecord]) -> None:
    everything = dataset(records)[(2, 0)]
    for name in FIELDS:
        item = dataset(records, fields=frozenset({name}))[(2, 0)]
        assert set(item) == {name, "label", "index", "start", "skipped"}
        assert np.array_equal(item[name], everything[name])


def test_item_depends_on_seed_epoch_and_index_alone(records: list[ClipRecord]) -> None:
    one, other = dataset(records), dataset(records, dataclasses.replace(DATA, cache_gb=1.0))
    expected = {key: one[key] for key in [(0, 0), (0, 1), (1, 0), (9, 3)]}
    for key in [(9, 3), (1, 0), (0, 1), (0, 0), (9, 3)]:
        assert equal(other[key], expected[key])
    assert equal(one[1], expected[(0, 1)])
    assert not equal(expected[(0, 0)], expected[(1, 0)])
    assert not equal(dataset(records, seed=8)[(0, 0)], expected[(0, 0)])


def test_spawned_worker_makes_the_same_items(records: list[ClipRecord]) -> None:
    keys = [(3, index) for index in (2, 0, 3, 1)]
    data = dataset(records, dataclasses.replace(DATA, cache_gb=0.1))
    loader = DataLoader(
        data, batch_size=2, sampler=keys, num_workers=1, multiprocessing_context="spawn",
        collate_fn=collate, worker_init_fn=worker_init,
    )  # fmt: skip
    for batch, expected in zip(loader, [keys[:2], keys[2:]], strict=True):
        alone = collate([dataset(records)[key] for key in expected])
        assert batch.keys() == alone.keys()
        assert batch["skipped"] == alone["skipped"] == []
        for name in alone.keys() - {"skipped"}:
            # a matrix product on another number of threads may differ in the last bit of the spectrogram
            torch.testing.assert_close(batch[name], alone[name], rtol=0, atol=1e-6 if name in ("mel", "voice") else 0)


def test_collate_stacks_and_joins_skipped(records: list[ClipRecord]) -> None:
    items = [dataset(records)[index] for index in (0, 3)]
    items[0]["skipped"], items[1]["skipped"] = ["a", "b"], ["c"]
    batch = collate(items)
    assert batch["skipped"] == ["a", "b", "c"]
    assert batch["label"].tolist() == [0, 1]
    assert batch["index"].tolist() == [0, 3]
    assert {batch[name].dtype for name in ("label", "index", "start")} == {torch.int64}
    assert batch["augmented"].shape == (2, 3, 4, 3, 28, 28)
    assert batch["augmented"].dtype == torch.uint8
    assert torch.equal(batch["mel"][1], torch.from_numpy(items[1]["mel"]))


@pytest.mark.parametrize(
    ("num_frames", "clip_len", "interval", "clips", "least"),
    [(100, 6, 1, 2, 6), (100, 6, 3, 4, 18), (20, 6, 1, 3, 6), (16, 6, 1, 3, 5), (8, 6, 1, 3, 1), (7, 1, 1, 7, 1)],
)
def test_starts_lie_apart_and_inside(num_frames: int, clip_len: int, interval: int, clips: int, least: int) -> None:
    data = DataConfig(clip_len=clip_len, frame_interval=interval, num_clips=clips)
    latest = num_frames - 1 - (clip_len - 1) * interval
    seen = set()
    for seed in range(300):
        starts = draw_starts(np.random.default_rng(seed), num_frames, data)
        assert starts.shape == (clips,)
        assert starts.min() >= 0
        assert starts.max() <= latest
        assert np.diff(np.sort(starts)).min() >= least
        seen.add(int(starts[0]))
    if num_frames == 100:
        assert {0, latest} <= seen, "the first piece may lie anywhere"


def test_starts_of_one_piece_are_spread_evenly() -> None:
    data = DataConfig(clip_len=3)
    starts = [int(draw_starts(np.random.default_rng(seed), 12, data)[0]) for seed in range(2000)]
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 140


def test_references_are_drawn_from_the_whole_clip() -> None:
    plans = [draw_plan(np.random.default_rng(seed), 9, DataConfig(num_inputs=2), 4) for seed in range(100)]
    assert {int(n) for _, references, *_ in plans for n in references} == set(range(9))


@pytest.mark.parametrize(
    ("clip_len", "interval", "clips", "expected"), [(6, 1, 1, 6), (6, 2, 1, 12), (6, 1, 2, 7), (1, 1, 5, 5)]
)
def test_shortest_clip_has_room_for_all_starts(clip_len: int, interval: int, clips: int, expected: int) -> None:
    data = DataConfig(clip_len=clip_len, frame_interval=interval, num_clips=clips)
    assert shortest_clip(data) == expected
    assert len(set(draw_starts(np.random.default_rng(0), expected, data))) == clips


def test_short_clips_are_left_out_and_named(records: list[ClipRecord], caplog: pytest.LogCaptureFixture) -> None:
    short = [dataclasses.replace(records[0], path=Path(f"short{k}.mp4"), num_frames=k) for k in range(1, 6)]
    data = dataset([short[0], *records, *short[1:]])
    assert len(data) == 4
    assert list(data.records) == records
    assert "5 clips have less than 9 frames" in caplog.text
    assert "short1.mp4 (1), short2.mp4 (2), short3.mp4 (3) ..." in caplog.text


def test_only_short_clips_raise_metadata_error(records: list[ClipRecord]) -> None:
    with pytest.raises(
        MetadataError, match=r"none of 4 clips has the 81 frames that --clip_len 40, --frame_interval 2"
    ):
        dataset(records, dataclasses.replace(DATA, clip_len=40))


def test_unreadable_clip_is_replaced_by_the_next_and_named_once(
    tmp_path: Path, records: list[ClipRecord], caplog: pytest.LogCaptureFixture
) -> None:
    damaged = write_numbered(tmp_path / "damaged.mp4", FRAMES, 64, wave=voice(1.6))
    damaged.path.write_bytes(damaged.path.read_bytes()[:3000])
    silent = write_numbered(tmp_path / "silent.mp4", FRAMES, 64)
    data = dataset([records[2], damaged, silent])
    for _ in range(2):
        item = data[(4, 1)]
        assert item.pop("skipped") == [str(damaged.path), str(silent.path)]
        whole = data[(4, 0)]
        assert whole.pop("skipped") == []
        assert equal(item, whole), "the next after the last is the first"
    assert caplog.text.count("damaged.mp4: not a readable video") == 1
    assert caplog.text.count("silent.mp4: no sound found") == 1


def test_clip_without_sound_serves_where_none_is_needed(tmp_path: Path) -> None:
    silent = write_numbered(tmp_path / "silent.mp4", FRAMES, 64)
    item = dataset([silent], fields=frozenset({"reference", "target"}))[0]
    assert item["skipped"] == []


def test_ten_unreadable_clips_in_a_row_raise_media_error(tmp_path: Path, records: list[ClipRecord]) -> None:
    gone = [ClipRecord(tmp_path / f"gone{k}.mp4", None, FRAMES, "x", 0) for k in range(12)]
    data = dataset([*gone, *records])
    with pytest.raises(MediaError, match=r"10 clips in a row cannot be read, the last: .*gone9.mp4: no such clip"):
        data[0]
    assert len(data[(0, 3)]["skipped"]) == 9
    with pytest.raises(MediaError, match=r"3 clips in a row cannot be read"):
        dataset(gone[:3])[0]


def test_worker_init_leaves_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    threads: list[int] = []
    monkeypatch.setattr(cv2, "setNumThreads", threads.append)
    worker_init(1)
    assert threads == [0]
    assert torch.get_num_threads() == 1


def test_draws_do_not_depend_on_frame_size() -> None:
    plans = [draw_plan(np.random.default_rng(1), 50, dataclasses.replace(DATA, crop_size=s), 4) for s in (28, 64)]
    for one, other in zip(*(plan[:3] for plan in plans), strict=True):
        assert np.array_equal(one, other)
    assert plans[0][3].gain == plans[1][3].gain


_ORPHAN = """
import multiprocessing, os, sys, time
from data.voxtrain_dataset import worker_init

def load():
    multiprocessing.parent_process().join()
    worker_init(0)
    time.sleep(15)
    print("stayed", flush=True)

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=load)
    child.start()
    print(child.pid, flush=True)
    os._exit(0)
"""


def test_loading_process_ends_when_the_trainer_died_while_it_began(tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(_ORPHAN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert int(first) > 0
        assert process.stdout.read() == ""  # ends with the loading process, which holds it, too
