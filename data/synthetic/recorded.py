"""Voices of other programs: flite and festival (recorded people), espeak-ng (rules); sound and timed phones out.

Whatever is installed is used, nothing is required; docs/synthetic.md lists the packages. Times in seconds from the
start of the sound.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
import tempfile
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.synthetic.phones import phones_of
from util.errors import MediaError
from util.programs import run_program


@dataclass(frozen=True)
class RecordedVoice:
    """A voice of a program. femininity: 0 a man's, 1 a woman's, None: the program speaks as either."""

    program: str
    name: str
    language: str  # key of `texts.SENTENCES`
    femininity: float | None = None

    @property
    def label(self) -> str:
        """What HELD_OUT_VOICES and messages call it."""
        return f"{self.program} {self.name}"


# flite's kal is kal16 at 8 kHz, and awb_time can only tell the time
VOICES = (
    RecordedVoice("flite", "slt", "en", 1),
    RecordedVoice("flite", "rms", "en", 0),
    RecordedVoice("flite", "awb", "en", 0),
    RecordedVoice("flite", "kal16", "en", 0),
    RecordedVoice("festival", "ked_diphone", "en", 0),
    RecordedVoice("festival", "kal_diphone", "en", 0),
    RecordedVoice("festival", "cmu_us_slt_arctic_hts", "en", 1),
    RecordedVoice("festival", "lp_diphone", "it", 1),
    RecordedVoice("festival", "pc_diphone", "it", 0),
    RecordedVoice("festival", "czech_dita", "cs", 1),
    RecordedVoice("festival", "czech_krb", "cs", 0.5),  # a boy
    RecordedVoice("festival", "czech_machac", "cs", 0),
    RecordedVoice("festival", "czech_ph", "cs", 0),
    RecordedVoice("festival", "suo_fi_lj_diphone", "fi", 1),
    RecordedVoice("festival", "hy_fi_mv_diphone", "fi", 0),
    RecordedVoice("festival", "msu_ru_nsh_clunits", "ru", 0),
    RecordedVoice("festival", "hindi_NSK_diphone", "hi", 0),
    RecordedVoice("festival", "marathi_NSK_diphone", "mr", 0),
    RecordedVoice("festival", "telugu_NSK_diphone", "te", 0),
    RecordedVoice("festival", "upc_ca_ona_hts", "ca", 1),
    *(RecordedVoice("espeak-ng", name, name[:2]) for name in ("en-us", "en", "de", "fr", "es", "it", "pt")),
    *(RecordedVoice("espeak-ng", name, name) for name in ("pl", "nl", "tr", "cs", "ru", "fi")),
)
# never heard in training: women and men, a program's whole language, English and others
HELD_OUT_VOICES = frozenset(
    {
        "flite rms",
        "festival lp_diphone",
        "festival czech_machac",
        "festival suo_fi_lj_diphone",
        "espeak-ng fr",
        "espeak-ng en",
    }
)


# ------------------------------------------------------------------------------------------------------ phone names


def _same(letters: str) -> dict[str, str]:
    return {letter: letter for letter in letters}


# names of a program's phones in IPA; a name may end in 1 (stressed) or : (long)
_PAUSES = dict.fromkeys(("pau", "ssil", "brth", "h#", "#", "##", "_"), "_")
ARPABET = {
    **_PAUSES,
    **_same("bdfklmnpstvwz"),
    **{"aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ax": "ə", "axr": "ɚ", "ay": "aɪ", "eh": "ɛ"},
    **{"el": "əl", "em": "əm", "en": "ən", "er": "ɝ", "ey": "eɪ", "ih": "ɪ", "iy": "i", "ow": "oʊ", "oy": "ɔɪ"},
    **{"uh": "ʊ", "uw": "u", "ch": "tʃ", "dh": "ð", "dx": "ɾ", "g": "ɡ", "hh": "h", "hv": "h", "jh": "dʒ", "ng": "ŋ"},
    **{"nx": "n", "r": "ɹ", "sh": "ʃ", "th": "θ", "y": "j", "zh": "ʒ"},
}
ITALIAN = {
    **_PAUSES,
    **_same("aeioujwptkbdfsvzmnlr"),
    **{"E": "ɛ", "O": "ɔ", "g": "ɡ", "S": "ʃ", "Z": "ʒ", "ts": "ts", "tS": "tʃ", "dz": "dz", "dZ": "dʒ", "J": "ɲ"},
    **{"ng": "ŋ", "nf": "ɱ", "L": "ʎ"},
}
CZECH = {
    **_PAUSES,
    **_same("abdefijklmnoprstuvz"),
    **{"c": "ts", "c~": "tʃ", "ch": "x", "d~": "ɟ", "dz": "dz", "dz~": "dʒ", "g": "ɡ", "h": "ɦ", "n*": "ŋ", "n~": "ɲ"},
    **{"r~": "ʒ", "r~*": "ʃ", "s~": "ʃ", "t~": "c", "z~": "ʒ", "_": "ʔ"},
}
FINNISH = {
    **_PAUSES,
    **_same("aeiouyptkbdfshvmnlrjwz"),
    **{"@": "æ", "&": "æ", "7": "ø", "g": "ɡ", "T": "θ", "D": "ð", "S": "ʃ", "Z": "ʒ", "N": "ŋ", "L": "ʎ"},
}
INDIAN = {  # Hindi, Marathi, Telugu: one speaker, one set
    **_PAUSES,
    **_same("fknpbmlshw"),
    **{"a": "ə", "aa": "a", "ih": "ɪ", "iy": "i", "uh": "ʊ", "uw": "u", "eh": "e", "ee": "e", "ay": "ɛ", "oh": "o"},
    **{"oo": "o", "aw": "ɔ", "@": "ə", "g": "ɡ", "ch": "tʃ", "T": "ʈ", "D": "ɖ", "N": "ɳ", "th": "t", "dh": "d"},
    **{"y": "j", "r": "ɾ", "v": "ʋ", "L": "ɭ", "R": "ɽ", "sh": "ʃ", "j": "dʒ", "ksh": "kʃ", "sri": "ʃɾ", "x": "x"},
    **{"kh": "k", "gh": "ɡ", "td": "ʈ", "tth": "ʈ", "ddh": "d", "bh": "b", "zh": "ʒ"},
}
RUSSIAN = {
    **_PAUSES,
    **{letter * times: letter for letter in "pbtdkfvszmnlr" for times in (1, 2)},
    **{"ii": "i", "i": "i", "yy": "ɨ", "y": "ɨ", "uu": "u", "u": "u", "ur": "u", "ee": "e", "e": "e", "ae": "ɪ"},
    **{"oo": "o", "aa": "a", "a": "ɐ", "ay": "ə", "g": "ɡ", "gg": "ɡ", "c": "ts", "ch": "tɕ", "sh": "ʂ", "sch": "ɕ"},
    **{"zh": "ʐ", "h": "x", "hh": "x", "j": "j"},
}
CATALAN = {
    **_PAUSES,
    **_same("abdefijklmnopstuwz"),
    **{"ax": "ə", "E": "ɛ", "O": "ɔ", "g": "ɡ", "J": "ɲ", "L": "ʎ", "r": "ɾ", "rr": "r", "S": "ʃ", "Z": "ʒ"},
}
_TABLES = {
    **{"en": ARPABET, "it": ITALIAN, "cs": CZECH, "fi": FINNISH, "ru": RUSSIAN, "ca": CATALAN},
    **dict.fromkeys(("hi", "mr", "te"), INDIAN),
}


def translate(voice: RecordedVoice, name: str) -> list[str]:
    """A program's phone in ours, e.g. `ow` of flite -> oo, uh.

    Raises:
        MediaError: the voice has no such phone; names both.
    """
    if voice.program == "espeak-ng":
        ipa: str | None = name
    else:
        table = _TABLES[voice.language]
        ipa = table.get(name) or table.get(name.rstrip("1:"))
    try:
        return phones_of(ipa or name)
    except KeyError as error:
        raise MediaError(f"{voice.label} speaks a phone that is not known: {name!r} ({error.args[0]})") from error


# -------------------------------------------------------------------------------------------------------- programs


@functools.cache
def installed_voices() -> tuple[RecordedVoice, ...]:
    """The VOICES that can speak here. Without the package praat-parselmouth, which varies them, there are none."""
    try:
        import parselmouth  # noqa: F401
    except ImportError:
        return ()
    named: dict[str, set[str]] = {}
    for program, flags in {"flite": ["-lv"], "festival": ["--batch", "(print (voice.list))"]}.items():
        path = shutil.which(program)
        listed = run_program([path, *flags], f"asking {program} for its voices") if path else b""
        named[program] = set(re.findall(r"\w+", listed.decode("utf-8", "replace")))
    if shutil.which("espeak-ng"):
        named["espeak-ng"] = {voice.name for voice in VOICES if voice.program == "espeak-ng"}
    return tuple(voice for voice in VOICES if voice.name in named.get(voice.program, ()))


@dataclass(frozen=True)
class Spoken:
    """What a program said. wave: (N,) float64.  ends: phones as `translate` wants them, and where each of them ends."""

    wave: np.ndarray
    rate_hz: int
    ends: tuple[tuple[str, float], ...]


def say(voice: RecordedVoice, text: str, variant: str = "") -> Spoken:
    """Speaks a text.

    Args:
        variant: for espeak-ng, e.g. `+f2`.

    Raises:
        MediaError: the program fails, or says nothing.
    """
    spoken = _SPEAKERS[voice.program](voice, text, variant)
    if not spoken.ends or not len(spoken.wave):
        raise MediaError(f"{voice.label} said nothing for {text!r}")
    return spoken


def _say_flite(voice: RecordedVoice, text: str, _variant: str) -> Spoken:
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "sound.wav")
        command = ["flite", "-voice", voice.name, "-psdur", "-t", text, "-o", str(sound)]
        printed = run_program(command, f"speaking with {voice.label}").decode("ascii", "replace")
        samples, rate_hz = _read_wav(sound)
    # a phone and its end: "pau:0.176 dh:0.342"
    return Spoken(samples, rate_hz, tuple((name, float(end)) for name, end in re.findall(r"(\S+?):([\d.]+)", printed)))


_ENCODINGS = {"it": "iso-8859-15", "fi": "iso-8859-15", "ca": "iso-8859-15", "cs": "iso-8859-2"}


def _say_festival(voice: RecordedVoice, text: str, _variant: str) -> Spoken:
    with tempfile.TemporaryDirectory() as folder:
        sound, script = Path(folder, "sound.wav"), Path(folder, "say.scm")
        script.write_bytes(
            f'(voice_{voice.name})\n(set! u (utt.synth (Utterance Text "{text}")))\n'
            '(mapcar (lambda (s) (format t "%s %f\\n" (item.name s) (item.feat s \'segment_end)))'
            f" (utt.relation.items u 'Segment))\n"
            f'(utt.save.wave u "{sound.as_posix()}" \'riff)\n'.encode(_ENCODINGS.get(voice.language, "utf-8"))
        )
        printed = run_program(["festival", "--batch", script], f"speaking with {voice.label}")
        samples, rate_hz = _read_wav(sound)
    ends = re.findall(r"^(\S+) ([\d.]+)$", printed.decode("utf-8", "replace"), re.MULTILINE)
    return Spoken(samples, rate_hz, tuple((name, float(end)) for name, end in ends))


def _say_espeak(voice: RecordedVoice, text: str, variant: str) -> Spoken:
    # in a process of its own: the library keeps a state from one text to the next
    command = [sys.executable, "-S", str(Path(__file__).with_name("espeak_child.py")), voice.name + variant]
    printed = run_program(command, f"speaking with {voice.label}", text.encode())
    head, _, sound = printed.partition(b"\n")
    told = json.loads(head)
    samples = np.frombuffer(sound, dtype="<i2") / 32768
    starts = [(name, start) for name, start in told["phones"] if not name.startswith("(")]  # "(en)": another language
    for number, (name, start) in enumerate(starts):
        if name[:1] in _BURSTS:
            earlier = starts[number - 1][1] if number else 0.0
            starts[number] = name, max(start - 0.05, (start + earlier) / 2)
    stops = [*(start for _, start in starts[1:]), len(samples) / told["rate_hz"]]
    ends = tuple((name, stop) for (name, _), stop in zip(starts, stops, strict=True))
    return Spoken(samples, told["rate_hz"], (("", starts[0][1]), *ends) if starts else ())


_BURSTS = ("p", "t", "k", "c", "ʈ")  # espeak-ng tells when they are released, not when they are closed
_SPEAKERS: Mapping[str, Callable[[RecordedVoice, str, str], Spoken]] = {
    "flite": _say_flite,
    "festival": _say_festival,
    "espeak-ng": _say_espeak,
}


def _read_wav(path: Path) -> tuple[np.ndarray, int]:
    try:
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
            return samples / 32768, file.getframerate()
    except (OSError, wave.Error, EOFError) as error:
        raise MediaError(f"{path.name}: the program wrote no sound that can be read ({error})") from error
