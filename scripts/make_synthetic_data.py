"""Makes a data set of synthetic talking heads in the layout of VoxCeleb2: 224 px, 25 fps, 16 kHz sound, ground truth.

    python scripts/make_synthetic_data.py --output synthetic --num_speakers 100 --clips_per_speaker 4
    python scripts/make_synthetic_data.py --output heldout --num_speakers 16 --start_speaker 1000

writes <output>/dev/mp4/idNNNNN/<clip id>/00001.mp4 with 00001.npz beside it. A run that was stopped goes on where it
was. People speak with the recorded voices of flite, festival and espeak-ng where these programs and the package
praat-parselmouth are installed, and babble with a formant voice where they are not.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.errors import MediaError, OptionError, PcavsError
from util.log import setup_logging

LARGEST_SPEAKER = 99999  # five digits in idNNNNN
MIN_SECONDS = 0.2  # what one mel window lasts


@dataclass(frozen=True)
class Job:
    """One clip to make."""

    path: Path
    speaker_seed: int
    clip_seed: int
    num_frames: int


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True, help="folder that gets dev/mp4/...")
    parser.add_argument("--num_speakers", type=int, default=16, help="how many people (default 16)")
    parser.add_argument("--clips_per_speaker", type=int, default=2, help="clips of each, in other scenes (default 2)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other people (default 0)")
    parser.add_argument(
        "--start_speaker", type=int, default=0, help="first id; higher ones for held-out people (default 0)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Raises OptionError for values that cannot be honoured."""
    for name in ("num_speakers", "clips_per_speaker", "workers"):
        if getattr(args, name) < 1:
            raise OptionError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if not (math.isfinite(args.seconds) and args.seconds >= MIN_SECONDS):
        raise OptionError(f"--seconds must be at least {MIN_SECONDS} (one mel window), got {args.seconds}")
    if args.seed < 0:
        raise OptionError(f"--seed must not be negative, got {args.seed}")
    if args.start_speaker < 0 or args.start_speaker + args.num_speakers - 1 > LARGEST_SPEAKER:
        last = args.start_speaker + args.num_speakers - 1
        raise OptionError(
            f"--start_speaker and --num_speakers give ids {args.start_speaker}..{last}, 0..{LARGEST_SPEAKER} exist"
        )


def list_jobs(args: argparse.Namespace) -> list[Job]:
    """Every clip of the data set, in order. A person depends on --seed and the id alone, never on the counts."""
    jobs = []
    for speaker in range(args.start_speaker, args.start_speaker + args.num_speakers):
        for clip in range(args.clips_per_speaker):
            path = args.output / "dev" / "mp4" / f"id{speaker:05d}" / f"clip{clip:04d}" / "00001.mp4"
            jobs.append(Job(path, args.seed * (LARGEST_SPEAKER + 1) + speaker, clip, round(args.seconds * 25)))
    return jobs


def is_done(job: Job) -> bool:
    """Whether the clip is there, whole, and the one this job would make with today's renderer."""
    from data.synthetic.clips import RENDERER_VERSION, read_truth

    if not job.path.is_file() or job.path.stat().st_size == 0:
        return False
    try:
        truth = read_truth(job.path)
    except MediaError:
        return False
    made = (truth.speaker_seed, truth.clip_seed, len(truth.states), truth.renderer)
    return made == (job.speaker_seed, job.clip_seed, job.num_frames, RENDERER_VERSION)


def make_one(job: Job) -> int:
    """Makes and writes one clip; returns its number of frames."""
    import cv2

    from data.synthetic.clips import make_clip, write_clip

    cv2.setNumThreads(1)  # the processes are the parallelism
    write_clip(make_clip(job.speaker_seed, job.clip_seed, job.num_frames), job.path)
    return job.num_frames


def run(args: argparse.Namespace) -> int:
    """Makes what is missing. Returns the exit status."""
    from tqdm import tqdm

    from data.synthetic.voice import sources

    check_args(args)
    jobs = list_jobs(args)
    todo = [job for job in jobs if not is_done(job)]
    print(f"voices: {sources()}")
    frames = sum(job.num_frames for job in todo)
    with tqdm(total=frames, unit="frame", desc="synthetic heads", disable=not todo) as bar:
        if args.workers == 1:
            for job in todo:
                bar.update(make_one(job))
        else:
            _run_pool(todo, args.workers, bar)
    print(f"{args.output}: {len(todo)} clips made, {len(jobs) - len(todo)} were there, {args.num_speakers} speakers")
    return 0


def _run_pool(todo: list[Job], workers: int, bar: object) -> None:
    # spawn: a forked child would inherit the locks of OpenCV's threads and could wait for them for ever
    pool = ProcessPoolExecutor(min(workers, max(len(todo), 1)), multiprocessing.get_context("spawn"))
    try:
        for done in as_completed([pool.submit(make_one, job) for job in todo]):
            bar.update(done.result())  # type: ignore[attr-defined]
    except BrokenProcessPool as error:
        raise MediaError("a worker died (out of memory?); run the same command again with fewer --workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    setup_logging()
    try:
        return run(args)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; whole clips stay, run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
