"""What scripts/evaluate.py does with its pairs: measures each, and writes tables and a page; 25 frames a second."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from data.faces.face_tracker import FaceTracker
from data.faces.landmarks import LandmarkDetector, make_detector
from data.frames import pictures_in, read_image
from data.metadata import unique_names
from data.video_pairs import FPS, OpenPair, VideoPair, open_pair, pair_name, state_of
from util.errors import CheckpointError, MediaError, PcavsError
from util.files import make_directory, write_bytes, write_json
from util.metrics.cpbd import cpbd
from util.metrics.frechet import inception_features
from util.metrics.identity import ArcFaceEmbedder, DlibEmbedder, FaceEmbedder, cosine_similarity
from util.metrics.landmark_distance import landmark_distances
from util.metrics.protocol import MODEL_SYNC, NEED_FACES, NEED_REAL, QUANTITIES, Protocol
from util.metrics.ssim import psnr, ssim
from util.metrics.sync_score import (
    SAMPLE_RATE_HZ,
    WINDOW_FRAMES,
    SyncScores,
    num_windows,
    score_clip,
    sync_scores,
    to_int16,
    unit_vectors,
)

logger = logging.getLogger(__name__)

GENERATED, TRUTH = "generated", "truth"
SYNCNET_HINT = "give the published weights: --syncnet syncnet_v2.model"
CLIPS = "clips"  # folder of an evaluation: a JSON file for every clip
_FORMAT = 1  # of the files in `clips`; raised when the same clip would come out differently
_BATCH = 16  # frames handed to Inception or E together
_SHORT_SOUND_S = 0.25  # the sound may end so much before the pictures
_SYNC = {  # metric -> its LSE-C, LSE-D and offset
    "sync": ("lse_c", "lse_d", "sync_offset"),
    MODEL_SYNC: ("model_sync_c", "model_sync_d", "model_sync_offset"),
}
_EPOCH = "latest"
_SYNC_LETTERS = ("A_sync", "E")  # networks of a model that tell whether sound and face agree
_LMD = {"lmd": "mouth_mean", "lmd_sum": "mouth_sum", "lmd_face": "face_mean", "lmd_normalised": "mouth_normalised"}


# ------------------------------------------------------------------------------------------------------------- tools

# frames (H, W, 3) uint8 BGR from the start of the sound on, how many, the sound (samples,) float32 at 16 kHz
SyncScorer = Callable[[Iterable[np.ndarray], int, np.ndarray], SyncScores]


@dataclass(frozen=True)
class Instruments:
    """Which detector and weights are used."""

    landmarks: str = "dlib"
    syncnet: Path | None = None
    arcface: Path | None = None  # None: dlib's network
    inception: Path | None = None
    device: str = "cpu"  # of SyncNet, the sync model and face_alignment; the rest runs on the CPU
    sync_model: Path | None = None  # folder of a checkpoint


@dataclass(frozen=True)
class Setup:
    """What is the same for all clips."""

    protocol: Protocol
    metrics: tuple[str, ...]
    instruments: Instruments = field(default_factory=Instruments)
    resample: bool = False

    @property
    def quantities(self) -> tuple[str, ...]:
        """Every quantity of the metrics."""
        return tuple(name for name, quantity in QUANTITIES.items() if quantity.metric in self.metrics)


@dataclass
class Tools:
    """Loaded networks; None where a metric does not need it or it could not be loaded."""

    detector: LandmarkDetector | None = None
    embedder: FaceEmbedder | None = None
    sync: dict[str, SyncScorer] = field(default_factory=dict)  # by metric
    features: Callable[[np.ndarray], np.ndarray] | None = None
    names: dict[str, str] = field(default_factory=dict)  # metric -> what measures it
    missing: dict[str, str] = field(default_factory=dict)  # metric -> why it cannot be measured


def load_tools(setup: Setup) -> Tools:
    """Loads what the metrics need; what cannot be loaded is noted in `missing`, and the others go on."""
    tools, chosen = Tools(), setup.instruments
    if set(setup.metrics) & set(NEED_FACES):
        try:
            tools.detector = make_detector(chosen.landmarks, chosen.device)
            tools.names["lmd"] = f"landmarks by {tools.detector.name}"
        except PcavsError as error:
            tools.missing |= {metric: str(error) for metric in NEED_FACES if metric in setup.metrics}
    if "identity" in setup.metrics and "identity" not in tools.missing:
        try:
            tools.embedder = ArcFaceEmbedder(chosen.arcface) if chosen.arcface else DlibEmbedder()
            tools.names["identity"] = tools.embedder.name
        except PcavsError as error:
            tools.missing["identity"] = str(error)
    if "sync" in setup.metrics:
        try:
            tools.sync["sync"] = load_syncnet(chosen.syncnet, chosen.device)
            tools.names["sync"] = f"SyncNet, {_weights_name(chosen.syncnet)}"
        except PcavsError as error:
            tools.missing["sync"] = str(error)
    if MODEL_SYNC in setup.metrics:
        try:
            tools.sync[MODEL_SYNC] = load_sync_model(chosen.sync_model, chosen.device)
            tools.names[MODEL_SYNC] = f"{chosen.sync_model}: {', '.join(map(_weights_name, _sync_weights(chosen)))}"
        except PcavsError as error:
            tools.missing[MODEL_SYNC] = str(error)
    if "frechet" in setup.metrics:
        try:
            if chosen.inception is None:
                raise CheckpointError("no weights: give torchvision's Inception v3 as --inception FILE")
            tools.features = inception_features(chosen.inception)
            tools.names["frechet"] = f"torchvision's Inception v3, {_weights_name(chosen.inception)}"
        except PcavsError as error:
            tools.missing["frechet"] = str(error)
    return tools


def load_syncnet(path: Path | None, device: str = "cpu") -> SyncScorer:
    """The published measure of sync, see `util.metrics.sync_score.score_clip`.

    Raises:
        CheckpointError: no file, or weights of something else.
    """
    if path is None or not path.is_file():
        raise CheckpointError(f"no weights{'' if path is None else f' at {path}'}: {SYNCNET_HINT}")
    import torch

    from models.networks.syncnet import SyncNet, published_state
    from util.checkpoint import read_state_dict

    network = SyncNet()
    try:
        network.load_state_dict(published_state(read_state_dict(path)))
    except (KeyError, RuntimeError) as error:
        reason = str(error.args[0]).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be loaded as SyncNet ({reason}); {SYNCNET_HINT}") from error
    network.eval().requires_grad_(False).to(device)

    def embed(stream: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda windows: stream(torch.from_numpy(windows).to(device)).cpu().numpy()

    def score(frames: Iterable[np.ndarray], num_frames: int, wave: np.ndarray) -> SyncScores:
        lip, audio = embed(network.embed_lip), embed(network.embed_audio)
        return score_clip(frames, num_frames, to_int16(wave), lip, audio)

    return score


def load_sync_model(folder: Path | None, device: str = "cpu") -> SyncScorer:
    """Sync as a model of this project sees it: A_sync of the sound against to_mouth(E(frame)), a unit vector a frame.

    Frames are taken as they are, so they must be cropped like those of results.

    Args:
        folder: with `latest_net_A_sync.pth`, `latest_net_E.pth` and, for other than the published sizes, network.json.

    Raises:
        CheckpointError: no folder, a file is missing, or weights of something else.
    """
    if folder is None:
        raise CheckpointError("no weights: give the folder of a trained model as --sync_model DIR")
    import torch

    from data.audio import log_mel, mel_window
    from models.registry import OPTIONAL_HEADS, build_network
    from options.config import NetworkConfig
    from util.checkpoint import load_network, network_path, require_networks
    from util.images import to_unit_range

    require_networks(folder, _EPOCH, _SYNC_LETTERS)
    sizes = folder / "network.json"
    config = NetworkConfig.from_file(sizes) if sizes.is_file() else NetworkConfig()
    hearing, seeing = (build_network(letter, config) for letter in _SYNC_LETTERS)
    for letter, network in zip(_SYNC_LETTERS, (hearing, seeing), strict=True):
        load_network(network, network_path(folder, _EPOCH, letter), OPTIONAL_HEADS[letter])
        network.eval().requires_grad_(False).to(device)
    face: Any = seeing

    def score(frames: Iterable[np.ndarray], num_frames: int, wave: np.ndarray) -> SyncScores:
        count = num_windows(num_frames, len(wave)) + WINDOW_FRAMES
        mel = log_mel(wave)
        seen, heard = [], []
        for start, images in zip(
            range(0, count, _BATCH), _batches(itertools.islice(frames, count), _BATCH), strict=False
        ):
            pictures = torch.from_numpy(to_unit_range(np.stack(images)[..., ::-1]))
            windows = np.stack([mel_window(mel, number) for number in range(start, start + len(images))])
            seen.append(face.to_mouth(face(pictures.to(device))).cpu().numpy())
            heard.append(hearing(torch.from_numpy(windows).to(device)).cpu().numpy())
        return sync_scores(unit_vectors(np.concatenate(seen)), unit_vectors(np.concatenate(heard)))

    return score


def _sync_weights(chosen: Instruments) -> list[Path]:
    from util.checkpoint import network_path

    return [network_path(chosen.sync_model, _EPOCH, letter) for letter in _SYNC_LETTERS] if chosen.sync_model else []


def _weights_name(path: Path | None) -> str:
    assert path is not None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"{path.name} (SHA-256 {digest.hexdigest()[:12]})"


# ------------------------------------------------------------------------------------------------------------ a clip


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


Curves = dict[str, dict[str, np.ndarray]]  # side -> quantity -> (frames,) float64, NaN where there is no face
Features = dict[str, np.ndarray]  # side -> (n, D) float32


@dataclass(frozen=True)
class Seen:
    """A frame, its number, and the landmarks in it: (68, 2), NaN without a face."""

    number: int
    image: np.ndarray
    points: np.ndarray


FrameMeter = Callable[["Seen | None", Seen], dict[str, float]]  # (real, shown)


def measure_clip(
    pair: VideoPair, setup: Setup, tools: Tools, with_truth: bool = True
) -> tuple[ClipResult, Curves, Features]:
    """Measures a generated video, and with `with_truth` the real one by the same ruler.

    Raises:
        MediaError: a video cannot be read, or sizes or rates differ.
    """
    opened = open_pair(pair, setup.resample)
    result = ClipResult(pair.name, pair.group, opened.num_frames)
    result.notes, result.problems = list(opened.notes), list(opened.problems)
    wanted = [metric for metric in setup.metrics if metric not in tools.missing]
    apart = pair.apart or ("" if pair.real is not None else "there is no real video")
    if apart:
        reasons = {metric: apart for metric in NEED_REAL if metric in wanted}
        (result.skipped if pair.real is None else result.inapplicable).update(reasons)
    sides = [GENERATED, TRUTH] if with_truth and opened.real is not None else [GENERATED]
    meters = _meters(opened, setup, tools, wanted, result)
    curves = _frame_pass(opened, meters, sides, setup, tools, result)
    for side in sides:
        figures = {name: _mean(values) for name, values in curves[side].items()}
        getattr(result, side).update({name: value for name, value in figures.items() if value is not None})
    for metric in [name for name in wanted if name in _SYNC]:
        _sync_pass(opened, sides, metric, tools.sync[metric], result)
    features = _feature_pass(opened, sides, setup, tools) if "frechet" in wanted else {}
    return result, curves, features


def _meters(
    opened: OpenPair, setup: Setup, tools: Tools, wanted: Sequence[str], result: ClipResult
) -> dict[str, FrameMeter]:
    """The frame metrics that can be measured of this pair."""
    meters: dict[str, FrameMeter] = {
        "ssim": lambda real, shown: {"ssim": ssim(_real(real), shown.image)},
        "psnr": lambda real, shown: {"psnr": psnr(_real(real), shown.image)},
        "cpbd": lambda _, shown: {"cpbd": cpbd(cv2.cvtColor(shown.image, cv2.COLOR_BGR2GRAY))},
        "lmd": _landmark_values,
    }
    if "identity" in wanted:
        try:
            reference, every = _reference_embedding(opened, tools), setup.protocol.identity_every
            # from the middle of the interval on: the first real frame may be the reference itself
            first = min(every // 2, opened.num_frames - 1)
            meters["identity"] = lambda _, shown: {
                "identity": _likeness(reference, shown, tools) if shown.number % every == first else math.nan
            }
        except PcavsError as error:
            result.skipped["identity"] = str(error)
    without = {*result.skipped, *result.inapplicable}
    return {metric: meter for metric, meter in meters.items() if metric in wanted and metric not in without}


def _real(seen: Seen | None) -> np.ndarray:
    assert seen is not None
    return seen.image


def _landmark_values(real: Seen | None, shown: Seen) -> dict[str, float]:
    assert real is not None
    distances = landmark_distances(real.points[None], shown.points[None])
    return {name: float(distances[key][0]) for name, key in _LMD.items()}


def _likeness(reference: np.ndarray, shown: Seen, tools: Tools) -> float:
    if not np.isfinite(shown.points).all():
        return math.nan
    assert tools.embedder is not None
    return float(cosine_similarity(reference, tools.embedder.embed(shown.image, shown.points)))


def _reference_embedding(opened: OpenPair, tools: Tools) -> np.ndarray:
    """Of the reference picture, or of the first real frame with a face.

    Raises:
        MediaError: neither is known, or there is no face.
    """
    assert tools.detector is not None
    assert tools.embedder is not None
    picture = opened.pair.reference
    if picture is None and (opened.real is None or not opened.pair.same_person):
        raise MediaError("no reference picture, and no real video of the same person, to compare with")
    tracker = FaceTracker(tools.detector, "largest", 1)
    for image in [read_image(_picture_file(picture))] if picture is not None else opened.real_frames():
        face, _ = tracker.step(image)
        if face is not None:
            return tools.embedder.embed(image, face.points)
    raise MediaError(f"no face in the reference {picture}" if picture is not None else "no face in the real video")


def _picture_file(path: Path) -> Path:
    """The picture itself, or the first of a folder."""
    if not path.is_dir():
        return path
    pictures = pictures_in(path)
    if not pictures:
        raise MediaError(f"{path}: the reference holds no picture")
    return pictures[0]


def _frame_pass(
    opened: OpenPair,
    meters: Mapping[str, FrameMeter],
    sides: Sequence[str],
    setup: Setup,
    tools: Tools,
    result: ClipResult,
) -> Curves:
    """Goes through both videos once; a metric that a frame is unfit for is dropped, with the reason."""
    by_side = {side: _metrics_of_side(side, meters, opened.pair) for side in sides}
    curves: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    faces = {side: _needs_face(side, by_side) for side in (GENERATED, TRUTH)}
    trackers = {side: _tracker(tools, setup) for side, needed in faces.items() if needed}
    missing = dict.fromkeys(trackers, 0)
    frames = opened.frames() if any(by_side.values()) else iter(())
    count = 0
    for real_image, image in frames:
        count += 1
        seen = {}
        for side, picture in ((TRUTH, real_image), (GENERATED, image)):
            if picture is not None:
                seen[side] = Seen(count - 1, picture, _landmarks(trackers.get(side), picture))
                missing[side] = missing.get(side, 0) + (side in trackers and bool(np.isnan(seen[side].points).any()))
        for side, metrics in by_side.items():
            for name, value in _frame_values(meters, metrics, seen.get(TRUTH), seen[side], result.skipped).items():
                curves[side].setdefault(name, []).append(value)
    if any(by_side.values()) and count < opened.num_frames:
        result.problems.append(f"only {count} of {opened.num_frames} frames could be read")
    unfit = set(result.skipped)
    _note_faces(missing, count, meters, result)
    for metric in set(by_side[GENERATED]) - set(result.skipped):
        known = [v for name, v in curves[GENERATED].items() if QUANTITIES[name].metric == metric]
        if not any(np.isfinite(values).any() for values in known):
            result.skipped[metric] = "no face in any of the frames that were looked at"
    # where only the generated video lacks faces, the real one is still measured
    without = {GENERATED: set(result.skipped), TRUTH: unfit}
    return {
        side: {name: np.array(v) for name, v in curves[side].items() if QUANTITIES[name].metric not in without[side]}
        for side in sides
    }


def _frame_values(
    meters: Mapping[str, FrameMeter], metrics: Sequence[str], real: Seen | None, shown: Seen, skipped: dict[str, str]
) -> dict[str, float]:
    """What the metrics say of a frame; one that it is unfit for is added to `skipped` and not asked again."""
    values: dict[str, float] = {}
    for metric in [name for name in metrics if name not in skipped]:
        try:
            values |= meters[metric](real, shown)
        except PcavsError as error:
            skipped[metric] = str(error)
    return values


def _metrics_of_side(side: str, meters: Mapping[str, FrameMeter], pair: VideoPair) -> list[str]:
    """All for the generated video; the likeness of a real one only if it shows the same person."""
    return [metric for metric in meters if side == GENERATED or metric != "identity" or pair.same_person]


def _needs_face(side: str, by_side: Mapping[str, Sequence[str]]) -> bool:
    needed = {metric for metric in by_side.get(side, ()) if metric in NEED_FACES}
    return bool(needed) or (side == TRUTH and "lmd" in by_side[GENERATED])


def _tracker(tools: Tools, setup: Setup) -> FaceTracker:
    assert tools.detector is not None
    return FaceTracker(tools.detector, "largest", setup.protocol.detect_every)


def _landmarks(tracker: FaceTracker | None, image: np.ndarray) -> np.ndarray:
    face = tracker.step(image)[0] if tracker is not None else None
    return face.points if face is not None else np.full((68, 2), np.nan)


def _note_faces(missing: Mapping[str, int], frames: int, meters: Mapping[str, Any], result: ClipResult) -> None:
    """Names frames without a face; without any, the metrics that need one are skipped."""
    video = {GENERATED: "generated", TRUTH: "real"}
    needing = [metric for metric in NEED_FACES if metric in meters]
    for side, count in missing.items():
        if 0 < count < frames:
            which = " and ".join(needing)
            result.problems.append(f"no face in {count} of {frames} {video[side]} frames, left out of {which}")
        elif count:
            result.skipped |= {m: f"no face in any of the {frames} {video[side]} frames" for m in needing
                               if m == "lmd" or side == GENERATED}  # fmt: skip


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _sync_pass(opened: OpenPair, sides: Sequence[str], metric: str, scorer: SyncScorer, result: ClipResult) -> None:
    for side in sides:
        try:
            sound = opened.generated_sound() if side == GENERATED else opened.real_sound()
            frames = opened.generated_frames() if side == GENERATED else opened.real_frames()
            sound = sound[: opened.num_frames * SAMPLE_RATE_HZ // FPS]
            scores = scorer(frames, opened.num_frames, sound)
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
        getattr(result, side).update(zip(_SYNC[metric], figures, strict=True))


def _feature_pass(opened: OpenPair, sides: Sequence[str], setup: Setup, tools: Tools) -> Features:
    """Features of evenly spread frames: (n, D) float32 each."""
    assert tools.features is not None
    count = min(opened.num_frames, setup.protocol.frechet_frames)
    numbers = set(np.linspace(0, opened.num_frames - 1, count).round().astype(int).tolist())
    parts: Features = {}
    for side in sides:
        frames = opened.generated_frames() if side == GENERATED else opened.real_frames()
        chosen = (image for number, image in enumerate(frames) if number in numbers)
        parts[side] = np.concatenate([tools.features(np.stack(batch)) for batch in _batches(chosen, _BATCH)])
    return parts


def _batches(items: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


# --------------------------------------------------------------------------------------------------------- all clips


@dataclass(frozen=True)
class Job:
    """A pair to be measured, and the file its figures go to."""

    pair: VideoPair
    path: Path
    with_truth: bool
    key: str  # changes with the pair, its files and all settings


def measure_all(jobs: Sequence[Job], setup: Setup, workers: int, resume: bool, tools: Tools) -> list[ClipResult]:
    """Measures every pair; figures and curves of each are on disk as soon as they are known.

    Args:
        jobs: from `plan`.
        workers: processes; 0 measures here, with `tools`.
        resume: take figures that an earlier run has left there, if neither files nor settings have changed.

    Returns:
        in the order of the pairs; a pair that cannot be measured has an `error`.

    Raises:
        MediaError: the disk refuses, or a process died.
    """
    results: dict[int, ClipResult] = {}
    if resume:
        known = ((number, _read_result(job)) for number, job in enumerate(jobs))
        results = {number: result for number, result in known if result is not None}
    left = [number for number in range(len(jobs)) if number not in results]
    with tqdm(total=len(jobs), initial=len(results), unit="clip", desc="measuring", disable=None) as bar:
        for number, result in _run_jobs(jobs, left, setup, workers, tools):
            results[number] = result
            if result.error:
                logger.error("%s: %s", result.name, result.error)
            bar.update()
    return [results[number] for number in range(len(jobs))]


def plan(pairs: Sequence[VideoPair], setup: Setup, folder: Path, missing: Iterable[str] = ()) -> list[Job]:
    """A job a pair. Of pairs that share a real video only one measures it, if possible one that compares with it.

    Args:
        folder: of the evaluation; `clips/<name>.json` gets the figures, `.npz` the features of the Fréchet distance.
        missing: metrics whose tools are not at hand; once they are, the clip is measured again.
    """
    first: dict[str, int] = {}
    for number in sorted(range(len(pairs)), key=lambda n: bool(pairs[n].apart)):
        if pairs[number].real is not None:
            first.setdefault(pairs[number].truth, number)
    chosen, clips = set(first.values()), make_directory(folder / CLIPS)
    names = unique_names(pair_name(pair) for pair in pairs)
    jobs = []
    for number, (pair, name) in enumerate(zip(pairs, names, strict=True)):
        named = dataclasses.replace(pair, name=name)
        parts = [_FORMAT, state_of(named), setup, number in chosen, *map(_file_state, _weight_files(setup))]
        parts += sorted(missing)
        key = hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()
        jobs.append(Job(named, clips / f"{name}.json", number in chosen, key))
    return jobs


def _weight_files(setup: Setup) -> list[Path]:
    chosen = setup.instruments
    files = [path for path in (chosen.syncnet, chosen.arcface, chosen.inception) if path is not None]
    return [*files, *_sync_weights(chosen), *([chosen.sync_model / "network.json"] if chosen.sync_model else [])]


def _file_state(path: Path) -> tuple[str, int, int]:
    status = path.stat() if path.is_file() else None
    return (str(path), status.st_size, status.st_mtime_ns) if status else (str(path), -1, -1)


def _run_jobs(
    jobs: Sequence[Job], numbers: Sequence[int], setup: Setup, workers: int, tools: Tools
) -> Iterator[tuple[int, ClipResult]]:
    if workers == 0 or len(numbers) < 2:
        for number in numbers:
            yield number, run_job(jobs[number], setup, tools)
        return
    # spawn: a forked child would inherit the locks of OpenCV's threads and could wait for them for ever
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(numbers))
    pool = ProcessPoolExecutor(count, context, initializer=_start_worker, initargs=(setup,))
    try:
        waiting = list(reversed(numbers))
        running: dict[Future[ClipResult], int] = {}
        while waiting or running:
            while waiting and len(running) < 2 * count:
                number = waiting.pop()
                running[pool.submit(_run_in_worker, jobs[number])] = number
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), _result_of(future)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result_of(future: Future[ClipResult]) -> ClipResult:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise MediaError(
            "a measuring process died, perhaps out of memory; finished clips are kept: run again with --resume and "
            "fewer --workers"
        ) from error


_worker: dict[str, Any] = {}  # of a process: its settings and loaded tools


def _start_worker(setup: Setup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the main one answers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    if {*_SYNC, "frechet"} & set(setup.metrics):
        import torch

        torch.set_num_threads(1)
    _worker.update(setup=setup, tools=load_tools(setup))


def _end_with_parent() -> None:
    """A worker of a main process that was killed would wait for its next clip for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(job: Job) -> ClipResult:
    return run_job(job, _worker["setup"], _worker["tools"])


