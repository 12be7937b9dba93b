#!/usr/bin/env python3
"""Puts the generated face back into the photo or video it was cropped from, with the sound; 25 fps, pixels.

  python scripts/paste_back.py --result results/id_me_cropped_pose_talk_audio_voice       # -> .../pasted.mp4
  python scripts/paste_back.py --result results/id_... --alignment misc/Pose_Source/talk_cropped --mask face

Where the face goes is what `alignment.json` in a folder of scripts/align_68.py says: that of the result's reference, or
of --alignment. A photo stays behind all frames. A video plays forth and back, generated frame i on its frame i; its own
head moves on, so it fits best when it also gave the head pose (second command). Exit codes: 0 done, 1 a result failed,
2 wrong flags, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import PASTE_MASKS, PasteOptions
from util.cli import FAILED, Command, print_error
from util.errors import OptionError, PcavsError
from util.files import claim_output

_OUTPUT_NAME = "pasted.mp4"
_SUFFIXES = (".mp4", ".mov", ".m4v")


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--result", type=Path, nargs="+", required=True, metavar="FOLDER", help="result folders of test.py")
    add("--alignment", type=Path, metavar="NAME_cropped",
        help="folder of align_68.py whose photo or video the face goes into; without it the reference's")  # fmt: skip
    add("--background", type=Path, metavar="FILE_OR_FOLDER",
        help="the photo, video or frames that were aligned, if they have moved")  # fmt: skip
    add("--output", type=Path, help=f"the video, for one result; without it FOLDER/{_OUTPUT_NAME}")
    add("--audio", type=Path, help="sound; without it what the folder's clip.json names")
    add("--mask", choices=PASTE_MASKS, default=PasteOptions.mask,
        help="outline of what is pasted; face: an ellipse, good when the head keeps its pose")  # fmt: skip
    add("--feather", type=float, default=PasteOptions.feather, metavar="PART",
        help="width of the soft edge, in parts of the pasted square's side")  # fmt: skip
    add("--no_colour_match", action="store_true", help="do not fit the colours to those around")
    add("--max_size", type=int, default=PasteOptions.max_size, metavar="PIXELS",
        help="larger photos and videos are reduced to it; the face itself has 224 pixels")  # fmt: skip
    add("--overwrite", action="store_true", help="replace --output also where it is a video of other origin")
    add("--frames_dir", type=Path, metavar="FOLDER", help="also write the frames, as %%06d.png; for one result")


def _check(args: argparse.Namespace) -> PasteOptions:
    """Flags that cannot be honoured, or not together. Raises OptionError."""
    for flag in ("output", "frames_dir"):
        if getattr(args, flag) is not None and len(args.result) > 1:
            raise OptionError(f"--{flag} belongs to one result, --result names {len(args.result)}")
    if args.output is not None and args.output.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"--output must end in {', '.join(_SUFFIXES)}, got {args.output}")
    return PasteOptions(args.mask, args.feather, not args.no_colour_match, args.max_size)


def run(args: argparse.Namespace) -> int:
    """Pastes every result; one that fails does not stop the others. Returns the exit code."""
    options = _check(args)
    from data.faces.paste_result import paste_result

    sources = {"alignment": args.alignment, "background": args.background, "audio": args.audio}
    failed = 0
    for result in args.result:
        try:
            output = args.output or result / _OUTPUT_NAME
            inputs = [result, *(path for path in (args.alignment, args.background, args.audio) if path is not None)]
            claim_output(output, "--output", inputs=inputs if args.output else (), overwrite=args.overwrite)
            print(paste_result(result, output, options, **sources, frames_dir=args.frames_dir), flush=True)
        except PcavsError as error:
            print_error(error)
            failed += 1
    if len(args.result) > 1:
        done = len(args.result) - failed
        print(f"{done} of {len(args.result)} results done", file=sys.stderr if failed else sys.stdout)
    return FAILED if failed else 0


main = Command(__doc__, add_flags, run, interrupted="nothing half-written was left, run the same command again")


if __name__ == "__main__":
    sys.exit(main())
