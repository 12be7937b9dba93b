"""The contestant to beat: the networks as the published code runs them, everything for every frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.av_model import PRECISIONS, SPEECH_GAIN
from models.loading import load_networks
from models.networks import textbook
from options.config import NetworkConfig

Batch = tuple[Tensor, Tensor, Tensor, list[Tensor]]


class Textbook:
    """Per-sample weights in grouped convolutions, the blur apart, NCHW; identity and both poses for every frame."""

    def __init__(self, directory: Path, epoch: str, sizes: NetworkConfig, device: torch.device) -> None:
        self.device, self.threads = device, torch.get_num_threads()
        self.networks: dict[str, Any] = load_networks(directory, epoch, sizes)
        for network in self.networks.values():
            in_textbook_layout(network).to(device).eval().requires_grad_(False)

    def call(self, what: str, batch: Batch, precision: str = "fp32") -> Callable[[], object]:
        """A function that computes what V, E, A_sync or G has to do for a batch; `frames`: all that its frames need."""
        references, poses, mel, noise = batch
        with torch.no_grad():
            vector, identity_map = self._identity(references)
            style = torch.cat([vector, self._mouth(mel), self._pose(poses)], dim=1)
        compute: Callable[[], object] = {
            "V": lambda: self._identity(references),
            "E": lambda: self._pose(poses),
            "A_sync": lambda: self._mouth(mel),
            "G": lambda: self._images(identity_map, style, noise),
            "frames": lambda: self.frames(batch),
        }[what]
        dtype = PRECISIONS[precision]

        @torch.no_grad()
        def run() -> None:
            torch.set_num_threads(self.threads)  # ours gives each of its own threads a part of them
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
                compute()

        return run

    @torch.no_grad()
    def frames(self, batch: Batch) -> list[np.ndarray]:
        """Frames with the driving pose, and with the reference's own as the published code adds: (B, 3, S, S) each."""
        references, poses, mel, noise = batch
        vector, identity_map = self._identity(references)
        driven, own, mouth = self._pose(poses), self._pose(references), self._mouth(mel)
        styles = [torch.cat([vector, mouth, pose], dim=1) for pose in (driven, own)]
        return [self._images(identity_map, style, noise).float().cpu().numpy() for style in styles]

    def _identity(self, references: Tensor) -> tuple[Tensor, Tensor]:
        return self.networks["V"](references[:, None])

    def _pose(self, frames: Tensor) -> Tensor:
        encoder = self.networks["E"]
        return encoder.headpose_embed(encoder.to_headpose(encoder(frames)))

    def _mouth(self, mel: Tensor) -> Tensor:
        return self.networks["E"].mouth_embed(SPEECH_GAIN * self.networks["A_sync"](mel))

    def _images(self, identity_map: Tensor, style: Tensor, noise: list[Tensor]) -> Tensor:
        return textbook.generate(self.networks["G"], identity_map, style, noise)


def in_textbook_layout(network: nn.Module) -> nn.Module:
    """Weights as a checkpoint holds them; our own networks keep some in channels-last layout."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return network