def run_job(job: Job, setup: Setup, tools: Tools) -> ClipResult:
    """Measures a pair and writes what came out; a video that cannot be read is an `error`, tried again next time."""
    started = time.monotonic()
    try:
        result, curves, features = measure_clip(job.pair, setup, tools, job.with_truth)
    except PcavsError as error:
        for path in (job.path, job.path.with_suffix(".npz")):  # an older run's would be taken for this one's
            path.unlink(missing_ok=True)
        return ClipResult(job.pair.name, job.pair.group, error=str(error))
    if features:
        buffer = io.BytesIO()
        np.savez(buffer, **features)  # type: ignore[arg-type]
        write_bytes(job.path.with_suffix(".npz"), buffer.getvalue())
    else:  # an older run's
        job.path.with_suffix(".npz").unlink(missing_ok=True)
    seconds = round(time.monotonic() - started, 3)
    # the features first: figures that are there must be whole
    write_json(
        job.path, {"key": job.key, "seconds": seconds, "result": _plain(result), "frames": _plain_curves(curves)}
    )
    return result


def _plain(result: ClipResult) -> dict[str, Any]:
    return dataclasses.asdict(result)


def _plain_curves(curves: Curves) -> dict[str, dict[str, list[float | None]]]:
    """JSON knows no NaN."""
    return {
        side: {
            name: [round(v, 6) if math.isfinite(v) else None for v in values.tolist()] for name, values in sets.items()
        }
        for side, sets in curves.items()
    }


def _read_result(job: Job) -> ClipResult | None:
    """What an earlier run has left, if it still holds."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(job.path.read_text(encoding="utf-8"))
        if stored["key"] == job.key:
            return ClipResult(**stored["result"])
    return None


def read_curves(path: Path) -> Curves:
    """The curves of `clips/<name>.json`. Raises MediaError when it cannot be read."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["frames"]
        return {s: {n: np.array(v, dtype=np.float64) for n, v in sets.items()} for s, sets in stored.items()}
    except (OSError, ValueError, KeyError) as error:
        raise MediaError(f"{path}: cannot be read ({error}); measure again without --resume") from error
