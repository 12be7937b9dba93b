"""The training items of `data.voxtrain_dataset` read from tar shards, for disks and networks that dislike small files.

`scripts/write_shards.py` writes them: `shard-NNNNNN.tar` with members `<number>.json`, `<number>.mp4` and, when the
sound is not in the mp4, `<number>.m4a` or `.wav`, and beside them `shards.json`. Reading needs the package webdataset.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import random
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset

from data.clip_list import VIDEO_SUFFIX, ClipRecord
from data.clip_reader import ClipReader, find_sound
from data.voxtrain_dataset import FAILURES_IN_A_ROW, make_item, shortest_clip
from options.config import DataConfig
from util.errors import MediaError, MetadataError, OptionError
from util.files import atomic_path, reading, write_json, writing
from util.json_files import parse_json, read_json
from util.log import warn_once
from util.seed import generator_for

INDEX_FILE = "shards.json"
_SOUND_SUFFIXES = (".m4a", ".wav")
_SHUFFLED_CLIPS = 100  # a worker holds so many coded clips, some 30 MB of VoxCeleb2
_ORDER, _BUFFER = 0, 1  # what a random stream is for
_HOW_TO_WRITE = "write it with scripts/write_shards.py"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardIndex:
    """What lies in a folder of shards."""

    shards: dict[str, int]  # file name -> clips that were planned for it
    num_speakers: int
    made_of: dict[str, Any]  # what a second run must agree on: the list's checksum and the settings

    @property
    def num_clips(self) -> int:
        return sum(self.shards.values())


@dataclass(frozen=True)
class ShardClip:
    """`<number>.json` of a clip in a shard."""

    number: int  # in the list that was packed
    num_frames: int
    speaker: str
    label: int


def write_index(folder: Path, index: ShardIndex) -> None:
    """Writes `shards.json`. Raises OptionError for a folder that was begun with another list or other settings."""
    if (folder / INDEX_FILE).is_file():
        before = read_index(folder)
        changed = [name for name, value in index.made_of.items() if before.made_of.get(name) != value]
        if changed or before.shards != index.shards:
            what = changed[0] if changed else "the size of the clips"
            raise OptionError(
                f"--output {folder}: was begun with another {what}; choose another folder or empty this one"
            )
    elif strangers := sorted(path.name for path in folder.glob("shard-*.tar")):
        raise OptionError(f"--output {folder}: holds {strangers[0]} but no {INDEX_FILE}; choose another folder")
    write_json(folder / INDEX_FILE, dataclasses.asdict(index))


def plan_shards(records: Sequence[ClipRecord], shard_size_mb: float, seed: int) -> dict[str, list[int]]:
    """Which clips, by their number in the list, go into which file; a shard ends with the clip that fills it.

    Sound that only `data.clip_reader.find_sound` would find is not counted in the sizes. Raises MediaError: a clip is a
    folder of frames.
    """
    shards: list[list[int]] = []
    room = 0.0
    for number in generator_for(seed).permutation(len(records)):
        if room <= 0:
            shards.append([])
            room = shard_size_mb * 10**6
        shards[-1].append(int(number))
        record = records[number]
        if record.path.is_dir():
            raise MediaError(f"{record.path}: is a folder; shards hold mp4 files, train on frames without shards")
        room -= sum(path.stat().st_size for path in (record.path, record.audio) if path is not None and path.is_file())
    return {f"shard-{place:06d}.tar": numbers for place, numbers in enumerate(shards)}


def write_shard(path: Path, records: Sequence[ClipRecord], numbers: Sequence[int]) -> int:
    """Writes one shard atomically: the clips of these numbers in the list.

    Returns how many clips could not be read and are left out; each is named in a warning.
    """
    left_out = 0
    with writing(path), atomic_path(path) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as shard:
        for number in numbers:
            try:
                members = _read_members(records[number], number)
            except MediaError as error:
                _log.warning("%s; left out", error)
                left_out += 1
                continue
            for name, payload in members.items():
                # no times and owners: the same clips give the same bytes
                member = tarfile.TarInfo(name)
                member.size = len(payload)
                shard.addfile(member, io.BytesIO(payload))
    return left_out


def _read_members(record: ClipRecord, number: int) -> dict[str, bytes]:
    """Names and contents of the members for one clip. Raises MediaError, also for sound of another kind."""
    key = f"{number:08d}"
    sound = find_sound(record.path, record.audio)
    if sound != record.path and sound.suffix.lower() not in _SOUND_SUFFIXES:
        raise MediaError(f"{sound}: shards hold sound as {' or '.join(_SOUND_SUFFIXES)}")
    known = ShardClip(number, record.num_frames, record.speaker, record.label)
    members = {f"{key}.json": json.dumps(dataclasses.asdict(known)).encode()}
    for path in dict.fromkeys((record.path, sound)):
        with reading(path):
            members[f"{key}{path.suffix.lower()}"] = path.read_bytes()
    return members


def read_index(folder: str | Path) -> ShardIndex:
    """Reads `shards.json`. Raises MetadataError."""
    path = Path(folder, INDEX_FILE)
    index = read_json(path, ShardIndex, MetadataError, _HOW_TO_WRITE)
    if index.num_clips < 1:
        raise MetadataError(f"{path}: lists no clips; {_HOW_TO_WRITE}")
    return index


class ShardDataset(IterableDataset):
    """One epoch of training items from tar shards; the items are those of `VoxTrainDataset` for the same list.

    The shards are shuffled by (seed, epoch) and dealt out to ranks, then to loading workers, so it is well to have
    several for each; within a worker clips are shuffled again over some hundred. An item depends on the seed, the
    epoch and the clip's number in the list alone. `cache_gb` is not used: a stream brings each clip once.

    Raises PcavsError: no package webdataset, fewer shards than ranks, a damaged `shards.json`, or shards are missing.
    """

    def __init__(
        self,
        root: str | Path,
        data: DataConfig,
        seed: int,
        fields: frozenset[str],
        n_mel_t: int = 4,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _import_webdataset()
        self._root, self.index = Path(root).absolute(), read_index(root)
        missing = [name for name in self.index.shards if not (self._root / name).is_file()]
        if missing:
            raise MediaError(
                f"{root}: {len(missing)} of {len(self.index.shards)} shards are missing, the first is {missing[0]}; "
                "run scripts/write_shards.py to the end"
            )
        if len(self.index.shards) < world_size:
            raise OptionError(
                f"{root}: has {len(self.index.shards)} shards for {world_size} processes; "
                "write more with a smaller --shard_size_mb"
            )
        self._data = dataclasses.replace(data, cache_gb=0.0)
        self._seed, self._fields, self._n_mel_t = seed, fields, n_mel_t
        self._rank, self._world_size = rank, world_size
        self._epoch = 0

    def __len__(self) -> int:
        """Clips of all ranks in one epoch."""
        return self.index.num_clips

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration; workers that persist do not hear of it."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Items as `VoxTrainDataset` makes them; `index` is the clip's number in the list.

        A clip that cannot be read is named in a warning and in the `skipped` of the next item; one that is too short
        in a warning. Raises MediaError: a damaged shard, or ten clips in a row that cannot be read.
        """
        worker = torch.utils.data.get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        shards = self._my_shards()[number::count]
        if not shards:
            return
        reader = ClipReader(self._data)
        skipped: list[str] = []
        for sample in self._samples(shards, number):
            name = f"{sample['__url__']}/{sample['__key__']}{VIDEO_SUFFIX}"
            try:
                item = self._make(reader, sample, name)
            except MediaError as error:
                warn_once(_log, str(error))
                skipped.append(name)
                if len(skipped) >= FAILURES_IN_A_ROW:
                    raise MediaError(f"{len(skipped)} clips in a row cannot be read, the last: {error}") from error
                continue
            if item is not None:
                yield {**item, "skipped": skipped}
                skipped = []

    def _my_shards(self) -> list[Path]:
        names = sorted(self.index.shards)
        order = generator_for(self._seed, _ORDER, self._epoch).permutation(len(names))
        return [self._root / names[place] for place in order[self._rank :: self._world_size]]

    def _samples(self, shards: list[Path], worker: int) -> Iterator[dict[str, Any]]:
        wds = _import_webdataset()
        draw = generator_for(self._seed, _BUFFER, self._epoch, self._rank, worker)
        pipeline = wds.DataPipeline(
            wds.SimpleShardList([str(path) for path in shards]),
            wds.tarfile_to_samples(),
            wds.shuffle(_SHUFFLED_CLIPS, initial=_SHUFFLED_CLIPS, rng=random.Random(int(draw.integers(2**62)))),
        )
        try:
            yield from pipeline
        except (OSError, tarfile.TarError, ValueError, EOFError) as error:
            # the package appends the name of the shard to the error
            raise MediaError(f"{self._root}: a shard is damaged: {error}; delete it and {_HOW_TO_WRITE}") from error

    def _make(self, reader: ClipReader, sample: dict[str, Any], name: str) -> dict[str, Any] | None:
        """The item of a sample; None when the clip is too short."""
        if "json" not in sample or "mp4" not in sample:
            raise MediaError(f"{name}: not a clip as scripts/write_shards.py writes it")
        known = parse_json(sample["json"], ShardClip, name)
        if known.num_frames < shortest_clip(self._data):
            told = f"has {known.num_frames} frames, {shortest_clip(self._data)} are needed; left out"
            warn_once(_log, f"{name}: {told}")
            return None
        with tempfile.TemporaryDirectory(prefix="pcavs-") as folder:
            path, audio = Path(folder, f"{known.number:08d}{VIDEO_SUFFIX}"), None
            path.write_bytes(sample["mp4"])
            for suffix in _SOUND_SUFFIXES:
                if suffix[1:] in sample:
                    audio = path.with_suffix(suffix)
                    audio.write_bytes(sample[suffix[1:]])
            record = ClipRecord(path, audio, known.num_frames, known.speaker, known.label)
            rng = generator_for(self._seed, self._epoch, known.number)
            try:
                item = make_item(reader, record, rng, self._data, self._fields, self._n_mel_t)
            except MediaError as error:
                raise MediaError(str(error).replace(folder, sample["__url__"])) from error
        return {**item, "index": known.number}


def _import_webdataset() -> Any:
    try:
        import webdataset
    except ImportError as error:
        raise OptionError("tar shards need the package webdataset: pip install webdataset") from error
    return webdataset
