"""A formant-synthesised voice that babbles: 16 kHz sound, times in seconds, frequencies in Hz.

Source and filter: a glottal pulse train (or noise) through seven resonances, plus noise of its own for fricatives and
bursts. Formants of the vowels: Peterson and Barney 1952, men; a speaker's tract length scales them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import scipy.signal

from data.synthetic.phones import SILENCE, Phoneme
from options.config import SAMPLE_RATE_HZ
from util.seed import generator_for

_BLOCK = 64  # samples that share one set of filter coefficients: 4 ms
_CONTROL_HZ = SAMPLE_RATE_HZ / _BLOCK


@dataclass(frozen=True)
class Sound:
    """How a phone sounds; how it looks stands in `phones`.

    formants_hz: F1-F3 of a man.  seconds: usual length.  voicing, breath: 0..1 into the tract.
    noise_hz, noise_width_hz, noise: band and strength of its own noise.  closure: whether it is a stop.
    """

    formants_hz: tuple[float, float, float]
    seconds: float
    voicing: float = 1.0
    breath: float = 0.0
    noise_hz: float = 0.0
    noise_width_hz: float = 0.0
    noise: float = 0.0
    closure: bool = False
    nasal: bool = False


_Formants = tuple[float, float, float]
_Band = tuple[float, float]


def _stop(formants: _Formants, voiced: bool, band: _Band) -> Sound:
    seconds, voicing = (0.075, 0.22) if voiced else (0.10, 0.0)
    return Sound(formants, seconds, voicing, noise_hz=band[0], noise_width_hz=band[1], noise=0.9, closure=True)


def _fricative(formants: _Formants, voiced: bool, band: _Band, noise: float) -> Sound:
    seconds, voicing = (0.085, 0.45) if voiced else (0.11, 0.0)
    return Sound(formants, seconds, voicing, noise_hz=band[0], noise_width_hz=band[1], noise=noise)


_LABIAL: _Formants = (300, 900, 2200)
_CORONAL: _Formants = (320, 1700, 2600)
_VELAR: _Formants = (320, 1900, 2400)
VOWELS = {
    "iy": Sound((270, 2290, 3010), 0.12),
    "ih": Sound((390, 1990, 2550), 0.09),
    "eh": Sound((530, 1840, 2480), 0.11),
    "ae": Sound((660, 1720, 2410), 0.14),
    "aa": Sound((730, 1090, 2440), 0.15),
    "ah": Sound((640, 1190, 2390), 0.11),
    "ao": Sound((570, 840, 2410), 0.14),
    "uh": Sound((440, 1020, 2240), 0.09),
    "uw": Sound((300, 870, 2240), 0.13),
    "er": Sound((490, 1350, 1690), 0.12),
}
CONSONANTS = {
    "p": _stop(_LABIAL, False, (900, 900)),
    "b": _stop(_LABIAL, True, (700, 700)),
    "t": _stop(_CORONAL, False, (4200, 1600)),
    "d": _stop(_CORONAL, True, (3800, 1500)),
    "k": _stop(_VELAR, False, (2200, 900)),
    "g": _stop(_VELAR, True, (2000, 900)),
    "m": Sound((260, 1000, 2200), 0.08, 0.55, nasal=True),
    "n": Sound((270, 1450, 2500), 0.075, 0.55, nasal=True),
    "ng": Sound((280, 1900, 2450), 0.08, 0.5, nasal=True),
    "f": _fricative(_LABIAL, False, (5200, 3800), 0.16),
    "v": _fricative(_LABIAL, True, (4800, 3500), 0.06),
    "th": _fricative((350, 1400, 2500), False, (6000, 3200), 0.14),
    "s": _fricative(_CORONAL, False, (6200, 1300), 0.60),
    "z": _fricative(_CORONAL, True, (6000, 1300), 0.38),
    "sh": _fricative((350, 1800, 2500), False, (3400, 1100), 0.65),
    "zh": _fricative((350, 1800, 2500), True, (3200, 1100), 0.40),
    "h": Sound((500, 1500, 2500), 0.07, 0.0, 0.55),
    "w": Sound((310, 700, 2200), 0.075, 0.85),
    "y": Sound((280, 2200, 2950), 0.07, 0.85),
    "l": Sound((360, 1200, 2700), 0.075, 0.85),
    "r": Sound((330, 1150, 1600), 0.075, 0.85),
}
SOUNDS = {SILENCE: Sound((500, 1500, 2500), 0.3, 0.0), **VOWELS, **CONSONANTS}
_DIPHTHONGS = (("eh", "iy"), ("aa", "ih"), ("ao", "uw"), ("aa", "uw"))
_CLUSTERS = (
    ("p", "l"),
    ("p", "r"),
    ("t", "r"),
    ("k", "l"),
    ("k", "r"),
    ("s", "t"),
    ("s", "p"),
    ("f", "l"),
    ("b", "r"),
    ("g", "r"),
)
_CODAS = ("m", "n", "ng", "p", "b", "t", "d", "k", "s", "z", "f", "v", "sh", "l", "r", "th")


@dataclass(frozen=True)
class Voice:
    """A speaker's sound."""

    pitch_hz: float
    pitch_range: float  # share of the pitch that intonation moves up and down
    tract_length: float  # 1: a man's; formants are divided by it
    jitter: float  # random share of each period
    breathiness: float  # 0..1
    tilt_hz: float  # above this the source falls off faster: lower is softer
    rate: float  # 1: usual lengths; larger is faster


