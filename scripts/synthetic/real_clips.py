"""How a model's mouth follows real people's speech: their own mouths, read by landmarks, are the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data.audio import load_audio, log_mel, mel_window
from data.faces.landmarks import LandmarkDetector
from data.video_reader import open_video
from models.av_model import AvModel
from models.networks.probe import Probe
from scripts.synthetic.figures import encode, face_points, generate, read
from scripts.synthetic.speakers import Speaker
from util.errors import MediaError
from util.ffmpeg import probe as probe_file
from util.log import progress
from util.metrics.correlation import pearson

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
SHIFTS = range(-5, 6)  # frames by which sound and picture of a clip may be apart
_INNER_LIPS, _EYES = (62, 66), (36, 45)  # upper and lower inner lip; outer corners of the eyes


def real_clips(folder: Path) -> list[Path]:
    """Videos with sound below a folder, sorted. Raises MediaError when there is none."""
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    spoken = [path for path in videos if probe_file(path).audio_codec is not None]
    if not spoken:
        raise MediaError(f"--real_clips {folder}: holds no video with sound")
    return spoken


def measure_real_clips(
    model: AvModel, probe: Probe, detector: LandmarkDetector, speakers: Sequence[Speaker], clips: Sequence[Path]
) -> dict[str, float]:
    """Lets synthetic people speak with real people's sound.

    Args:
        speakers: person k speaks clip k, with their own head motion, forth and back.
        clips: videos of one face, cropped to it, with sound.

    Returns:
        `real/<clip>`: correlation of the generated mouth's opening (by the probe) with that of the person (inner lips
        by the width of the eyes); `real/<clip>/shifted`: the best over SHIFTS, and `.../shift` where that is; the
        means over the clips. Positive shift: the person's mouth moves that many frames after the generated one.
    """
    figures: dict[str, float] = {}
    for number, path in enumerate(progress(clips, unit="clip", desc="real clips", leave=False)):
        true = mouth_openings(detector, path)
        mel = log_mel(load_audio(path))
        windows = np.stack([mel_window(mel, frame) for frame in range(len(true))])
        speaker = speakers[number % len(speakers)]
        codes = encode(model, speaker)
        turns = np.concatenate([np.arange(len(codes.pose)), np.arange(len(codes.pose))[::-1]])
        pose = codes.pose[np.resize(turns, len(true))]
        made = read(probe, generate(model, codes.identity, model.encode_speech(torch.from_numpy(windows)), pose))
        values = {shift: _shifted(made["opening"], true, shift) for shift in SHIFTS}
        best = max(values, key=lambda shift: values[shift])
        name = f"real/{path.parent.name}/{path.stem}"
        figures |= {name: values[0], f"{name}/shifted": values[best], f"{name}/shift": float(best)}
    own = [value for name, value in figures.items() if not name.endswith(("/shifted", "/shift"))]
    shifted = [value for name, value in figures.items() if name.endswith("/shifted")]
    return figures | {"real/mean": float(np.mean(own)), "real/mean_shifted": float(np.mean(shifted))}


def mouth_openings(detector: LandmarkDetector, path: Path) -> np.ndarray:
    """Distance of the inner lips by that of the outer corners of the eyes, 25 times a second: (T,); NaN: no face."""
    points = np.stack([face_points(detector, frame[..., ::-1]) for frame in open_video(path, resample=True).frames()])
    lips, eyes = (np.linalg.norm(points[:, one] - points[:, other], axis=1) for one, other in (_INNER_LIPS, _EYES))
    return lips / eyes


def _shifted(made: np.ndarray, true: np.ndarray, shift: int) -> float:
    """Correlation of made[t] with true[t + shift], over frames with a face."""
    first, last = max(0, -shift), min(len(made), len(true) - shift)
    here, there = made[first:last], true[first + shift : last + shift]
    seen = np.isfinite(there)
    return pearson(here[seen], there[seen]) if seen.sum() > 1 else 0.0
