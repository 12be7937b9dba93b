"""Synthetic talking heads with ground truth: 224 px BGR frames at 25 fps, 16 kHz sound, angles in degrees.

    clip = make_clip(speaker_seed=7, clip_seed=0, num_frames=75)
    frame = render_frame(make_identity(7), FaceState(yaw=20, opening=0.8))

Speech, head motion and eyes are drawn from separate random streams, so that nothing but the sound tells the mouth and
nothing tells the pose. Frame i shows the state at the middle of its 40 ms, (i + 0.5) / 25 s.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.synthetic.camera import film, make_camera
from data.synthetic.head import FRAME_SIZE, Head
from data.synthetic.maths import smooth_drift
from data.synthetic.motion import STATE_NAMES, Performance, combine, make_performance
from data.synthetic.person import FaceState, Identity, make_identity
from data.synthetic.scene import Scene, make_scene, scene_lights
from data.synthetic.voice import FIRST_HELD_OUT, Phoneme
from options.config import FPS, SAMPLE_RATE_HZ
from util.arrays import read_arrays
from util.errors import MediaError
from util.ffmpeg import protocol_free, run_ffmpeg
from util.files import atomic_path, make_directory, writing
from util.seed import generator_for

__all__ = [
    "FIRST_HELD_OUT",
    "FRAME_SIZE",
    "RENDERER_VERSION",
    "STATE_NAMES",
    "Clip",
    "FaceState",
    "Identity",
    "Performance",
    "Scene",
    "Truth",
    "combine",
    "landmarks",
    "make_clip",
    "make_identity",
    "make_performance",
    "make_scene",
    "read_truth",
    "render_frame",
    "render_states",
    "write_clip",
]

# goes up by one with every change of what is drawn, moved or said, so that no older clip is taken for today's
RENDERER_VERSION = "5"
CLEAN_CRF = 18  # of H.264, nearly what was drawn
_LANDMARK_STEP = 1 / 32  # pixels; stored landmarks are rounded to it, which makes them pack well


@dataclass(frozen=True)
class Truth:
    """Everything that is known about a clip.

    states: (T, 13) float32, columns STATE_NAMES.  landmarks: (T, 68, 2) float32, (x, y) in pixels, iBUG order, points
    of the surface (hidden ones included).  identity: (86,) float32, see `Identity.vector`.  renderer: RENDERER_VERSION.
    """

    speaker_seed: int
    clip_seed: int
    states: np.ndarray
    landmarks: np.ndarray
    identity: np.ndarray
    phonemes: tuple[Phoneme, ...]
    renderer: str = ""

    def track(self, name: str) -> np.ndarray:
        """One quantity over time, e.g. `track("opening")`: (T,) float32."""
        return self.states[:, STATE_NAMES.index(name)]


@dataclass(frozen=True)
class Clip:
    """frames: (T, 224, 224, 3) uint8 BGR.  wave: (T * 640,) float32 at 16 kHz.  crf: of the H.264 it is stored in."""

    frames: np.ndarray
    wave: np.ndarray
    truth: Truth
    crf: int = CLEAN_CRF


# -------------------------------------------------------------------------------------------------------- pictures


@functools.lru_cache(maxsize=4)
def _head(identity: Identity, scene: Scene) -> Head:
    return Head(identity, scene)


def render_frame(identity: Identity, state: FaceState, scene: Scene | None = None) -> np.ndarray:
    """Renders any state of any person, e.g. one person's face with another's pose.

    Args:
        scene: light, clothes and background; the identity's own by default.

    Returns:
        (224, 224, 3) uint8 BGR, placed like a VoxCeleb2 crop.
    """
    return _head(identity, scene or make_scene(identity.seed)).render(state)


def render_states(identity: Identity, states: np.ndarray, scene: Scene | None = None) -> np.ndarray:
    """Renders a track of states, (T, 13) in the order of STATE_NAMES: (T, 224, 224, 3) uint8 BGR."""
    frames = np.empty((len(states), FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)
    for frame, row in enumerate(states):
        frames[frame] = render_frame(identity, FaceState(*map(float, row)), scene)
    return frames


def landmarks(identity: Identity, state: FaceState, scene: Scene | None = None) -> np.ndarray:
    """The 68 points of a state: (68, 2) float32, (x, y) in pixels, iBUG order; `scene` as in render_frame."""
    return _head(identity, scene or make_scene(identity.seed)).landmarks(state)


# ---------------------------------------------------------------------------------------------------------- clips


def make_clip(speaker_seed: int, clip_seed: int, num_frames: int, clean: bool = False, style: str = "real") -> Clip:
    """One clip of a speaker; clips of one speaker differ in words, motion, light, clothes, background and camera.

    Args:
        clean: as drawn, in the light of the first moment; else lights may move, and the frames are soft, noisy, tinted
            or have borders, as a camera of the clip's own gives them. The truth is the same.
        style: how the person is drawn, see `make_identity`.
    """
    identity = make_identity(speaker_seed, style)
    seed = int(generator_for(speaker_seed, 303, clip_seed).integers(2**62))
    scene = make_scene(seed)
    performance = make_performance(seed, identity, num_frames)
    head = _head(identity, scene)
    crf = CLEAN_CRF
    if clean:
        frames = render_states(identity, performance.states, scene)
    else:
        camera = make_camera(seed)
        frames, crf = film(_lit_frames(head, performance), camera), camera.crf
    points = np.stack([head.landmarks(performance.state(frame)) for frame in range(num_frames)])
    points = np.round(points / _LANDMARK_STEP).astype(np.float32) * np.float32(_LANDMARK_STEP)
    truth = Truth(
        speaker_seed, clip_seed, performance.states, points, identity.vector(), performance.phonemes, RENDERER_VERSION
    )
    return Clip(frames, performance.wave, truth, crf)


def _lit_frames(head: Head, performance: Performance) -> np.ndarray:
    """Frames of a performance under lights that may move and flicker."""
    count = len(performance.states)
    rng = generator_for(head.scene.seed, 304)
    swing, flicker = smooth_drift(rng, count, 25), smooth_drift(rng, count, 6)
    frames = np.empty((count, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)
    for number in range(count):
        lights = scene_lights(head.scene, float(swing[number]), float(flicker[number]))
        frames[number] = head.render(performance.state(number), lights)
    return frames


def write_clip(clip: Clip, video: str | Path) -> None:
    """Writes `video` (H.264 and AAC in mp4) and, last, the ground truth beside it with the suffix .npz.

    Raises:
        MediaError: the folder cannot be written, or ffmpeg fails.
    """
    video = Path(video)
    make_directory(video.parent)
    size, rate = f"{clip.frames.shape[2]}x{clip.frames.shape[1]}", str(SAMPLE_RATE_HZ)
    with writing(video):
        with tempfile.TemporaryDirectory() as folder, atomic_path(video) as temporary:
            picture, sound = Path(folder, "frames.raw"), Path(folder, "sound.raw")
            clip.frames.tofile(picture)
            clip.wave.astype("<f4").tofile(sound)
            raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", size, "-r", str(FPS)]
            inputs: list[str | Path] = [*raw, "-i", picture]
            inputs += ["-f", "f32le", "-ar", rate, "-ac", "1", "-i", sound]
            coding = [
                "-c:v",
                "libx264",
                "-preset",
                "veryfast",
                "-crf",
                str(clip.crf),
                "-pix_fmt",
                "yuv420p",
                "-threads",
                "1",
            ]
            coding += ["-c:a", "aac", "-b:a", "64k", "-movflags", "+faststart"]
            run_ffmpeg([*inputs, *coding, protocol_free(temporary)], f"encoding {video}")
        with atomic_path(video.with_suffix(".npz")) as temporary:
            np.savez_compressed(temporary, **_truth_arrays(clip.truth))  # type: ignore[arg-type]


def _truth_arrays(truth: Truth) -> dict[str, np.ndarray]:
    return {
        "seeds": np.array([truth.speaker_seed, truth.clip_seed], dtype=np.int64),
        "states": truth.states,
        "state_names": np.array(STATE_NAMES),
        "landmarks": truth.landmarks,
        "identity": truth.identity,
        "phoneme_names": np.array([p.name for p in truth.phonemes]),
        "renderer": np.array(truth.renderer),
        "phoneme_times": np.array([(p.start_s, p.end_s, p.stress) for p in truth.phonemes], dtype=np.float64),
    }


def read_truth(path: str | Path) -> Truth:
    """Reads the ground truth of a clip; `path` is its .npz or its .mp4.

    Raises:
        MediaError: missing, damaged, or written by another version.
    """
    source = Path(path).with_suffix(".npz")
    try:
        if not source.is_file():
            raise MediaError(f"{source}: no ground truth there; make it with scripts/make_synthetic_data.py")
        stored = read_arrays(source, "ground truth; delete it and make the clip again")
        if tuple(stored["state_names"]) != STATE_NAMES:
            raise MediaError(f"{source}: holds other states than this version; make the data again")
        times = zip(stored["phoneme_names"], stored["phoneme_times"], strict=True)
        return Truth(
            speaker_seed=int(stored["seeds"][0]),
            clip_seed=int(stored["seeds"][1]),
            states=stored["states"],
            landmarks=stored["landmarks"],
            identity=stored["identity"],
            phonemes=tuple(Phoneme(str(name), *map(float, row)) for name, row in times),
            renderer=str(stored["renderer"]) if "renderer" in stored else "",
        )
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise MediaError(
            f"{source}: not readable as ground truth ({error}); delete it and make the clip again"
        ) from error
