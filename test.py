#!/usr/bin/env python3
"""Generates talking-face clips from a metadata file: parse, load, then for each row generate, write, encode.

  python test.py --meta_path_vox misc/demo.csv --driving_pose --input_id_feature --gen_video

A row that fails is reported and the others go on; `results/report.json` says what became of each. Exit codes: 0 all
rows done, 1 some failed or the model could not be loaded, 2 wrong options, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence

from data.results import claim_results
from options import base_options
from options.test_options import build_parser, to_config
from util.cli import exit_process, run_command
from util.locks import folder_lock


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    rank = os.environ.get("RANK", "")

    def run(arguments: argparse.Namespace) -> int:
        config = to_config(arguments)
        with contextlib.ExitStack() as stack:
            if rank in ("", "0"):  # the other ranks write into the folder that this one has
                print(base_options.describe(parser, arguments))
                stack.enter_context(folder_lock(config.results_dir, "--results_dir"))
                claim_results(config.results_dir, config.overwrite)
                base_options.save(config.results_dir, parser, arguments)
            from scripts.inference.rows import run_rows  # torch is imported here, after --help and wrong options

            return run_rows(config)

    prefix = f"[rank {rank}] " if rank else ""
    kept = "no row was begun"
    return run_command(lambda argv: base_options.parse(parser, argv), run, argv, interrupted=kept, prefix=prefix)


if __name__ == "__main__":
    exit_process(main())
