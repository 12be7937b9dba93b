"""The one set of phones of all voices, what others call them, and the mouth that goes with them; times in seconds.

A phone of a speech program is translated to IPA by that program's table, and IPA to phones letter by letter, so that a
diphthong or an affricate becomes two. The mouth blends neighbours by how much each of them cares for its shape, after
Cohen and Massaro 1993 (dominance), a little ahead of the sound, but lip closures are always reached.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

SILENCE, BREATH, LAUGH = "sil", "breath", "laugh"
RESTING = (SILENCE, BREATH, LAUGH)  # heard or not, the mouth stays closed


@dataclass(frozen=True)
class Phone:
    """How a phone looks, see `FaceState`; width below 0 is rounding.

    hold_opening, hold_width: 0..1, how much it keeps its own shape between neighbours that want another.
    """

    opening: float
    width: float = 0.0
    lip_teeth: float = 0.0
    press: float = 0.0
    hold_opening: float = 1.0
    hold_width: float = 1.0


VOWELS = {
    "iy": Phone(0.20, 0.9),
    "ih": Phone(0.32, 0.5),
    "ix": Phone(0.26, 0.2),  # close, in the middle: Russian ы
    "ee": Phone(0.38, 0.55),
    "eh": Phone(0.52, 0.4),
    "ae": Phone(0.76, 0.45),
    "aa": Phone(1.0, 0.0),
    "ah": Phone(0.66, 0.0),
    "ax": Phone(0.40, 0.0, hold_opening=0.6, hold_width=0.4),
    "ao": Phone(0.68, -0.6),
    "oo": Phone(0.44, -0.8),
    "uh": Phone(0.34, -0.55),
    "uw": Phone(0.20, -1.0),
    "yu": Phone(0.20, -0.9),  # French u, German ü
    "oe": Phone(0.40, -0.65),
    "er": Phone(0.36, -0.35),
}


def _consonant(opening: float, width: float = 0.0, holds: tuple[float, float] = (0.7, 0.25)) -> Phone:
    return Phone(opening, width, hold_opening=holds[0], hold_width=holds[1])


_LIPS = Phone(0.0, press=1.0, hold_width=0.15)
_TEETH = Phone(0.10, lip_teeth=1.0, hold_width=0.2)
_HISS, _HUSH = _consonant(0.12, 0.4, (1.0, 0.4)), _consonant(0.18, -0.7, (1.0, 0.9))
_BACK = _consonant(0.28, holds=(0.4, 0.1))
CONSONANTS = {
    "p": _LIPS,
    "b": _LIPS,
    "m": _LIPS,
    "f": _TEETH,
    "v": _TEETH,
    "t": _consonant(0.16, 0.15, (0.9, 0.25)),
    "d": _consonant(0.18, 0.15, (0.9, 0.25)),
    "n": _consonant(0.18, 0.1),
    "k": _BACK,
    "g": _BACK,
    "ng": _BACK,
    "x": _BACK,
    "q": _consonant(0.3, holds=(0.2, 0.1)),  # glottal stop
    "h": _consonant(0.4, holds=(0.1, 0.1)),
    "th": _consonant(0.22),
    "dh": _consonant(0.22),
    "s": _HISS,
    "z": _HISS,
    "sh": _HUSH,
    "zh": _HUSH,
    "w": Phone(0.10, -1.0),
    "bh": Phone(0.08, -0.2, hold_width=0.4),  # breath between lips that hardly part: Japanese f, Spanish b
    "y": _consonant(0.2, 0.6, (0.8, 0.7)),
    "l": _consonant(0.34, 0.1, (0.5, 0.2)),
    "r": _consonant(0.24, -0.55, (0.7, 0.7)),  # English
    "rr": _consonant(0.26, 0.0, (0.6, 0.2)),  # the tip of the tongue: Italian, Russian
}
PHONES = {**{name: Phone(0.0, hold_width=0.5) for name in RESTING}, **VOWELS, **CONSONANTS}

_IPA = {
    **{"i": "iy", "ɪ": "ih", "ɨ": "ix", "ᵻ": "ix", "ɯ": "ix", "e": "ee", "ɛ": "eh", "æ": "ae", "a": "aa", "ɑ": "aa"},
    **{"ɐ": "ah", "ʌ": "ah", "ɒ": "ao", "ɔ": "ao", "ə": "ax", "ɘ": "ax", "ɤ": "ax", "o": "oo", "ʊ": "uh", "u": "uw"},
    **{"y": "yu", "ʏ": "yu", "ʉ": "yu", "ø": "oe", "œ": "oe", "ɵ": "oe", "ɜ": "er", "ɚ": "er", "ɝ": "er"},
    **{"p": "p", "b": "b", "m": "m", "f": "f", "v": "v", "ʋ": "v", "ɱ": "v", "t": "t", "ʈ": "t", "d": "d", "ɖ": "d"},
    **{"c": "k", "k": "k", "ɟ": "g", "ɡ": "g", "g": "g", "ɣ": "g", "x": "x", "χ": "x", "ħ": "x", "ʁ": "x", "ç": "x"},
    **{"n": "n", "ɳ": "n", "ɲ": "n", "ŋ": "ng", "ɴ": "ng", "ʔ": "q", "ʕ": "q", "h": "h", "ɦ": "h", "θ": "th"},
    **{"ð": "dh", "s": "s", "z": "z", "ʃ": "sh", "ʂ": "sh", "ɕ": "sh", "ʒ": "zh", "ʐ": "zh", "ʑ": "zh", "w": "w"},
    **{"ɥ": "w", "ʍ": "w", "ɸ": "bh", "β": "bh", "j": "y", "ʝ": "y", "l": "l", "ɭ": "l", "ʎ": "l", "ɫ": "l", "ɬ": "l"},
    **{"ɹ": "r", "ɻ": "r", "r": "rr", "ɾ": "rr", "ɽ": "rr", "_": SILENCE},
}
_LEAST_TOUCH_S = 0.05  # lips that touch do so for this long, however short the phone
_AHEAD_S = 0.03  # opening and width are on their way before the sound is
_PARTING_S = 0.08  # before somebody speaks, the lips part
_MARKS = "ːˑˈˌʲʰʷˠˤᵝˡⁿ˞^-#."  # length, stress and manners that the lips do not show


@dataclass(frozen=True)
class Phoneme:
    """One stretch of the timeline; stress 1 is usual loudness and length."""

    name: str
    start_s: float
    end_s: float
    stress: float = 1.0


def phones_of(ipa: str) -> list[str]:
    """The phones of a sound written in IPA, e.g. `tʃ` -> t, sh.

    Raises:
        KeyError: a letter that has no phone, with the letter and the sound.
    """
    letters = [c for c in unicodedata.normalize("NFD", ipa) if not unicodedata.combining(c) and c not in _MARKS]
    unknown = [c for c in letters if c not in _IPA]
    if unknown:
        raise KeyError(f"no phone for {unknown[0]!r} of {ipa!r}")
    return [_IPA[c] for c in letters]


def mouth_track(timeline: Sequence[Phoneme], times_s: np.ndarray) -> np.ndarray:
    """Mouth shapes with coarticulation: neighbours blend over some 70 ms, but lip closures are always reached.

    Returns:
        (len(times_s), 4) float64: opening, width, lip_teeth, press, as in `FaceState`.
    """
    rate = 200.0
    grid = np.arange(0, max(float(np.max(times_s)), timeline[-1].end_s) + 0.1, 1 / rate)
    index = np.searchsorted([p.start_s for p in timeline], grid + _AHEAD_S, side="right") - 1
    index = np.clip(index, 0, len(timeline) - 1)
    shapes = [PHONES[p.name] for p in timeline]
    target = np.array([(_opening(p), s.width) for p, s in zip(timeline, shapes, strict=True)])[index]
    holds = np.array([(s.hold_opening, s.hold_width) for s in shapes])[index]
    touches = np.zeros((3, len(grid)))  # the mouth is shut, lip at the teeth, lips pressed
    for phoneme, shape in zip(timeline, shapes, strict=True):
        middle = (phoneme.start_s + phoneme.end_s) / 2
        reach = max((phoneme.end_s - phoneme.start_s) / 2, _LEAST_TOUCH_S / 2)
        parting = _PARTING_S if phoneme.name in RESTING else 0.0
        during = slice(*np.searchsorted(grid, [middle - reach, middle + reach - parting]))
        touch = np.array([shape.opening <= 0, shape.lip_teeth, shape.press], dtype=np.float64)
        touches[:, during] = np.maximum(touches[:, during], touch[:, None])

    def blur(track: np.ndarray, seconds: float) -> np.ndarray:
        return scipy.ndimage.gaussian_filter1d(track, seconds * rate, axis=0, mode="nearest")

    def reached(track: np.ndarray, seconds: float) -> np.ndarray:
        value = np.clip(1.25 * blur(track, seconds), 0, 1)
        return value * value * (3 - 2 * value)

    opening, width = (blur(holds * target, 0.032) / blur(holds, 0.032)).T
    shut, bite, press = (reached(track, 0.012) for track in touches)
    opening = opening * (1 - shut)
    opening = opening + (np.minimum(opening, 0.12) - opening) * bite
    return np.stack([np.interp(times_s, grid, track) for track in (opening, width, bite, press)], axis=1)


def _opening(phoneme: Phoneme) -> float:
    """Loud vowels open wider."""
    opening = PHONES[phoneme.name].opening
    return opening * (0.85 + 0.6 * (phoneme.stress - 0.9)) if phoneme.name in VOWELS else opening
