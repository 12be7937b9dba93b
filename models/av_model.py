"""AvModel: identity, speech and pose in, frames out; images RGB in [-1, 1], 25 frames a second.

The caller owns files and timing; this module owns the order of the computation (docs/how_it_works.md section 5) and
keeps the device busy: `AvModel.stream` makes frames while their sound and pictures arrive.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.cuda_graphs import CudaGraphs
from models.fast.inference import prepare_for_inference
from models.networks import generator
from models.registry import OPTIONAL_HEADS, build_network
from options.config import INFERENCE_LETTERS, AudioConfig, NetworkConfig
from util.checkpoint import load_network, network_path, require_networks
from util.errors import MediaError
from util.images import tensor_to_uint8, tensor_to_unit_range
from util.memory import keep_freed_memory
from util.seed import generator_for

logger = logging.getLogger(__name__)

SPEECH_GAIN = 1.2
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# The rounding of a convolution depends on how many images it sees. Networks are therefore run on pieces of a fixed
# size, the last one filled up, so that a frame never depends on the batch it came in.
_CPU_PIECE = {"G": 1, "V": 1, "E": 1, "A_sync": 1}
_GPU_PIECE = {"G": 8, "V": 1, "E": 8, "A_sync": 8}
_CPU_WORKERS = 16  # at most; a machine with more cores lets several share a frame
_GPU_WORKERS = 3  # one prepares, one starts kernels, one waits for results
_POSES_KEPT = 4096  # codes; frames of a longer pose video are encoded again when they come back


@dataclass(frozen=True)
class Identity:
    """Who speaks: `vector` (1, 2048) and `map` (1, 512, 7, 7) or None to start from G's learned constant."""

    vector: Tensor
    map: Tensor | None


class Cue(Protocol):
    """What drives one frame."""

    @property
    def frame(self) -> int:
        """Its number, on which only the noise depends."""

    @property
    def mel(self) -> np.ndarray:
        """(1, 80, 20) float32 in [0, 1]."""

    @property
    def pose_index(self) -> int:
        """Number of the pose picture: pictures of one number are the same, and encoded once."""

    @property
    def pose(self) -> np.ndarray | None:
        """(S, S, 3) uint8 RGB, or None for the fixed pose."""


CueType = TypeVar("CueType", bound=Cue)


