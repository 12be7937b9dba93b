"""Held-out synthetic people: one clip of each, as the networks see it, with the truth it was rendered from."""

from __future__ import annotations

import dataclasses
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.audio import log_mel, mel_window
from data.frames import crop_template
from data.synthetic.clips import (
    RENDERER_VERSION,
    STATE_NAMES,
    FaceState,
    make_identity,
    make_performance,
    make_scene,
    render_frame,
    render_states,
)
from options.config import DataConfig
from util.errors import MediaError
from util.files import atomic_path, make_directory, writing
from util.log import progress
from util.seed import generator_for

REFERENCE_GAP = 25  # the reference is one of so many frames after the measured ones
PORTRAITS = 3  # pictures that tell who somebody is


@dataclass(frozen=True)
class Speaker:
    """A held-out person in one clip.

    frames: (T, 3, S, S) uint8 RGB, as the networks see them.  windows: (T, 1, 80, 20) float32, the sound of each.
    states: (T, 13) float32, STATE_NAMES.  reference: (3, S, S) uint8 RGB, a frame of a later time.
    portraits: (P, 3, S, S) uint8 RGB, the face at rest in other scenes, so that a likeness is none of the background.
    """

    seed: int
    scene_seed: int
    frames: np.ndarray
    windows: np.ndarray
    states: np.ndarray
    reference: np.ndarray
    portraits: np.ndarray

    def track(self, name: str) -> np.ndarray:
        """One quantity over time: (T,) float32."""
        return self.states[:, STATE_NAMES.index(name)]

    def first(self, frames: int) -> Speaker:
        """The clip's beginning."""
        return dataclasses.replace(
            self, frames=self.frames[:frames], windows=self.windows[:frames], states=self.states[:frames]
        )


def make_speaker(speaker_seed: int, frames: int, seed: int, size: int) -> Speaker:
    """Renders a clip of `frames` frames of a person; `size` is the networks' crop_size, `seed` chooses the clip."""
    identity = make_identity(speaker_seed)
    rng = generator_for(seed, 401, speaker_seed)
    scene_seed, performance_seed = (int(number) for number in rng.integers(2**62, size=2))
    performance = make_performance(performance_seed, identity, frames + REFERENCE_GAP)
    shown = [*range(frames), frames + int(rng.integers(REFERENCE_GAP))]
    faces = as_seen(render_states(identity, performance.states[shown], make_scene(scene_seed)), size)
    others = [make_scene(int(number)) for number in rng.integers(2**62, size=PORTRAITS)]
    portraits = as_seen(np.stack([render_frame(identity, FaceState(), scene) for scene in others]), size)
    mel = log_mel(performance.wave)
    windows = np.stack([mel_window(mel, frame) for frame in range(frames)])
    return Speaker(speaker_seed, scene_seed, faces[:-1], windows, performance.states[:frames], faces[-1], portraits)


def as_seen(pictures: np.ndarray, size: int) -> np.ndarray:
    """(N, 224, 224, 3) uint8 BGR -> (N, 3, size, size) uint8 RGB, cropped for the networks."""
    config = DataConfig(crop_size=size)
    return np.stack([crop_template(picture, config).transpose(2, 0, 1) for picture in pictures])


def load_speakers(
    start: int, count: int, frames: int, seed: int, size: int, cache: Path | None = None
) -> list[Speaker]:
    """Speakers `start` ... `start + count - 1`; with `cache`, a folder, each is rendered once.

    Raises:
        MediaError: the folder cannot be written, or a file in it is damaged.
    """
    speakers = []
    for number in progress(range(start, start + count), unit="speaker", desc="rendering", leave=False):
        if cache is None:
            speakers.append(make_speaker(number, frames, seed, size))
            continue
        path = make_directory(cache) / f"{number}_{frames}_{seed}_{size}_{RENDERER_VERSION}.npz"
        if not path.is_file():
            _save_speaker(make_speaker(number, frames, seed, size), path)
        speakers.append(_read_speaker(path))
    return speakers


def _save_speaker(speaker: Speaker, path: Path) -> None:
    arrays = {f.name: np.asarray(getattr(speaker, f.name)) for f in dataclasses.fields(Speaker)}
    with writing(path), atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def _read_speaker(path: Path) -> Speaker:
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
        return Speaker(**{**values, "seed": int(values["seed"]), "scene_seed": int(values["scene_seed"])})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise MediaError(f"{path}: not readable as a cached speaker ({error}); delete it") from error
