"""Does a mouth move with a sound? Its lower lip against the loudness of a voice, 25 times a second, without a network.

The lip goes down where the voice gets louder. On 14 real clips of 4 to 14 s, the right one of two faces had the higher
correlation in 99 of 100 pairs (of 2 s: 90), and the mouth was 1.5 frames ahead of its sound on average. Points, bands
and smoothing were chosen on these very clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from data.faces.alignment import MOUTH, three_points
from options.config import AudioConfig

LEAD_FRAMES = 1.5  # by which a mouth is ahead of its own sound
MOST_LAG = 15  # frames
NATURAL_LAGS = range(5)  # of clips whose sound and picture belong together
_NOSE, _LOWER_LIP = 33, 57  # of the 68 points: below the nose, lower edge of the lower lip
_VOICE_BANDS = slice(5, 50)  # of the spectrogram: up to 3 kHz
_SLOW_FRAMES = 12.0  # what changes slower is posture and background, not speech
_APART = 4  # frames from the best lag on: another peak
_CLEAR, _AHEAD = 5.5, 0.15  # see `MouthFit.is_clear`
_FITS = 3.5


def lip_heights(landmarks: np.ndarray) -> np.ndarray:
    """How far the lower lip is below the nose, in parts of the distance from eyes to mouth, slow changes taken out.

    Args:
        landmarks: (T, 68, 2) float, without NaN.

    Returns:
        (T,) float64, mean about 0.
    """
    eyes = three_points(landmarks)[:, :2].mean(axis=1)
    scale = np.median(np.linalg.norm(landmarks[:, MOUTH].mean(axis=1) - eyes, axis=1))
    heights = np.linalg.norm(landmarks[:, _LOWER_LIP] - landmarks[:, _NOSE], axis=1)
    return _quick(heights / max(float(scale), 1e-9))


def voice_levels(mel: np.ndarray, num_frames: int) -> np.ndarray:
    """Loudness of a voice during each frame, slow changes taken out; silence behind the end of the sound.

    Args:
        mel: (M, 80), see `data.audio.log_mel`, from the start of frame 0 on.

    Returns:
        (num_frames,) float64, mean about 0.
    """
    per_frame = AudioConfig.bins_per_frame
    bins = np.zeros(per_frame * num_frames)
    loud = mel[: len(bins), _VOICE_BANDS].mean(axis=1)
    bins[: len(loud)] = loud
    return _quick(bins.reshape(num_frames, per_frame).mean(axis=1))


def _quick(track: np.ndarray) -> np.ndarray:
    return track - gaussian_filter1d(track, _SLOW_FRAMES)


@dataclass(frozen=True)
class MouthFit:
    """How well a mouth and a sound fit.

    correlations: (2 * MOST_LAG + 1,), with the sound that is k - MOST_LAG frames later.
    """

    correlations: np.ndarray
    num_frames: int

    @property
    def lag(self) -> int:
        """Frames by which the sound comes after the mouth, where both fit best."""
        return int(np.argmax(self.correlations)) - MOST_LAG

    @property
    def late_frames(self) -> float:
        """How much later the sound comes than that of a clip in which both belong together; negative: earlier."""
        return self.lag - LEAD_FRAMES

    @property
    def natural(self) -> float:
        """The correlation of a clip whose sound and picture belong together."""
        return float(self.correlations[[MOST_LAG + lag for lag in NATURAL_LAGS]].max())

    @property
    def is_clear(self) -> bool:
        """Whether `lag` can be believed: the correlation is beyond chance and without a rival at another lag.

        Of real clips with their own sound 7 of 14 were, all 4 of 9 s and more; with another's, none of 12 of 8 s.
        """
        best = float(self.correlations.max())
        far = np.abs(np.arange(-MOST_LAG, MOST_LAG + 1) - self.lag) > _APART
        return best * np.sqrt(self.num_frames) >= _CLEAR and best - float(self.correlations[far].max()) >= _AHEAD

    @property
    def goes_together(self) -> bool:
        """Whether the mouth moves with the sound, as far as that can be told."""
        return self.is_clear or self.natural * np.sqrt(self.num_frames) >= _FITS


def mouth_fit(pieces: Sequence[tuple[np.ndarray, np.ndarray]]) -> MouthFit:
    """Compares mouths and sounds of pieces of one recording.

    Args:
        pieces: (T,) `lip_heights` and (T,) `voice_levels` of each.
    """
    correlations = []
    for lag in range(-MOST_LAG, MOST_LAG + 1):
        both = lips_power = sound_power = 0.0
        for lips, sound in pieces:
            a, b = (lips[: len(lips) - lag], sound[lag:]) if lag >= 0 else (lips[-lag:], sound[:lag])
            if len(a) > 1:
                a, b = a - a.mean(), b - b.mean()
                both, lips_power, sound_power = both + a @ b, lips_power + a @ a, sound_power + b @ b
        power = np.sqrt(lips_power * sound_power)
        correlations.append(both / power if power > 1e-12 else 0.0)
    return MouthFit(np.array(correlations), sum(len(lips) for lips, _ in pieces))