class AvModel:
    """The four networks of inference, on one device, in eval mode.

    On a CPU every worker thread makes whole frames on a core of its own, so that no core waits for another. On a GPU
    the workers prepare what is uploaded, start kernels (one worker at a time), and wait for the frames.

    Args:
        networks: by letter, G, V, E and A_sync, on the CPU. They are used up.
        device: where they run. (Not verified so far: a GPU.)
        precision: fp32, tf32 (fp32 with shorter factors in products, on a GPU), fp16 or bf16 (autocast).
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device, precision: str = "fp32") -> None:
        on_cpu = device.type == "cpu"
        if device.type == "cuda" and device.index is None:  # the worker threads must be told which
            device = torch.device("cuda", torch.cuda.current_device())
        if on_cpu:
            keep_freed_memory()
        else:  # the same command, the same bytes; and fp32 means fp32
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self.device = device
        self.dtype = PRECISIONS[precision]
        self._piece: Mapping[str, int] = _CPU_PIECE if on_cpu else _GPU_PIECE
        cores = torch.get_num_threads()
        workers = min(cores, _CPU_WORKERS) if on_cpu else _GPU_WORKERS
        self._workers = ThreadPoolExecutor(workers, "frames", _start_worker, (device, max(1, cores // workers)))
        self._one_at_a_time: Any = contextlib.nullcontext() if on_cpu else threading.Lock()
        self._graphs = None if on_cpu else CudaGraphs()
        plain: dict[str, Any] = {
            letter: net.to(device).eval().requires_grad_(False) for letter, net in networks.items()
        }
        for letter in ("V", "E", "A_sync") if not on_cpu else ():  # G's weights lie like that in any case
            plain[letter].to(memory_format=torch.channels_last)
        assert isinstance(plain["G"], generator.Generator)
        noise_weights = [w for name, w in plain["G"].named_parameters() if name.endswith("noise.weight")]
        self._uses_noise = any(bool(weight.any()) for weight in noise_weights)
        self.networks = self._fast(plain) if on_cpu and self.dtype == torch.float32 else plain

    @classmethod
    def from_checkpoints(
        cls,
        directory: Path,
        epoch: str,
        config: NetworkConfig,
        device: torch.device,
        precision: str = "fp32",
    ) -> AvModel:
        """The model of `load_networks`, with its arguments. Raises the same errors."""
        return cls(load_networks(directory, epoch, config), device, precision)

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
        return self._run("A_sync", self._mouth_codes, mel)

    def encode_pose(self, frames: Tensor) -> Tensor:
        """Head-pose codes of video frames: (B, 3, H, W) in [-1, 1], RGB -> (B, 12)."""
        return self._run("E", self._pose_codes, frames)

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
        return self._run("G", *self._for_generator(identity, mouth, pose, noise))

    def stream(
        self,
        identity: Identity,
        cues: Iterable[CueType],
        noise: str = "random",
        seed: int = 0,
        fixed_pose: Tensor | None = None,
        ahead: int = 0,
    ) -> Generator[tuple[CueType, np.ndarray], None, None]:
        """Frames while their cues arrive, in order.

        Args:
            identity: from `encode_identity`.
            cues: what drives the frames; the next one is asked for when there is room for work on it.
            noise, seed: see `noise_for`.
            fixed_pose: (1, 12) from `encode_pose`, for cues without a picture.
            ahead: cues that may be taken before the frame of an earlier one is yielded. 0 is live: each frame is made
                alone and at once. More keeps every core busy, and lets a GPU make eight frames at a time.

        Yields:
            a cue and its frame, (S, S, 3) uint8 RGB.

        Raises:
            MediaError: the networks gave NaN or infinity for a frame. And whatever `cues` raises.
        """
        piece = self._piece if ahead else dict.fromkeys(self._piece, 1)
        codes: OrderedDict[int, Future[Tensor]] = OrderedDict()
        in_work: deque[tuple[list[CueType], Future[tuple[np.ndarray, np.ndarray]]]] = deque()

        def finished() -> Iterator[tuple[CueType, np.ndarray]]:
            done, frames = in_work.popleft()
            for cue, picture, is_whole in zip(done, *frames.result(), strict=True):
                if not is_whole:
                    hint = "" if self.dtype == torch.float32 else "; try --precision fp32"
                    raise MediaError(
                        f"frame {cue.frame}: the networks gave NaN or infinity; are the weights damaged?{hint}"
                    )
                yield cue, picture

        try:
            for group in _groups(cues, piece["G"]):
                slots, new = _pose_slots(codes, group)
                job = (identity, group, slots, new, fixed_pose, noise, seed, piece)
                in_work.append((group, self._workers.submit(self._frames, *job)))
                while sum(len(taken) for taken, _ in in_work) > ahead:
                    yield from finished()
            while in_work:
                yield from finished()
        finally:
            for _, frames in reversed(in_work):  # none may begin without those that it waits for
                frames.cancel()

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

    def _frames(
        self,
        identity: Identity,
        cues: Sequence[Cue],
        slots: Sequence[Future[Tensor] | None],
        new: Sequence[tuple[Future[Tensor], np.ndarray]],
        fixed_pose: Tensor | None,
        noise: str,
        seed: int,
        piece: Mapping[str, int],
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B, S, S, 3) uint8 frames, and (B,) whether they are free of NaN; done in a worker.

        Args:
            slots: where each cue finds its pose code; those of `new` pictures are filled here, the others by a worker
                that began earlier.
        """
        try:  # before anything else may fail, for others wait for it
            if new:
                pictures = self._uploaded(torch.from_numpy(np.stack([picture for _, picture in new])))
                with self._computing():
                    images = tensor_to_unit_range(pictures.permute(0, 3, 1, 2))
                    for (slot, _), code in zip(new, self._apply(piece["E"], self._pose_codes, images), strict=True):
                        slot.set_result(code)
        except BaseException as error:
            for slot, _ in new:
                slot.set_exception(error)
            raise
        layers = self.noise_for(noise, seed, [cue.frame for cue in cues]) if self._uses_noise else None
        mel = self._uploaded(torch.from_numpy(np.stack([cue.mel for cue in cues])))
        codes = [slot.result() if slot is not None else fixed_pose for slot in slots]
        with self._computing():
            pose = torch.stack([code.reshape(-1) for code in codes if code is not None])
            mouth = self._apply(piece["A_sync"], self._mouth_codes, mel)
            images = self._apply(piece["G"], *self._for_generator(identity, mouth, pose, layers))
            found = [self._download(tensor_to_uint8(images)), self._download(images.isfinite().flatten(1).all(dim=1))]
            event = torch.cuda.Event() if self.device.type == "cuda" else None
            if event is not None:
                event.record()
        if event is not None:
            event.synchronize()
        return found[0].numpy(), found[1].numpy()

    def _run(self, letter: str, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """`function` on pieces of a fixed size, spread over the workers."""
        piece = self._piece[letter]

        def compute(start: int) -> Any:
            with self._computing():
                return self._apply(piece, function, *(self._uploaded(x[start : start + piece]) for x in inputs))

        outputs = list(self._workers.map(compute, range(0, len(inputs[0]), piece)))
        if isinstance(outputs[0], tuple):
            return tuple(torch.cat(column) for column in zip(*outputs, strict=True))
        return torch.cat(outputs)

    def _apply(self, piece: int, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """`function` on at most `piece` rows on the device, filled up to so many; float32."""
        rows = len(inputs[0])
        parts = [_filled_up(tensor, piece) for tensor in inputs]
        outputs = self._graphs(function, parts) if self._graphs is not None else function(*parts)
        if isinstance(outputs, tuple):
            return tuple(output[:rows].float() for output in outputs)
        return outputs[:rows].float()

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """What every computation stands in."""
        with self._one_at_a_time, torch.inference_mode(), self._autocast():
            yield

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        # a cache would outlive the graph whose memory it lies in
        return torch.autocast(self.device.type, dtype=self.dtype, cache_enabled=self._graphs is None)

    def _uploaded(self, tensor: Tensor) -> Tensor:
        """On the device; from page-locked memory, so that nobody waits for the copy."""
        if tensor.device.type == self.device.type:
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _download(self, tensor: Tensor) -> Tensor:
        """On the CPU, once an event that is recorded after this has come."""
        if self.device.type == "cpu":
            return tensor
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return host.copy_(tensor, non_blocking=True)

    def _mouth_codes(self, mel: Tensor) -> Tensor:
        return self._pose_encoder.mouth_embed(SPEECH_GAIN * self.networks["A_sync"](mel))

    def _pose_codes(self, images: Tensor) -> Tensor:
        encoder = self._pose_encoder
        feature = encoder(images.contiguous(memory_format=torch.channels_last))
        return encoder.headpose_embed(encoder.to_headpose(feature))

    def _for_generator(
        self, identity: Identity, mouth: Tensor, pose: Tensor, noise: Sequence[Tensor] | None
    ) -> tuple[Any, ...]:
        """The function that makes images, and its inputs, B rows each."""
        batch = len(mouth)
        style = torch.cat([identity.vector.expand(batch, -1), mouth, pose], dim=1)  # (B, 2560)
        layers = noise if noise is not None and self._uses_noise else ()
        inputs = [self._uploaded(layer).expand(batch, -1, -1, -1) for layer in layers]
        if identity.map is None:
            return self._images_from_constant, style, *inputs
        return self._images_from_map, style, identity.map.expand(batch, -1, -1, -1), *inputs

    def _images_from_map(self, style: Tensor, identity_map: Tensor, *noise: Tensor) -> Tensor:
        return self.generator(identity_map, style, noise or None)

    def _images_from_constant(self, style: Tensor, *noise: Tensor) -> Tensor:
        return self.generator(None, style, noise or None)

    @property
    def generator(self) -> Any:
        """G, plain or fast."""
        return self.networks["G"]

    @property
    def _pose_encoder(self) -> Any:
        return self.networks["E"]

    def _fast(self, plain: Mapping[str, Any]) -> dict[str, nn.Module]:
        """The networks in the form for a CPU, made in the workers, whose number of threads that form is for."""
        size = plain["E"].image_size
        window = torch.zeros(1, 1, AudioConfig.num_mel_bands, AudioConfig.bins_per_window)
        examples = {"G": (), "E": (torch.zeros(1, 3, size, size),), "A_sync": (window,)}
        identity_dim = plain["V"].model.out_channels

        def prepare(letter: str) -> nn.Module:
            return prepare_for_inference(plain[letter], *examples[letter], constant=identity_dim).eval()

        # V sees one image a clip: it would not make up for the time
        return {**plain, **dict(zip(examples, self._workers.map(prepare, examples), strict=True))}


def load_networks(directory: Path, epoch: str, config: NetworkConfig) -> dict[str, nn.Module]:
    """Builds the networks of inference and loads `<directory>/<epoch>_net_<letter>.pth`.

    Raises:
        CheckpointError: a file is missing, broken, or does not match the sizes.
    """
    require_networks(directory, epoch, INFERENCE_LETTERS)
    networks = {}
    for letter in INFERENCE_LETTERS:
        with _Uninitialised():
            network = build_network(letter, config)
        networks[letter] = network.to("meta")  # it takes the memory of the file
        load_network(network, network_path(directory, epoch, letter), OPTIONAL_HEADS[letter])
    return networks


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


class _Uninitialised(TorchFunctionMode):
    """Builds networks without random weights, for they are overwritten.

    (On the meta device building takes longer: arithmetic there imports torch's compiler.)
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init" or func in (
            torch.Tensor.normal_,
            torch.Tensor.uniform_,
        ):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def _start_worker(device: torch.device, threads: int) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(threads)


def _groups(cues: Iterable[CueType], size: int) -> Iterator[list[CueType]]:
    iterator = iter(cues)
    while group := list(itertools.islice(iterator, size)):
        yield group


def _pose_slots(
    codes: OrderedDict[int, Future[Tensor]], cues: Sequence[Cue]
) -> tuple[list[Future[Tensor] | None], list[tuple[Future[Tensor], np.ndarray]]]:
    """Where each cue finds its pose code (None: it has no picture), and which slots are new, with their pictures."""
    slots: list[Future[Tensor] | None] = []
    new = []
    for cue in cues:
        if cue.pose is None:
            slots.append(None)
            continue
        if cue.pose_index not in codes:
            codes[cue.pose_index] = Future()
            new.append((codes[cue.pose_index], cue.pose))
        codes.move_to_end(cue.pose_index)
        slots.append(codes[cue.pose_index])
    while len(codes) > _POSES_KEPT:
        codes.popitem(last=False)
    return slots, new


def _filled_up(tensor: Tensor, length: int) -> Tensor:
    missing = length - len(tensor)
    return tensor if missing == 0 else torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])
