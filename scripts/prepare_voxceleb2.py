"""Checks the clips of a data set and writes the lists that train.py reads: train.csv, val.csv, test.csv, broken.txt.

    python scripts/prepare_voxceleb2.py --root VoxCeleb2 --output lists --val_speakers 50

On a cluster, job i of 64 (from 0), and after the last one:

    python scripts/prepare_voxceleb2.py --root VoxCeleb2 --output lists --shard $i/64
    python scripts/prepare_voxceleb2.py --root VoxCeleb2 --output lists --val_speakers 50 --merge

Layouts, each also from the folder in its middle on:
    voxceleb2   <root>/dev/mp4/<speaker>/<video>/<clip>.mp4, sound inside or in dev/aac/<speaker>/<video>/<clip>.m4a
    lrw         <root>/lipread_mp4/<WORD>/{train,val,test}/<WORD>_NNNNN.mp4; keeps its splits, labels number words
    frames      <root>/<speaker>/.../<clip>/000000.jpg, sound in audio.wav in that folder or in <clip>.wav beside it

What is known of a clip is kept in <output>/checked-*.jsonl. A run that was stopped goes on where it was, and a later
run opens only what is new, has changed (size or time) or was broken. Exit codes: 0 done, 1 an error, 2 wrong flags,
130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import FPS
from util.errors import MediaError, OptionError, PcavsError
from util.files import make_directory, require_utf8_name, write_text
from util.log import setup_logging

if TYPE_CHECKING:
    from data.clip_list import ClipRecord

LAYOUTS = ("voxceleb2", "lrw", "frames")
SPLITS = ("train", "val", "test")
CHECKS = ("fast", "full")  # in order of thoroughness
_SPLIT_PLACE = 401  # of the random stream that draws the speakers of a split
_LATEST_END_S = 0.1  # the last picture may be this much earlier than the header says
_SILENT_TAIL_S = 0.5  # the sound may be this much shorter than the pictures
_QUEUE_PER_WORKER = 4  # clips handed out ahead, so that no process waits

Signature = tuple[int, int]  # size in bytes and time of the last change in ns; a file with another one is another file


@dataclass(frozen=True)
class Clip:
    """A clip of the tree that nobody has opened yet."""

    path: Path  # an mp4 or a folder of frames
    speaker: str  # the word in LRW
    split: str | None = None  # what the tree says; None: it does not


@dataclass(frozen=True)
class Checked:
    """What is known of a clip: one line of checked-*.jsonl."""

    path: str  # relative to the root, as the sound's
    signature: Signature
    check: str
    checked_at: float  # seconds since 1970; of two lines on a clip the later one counts
    num_frames: int = 0  # at 25 fps
    sound: str | None = None  # None: inside the mp4
    sound_signature: Signature | None = None
    error: str | None = None  # why it cannot be used


@dataclass(frozen=True)
class CheckTask:
    """What a worker needs to check a clip."""

    root: Path
    path: Path
    check: str


# ----------------------------------------------------------------------------------------------------------- flags


def shard(text: str) -> tuple[int, int]:
    """argparse type: `3/64` is the fourth of 64 parts."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"must be i/n with i from 0 to n - 1, such as 0/8 ... 7/8, got {text!r}")
    return int(number), int(count)