def make_voice(seed: int, femininity: float) -> Voice:
    """Draws a voice; femininity 0..1 moves pitch and tract length between the sexes."""
    rng = generator_for(seed, 201)
    spread = np.clip(rng.standard_normal(2), -2, 2)
    return Voice(
        pitch_hz=float(np.exp(np.interp(femininity, [0, 1], np.log([112, 205])) + 0.13 * spread[0])),
        pitch_range=float(rng.uniform(0.10, 0.24)),
        tract_length=float(np.interp(femininity, [0, 1], [1.0, 0.86]) + 0.035 * spread[1]),
        jitter=float(rng.uniform(0.004, 0.015)),
        breathiness=float(rng.uniform(0.02, 0.12)),
        tilt_hz=float(rng.uniform(1800, 4500)),
        rate=float(rng.uniform(0.85, 1.15)),
    )


def make_phonemes(seed: int, seconds: float, rate: float = 1.0) -> list[Phoneme]:
    """Babble: words of one to three syllables in phrases with pauses, from 0 to exactly `seconds`."""
    rng = generator_for(seed, 202)
    timeline: list[Phoneme] = []
    now = _append(timeline, SILENCE, 0.0, float(rng.uniform(0.04, 0.4)), 1.0)
    while now < seconds:
        for _ in range(int(rng.integers(2, 7))):
            for syllable in range(int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))):
                stress = 1.15 if syllable == 0 else 0.9
                for name, share in _syllable(rng):
                    length = SOUNDS[name].seconds * share * stress * rng.uniform(0.85, 1.2) / rate
                    now = _append(timeline, name, now, float(length), stress)
        now = _append(timeline, SILENCE, now, float(rng.uniform(0.22, 0.7)), 1.0)
    kept = [p for p in timeline if p.start_s < seconds]
    last = kept[-1]
    kept[-1] = Phoneme(last.name, last.start_s, seconds, last.stress)
    return kept


def _append(timeline: list[Phoneme], name: str, now: float, length: float, stress: float) -> float:
    timeline.append(Phoneme(name, now, now + length, stress))
    return now + length


def _syllable(rng: np.random.Generator) -> list[tuple[str, float]]:
    """Sounds of a syllable with their share of the usual length."""
    sounds: list[tuple[str, float]] = []
    kind = rng.random()
    if kind < 0.14:
        sounds += [(name, 0.85) for name in _CLUSTERS[rng.integers(len(_CLUSTERS))]]
    elif kind < 0.88:
        choices = [name for name in CONSONANTS if name != "ng"]
        sounds.append((str(choices[rng.integers(len(choices))]), 1.0))
    if rng.random() < 0.2:
        first, second = _DIPHTHONGS[rng.integers(len(_DIPHTHONGS))]
        sounds += [(first, 0.85), (second, 0.7)]
    else:
        sounds.append((str(list(VOWELS)[rng.integers(len(VOWELS))]), 1.0))
    if rng.random() < 0.35:
        sounds.append((_CODAS[rng.integers(len(_CODAS))], 0.9))
    return sounds


# ------------------------------------------------------------------------------------------------------------ sound


