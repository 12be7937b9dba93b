"""One row of metadata as frames to generate: 25 a second, each with its mel window, pose frame and mouth frame."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.audio import full_frames, load_audio, log_mel, mel_window, num_mel_bins, published_frames
from data.frames import crop_template, list_frames, ping_pong, read_image, to_unit_range
from data.metadata import TestClip
from options.config import AudioConfig, DataConfig
from util.errors import MediaError
from util.log import warn_once

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestItem:
    """What one output frame needs. Pictures are (S, S, 3) uint8 RGB, cropped as the networks see them."""

    frame: int  # number at 25 fps, 0 at the start of the sound
    mel: np.ndarray  # (1, 80, 20) float32
    pose_index: int
    pose: np.ndarray | None
    mouth: np.ndarray | None

    __test__ = False  # pytest: no test class


class VoxTestDataset:
    """Everything of a clip that is known before the networks run; frames are read when they are asked for.

    Args:
        clip: from `data.metadata`.
        data, audio: settings.
        published_timing: the published frame numbers instead of all from 0 to the end of the sound.
        with_pose: read pose frames (the driven mode).

    Raises:
        MediaError: a folder, frame or sound is missing, broken, or does not match the row's counts.
    """

    def __init__(
        self,
        clip: TestClip,
        data: DataConfig,
        audio: AudioConfig,
        published_timing: bool = False,
        with_pose: bool = True,
    ) -> None:
        self._data, self._audio = data, audio
        self._reference_paths = _counted(clip.reference_dir, clip.num_references, data.num_inputs)
        self._pose_paths: list[Path] = []
        if with_pose:
            reference_only = self._reference_paths[:1]
            self._pose_paths = _counted(clip.pose_dir, clip.num_pose_frames) if clip.pose_dir else reference_only
        self._mouth_paths = _counted(clip.mouth_dir, clip.num_mouth_frames) if clip.mouth_dir else []
        wave = load_audio(clip.audio, audio)
        self.num_samples = len(wave)
        self._mel = load_spectrogram(clip.spectrogram, len(wave), audio) if clip.spectrogram else log_mel(wave, audio)
        self.frames = (
            published_frames(len(self._mel), audio) if published_timing else full_frames(len(wave), audio, data.fps)
        )
        self.references = np.stack([self._crop(path) for path in self._reference_paths])  # (N, S, S, 3)

    def __len__(self) -> int:
        """Number of output frames."""
        return len(self.frames)

    def __getitem__(self, index: int) -> TestItem:
        """Output frame `index`, counted from 0."""
        frame = self.frames[index]
        pose_index = ping_pong(frame, len(self._pose_paths)) if self._pose_paths else 0
        return TestItem(
            frame=frame,
            mel=mel_window(self._mel, frame, self._audio),
            pose_index=pose_index,
            pose=self._crop(self._pose_paths[pose_index]) if self._pose_paths else None,
            mouth=self._crop(self._mouth_paths[min(frame, len(self._mouth_paths) - 1)]) if self._mouth_paths else None,
        )

    def _crop(self, path: Path) -> np.ndarray:
        image = read_image(path)
        size = self._data.template_size
        if image.shape[:2] != (size, size):
            warn_once(
                logger,
                f"{path.parent}: frames are {image.shape[1]}x{image.shape[0]}, not {size}x{size} like VoxCeleb2 crops; "
                "resized, but align them with scripts/align_68.py for a good result",
            )
        return crop_template(image, self._data)


def load_spectrogram(path: Path, num_samples: int, config: AudioConfig) -> np.ndarray:
    """Reads a prepared spectrogram, (M, 80) float32 in [0, 1].

    Raises:
        MediaError: not such an array, or not the length the sound asks for.
    """
    try:
        mel = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise MediaError(f"{path}: not a readable .npy spectrogram: {error}; put None to compute it") from error
    bands = config.num_mel_bands
    if not isinstance(mel, np.ndarray) or mel.ndim != 2 or mel.shape[1] != bands or mel.dtype.kind != "f":
        shape = getattr(mel, "shape", type(mel).__name__)
        raise MediaError(
            f"{path}: a spectrogram must be a float array (bins, {bands}), got {shape}; put None to compute it"
        )
    expected = num_mel_bins(num_samples, config)
    if abs(len(mel) - expected) > config.bins_per_frame:
        raise MediaError(f"{path}: has {len(mel)} bins, the sound has {expected}; it belongs to another file")
    if not (np.isfinite(mel).all() and mel.min() >= 0 and mel.max() <= 1):
        raise MediaError(f"{path}: a spectrogram must lie in [0, 1]; put None to compute it")
    return mel.astype(np.float32)


def to_batch(images: list[np.ndarray]) -> np.ndarray:
    """(S, S, 3) uint8 RGB pictures -> (B, 3, S, S) float32 in [-1, 1]."""
    return np.stack([to_unit_range(image) for image in images])


def _counted(directory: Path, count: int, needed: int | None = None) -> list[Path]:
    """The first `needed` (else `count`) frames of a folder that must hold at least `count`."""
    paths = list_frames(directory)
    if len(paths) < count:
        raise MediaError(f"{directory}: the row says {count} frames, the folder holds {len(paths)}")
    if needed is not None and needed > count:
        raise MediaError(f"{directory}: --num_inputs {needed}, but the row says {count} reference frames")
    return paths[: needed or count]
