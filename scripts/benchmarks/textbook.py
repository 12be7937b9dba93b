"""The contestant that scripts/benchmark.py compares with: the networks as the published code runs them.

It lives in a process of its own, because how AvModel holds memory, uses threads and sets up a GPU holds for a process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.frames import crop_template, read_image, write_image
from models.av_model import PRECISIONS, SPEECH_GAIN
from models.networks import textbook
from models.registry import OPTIONAL_HEADS, build_network
from options.config import INFERENCE_LETTERS, DataConfig, NetworkConfig
from util.checkpoint import load_network, network_path
from util.errors import PcavsError
from util.images import to_uint8, to_unit_range


class Textbook:
    """Everything for every frame, per-sample weights, NCHW."""

    def __init__(self, directory: Path, epoch: str, sizes: NetworkConfig, device: torch.device) -> None:
        self.device, self.config = device, DataConfig(crop_size=sizes.crop_size)
        self.networks: dict[str, Any] = {}
        for letter in INFERENCE_LETTERS:
            network = build_network(letter, sizes)
            load_network(network, network_path(directory, epoch, letter), OPTIONAL_HEADS[letter])
            in_textbook_layout(network)
            self.networks[letter] = network.to(device).eval().requires_grad_(False)

    def identity(self, references: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> (B, 2048), (B, 512, 7, 7)."""
        return self.networks["V"](references[:, None])

    def pose(self, frames: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 12)."""
        encoder = self.networks["E"]
        return encoder.headpose_embed(encoder.to_headpose(encoder(frames)))

    def mouth(self, mel: Tensor) -> Tensor:
        """(B, 1, 80, 20) -> (B, 500)."""
        return self.networks["E"].mouth_embed(SPEECH_GAIN * self.networks["A_sync"](mel))

    def image(self, identity_map: Tensor, style: Tensor, noise: Sequence[Tensor] | None) -> Tensor:
        """(B, 512, 7, 7), (B, 2560) -> (B, 3, S, S)."""
        return textbook.generate(self.networks["G"], identity_map, style, noise)

    def frames(
        self, references: Tensor, poses: Tensor, mel: Tensor, noise: Sequence[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Frames with the driving pose and with the reference's own, (B, 3, S, S) each on the CPU, as published."""
        vector, identity_map = self.identity(references)
        driven, own, mouth = self.pose(poses), self.pose(references), self.mouth(mel)
        styles = [torch.cat([vector, mouth, pose], dim=1) for pose in (driven, own)]
        return self.image(identity_map, styles[0], noise).cpu(), self.image(identity_map, styles[1], noise).cpu()

    def written_frames(
        self, reference: Path, poses: Sequence[Path], mel: Tensor, noise: Sequence[Tensor], folder: Path
    ) -> None:
        """The same from files to files: reads two pictures a frame, writes two."""
        pictures = [self._picture(path) for pose in poses for path in (reference, pose)]
        images = torch.from_numpy(np.stack(pictures)).to(self.device)
        for kind, made in enumerate(self.frames(images[::2], images[1::2], mel, noise)):
            for number, image in enumerate(made):
                bgr = np.ascontiguousarray(to_uint8(image.float().numpy())[..., ::-1])
                write_image(folder / f"{kind}_{number}.jpg", bgr)

    def _picture(self, path: Path) -> np.ndarray:
        return to_unit_range(crop_template(read_image(path), self.config))


def in_textbook_layout(network: torch.nn.Module) -> None:
    """Weights as a checkpoint holds them; our own networks keep some in channels-last layout."""
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()


class TextbookProcess:
    """A Textbook in another process; it computes only while it is asked to."""

    def __init__(self, directory: Path, epoch: str, sizes: NetworkConfig, device: torch.device, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        arguments = (other_end, directory, epoch, sizes, device, threads)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        other_end.close()
        self._answer()

    def job(self, method: str, *arguments: Any, precision: str = "fp32") -> Callable[[], None]:
        """A function that calls a method of Textbook over there; the arguments travel now, results stay."""
        number = self._ask("prepare", method, _as_arrays(arguments), precision)

        def run() -> None:
            self._ask("run", number)

        return run

    def result(self, method: str, *arguments: Any) -> Any:
        """What a method of Textbook gives, on the CPU."""
        return _as_tensors(self._ask("result", self._ask("prepare", method, _as_arrays(arguments), "fp32")))

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join()

    def _ask(self, *question: Any) -> Any:
        with contextlib.suppress(OSError):  # a process that is gone is noticed when it does not answer
            self._connection.send(question)
        return self._answer()

    def _answer(self) -> Any:
        try:
            is_well, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise PcavsError("the textbook's process died (out of memory?); close other programs") from error
        if not is_well:
            raise PcavsError(f"the textbook form failed: {value}")
        return value


def _serve(
    connection: Connection, directory: Path, epoch: str, sizes: NetworkConfig, device: torch.device, threads: int
) -> None:
    """Answers the questions of a TextbookProcess until it hangs up."""
    torch.set_num_threads(threads)
    jobs: list[Callable[[], Any]] = []
    contestant = None
    try:
        question: Any = ("load",)
        while True:
            try:
                answer: Any = None
                if question[0] == "load":
                    contestant = Textbook(directory, epoch, sizes, device)
                elif question[0] == "prepare":
                    method, arguments, precision = question[1:]
                    call = getattr(contestant, method)
                    jobs.append(_prepared(call, _as_tensors(arguments, device), device, precision))
                    answer = len(jobs) - 1
                else:
                    value = jobs[question[1]]()
                    answer = _as_arrays(value) if question[0] == "result" else None
                connection.send((True, answer))
            except (PcavsError, RuntimeError) as error:
                connection.send((False, f"{type(error).__name__}: {error}"))
            question = connection.recv()
    except EOFError:
        return


def _prepared(
    call: Callable[..., Any], arguments: Sequence[Any], device: torch.device, precision: str
) -> Callable[[], Any]:
    dtype = PRECISIONS[precision]

    def run() -> Any:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            value = call(*arguments)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return value

    return run


def _as_arrays(value: Any) -> Any:
    """Tensors, also in tuples and lists, as numpy arrays, which travel as plain bytes."""
    if isinstance(value, Tensor):
        return value.detach().float().cpu().numpy()
    return type(value)(map(_as_arrays, value)) if isinstance(value, (tuple, list)) else value


def _as_tensors(value: Any, device: torch.device | None = None) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value).to(device or "cpu")
    return type(value)(_as_tensors(part, device) for part in value) if isinstance(value, (tuple, list)) else value
