"""Figures of a model on synthetic people: how well mouth, head and face follow what drove them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from data.audio import SILENCE
from data.faces.landmarks import LandmarkDetector, box_size
from models.av_model import AvModel, IdentityCodes
from models.networks.probe import Probe
from scripts.synthetic.speakers import Speaker
from util.checkpoint import load_network
from util.images import tensor_to_uint8, tensor_to_unit_range
from util.log import progress
from util.metrics.correlation import pearson
from util.metrics.cpbd import cpbd
from util.metrics.frechet import Moments, frechet_distance
from util.metrics.landmark_distance import landmark_distances
from util.metrics.ssim import psnr, ssim
from util.seed import generator_for

SYNC_WINDOW, SYNC_CANDIDATES = 12, 32  # frames of a window; windows among which the right one is to be found
LEAST_SPEAKERS = 3  # face, head motion and sound of three people
LEAST_FRAMES = 50  # so that every window has 16 others in its clip that do not overlap it
MOTION, SPEECH = ("yaw", "pitch", "roll", "blink"), ("opening", "width")  # from the pose video, from the sound
# whose head motion and whose sound drive person i: that of person i + shift
CONDITIONS = {"self": (0, 0), "cross": (1, 2), "pose_swapped": (1, 0), "audio_swapped": (0, 2)}
_BATCH = 16
_CLOSED = 0.02  # mouth openings below are as good as none
_SILENT_STEP = 3  # every so many-th head pose is also generated with silence
_PICTURE_STEP = 3  # every so many-th frame is compared, because SSIM takes as long as generating


def correlations(read: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> dict[str, float]:
    """`mean`: of each clip's own correlation.  `pooled`: over all frames of all clips, so that offsets count.

    A clip whose truth never moves, such as one without a blink, has no correlation of its own.
    """
    own = [pearson(a, b) for a, b in zip(read, truth, strict=True) if np.ptp(b) > 0]
    return {"mean": float(np.mean(own)) if own else 0.0, "pooled": pearson(np.concatenate(read), np.concatenate(truth))}


def retrieval(similarity: np.ndarray, right: np.ndarray) -> float:
    """Share of queries whose most similar candidate is the right one.

    Args:
        similarity: (queries, candidates).  right: (queries,) column numbers.
    """
    return float((similarity.argmax(axis=1) == right).mean())


def sync_retrieval(audio: np.ndarray, visual: np.ndarray, seed: int) -> dict[str, float]:
    """How often a window of one modality finds its own among SYNC_CANDIDATES windows of the other.

    A window is the features of 12 frames in a row, concatenated, of unit length. Half of the distractors are windows
    of the same clip that do not overlap it; the others come from other clips.

    Args:
        audio, visual: (clips, T, D) features of the same frames, T at least LEAST_FRAMES.

    Returns:
        the share for both directions; 1 / 32 is chance. A tie is a miss.
    """
    clips, length = audio.shape[:2]
    starts = length - SYNC_WINDOW + 1
    similarity = _windows(audio) @ _windows(visual).T  # (clips * starts, clips * starts)
    rng = generator_for(seed, 402)
    clip, start = np.divmod(np.arange(clips * starts), starts)
    hits = np.zeros(2)
    for query in range(clips * starts):
        apart = np.flatnonzero((clip == clip[query]) & (np.abs(start - start[query]) >= SYNC_WINDOW))
        near = rng.permutation(apart)[: SYNC_CANDIDATES // 2]
        far = rng.choice(np.flatnonzero(clip != clip[query]), SYNC_CANDIDATES - 1 - len(near))
        others = np.concatenate([near, far])
        right = similarity[query, query]
        hits += [right > similarity[query, others].max(), right > similarity[others, query].max()]
    to_visual, to_audio = hits / (clips * starts)
    return {"audio_to_visual": float(to_visual), "visual_to_audio": float(to_audio)}


def _windows(features: np.ndarray) -> np.ndarray:
    """(clips, T, D) -> (clips * (T - 11), 12 * D) of unit length."""
    windows = np.lib.stride_tricks.sliding_window_view(features, SYNC_WINDOW, axis=1)  # (clips, T - 11, D, 12)
    flat = windows.reshape(len(features) * windows.shape[1], -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Codes:
    """What the networks make of a speaker: `mouth` (T, 500), `silent` (1, 500), `pose` (T, 12)."""

    identity: IdentityCodes
    mouth: Tensor
    silent: Tensor
    pose: Tensor


def to_images(frames: np.ndarray) -> Tensor:
    """(N, 3, S, S) uint8 -> float32 in [-1, 1]."""
    return tensor_to_unit_range(torch.from_numpy(np.ascontiguousarray(frames)))


def encode(model: AvModel, speaker: Speaker) -> Codes:
    """Runs the encoders over a clip."""
    windows = torch.from_numpy(speaker.windows)
    return Codes(
        model.encode_identity(to_images(speaker.reference[None])),
        model.encode_speech(windows),
        model.encode_speech(torch.full_like(windows[:1], SILENCE)),
        model.encode_pose(to_images(speaker.frames)),
    )


def generate(model: AvModel, identity: IdentityCodes, mouth: Tensor, pose: Tensor) -> np.ndarray:
    """Frames of codes, without noise: (T, 3, S, S) uint8 RGB."""
    parts = []
    for start in range(0, len(mouth), _BATCH):
        images = model.generate(identity, mouth[start : start + _BATCH], pose[start : start + _BATCH])
        parts.append(tensor_to_uint8(images).permute(0, 3, 1, 2).cpu().numpy())
    return np.concatenate(parts)


def sync_features(model: AvModel, speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    """Speech content heard, A_sync(mel), and seen, to_mouth(E(frame)): two (T, 512) float32."""
    encoder: Any = model.networks["E"]
    audio, visual = [], []
    with torch.inference_mode():
        for start in range(0, len(speaker.frames), _BATCH):
            windows = torch.from_numpy(speaker.windows[start : start + _BATCH])
            frames = to_images(speaker.frames[start : start + _BATCH])
            audio.append(model.networks["A_sync"](windows.to(model.device)).float().cpu().numpy())
            visual.append(encoder.to_mouth(encoder(frames.to(model.device))).float().cpu().numpy())
    return np.concatenate(audio), np.concatenate(visual)


def load_probe(path: Path) -> Probe:
    """The probe on the CPU, in eval mode.

    Raises:
        CheckpointError: missing, damaged or of another shape.
    """
    probe = Probe()
    load_network(probe, path)
    return probe.eval().requires_grad_(False)


def read(probe: Probe, frames: np.ndarray) -> dict[str, np.ndarray]:
    """What the probe sees in (N, 3, S, S) uint8 frames: each quantity (N,), and `identity` (N, 64)."""
    with torch.inference_mode():
        parts = [probe(to_images(frames[start : start + _BATCH])) for start in range(0, len(frames), _BATCH)]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def measure(
    model: AvModel,
    probe: Probe,
    speakers: Sequence[Speaker],
    frames: int,
    seed: int,
    detector: LandmarkDetector | None = None,
) -> dict[str, float]:
    """All figures of a model; see scripts/synthetic/acceptance.py for those that count.

    Args:
        model: in eval mode, which an AvModel is; building one freezes its networks, so training hands over copies.
        speakers: at least LEAST_SPEAKERS, from `load_speakers`, never trained on.
        frames: of each clip, at least LEAST_FRAMES.
        seed: of the sync distractors.
        detector: finds the landmarks for `self/lmd` and `self/faces_found`; without it there are no such figures.

    Returns:
        by name: `ruler/...` is the probe on true frames, what it reads at best; `<condition>/...` see CONDITIONS;
        `leak/...` whether the mouth follows the pose video and the head the sound, against what two clips correlate
        by accident (`chance_...`). `.../mean` and `.../pooled`: see `correlations`.
    """
    speakers = [speaker.first(frames) for speaker in speakers]
    own = np.stack([_likeness(probe, speaker) for speaker in speakers])  # (N, 64)
    figures = _sync_figures(model, speakers, seed)
    figures |= _real_figures(probe, speakers, own)
    codes = [encode(model, speaker) for speaker in progress(speakers, unit="clip", desc="encoding", leave=False)]
    for condition in CONDITIONS:
        figures |= _condition_figures(model, probe, speakers, codes, own, condition, detector)
    figures |= _silence_figures(model, probe, codes)
    return figures


def _likeness(probe: Probe, speaker: Speaker) -> np.ndarray:
    """A person's identity code, the mean over portraits: (64,) of unit length."""
    mean = read(probe, speaker.portraits)["identity"].mean(axis=0)
    return mean / np.linalg.norm(mean)


