"""What an evaluation measures with: its settings, and the face detector and networks, loaded once; 25 frames a second.

Importing this module is cheap; numpy, OpenCV and torch are imported by what is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from options.config import NETWORK_FILE, NetworkConfig
from util.errors import CheckpointError, PcavsError
from util.files import FileStates, file_states
from util.metrics.protocol import MODEL_SYNC, NEED_FACES, PROTOCOLS, QUANTITIES, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

    from data.faces.landmarks import LandmarkDetector
    from util.metrics.identity import ArcFaceEmbedder, DlibEmbedder
    from util.metrics.sync_score import SyncScores

DEFAULT_SYNCNET = Path("checkpoints/syncnet_v2.model")
_SYNCNET_HINT = "give the published weights: --syncnet syncnet_v2.model"
_EPOCH, _SYNC_LETTERS = "latest", ("A_sync", "E")  # networks of a model that tell whether sound and face agree
_BATCH = 16  # frames

# frames (H, W, 3) uint8 BGR from the start of the sound on, how many, the sound (samples,) float32 at 16 kHz
SyncScorer = Callable[[Iterable["np.ndarray"], int, "np.ndarray"], "SyncScores"]
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class EvaluationConfig:
    """What is the same for all clips of an evaluation."""

    protocol: Protocol = PROTOCOLS["paper"]
    metrics: tuple[str, ...] = PROTOCOLS["paper"].metrics
    resample: bool = False  # other rates are brought to 25 fps, and generated frames to the real size
    landmarks: str = "dlib"
    syncnet: Path | None = None
    arcface: Path | None = None  # None: dlib's network
    inception: Path | None = None
    device: str = "cpu"  # of SyncNet, the sync model and face_alignment; the rest runs on the CPU
    sync_model: Path | None = None  # folder of a checkpoint
    any_size: bool = False  # of the sync model, see `NetworkConfig.from_file`

    @property
    def quantities(self) -> tuple[str, ...]:
        return tuple(name for name, quantity in QUANTITIES.items() if quantity.metric in self.metrics)

    def weights_state(self) -> FileStates:
        """What tells whether a file with weights has changed."""
        folder = self.sync_model
        of_sync = [] if folder is None else [*_sync_weights(folder), folder / NETWORK_FILE]
        return file_states([self.syncnet, self.arcface, self.inception, *of_sync])


@dataclass
class Instruments:
    """The detector and the networks; None where no metric needs one, or where it could not be loaded."""

    detector: LandmarkDetector | None = None
    embedder: DlibEmbedder | ArcFaceEmbedder | None = None
    sync: dict[str, SyncScorer] = field(default_factory=dict)  # by metric
    features: Callable[[np.ndarray], np.ndarray] | None = None  # (B, H, W, 3) uint8 BGR -> (B, D)
    names: dict[str, str] = field(default_factory=dict)  # metric -> what measures it
    missing: dict[str, str] = field(default_factory=dict)  # metric -> why it cannot be measured


def load_instruments(config: EvaluationConfig) -> Instruments:
    """What the metrics need, as the last call for the same settings and weights has loaded it; see `missing`."""
    return _load(config, config.weights_state())


@functools.lru_cache(maxsize=1)
def _load(config: EvaluationConfig, _: FileStates) -> Instruments:
    instruments = Instruments()

    def load(metrics: Sequence[str], loader: Callable[[], tuple[Loaded, str]]) -> Loaded | None:
        asked_for = [name for name in metrics if name in config.metrics and name not in instruments.missing]
        if not asked_for:
            return None
        try:
            instrument, instruments.names[metrics[0]] = loader()
        except PcavsError as error:
            instruments.missing |= dict.fromkeys(asked_for, str(error))
            return None
        return instrument

    instruments.detector = load(NEED_FACES, lambda: _load_detector(config))
    instruments.embedder = load(["identity"], lambda: _load_embedder(config))
    if scorer := load(["sync"], lambda: load_syncnet(config.syncnet, config.device)):
        instruments.sync["sync"] = scorer
    if scorer := load([MODEL_SYNC], lambda: load_sync_model(config.sync_model, config.device, config.any_size)):
        instruments.sync[MODEL_SYNC] = scorer
    instruments.features = load(["frechet"], lambda: _load_inception(config))
    return instruments


def _load_detector(config: EvaluationConfig) -> tuple[LandmarkDetector, str]:
    from data.faces.landmarks import make_detector

    detector = make_detector(config.landmarks, config.device)
    return detector, f"landmarks by {detector.name}"


def _load_embedder(config: EvaluationConfig) -> tuple[DlibEmbedder | ArcFaceEmbedder, str]:
    from util.metrics.identity import ArcFaceEmbedder, DlibEmbedder

    embedder: DlibEmbedder | ArcFaceEmbedder
    embedder = ArcFaceEmbedder(config.arcface) if config.arcface else DlibEmbedder()
    return embedder, embedder.name


def _load_inception(config: EvaluationConfig) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    from util.metrics.frechet import inception_features

    if config.inception is None:
        raise CheckpointError("no weights: give torchvision's Inception v3 as --inception FILE")
    return inception_features(config.inception), f"torchvision's Inception v3, {_weights_name(config.inception)}"


def load_syncnet(path: Path | None, device: str = "cpu") -> tuple[SyncScorer, str]:
    """The published measure of sync, see `util.metrics.sync_score.score_clip`, and its name."""
    if path is None or not path.is_file():
        raise CheckpointError(f"no weights{'' if path is None else f' at {path}'}: {_SYNCNET_HINT}")
    import torch

    from models.networks.syncnet import SyncNet, published_state
    from util.checkpoint import read_state_dict
    from util.metrics.sync_score import score_clip, to_int16

    network = SyncNet()
    try:
        network.load_state_dict(published_state(read_state_dict(path)))
    except (KeyError, RuntimeError) as error:
        reason = str(error.args[0]).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be loaded as SyncNet ({reason}); {_SYNCNET_HINT}") from error
    network.eval().requires_grad_(False).to(device)

    def embed(stream: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda windows: stream(torch.from_numpy(windows).to(device)).cpu().numpy()

    def score(frames: Iterable[np.ndarray], num_frames: int, wave: np.ndarray) -> SyncScores:
        lip, audio = embed(network.embed_lip), embed(network.embed_audio)
        return score_clip(frames, num_frames, to_int16(wave), lip, audio)

    return score, f"SyncNet, {_weights_name(path)}"


def load_sync_model(folder: Path | None, device: str = "cpu", any_size: bool = False) -> tuple[SyncScorer, str]:
    """Sync as a model of this project sees it: A_sync of the sound against to_mouth(E(frame)), a unit vector a frame.

    Frames are taken as they are, so they must be cropped like those of results.
    """
    if folder is None:
        raise CheckpointError("no weights: give the folder of a trained model as --sync_model DIR")
    import numpy as np
    import torch

    from data.audio import log_mel, mel_window
    from models.loading import load_networks
    from util.images import to_unit_range
    from util.metrics.sync_score import WINDOW_FRAMES, num_windows, sync_scores, unit_vectors

    config = NetworkConfig.of_checkpoint(folder, any_size)
    networks: dict[str, Any] = load_networks(folder, _EPOCH, config, _SYNC_LETTERS)
    voice, face = (networks[letter].eval().requires_grad_(False).to(device) for letter in _SYNC_LETTERS)

    def score(frames: Iterable[np.ndarray], num_frames: int, wave: np.ndarray) -> SyncScores:
        mel = log_mel(wave)
        left = itertools.islice(frames, num_windows(num_frames, len(wave)) + WINDOW_FRAMES)
        seen, heard, count = [], [], 0
        while batch := list(itertools.islice(left, _BATCH)):
            pictures = torch.from_numpy(to_unit_range(np.stack(batch)[..., ::-1]))
            windows = np.stack([mel_window(mel, number) for number in range(count, count + len(batch))])
            seen.append(face.to_mouth(face(pictures.to(device))).cpu().numpy())
            heard.append(voice(torch.from_numpy(windows).to(device)).cpu().numpy())
            count += len(batch)
        return sync_scores(unit_vectors(np.concatenate(seen)), unit_vectors(np.concatenate(heard)))

    return score, f"{folder}: {', '.join(map(_weights_name, _sync_weights(folder)))}"


def _sync_weights(folder: Path) -> list[Path]:
    from util.checkpoint import network_path

    return [network_path(folder, _EPOCH, letter) for letter in _SYNC_LETTERS]


def _weights_name(path: Path) -> str:
    return f"{path.name} (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]})"
