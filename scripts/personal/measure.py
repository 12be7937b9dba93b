"""What a personal model can do, beside its base and the truth: on held-out film, under head turns, by other voices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from data.audio import log_mel, mel_window
from data.clip_list import ClipRecord
from data.synthetic.voice import FIRST_HELD_OUT, mouth_track, speak
from models.av_model import AvModel
from options.config import ANGLES, FPS, SAMPLE_RATE_HZ, DataConfig
from scripts.personal.drive import (
    drive,
    features_heard,
    features_seen,
    pose_frames,
    read_stretch,
    silence,
    sweep_angles,
)
from scripts.personal.faces import FaceReader, best_shift, correlation, detail, mean
from util.metrics.landmark_distance import landmark_distances
from util.metrics.ssim import ssim
from util.seed import generator_for

MOST_FRAMES = 250  # of the held-out part
SWEEP = np.arange(-25.0, 25.1, 5.0)  # degrees, of yaw and pitch
VOICES, VOICE_S = 2, 3.0
_LIKENESS_EVERY = 2  # frames
_WINDOW, _CANDIDATES = 12, 8  # frames of a window; sounds among which its own is to be found
Figures = dict[str, float]


@dataclass
class Measured:
    """Figures by name, and frames (T, H, W, 3) to be looked at, of one side: base, personal or truth."""

    figures: Figures = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


def measure_truth(reader: FaceReader, held_out: Sequence[ClipRecord], data: DataConfig) -> Measured:
    """The same instruments on the held-out frames themselves."""
    measured = Measured()
    for record in held_out[:1]:
        frames = read_stretch(record, data, MOST_FRAMES).frames
        seen = reader.read(frames, _LIKENESS_EVERY)
        measured.figures = {
            "identity": mean(seen.likeness), "cpbd": float(seen.sharpness.mean()), "detail": 1.0, "ssim": 1.0,
            "lmd": 0.0, "mouth": 1.0, "yaw": 1.0, "pitch": 1.0, "offset": 0.0, "faces": seen.found,
        }  # fmt: skip
        measured.pictures["held out"] = frames
    return measured


def measure_model(
    model: AvModel,
    judge: AvModel,
    reader: FaceReader,
    reference: np.ndarray,
    held_out: Sequence[ClipRecord],
    data: DataConfig,
) -> Measured:
    """All figures of a model that speaks as the person of the reference, (H, W, 3) uint8 RGB.

    Args:
        judge: whose E and A_sync say which sound goes with which mouth: the base, which no training here changes.
    """
    measured = Measured()
    for record in held_out[:1]:
        _add_held_out(measured, model, reader, reference, record, data)
    for number, name in enumerate(ANGLES[:2]):
        _add_sweep(measured, model, reader, reference, number, name, data)
    said, seen, heard = [], [], []
    for number in range(VOICES):
        windows, opening = _voice(number)
        still = pose_frames(np.zeros((1, 3)), data).repeat(len(windows), axis=0)
        made = drive(model, reference[None], still, windows)
        said.append(correlation(reader.read(made, len(made)).opening, opening))
        seen.append(features_seen(judge, made))
        heard.append(features_heard(judge, windows))
        measured.pictures[f"stranger's voice {number + 1}"] = made
    measured.figures |= {"voices": float(np.mean(said)), "voices_found": share_found(seen, heard)}
    return measured


def _add_held_out(
    measured: Measured,
    model: AvModel,
    reader: FaceReader,
    reference: np.ndarray,
    record: ClipRecord,
    data: DataConfig,
) -> None:
    """Own sound and own head motion, against the frames as they were filmed."""
    stretch = read_stretch(record, data, MOST_FRAMES)
    made = drive(model, reference[None], stretch.frames, stretch.windows)
    seen, true = reader.read(made, _LIKENESS_EVERY), reader.read(stretch.frames, len(made))
    distances = landmark_distances(true.points, seen.points)["mouth_mean"]
    measured.figures |= {
        "identity": mean(seen.likeness),
        "cpbd": float(seen.sharpness.mean()),
        "detail": detail(made) / max(detail(stretch.frames), 1e-6),
        "ssim": float(np.mean([ssim(one, other) for one, other in zip(stretch.frames, made, strict=True)])),
        "lmd": mean(distances),
        "mouth": correlation(seen.opening, true.opening),
        "yaw": correlation(seen.angles[:, 0], true.angles[:, 0]),
        "pitch": correlation(seen.angles[:, 1], true.angles[:, 1]),
        "offset": float(best_shift(seen.opening, true.opening)),
        "faces": seen.found,
    }
    measured.pictures["held out"] = made


def _add_sweep(
    measured: Measured,
    model: AvModel,
    reader: FaceReader,
    reference: np.ndarray,
    angle: int,
    name: str,
    data: DataConfig,
) -> None:
    """The drawn head turns from one side to the other; how far the person's does, and whether the face stays whole."""
    angles = sweep_angles(angle, SWEEP.tolist())
    made = drive(model, reference[None], pose_frames(angles, data), silence(len(angles)))
    seen = reader.read(made)
    turned = seen.angles[:, angle]
    known = np.isfinite(turned)
    slope = float(np.polyfit(SWEEP[known], turned[known], 1)[0]) if known.sum() > 2 else 0.0
    measured.figures |= {
        f"{name}_control": correlation(turned, SWEEP),
        f"{name}_slope": slope,
        f"{name}_faces": seen.found,
        f"{name}_identity": mean(seen.likeness),
    }
    measured.pictures[f"{name} {SWEEP[0]:.0f} to {SWEEP[-1]:.0f}"] = made


