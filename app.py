#!/usr/bin/env python3
"""A page in the browser: the whole way from a photo to a video, and from a film to a personal model.

  bash experiments/app.sh                              # sets itself up, and prints the address to open
  python app.py --port 8000
  python app.py --listen --auth anna:a-long-password   # for the network at home

It runs the commands of this project, one at a time, and shows each to copy. What it makes lies in --work_dir, personal
models in --checkpoints_dir. A training goes on when page or server are closed, and is found again. Needs what
requirements-app.txt lists. Exit codes: 0 closed, 1 failed, 2 wrong options, 130 closed by Ctrl-C.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from util.cli import Command, natural_int
from util.errors import OptionError


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--port", type=natural_int, help="of the page; without it 7860, or the next that is free")
    add("--work_dir", type=Path, default=Path("results/page"), help="folder for everything but models; nothing else is "
        "served")  # fmt: skip
    add("--checkpoints_dir", type=Path, default=Path("checkpoints"), help="folder of the models")
    add("--gpu_ids", default="", help="of all commands; without it each takes its default")
    add("--auth", metavar="USER:PASSWORD", help="who may open it")
    add("--listen", action="store_true", help="let other machines of the network open it, too")
    add("--share", action="store_true", help="an address for everybody, through Gradio's servers; needs --auth")


def run(args: argparse.Namespace) -> None:
    if args.share and not args.auth:
        raise OptionError("--share shows the page to everybody; add --auth user:password")
    if not re.fullmatch(r"(-1|\d+(,\d+)*)?", args.gpu_ids):
        raise OptionError(f"--gpu_ids must be numbers such as 0 or 0,1, or -1 for the CPU, got {args.gpu_ids}")
    from scripts.page.commands import Places
    from scripts.page.server import Access, login_of, serve, work_folder

    login = login_of(args.auth) if args.auth else None
    if args.listen and login is None:
        print("warning: --listen without --auth: everybody in the network can use the page, and see its videos")
    places = Places(work_folder(args.work_dir), args.checkpoints_dir.absolute(), args.gpu_ids)
    serve(places, Access(args.port, login, args.listen, args.share))


main = Command(__doc__, add_flags, run, interrupted="what is running goes on; start the page again to find it")


if __name__ == "__main__":
    sys.exit(main())
