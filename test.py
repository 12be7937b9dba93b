#!/usr/bin/env python3
"""Generates talking-face clips from a metadata file: parse, load, then for each row generate, write, encode.

  python test.py --meta_path_vox misc/demo.csv --driving_pose --input_id_feature --gen_video

A row that fails is reported and the others go on; `results/report.json` says what became of each. Exit codes: 0 all
rows done, 1 some failed or the model could not be loaded, 2 wrong options, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence

from options import base_options
from options.test_options import build_parser, to_config
from util.errors import OptionError, PcavsError
from util.log import setup_logging
from util.processes import exit_process


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = build_parser()
    rank = int(os.environ.get("RANK", "0"))
    prefix = f"[rank {rank}] " if "RANK" in os.environ else ""
    setup_logging(prefix=prefix)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill saves what Ctrl-C saves
    arguments = None
    try:
        arguments = base_options.parse(parser, sys.argv[1:] if argv is None else argv)
        setup_logging(arguments.verbose, prefix)
        config = to_config(arguments)
        if rank == 0:
            print(base_options.describe(parser, arguments))
            base_options.save(config.results_dir, parser, arguments)
        from scripts.inference.rows import run_rows  # torch is imported here, after --help and wrong options

        return run_rows(config)
    except PcavsError as error:
        if arguments is not None and arguments.verbose:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except KeyboardInterrupt:
        print("interrupted before the first row", file=sys.stderr)
        return 130


if __name__ == "__main__":
    exit_process(main())
