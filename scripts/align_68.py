#!/usr/bin/env python3
"""Aligns faces to the VoxCeleb2 template by 68 landmarks: NAME -> NAME_cropped, 224 x 224 frames `%06d.jpg` from 0.

  python scripts/align_68.py --folder_path misc/Input/me                        # -> misc/Input/me_cropped
  python scripts/align_68.py --folder_path talk.mp4 photo.jpg --landmarks dlib  # several, videos, photos; offline

Each result holds `alignment.json` (matrices, landmarks, the status of every frame) and `contact_sheet.png`. A finished
result of the same source and options is used again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.base_options import filled
from options.config import LANDMARK_CHOICES, AlignOptions
from util.cli import DONE, FAILED, Command, natural_int, positive_int, print_error
from util.errors import AlignmentError, MediaError, OptionError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The command line; defaults are those of AlignOptions."""
    defaults = AlignOptions()
    add = parser.add_argument
    add("--folder_path", type=Path, nargs="+", required=True, help="folders of frames, videos or pictures")
    add("--output", type=Path, help="where to, for one source; without it NAME_cropped beside it")
    add("--landmarks", choices=LANDMARK_CHOICES, default=defaults.landmarks,
        help="auto: face_alignment when its weights are there or can be fetched, else dlib, which works "
        "offline")  # fmt: skip
    add("--landmarks_file", type=Path, help=".npy, .npz or alignment.json with (frames, 68, 2) points")
    add("--face", default=defaults.face, help="largest, centre, track (follow the first choice), or N")
    add("--max_gap", type=natural_int, default=defaults.max_gap, help="frames without a face to interpolate")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--per_frame", action="store_true", help="every frame its own rotation and scale")
    mode.add_argument("--smooth", action="store_true", help="the same, smoothed over time")
    add("--detect_every", type=positive_int, default=defaults.detect_every, help="look for the face every N frames")
    add("--device", default=defaults.device, help="auto, cpu, cuda or cuda:N; for face_alignment")
    add("--verbose", action="store_true", help="more messages")


def run(args: argparse.Namespace) -> int:
    """Aligns every source; one that fails does not stop the others."""
    mode = "per_frame" if args.per_frame else "smooth" if args.smooth else "mean"
    config = filled(AlignOptions, args, mode=mode)
    from data.faces.align_clip import align_source

    failed = 0
    for output, source in _outputs(args).items():
        try:
            print(align_source(source, output, config), flush=True)
        except (MediaError, AlignmentError) as error:
            print_error(error)
            failed += 1
    if failed and len(args.folder_path) > 1:
        print_error(f"{failed} of {len(args.folder_path)} sources could not be aligned")
    return FAILED if failed else DONE


def _outputs(args: argparse.Namespace) -> dict[Path, Path]:
    """Output -> source; two sources must not write one folder."""
    from data.faces.align_clip import default_output

    if (args.output or args.landmarks_file) and len(args.folder_path) > 1:
        flag = "--output" if args.output else "--landmarks_file"
        raise OptionError(f"{flag} belongs to one source, --folder_path names {len(args.folder_path)}")
    outputs: dict[Path, Path] = {}
    for source in args.folder_path:
        output = Path(os.path.abspath(args.output)) if args.output else default_output(source)
        if output in outputs:
            raise OptionError(f"--folder_path {outputs[output]} and {source} would both become {output}; use --output")
        outputs[output] = source
    return outputs


main = Command(__doc__, add_flags, run, interrupted="nothing half-written was left, run the same command again")


if __name__ == "__main__":
    sys.exit(main())
