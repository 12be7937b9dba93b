"""How synthetic people sound: a seed in, 16 kHz sound and timed phones out, by whatever voices there are; seconds.

    speech = speak(seed=1, speaker_seed=7, femininity=0.9, num_samples=64000)
    mouth = mouth_track(speech.phonemes, times_s)

A person keeps a voice: one of the recorded ones that are installed (`recorded`), made the person's own by pitch and
formants, or the formant voice, which is always there. People from FIRST_HELD_OUT on speak with voices, and say
sentences, that the others never use.
"""

from __future__ import annotations

import dataclasses
import io
import wave as wave_files
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

from data.synthetic import formant
from data.synthetic.phones import RESTING, SILENCE, VOWELS, Phoneme, mouth_track
from data.synthetic.recorded import HELD_OUT_VOICES, RecordedVoice, Spoken, installed_voices, say, translate
from data.synthetic.sound import SPEECH_LEVEL, Variation, degrade, fill_pauses, level_of, vary
from data.synthetic.texts import make_text
from options.config import SAMPLE_RATE_HZ
from util.errors import MediaError
from util.seed import generator_for

__all__ = [
    "FIRST_HELD_OUT",
    "FORMANT",
    "Phoneme",
    "Speech",
    "as_wav",
    "choose_voice",
    "mouth_track",
    "say_clearly",
    "sources",
    "speak",
]

FIRST_HELD_OUT = 50000  # people from this seed on are for measuring, never for training
_PEOPLE = 100000  # speaker seeds repeat what they mean after so many: `make_synthetic_data.py --seed`
FORMANT = "formant"
_FORMANT_SHARE, _RULES_SHARE = 0.1, 0.2  # of the people speak with the formant voice, with espeak-ng
_PHONES_PER_SECOND = (9.5, 16.0)
_WORDS_PER_SECOND = 4.5  # more than anybody says
_LEAST_PAUSE_S, _HELD = 0.09, "q"


@dataclass(frozen=True)
class Speech:
    """wave: (N,) float32 in [-1, 1] at 16 kHz.  phonemes: from 0 to its end, without gaps.  voice: whose it is."""

    wave: np.ndarray
    phonemes: tuple[Phoneme, ...]
    voice: str


def is_held_out(speaker_seed: int) -> bool:
    """Whether a person is one of those whom no training sees or hears."""
    return speaker_seed % _PEOPLE >= FIRST_HELD_OUT


def sources() -> str:
    """The voices that speak here, in a line for the user."""
    counts = {"flite": 0, "festival": 0, "espeak-ng": 0}
    for voice in installed_voices():
        counts[voice.program] += 1
    found = [f"{program} ({count} voices)" for program, count in counts.items() if count]
    return ", ".join(["the formant voice", *found])


def choose_voice(speaker_seed: int, femininity: float) -> RecordedVoice | None:
    """The voice a person speaks with; None: the formant voice."""
    rng = generator_for(speaker_seed, 221)
    voices = [v for v in installed_voices() if (v.label in HELD_OUT_VOICES) == is_held_out(speaker_seed)]
    if not voices or rng.random() < _FORMANT_SHARE:
        return None
    rules = [v for v in voices if v.program == "espeak-ng"]
    recorded = [v for v in voices if v.program != "espeak-ng"]
    if not recorded or (rules and rng.random() < _RULES_SHARE):
        return rules[rng.integers(len(rules))]
    odds = np.array([1 - 0.9 * abs((0.5 if v.femininity is None else v.femininity) - femininity) for v in recorded])
    return recorded[rng.choice(len(recorded), p=odds / odds.sum())]


def speak(seed: int, speaker_seed: int, femininity: float, num_samples: int) -> Speech:
    """What a person says, as a microphone hears it.

    Args:
        seed: of the clip: words, tempo, room, noise.
        speaker_seed, femininity: of the person, see `Identity`.

    Raises:
        MediaError: a speech program fails.
    """
    rng = generator_for(seed, 222)
    own = formant.make_voice(speaker_seed, femininity)
    recorded = choose_voice(speaker_seed, femininity)
    seconds = num_samples / SAMPLE_RATE_HZ
    if recorded is None:
        timeline = formant.make_phonemes(seed, seconds, own.rate)
        wave = formant.synthesize(timeline, own, seed, num_samples).astype(np.float64)
    else:
        wave, timeline = _recite(recorded, seed, speaker_seed, femininity, seconds, rng)
        wave, timeline = _cut(wave, timeline, num_samples, rng)
    timeline = fill_pauses(wave, timeline, own, seed, rng)
    return Speech(degrade(wave, rng), tuple(timeline), FORMANT if recorded is None else recorded.label)


def say_clearly(label: str, text: str) -> Speech:
    """A text in a recorded voice as its program speaks it, without room or noise.

    Raises:
        MediaError: that voice is not installed, or its program fails.
    """
    voice = next((one for one in installed_voices() if one.label == label), None)
    if voice is None:
        raise MediaError(f"the voice {label} is not installed; docs/synthetic.md lists the packages")
    spoken = say(voice, text)
    wave = resample_poly(spoken.wave, SAMPLE_RATE_HZ, spoken.rate_hz)
    wave = wave * (SPEECH_LEVEL / max(level_of(wave), 1e-6))
    timeline = phonemes_of(voice, spoken)
    return Speech(np.clip(wave, -1, 1).astype(np.float32), tuple(stressed(wave, timeline)), label)


