"""Pose programmes: words that say how a head moves, read into angles of every frame; degrees, seconds, 25 fps.

    idle                                      a motion, one of data.head_motion.MOTIONS
    0 yaw=0; 1.5 yaw=20 pitch=-5; 4 roll=8    keyframes: a time, and the angles that change until then
    idle; 2 yaw=20 ease=linear                both: the motion is added to the path of the keyframes

Parts stand on lines of their own or between semicolons. What a keyframe does not name stays as it was.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.head_motion import MOTIONS, make_motion, smooth_step
from options.config import ANGLES, FPS
from util.errors import MediaError
from util.files import read_text

LIMIT_DEG = 45.0
EASES = ("smooth", "linear", "step")
_PREFIX, _LIKE = "pose:", "like:"
MOTION_WORDS = ", ".join(word for word in MOTIONS if word != "like") + f", {_LIKE}VIDEO"
_PART_HINT = (
    f"a part is `SECONDS {' '.join(f'{name}=DEG' for name in ANGLES)} ease={'|'.join(EASES)}` or {MOTION_WORDS}"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keyframe:
    """The whole attitude at a time, and how the head comes there from the keyframe before."""

    time_s: float
    angles_deg: tuple[float, float, float]
    ease: str = "smooth"


@dataclass(frozen=True)
class PoseProgramme:
    """What a head does.

    words: as given.  motion: one of MOTIONS, or "" for none.  like: the video of the motion `like`.
    """

    words: str
    motion: str = ""
    like: Path | None = None
    keyframes: tuple[Keyframe, ...] = ()

    @property
    def name(self) -> str:
        if self.keyframes:
            return "programme"
        return self.motion if self.like is None else f"like_{self.like.stem}"

    @property
    def may_repeat(self) -> bool:
        """Whether the head does nothing at a certain time, so that a part of it can be played again and again."""
        return not self.keyframes and self.motion != "speak"

    def angles(
        self, num_frames: int, seed: int = 0, wave: np.ndarray | None = None, like: np.ndarray | None = None
    ) -> np.ndarray:
        """Yaw, pitch and roll of every frame, (num_frames, 3) float64 within 45 degrees; see `make_motion`."""
        track = np.zeros((num_frames, 3))
        if self.motion:
            track += make_motion(self.motion, seed, num_frames, wave, like)
        if self.keyframes:
            track += _path(self.keyframes, np.arange(num_frames) / FPS)
        return np.clip(track, -LIMIT_DEG, LIMIT_DEG)


def find_programme(source: str) -> PoseProgramme | None:
    """The programme that a pose source means: a motion's name, `like:VIDEO` or `pose:PROGRAMME`, see `parse_programme`.

    None for a path: of a file or folder that is there, whatever its name, or of anything else.
    """
    is_words = source in MOTIONS or source.startswith((_PREFIX, _LIKE))
    if os.path.exists(source):
        if is_words:
            _log.warning("%s: is a file here, and taken as that; the motion is %s%s", source, _PREFIX, source)
        return None
    if not is_words:
        return None
    return parse_programme(source.removeprefix(_PREFIX))


def parse_programme(text: str) -> PoseProgramme:
    """Reads a programme, or the text file that is named; angles beyond 45 degrees are clipped with a warning.

    Raises MediaError: an unknown word, no number, times out of order, two motions, or nothing; names line and word.
    """
    place = "pose programme, line "
    if text not in MOTIONS and os.path.isfile(text):
        try:
            text, place = read_text(Path(text)), f"{text}:"
        except (OSError, UnicodeDecodeError) as error:
            raise MediaError(f"{text}: cannot be read as a pose programme: {error}") from error
    programme = PoseProgramme(" ".join(text.split()))
    for number, line in enumerate(text.splitlines(), start=1):
        for part in line.partition("#")[0].split(";"):
            try:
                programme = _with_part(programme, part.split())
            except ValueError as error:
                raise MediaError(f"{place}{number}: {error}") from error
    if not (programme.motion or programme.keyframes):
        raise MediaError(f"{place}1: holds nothing; {_PART_HINT}")
    return programme


def _with_part(programme: PoseProgramme, words: list[str]) -> PoseProgramme:
    """Raises ValueError."""
    if not words:
        return programme
    first, *others = words
    is_like = first.startswith(_LIKE)
    if not (is_like or (first in MOTIONS and first != "like")):
        return dataclasses.replace(programme, keyframes=(*programme.keyframes, _keyframe(programme.keyframes, words)))
    if programme.motion:
        raise ValueError(f"{first!r}: {programme.motion!r} is there already; a programme has one motion")
    if others and not is_like:
        raise ValueError(f"{others[0]!r} behind {first!r}; parts are separated by semicolons")
    like = Path(" ".join(words).removeprefix(_LIKE)) if is_like else None  # a path may hold spaces
    return dataclasses.replace(programme, motion="like" if is_like else first, like=like)


def _keyframe(before: tuple[Keyframe, ...], words: list[str]) -> Keyframe:
    """Raises ValueError."""
    time_s = _number(words[0], words[0])
    if time_s < 0:
        raise ValueError(f"{words[0]!r}: times begin at 0")
    if before and time_s <= before[-1].time_s:
        raise ValueError(f"{words[0]!r}: times must rise, the keyframe before is at {before[-1].time_s:g}")
    angles, ease = dict(zip(ANGLES, before[-1].angles_deg if before else (0.0, 0.0, 0.0), strict=True)), "smooth"
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name == "ease" and value in EASES:
            ease = value
        elif name in ANGLES:
            wanted = _number(value, word)
            angles[name] = min(max(wanted, -LIMIT_DEG), LIMIT_DEG)
            if angles[name] != wanted:
                _log.warning("pose programme: %s at %g s is clipped to %g degrees", word, time_s, angles[name])
        else:
            raise ValueError(f"unknown word {word!r}; {_PART_HINT}")
    return Keyframe(time_s, (angles["yaw"], angles["pitch"], angles["roll"]), ease)


def _number(text: str, word: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"unknown word {word!r}; {_PART_HINT}")
    return value


def _path(keyframes: tuple[Keyframe, ...], times_s: np.ndarray) -> np.ndarray:
    """The attitude at each time, (T, 3); before the first keyframe and behind the last one the head holds still."""
    track = np.tile(np.array(keyframes[0].angles_deg), (len(times_s), 1))
    for one, other in itertools.pairwise(keyframes):
        share = (times_s - one.time_s) / (other.time_s - one.time_s)
        if other.ease == "smooth":
            share = smooth_step(share)
        elif other.ease == "step":
            share = (share >= 1).astype(np.float64)
        track += np.clip(share, 0, 1)[:, None] * np.subtract(other.angles_deg, one.angles_deg)
    return track
