"""What becomes of a voice: other pitch, formants and tempo; breath and laughter; room, noise, music, telephone, codecs.

Sound is mono at 16 kHz, (N,) float64, times in seconds. Nothing here moves a phone against its sound but `vary`, which
returns the new times.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal

from data.synthetic.formant import Voice, synthesize
from data.synthetic.phones import BREATH, LAUGH, SILENCE, Phoneme
from options.config import SAMPLE_RATE_HZ
from util.ffmpeg import decode_audio_pieces, run_ffmpeg

SPEECH_LEVEL = 0.1  # RMS before `degrade`
_LEAST_PITCH_HZ, _LARGEST_PITCH_HZ = 60.0, 500.0
_FORMANT_STEPS = 50  # formants move by whole steps of one in so many


@dataclass(frozen=True)
class Variation:
    """How a recorded voice is changed. pitch, formants: factors.  seconds: factor of lengths.

    wobble, drift: how far pitch and tempo wander over a clip, standard deviation of their logarithm.
    """

    pitch: float = 1.0
    formants: float = 1.0
    seconds: float = 1.0
    wobble: float = 0.0
    drift: float = 0.0


def vary(
    wave: np.ndarray, rate_hz: int, timeline: Sequence[Phoneme], change: Variation, rng: np.random.Generator
) -> tuple[np.ndarray, list[Phoneme]]:
    """Changes a voice by overlap-add of pitch periods (Praat, by the package praat-parselmouth).

    Args:
        wave: (N,) at rate_hz.

    Returns:
        the sound at 16 kHz, and the timeline as it is spoken now.
    """
    import parselmouth
    from parselmouth.praat import call, run

    run(
        f"random_initializeWithSeedUnsafelyButPredictably: {rng.integers(2**31)}"
    )  # unvoiced sound is put together anew
    # a shorter sound played at the same rate has higher formants; the length comes back with the tempo
    steps = max(round(_FORMANT_STEPS * change.formants), 1)
    squeezed = scipy.signal.resample_poly(wave, SAMPLE_RATE_HZ * _FORMANT_STEPS, rate_hz * steps)
    squeeze = _FORMANT_STEPS / steps
    manipulation = call(
        parselmouth.Sound(squeezed, SAMPLE_RATE_HZ), "To Manipulation", 0.01, _LEAST_PITCH_HZ, _LARGEST_PITCH_HZ
    )
    pitch = call(manipulation, "Extract pitch tier")
    if call(pitch, "Get number of points"):
        waves = [
            f"{change.wobble * weight:.5f} * sin({rng.uniform(2, 12):.5f} * x + {rng.uniform(0, 6.3):.5f})"
            for weight in (1.0, 0.7, 0.7)
        ]
        call(pitch, "Formula", f"self * {change.pitch * squeeze:.5f} * exp({' + '.join(waves)})")
        call([pitch, manipulation], "Replace pitch tier")
    length = len(squeezed) / SAMPLE_RATE_HZ
    knots = np.linspace(0, length, max(round(length / 0.5), 1) + 1)
    stretch = change.seconds / squeeze * np.exp(change.drift * rng.standard_normal(len(knots)))
    duration = call(manipulation, "Extract duration tier")
    for knot, value in zip(knots, stretch, strict=True):
        call(duration, "Add point", float(knot), float(value))
    call([duration, manipulation], "Replace duration tier")
    spoken = call(manipulation, "Get resynthesis (overlap-add)").values[0]
    clock = np.linspace(0, length, 16 * len(knots))
    rates = np.interp(clock, knots, stretch)
    passed = np.concatenate([[0], np.cumsum((rates[1:] + rates[:-1]) / 2 * np.diff(clock))])

    def moved(time_s: float) -> float:
        return float(np.interp(time_s * squeeze, clock, passed))

    return spoken, [
        dataclasses.replace(p, start_s=moved(p.start_s), end_s=moved(p.end_s)) for p in timeline if p.end_s > p.start_s
    ]


def level_of(wave: np.ndarray) -> float:
    """RMS where something is heard; 0 for silence."""
    heard = wave[np.abs(wave) > 1e-4]
    return float(np.sqrt(np.mean(heard**2))) if len(heard) else 0.0


def fill_pauses(
    wave: np.ndarray, timeline: Sequence[Phoneme], voice: Voice, seed: int, rng: np.random.Generator
) -> list[Phoneme]:
    """Breathes and laughs, lips closed, in some of the pauses; adds to `wave` and returns the timeline with them."""
    filled: list[Phoneme] = []
    for phoneme in timeline:
        room = phoneme.end_s - phoneme.start_s - 0.12
        draw = rng.random()
        if phoneme.name != SILENCE or room < 0.2 or draw > 0.5:
            filled.append(phoneme)
            continue
        laughs = draw < 0.12 and room > 0.45
        seconds = min(room, float(rng.uniform(0.5, 1.2) if laughs else rng.uniform(0.2, 0.5)))
        start = phoneme.start_s + 0.06 + float(rng.uniform(0, room - seconds))
        sound = _laugh(voice, seconds, seed, rng) if laughs else _breath(seconds, rng)
        first = int(start * SAMPLE_RATE_HZ)
        piece = wave[first : first + len(sound)]
        piece += sound[: len(piece)]
        name = LAUGH if laughs else BREATH
        filled += [
            Phoneme(SILENCE, phoneme.start_s, start),
            Phoneme(name, start, start + seconds),
            Phoneme(SILENCE, start + seconds, phoneme.end_s),
        ]
    return filled


def _breath(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Air through the nose, in or out."""
    count = int(seconds * SAMPLE_RATE_HZ)
    low = rng.uniform(250, 900)
    sos = scipy.signal.butter(1, [low, low * rng.uniform(3, 7)], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    noise = scipy.signal.sosfilt(sos, rng.standard_normal(count))
    rise = np.linspace(0, 1, count) ** rng.uniform(0.5, 2)
    return rng.uniform(0.06, 0.3) * SPEECH_LEVEL * noise / noise.std() * np.sin(np.pi * rise)


def _laugh(voice: Voice, seconds: float, seed: int, rng: np.random.Generator) -> np.ndarray:
    """Hm, hm, hm, with the lips closed."""
    timeline: list[Phoneme] = []
    now, beat = 0.0, float(rng.uniform(0.16, 0.24))
    while now < seconds:
        timeline += [Phoneme("m", now, now + 0.45 * beat), Phoneme(SILENCE, now + 0.45 * beat, now + beat)]
        now += beat
    merry = dataclasses.replace(voice, pitch_hz=voice.pitch_hz * rng.uniform(1.1, 1.5), breathiness=0.5)
    sound = synthesize(timeline, merry, seed, int(seconds * SAMPLE_RATE_HZ)).astype(np.float64)
    return rng.uniform(0.2, 0.8) * sound * np.linspace(1, 0.4, len(sound))


# ------------------------------------------------------------------------------------------------------ degradation


def degrade(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A recording of a voice: room, microphone, noise, music, telephone, codec, level; some stay clean.

    Returns:
        (N,) float32 in [-1, 1].
    """
    wave = wave.astype(np.float64)
    if rng.random() < 0.75:
        if rng.random() < 0.5:
            wave = _room(wave, rng)
        if rng.random() < 0.5:
            wave = _equalise(wave, rng)
        if rng.random() < 0.6:
            wave = wave + _beside(wave, _noise(len(wave), rng), rng.uniform(10, 40))
        if rng.random() < 0.25:
            wave = wave + _beside(wave, _music(len(wave), rng), rng.uniform(5, 25))
        draw = rng.random()
        if draw < 0.1:
            wave = _telephone(wave)
        elif draw < 0.3:
            wave = _coded(wave, rng)
    wave = wave * 10 ** (rng.uniform(-16, 4) / 20)
    return (0.95 * np.tanh(wave / 0.95)).astype(np.float32)


def _beside(wave: np.ndarray, other: np.ndarray, below_db: float) -> np.ndarray:
    """`other` at so many dB below the voice."""
    return other / max(level_of(other), 1e-6) * (level_of(wave) or SPEECH_LEVEL) * 10 ** (-below_db / 20)


def _room(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Direct sound, and an echo that dies away by 60 dB in 0.15 to 0.7 s."""
    fall = float(rng.uniform(0.15, 0.7))
    count = int(fall * SAMPLE_RATE_HZ)
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail[: int(rng.uniform(0.002, 0.012) * SAMPLE_RATE_HZ)] = 0
    tail *= 10 ** (-rng.uniform(2, 18) / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1
    return scipy.signal.fftconvolve(wave, tail)[: len(wave)]


def _equalise(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A microphone and where it stands: a smooth curve of a few dB over the logarithm of the frequency."""
    frequency = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE_HZ)
    gain_db = np.interp(np.log(frequency + 30), np.log([80, 250, 700, 2000, 5000, 8000]), 4 * rng.standard_normal(6))
    return np.fft.irfft(np.fft.rfft(wave) * 10 ** (gain_db / 20), len(wave))


def _noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """White to brown, swelling slowly."""
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(samples)) / np.maximum(frequency, 40) ** (rng.uniform(0, 2) / 2)
    knots = np.exp(rng.uniform(0, 0.6) * rng.standard_normal(samples // SAMPLE_RATE_HZ + 2))
    swell = np.interp(np.arange(samples) / SAMPLE_RATE_HZ, np.arange(len(knots)), knots)
    return np.fft.irfft(spectrum, samples) * swell


def _music(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Plucked chords with a bass, and a cymbal on the beat."""
    beat = int(rng.uniform(0.25, 0.6) * SAMPLE_RATE_HZ)
    time = np.arange(2 * beat) / SAMPLE_RATE_HZ
    fade = np.exp(-time * rng.uniform(2, 6)) * np.minimum(time / 0.005, 1)
    root = rng.uniform(90, 180)
    scale = 2 ** (np.array([0, 2, 4, 5, 7, 9, 11]) / 12)
    out = np.zeros(samples + 2 * beat)
    for start in range(0, samples, beat):
        degree = int(rng.integers(7))
        notes = [root / 2 * scale[degree]] + [root * 2 * scale[(degree + k) % 7] for k in (0, 2, 4)]
        for note in notes:
            overtones = range(1, int(min(6, 7000 / note)) + 1)
            out[start : start + 2 * beat] += fade * sum(np.sin(2 * np.pi * note * k * time) / k**1.5 for k in overtones)
        out[start : start + 2 * beat] += 0.3 * rng.standard_normal(2 * beat) * np.exp(-time * 60)
    return out[:samples]


def _telephone(wave: np.ndarray) -> np.ndarray:
    """300 to 3400 Hz and the 8 bits of mu-law (G.711)."""
    sos = scipy.signal.butter(4, [300, 3400], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    band = np.clip(scipy.signal.sosfilt(sos, wave), -1, 1)
    code = np.round(127 * np.sign(band) * np.log1p(255 * np.abs(band)) / np.log(256))
    return np.sign(code) * (256 ** (np.abs(code) / 127) - 1) / 255


_CODECS = (("libmp3lame", "mp3", (24, 32, 48)), ("libopus", "opus", (8, 12, 16)), ("aac", "m4a", (20, 32)))


def _coded(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a codec at a low rate."""
    encoder, suffix, rates = _CODECS[rng.integers(len(_CODECS))]
    kilobits = int(rates[rng.integers(len(rates))])
    with tempfile.TemporaryDirectory() as folder:
        raw, coded = Path(folder, "sound.raw"), Path(folder, f"sound.{suffix}")
        wave.astype("<f4").tofile(raw)
        source: list[str | Path] = ["-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1", "-i", raw]
        run_ffmpeg([*source, "-c:a", encoder, "-b:a", f"{kilobits}k", coded], f"coding sound with {encoder}")
        pieces = b"".join(decode_audio_pieces(coded, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ))
        heard = np.frombuffer(pieces, dtype="<f4").astype(np.float64)[: len(wave)]
    return np.pad(heard, (0, len(wave) - len(heard)))
