#!/usr/bin/env python3
"""Encodes the frame folders of a result to videos: each column, all side by side, and with sound.

  python scripts/concat_videos.py results/id_a_pose_b_audio_c
  python scripts/concat_videos.py results/id_* --labels
  python scripts/concat_videos.py results/id_a_pose_b_audio_c --audio voice.wav

test.py --gen_video calls the same functions, while it makes the frames.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.cli import FAILED, Command, print_error
from util.errors import PcavsError


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="result folders of test.py")
    parser.add_argument("--audio", type=Path, help="sound; without it what the folder's clip.json names")
    parser.add_argument("--labels", action="store_true", help="write column titles above the pictures")


def run(args: argparse.Namespace) -> int:
    """Makes the videos of every folder; one that fails does not stop the others."""
    from data.result_videos import concat
    from data.results import noted_audio

    failures = 0
    for folder in args.folders:
        try:
            for path in concat(folder, args.audio or noted_audio(folder), labels=args.labels):
                print(path)
        except PcavsError as error:
            print_error(error)
            failures += 1
    return FAILED if failures else 0


main = Command(__doc__, add_flags, run, interrupted="videos that are finished stay")


if __name__ == "__main__":
    sys.exit(main())
