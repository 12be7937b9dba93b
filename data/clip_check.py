"""Can a training use a clip? What is known of the clips of a data set stays in checked-*.jsonl; times in seconds."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.clip_list import FoundClip, UsableClip, count_frames
from data.clip_reader import find_sound
from data.frames import list_frames, read_image
from data.video_reader import check_stream
from options.config import FPS
from util.errors import MediaError, PcavsError
from util.files import require_utf8_name, writing
from util.json_files import read_json_lines
from util.log import progress
from util.parallel import map_processes

CHECKS = ("fast", "full")  # in order of thoroughness
_LATEST_END_S = 0.1  # the last picture may be this much earlier than the header says
_SILENT_TAIL_S = 0.5  # the sound may be this much shorter than the pictures

Signature = tuple[int, int]  # size in bytes and time of the last change in ns; a file with another one is another file


@dataclass(frozen=True)
class ClipCheck:
    """What is known of a clip: one line of checked-*.jsonl."""

    path: str  # relative to the root, as the sound's
    signature: Signature
    check: str
    checked_at: float  # seconds since 1970; of two lines on a clip the later one counts
    num_frames: int = 0  # at 25 fps
    sound: str | None = None  # None: inside the mp4
    sound_signature: Signature | None = None
    error: str | None = None  # why it cannot be used


class ClipChecks:
    """What is known of the clips below `root`, by checked-*.jsonl in `folder` (of all shards) and by this run.

    check: `fast`: header, start and end of a clip; `full`: everything is decoded.
    """

    def __init__(self, folder: Path, root: Path, check: str) -> None:
        self._folder, self._root, self._check = folder, root, check
        files = sorted(folder.glob("checked-*.jsonl"))
        lines = [line for path in files for line in read_json_lines(path, ClipCheck)]
        self._known = {line.path: line for line in sorted(lines, key=lambda line: line.checked_at)}

    def error(self, clip: FoundClip) -> str | None:
        """Why a clip cannot be used; None when it can, or nothing is known of it."""
        known = self._of(clip)
        return None if known is None else known.error

    def is_current(self, clip: FoundClip) -> bool:
        """Whether what is known of a clip still holds and is as thorough as asked for."""
        known = self._of(clip)
        if known is None or known.check not in CHECKS[CHECKS.index(self._check) :]:
            return False
        try:
            if known.sound is not None and known.sound_signature != _signature(self._root / known.sound):
                return False
            return known.signature == _signature(clip.path)
        except OSError:
            return known.error is not None and known.signature == (0, 0)  # it could not be read before, either

    def check(self, clips: Sequence[FoundClip], part: tuple[int, int], workers: int, dask: str = "") -> int:
        """Checks those clips that are new, changed or broken, and keeps what is found in a file of this part (k of n).

        Returns:
            how many were checked.
        """
        # a broken clip may have been repaired in a way its own file does not show, by a sound file beside it
        todo = [clip.path for clip in clips if not self.is_current(clip) or self.error(clip)]
        check = functools.partial(check_clip, root=self._root, check=self._check)
        on_death = functools.partial(_check_of_killer, root=self._root, check=self._check)
        found = map_processes(check, todo, workers, dask, on_death)
        file = self._folder / f"checked-{part[0]:05d}-of-{part[1]:05d}.jsonl"
        for checked in progress(found, total=len(todo), unit="clip", desc="checking clips", disable=not todo):
            with writing(file), file.open("ab", buffering=0) as lines:
                # the line break in front ends a line that a killed run tore
                lines.write(f"\n{json.dumps(asdict(checked))}".encode())
            self._known[checked.path] = checked
        return len(todo)

    def usable(self, clips: Iterable[FoundClip], min_frames: int) -> tuple[list[UsableClip], list[str]]:
        """Of clips that were checked: those for `data.clip_list.build_lists`, and why others are left out."""
        good: list[UsableClip] = []
        left_out = []
        for clip in clips:
            known = self._of(clip)
            assert known is not None
            if known.error is not None:
                left_out.append(f"{clip.path}: {known.error}")
            elif known.num_frames < min_frames:
                left_out.append(f"{clip.path}: too short: {known.num_frames} frames, --min_frames is {min_frames}")
            else:
                sound = None if known.sound is None else Path(os.path.normpath(self._root / known.sound))
                good.append((clip, known.num_frames, sound))
        return good, left_out

    def _of(self, clip: FoundClip) -> ClipCheck | None:
        return self._known.get(os.path.relpath(clip.path, self._root))


def check_clip(path: Path, root: Path, check: str) -> ClipCheck:
    """Opens an mp4 or a folder of frames and finds out whether a training can use it; never raises for a broken one."""
    full = check == "full"
    facts: dict[str, Any] = {"path": os.path.relpath(path, root), "check": check, "checked_at": time.time()}
    signature = (0, 0)
    try:
        signature = _signature(path)
        require_utf8_name(path)
        if path.is_file() and signature[0] == 0:
            raise MediaError(f"{path}: the file is empty (0 bytes)")
        frames = count_frames(path)
        picture_s = _check_folder(path, full) if path.is_dir() else check_stream(path, "video", full)
        if picture_s < frames / FPS - _LATEST_END_S:
            raise MediaError(f"{path}: its pictures end at {picture_s:.2f} s of {frames / FPS:.2f} s; is it cut off?")
        sound = find_sound(path)
        sound_s = check_stream(sound, "audio", full)
        if sound_s < frames / FPS - _SILENT_TAIL_S:
            raise MediaError(f"{sound}: its sound ends at {sound_s:.2f} s, the pictures at {frames / FPS:.2f} s")
        if sound != path:
            facts |= {"sound": os.path.relpath(sound, root), "sound_signature": _signature(sound)}
        facts["num_frames"] = frames
    except PcavsError as error:
        facts["error"] = " ".join(str(error).removeprefix(f"{path}: ").split())
    except OSError as error:
        facts["error"] = f"cannot be read: {error.strerror or error}"
    return ClipCheck(signature=signature, **facts)


def _check_of_killer(path: Path, root: Path, check: str) -> ClipCheck:
    reason = "the process that reads it dies (damage that the decoder cannot stand, or out of memory)"
    signature = _signature(path) if path.exists() else (0, 0)
    return ClipCheck(os.path.relpath(path, root), signature, check, time.time(), error=reason)


def _signature(path: Path) -> Signature:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _check_folder(folder: Path, full: bool) -> float:
    """Reads the first and last frame, or all; returns where the last one ends, in seconds."""
    paths = list_frames(folder)
    for path in paths if full else {paths[0], paths[-1]}:
        read_image(path)
    return len(paths) / FPS


def holds_checks(path: Path) -> bool:
    """Whether a file is empty or one of checked-*.jsonl, to which lines may be added."""
    return path.stat().st_size == 0 or any(True for _ in read_json_lines(path, ClipCheck))
