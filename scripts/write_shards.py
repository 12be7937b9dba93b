"""Packs the clips of a list into tar shards for --dataset_mode webdataset; sound that lies beside a clip goes along.

    python scripts/write_shards.py --list lists/train.csv --output shards --shard_size_mb 512

On a cluster, job i of 8 (from 0), all with the same list and settings:

    python scripts/write_shards.py --list lists/train.csv --output shards --shard $i/8

Clips are shuffled first, so that a shard holds many speakers. A run that was stopped goes on where it was: shards that
are there are whole. Exit codes: 0 done, 1 an error or clips that could not be packed, 2 wrong flags, 130 interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.errors import MediaError, OptionError, PcavsError
from util.files import atomic_path, make_directory
from util.log import setup_logging

if TYPE_CHECKING:
    from data.clip_list import ClipRecord

_BYTES_PER_MB = 10**6
_log = logging.getLogger(__name__)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--list", type=Path, required=True, help="csv of clips, see data/clip_list.py")
    parser.add_argument("--output", type=Path, required=True, help="folder that gets shard-NNNNNN.tar and shards.json")
    parser.add_argument("--shard_size_mb", type=float, default=512, help="about how large a shard is (default 512)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the clips (default 0)")
    parser.add_argument(
        "--shard", type=part, default=(0, 1), metavar="I/N", help="write every N-th shard from the I-th"
    )
    return parser.parse_args(argv)


def part(text: str) -> tuple[int, int]:
    """argparse type: `3/8` is the fourth of 8 parts."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"must be i/n with i from 0 to n - 1, such as 0/8 ... 7/8, got {text!r}")
    return int(number), int(count)


def run(args: argparse.Namespace) -> int:
    """Writes the shards that are missing. Returns the exit status."""
    from tqdm import tqdm

    from data.clip_list import num_speakers, read_list
    from data.webdataset_shards import ShardIndex, write_index

    if not args.shard_size_mb > 0:
        raise OptionError(f"--shard_size_mb must be above 0, got {args.shard_size_mb:g}")
    if args.seed < 0:
        raise OptionError(f"--seed must not be negative, got {args.seed}")
    records = read_list(args.list)
    checksum = hashlib.sha256(args.list.read_bytes()).hexdigest()
    made_of = {"list_sha256": checksum, "shard_size_mb": args.shard_size_mb, "seed": args.seed}
    plan = plan_shards(records, args.shard_size_mb, args.seed)
    shards = {name: len(numbers) for name, numbers in plan.items()}
    make_directory(args.output)
    check_same(args.output, shards, made_of)
    write_index(args.output, ShardIndex(shards, num_speakers(records), made_of))
    mine = list(plan)[args.shard[0] :: args.shard[1]]
    todo = [name for name in mine if not (args.output / name).is_file()]
    left_out = 0
    with tqdm(total=sum(shards[name] for name in todo), unit="clip", desc="packing", disable=not todo) as bar:
        for name in todo:
            left_out += write_shard(args.output / name, records, plan[name])
            bar.update(shards[name])
    print(f"{args.output}: {len(todo)} shards written, {len(mine) - len(todo)} were there, {left_out} clips left out")
    return 1 if left_out else 0


def plan_shards(records: Sequence[ClipRecord], shard_size_mb: float, seed: int) -> dict[str, list[int]]:
    """Which clips, by their number in the list, go into which file; a shard ends with the clip that fills it.

    Sound that only `data.clip_reader.find_sound` would find is not counted in the sizes.

    Raises:
        MediaError: a clip is a folder of frames.
    """
    from util.seed import generator_for

    shards: list[list[int]] = []
    room = 0.0
    for number in generator_for(seed).permutation(len(records)):
        if room <= 0:
            shards.append([])
            room = shard_size_mb * _BYTES_PER_MB
        shards[-1].append(int(number))
        room -= _size_bytes(records[number])
    return {f"shard-{place:06d}.tar": numbers for place, numbers in enumerate(shards)}


def _size_bytes(record: ClipRecord) -> int:
    if record.path.is_dir():
        raise MediaError(f"{record.path}: is a folder; shards hold mp4 files, train on frames without shards")
    paths = [record.path] if record.audio is None else [record.path, record.audio]
    return sum(path.stat().st_size for path in paths if path.is_file())


def check_same(folder: Path, shards: dict[str, int], made_of: dict[str, object]) -> None:
    """Raises OptionError when the folder was begun with another list or other settings."""
    from data.webdataset_shards import INDEX_FILE, read_index

    if not (folder / INDEX_FILE).is_file():
        strangers = sorted(path.name for path in folder.glob("shard-*.tar"))
        if strangers:
            raise OptionError(f"--output {folder}: holds {strangers[0]} but no {INDEX_FILE}; choose another folder")
        return
    before = read_index(folder)
    changed = [name for name, value in made_of.items() if before.made_of.get(name) != value]
    if changed or before.shards != shards:
        what = changed[0] if changed else "the size of the clips"
        raise OptionError(f"--output {folder}: was begun with another {what}; choose another folder or empty this one")


def write_shard(path: Path, records: Sequence[ClipRecord], numbers: Sequence[int]) -> int:
    """Writes one shard atomically.

    Returns:
        how many clips could not be read and are left out; each is named in a warning.

    Raises:
        MediaError: the disk refuses.
    """
    left_out = 0
    try:
        with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as shard:
            for number in numbers:
                try:
                    members = read_members(records[number], number)
                except MediaError as error:
                    _log.warning("%s; left out", error)
                    left_out += 1
                    continue
                for name, payload in members.items():
                    # no times and owners: the same clips give the same bytes
                    member = tarfile.TarInfo(name)
                    member.size = len(payload)
                    shard.addfile(member, io.BytesIO(payload))
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from error
    return left_out


def read_members(record: ClipRecord, number: int) -> dict[str, bytes]:
    """Names and contents of the members for one clip.

    Raises:
        MediaError: the clip is missing or damaged, or its sound is missing or of another kind than shards hold.
    """
    from data.clip_list import VIDEO_SUFFIX
    from data.clip_reader import find_sound
    from data.webdataset_shards import SOUND_SUFFIXES, describe_clip

    key = f"{number:08d}"
    sound = find_sound(record.path, record.audio)
    files = {f"{key}{VIDEO_SUFFIX}": record.path}
    if sound != record.path:
        if sound.suffix.lower() not in SOUND_SUFFIXES:
            raise MediaError(f"{sound}: shards hold sound as {' or '.join(SOUND_SUFFIXES)}")
        files[f"{key}{sound.suffix.lower()}"] = sound
    members = {f"{key}.json": describe_clip(record, number)}
    for name, path in files.items():
        try:
            members[name] = path.read_bytes()
        except OSError as error:
            raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from error
    return members


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    setup_logging()
    try:
        return run(args)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except KeyboardInterrupt:
        print("error: interrupted; whole shards stay, run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
