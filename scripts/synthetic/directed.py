"""How held-out people follow a head that is drawn to a programme: what `--src_pose_path "pose:..."` gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from data.faces.landmarks import LandmarkDetector
from data.pose_programme import parse_programme
from data.synthetic.pose_head import render_poses
from models.av_model import AvModel
from models.networks.probe import Probe
from models.pose_codes import edit_poses
from options.config import ANGLES, FPS, PoseOptions
from scripts.synthetic.figures import Codes, face_points, generate, read, to_images
from scripts.synthetic.speakers import as_seen
from util.log import progress
from util.metrics.correlation import pearson

PROGRAMME = (
    "0 yaw=0; 0.6 yaw=20; 1.6 yaw=-20; 2.2 yaw=0 pitch=0; 2.6 pitch=12; 3.2 pitch=-12; 3.6 pitch=0 roll=0; 4 roll=10; "
    "4.6 roll=-10; 5 roll=0"
)
_SECONDS, _STILL_FRAMES = 5, 50
_STEADY = range(27, 48)  # of the 68 points: nose and eyes, which speech does not move


def drawn_head(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The drawn head through PROGRAMME: (T, 3, size, size) uint8 RGB; yaw, pitch and roll in degrees, (T, 3)."""
    angles = parse_programme(PROGRAMME).angles(_SECONDS * FPS)
    return as_seen(np.stack(list(render_poses(angles))), size), angles


def measure_directed(
    model: AvModel,
    probe: Probe,
    detector: LandmarkDetector,
    codes: Sequence[Codes],
    head: np.ndarray,
    angles: np.ndarray,
) -> dict[str, float]:
    """Lets people speak while they follow a head.

    Args:
        codes: of the people, with their own speech.
        head, angles: see `drawn_head`; the head looks straight ahead in the first frame.

    Returns:
        for yaw, pitch and roll, means over the people: `directed/<angle>/correlation` of what the probe reads with the
        programme; `/gain`, degrees read for a degree of it; `/gain_at_half`, the same with `--pose_scale 0.5`, as a
        part of `/gain`.  `directed/still_px`: how far nose and eyes get from their mean place while the head is still,
        pixels of 224, the mean over frames.
    """
    pose = model.encode_pose(to_images(head))
    half = edit_poses(pose, PoseOptions(pose_scale=0.5))
    rows, moved = [], []
    for person in progress(codes, unit="clip", desc="directed", leave=False):
        mouth = person.mouth[torch.arange(len(pose)) % len(person.mouth)]
        whole, halved = (read(probe, generate(model, person.identity, mouth, code)) for code in (pose, half))
        for name, wanted in zip(ANGLES, angles.T, strict=True):
            gain, half_gain = (float(np.polyfit(wanted, read_off[name], 1)[0]) for read_off in (whole, halved))
            rows.append((pearson(whole[name], wanted), gain, half_gain / gain if gain else 0.0))
        frames = generate(model, person.identity, mouth[:_STILL_FRAMES], pose[:1].expand(_STILL_FRAMES, -1))
        points = np.stack([face_points(detector, frame.transpose(1, 2, 0))[_STEADY] for frame in frames])
        place = points.mean(axis=1) * (224 / frames.shape[-1])  # (T, 2); a point alone jitters more than the head
        moved.append(np.linalg.norm(place - np.nanmean(place, axis=0), axis=1))
    means = np.mean(np.reshape(rows, (len(codes), len(ANGLES), 3)), axis=0)
    kinds = ("correlation", "gain", "gain_at_half")
    figures = {
        f"directed/{name}/{kind}": float(value)
        for name, values in zip(ANGLES, means, strict=True)
        for kind, value in zip(kinds, values, strict=True)
    }
    return figures | {"directed/still_px": float(np.nanmean(moved))}
