#!/usr/bin/env python3
"""Makes a pose source without a video: a synthetic head that moves as a programme says, as a folder of frames.

  python scripts/make_pose_video.py --programme idle --seconds 4
  python scripts/make_pose_video.py --programme "0 yaw=0; 1.5 yaw=20 pitch=-5; 4 roll=8 ease=linear" --seconds 6
  python scripts/make_pose_video.py --from_audio voice.wav
  python scripts/make_pose_video.py --like talk.mov --seed 3

prepare_testing_files.py --src_pose_path takes the same words: docs/directing.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import FPS, LANDMARK_CHOICES, AlignOptions
from util.cli import Command, natural_int, positive_float
from util.errors import OptionError


def add_flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--programme", metavar="WORDS", help="a motion, keyframes, both, or a text file of them")
    what.add_argument("--from_audio", type=Path, metavar="SOUND", help="moves with this speech, and lasts as long")
    what.add_argument("--like", type=Path, metavar="VIDEO", help="moves as far and as fast as the head in this video")
    add = parser.add_argument
    add("--seconds", type=positive_float, default=10.0, help="length; with --from_audio that of the sound")
    add("--seed", type=natural_int, default=0, help="other seeds move otherwise")
    add("--output", type=Path, default=Path("misc/Pose_Source"), help="gets a folder of frames named after the motion")
    add("--landmarks", choices=LANDMARK_CHOICES, default=AlignOptions.landmarks, help="of --like, see align_68.py")


def run(args: argparse.Namespace) -> None:
    if args.seconds > 3600:
        raise OptionError(f"--seconds must be at most 3600, an hour, got {args.seconds:g}")
    from data.pose_programme import PoseProgramme, parse_programme
    from data.pose_source import make_pose_folder

    like = PoseProgramme(f"like:{args.like}", "like", args.like)  # a path of any characters
    programme = like if args.like else parse_programme(args.programme or "speak")
    sound = args.from_audio or max(1, round(args.seconds * FPS))
    made = make_pose_folder(args.output, programme, args.seed, sound, AlignOptions(landmarks=args.landmarks))
    print(f"{made.path}: {made.extent} frames, {made.how}")


main = Command(__doc__, add_flags, run)


if __name__ == "__main__":
    sys.exit(main())
