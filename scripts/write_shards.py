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
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.cli import FAILED, Command, natural_int, part, positive_float
from util.files import make_directory
from util.log import progress


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--list", type=Path, required=True, help="csv of clips, written by scripts/prepare_voxceleb2.py")
    add("--output", type=Path, required=True, help="folder that gets shard-NNNNNN.tar and shards.json")
    add("--shard_size_mb", type=positive_float, default=512, help="about how large a shard is")
    add("--seed", type=natural_int, default=0, help="of the order of the clips")
    add("--shard", type=part, default="0/1", metavar="I/N", help="write every N-th shard from the I-th")


def run(args: argparse.Namespace) -> int:
    from data.clip_list import num_speakers, read_list
    from data.webdataset_shards import ShardIndex, plan_shards, write_index, write_shard

    records = read_list(args.list)
    checksum = hashlib.sha256(args.list.read_bytes()).hexdigest()
    made_of = {"list_sha256": checksum, "shard_size_mb": args.shard_size_mb, "seed": args.seed}
    plan = plan_shards(records, args.shard_size_mb, args.seed)
    sizes = {name: len(numbers) for name, numbers in plan.items()}
    make_directory(args.output)
    write_index(args.output, ShardIndex(sizes, num_speakers(records), made_of))
    mine = list(plan)[args.shard[0] :: args.shard[1]]
    todo = [name for name in mine if not (args.output / name).is_file()]
    left_out = 0
    with progress(total=sum(sizes[name] for name in todo), unit="clip", desc="packing", disable=not todo) as bar:
        for name in todo:
            left_out += write_shard(args.output / name, records, plan[name])
            bar.update(sizes[name])
    print(f"{args.output}: {len(todo)} shards written, {len(mine) - len(todo)} were there, {left_out} clips left out")
    return FAILED if left_out else 0


main = Command(__doc__, add_flags, run, interrupted="whole shards stay, run the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
