"""Makes a data set of synthetic talking heads in the layout of VoxCeleb2: 224 px, 25 fps, 16 kHz sound, ground truth.

    python scripts/make_synthetic_data.py --output synthetic --num_speakers 100 --clips_per_speaker 4
    python scripts/make_synthetic_data.py --output heldout --num_speakers 16 --start_speaker 1000

writes <output>/dev/mp4/idNNNNN/<clip id>/00001.mp4 with 00001.npz beside it. A run that was stopped goes on where it
was.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import FPS
from util.cli import Command, add_overwrite_flag, add_worker_flags, natural_int, positive_int
from util.errors import MediaError, OptionError
from util.files import MARK, carries_mark, claim_output, make_directory, write_json
from util.log import progress
from util.parallel import map_processes

NOTE = "synthetic_data.json"  # says whose folder it is
LARGEST_SPEAKER = 99999  # five digits in idNNNNN
MIN_SECONDS = 0.2  # what one mel window lasts


@dataclass(frozen=True)
class PlannedClip:
    """A clip to make."""

    path: Path
    speaker_seed: int
    clip_seed: int
    num_frames: int


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder that gets dev/mp4/...")
    add("--num_speakers", type=positive_int, default=16, help="how many people")
    add("--clips_per_speaker", type=positive_int, default=2, help="clips of each, in other scenes")
    add("--seconds", type=float, default=4.0, help="length of a clip")
    add("--seed", type=natural_int, default=0, help="other seeds give other people")
    add("--start_speaker", type=natural_int, default=0, help="first id; higher ones for held-out people")
    add_overwrite_flag(add)
    add_worker_flags(parser)


def run(args: argparse.Namespace) -> None:
    if not (math.isfinite(args.seconds) and args.seconds >= MIN_SECONDS):
        raise OptionError(f"--seconds must be at least {MIN_SECONDS} (one mel window), got {args.seconds}")
    from data.synthetic.voice import sources

    clips = plan_clips(args)
    print(f"voices: {sources()}")
    todo = [clip for clip in clips if not is_made(clip)]
    note = args.output / NOTE
    claim_output(note, "--output:", overwrite=args.overwrite)
    is_ours = carries_mark(note)  # a clip that is half done has no mark of its own
    for clip in todo:
        is_old = functools.partial(_is_ours, in_our_folder=is_ours)
        claim_output(clip.path, "--output:", overwrite=args.overwrite, is_ours=is_old)
    make_directory(args.output)
    write_json(note, {"made_by": MARK})
    frames = sum(clip.num_frames for clip in todo)
    with progress(total=frames, unit="frame", desc="synthetic heads", disable=not todo) as bar:
        for num_frames in map_processes(make, todo, args.workers, args.dask):
            bar.update(num_frames)
    print(f"{args.output}: {len(todo)} clips made, {len(clips) - len(todo)} were there, {args.num_speakers} speakers")


def plan_clips(args: argparse.Namespace) -> list[PlannedClip]:
    """Every clip of the data set, in order. A person depends on --seed and the id alone, never on the counts."""
    first, last = args.start_speaker, args.start_speaker + args.num_speakers - 1
    if last > LARGEST_SPEAKER:
        raise OptionError(f"--start_speaker and --num_speakers give ids {first}..{last}, 0..{LARGEST_SPEAKER} exist")
    # the workers of Dask work in other folders
    base = Path(args.output.absolute() if args.dask else args.output, "dev", "mp4")
    num_frames = round(args.seconds * FPS)
    return [
        PlannedClip(
            base / f"id{speaker:05d}" / f"clip{clip:04d}" / "00001.mp4",
            args.seed * (LARGEST_SPEAKER + 1) + speaker,
            clip,
            num_frames,
        )
        for speaker in range(first, last + 1)
        for clip in range(args.clips_per_speaker)
    ]


def is_made(clip: PlannedClip) -> bool:
    """Whether the clip is there, whole, and as today's renderer would make it."""
    from data.synthetic.clips import RENDERER_VERSION, read_truth

    if not clip.path.is_file() or clip.path.stat().st_size == 0:
        return False
    try:
        truth = read_truth(clip.path)
    except MediaError:
        return False
    made = (truth.speaker_seed, truth.clip_seed, len(truth.states), truth.renderer)
    return made == (clip.speaker_seed, clip.clip_seed, clip.num_frames, RENDERER_VERSION)


def _is_ours(path: Path, in_our_folder: bool) -> bool:
    """Whether a clip that is made again is one of an earlier run: its ground truth lies beside it."""
    from data.synthetic.clips import read_truth

    with contextlib.suppress(MediaError):
        return read_truth(path) is not None
    return in_our_folder or path.stat().st_size == 0


def make(clip: PlannedClip) -> int:
    """Makes and writes one clip; returns its number of frames."""
    import cv2

    from data.synthetic.clips import make_clip, write_clip

    cv2.setNumThreads(1)  # the processes are the parallelism
    write_clip(make_clip(clip.speaker_seed, clip.clip_seed, clip.num_frames), clip.path)
    return clip.num_frames


main = Command(__doc__, add_flags, run, interrupted="whole clips stay, run the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
