#!/usr/bin/env python3
"""Trains a stage: parse, seed, build, fit. What is trained and how is in models/trainers/.

  python train.py --train_sync --name sync --train_list lists/train.csv --gpu_ids 0

Exit codes: 0 done, 1 something failed, 2 wrong options, 130 or 143 stopped by Ctrl-C or SIGTERM after saving.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from options import base_options
from options.train_options import build_parser, to_config
from util.errors import OptionError, PcavsError
from util.log import setup_logging
from util.processes import exit_process


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    rank = int(os.environ.get("RANK", "0"))
    prefix = f"[rank {rank}] " if "RANK" in os.environ else ""
    setup_logging(prefix=prefix)
    arguments = None
    try:
        arguments = base_options.parse(parser, argv)
        setup_logging(arguments.verbose, prefix)
        config = to_config(arguments)
        if len(config.gpu_ids) > 1 and "RANK" not in os.environ and not config.dry_run:
            from util.distributed import launch

            # the processes see the chosen cards as 0, 1, 2 ...
            renumbered = ",".join(map(str, range(len(config.gpu_ids))))
            return launch(config.gpu_ids, __file__, [*argv, "--gpu_ids", renumbered])
        if rank == 0:
            print(base_options.describe(parser, arguments))
        from scripts.training import run_training  # torch is imported here, after --help and wrong options

        stop = _StopSignal()
        sizes_given = arguments.num_classes is not None
        try:
            code = run_training(config, sizes_given, stop.watch, lambda d: base_options.save(d, parser, arguments))
        finally:
            stop.restore()
        return stop.exit_code or code
    except PcavsError as error:
        if arguments is not None and arguments.verbose:
            traceback.print_exc()
        print(f"{prefix}error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except KeyboardInterrupt:
        print("interrupted at once; the last save is the state to go on from", file=sys.stderr)
        return 130
    except Exception:
        # not left to Python, which would keep the frames, and with them the loading processes, and wait for ever
        traceback.print_exc()
        return 1


class _StopSignal:
    """Turns the first Ctrl-C or SIGTERM into a request to save and stop; the second one interrupts at once."""

    def __init__(self) -> None:
        self.exit_code = 0
        self._trainer: Any = None
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def watch(self, trainer: Any) -> None:
        """From now on signals reach the trainer."""
        self._trainer = trainer
        for number in self._before:
            signal.signal(number, self._request)

    def restore(self) -> None:
        """Signals do again what they did before; whoever called `main` goes on living."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: object) -> None:  # noqa: ARG002
        if self._trainer.stop_requested:
            if "RANK" in os.environ:  # a launcher passes on what a batch system has sent to all already
                return
            raise KeyboardInterrupt
        print("stopping after this step, then saving; once more stops at once", file=sys.stderr)
        self._trainer.stop_requested = True
        self.exit_code = 128 + number


if __name__ == "__main__":
    exit_process(main())