def _recite(
    voice: RecordedVoice, seed: int, speaker_seed: int, femininity: float, seconds: float, rng: np.random.Generator
) -> tuple[np.ndarray, list[Phoneme]]:
    """Text in a recorded voice that was made the person's own, longer than needed; the level is SPEECH_LEVEL."""
    person = generator_for(speaker_seed, 223)
    variant = ""
    if voice.femininity is None:
        variant = f"+f{person.integers(1, 5)}" if femininity > 0.5 else f"+m{person.integers(1, 8)}"
    spoken = say(
        voice, make_text(seed, voice.language, int(_WORDS_PER_SECOND * seconds) + 6, is_held_out(speaker_seed)), variant
    )
    timeline = phonemes_of(voice, spoken)
    tract = float(np.clip(1 + 0.07 * person.standard_normal(), 0.86, 1.16))
    pitch = tract**1.5 * float(np.exp(0.16 * np.clip(person.standard_normal(), -2, 2)))
    pace = sum(p.name not in RESTING for p in timeline) / max(_speaking_time(timeline), 0.1)
    wanted = person.uniform(*_PHONES_PER_SECOND) * rng.uniform(0.9, 1.1)
    change = Variation(
        pitch, tract, float(np.clip(pace / wanted, 0.6, 1.4)), float(rng.uniform(0, 0.12)), float(rng.uniform(0, 0.15))
    )
    wave, timeline = vary(spoken.wave, spoken.rate_hz, timeline, change, rng)
    wave = wave * (SPEECH_LEVEL / max(level_of(wave), 1e-6))
    return wave, stressed(wave, timeline)


def _speaking_time(timeline: Sequence[Phoneme]) -> float:
    return sum(p.end_s - p.start_s for p in timeline if p.name not in RESTING)


def phonemes_of(voice: RecordedVoice, spoken: Spoken) -> list[Phoneme]:
    """A program's phones as a timeline of ours, without gaps; what follows the last one is silence.

    A pause too short to close the mouth in is taken for a glottal stop.
    """
    timeline: list[Phoneme] = []
    start = 0.0
    for name, end in [*spoken.ends, ("", len(spoken.wave) / spoken.rate_hz)]:
        names = translate(voice, name) if name else [SILENCE]
        edges = np.linspace(start, max(end, start), len(names) + 1)
        for phone, a, b in zip(names, edges[:-1], edges[1:], strict=True):
            if timeline and phone == timeline[-1].name == SILENCE:
                timeline[-1] = dataclasses.replace(timeline[-1], end_s=float(b))
            elif b > a:
                timeline.append(Phoneme(phone, float(a), float(b)))
        start = max(end, start)
    return [
        dataclasses.replace(p, name=_HELD) if p.name == SILENCE and p.end_s - p.start_s < _LEAST_PAUSE_S else p
        for p in timeline
    ]


def stressed(wave: np.ndarray, timeline: Sequence[Phoneme]) -> list[Phoneme]:
    """Vowels get their stress by how loud they are beside the others of the clip: 1 % for every 0.5 dB."""
    loudness = {}
    for number, phoneme in enumerate(timeline):
        if phoneme.name in VOWELS:
            piece = wave[int(phoneme.start_s * SAMPLE_RATE_HZ) : int(phoneme.end_s * SAMPLE_RATE_HZ)]
            loudness[number] = 10 * np.log10(np.mean(piece**2) + 1e-8) if len(piece) else -80.0
    usual = float(np.median(list(loudness.values()) or [0.0]))
    return [
        dataclasses.replace(p, stress=float(np.clip(1 + (loudness[n] - usual) / 50, 0.75, 1.2))) if n in loudness else p
        for n, p in enumerate(timeline)
    ]


def _cut(
    wave: np.ndarray, timeline: Sequence[Phoneme], num_samples: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[Phoneme]]:
    """Exactly `num_samples`, from somewhere in the text, with some of the pauses made longer."""
    latest = max(len(wave) - num_samples, 0) / SAMPLE_RATE_HZ
    begin = float(rng.uniform(0, latest)) if rng.random() < 0.6 else 0.0
    pieces: list[np.ndarray] = []
    out: list[Phoneme] = []
    now = 0.0

    for phoneme in timeline:
        if phoneme.end_s <= begin:
            continue
        first, last = (int(t * SAMPLE_RATE_HZ) for t in (max(phoneme.start_s, begin), phoneme.end_s))
        piece = wave[first:last]
        if phoneme.name == SILENCE and rng.random() < 0.25:
            middle = len(piece) // 2
            rest = np.zeros(int(rng.uniform(0.2, 1.2) * SAMPLE_RATE_HZ))
            piece = np.concatenate([piece[:middle], rest, piece[middle:]])
        if len(piece) == 0:
            continue
        pieces.append(piece)
        out.append(dataclasses.replace(phoneme, start_s=now, end_s=now + len(piece) / SAMPLE_RATE_HZ))
        now = out[-1].end_s
        if now * SAMPLE_RATE_HZ >= num_samples:
            break
    cut = np.concatenate(pieces)[:num_samples] if pieces else np.zeros(0)
    end = num_samples / SAMPLE_RATE_HZ
    if len(cut) < num_samples:
        out.append(Phoneme(SILENCE, now, end))
        cut = np.pad(cut, (0, num_samples - len(cut)))
    out[-1] = dataclasses.replace(out[-1], end_s=end)
    return cut, out


def as_wav(samples: np.ndarray) -> bytes:
    """(N,) float in [-1, 1] at 16 kHz as a 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave_files.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
