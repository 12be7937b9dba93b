"""Frames and spectrograms of training clips by frame number: frame i is the picture nearest to i / 25 s."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data.audio import load_audio, log_mel
from data.clip_list import ClipRecord
from data.frames import crop_template, list_frames, read_image
from data.video_reader import frames_by_number, read_header
from options.config import SAMPLE_RATE_HZ, DataConfig
from util.errors import MediaError

_KEPT_MELS = 64  # at least, however full the memory is
_SOUND_SUFFIXES = (".m4a", ".wav")


class ClipReader:
    """Reads clips as the networks see them.

    With `cache_gb` above 0 whole clips (cropped and resized) and their spectrograms stay in memory until that much is
    full; what comes later is read anew each time.
    """

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._free_bytes = int(data.cache_gb * 1e9)
        self._kept_frames: dict[Path, np.ndarray] = {}
        self._mels: dict[Path, np.ndarray] = {}

    def frames(self, record: ClipRecord, numbers: Sequence[int]) -> np.ndarray:
        """Frames of a clip in the order asked for, which may repeat: (N, 3, S, S) uint8 RGB of `crop_template`.

        Raises MediaError: the clip is missing, damaged or shorter than a number asks for.
        """
        kept = self._kept_frames.get(record.path)
        if kept is None and 3 * self._data.crop_size**2 * record.num_frames <= self._free_bytes:
            kept = self._read(record.path, range(record.num_frames))
            self._free_bytes -= kept.nbytes
            self._kept_frames[record.path] = kept
        if kept is not None:
            return kept[np.asarray(numbers)]
        wanted, places = np.unique(numbers, return_inverse=True)
        return self._read(record.path, wanted.tolist())[places]

    def mel(self, record: ClipRecord) -> np.ndarray:
        """Spectrogram of a clip's whole sound from the start of frame 0 on: (M, 80) float32 in [0, 1], read-only.

        Raises MediaError: no sound, or none that can be read.
        """
        if record.path in self._mels:
            return self._mels[record.path]
        mel = log_mel(load_sound(record.path, record.audio))
        mel.setflags(write=False)
        if mel.nbytes <= self._free_bytes or len(self._mels) < _KEPT_MELS:
            self._free_bytes -= mel.nbytes
            self._mels[record.path] = mel
        return mel

    def _read(self, path: Path, numbers: Sequence[int]) -> np.ndarray:
        """`numbers` ascend and do not repeat."""
        size = self._data.crop_size
        frames = np.empty((len(numbers), 3, size, size), dtype=np.uint8)
        if path.is_dir():
            paths = list_frames(path)
            if numbers[-1] >= len(paths):
                raise MediaError(f"{path}: has {len(paths)} frames, number {numbers[-1]} was asked for")
            images: Iterable[np.ndarray] = (read_image(paths[number]) for number in numbers)
        else:
            images = frames_by_number(path, numbers)
        for frame, image in zip(frames, images, strict=True):
            frame[:] = crop_template(image, self._data).transpose(2, 0, 1)
        return frames


def find_sound(clip: Path, audio: Path | None = None) -> Path:
    """The file that holds a clip's sound.

    In this order: `audio`; for a folder of frames `audio.m4a` or `audio.wav` in it; the video itself; a file of the
    same name with the suffix .m4a or .wav beside the clip, or under `aac` instead of `mp4`. Raises MediaError, which
    says where it was looked for.
    """
    if audio is not None:
        return audio
    tried = []
    if not clip.is_dir():
        if read_header(clip).sound_delay_s is not None:
            return clip
        tried.append("in the file itself")
    for candidate in _sound_candidates(clip):
        if candidate.is_file():
            return candidate
        tried.append(str(candidate))
    raise MediaError(f"{clip}: no sound found; looked for it {', '.join(tried)}")


def load_sound(clip: Path, audio: Path | None = None) -> np.ndarray:
    """The sound of a clip from the start of frame 0 on: (samples,) float32."""
    path = find_sound(clip, audio)
    wave = load_audio(path)
    if path != clip:
        return wave
    # inside one file sound and picture have clocks; the sound may start later or earlier than the picture
    late = round((read_header(path).sound_delay_s or 0.0) * SAMPLE_RATE_HZ)
    return np.pad(wave, (late, 0)) if late > 0 else wave[-late:]


def _sound_candidates(path: Path) -> list[Path]:
    inside = [path / f"audio{suffix}" for suffix in _SOUND_SUFFIXES] if path.is_dir() else []
    name = path.name if path.is_dir() else path.stem
    folders = [path.parent]
    if "mp4" in path.parent.parts:  # the last one: an unpacked archive may lie in a folder of that name, too
        parts = list(path.parent.parts)
        parts[len(parts) - 1 - parts[::-1].index("mp4")] = "aac"
        folders.append(Path(*parts))
    return inside + [folder / f"{name}{suffix}" for folder in folders for suffix in _SOUND_SUFFIXES]
