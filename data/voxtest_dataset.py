"""One row of metadata as frames to generate: 25 a second, each with its mel window, pose frame and mouth frame.

Sound and pictures are read while they are asked for, so that an hour takes no more memory than ten seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.audio import (
    WINDOW_FRAMES,
    file_windows,
    full_frames,
    mel_window,
    num_mel_bins,
    published_frames,
    scan_audio,
    voice_windows,
)
from data.frames import crop_template, cross_fade, list_frames, ping_pong, read_image
from data.metadata import TestClip
from options.config import AudioConfig, DataConfig
from util.arrays import read_arrays
from util.errors import MediaError
from util.log import warn_once
from util.parallel import prefetch

logger = logging.getLogger(__name__)

_PICTURES_AHEAD = 16  # frames
_MOST_STRETCHES = 64  # of a voice, of which its identity is the mean


@dataclass(frozen=True)
class TestItem:
    """What one output frame needs (models.stream.Cue). Pictures are (S, S, 3) uint8 RGB, as the networks see them."""

    frame: int  # number at 25 fps, 0 at the start of the sound
    mel: np.ndarray  # (1, 80, 20) float32
    pose_index: int
    pose: np.ndarray | None
    mouth: np.ndarray | None = None

    __test__ = False  # pytest: no test class


class VoxTestDataset:
    """Everything of a clip that is known before the networks run; frames are read when they are asked for.

    published_timing: the published frame numbers instead of all from 0 to the end of the sound.  with_pose: read pose
    frames (the driven mode).  loop: how pose frames go on at their end, one of POSE_LOOPS.

    Raises MediaError: a folder, frame or sound is missing, broken, or does not match the row's counts.
    """

    def __init__(
        self,
        clip: TestClip,
        data: DataConfig,
        published_timing: bool = False,
        with_pose: bool = True,
        loop: str = "ping_pong",
    ) -> None:
        self._data, self._loop = data, loop
        references = _counted(clip.reference_dir, clip.num_references, data.num_inputs)
        self._pose_paths: list[Path] = []
        if with_pose:
            self._pose_paths = _counted(clip.pose_dir, clip.num_pose_frames) if clip.pose_dir else references[:1]
        self._mouth_paths = _counted(clip.mouth_dir, clip.num_mouth_frames) if clip.mouth_dir else []
        self.audio = clip.audio
        samples, self.gain = scan_audio(clip.audio)  # what the networks hear is the sound times the gain
        self._mel = load_spectrogram(clip.spectrogram, samples) if clip.spectrogram else None
        bins = num_mel_bins(samples) if self._mel is None else len(self._mel)
        self.frames = published_frames(bins) if published_timing else full_frames(samples)
        self.references = np.stack([self._crop(path) for path in references])  # (N, S, S, 3)

    def __len__(self) -> int:
        return len(self.frames)

    def items(self, indices: Sequence[int], workers: int = 0) -> Generator[TestItem, None, None]:
        """What output frames need, in order; `indices` ascend and count from 0, `workers` threads read pictures ahead.

        Raises MediaError: a picture or the sound cannot be read, when its turn comes.
        """
        windows = self._windows()
        pictures = prefetch(self._pictures, indices, workers, _PICTURES_AHEAD)
        try:
            for index, (pose_index, pose, mouth) in zip(indices, pictures, strict=True):
                frame = self.frames[index]
                mel = next((window for number, window in windows if number == frame), None)
                if mel is None:
                    raise MediaError(f"{self.audio}: has become shorter while it was read; run again")
                yield TestItem(frame, mel, pose_index, pose, mouth)
        finally:
            pictures.close()
            windows.close()

    def windows(self) -> Iterator[np.ndarray]:
        """The mel window of every output frame, (1, 80, 20) each. Raises MediaError: the sound cannot be read."""
        return (window for frame, window in self._windows() if frame in self.frames)

    def voice(self, n_mel_t: int) -> np.ndarray:
        """What tells who speaks: up to 64 stretches of `n_mel_t` windows, evenly spread over the sound.

        Returns (K, 1, 80 * n_mel_t, 20) float32, the windows of a stretch stacked along the mel bands as in training.
        """
        length = n_mel_t * WINDOW_FRAMES  # of a stretch, in frames
        count = max(1, len(self.frames) // length)
        places = np.linspace(0, count - 1, min(count, _MOST_STRETCHES)).round().astype(int)
        starts = [AudioConfig.window_offset_frames + length * int(place) for place in places]
        heard = {start + WINDOW_FRAMES * k for start in starts for k in range(n_mel_t)}
        windows = {frame: window for frame, window in self._windows() if frame in heard}
        return np.stack([voice_windows(windows, start, n_mel_t) for start in starts])

    def pose_place(self, frame: int) -> tuple[int, int, float]:
        """Which pose pictures a frame number takes: two, and the share of the second one."""
        if self._loop == "cross_fade":
            return cross_fade(frame, len(self._pose_paths))
        index = ping_pong(frame, len(self._pose_paths))
        return index, index, 0.0

    def pose_picture(self, index: int) -> np.ndarray:
        """(S, S, 3) uint8 RGB. Raises MediaError: it cannot be read."""
        return self._crop(self._pose_paths[index])

    def _windows(self) -> Generator[tuple[int, np.ndarray], None, None]:
        """Frame numbers and mel windows from the first frame of the sound on."""
        if self._mel is None:
            yield from file_windows(self.audio, self.gain)
            return
        for frame in self.frames:
            yield frame, mel_window(self._mel, frame)

    def _pictures(self, index: int) -> tuple[int, np.ndarray | None, np.ndarray | None]:
        """Number of the pose frame, pose picture and mouth picture of an output frame."""
        frame = self.frames[index]
        one, other, share = self.pose_place(frame) if self._pose_paths else (0, 0, 0.0)
        pose_index = one if share < 0.5 else other
        pose = self.pose_picture(pose_index) if self._pose_paths else None
        mouth = self._crop(self._mouth_paths[min(frame, len(self._mouth_paths) - 1)]) if self._mouth_paths else None
        return pose_index, pose, mouth

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


def load_spectrogram(path: Path, num_samples: int) -> np.ndarray:
    """Reads a spectrogram, (M, 80) float32 in [0, 1]. Raises MediaError: not that, or not of this length."""
    mel = read_arrays(path, ".npy spectrogram (put None to compute it)").get("", np.empty(0))  # of an .npz: none
    bands: int = AudioConfig.num_mel_bands
    shape = mel.shape
    if shape[1:] != (bands,) or mel.dtype.kind != "f":
        raise MediaError(
            f"{path}: a spectrogram must be a float array (bins, {bands}), got {shape}; put None to compute it"
        )
    expected = num_mel_bins(num_samples)
    if abs(len(mel) - expected) > AudioConfig.bins_per_frame:
        raise MediaError(f"{path}: has {len(mel)} bins, the sound has {expected}; it belongs to another file")
    if not (np.isfinite(mel).all() and mel.min() >= 0 and mel.max() <= 1):
        raise MediaError(f"{path}: a spectrogram must lie in [0, 1]; put None to compute it")
    return mel.astype(np.float32)


def _counted(directory: Path, count: int, needed: int | None = None) -> list[Path]:
    """The first `needed` (else `count`) frames of a folder that must hold at least `count`."""
    paths = list_frames(directory)
    if len(paths) < count:
        raise MediaError(f"{directory}: the row says {count} frames, the folder holds {len(paths)}")
    if needed is not None and needed > count:
        raise MediaError(f"{directory}: --num_inputs {needed}, but the row says {count} reference frames")
    return paths[: needed or count]