def speaker_share(text: str) -> float:
    """argparse type: a number of speakers, or a fraction of them below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value < 1 or (value >= 1 and value.is_integer())):
        raise argparse.ArgumentTypeError(f"must be a number of speakers or a fraction below 1, got {text!r}")
    return value


def positive(text: str) -> int:
    """argparse type: an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--root", type=Path, required=True, help="the data set")
    parser.add_argument("--output", type=Path, required=True, help="folder that gets the lists")
    parser.add_argument("--layout", choices=LAYOUTS, default="voxceleb2", help="of the tree (default voxceleb2)")
    parser.add_argument(
        "--check", choices=CHECKS, default="fast", help="fast: header, start and end of a clip; full: decode everything"
    )
    parser.add_argument("--min_frames", type=positive, default=25, help="leave out shorter clips (default 25, 1 s)")
    parser.add_argument("--val_speakers", type=speaker_share, default=0.0, help="number or fraction (default 0)")
    parser.add_argument("--test_speakers", type=speaker_share, default=0.0, help="number or fraction (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="draws the speakers of val and test (default 0)")
    parser.add_argument("--shard", type=shard, default=(0, 1), metavar="I/N", help="check a part, write no lists")
    parser.add_argument("--merge", action="store_true", help="check nothing, write the lists of what was checked")
    parser.add_argument("--workers", type=positive, default=_cores(), help="processes (default: one a core)")
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Raises OptionError for flags that do not go together."""
    if args.merge and args.shard != (0, 1):
        raise OptionError(f"--merge joins all shards; leave out --shard {args.shard[0]}/{args.shard[1]}")
    for name in ("val_speakers", "test_speakers"):
        if args.layout == "lrw" and getattr(args, name):
            raise OptionError(f"--{name}: LRW has no speakers and splits of its own; leave the flag out")
    if args.seed < 0:
        raise OptionError(f"--seed must not be negative, got {args.seed}")


def _cores() -> int:
    """Cores this job may use, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ------------------------------------------------------------------------------------------------------- the tree


def list_clips(root: Path, layout: str) -> list[Clip]:
    """Every clip of the tree, sorted by path; no file is opened.

    Raises:
        MediaError: no such folder, or no clip in it.
    """
    if not root.is_dir():
        raise MediaError(f"{root}: no such folder; --root is the folder of the data set")
    bases = {"voxceleb2": ("dev/mp4", "mp4", "dev"), "lrw": ("lipread_mp4",), "frames": ()}
    base = next((root / name for name in bases[layout] if (root / name).is_dir()), root)
    try:
        clips = sorted(_clips_below(base, layout), key=lambda clip: clip.path)
    except OSError as error:
        raise MediaError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if not clips:
        expected = {
            "voxceleb2": "<speaker>/<video>/<clip>.mp4",
            "lrw": "<WORD>/{train,val,test}/<WORD>_NNNNN.mp4",
            "frames": "<speaker>/<clip>/000000.jpg",
        }
        raise MediaError(f"{base}: holds no clips; --layout {layout} expects {expected[layout]} in it")
    return clips


def _clips_below(base: Path, layout: str) -> Iterator[Clip]:
    if layout == "frames":
        yield from _frame_folders(base)
        return
    for speaker in _entries(base, folders=True):
        for video in _entries(speaker, folders=True):
            split = video.name if layout == "lrw" else None
            if layout == "voxceleb2" or split in SPLITS:
                for path in _entries(video, folders=False):
                    if path.suffix.lower() == ".mp4":
                        yield Clip(path, speaker.name, split)


def _frame_folders(base: Path) -> Iterator[Clip]:
    from data.frames import IMAGE_SUFFIXES

    firsts = {f"000000{suffix}" for suffix in IMAGE_SUFFIXES}
    for speaker in _entries(base, folders=True):
        for folder, subfolders, files in os.walk(speaker):
            if firsts.intersection(files):
                subfolders.clear()
                yield Clip(Path(folder), speaker.name)


def _entries(folder: Path, folders: bool) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(e.path) for e in entries if e.is_dir() == folders and not e.name.startswith(".")]


# ------------------------------------------------------------------------------------------------------ one clip


def check_clip(task: CheckTask) -> Checked:
    """Opens a clip and finds out whether a training can use it. Never raises for a broken one."""
    from data.clip_list import count_frames
    from data.clip_reader import find_sound

    path, full = task.path, task.check == "full"
    facts: dict[str, Any] = {"path": os.path.relpath(path, task.root), "check": task.check, "checked_at": time.time()}
    signature = (0, 0)
    try:
        signature = signature_of(path)
        require_utf8_name(path)
        if path.is_file() and signature[0] == 0:
            raise MediaError(f"{path}: the file is empty (0 bytes)")
        frames = count_frames(path)
        picture_s = _check_folder(path, full) if path.is_dir() else _check_stream(path, "video", full)
        if picture_s < frames / FPS - _LATEST_END_S:
            raise MediaError(f"{path}: its pictures end at {picture_s:.2f} s of {frames / FPS:.2f} s; is it cut off?")
        sound = find_sound(path)
        sound_s = _check_stream(sound, "audio", full)
        if sound_s < frames / FPS - _SILENT_TAIL_S:
            raise MediaError(f"{sound}: its sound ends at {sound_s:.2f} s, the pictures at {frames / FPS:.2f} s")
        if sound != path:
            facts |= {"sound": os.path.relpath(sound, task.root), "sound_signature": signature_of(sound)}
        facts["num_frames"] = frames
    except PcavsError as error:
        facts["error"] = " ".join(str(error).removeprefix(f"{path}: ").split())
    except OSError as error:
        facts["error"] = f"cannot be read: {error.strerror or error}"
    return Checked(signature=signature, **facts)


