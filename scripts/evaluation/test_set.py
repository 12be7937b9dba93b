"""The test set of `evaluate.py --self_reenact`: clips of a list or tree, made ready to be generated anew; 25 fps.

The first frame of each clip gives the identity, its own sound the speech, and the head pose comes from the clip itself
or from another speaker's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from data.clip_list import ClipRecord, read_list, scan_tree
from data.clip_reader import find_sound
from data.frames import list_frames
from data.lrw_dataset import scan_lrw
from data.media import Cut, extract_frames, extract_sound, inspect
from data.metadata import unique_names, write_rows
from data.prepared import Shelf, origin_of
from util.errors import MediaError, PcavsError
from util.files import make_directory, safe_name, write_bytes
from util.log import progress

logger = logging.getLogger(__name__)

SPLIT = "test"  # of a tree that has splits
_LONGEST_NAME = 60  # characters
ReenactedClip = tuple[str, list[object]]  # its speaker, and its row where it drives itself: 8 fields


def make_test_set(
    source: Path, folder: Path, poses: Sequence[str], how_many: int | None = None, max_seconds: float | None = None
) -> tuple[Path, list[str]]:
    """Writes the clips of a list or tree and the metadata file by which test.py generates them; and what is missing.

    poses: `self`, `cross` or both: whose head pose drives a clip.  how_many: clips, evenly spread over the source.
    """
    clips, problems = prepare_clips(spread_over(read_records(source), how_many), folder, max_seconds)
    rows, missing = metadata_rows(clips, poses)
    problems += missing
    if not rows:
        raise MediaError(f"--self_reenact {source}: no clip can be used: {problems[0] if problems else ''}")
    write_rows(folder / "test.csv", rows)
    return folder / "test.csv", problems


def read_records(source: Path) -> list[ClipRecord]:
    """The clips of a list, or of a VoxCeleb2 or LRW tree: its test split where it has one."""
    if not source.is_dir():
        return read_list(source)
    if (source / "lipread_mp4").is_dir() or any(source.glob(f"*/{SPLIT}/*.mp4")):
        return scan_lrw(source, SPLIT)
    tree = source / SPLIT if (source / SPLIT / "mp4").is_dir() else source
    logger.info("clips of %s", tree)
    return scan_tree(tree)


def spread_over(records: Sequence[ClipRecord], count: int | None) -> list[ClipRecord]:
    """`count` records at equal distances, which takes in most speakers of a sorted list."""
    if count is None or count >= len(records):
        return list(records)
    return [records[number * len(records) // count] for number in range(count)]


def prepare_clips(
    records: Sequence[ClipRecord], folder: Path, max_seconds: float | None
) -> tuple[list[ReenactedClip], list[str]]:
    """Writes frames, first frame and sound of every clip, or uses them again; and why others cannot be used."""
    parts = ("_".join(record.path.with_suffix("").parts[-3:]).strip("/.") for record in records)
    names = unique_names(safe_name(name)[-_LONGEST_NAME:] for name in parts)
    clips, problems = [], []
    for record, name in progress(list(zip(records, names, strict=True)), unit="clip", desc="preparing"):
        try:
            clips.append(_prepare_clip(record, name, folder, max_seconds))
        except PcavsError as error:
            problems.append(f"{record.path}: left out: {error}")
    return clips, problems


def _prepare_clip(record: ClipRecord, name: str, folder: Path, max_seconds: float | None) -> ReenactedClip:
    cut, options = Cut(0.0, max_seconds), {"duration_s": max_seconds}
    sound_path = find_sound(record.path, record.audio)
    pictures, sound = inspect(record.path), inspect(sound_path)
    frames = Shelf(folder / "frames").get(
        name, origin_of(record.path, options), lambda part: extract_frames(pictures, part, cut)
    )
    wav = Shelf(folder / "sound", ".wav").get(
        name, origin_of(sound_path, options), lambda part: extract_sound(sound, part, cut)
    )
    first = list_frames(frames.path)[0]
    reference = make_directory(folder / "reference" / frames.path.name)
    write_bytes(reference / f"000000{first.suffix}", first.read_bytes())
    pictures_of = [frames.path, frames.extent]
    return record.speaker, [reference, 1, *pictures_of, wav.path, *pictures_of, "dummy"]


def metadata_rows(clips: Sequence[ReenactedClip], poses: Sequence[str]) -> tuple[list[list[object]], list[str]]:
    """Fields of the csv for test.py, and what is missing; `cross`: the next clip of another speaker drives the pose."""
    rows: list[list[object]] = []
    problems = []
    for pose in poses:
        for number, (speaker, row) in enumerate(clips):
            others = [*clips[number + 1 :], *clips[:number]]
            driving = row if pose == "self" else next((other for who, other in others if who != speaker), None)
            if driving is None:
                name = Path(str(row[2])).name
                problems.append(f"{name}: no cross-pose row, because no clip of another speaker is in the list")
            else:
                rows.append([*row[:2], *driving[2:4], *row[4:]])
    return rows, problems
