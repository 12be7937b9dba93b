"""Measures one pair: figures and curves of the generated video, and of the real one by the same ruler; 25 fps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from data.faces.face_tracker import FaceTracker
from data.frames import IMAGE_SUFFIXES, read_image
from data.video_pairs import OpenPair, VideoPair, open_pair
from options.config import FPS, SAMPLE_RATE_HZ
from scripts.evaluation.instruments import EvaluationConfig, Instruments
from util.errors import MediaError, PcavsError
from util.metrics.cpbd import cpbd
from util.metrics.identity import cosine_similarity
from util.metrics.landmark_distance import landmark_distances
from util.metrics.protocol import MODEL_SYNC, NEED_FACES, NEED_REAL, QUANTITIES
from util.metrics.ssim import psnr, ssim

GENERATED, TRUTH = "generated", "truth"  # the sides of a pair
_BATCH = 16  # frames handed to Inception together
_SHORT_SOUND_S = 0.25  # the sound may end so much before the pictures
_SYNC_QUANTITIES = {  # metric -> its LSE-C, LSE-D and offset
    "sync": ("lse_c", "lse_d", "sync_offset"),
    MODEL_SYNC: ("model_sync_c", "model_sync_d", "model_sync_offset"),
}
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


@dataclass(frozen=True)
class LandmarkedFrame:
    """A frame of one of the two videos, and the landmarks in it."""

    number: int
    image: np.ndarray  # (H, W, 3) uint8 BGR
    points: np.ndarray  # (68, 2) float64, NaN without a face or where no metric needs one


# What a metric says of a frame: (the real frame, the frame that is measured) -> quantity -> value. Without a real
# video the first is None, and no metric of NEED_REAL is asked.
FrameMetric = Callable[["LandmarkedFrame | None", LandmarkedFrame], dict[str, float]]


def measure_pair(
    pair: VideoPair, config: EvaluationConfig, instruments: Instruments, with_truth: bool = True
) -> tuple[ClipResult, Curves, Features]:
    """Measures a generated video, and with `with_truth` the real one by the same ruler.

    Raises:
        MediaError: a video cannot be read, or sizes or rates differ.
    """
    opened = open_pair(pair, config.resample)
    result = ClipResult(pair.name, pair.group, opened.num_frames)
    result.notes, result.problems = list(opened.notes), list(opened.problems)
    wanted = [metric for metric in config.metrics if metric not in instruments.missing]
    apart = pair.apart or ("" if pair.real is not None else "there is no real video")
    if apart:
        reasons = {metric: apart for metric in NEED_REAL if metric in wanted}
        (result.skipped if pair.real is None else result.inapplicable).update(reasons)
    sides = [GENERATED, TRUTH] if with_truth and opened.real is not None else [GENERATED]
    metrics = _frame_metrics(opened, config, instruments, wanted, result)
    curves = _measure_frames(opened, metrics, sides, config, instruments, result)
    for side in sides:
        known = {name: values[np.isfinite(values)] for name, values in curves[side].items()}
        getattr(result, side).update({name: float(values.mean()) for name, values in known.items() if len(values)})
    for metric in [name for name in wanted if name in _SYNC_QUANTITIES]:
        _measure_sync(opened, sides, metric, instruments, result)
    features = _inception_features(opened, sides, config, instruments) if "frechet" in wanted else {}
    return result, curves, features


def _frame_metrics(
    opened: OpenPair, config: EvaluationConfig, instruments: Instruments, wanted: Sequence[str], result: ClipResult
) -> dict[str, FrameMetric]:
    """The metrics of single frames that can be measured of this pair."""
    metrics: dict[str, FrameMetric] = {
        "ssim": lambda real, shown: {"ssim": ssim(_present(real).image, shown.image)},
        "psnr": lambda real, shown: {"psnr": psnr(_present(real).image, shown.image)},
        "cpbd": lambda _, shown: {"cpbd": cpbd(cv2.cvtColor(shown.image, cv2.COLOR_BGR2GRAY))},
        "lmd": _landmark_values,
    }
    if "identity" in wanted:
        try:
            metrics["identity"] = _identity_metric(opened, config, instruments)
        except PcavsError as error:
            result.skipped["identity"] = str(error)
    without = {*result.skipped, *result.inapplicable}
    return {name: metric for name, metric in metrics.items() if name in wanted and name not in without}


def _present(real: LandmarkedFrame | None) -> LandmarkedFrame:
    assert real is not None
    return real


def _landmark_values(real: LandmarkedFrame | None, shown: LandmarkedFrame) -> dict[str, float]:
    distances = landmark_distances(_present(real).points[None], shown.points[None])
    return {name: float(distances[key][0]) for name, key in _LMD.items()}


def _identity_metric(opened: OpenPair, config: EvaluationConfig, instruments: Instruments) -> FrameMetric:
    """Likeness to the reference picture, or to the first real frame with a face; NaN in frames that are left out.

    Raises:
        MediaError: neither is known, or there is no face.
    """
    embedder = instruments.embedder
    assert embedder is not None
    picture = opened.pair.reference
    if picture is None and (opened.real is None or not opened.pair.same_person):
        raise MediaError("no reference picture, and no real video of the same person, to compare with")
    frames = [read_image(_picture_file(picture))] if picture is not None else opened.real_frames()
    tracker = _tracker(instruments, detect_every=1)
    found = ((image, tracker.step(image)[0]) for image in frames)
    image, face = next(((image, face) for image, face in found if face is not None), (None, None))
    if image is None or face is None:
        raise MediaError(f"no face in the reference {picture}" if picture is not None else "no face in the real video")
    reference, every = embedder.embed(image, face.points), config.protocol.identity_every
    # from the middle of the interval on: the first real frame may be the reference itself
    first = min(every // 2, opened.num_frames - 1)

    def likeness(_: LandmarkedFrame | None, shown: LandmarkedFrame) -> dict[str, float]:
        if shown.number % every != first or np.isnan(shown.points).any():
            return {"identity": math.nan}
        return {"identity": float(cosine_similarity(reference, embedder.embed(shown.image, shown.points)))}

    return likeness


def _picture_file(path: Path) -> Path:
    """The picture itself, or the first of a folder."""
    if not path.is_dir():
        return path
    pictures = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not pictures:
        raise MediaError(f"{path}: the reference holds no picture")
    return pictures[0]


def _measure_frames(
    opened: OpenPair,
    metrics: Mapping[str, FrameMetric],
    sides: Sequence[str],
    config: EvaluationConfig,
    instruments: Instruments,
    result: ClipResult,
) -> Curves:
    """Goes through both videos once; a metric that a frame is unfit for is dropped, with the reason."""
    by_side = {GENERATED: list(metrics)}
    if TRUTH in sides:  # the likeness of a real video says something only if it shows the same person
        by_side[TRUTH] = [name for name in metrics if name != "identity" or opened.pair.same_person]
    need_faces = {side: set(NEED_FACES) & set(by_side.get(side, ())) for side in (GENERATED, TRUTH)}
    need_faces[TRUTH] |= {"lmd"} & set(metrics)
    trackers = {side: _tracker(instruments, config.protocol.detect_every) for side, some in need_faces.items() if some}
    curves: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    faceless = dict.fromkeys(trackers, 0)
    count = 0
    for real, generated in opened.frames() if metrics else ():
        images = {TRUTH: real, GENERATED: generated}
        frames = {s: _landmarked(count, image, trackers.get(s)) for s, image in images.items() if image is not None}
        for side in trackers:
            faceless[side] += bool(np.isnan(frames[side].points).any())
        for side, names in by_side.items():
            asked = {name: metrics[name] for name in names if name not in result.skipped}
            for quantity, value in _frame_values(asked, frames.get(TRUTH), frames[side], result.skipped).items():
                curves[side].setdefault(quantity, []).append(value)
        count += 1
    if metrics and count < opened.num_frames:
        result.problems.append(f"only {count} of {opened.num_frames} frames could be read")
    unfit = set(result.skipped)
    _note_missing_faces(faceless, count, metrics, result)
    for metric in [name for name in metrics if name not in result.skipped]:
        known = [values for quantity, values in curves[GENERATED].items() if QUANTITIES[quantity].metric == metric]
        if not any(np.isfinite(values).any() for values in known):
            result.skipped[metric] = "no face in any of the frames that were looked at"
    # where only the generated video lacks faces, the real one is still measured
    without = {GENERATED: set(result.skipped), TRUTH: unfit}
    return {
        side: {name: np.array(v) for name, v in curves[side].items() if QUANTITIES[name].metric not in without[side]}
        for side in sides
    }


def _landmarked(number: int, image: np.ndarray, tracker: FaceTracker | None) -> LandmarkedFrame:
    face = tracker.step(image)[0] if tracker is not None else None
    return LandmarkedFrame(number, image, np.full((68, 2), np.nan) if face is None else face.points)


def _frame_values(
    metrics: Mapping[str, FrameMetric], real: LandmarkedFrame | None, shown: LandmarkedFrame, skipped: dict[str, str]
) -> dict[str, float]:
    """What the metrics say of a frame; one that it is unfit for is added to `skipped`."""
    values: dict[str, float] = {}
    for name, metric in metrics.items():
        try:
            values |= metric(real, shown)
        except PcavsError as error:
            skipped[name] = str(error)
    return values


def _tracker(instruments: Instruments, detect_every: int) -> FaceTracker:
    assert instruments.detector is not None
    return FaceTracker(instruments.detector, "largest", detect_every)


def _note_missing_faces(
    faceless: Mapping[str, int], num_frames: int, metrics: Mapping[str, FrameMetric], result: ClipResult
) -> None:
    """Says how many frames have no face; where no frame has one, the metrics that need one are skipped."""
    needing = [metric for metric in NEED_FACES if metric in metrics]
    for side, count in faceless.items():
        video = "generated" if side == GENERATED else "real"
        if 0 < count < num_frames:
            which = " and ".join(needing)
            result.problems.append(f"no face in {count} of {num_frames} {video} frames, left out of {which}")
        elif count:
            affected = needing if side == GENERATED else [metric for metric in needing if metric == "lmd"]
            result.skipped |= dict.fromkeys(affected, f"no face in any of the {num_frames} {video} frames")


def _measure_sync(
    opened: OpenPair, sides: Sequence[str], metric: str, instruments: Instruments, result: ClipResult
) -> None:
    for side in sides:
        try:
            sound = opened.generated_sound() if side == GENERATED else opened.real_sound()
            sound = sound[: opened.num_frames * SAMPLE_RATE_HZ // FPS]
            scores = instruments.sync[metric](_frames_of(opened, side), opened.num_frames, sound)
        except PcavsError as error:
            if side == GENERATED:
                result.skipped[metric] = str(error)
            else:
                result.problems.append(f"{metric} of the real video skipped: {error}")
            continue
        short_s = opened.num_frames / FPS - len(sound) / SAMPLE_RATE_HZ
        problem = f"the sound of the {side} video ends {short_s:.2f} s before its pictures"
        if short_s > _SHORT_SOUND_S and problem not in result.problems:
            result.problems.append(problem)
        figures = (scores.lse_c, scores.lse_d, float(scores.offset_frames))
        getattr(result, side).update(zip(_SYNC_QUANTITIES[metric], figures, strict=True))


def _inception_features(
    opened: OpenPair, sides: Sequence[str], config: EvaluationConfig, instruments: Instruments
) -> Features:
    """Features of evenly spread frames: (n, D) float32 each."""
    assert instruments.features is not None
    count = min(opened.num_frames, config.protocol.frechet_frames)
    numbers = set(np.linspace(0, opened.num_frames - 1, count).round().astype(int).tolist())
    features: Features = {}
    for side in sides:
        chosen = (image for number, image in enumerate(_frames_of(opened, side)) if number in numbers)
        parts = []
        while batch := list(itertools.islice(chosen, _BATCH)):
            parts.append(instruments.features(np.stack(batch)))
        features[side] = np.concatenate(parts)
    return features


def _frames_of(opened: OpenPair, side: str) -> Iterator[np.ndarray]:
    return opened.generated_frames() if side == GENERATED else opened.real_frames()
