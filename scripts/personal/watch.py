"""Looks at the watched part of a clip while a model is trained, and says how good it is by now."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from data.clip_list import ClipRecord
from models.av_model import AvModel
from models.trainers.loop import Look
from options.config import DataConfig
from scripts.personal.drive import Driven, drive, pose_frames, read_stretch, silence, sweep_angles
from scripts.personal.faces import STRANGER, FaceReader, Reading, correlation, detail, mean
from util.metrics.ssim import ssim

MOST_FRAMES = 50  # of the watched part
_ALIKE = 0.97  # what dlib's cosine says of frames of one person
_TURNS = (-20.0, -10.0, 0.0, 10.0, 20.0)  # degrees
# What counts for the score: likeness twice, because it is what the training is for, and what a viewer sees first.
WEIGHTS = {"likeness": 2.0, "sharpness": 1.0, "mouth": 1.0, "ssim": 1.0, "turn": 1.0}


class Watch:
    """The figures of a model on the watched part, or, for a person of photos alone, under head turns alone.

    None of its instruments is trained here. `identity`: dlib's cosine to the person. `cpbd`: sharpness of edges.
    `detail`: fine structure as a part of the truth's. `mouth`: correlation of the mouth's opening with the truth.
    `ssim`: with the truth. `yaw`: correlation with a head that turns. `faces`: share of frames with a face.
    """

    def __init__(
        self, reader: FaceReader, reference: np.ndarray, watched: Sequence[ClipRecord], data: DataConfig
    ) -> None:
        self._reader, self._reference = reader, reference
        stretches: list[Driven] = []
        for record in watched:
            left = MOST_FRAMES - sum(len(stretch.frames) for stretch in stretches)
            if left > 0:
                stretches.append(read_stretch(record, data, left))
        self._stretch = _joined(stretches) if stretches else None
        self._truth = reader.read(self._stretch.frames) if self._stretch else reader.read(reference[None])
        self._detail = detail(self._stretch.frames if self._stretch else reference[None])
        self._turns = pose_frames(sweep_angles(0, _TURNS), data)

    def __call__(self, networks: Mapping[str, nn.Module]) -> Look:
        """Looks at networks by letter, of which it takes copies."""
        copies = {letter: copy.deepcopy(networks[letter]) for letter in ("G", "V", "E", "A_sync")}
        model = AvModel(copies, next(networks["G"].parameters()).device)
        turned = drive(model, self._reference[None], self._turns, silence(len(self._turns)))
        turns = self._reader.read(turned)
        rows = [_row(self._reference, None, frame) for frame in turned[[0, 2, 4]]]
        seen = turns
        figures = {"yaw": correlation(turns.angles[:, 0], np.array(_TURNS)), "faces": turns.found}
        if self._stretch is not None:
            made = drive(model, self._reference[None], self._stretch.frames, self._stretch.windows)
            seen = self._reader.read(made)
            pairs = zip(self._stretch.frames, made, strict=True)
            figures["ssim"] = float(np.mean([ssim(true, generated) for true, generated in pairs]))
            figures["mouth"] = correlation(seen.opening, self._truth.opening)
            places = np.linspace(0, len(made) - 1, 3).round().astype(int)
            rows = [_row(self._reference, self._stretch.frames[n], made[n]) for n in places] + rows
        figures |= {"identity": _identity(seen), "cpbd": float(seen.sharpness.mean())}
        shown = turned if self._stretch is None else made
        figures["detail"] = detail(shown) / max(self._detail, 1e-6)
        figures["cpbd_of_truth"] = float(self._truth.sharpness.mean())
        return Look(score(figures), figures, rows)


def score(figures: Mapping[str, float]) -> float:
    """The weighted mean of what was measured, each part from 0 to 1."""
    parts = {
        "likeness": (figures["identity"] - STRANGER) / (_ALIKE - STRANGER),
        "sharpness": min(figures["cpbd"] / max(figures["cpbd_of_truth"], 1e-6), figures["detail"]),
        "turn": figures["yaw"] * figures["faces"],
    }
    parts |= {name: figures[name] for name in ("mouth", "ssim") if name in figures}
    total = sum(WEIGHTS[name] * float(np.clip(value, 0, 1)) for name, value in parts.items())
    return total / sum(WEIGHTS[name] for name in parts)


def _identity(reading: Reading) -> float:
    """A frame without a face is as unlike as a stranger's."""
    return mean(np.where(np.isfinite(reading.likeness), reading.likeness, STRANGER))


def _joined(stretches: Sequence[Driven]) -> Driven:
    frames, windows = (np.concatenate([getattr(s, name) for s in stretches]) for name in ("frames", "windows"))
    return Driven(frames, windows)


def _row(reference: np.ndarray, truth: np.ndarray | None, made: np.ndarray) -> dict[str, np.ndarray]:
    return {"reference": reference} | ({} if truth is None else {"truth": truth}) | {"generated": made}
