#!/usr/bin/env python3
"""Prints what the losses of finished trainings were in the first and in the last tenth of their steps.

python scripts/compare_losses.py checkpoints/smoke/sync checkpoints/smoke/joint
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.cli import Command


def first_and_last(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last tenth (at least one value each)."""
    tenth = max(1, len(values) // 10)
    return sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", help="folders with a loss_log.jsonl")


def run(args: argparse.Namespace) -> None:
    from util.visualizer import curves_of, read_log

    print(f"{'run':14}{'loss':24}{'first':>10}{'last':>10}")
    for folder in args.runs:
        for name, curve in sorted(curves_of(read_log(folder / "loss_log.jsonl")).items()):
            if name.startswith("loss/"):
                first, last = first_and_last(curve.values.tolist())
                print(f"{folder.name:14}{name.removeprefix('loss/'):24}{first:10.4f}{last:10.4f}")


main = Command(__doc__, add_flags, run)


if __name__ == "__main__":
    sys.exit(main())