def _voice(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A stranger's voice: its mel windows, and how far the mouth opens that says it, (T,)."""
    count = round(VOICE_S * FPS)
    speech = speak(900 + number, FIRST_HELD_OUT + 10 + number, float(number % 2), count * SAMPLE_RATE_HZ // FPS)
    mel = log_mel(speech.wave)
    windows = np.stack([mel_window(mel, frame) for frame in range(count)])
    return windows, mouth_track(speech.phonemes, (np.arange(count) + 0.5) / FPS)[:, 0]


def share_found(seen: Sequence[np.ndarray], heard: Sequence[np.ndarray]) -> float:
    """How often the mouth of 12 frames finds its own sound among 8; chance is 1 / 8.

    The other seven are sounds of all voices that do not overlap it.

    Args:
        seen, heard: of every voice (T, D) features, frame by frame.
    """
    lips, sounds = (np.concatenate([_in_windows(part) for part in parts]) for parts in (seen, heard))
    voice = np.concatenate([np.full(len(_in_windows(part)), number) for number, part in enumerate(heard)])
    start = np.concatenate([np.arange(len(_in_windows(part))) for part in heard])
    similarity = lips @ sounds.T
    rng, found = generator_for(0, 403), []
    for place in range(0, len(lips), 3):
        apart = np.flatnonzero((voice != voice[place]) | (np.abs(start - start[place]) >= _WINDOW))
        others = rng.choice(apart, min(_CANDIDATES - 1, len(apart)), replace=False)
        found.append(similarity[place, place] > similarity[place, others].max())
    return float(np.mean(found))


def _in_windows(features: np.ndarray) -> np.ndarray:
    """(T, D) -> (T - 11, 12 * D) of unit length, each feature without its mean over the clip."""
    moves = features - features.mean(axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(moves, _WINDOW, axis=0).reshape(len(moves) - _WINDOW + 1, -1)
    return windows / np.maximum(np.linalg.norm(windows, axis=1, keepdims=True), 1e-12)


def warnings(personal: Mapping[str, float], truth: Mapping[str, float], best_step: int) -> list[str]:
    """What is poor, in words, with the next step."""
    found = []

    def warn(is_poor: bool, words: str) -> None:
        if is_poor:
            found.append(words)

    warn(best_step == 0, "nothing that was tried was better than the base, which is what you have; train longer")
    if truth:
        identity, wanted = personal["identity"], truth["identity"]
        warn(not identity >= wanted - 0.03,
             f"the face is not quite the person's (dlib {identity:.3f}, frames of the clip {wanted:.3f}); "
             "train longer, or film more")  # fmt: skip
        share = min(personal["cpbd"] / max(truth["cpbd"], 1e-6), personal["detail"])
        warn(share < 0.7, f"frames are softer than the clip ({100 * share:.0f} % of its sharpness); train longer")
        warn(personal["mouth"] < 0.5,
             f"the mouth follows the own voice only in part (correlation {personal['mouth']:.2f})")  # fmt: skip
        warn(abs(personal["offset"]) > 1,
             f"mouth and sound are {personal['offset']:+.0f} frames apart")  # fmt: skip
        warn(personal["faces"] < 1, f"no face is found in {100 * (1 - personal['faces']):.0f} % of the held-out frames")
    for name in ANGLES[:2]:
        control, faces = personal[f"{name}_control"], personal[f"{name}_faces"]
        warn(control < 0.9, f"the head does not turn as asked: {name} follows with correlation {control:.2f}")
        warn(faces < 1, f"the face breaks in {100 * (1 - faces):.0f} % of the frames of a {name} sweep over 25 degrees")
    warn(personal["voices"] < 0.4 or personal["voices_found"] < 0.5,
         f"the mouth follows strangers' voices only in part (correlation {personal['voices']:.2f}, the right sound "
         f"of 8 found in {100 * personal['voices_found']:.0f} %)")  # fmt: skip
    return found