def signature_of(path: Path) -> Signature:
    """What tells whether a file has changed. Raises OSError."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _check_folder(folder: Path, full: bool) -> float:
    """Reads the first and last frame, or all; returns where the last one ends, in seconds."""
    from data.frames import list_frames, read_image

    paths = list_frames(folder)
    for path in paths if full else {paths[0], paths[-1]}:
        read_image(path)
    return len(paths) / FPS


def _check_stream(path: Path, kind: str, full: bool) -> float:
    """Reads the first video or audio stream and returns its length in seconds.

    Decodes all of it, or the first picture or sound and the last one that can be decoded alone. The packets behind that
    one are read all the same, so that a file that was cut off or has a hole at its end is found.

    Raises:
        MediaError: not a recording, no such stream, or damage.
    """
    import av

    from util.ffmpeg import protocol_free

    try:
        with av.open(protocol_free(path), metadata_errors="replace") as container:
            stream: Any = next((s for s in container.streams if s.type == kind), None)
            if stream is None:
                raise MediaError(f"{path}: has no {kind} stream")
            stream.thread_type = "NONE"  # the processes are the parallelism
            ends_s = [_read_packets(path, kind, container.demux(stream), decode_all=full, to_end=full)]
            if not full:
                container.seek((stream.start_time or 0) + (stream.duration or 1) - 1, stream=stream)
                ends_s.append(_read_packets(path, kind, container.demux(stream), decode_all=False, to_end=True))
            return max(ends_s) - float((stream.start_time or 0) * stream.time_base)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{path}: its {kind} stream is damaged: {reason}") from error


def _read_packets(path: Path, kind: str, packets: Iterable[Any], decode_all: bool, to_end: bool) -> float:
    """Decodes packets until something comes out, or all; returns the time at which the last one that was read ends."""
    end_s, has_decoded = 0.0, False
    for packet in packets:
        if packet.pts is not None:
            end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if kind == "video" and not bytes(packet).strip(b"\0"):
                raise MediaError(f"{path}: damaged: nothing but zeros at {end_s:.2f} s")
        if decode_all or not has_decoded:
            frames = packet.decode()
            has_decoded = has_decoded or bool(frames)
            if any(frame.is_corrupt for frame in frames):
                raise MediaError(f"{path}: damaged near {end_s:.2f} s")
        if has_decoded and not to_end:
            break
    if not has_decoded:
        raise MediaError(f"{path}: nothing at the {'end' if to_end else 'start'} of its {kind} stream can be decoded")
    return end_s


# ----------------------------------------------------------------------------------------------------- all clips


def check_all(tasks: Sequence[CheckTask], workers: int) -> Iterator[Checked]:
    """Checks clips in processes, in any order. A clip that takes its process down with it counts as broken."""
    if workers == 1:
        yield from map(check_clip, tasks)
        return
    waiting = deque(tasks)
    while waiting:
        running: dict[Future[Checked], CheckTask] = {}
        pool = _start_pool(min(workers, len(waiting)))
        try:
            while waiting or running:
                while waiting and len(running) < workers * _QUEUE_PER_WORKER:
                    running[pool.submit(check_clip, waiting[0])] = waiting[0]
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield future.result()
                    del running[future]
        except BrokenProcessPool:
            for task in running.values():
                yield _check_alone(task)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _check_alone(task: CheckTask) -> Checked:
    pool = _start_pool(1)
    try:
        return pool.submit(check_clip, task).result()
    except BrokenProcessPool:
        reason = "the process that reads it dies (damage that the decoder cannot stand, or out of memory)"
        signature = signature_of(task.path) if task.path.exists() else (0, 0)
        return Checked(os.path.relpath(task.path, task.root), signature, task.check, time.time(), error=reason)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_pool(workers: int) -> ProcessPoolExecutor:
    # spawn: a forked child would inherit the locks of OpenCV's threads and could wait for them for ever
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the main one answers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker of a main process that was killed would wait for its next clip for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def is_current(known: Checked | None, clip: Clip, args: argparse.Namespace) -> bool:
    """Whether what is known of a clip still holds and is as thorough as asked for."""
    if known is None or CHECKS.index(known.check) < CHECKS.index(args.check):
        return False
    try:
        if known.sound is not None and known.sound_signature != signature_of(args.root / known.sound):
            return False
        return known.signature == signature_of(clip.path)
    except OSError:
        return known.error is not None and known.signature == (0, 0)  # it could not be read before, either


def read_progress(output: Path) -> dict[str, Checked]:
    """What earlier runs, of all shards, found out: by path. The torn line of a killed run is passed over."""
    known: dict[str, Checked] = {}
    for path in sorted(output.glob("checked-*.jsonl")):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from error
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                fields = json.loads(line)
                for name in ("signature", "sound_signature"):
                    fields[name] = tuple(fields[name]) if fields[name] else None
                checked = Checked(**fields)
                if checked.path not in known or known[checked.path].checked_at <= checked.checked_at:
                    known[checked.path] = checked
    return known


def check_missing(clips: Sequence[Clip], known: dict[str, Checked], args: argparse.Namespace) -> int:
    """Checks the clips of this shard that are new, changed or broken; adds them to `known` and to the file on disk.

    Returns:
        how many were checked.
    """
    from tqdm import tqdm

    number, count = args.shard
    tasks = []
    for clip in clips[number::count]:
        found = known.get(os.path.relpath(clip.path, args.root))
        # a broken clip may have been repaired in a way its own file does not show, by a sound file beside it
        if found is None or found.error or not is_current(found, clip, args):
            tasks.append(CheckTask(args.root, clip.path, args.check))
    path = args.output / f"checked-{number:05d}-of-{count:05d}.jsonl"
    with _appending(path) as append:
        for checked in tqdm(
            check_all(tasks, args.workers), total=len(tasks), unit="clip", desc="checking clips", disable=not tasks
        ):
            append(json.dumps(asdict(checked)).encode() + b"\n")
            known[checked.path] = checked
    return len(tasks)


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Yields what adds a line to a file at once. Raises MediaError when the disk refuses."""
    try:
        file = path.open("ab+", buffering=0)
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from error

    def append(line: bytes) -> None:
        try:
            file.write(line)
        except OSError as error:
            raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from error

    with file:
        size = file.seek(0, os.SEEK_END)
        if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
            append(b"\n")  # ends the line that a killed run tore
        yield append


