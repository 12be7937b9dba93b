"""Measures a model on synthetic speakers it has never seen, against the truth they were rendered from.

    python scripts/measure_synthetic.py --name synthetic --output results/synthetic_measured

Held-out people are rendered, the model makes them speak with their own and with each other's sound and head motion,
and a probe (scripts/train_probe.py) reads mouth, pose and identity off the generated frames. Writes figures.json,
figures.md and sheet.png; 25 frames a second, angles in degrees, mouth opening 0..1.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.audio import SILENCE, log_mel, mel_window
from data.frames import crop_template, write_image
from data.synthetic.clips import (
    RENDERER_VERSION,
    STATE_NAMES,
    FaceState,
    Performance,
    combine,
    make_identity,
    make_performance,
    make_scene,
    render_frame,
    render_states,
)
from models.av_model import AvModel, Identity, select_device
from models.networks.probe import Probe
from options.config import DataConfig, NetworkConfig
from util.checkpoint import load_network
from util.errors import MediaError, OptionError, PcavsError
from util.files import atomic_path, make_directory, write_json, write_text
from util.log import setup_logging
from util.metrics.ssim import psnr, ssim
from util.seed import generator_for

FIRST_HELD_OUT = 50000  # people from this seed on are for measuring, never for training
PROBE_FILE, PROBE_REPORT = "probe.pth", "probe.json"
REFERENCE_GAP = 25  # the reference is one of so many frames after the measured ones
PORTRAITS = 3  # scenes other than the clip's in which a person is seen at rest
SYNC_WINDOW, SYNC_CANDIDATES = 12, 32  # frames of a window; windows among which the right one is to be found
LEAST_SPEAKERS = 3  # face, head motion and sound of three people
LEAST_FRAMES = 50  # so that every window has 16 others in its clip that do not overlap it
POSE = ("yaw", "pitch", "roll")
# whose head motion and whose sound drive person i: that of person i + shift
CONDITIONS = {"self": (0, 0), "cross": (1, 2), "pose_swapped": (1, 0), "audio_swapped": (0, 2)}
_BATCH = 16
_CLOSED = 0.02  # mouth openings below are as good as none
_SILENT_STEP = 3  # every so many-th head pose is also generated with silence
_SSIM_STEP = 3  # every so many-th frame is compared, because SSIM takes as long as generating
_SHEET_COLUMNS, _SHEET_BLOCKS = 8, 3


# ---------------------------------------------------------------------------------------------------------- numbers


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two (N,) series; 0 when one of them never moves, for it follows nothing."""
    a, b = a - np.mean(a, dtype=np.float64), b - np.mean(b, dtype=np.float64)
    power = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return float(np.sum(a * b)) / power if power > 1e-12 else 0.0


