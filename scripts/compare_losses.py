"""Prints what the losses of finished trainings were in the first and in the last tenth of their steps.

python scripts/compare_losses.py checkpoints/smoke/sync checkpoints/smoke/joint
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.errors import PcavsError
from util.visualizer import curves_of, read_log


def first_and_last(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last tenth (at least one value each)."""
    tenth = max(1, len(values) // 10)
    return sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders with a loss_log.jsonl")
    arguments = parser.parse_args(argv)
    try:
        print(f"{'run':14}{'loss':24}{'first':>10}{'last':>10}")
        for run in arguments.runs:
            for name, curve in sorted(curves_of(read_log(run / "loss_log.jsonl")).items()):
                if name.startswith("loss/"):
                    first, last = first_and_last(curve.values.tolist())
                    print(f"{run.name:14}{name.removeprefix('loss/'):24}{first:10.4f}{last:10.4f}")
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
