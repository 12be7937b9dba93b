"""AvModel: identity, speech and pose in, frames out; images RGB in [-1, 1], 25 frames a second.

The caller owns files and timing; this module owns the order of the computation of SPEC section 5.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.generator import Generator
from models.registry import OPTIONAL_HEADS, build_network
from options.config import NetworkConfig
from util.checkpoint import load_network, network_path, require_networks
from util.seed import generator_for

logger = logging.getLogger(__name__)

INFERENCE_LETTERS = ("G", "V", "E", "A_sync")
SPEECH_GAIN = 1.2
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# The rounding of a convolution depends on how many images it sees. Networks are therefore run on pieces of a fixed
# size, the last one filled up, so that a frame never depends on the batch it came in.
_CPU_PIECE = {"G": 1, "V": 1, "E": 1, "A_sync": 8}
_GPU_PIECE = {"G": 8, "V": 1, "E": 8, "A_sync": 8}


@dataclass(frozen=True)
class Identity:
    """Who speaks: `vector` (1, 2048) and `map` (1, 512, 7, 7) or None to start from G's learned constant."""

    vector: Tensor
    map: Tensor | None


class AvModel:
    """The four networks of inference, on one device, in eval mode.

    Args:
        networks: by letter, G, V, E and A_sync.
        device: where they run.
        precision: fp32, fp16 or bf16 (autocast).
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device, precision: str = "fp32") -> None:
        if device.type == "cuda":  # the same command, the same bytes; and fp32 means fp32
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self.device = device
        self.dtype = PRECISIONS[precision]
        self.networks = {letter: net.to(device).eval().requires_grad_(False) for letter, net in networks.items()}
        generator = self.networks["G"]
        assert isinstance(generator, Generator)
        self.generator = generator

    @classmethod
    def from_checkpoints(
        cls,
        directory: Path,
        epoch: str,
        config: NetworkConfig,
        device: torch.device,
        precision: str = "fp32",
        choices: Mapping[str, str] | None = None,
    ) -> AvModel:
        """Builds the networks and loads `<directory>/<epoch>_net_<letter>.pth`.

        Args:
            choices: network names by letter, e.g. `{"V": "resnext"}`; missing letters take the published network.

        Raises:
            CheckpointError: a file is missing, broken, or does not match the sizes.
        """
        require_networks(directory, epoch, INFERENCE_LETTERS)
        networks = {}
        for letter in INFERENCE_LETTERS:
            with torch.device("meta"):  # no time spent on random weights that are overwritten
                network = build_network(letter, config, (choices or {}).get(letter))
            networks[letter] = network.to_empty(device="cpu")
            skipped = load_network(network, network_path(directory, epoch, letter), OPTIONAL_HEADS[letter])
            for key in skipped:  # heads that inference does not use; without weights they would hold what memory held
                network.state_dict()[key].zero_()
        return cls(networks, device, precision)

    def encode_identity(self, references: Tensor, use_map: bool = True) -> Identity:
        """Encodes the reference images of one person.

        Args:
            references: (N, 3, H, W) in [-1, 1], RGB; their codes are averaged.
            use_map: False starts the generator from its learned constant.
        """
        vector, identity_map = self._run("V", self.networks["V"], references[None])
        return Identity(vector, identity_map if use_map else None)

    def encode_speech(self, mel: Tensor) -> Tensor:
        """Mouth codes of mel windows: (B, 1, 80, 20) in [0, 1] -> (B, 500)."""

        def encode(windows: Tensor) -> Tensor:
            return self._pose_encoder.mouth_embed(SPEECH_GAIN * self.networks["A_sync"](windows))

        return self._run("A_sync", encode, mel)

    def encode_pose(self, frames: Tensor) -> Tensor:
        """Head-pose codes of video frames: (B, 3, H, W) in [-1, 1], RGB -> (B, 12)."""

        def encode(images: Tensor) -> Tensor:
            encoder = self._pose_encoder
            return encoder.headpose_embed(encoder.to_headpose(encoder(images)))

        return self._run("E", encode, frames)

    def generate(
        self, identity: Identity, mouth: Tensor, pose: Tensor, noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Frames of one person.

        Args:
            identity: from `encode_identity`.
            mouth: (B, 500).
            pose: (B, 12).
            noise: per layer (B or 1, 1, H, W), see `noise_for`; None generates without noise.

        Returns:
            (B, 3, S, S) float32 in [-1, 1], RGB, on the model's device.
        """
        batch = len(mouth)
        style = torch.cat([identity.vector.expand(batch, -1), mouth, pose], dim=1)  # (B, 2560)
        noise = [layer.to(self.device).expand(batch, -1, -1, -1) for layer in noise] if noise is not None else []

        def make(styles: Tensor, *layers: Tensor) -> Tensor:
            start = identity.map.expand(len(styles), -1, -1, -1) if identity.map is not None else None
            return self.generator(start, styles, layers or None)

        return self._run("G", make, style, *noise).float()

    def noise_for(self, mode: str, seed: int, frames: Sequence[int]) -> list[Tensor] | None:
        """Noise images for `generate`.

        Args:
            mode: `random` draws from (seed, frame number), `stored` takes the checkpoint's, `none` is None.
            seed: of the run.
            frames: frame numbers; a frame's noise depends on nothing else.

        Returns:
            one (B or 1, 1, H, W) tensor per layer, or None.
        """
        if mode == "none":
            return None
        if mode == "stored":
            return self.generator.stored_noise()
        rows = []
        sizes = self.generator.noise_sizes
        for frame in frames:
            drawn = generator_for(seed, frame).standard_normal(sum(s * s for s in sizes), dtype="float32")
            rows.append(torch.from_numpy(drawn).split([s * s for s in sizes]))
        return [
            torch.stack(layer).view(len(rows), 1, s, s) for layer, s in zip(zip(*rows, strict=True), sizes, strict=True)
        ]

    @property
    def _pose_encoder(self) -> Any:
        return self.networks["E"]

    def _run(self, letter: str, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """Moves inputs to the device and runs `function` on them in pieces of fixed size."""
        piece = (_CPU_PIECE if self.device.type == "cpu" else _GPU_PIECE)[letter]
        moved = [tensor.to(self.device) for tensor in inputs]
        with torch.inference_mode(), self._autocast():
            batch = len(moved[0])
            outputs = []
            for start in range(0, batch, piece):
                parts = [_filled_up(tensor[start : start + piece], piece) for tensor in moved]
                outputs.append(_as_float(function(*parts)))
        if isinstance(outputs[0], tuple):
            return tuple(torch.cat(column)[:batch] for column in zip(*outputs, strict=True))
        return torch.cat(outputs)[:batch]

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def select_device(gpu_ids: Sequence[int], local_rank: int = 0, several: bool = False) -> torch.device:
    """The device of a process: `--gpu_ids -1` is the CPU; without CUDA the CPU is taken with one warning.

    Args:
        gpu_ids: of the command line.
        local_rank: of this process among `several` on this machine, which take the GPUs in turn: those of `gpu_ids`
            if it names more than one, else all there are.
    """
    if not gpu_ids or gpu_ids[0] < 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        logger.warning("--gpu_ids %s, but CUDA is not available here: running on the CPU", gpu_ids[0])
        return torch.device("cpu")
    if several and len(gpu_ids) == 1:
        gpu_ids = range(torch.cuda.device_count())
    if not several and len(gpu_ids) > 1:
        logger.warning("one process uses one GPU, %d; for all of them: torchrun --nproc_per_node N test.py", gpu_ids[0])
    chosen = gpu_ids[local_rank % len(gpu_ids)]
    if chosen >= torch.cuda.device_count():
        logger.warning("--gpu_ids %d, but there are only %d GPUs: using GPU 0", chosen, torch.cuda.device_count())
        chosen = 0
    return torch.device("cuda", chosen)


def _filled_up(tensor: Tensor, length: int) -> Tensor:
    missing = length - len(tensor)
    return tensor if missing == 0 else torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])


def _as_float(value: Any) -> Any:
    return tuple(v.float() for v in value) if isinstance(value, tuple) else value.float()