def correlations(read: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> dict[str, float]:
    """`mean`: of each clip's own correlation.  `pooled`: over all frames of all clips, so that offsets count."""
    own = [pearson(a, b) for a, b in zip(read, truth, strict=True)]
    return {"mean": float(np.mean(own)), "pooled": pearson(np.concatenate(read), np.concatenate(truth))}


def retrieval(similarity: np.ndarray, right: np.ndarray) -> float:
    """Share of queries whose most similar candidate is the right one.

    Args:
        similarity: (queries, candidates).  right: (queries,) column numbers.
    """
    return float((similarity.argmax(axis=1) == right).mean())


def sync_retrieval(audio: np.ndarray, visual: np.ndarray, seed: int) -> dict[str, float]:
    """How often a window of one modality finds its own among SYNC_CANDIDATES windows of the other.

    A window is the features of 12 frames in a row, concatenated, of unit length. Half of the distractors are windows
    of the same clip that do not overlap it; the others come from other clips.

    Args:
        audio, visual: (clips, T, D) features of the same frames, T at least LEAST_FRAMES.

    Returns:
        the share for both directions; 1 / 32 is chance. A tie is a miss.
    """
    clips, length = audio.shape[:2]
    starts = length - SYNC_WINDOW + 1
    similarity = _windows(audio) @ _windows(visual).T  # (clips * starts, clips * starts)
    rng = generator_for(seed, 402)
    clip, start = np.divmod(np.arange(clips * starts), starts)
    hits = np.zeros(2)
    for query in range(clips * starts):
        apart = np.flatnonzero((clip == clip[query]) & (np.abs(start - start[query]) >= SYNC_WINDOW))
        near = rng.permutation(apart)[: SYNC_CANDIDATES // 2]
        far = rng.choice(np.flatnonzero(clip != clip[query]), SYNC_CANDIDATES - 1 - len(near))
        others = np.concatenate([near, far])
        right = similarity[query, query]
        hits += [right > similarity[query, others].max(), right > similarity[others, query].max()]
    to_visual, to_audio = hits / (clips * starts)
    return {"audio_to_visual": float(to_visual), "visual_to_audio": float(to_audio)}


def _windows(features: np.ndarray) -> np.ndarray:
    """(clips, T, D) -> (clips * (T - 11), 12 * D) of unit length."""
    windows = np.lib.stride_tricks.sliding_window_view(features, SYNC_WINDOW, axis=1)  # (clips, T - 11, D, 12)
    flat = windows.reshape(len(features) * windows.shape[1], -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


# --------------------------------------------------------------------------------------------------------- speakers


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
    faces = _as_seen(render_states(identity, performance.states[shown], make_scene(scene_seed)), size)
    others = [make_scene(int(number)) for number in rng.integers(2**62, size=PORTRAITS)]
    portraits = _as_seen(np.stack([render_frame(identity, FaceState(), scene) for scene in others]), size)
    mel = log_mel(performance.wave)
    windows = np.stack([mel_window(mel, frame) for frame in range(frames)])
    return Speaker(speaker_seed, scene_seed, faces[:-1], windows, performance.states[:frames], faces[-1], portraits)


def _as_seen(pictures: np.ndarray, size: int) -> np.ndarray:
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
    for number in tqdm(range(start, start + count), unit="speaker", desc="rendering", leave=False):
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
    try:
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from error


def _read_speaker(path: Path) -> Speaker:
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
        return Speaker(**{**values, "seed": int(values["seed"]), "scene_seed": int(values["scene_seed"])})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise MediaError(f"{path}: not readable as a cached speaker ({error}); delete it") from error


# ----------------------------------------------------------------------------------------------- model and probe


@dataclass(frozen=True)
class Codes:
    """What the networks make of a speaker: `mouth` (T, 500), `silent` (1, 500), `pose` (T, 12)."""

    identity: Identity
    mouth: Tensor
    silent: Tensor
    pose: Tensor


def to_images(frames: np.ndarray) -> Tensor:
    """(N, 3, S, S) uint8 -> float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).float() / 127.5 - 1


def encode(model: AvModel, speaker: Speaker) -> Codes:
    """Runs the encoders over a clip."""
    windows = torch.from_numpy(speaker.windows)
    return Codes(
        model.encode_identity(to_images(speaker.reference[None])),
        model.encode_speech(windows),
        model.encode_speech(torch.full_like(windows[:1], SILENCE)),
        model.encode_pose(to_images(speaker.frames)),
    )


def generate(model: AvModel, identity: Identity, mouth: Tensor, pose: Tensor) -> np.ndarray:
    """Frames of codes, without noise: (T, 3, S, S) uint8 RGB."""
    parts = []
    for start in range(0, len(mouth), _BATCH):
        images = model.generate(identity, mouth[start : start + _BATCH], pose[start : start + _BATCH])
        parts.append(((images.float() + 1) / 2 * 255).clamp(0, 255).byte().cpu().numpy())
    return np.concatenate(parts)


def sync_features(model: AvModel, speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    """Speech content heard, A_sync(mel), and seen, to_mouth(E(frame)): two (T, 512) float32."""
    encoder: Any = model.networks["E"]
    audio, visual = [], []
    with torch.inference_mode():
        for start in range(0, len(speaker.frames), _BATCH):
            windows = torch.from_numpy(speaker.windows[start : start + _BATCH])
            frames = to_images(speaker.frames[start : start + _BATCH])
            audio.append(model.networks["A_sync"](windows.to(model.device)).float().cpu().numpy())
            visual.append(encoder.to_mouth(encoder(frames.to(model.device))).float().cpu().numpy())
    return np.concatenate(audio), np.concatenate(visual)


def load_probe(path: Path) -> Probe:
    """The probe on the CPU, in eval mode.

    Raises:
        CheckpointError: missing, damaged or of another shape.
    """
    probe = Probe()
    load_network(probe, path)
    return probe.eval().requires_grad_(False)


def read(probe: Probe, frames: np.ndarray) -> dict[str, np.ndarray]:
    """What the probe sees in (N, 3, S, S) uint8 frames: each quantity (N,), and `identity` (N, 64)."""
    with torch.inference_mode():
        parts = [probe(to_images(frames[start : start + _BATCH])) for start in range(0, len(frames), _BATCH)]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


# ---------------------------------------------------------------------------------------------------------- figures


def measure(model: AvModel, probe: Probe, speakers: Sequence[Speaker], frames: int, seed: int) -> dict[str, float]:
    """All figures of a model; see `THRESHOLDS` for those that count.

    Args:
        model: in eval mode, which an AvModel is; building one freezes its networks, so training hands over copies.
        speakers: at least 3, from `load_speakers`, never trained on.
        frames: of each clip, at least 50.
        seed: of the sync distractors.

    Returns:
        by name: `ruler/...` is the probe on true frames, what it reads at best; `<condition>/...` see CONDITIONS;
        `leak/...` whether the mouth follows the pose video and the head the sound, against what two clips correlate
        by accident (`chance_...`). `.../mean` and `.../pooled`: see `correlations`.

    Raises:
        OptionError: too few speakers or frames.
    """
    check_sizes(len(speakers), min([frames, *(len(speaker.frames) for speaker in speakers)]))
    speakers = [speaker.first(frames) for speaker in speakers]
    own = np.stack([_likeness(probe, speaker) for speaker in speakers])  # (N, 64)
    figures = _sync_figures(model, speakers, seed)
    figures |= _real_figures(probe, speakers, own)
    codes = [encode(model, speaker) for speaker in tqdm(speakers, unit="clip", desc="encoding", leave=False)]
    for condition in CONDITIONS:
        figures |= _condition_figures(model, probe, speakers, codes, own, condition)
    figures |= _silence_figures(model, probe, codes)
    return figures


def _likeness(probe: Probe, speaker: Speaker) -> np.ndarray:
    """A person's identity code, the mean over portraits: (64,) of unit length."""
    mean = read(probe, speaker.portraits)["identity"].mean(axis=0)
    return mean / np.linalg.norm(mean)


def check_sizes(speakers: int, frames: int) -> None:
    """Raises OptionError when there is too little to measure on."""
    if speakers < LEAST_SPEAKERS:
        raise OptionError(
            f"--num_speakers must be at least {LEAST_SPEAKERS}: face, head motion and sound are taken from three, "
            f"got {speakers}"
        )
    if frames < LEAST_FRAMES:
        raise OptionError(
            f"--frames must be at least {LEAST_FRAMES}: windows of {SYNC_WINDOW} frames are compared with others of "
            f"their clip, got {frames}"
        )


def _sync_figures(model: AvModel, speakers: Sequence[Speaker], seed: int) -> dict[str, float]:
    features = [sync_features(model, speaker) for speaker in tqdm(speakers, unit="clip", desc="sync", leave=False)]
    audio, visual = (np.stack(side) for side in zip(*features, strict=True))
    return _named("sync", sync_retrieval(audio, visual, seed))


def _real_figures(probe: Probe, speakers: Sequence[Speaker], own: np.ndarray) -> dict[str, float]:
    """The ruler itself, and the SSIM of a face that never moves."""
    readings = [read(probe, speaker.frames) for speaker in speakers]
    figures = _named("ruler", _following(readings, speakers, speakers))
    figures |= _named("ruler/identity", identity_figures([r["identity"] for r in readings], own))
    closed = [r["opening"][s.track("opening") < _CLOSED] for r, s in zip(readings, speakers, strict=True)]
    silent = np.concatenate(closed)
    figures["ruler/mean_opening_when_closed"] = float(silent.mean()) if len(silent) else 0.0
    still = [speaker.reference[None].repeat(len(speaker.frames), 0) for speaker in speakers]
    figures["ruler/ssim_of_reference"] = float(np.mean([ssim(*pair) for pair in _pairs(speakers, still)]))
    return figures


def _condition_figures(
    model: AvModel, probe: Probe, speakers: Sequence[Speaker], codes: Sequence[Codes], own: np.ndarray, condition: str
) -> dict[str, float]:
    """Generates every person under a condition and compares with what drove them."""
    count = len(speakers)
    posing, speaking = ([(i + shift) % count for i in range(count)] for shift in CONDITIONS[condition])
    pictures = [
        generate(model, codes[i].identity, codes[speaking[i]].mouth, codes[posing[i]].pose)
        for i in tqdm(range(count), unit="clip", desc=condition, leave=False)
    ]
    readings = [read(probe, frames) for frames in pictures]
    movers, talkers = [speakers[k] for k in posing], [speakers[k] for k in speaking]
    figures = _named(condition, _following(readings, movers, talkers))
    figures |= _named(f"{condition}/identity", identity_figures([r["identity"] for r in readings], own))
    if condition == "self":
        pairs = _pairs(speakers, pictures)
        figures["self/ssim"] = float(np.mean([ssim(*pair) for pair in pairs]))
        figures["self/psnr_db"] = float(np.mean([psnr(*pair) for pair in pairs]))
        figures["self/mean_opening"] = float(np.mean([r["opening"].mean() for r in readings]))
    if condition == "pose_swapped":
        figures |= _named("leak/opening_of_pose_video", _leak("opening", readings, talkers, movers))
    if condition == "audio_swapped":
        figures |= _named("leak/yaw_of_audio_clip", _leak("yaw", readings, movers, talkers))
    return figures


def _following(
    readings: Sequence[Mapping[str, np.ndarray]], movers: Sequence[Speaker], talkers: Sequence[Speaker]
) -> dict[str, float]:
    """Correlation of what was read with the truth of those who gave the head motion and of those who gave the sound."""
    figures: dict[str, float] = {}
    for name in ("opening", "width", *POSE):
        truth = [speaker.track(name) for speaker in (movers if name in POSE else talkers)]
        figures |= _named(name, correlations([reading[name] for reading in readings], truth))
    return figures


def _leak(
    name: str, readings: Sequence[Mapping[str, np.ndarray]], wanted: Sequence[Speaker], other: Sequence[Speaker]
) -> dict[str, float]:
    """Correlation with those who should have no say; `chance_...`: what a perfect model would get by accident."""
    right, wrong = ([speaker.track(name) for speaker in side] for side in (wanted, other))
    figures = correlations([reading[name] for reading in readings], wrong)
    return figures | {f"chance_{kind}": value for kind, value in correlations(right, wrong).items()}


def identity_figures(codes: Sequence[np.ndarray], references: np.ndarray) -> dict[str, float]:
    """How like its own person a face is, and how like the others.

    Args:
        codes: (T, 64) of unit length, of each person's frames.  references: (N, 64), one a person.

    Returns:
        mean cosine to the `own` person and to the `others`; `retrieval`, the share of frames whose nearest person is
        their own.
    """
    cosine = np.concatenate(codes) @ references.T  # (N * T, N)
    right = np.repeat(np.arange(len(codes)), [len(code) for code in codes])
    is_own = right[:, None] == np.arange(len(references))
    return {
        "own": float(cosine[is_own].mean()),
        "others": float(cosine[~is_own].mean()),
        "retrieval": retrieval(cosine, right),
    }


def _silence_figures(model: AvModel, probe: Probe, codes: Sequence[Codes]) -> dict[str, float]:
    """Everybody, with their own head motion and no sound at all."""
    openings = []
    for code in tqdm(codes, unit="clip", desc="silence", leave=False):
        pose = code.pose[::_SILENT_STEP]
        made = generate(model, code.identity, code.silent.expand(len(pose), -1), pose)
        openings.append(read(probe, made)["opening"])
    return {"silence/mean_opening": float(np.mean(np.concatenate(openings)))}


def _named(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in figures.items()}


def _pairs(speakers: Sequence[Speaker], pictures: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(H, W, 3) frames, true and made."""
    return [
        (true.transpose(1, 2, 0), made.transpose(1, 2, 0))
        for speaker, clip in zip(speakers, pictures, strict=True)
        for true, made in zip(speaker.frames[::_SSIM_STEP], clip[::_SSIM_STEP], strict=True)
    ]


# ------------------------------------------------------------------------------------------------------- acceptance


@dataclass(frozen=True)
class Threshold:
    """A figure that must be reached. Of several names the worst counts; `minus`: the loss against those figures."""

    title: str
    names: tuple[str, ...]
    bound: float
    at_most: bool = False
    minus: tuple[str, ...] = ()

    def value(self, figures: Mapping[str, float]) -> float:
        """The figure, or the drop from `minus` to `names`."""
        if self.minus:
            return max(figures[before] - figures[after] for before, after in zip(self.minus, self.names, strict=True))
        values = [figures[name] for name in self.names]
        return max(values) if self.at_most else min(values)


def _both(prefix: str) -> tuple[str, str]:
    return f"{prefix}/mean", f"{prefix}/pooled"


# A model that copies the reference's pose has a high pooled correlation, because people differ more than moments do;
# one that has every mouth move equally little has a high mean. So the worse of the two counts.
THRESHOLDS = (
    Threshold("sync retrieval at 1 of 32", ("sync/audio_to_visual", "sync/visual_to_audio"), 0.80),
    Threshold("mouth opening, own sound", _both("self/opening"), 0.85),
    Threshold("yaw of the pose source, own or another's", (*_both("self/yaw"), *_both("cross/yaw")), 0.90),
    Threshold("pitch of the pose source, own or another's", (*_both("self/pitch"), *_both("cross/pitch")), 0.80),
    Threshold("drop of the mouth, pose swapped", _both("pose_swapped/opening"), 0.1, True, _both("self/opening")),
    Threshold("drop of the yaw, sound swapped", _both("audio_swapped/yaw"), 0.1, True, _both("self/yaw")),
    Threshold("mouth opening in silence", ("silence/mean_opening",), 0.1, True),
    Threshold("SSIM, own sound and pose", ("self/ssim",), 0.75),
)


def judge(figures: Mapping[str, float]) -> list[dict[str, Any]]:
    """Every threshold with its value, whether it is reached, and by how much (negative: so much is missing)."""
    lines = []
    for threshold in THRESHOLDS:
        value = threshold.value(figures)
        margin = threshold.bound - value if threshold.at_most else value - threshold.bound
        sign = "<" if threshold.at_most else ">="
        reached = margin > 0 if threshold.at_most else margin >= 0
        lines.append(
            {"title": threshold.title, "value": value, "bound": f"{sign} {threshold.bound}", "margin": margin}
            | {"reached": reached}
        )
    return lines


def table(figures: Mapping[str, float], acceptance: Sequence[Mapping[str, Any]]) -> str:
    """Both as Markdown."""
    lines = ["| acceptance | value | wanted | |", "|---|---|---|---|"]
    for line in acceptance:
        verdict = "reached" if line["reached"] else f"**not reached, by {-line['margin']:.3f}**"
        lines.append(f"| {line['title']} | {line['value']:.3f} | {line['bound']} | {verdict} |")
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------------------ sheet


def contact_sheet(model: AvModel, speakers: Sequence[Speaker]) -> np.ndarray:
    """Some people with the head motion and the sound of others, to be looked at.

    Returns:
        uint8 RGB; in blocks of four rows: reference, pose source, truth (rendered), generated; 8 moments side by side.
    """
    blocks = []
    for i in range(min(_SHEET_BLOCKS, len(speakers))):
        person, posing, speaking = (speakers[(i + shift) % len(speakers)] for shift in (0, *CONDITIONS["cross"]))
        moments = np.linspace(0, len(person.frames) - 1, _SHEET_COLUMNS).round().astype(int)
        moved = dataclasses.replace(posing, frames=posing.frames[moments])
        spoken = torch.from_numpy(speaking.windows[moments])
        pose = model.encode_pose(to_images(moved.frames))
        identity = model.encode_identity(to_images(person.reference[None]))
        made = generate(model, identity, model.encode_speech(spoken), pose)
        truth = _rendered(person, posing, speaking, moments)
        rows = [person.reference[None].repeat(len(moments), 0), moved.frames, truth, made]
        blocks.append(np.vstack([np.hstack([face.transpose(1, 2, 0) for face in row]) for row in rows]))
    return np.vstack(blocks)


def _rendered(person: Speaker, posing: Speaker, speaking: Speaker, moments: np.ndarray) -> np.ndarray:
    """What a perfect model would make: (len(moments), 3, S, S) uint8 RGB."""
    mouth, pose = (Performance(who.states[moments], (), np.zeros(0, np.float32)) for who in (speaking, posing))
    states = combine(mouth, pose).states
    pictures = render_states(make_identity(person.seed), states, make_scene(person.scene_seed))
    return _as_seen(pictures, person.frames.shape[-1])


# ---------------------------------------------------------------------------------------------------------- the run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoints_dir", type=Path, default=Path("checkpoints"), help="folder of the models")
    parser.add_argument("--name", default="synthetic", help="the model, a folder of --checkpoints_dir")
    parser.add_argument("--which_epoch", default="latest", help="which of its weights (default latest)")
    parser.add_argument("--probe", type=Path, help="weights of the probe (default <checkpoints_dir>/probe/probe.pth)")
    parser.add_argument("--num_speakers", type=int, default=16, help="people to measure on (default 16)")
    parser.add_argument("--start_speaker", type=int, default=FIRST_HELD_OUT, help="the first one's seed")
    parser.add_argument("--frames", type=int, default=75, help="of each clip (default 75, 3 s)")
    parser.add_argument("--seed", type=int, default=0, help="of the clips and the sync distractors (default 0)")
    parser.add_argument("--output", type=Path, help="folder of the figures (default results/<name>_measured)")
    parser.add_argument("--cache", type=Path, help="folder that keeps rendered speakers for the next time")
    parser.add_argument("--gpu_ids", type=int, default=-1, help="GPU, or -1 for the CPU (default -1)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a threshold is missed")
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Raises OptionError for values that cannot be honoured."""
    check_sizes(args.num_speakers, args.frames)
    if args.start_speaker < FIRST_HELD_OUT:
        raise OptionError(
            f"--start_speaker must be at least {FIRST_HELD_OUT}: people below may have been trained on, "
            f"got {args.start_speaker}"
        )
    if args.seed < 0:
        raise OptionError(f"--seed must not be negative, got {args.seed}")


def run(args: argparse.Namespace) -> bool:
    """Measures, writes, prints. Returns whether every threshold is reached.

    Raises:
        PcavsError: a flag, the weights, the probe or the disk.
    """
    check_args(args)
    folder = args.checkpoints_dir / args.name
    sizes = folder / "network.json"
    network = NetworkConfig.from_file(sizes) if sizes.is_file() else NetworkConfig()
    probe = load_probe(args.probe or args.checkpoints_dir / "probe" / PROBE_FILE)
    model = AvModel.from_checkpoints(folder, args.which_epoch, network, select_device([args.gpu_ids]))
    speakers = load_speakers(
        args.start_speaker, args.num_speakers, args.frames, args.seed, network.crop_size, args.cache
    )
    figures = measure(model, probe, speakers, args.frames, args.seed)
    acceptance = judge(figures)
    output = make_directory(args.output or Path("results") / f"{args.name}_measured")
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    write_json(output / "figures.json", {"settings": settings, "acceptance": acceptance, "figures": figures})
    text = table(figures, acceptance)
    write_text(output / "figures.md", f"# {args.name}, epoch {args.which_epoch}, on held-out people\n\n{text}")
    write_image(output / "sheet.png", np.ascontiguousarray(contact_sheet(model, speakers)[..., ::-1]))
    print(text)
    print(f"{sum(line['reached'] for line in acceptance)} of {len(acceptance)} reached; written to {output}")
    return all(line["reached"] for line in acceptance)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    setup_logging()
    try:
        reached = run(args)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 1 if args.strict and not reached else 0


if __name__ == "__main__":
    sys.exit(main())