def _sync_figures(model: AvModel, speakers: Sequence[Speaker], seed: int) -> dict[str, float]:
    features = [sync_features(model, speaker) for speaker in progress(speakers, unit="clip", desc="sync", leave=False)]
    audio, visual = (np.stack(side) for side in zip(*features, strict=True))
    return _named("sync", sync_retrieval(audio, visual, seed))


def _real_figures(probe: Probe, speakers: Sequence[Speaker], own: np.ndarray) -> dict[str, float]:
    """The ruler itself, and the SSIM of a face that never moves."""
    readings = [read(probe, speaker.frames) for speaker in speakers]
    figures = _named("ruler", _following(readings, speakers, speakers))
    figures |= _named("ruler/identity", identity_figures([r["identity"] for r in readings], own))
    closed = [r["opening"][s.track("opening") < _CLOSED] for r, s in zip(readings, speakers, strict=True)]
    silent = np.concatenate(closed)
    figures["ruler/mean_opening_when_closed"] = float(silent.mean()) if len(silent) else 0.0
    still = [speaker.reference[None].repeat(len(speaker.frames), 0) for speaker in speakers]
    figures["ruler/ssim_of_reference"] = float(np.mean([ssim(*pair) for pair in _pairs(speakers, still)]))
    return figures


def _condition_figures(
    model: AvModel,
    probe: Probe,
    speakers: Sequence[Speaker],
    codes: Sequence[Codes],
    own: np.ndarray,
    condition: str,
    detector: LandmarkDetector | None,
) -> dict[str, float]:
    """Generates every person under a condition and compares with what drove them."""
    count = len(speakers)
    posing, speaking = ([(i + shift) % count for i in range(count)] for shift in CONDITIONS[condition])
    pictures = [
        generate(model, codes[i].identity, codes[speaking[i]].mouth, codes[posing[i]].pose)
        for i in progress(range(count), unit="clip", desc=condition, leave=False)
    ]
    readings = [read(probe, frames) for frames in pictures]
    movers, talkers = [speakers[k] for k in posing], [speakers[k] for k in speaking]
    figures = _named(condition, _following(readings, movers, talkers))
    figures |= _named(f"{condition}/identity", identity_figures([r["identity"] for r in readings], own))
    if condition == "self":
        truth = [read(probe, speaker.frames)["identity"] for speaker in speakers]
        figures["self/identity/share"] = figures["self/identity/own"] / identity_figures(truth, own)["own"]
        figures |= _named("self", _picture_figures(probe, speakers, pictures, detector))
        figures["self/mean_opening"] = float(np.mean([r["opening"].mean() for r in readings]))
    if condition == "pose_swapped":
        figures |= _named("leak/opening_of_pose_video", _leak("opening", readings, talkers, movers))
    if condition == "audio_swapped":
        figures |= _named("leak/yaw_of_audio_clip", _leak("yaw", readings, movers, talkers))
    return figures


