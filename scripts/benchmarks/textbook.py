"""The contestant to beat: the networks as the published code runs them, everything for every frame.

It has a process of its own, because how AvModel holds memory, uses threads and sets up a GPU holds for a process.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.av_model import PRECISIONS, SPEECH_GAIN
from models.loading import load_networks
from models.networks import textbook
from options.config import NetworkConfig
from util.errors import PcavsError
from util.parallel import end_with_parent


class Textbook:
    """Per-sample weights in grouped convolutions, the blur apart, NCHW; identity and both poses for every frame."""

    def __init__(self, directory: Path, epoch: str, sizes: NetworkConfig, device: torch.device) -> None:
        self.device = device
        self.networks: dict[str, Any] = load_networks(directory, epoch, sizes)
        for network in self.networks.values():
            in_textbook_layout(network).to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def load(self, references: np.ndarray, poses: np.ndarray, mel: np.ndarray, noise: Sequence[np.ndarray]) -> None:
        """Takes what the next calls compute with; shapes as `Bench.make_batch` gives them."""
        self.references, self.poses, self.mel = (torch.from_numpy(x).to(self.device) for x in (references, poses, mel))
        self.noise = [torch.from_numpy(layer).to(self.device) for layer in noise]
        self.vector, self.map = self._identity()
        self.style = torch.cat([self.vector, self._mouth(), self._pose(self.poses)], dim=1)

    @torch.no_grad()
    def run(self, what: str, precision: str = "fp32") -> None:
        """Computes what one network has to do for the batch, V, E, A_sync or G; or all of its frames."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        compute = {
            "V": self._identity,
            "E": lambda: self._pose(self.poses),
            "A_sync": self._mouth,
            "G": lambda: self._images(self.map, self.style),
            "frames": self.frames,
        }[what]
        dtype = PRECISIONS[precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            compute()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @torch.no_grad()
    def frames(self) -> list[np.ndarray]:
        """Frames with the driving pose, and with the reference's own as the published code adds: (B, 3, S, S) each."""
        vector, identity_map = self._identity()
        driven, own, mouth = self._pose(self.poses), self._pose(self.references), self._mouth()
        styles = [torch.cat([vector, mouth, pose], dim=1) for pose in (driven, own)]
        return [self._images(identity_map, style).float().cpu().numpy() for style in styles]

    def _identity(self) -> tuple[Tensor, Tensor]:
        return self.networks["V"](self.references[:, None])

    def _pose(self, frames: Tensor) -> Tensor:
        encoder = self.networks["E"]
        return encoder.headpose_embed(encoder.to_headpose(encoder(frames)))

    def _mouth(self) -> Tensor:
        return self.networks["E"].mouth_embed(SPEECH_GAIN * self.networks["A_sync"](self.mel))

    def _images(self, identity_map: Tensor, style: Tensor) -> Tensor:
        return textbook.generate(self.networks["G"], identity_map, style, self.noise)


def in_textbook_layout(network: nn.Module) -> nn.Module:
    """Weights as a checkpoint holds them; our own networks keep some in channels-last layout."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return network


class TextbookProcess:
    """A Textbook in another process; it computes only while it is asked to, and ends with this object."""

    def __init__(self, directory: Path, epoch: str, sizes: NetworkConfig, device: torch.device) -> None:
        self._weights = (directory, epoch, sizes, device)
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _start_process, (torch.get_num_threads(),))

    def __call__(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the Textbook. Raises PcavsError where it fails, or where its process died."""
        try:
            return self._pool.submit(_call, self._weights, method, *arguments).result()
        except RuntimeError as error:  # also that of a broken pool
            raise PcavsError(f"the textbook form failed (out of memory?): {error}") from error


def _start_process(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


@functools.cache
def _textbook(*weights: Any) -> Textbook:
    return Textbook(*weights)


def _call(weights: Sequence[Any], method: str, *arguments: Any) -> Any:
    return getattr(_textbook(*weights), method)(*arguments)
