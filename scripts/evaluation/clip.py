"""Measures one pair: figures and curves of the generated video, and of the real one by the same ruler; 25 fps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from data.faces.face_tracker import FaceTracker
from data.video_pairs import OpenPair, VideoPair, open_pair
from data.video_reader import open_source
from options.config import FPS, SAMPLE_RATE_HZ
from scripts.evaluation.instruments import EvaluationConfig, Instruments
from util.errors import MediaError, PcavsError
from util.metrics.cpbd import cpbd
from util.metrics.identity import cosine_similarity
from util.metrics.landmark_distance import landmark_distances
from util.metrics.protocol import MODEL_SYNC, NEED_FACES, NEED_REAL, QUANTITIES
from util.metrics.ssim import psnr, ssim

FAKE, REAL = "generated", "truth"  # the sides of a pair, and their figures in a ClipResult
_BATCH = 16  # frames handed to Inception together
_SHORT_SOUND_S = 0.25  # the sound may end so much before the pictures
_SYNC_QUANTITIES = {  # metric -> its LSE-C, LSE-D and offset
    "sync": ("lse_c", "lse_d", "sync_offset"),
    MODEL_SYNC: ("model_sync_c", "model_sync_d", "model_sync_offset"),
}
_FRAME_METRICS = ("ssim", "psnr", "cpbd", "lmd", "identity")
_LMD = {"lmd": "mouth_mean", "lmd_sum": "mouth_sum", "lmd_face": "face_mean", "lmd_normalised": "mouth_normalised"}

Curves = dict[str, dict[str, np.ndarray]]  # side -> quantity -> (frames,) float64, NaN where there is no face
Features = dict[str, np.ndarray]  # side -> (n, D) float32


@dataclass
class ClipResult:
    """What was measured of a pair; figures that are missing have a reason in `skipped`."""

    name: str
    group: str
    num_frames: int = 0
    generated: dict[str, float] = field(default_factory=dict)  # quantity -> mean over the frames
    truth: dict[str, float] = field(default_factory=dict)  # the real video by the same ruler
    skipped: dict[str, str] = field(default_factory=dict)  # metric -> why
    inapplicable: dict[str, str] = field(default_factory=dict)  # the same, where nothing is wrong
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def remarks(self) -> list[str]:
        """Everything there is to say, the worst first."""
        skipped = [f"{metrics} skipped: {reason}" for reason, metrics in metrics_by_reason(self.skipped)]
        apart = [f"{metrics} do not apply: {reason}" for reason, metrics in metrics_by_reason(self.inapplicable)]
        return [*([self.error] if self.error else []), *self.problems, *skipped, *apart, *self.notes]


def metrics_by_reason(missing: Mapping[str, str]) -> list[tuple[str, str]]:
    """(reason, metrics that share it), in order of appearance."""
    reasons = dict.fromkeys(missing.values())
    return [(reason, ", ".join(m for m, r in missing.items() if r == reason)) for reason in reasons]


def measure_pair(
    pair: VideoPair, config: EvaluationConfig, instruments: Instruments, with_truth: bool = True
) -> tuple[ClipResult, Curves, Features]:
    """Measures a generated video, and with `with_truth` the real one by the same ruler.

    Raises MediaError: a video cannot be read, or sizes or rates differ.
    """
    opened = open_pair(pair, config.resample)
    result = ClipResult(
        pair.name, pair.group, opened.num_frames, notes=list(opened.notes), problems=list(opened.problems)
    )
    sides = [FAKE, REAL] if with_truth and opened.real is not None else [FAKE]
    wanted = [metric for metric in config.metrics if metric not in instruments.missing]
    apart = pair.apart or ("" if pair.real is not None else "there is no real video")
    if apart:
        reasons = {metric: apart for metric in NEED_REAL if metric in wanted}
        (result.skipped if pair.real is None else result.inapplicable).update(reasons)
    measurement = _Measurement(opened, config, instruments, sides, result)
    curves = measurement.measure_frames(wanted)
    for metric in [name for name in wanted if name in _SYNC_QUANTITIES]:
        measurement.measure_sync(metric)
    return result, curves, measurement.inception_features() if "frechet" in wanted else {}


@dataclass
class _Measurement:
    """A pair while it is measured; figures and what is to be said go into `result`."""

    opened: OpenPair
    config: EvaluationConfig
    instruments: Instruments
    sides: list[str]  # whose figures are wanted
    result: ClipResult
    reference: np.ndarray | None = None  # embedding of the person

    def measure_frames(self, wanted: Sequence[str]) -> Curves:
        """Goes through both videos once."""
        skipped, metrics = self.result.skipped, self._usable_metrics(wanted)
        trackers = self._trackers(metrics)
        faceless = dict.fromkeys(trackers, 0)
        curves: dict[str, dict[str, list[float]]] = {side: {} for side in self.sides}
        count = 0
        for real, generated in self.opened.frames() if metrics else ():
            images = {FAKE: generated} if real is None else {FAKE: generated, REAL: real}
            points = {side: tracker.landmarks(images[side]) for side, tracker in trackers.items()}
            for side, found in points.items():
                faceless[side] += bool(np.isnan(found).any())
            for side in self.sides:
                for metric in [name for name in self._metrics_of(side, metrics) if name not in skipped]:
                    try:
                        values = self._frame_values(metric, side, count, images, points)
                    except PcavsError as error:  # the frame is unfit for it
                        skipped[metric] = str(error)
                        continue
                    for quantity, value in values.items():
                        curves[side].setdefault(quantity, []).append(value)
            count += 1
        if metrics and count < self.opened.num_frames:
            self.result.problems.append(f"only {count} of {self.opened.num_frames} frames could be read")
        unfit = set(skipped)
        self._note_missing_faces(faceless, count, metrics)
        for metric in [name for name in metrics if name not in skipped]:
            known = [values for quantity, values in curves[FAKE].items() if QUANTITIES[quantity].metric == metric]
            if not any(np.isfinite(values).any() for values in known):
                skipped[metric] = "no face in any of the frames that were looked at"
        # where only the generated video lacks faces, the real one is still measured
        left: Curves = {}
        for side, without in zip(self.sides, (set(skipped), unfit), strict=False):
            measured = {q: np.array(v) for q, v in curves[side].items() if QUANTITIES[q].metric not in without}
            finite = {quantity: values[np.isfinite(values)] for quantity, values in measured.items()}
            getattr(self.result, side).update({q: float(v.mean()) for q, v in finite.items() if len(v)})
            left[side] = measured
        return left

    def _usable_metrics(self, wanted: Sequence[str]) -> list[str]:
        """The metrics of single frames that can be measured of this pair."""
        if "identity" in wanted:
            try:
                self.reference = self._embed_reference()
            except PcavsError as error:
                self.result.skipped["identity"] = str(error)
        without = {*self.result.skipped, *self.result.inapplicable}
        return [name for name in _FRAME_METRICS if name in wanted and name not in without]

    def _metrics_of(self, side: str, metrics: Sequence[str]) -> Sequence[str]:
        """All, but the likeness of a real video says something only if it shows the same person."""
        alike = side == FAKE or self.opened.pair.same_person
        return metrics if alike else [name for name in metrics if name != "identity"]

    def _trackers(self, metrics: Sequence[str]) -> dict[str, FaceTracker]:
        """Of the videos in which faces are looked for; landmarks are compared with those of the real one."""
        needing = {side: set(NEED_FACES) & set(self._metrics_of(side, metrics)) for side in self.sides}
        if "lmd" in metrics:
            needing[REAL] = {"lmd"}
        return {side: self._tracker(self.config.protocol.detect_every) for side, some in needing.items() if some}

    def _tracker(self, detect_every: int) -> FaceTracker:
        assert self.instruments.detector is not None
        return FaceTracker(self.instruments.detector, "largest", detect_every)

    def _embed_reference(self) -> np.ndarray:
        """Of the reference picture, or of the first real frame with a face."""
        assert self.instruments.embedder is not None
        picture, tracker = self.opened.pair.reference, self._tracker(detect_every=1)
        if picture is None and (self.opened.real is None or not self.opened.pair.same_person):
            raise MediaError("no reference picture, and no real video of the same person, to compare with")
        images = self.opened.real_frames() if picture is None else [next(open_source(picture).frames())[1]]
        for image in images:
            points = tracker.landmarks(image)
            if not np.isnan(points).any():
                return self.instruments.embedder.embed(image, points)
        raise MediaError(f"no face in the reference {picture}" if picture else "no face in the real video")

    def _frame_values(
        self, metric: str, side: str, number: int, images: Mapping[str, np.ndarray], points: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """Quantity -> value of a frame, NaN where there is no face."""
        if metric == "ssim":
            return {"ssim": ssim(images[REAL], images[side])}
        if metric == "psnr":
            return {"psnr": psnr(images[REAL], images[side])}
        if metric == "cpbd":
            return {"cpbd": cpbd(cv2.cvtColor(images[side], cv2.COLOR_BGR2GRAY))}
        if metric == "lmd":
            distances = landmark_distances(points[REAL][None], points[side][None])
            return {name: float(distances[key][0]) for name, key in _LMD.items()}
        assert self.reference is not None
        assert self.instruments.embedder is not None
        every = self.config.protocol.identity_every
        # from the middle of the interval on: the first real frame may be the reference itself
        first = min(every // 2, self.opened.num_frames - 1)
        if number % every != first or np.isnan(points[side]).any():
            return {"identity": math.nan}
        embedding = self.instruments.embedder.embed(images[side], points[side])
        return {"identity": float(cosine_similarity(self.reference, embedding))}

    def _note_missing_faces(self, faceless: Mapping[str, int], num_frames: int, metrics: Sequence[str]) -> None:
        """Says how many frames have no face; where no frame has one, the metrics that need one are skipped."""
        needing = [metric for metric in NEED_FACES if metric in metrics]
        for side, count in faceless.items():
            video = "generated" if side == FAKE else "real"
            if 0 < count < num_frames:
                left_out = f"left out of {' and '.join(needing)}"
                self.result.problems.append(f"no face in {count} of {num_frames} {video} frames, {left_out}")
            elif count:
                affected = needing if side == FAKE else [metric for metric in needing if metric == "lmd"]
                self.result.skipped |= dict.fromkeys(affected, f"no face in any of the {num_frames} {video} frames")

    def measure_sync(self, metric: str) -> None:
        """LSE-C, LSE-D and offset of every side."""
        for side in self.sides:
            try:
                sound = self.opened.generated_sound() if side == FAKE else self.opened.real_sound()
                sound = sound[: self.opened.num_frames * SAMPLE_RATE_HZ // FPS]
                scores = self.instruments.sync[metric](self._frames_of(side), self.opened.num_frames, sound)
            except PcavsError as error:
                if side == FAKE:
                    self.result.skipped[metric] = str(error)
                else:
                    self.result.problems.append(f"{metric} of the real video skipped: {error}")
                continue
            short_s = self.opened.num_frames / FPS - len(sound) / SAMPLE_RATE_HZ
            problem = f"the sound of the {side} video ends {short_s:.2f} s before its pictures"
            if short_s > _SHORT_SOUND_S and problem not in self.result.problems:
                self.result.problems.append(problem)
            figures = (scores.lse_c, scores.lse_d, float(scores.offset_frames))
            getattr(self.result, side).update(zip(_SYNC_QUANTITIES[metric], figures, strict=True))

    def inception_features(self) -> Features:
        """Features of evenly spread frames: (n, D) float32 each."""
        assert self.instruments.features is not None
        num_frames = self.opened.num_frames
        count = min(num_frames, self.config.protocol.frechet_frames)
        numbers = set(np.linspace(0, num_frames - 1, count).round().astype(int).tolist())
        features: Features = {}
        for side in self.sides:
            chosen = (image for number, image in enumerate(self._frames_of(side)) if number in numbers)
            parts = []
            while batch := list(itertools.islice(chosen, _BATCH)):
                parts.append(self.instruments.features(np.stack(batch)))
            features[side] = np.concatenate(parts)
        return features

    def _frames_of(self, side: str) -> Iterator[np.ndarray]:
        return self.opened.generated_frames() if side == FAKE else self.opened.real_frames()