def _following(
    readings: Sequence[Mapping[str, np.ndarray]], movers: Sequence[Speaker], talkers: Sequence[Speaker]
) -> dict[str, float]:
    """Correlation of what was read with the truth of those who gave the head motion and of those who gave the sound."""
    figures: dict[str, float] = {}
    for name in (*SPEECH, *MOTION):
        truth = [speaker.track(name) for speaker in (movers if name in MOTION else talkers)]
        figures |= _named(name, correlations([reading[name] for reading in readings], truth))
    return figures


def _leak(
    name: str, readings: Sequence[Mapping[str, np.ndarray]], wanted: Sequence[Speaker], other: Sequence[Speaker]
) -> dict[str, float]:
    """Correlation with those who should have no say; `chance_...`: what a perfect model would get by accident."""
    right, wrong = ([speaker.track(name) for speaker in side] for side in (wanted, other))
    figures = correlations([reading[name] for reading in readings], wrong)
    return figures | {f"chance_{kind}": value for kind, value in correlations(right, wrong).items()}


def identity_figures(codes: Sequence[np.ndarray], references: np.ndarray) -> dict[str, float]:
    """How like its own person a face is, and how like the others.

    Args:
        codes: (T, 64) of unit length, of each person's frames.  references: (N, 64), one a person.

    Returns:
        mean cosine to the `own` person and to the `others`; `retrieval`, the share of frames whose nearest person is
        their own.
    """
    cosine = np.concatenate(codes) @ references.T  # (N * T, N)
    right = np.repeat(np.arange(len(codes)), [len(code) for code in codes])
    is_own = right[:, None] == np.arange(len(references))
    return {
        "own": float(cosine[is_own].mean()),
        "others": float(cosine[~is_own].mean()),
        "retrieval": retrieval(cosine, right),
    }


