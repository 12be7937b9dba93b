"""A person's frames by a model: what a clip gives to drive it, and what comes out; frames (T, H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.audio import SILENCE, mel_window
from data.clip_list import ClipRecord
from data.clip_reader import ClipReader
from data.frames import crop_template
from data.synthetic.pose_head import render_poses
from models.av_model import AvModel
from options.config import AudioConfig, DataConfig
from util.images import tensor_to_uint8, to_unit_range

_BATCH = 16


@dataclass(frozen=True)
class Driven:
    """A stretch of a clip: its frames, and the mel windows of their sound, (T, 1, 80, 20) float32."""

    frames: np.ndarray
    windows: np.ndarray


def read_stretch(record: ClipRecord, data: DataConfig, most: int | None = None) -> Driven:
    """The first `most` frames of a clip as the networks see them, with their sound."""
    count = min(record.num_frames, most or record.num_frames)
    reader = ClipReader(data)
    frames, mel = reader.frames(record, range(count)), reader.mel(record)
    return Driven(frames.transpose(0, 2, 3, 1), np.stack([mel_window(mel, number) for number in range(count)]))


def pose_frames(angles_deg: np.ndarray, data: DataConfig) -> np.ndarray:
    """The drawn head at (T, 3) angles."""
    return np.stack([crop_template(frame, data) for frame in render_poses(angles_deg)])


def silence(count: int) -> np.ndarray:
    """Mel windows in which nobody speaks."""
    return np.full((count, 1, AudioConfig.num_mel_bands, AudioConfig.bins_per_window), SILENCE, dtype=np.float32)


def drive(model: AvModel, references: np.ndarray, poses: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """The person of the references (N, H, W, 3) with the head of `poses` and the sound of `windows`, T each."""
    identity = model.encode_identity(_tensor(references))
    parts = []
    for start in range(0, len(poses), _BATCH):
        pose = model.encode_pose(_tensor(poses[start : start + _BATCH]))
        mouth = model.encode_speech(torch.from_numpy(windows[start : start + _BATCH]))
        parts.append(tensor_to_uint8(model.generate(identity, mouth, pose)).cpu().numpy())
    return np.concatenate(parts)


def features_seen(model: AvModel, frames: np.ndarray) -> np.ndarray:
    """What is said as E sees it in T frames: (T, 512)."""
    encoder = model.networks["E"]
    with torch.inference_mode():
        parts = [encoder.to_mouth(encoder(_tensor(part).to(model.device))) for part in _pieces(frames)]
    return torch.cat(parts).float().cpu().numpy()


def features_heard(model: AvModel, windows: np.ndarray) -> np.ndarray:
    """What is said as A_sync hears it in T mel windows: (T, 512)."""
    with torch.inference_mode():
        parts = [model.networks["A_sync"](torch.from_numpy(part).to(model.device)) for part in _pieces(windows)]
    return torch.cat(parts).float().cpu().numpy()


def _pieces(array: np.ndarray) -> list[np.ndarray]:
    return [array[start : start + _BATCH] for start in range(0, len(array), _BATCH)]


def sweep_angles(angle: int, degrees: Sequence[float]) -> np.ndarray:
    """(T, 3) angles of a head that turns about one axis alone; `angle` counts in ANGLES."""
    track = np.zeros((len(degrees), 3))
    track[:, angle] = degrees
    return track


def _tensor(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(to_unit_range(frames))