# ----------------------------------------------------------------------------------------------------- the lists


def split_speakers(speakers: Iterable[str], val: float, test: float, seed: int) -> dict[str, str]:
    """Draws who is held out.

    The draw of a speaker depends on the seed and its name alone, so that a speaker more or less moves few others.

    Args:
        val, test: number of speakers, or a fraction below 1 of all, then at least one.

    Returns:
        speaker -> split.

    Raises:
        OptionError: nobody is left to train on.
    """
    from util.seed import generator_for

    drawn = sorted(set(speakers), key=lambda name: (generator_for(seed, _SPLIT_PLACE, *name.encode()).random(), name))
    counts = [int(share) if share >= 1 or share == 0 else max(1, round(share * len(drawn))) for share in (val, test)]
    if sum(counts) >= len(drawn):
        raise OptionError(
            f"--val_speakers and --test_speakers hold out {counts[0]} + {counts[1]} of {len(drawn)} speakers; "
            "none is left to train on"
        )
    names = ["val"] * counts[0] + ["test"] * counts[1] + ["train"] * (len(drawn) - sum(counts))
    return dict(zip(drawn, names, strict=True))


def build_lists(
    clips: Sequence[Clip], known: dict[str, Checked], args: argparse.Namespace
) -> tuple[dict[str, list[ClipRecord]], list[str]]:
    """Sorts clips into splits and those that cannot be used.

    Labels count the training speakers in sorted order, then those of val, then those of test; in LRW, where a word is
    in all splits, all words.

    Returns:
        split -> records, sorted by path; and lines for broken.txt.
    """
    from data.clip_list import ClipRecord

    good: list[tuple[Clip, Checked]] = []
    left_out = []
    for clip in clips:
        checked = known[os.path.relpath(clip.path, args.root)]
        reason = checked.error
        if reason is None and checked.num_frames < args.min_frames:
            reason = f"too short: {checked.num_frames} frames, --min_frames is {args.min_frames}"
        if reason is None:
            good.append((clip, checked))
        else:
            left_out.append(f"{clip.path}: {reason}")
    lists: dict[str, list[ClipRecord]] = {split: [] for split in SPLITS}
    if not good:
        return lists, left_out
    speakers = sorted({clip.speaker for clip, _ in good})
    splits: dict[str, str] = {}
    if args.layout != "lrw":
        splits = split_speakers(speakers, args.val_speakers, args.test_speakers, args.seed)
        speakers.sort(key=lambda name: SPLITS.index(splits[name]))  # stable: sorted within a split
    labels = {name: label for label, name in enumerate(speakers)}
    for clip, checked in good:
        sound = None if checked.sound is None else Path(os.path.normpath(args.root / checked.sound))
        record = ClipRecord(clip.path, sound, checked.num_frames, clip.speaker, labels[clip.speaker])
        lists[clip.split or splits[clip.speaker]].append(record)
    return lists, left_out