def _silence_figures(model: AvModel, probe: Probe, codes: Sequence[Codes]) -> dict[str, float]:
    """Everybody, with their own head motion and no sound at all."""
    openings = []
    for code in progress(codes, unit="clip", desc="silence", leave=False):
        pose = code.pose[::_SILENT_STEP]
        made = generate(model, code.identity, code.silent.expand(len(pose), -1), pose)
        openings.append(read(probe, made)["opening"])
    return {"silence/mean_opening": float(np.mean(np.concatenate(openings)))}


def _named(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in figures.items()}


def _picture_figures(
    probe: Probe, speakers: Sequence[Speaker], pictures: Sequence[np.ndarray], detector: LandmarkDetector | None
) -> dict[str, float]:
    """How like the truth the frames are: SSIM, PSNR, CPBD of both, Fréchet distance in the probe's features, LMD."""
    pairs = _pairs(speakers, pictures)
    sharpness = np.array([[cpbd(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY)) for one in pair] for pair in pairs])
    true, made = sharpness.mean(axis=0)
    figures = {
        "ssim": float(np.mean([ssim(*pair) for pair in pairs])),
        "psnr_db": float(np.mean([psnr(*pair) for pair in pairs])),
        "cpbd": float(made),
        "cpbd_of_truth": float(true),
        "cpbd_share": float(made / max(true, 1e-12)),
        "frechet": frechet_distance(*(_moments(probe, clips) for clips in ([s.frames for s in speakers], pictures))),
    }
    if detector is not None:
        real, generated = (np.stack([face_points(detector, pair[k]) for pair in pairs]) for k in (0, 1))
        distances = landmark_distances(real, generated)["mouth_mean"]
        figures["faces_found"] = float(np.isfinite(generated).all(axis=(1, 2)).mean())
        if np.isfinite(distances).any():
            figures["lmd"] = float(np.nanmean(distances))
    return figures


def _moments(probe: Probe, clips: Sequence[np.ndarray]) -> Moments:
    """Of the probe's features over all frames."""
    frames = np.concatenate(clips)
    with torch.inference_mode():
        parts = [probe.features(to_images(frames[at : at + _BATCH])) for at in range(0, len(frames), _BATCH)]
    return Moments.of(torch.cat(parts).numpy())


def face_points(detector: LandmarkDetector, frame: np.ndarray) -> np.ndarray:
    """Landmarks of the largest face of (H, W, 3) uint8 RGB: (68, 2) float64, pixels; NaN without a face."""
    image = np.ascontiguousarray(frame[..., ::-1])
    boxes = detector.find_faces(image)
    if not boxes:
        return np.full((68, 2), np.nan)
    return detector.landmarks_of_found(image, max(boxes, key=box_size)).points


def _pairs(speakers: Sequence[Speaker], pictures: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(H, W, 3) frames, true and made."""
    return [
        (true.transpose(1, 2, 0), made.transpose(1, 2, 0))
        for speaker, clip in zip(speakers, pictures, strict=True)
        for true, made in zip(speaker.frames[::_PICTURE_STEP], clip[::_PICTURE_STEP], strict=True)
    ]
