"""Training of the probe that measures generated synthetic heads, and its accuracy on people it has never seen."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.clip_list import ClipRecord
from data.clip_reader import ClipReader
from data.frames import crop_template
from data.synthetic.clips import (
    FIRST_HELD_OUT,
    STATE_NAMES,
    FaceState,
    Identity,
    make_identity,
    make_performance,
    make_scene,
    read_truth,
    render_frame,
)
from models.networks.probe import IDENTITY_DIM, IMAGE_SIZE, QUANTITIES, SCALES, Probe
from options.config import DataConfig
from scripts.synthetic.figures import retrieval
from util.images import tensor_to_unit_range
from util.log import progress
from util.metrics.correlation import pearson
from util.parallel import map_processes
from util.seed import generator_for

SCENES = 2  # of every person: light and clothes must not be taken for who it is
HELD_OUT_PEOPLE, HELD_OUT_FRAMES = 32, 20  # frames of each of a person's scenes
BLUR_SIGMA = 1.0  # pixels of 112, for the second measurement
BATCH, _LEARNING_RATE, _WARM_UP = 64, 3e-3, 0.05
_IDENTITY_WEIGHT, _MARGIN, _SHARPNESS = 0.15, 0.15, 16.0
_LEAST_TAP = 1e-4  # of a Gaussian
_COLUMNS = [STATE_NAMES.index(name) for name in QUANTITIES]
_MIRRORED = torch.tensor([-1.0 if name in ("yaw", "roll") else 1.0 for name in QUANTITIES])


# --------------------------------------------------------------------------------------------------------- pictures


@dataclass(frozen=True)
class Shots:
    """Pictures of one person in one scene."""

    speaker_seed: int
    scene: int
    num_frames: int
    seed: int
    acted: float  # share of states taken from performances; the rest is drawn evenly over all that can be


@dataclass(frozen=True)
class Pictures:
    """frames: (N, 3, 112, 112) uint8 RGB.  values: (N, 6) float32, QUANTITIES.  people, scenes: (N,) int64."""

    frames: Tensor
    values: Tensor
    people: Tensor
    scenes: Tensor


def random_states(rng: np.random.Generator, count: int) -> np.ndarray:
    """States drawn evenly, also such as no speech would make: (count, 13) float32."""
    tracks = {name: np.zeros(count) for name in STATE_NAMES}
    limits = {"yaw": 42, "pitch": 24, "roll": 18, "shift_x": 20, "shift_y": 20, "width": 1, "brow": 1}
    for name, limit in limits.items():
        tracks[name] = rng.uniform(-limit, limit, count)
    tracks["gaze_x"], tracks["gaze_y"] = rng.normal(0, [[10], [5]], (2, count))
    tracks["zoom"] = rng.uniform(0.92, 1.1, count)
    closed = rng.random(count) < 0.2
    tracks["opening"] = np.where(closed, 0, rng.random(count))
    tracks["press"] = np.where(closed, rng.random(count), 0)
    tracks["lip_teeth"] = np.where(~closed & (tracks["opening"] < 0.15), rng.random(count), 0)
    tracks["blink"] = np.where(rng.random(count) < 0.5, rng.random(count), 0)
    return np.stack([tracks[name] for name in STATE_NAMES], axis=1).astype(np.float32)


def states_of(shots: Shots, identity: Identity) -> np.ndarray:
    """(num_frames, 13) float32: frames of performances, a third of a second apart, then random states.

    Where the face is in the frame is random throughout: the probe is to read a nod from the face, not from its place.
    """
    rng = generator_for(shots.seed, shots.speaker_seed, shots.scene)
    acted = round(shots.num_frames * shots.acted)
    performance = make_performance(int(rng.integers(2**62)), identity, 8 * max(acted, 1))
    drawn = random_states(rng, shots.num_frames)
    places = [STATE_NAMES.index("shift_x"), STATE_NAMES.index("shift_y")]
    states = np.concatenate([performance.states[::8][:acted], drawn[acted:]])
    states[:, places] = drawn[:, places]
    return states


def render(shots: Shots) -> tuple[Shots, np.ndarray, np.ndarray]:
    """The shots, their frames (num_frames, 3, 112, 112) uint8 RGB, and values (num_frames, 6) float32."""

    cv2.setNumThreads(1)  # the processes are the parallelism
    identity = make_identity(shots.speaker_seed)
    scene = make_scene(int(generator_for(shots.seed, shots.speaker_seed, shots.scene, 1).integers(2**62)))
    states = states_of(shots, identity)
    frames = np.empty((len(states), 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    for number, row in enumerate(states):
        picture = crop_template(render_frame(identity, FaceState(*map(float, row)), scene))
        frames[number] = cv2.resize(picture, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    return shots, frames, states[:, _COLUMNS]


def render_all(shots: Sequence[Shots], workers: int) -> Pictures:
    """Renders everything in `workers` processes. Raises WorkerDiedError when one of them dies."""
    order = {(one.speaker_seed, one.scene): place for place, one in enumerate(shots)}
    frames: list[np.ndarray] = [np.empty(0)] * len(shots)
    values: list[np.ndarray] = [np.empty(0)] * len(shots)
    with progress(total=sum(one.num_frames for one in shots), unit="frame", desc="rendering") as bar:
        for one, pictures, states in map_processes(render, shots, workers):
            place = order[one.speaker_seed, one.scene]
            frames[place], values[place] = pictures, states
            bar.update(len(pictures))
    counts = torch.tensor([one.num_frames for one in shots])
    return Pictures(
        torch.from_numpy(np.concatenate(frames)),
        torch.from_numpy(np.concatenate(values)),
        torch.tensor([one.speaker_seed for one in shots]).repeat_interleave(counts),
        torch.tensor([one.scene for one in shots]).repeat_interleave(counts),
    )


def read_all(clips: Sequence[ClipRecord], frames: int, workers: int) -> Pictures:
    """Pictures of clips of make_synthetic_data.py, as a camera has filmed them: `frames` of all clips together.

    Raises MediaError: a clip that cannot be read, or has no ground truth.
    """
    share = -(-frames // len(clips))
    tasks = [(clip, min(share, clip.num_frames)) for clip in clips]
    read = list(progress(map_processes(_read, tasks, workers), total=len(tasks), unit="clip", desc="reading"))
    labels = [torch.full((len(values),), label, dtype=torch.int64) for label, _, values in read]
    people = torch.cat(labels)
    return Pictures(
        torch.from_numpy(np.concatenate([frames for _, frames, _ in read])),
        torch.from_numpy(np.concatenate([values for _, _, values in read])),
        people,
        torch.zeros_like(people),
    )


def together(first: Pictures, second: Pictures) -> Pictures:
    """Both; the people of `second`, who are others, are numbered from where those of `first` end."""
    second = dataclasses.replace(second, people=second.people + first.people.max() + 1)
    names = [field.name for field in dataclasses.fields(Pictures)]
    return Pictures(*(torch.cat([getattr(first, name), getattr(second, name)]) for name in names))


def _read(task: tuple[ClipRecord, int]) -> tuple[int, np.ndarray, np.ndarray]:
    """A clip's label, frames (N, 3, 112, 112) uint8 RGB, and values (N, 6) float32.

    Half of the frames are evenly spread, half are those with the eyes most closed, which are few.
    """
    clip, count = task
    states = read_truth(clip.path).states
    spread = np.linspace(0, clip.num_frames - 1, count - count // 2).round().astype(int)
    closed = np.argsort(-states[: clip.num_frames, STATE_NAMES.index("blink")], kind="stable")[: count // 2]
    numbers = np.concatenate([spread, closed])
    frames = ClipReader(DataConfig(crop_size=IMAGE_SIZE)).frames(clip, numbers.tolist())
    return clip.label, frames, states[numbers][:, _COLUMNS]


def training_shots(num_identities: int, frames: int, seed: int) -> list[Shots]:
    """SCENES shots for each of the last people before those held out, `frames` pictures together.

    The last ones, since clips to train on begin with the first, and nobody must be two people to a probe of both.
    """
    share = -(-frames // (num_identities * SCENES))
    people = range(FIRST_HELD_OUT - num_identities, FIRST_HELD_OUT)
    return [Shots(person, scene, share, seed, 0.5) for person in people for scene in range(SCENES)]


def held_out_shots(seed: int) -> list[Shots]:
    """People of the measurement; they act, because generated clips will."""
    people = range(FIRST_HELD_OUT, FIRST_HELD_OUT + HELD_OUT_PEOPLE)
    return [Shots(person, scene, HELD_OUT_FRAMES, seed, 1.0) for person in people for scene in range(SCENES)]


# --------------------------------------------------------------------------------------------------------- training


def blurred(images: Tensor, sigma: float) -> Tensor:
    """(B, 3, S, S) through a Gaussian of `sigma` pixels, cut off and weighed anew at the border."""
    pixel = torch.arange(images.shape[-1])
    kernel = torch.exp(-0.5 * ((pixel[:, None] - pixel) / sigma) ** 2)
    kernel = torch.where(kernel > _LEAST_TAP, kernel, 0)  # denormal numbers are slow
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    across = (images @ kernel.T).transpose(2, 3)
    return (across.contiguous() @ kernel.T).transpose(2, 3)


def augmented(frames: Tensor, values: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What generated frames may look like: mirrored, moved, soft, noisy, of other brightness and tint.

    Args:
        frames: (B, 3, H, W) uint8 RGB.
        values: (B, 6), QUANTITIES; mirroring turns yaw and roll around.

    Returns:
        (B, 3, H, W) float32 around [-1, 1], and the values that go with them.
    """
    batch = len(frames)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    images = tensor_to_unit_range(frames)
    mirror = torch.rand(batch, generator=generator) < 0.5
    values = torch.where(mirror[:, None], values * _MIRRORED, values)
    matrix = torch.zeros(batch, 2, 3)
    zoom = uniform(0.95, 1.05, batch)
    matrix[:, 0, 0], matrix[:, 1, 1] = torch.where(mirror, -zoom, zoom), zoom
    matrix[:, :, 2] = uniform(-0.04, 0.04, batch, 2)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    soft = blurred(images[: batch // 2], float(uniform(0.3, 1.8, 1)))  # batches are shuffled: any half will do
    images = torch.cat([soft, images[batch // 2 :]])
    images = images * uniform(0.8, 1.2, batch, 1, 1, 1) * uniform(0.93, 1.07, batch, 3, 1, 1)
    images = images + uniform(-0.12, 0.12, batch, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator)
    return images + noise * uniform(0, 0.06, batch, 1, 1, 1), values


def identity_loss(codes: Tensor, people: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over cosines to one vector a person, the right one lowered by a margin.

    Args:
        codes: (B, 64) of unit length.  people: (P, 64).  labels: (B,).

    Source: Wang et al. 2018 (CosFace).
    """
    cosine = codes @ F.normalize(people, dim=1).T
    return F.cross_entropy(_SHARPNESS * (cosine - _MARGIN * F.one_hot(labels, len(people))), labels)


def learning_rate(progress: float) -> float:
    """Rises over the first twentieth, then falls along a cosine to 0; progress 0..1."""
    if progress < _WARM_UP:
        return _LEARNING_RATE * max(progress / _WARM_UP, 0.01)
    return _LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - _WARM_UP) / (1 - _WARM_UP))))


def train(pictures: Pictures, minutes: float, seed: int) -> tuple[Probe, int]:
    """Trains for a given time; the learning rate follows the clock, so a slower machine makes fewer steps.

    Args:
        minutes: of processor time for each thread, so that other people's work on the machine costs no accuracy.

    Returns:
        the probe in eval mode, and how many steps it made.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    probe = Probe()
    names, labels = pictures.people.unique(return_inverse=True)
    people = nn.Parameter(torch.randn(len(names), IDENTITY_DIM, generator=generator))
    optimizer = torch.optim.AdamW([*probe.parameters(), people], weight_decay=0.02)
    scales = torch.tensor(list(SCALES.values()))
    seconds = 60 * minutes * torch.get_num_threads()
    started, step, order = time.process_time(), 0, torch.empty(0, dtype=torch.long)
    with progress(unit="step", desc="training") as bar:
        while (share := (time.process_time() - started) / seconds) < 1 or step == 0:
            if len(order) < BATCH:
                order = torch.randperm(len(pictures.frames), generator=generator)
            chosen, order = order[:BATCH], order[BATCH:]
            images, values = augmented(pictures.frames[chosen], pictures.values[chosen], generator)
            readings = probe(images.contiguous(memory_format=torch.channels_last))
            read = torch.stack([readings[name] for name in QUANTITIES], dim=1)
            fit = F.smooth_l1_loss(read / scales, values / scales, beta=0.3)
            who = identity_loss(readings["identity"], people, labels[chosen])
            optimizer.param_groups[0]["lr"] = learning_rate(share)
            optimizer.zero_grad()
            (fit + _IDENTITY_WEIGHT * who).backward()
            optimizer.step()
            step += 1
            bar.update()
            if step % 50 == 0:
                bar.set_postfix(fit=f"{fit.item():.3f}", identity=f"{who.item():.2f}", refresh=False)
    return probe.eval(), step


# ------------------------------------------------------------------------------------------------------ measurement


def evaluate(probe: Probe, pictures: Pictures, blur: float | None = None) -> dict[str, float]:
    """Accuracy on people of whom the probe has never seen a picture.

    Args:
        blur: Gaussian, pixels of 112, before the probe looks.

    Returns:
        per quantity the correlation over all frames and the mean absolute error (in the quantity's unit); share of
        frames that find their person in another scene.
    """
    images = tensor_to_unit_range(pictures.frames)
    images = images if blur is None else blurred(images, blur)
    with torch.inference_mode():
        parts = [probe(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    readings = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    report = {}
    for column, name in enumerate(QUANTITIES):
        truth = pictures.values[:, column].numpy()
        report[f"correlation/{name}"] = pearson(readings[name], truth)
        report[f"mean_absolute_error/{name}"] = float(np.abs(readings[name] - truth).mean())
    report |= _retrieval(readings["identity"], pictures.people.numpy(), pictures.scenes.numpy())
    return report


def _retrieval(codes: np.ndarray, people: np.ndarray, scenes: np.ndarray) -> dict[str, float]:
    """How often a frame of the last scene is nearest to its own person in the first one.

    Scenes differ, because an untrained network finds most frames of the same scene by the background.

    Returns:
        the share when everybody is known from one picture, and when from the mean code of all pictures of the scene.
    """
    known, asked = scenes == 0, scenes == SCENES - 1
    names = np.unique(people)
    single = np.stack([codes[known & (people == name)][0] for name in names])
    mean = np.stack([codes[known & (people == name)].mean(axis=0) for name in names])
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    right = np.searchsorted(names, people[asked])
    return {
        "identity_retrieval/one_picture": retrieval(codes[asked] @ single.T, right),
        "identity_retrieval/mean_of_pictures": retrieval(codes[asked] @ mean.T, right),
    }