def synthesize(timeline: list[Phoneme], voice: Voice, seed: int, num_samples: int) -> np.ndarray:
    """Speaks a timeline.

    Returns:
        (num_samples,) float32 in [-1, 1], speech at an RMS of about 0.1; silences are exact zeros but for a 20 ms tail.
    """
    rng = generator_for(seed, 203)
    blocks = -(-num_samples // _BLOCK)
    times = (np.arange(blocks) + 0.5) / _CONTROL_HZ
    tracks = _control_tracks(timeline, voice, times)
    source = _glottal_source(timeline, voice, rng, blocks * _BLOCK)
    voicing = _per_sample(tracks["voicing"], blocks)
    breath = _per_sample(tracks["breath"], blocks)
    noise = rng.standard_normal(blocks * _BLOCK)
    excitation = voicing * (source + voice.breathiness * 0.35 * noise) + 0.30 * breath * noise
    wave = _resonate(excitation, tracks["formants"], tracks["bandwidths"])
    wave += _frication(timeline, voice, rng, blocks * _BLOCK)
    wave = wave[:num_samples] * _gate(timeline, num_samples)
    active = wave[np.abs(wave) > 0]
    level = float(np.sqrt(np.mean(active**2))) if len(active) else 1.0
    wave = wave * (0.1 / max(level, 1e-6))
    return (0.95 * np.tanh(wave / 0.95)).astype(np.float32)


def _per_sample(track: np.ndarray, blocks: int) -> np.ndarray:
    return np.interp(np.arange(blocks * _BLOCK), (np.arange(blocks) + 0.5) * _BLOCK, track)


def _control_tracks(timeline: list[Phoneme], voice: Voice, times: np.ndarray) -> dict[str, np.ndarray]:
    """Formants (blocks, 7), bandwidths (blocks, 7), voicing and breath (blocks,), moving smoothly."""
    index = np.clip(np.searchsorted([p.start_s for p in timeline], times, side="right") - 1, 0, len(timeline) - 1)
    formants = np.array([_formants_of(timeline, i) for i in range(len(timeline))])[index]
    glide = scipy.ndimage.gaussian_filter1d(np.log(formants), 0.018 * _CONTROL_HZ, axis=0, mode="nearest")
    high = np.tile([3500.0, 4500.0, 5500.0, 6500.0], (len(times), 1))
    formants = np.concatenate([np.exp(glide), high], axis=1) / voice.tract_length
    nasal = np.array([float(SOUNDS[p.name].nasal) for p in timeline])[index]
    nasal = scipy.ndimage.gaussian_filter1d(nasal, 0.008 * _CONTROL_HZ, mode="nearest")[:, None]
    bandwidths = np.array([70.0, 90, 130, 250, 400, 700, 1000]) * (1 + nasal * np.array([0.6, 2.5, 2.0, 1.0, 1, 1, 1]))
    voicing = np.array([SOUNDS[p.name].voicing * p.stress for p in timeline])[index]
    breath = np.array([SOUNDS[p.name].breath for p in timeline])[index]
    for number, phoneme in enumerate(timeline):
        if phoneme.name in ("p", "t", "k"):  # the vowel starts breathy after a voiceless stop
            release = (times >= phoneme.end_s - 0.018) & (times < phoneme.end_s + 0.025)
            after = timeline[min(number + 1, len(timeline) - 1)].name
            breath = np.where(release & (after in VOWELS), 0.35, breath)
            voicing = np.where(release & (after in VOWELS), 0.0, voicing)
    smooth = 0.006 * _CONTROL_HZ
    return {
        "formants": np.minimum(formants, 7800.0),
        "bandwidths": bandwidths,
        "voicing": scipy.ndimage.gaussian_filter1d(voicing, smooth, mode="nearest"),
        "breath": scipy.ndimage.gaussian_filter1d(breath, smooth, mode="nearest"),
    }


def _formants_of(timeline: list[Phoneme], index: int) -> tuple[float, float, float]:
    name = timeline[index].name
    if name in (SILENCE, "h"):  # the tract is already where the next sound wants it
        later = [p.name for p in timeline[index + 1 : index + 2] if p.name not in (SILENCE, "h")]
        return SOUNDS[later[0] if later else name].formants_hz
    return SOUNDS[name].formants_hz


def _glottal_source(timeline: list[Phoneme], voice: Voice, rng: np.random.Generator, samples: int) -> np.ndarray:
    """Derivative of the glottal flow (KLGLOTT88 pulse) with intonation, jitter and shimmer."""
    seconds = samples / SAMPLE_RATE_HZ
    knots = np.arange(0, seconds + 0.4, 0.18)
    contour = scipy.ndimage.gaussian_filter1d(rng.standard_normal(len(knots)), 1.0, mode="nearest")
    pitch = voice.pitch_hz * np.exp(
        voice.pitch_range * 1.4 * np.interp(np.arange(samples) / SAMPLE_RATE_HZ, knots, contour)
    )
    pitch = pitch * _phrase_fall(timeline, samples)
    cycle = np.cumsum(pitch) / SAMPLE_RATE_HZ
    number = cycle.astype(int)
    wobble = rng.standard_normal(number[-1] + 2)
    pitch = pitch * (1 + voice.jitter * wobble[number])
    cycle = np.cumsum(pitch) / SAMPLE_RATE_HZ
    number = np.minimum(cycle.astype(int), len(wobble) - 1)
    t = (cycle - np.floor(cycle)) / 0.6  # open for 60 % of the period
    pulse = np.where(t < 1, t * (2 - 3 * t), 0) * (1 + 0.04 * rng.standard_normal(len(wobble))[number])
    soften = np.exp(-2 * np.pi * voice.tilt_hz / SAMPLE_RATE_HZ)
    return scipy.signal.lfilter([1 - soften], [1, -soften], pulse)


def _phrase_fall(timeline: list[Phoneme], samples: int) -> np.ndarray:
    """Pitch falls by a fifth over every phrase."""
    fall = np.ones(samples)
    starts = [p.end_s for p in timeline if p.name == SILENCE] or [0.0]
    ends = [*[p.start_s for p in timeline if p.name == SILENCE][1:], samples / SAMPLE_RATE_HZ]
    for start, end in zip(starts, ends, strict=False):
        low, high = int(start * SAMPLE_RATE_HZ), min(int(end * SAMPLE_RATE_HZ), samples)
        if low < high:
            fall[low:high] = np.linspace(1.08, 0.88, high - low)
    return fall


def _resonate(excitation: np.ndarray, formants: np.ndarray, bandwidths: np.ndarray) -> np.ndarray:
    """Seven resonators in series whose coefficients change every block; unit gain at 0 Hz."""
    decay = np.exp(-np.pi * bandwidths / SAMPLE_RATE_HZ)
    a1 = -2 * decay * np.cos(2 * np.pi * formants / SAMPLE_RATE_HZ)
    a2 = decay * decay
    zero = np.zeros_like(a1)
    sections = np.stack([1 + a1 + a2, zero, zero, zero + 1, a1, a2], axis=-1)  # (blocks, 7, 6)
    state = np.zeros((formants.shape[1], 2))
    out = np.empty_like(excitation)
    for block, sos in enumerate(sections):
        piece = slice(block * _BLOCK, (block + 1) * _BLOCK)
        out[piece], state = scipy.signal.sosfilt(sos, excitation[piece], zi=state)
    return out


def _frication(timeline: list[Phoneme], voice: Voice, rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise of fricatives over their length and of stops at their release."""
    out = np.zeros(samples)
    for phoneme in timeline:
        sound = SOUNDS[phoneme.name]
        if sound.noise <= 0:
            continue
        start_s = phoneme.end_s - 0.014 if sound.closure else phoneme.start_s - 0.008
        end_s = phoneme.end_s + 0.008
        start, count = int(start_s * SAMPLE_RATE_HZ), int((end_s - start_s) * SAMPLE_RATE_HZ)
        padded = 1 << (count - 1).bit_length()
        spectrum = np.fft.rfft(rng.standard_normal(padded))
        frequency = np.fft.rfftfreq(padded, 1 / SAMPLE_RATE_HZ)
        centre = min(sound.noise_hz / voice.tract_length, 7000.0)
        spectrum *= np.exp(-0.5 * ((frequency - centre) / sound.noise_width_hz) ** 2)
        burst = np.fft.irfft(spectrum, padded)[:count]
        edge = min(int((0.003 if sound.closure else 0.022) * SAMPLE_RATE_HZ), count // 2)
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
        burst[:edge] *= ramp
        burst[count - edge :] *= ramp[::-1]
        first, last = max(start, 0), min(start + count, samples)
        if first < last:
            out[first:last] += sound.noise * burst[first - start : last - start]
    return out


def _gate(timeline: list[Phoneme], samples: int) -> np.ndarray:
    """0 in silences, 1 in speech; 20 ms for the voice to die away, 5 ms to start."""
    gate = np.ones(samples)
    for phoneme in timeline:
        if phoneme.name == SILENCE:
            start, end = round(phoneme.start_s * SAMPLE_RATE_HZ), round(phoneme.end_s * SAMPLE_RATE_HZ)
            tail, attack = (0 if start == 0 else int(0.02 * SAMPLE_RATE_HZ)), int(0.005 * SAMPLE_RATE_HZ)
            gate[start:end] = 0
            if tail:
                fade = 0.5 + 0.5 * np.cos(np.pi * np.arange(tail) / tail)
                window = gate[start : min(start + tail, end, samples)]
                window[:] = fade[: len(window)]
            window = gate[end : min(end + attack, samples)]
            window[:] = np.linspace(0, 1, attack)[: len(window)]
    return gate