def write_lists(output: Path, lists: dict[str, list[ClipRecord]], left_out: Sequence[str]) -> None:
    """Writes broken.txt and the lists that have clips; a list of an earlier run that has none now is removed."""
    from data.clip_list import write_list

    write_text(output / "broken.txt", "".join(line + "\n" for line in left_out))
    for split, records in lists.items():
        path = output / f"{split}.csv"
        if records:
            write_list(path, records)
        else:
            path.unlink(missing_ok=True)


def summarise(lists: dict[str, list[ClipRecord]], left_out: Sequence[str], layout: str) -> str:
    """Counts in one line."""
    records = [record for split in lists.values() for record in split]
    hours = sum(record.num_frames for record in records) / FPS / 3600
    who = "words" if layout == "lrw" else "speakers"
    per_split = ", ".join(f"{name} {len({r.speaker for r in split})}" for name, split in lists.items() if split)
    short = sum(": too short: " in line for line in left_out)
    return (
        f"{len(records)} clips, {hours:.2f} hours, {len({r.speaker for r in records})} {who} ({per_split}), "
        f"{len(left_out) - short} broken, {short} too short"
    )


# ------------------------------------------------------------------------------------------------------ the run


def run(args: argparse.Namespace) -> int:
    """Checks what is missing and writes the lists. Returns the exit status."""
    check_args(args)
    clips = list_clips(args.root, args.layout)
    if args.layout != "lrw":  # complain before hours of checking
        split_speakers((clip.speaker for clip in clips), args.val_speakers, args.test_speakers, args.seed)
    make_directory(args.output)
    known = read_progress(args.output)
    number, count = args.shard
    if args.merge:
        _require_all(clips, known, args)
    else:
        checked = check_missing(clips, known, args)
        print(f"{checked} clips checked, {len(clips[number::count]) - checked} were known")
    if count > 1:
        broken = sum(known[os.path.relpath(c.path, args.root)].error is not None for c in clips[number::count])
        print(f"{args.output}: shard {number}/{count}: {broken} broken; when all are done, run again with --merge")
        return 0
    lists, left_out = build_lists(clips, known, args)
    write_lists(args.output, lists, left_out)
    print(f"{args.output}: {summarise(lists, left_out, args.layout)}")
    if not any(lists.values()):
        reasons = Counter(line.partition(": ")[2] for line in left_out)
        raise MediaError(f"{args.root}: no clip can be used, {reasons.most_common(1)[0][0]} ...; see broken.txt")
    return 0


def _require_all(clips: Sequence[Clip], known: dict[str, Checked], args: argparse.Namespace) -> None:
    open_clips = [c for c in clips if not is_current(known.get(os.path.relpath(c.path, args.root)), c, args)]
    if open_clips:
        raise MediaError(
            f"{args.output}: {len(open_clips)} of {len(clips)} clips are not checked yet, such as "
            f"{open_clips[0].path}; run the shards that are missing, or once without --shard and --merge"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    setup_logging()
    try:
        return run(args)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except KeyboardInterrupt:
        print("error: interrupted; what was checked is kept, run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
