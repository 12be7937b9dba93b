"""Checks the clips of a data set and writes the lists that train.py reads: train.csv, val.csv, test.csv, broken.txt.

    python scripts/prepare_voxceleb2.py --root VoxCeleb2 --output lists --val_speakers 50

On a cluster, job i of 64 (from 0), and after the last one:

    python scripts/prepare_voxceleb2.py --root VoxCeleb2 --output lists --shard $i/64
    python scripts/prepare_voxceleb2.py --root VoxCeleb2 --output lists --val_speakers 50 --merge

or with the workers of a Dask scheduler: --dask ADDRESS.

Layouts, each also from the folder in its middle on:
    voxceleb2   <root>/dev/mp4/<speaker>/<video>/<clip>.mp4, sound inside or in dev/aac/<speaker>/<video>/<clip>.m4a
    lrw         <root>/lipread_mp4/<WORD>/{train,val,test}/<WORD>_NNNNN.mp4; keeps its splits, labels number words
    frames      <root>/<speaker>/.../<clip>/000000.jpg, sound in audio.wav in that folder or in <clip>.wav beside it

What is known of a clip is kept in <output>/checked-*.jsonl. A run that was stopped goes on where it was, and a later
run opens only what is new, has changed (size or time) or was broken. Exit codes: 0 done, 1 an error, 2 wrong flags,
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import FPS
from util.cli import Command, add_overwrite_flag, add_worker_flags, natural_int, part, positive_int
from util.errors import MediaError, OptionError
from util.files import claim_output, make_directory, write_text

if TYPE_CHECKING:
    from data.clip_list import ClipRecord


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--root", type=Path, required=True, help="the data set")
    add("--output", type=Path, required=True, help="folder that gets the lists")
    add("--layout", choices=("voxceleb2", "lrw", "frames"), default="voxceleb2", help="of the tree")
    add(
        "--check",
        choices=("fast", "full"),
        default="fast",
        help="fast: header, start and end of a clip; full: decode everything",
    )
    add("--min_frames", type=positive_int, default=25, help="leave out shorter clips")
    add("--val_speakers", type=speaker_share, default=0.0, help="number or fraction")
    add("--test_speakers", type=speaker_share, default=0.0, help="number or fraction")
    add("--seed", type=natural_int, default=0, help="draws the speakers of val and test")
    add("--shard", type=part, default="0/1", metavar="I/N", help="check a part, write no lists")
    add("--merge", action="store_true", help="check nothing, write the lists of what was checked")
    add_overwrite_flag(add)
    add_worker_flags(parser)


def speaker_share(text: str) -> float:
    """argparse type: a number of speakers, or a fraction of them below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value < 1 or (value >= 1 and value.is_integer())):
        raise argparse.ArgumentTypeError(f"must be a number of speakers or a fraction below 1, got {text!r}")
    return value


def run(args: argparse.Namespace) -> None:
    from data.clip_check import ClipChecks
    from data.clip_list import build_lists, find_clips, split_speakers

    check_flags(args)
    # the workers of Dask work in other folders
    root = args.root.absolute() if args.dask else args.root
    clips = find_clips(root, args.layout)
    if args.layout != "lrw":  # complain before hours of checking
        split_speakers((clip.speaker for clip in clips), args.val_speakers, args.test_speakers, args.seed)
    claim_lists(args.output, args.overwrite)
    make_directory(args.output)
    checks = ClipChecks(args.output, root, args.check)
    number, count = args.shard
    mine = clips[number::count]
    if args.merge:
        unchecked = [clip.path for clip in clips if not checks.is_current(clip)]
        if unchecked:
            raise MediaError(
                f"{args.output}: {len(unchecked)} of {len(clips)} clips are not checked yet, such as {unchecked[0]}; "
                "run the shards that are missing, or once without --shard and --merge"
            )
    else:
        checked = checks.check(mine, args.shard, args.workers, args.dask)
        print(f"{checked} clips checked, {len(mine) - checked} were known")
    if count > 1:
        broken = sum(checks.error(clip) is not None for clip in mine)
        print(f"{args.output}: shard {number}/{count}: {broken} broken; when all are done, run again with --merge")
        return
    usable, left_out = checks.usable(clips, args.min_frames)
    lists = build_lists(usable, args.val_speakers, args.test_speakers, args.seed)
    write_lists(args.output, lists, left_out)
    print(f"{args.output}: {summarise(lists, left_out, args.layout)}")
    if not usable:
        reasons = Counter(line.partition(": ")[2] for line in left_out)
        raise MediaError(f"{root}: no clip can be used, {reasons.most_common(1)[0][0]} ...; see broken.txt")


def check_flags(args: argparse.Namespace) -> None:
    """Raises OptionError for flags that do not go together."""
    if args.merge and args.shard != (0, 1):
        raise OptionError(f"--merge joins all shards; leave out --shard {args.shard[0]}/{args.shard[1]}")
    for name in ("val_speakers", "test_speakers"):
        if args.layout == "lrw" and getattr(args, name):
            raise OptionError(f"--{name}: LRW has no speakers and splits of its own; leave the flag out")


def claim_lists(output: Path, overwrite: bool) -> None:
    """Makes sure that what is written or removed is that of an earlier run. Raises OptionError: names the file."""
    from data.clip_check import holds_checks
    from data.clip_list import SPLITS, holds_list

    known = sorted(output.glob("checked-*.jsonl"))
    for path in known:
        claim_output(path, "--output:", overwrite=False, is_ours=holds_checks)
    claim_output(output / "broken.txt", "--output:", overwrite=overwrite, is_ours=lambda _: bool(known))
    for split in SPLITS:
        claim_output(output / f"{split}.csv", "--output:", overwrite=overwrite, is_ours=holds_list)


def write_lists(output: Path, lists: dict[str, list[ClipRecord]], left_out: Sequence[str]) -> None:
    """Writes broken.txt and the lists that have clips; a list of an earlier run that has none now is removed."""
    from data.clip_list import write_list

    write_text(output / "broken.txt", "".join(line + "\n" for line in left_out))
    for split, records in lists.items():
        path = output / f"{split}.csv"
        if records:
            write_list(path, records)
        else:
            path.unlink(missing_ok=True)


def summarise(lists: dict[str, list[ClipRecord]], left_out: Sequence[str], layout: str) -> str:
    records = [record for split in lists.values() for record in split]
    hours = sum(record.num_frames for record in records) / FPS / 3600
    who = "words" if layout == "lrw" else "speakers"
    per_split = ", ".join(f"{name} {len({r.speaker for r in split})}" for name, split in lists.items() if split)
    short = sum(": too short: " in line for line in left_out)
    return (
        f"{len(records)} clips, {hours:.2f} hours, {len({r.speaker for r in records})} {who} ({per_split}), "
        f"{len(left_out) - short} broken, {short} too short"
    )


main = Command(__doc__, add_flags, run, interrupted="what was checked is kept, run the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
