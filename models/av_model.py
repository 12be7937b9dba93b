"""AvModel: identity, speech and pose in, frames out; images RGB in [-1, 1], 25 frames a second.

    model = AvModel.from_checkpoints(Path("checkpoints/synthetic"))
    identity = model.encode_identity(references)
    for cue, frame in model.stream(identity, cues):
        ...

The caller owns files and time; this module owns the order of the computation (docs/how_it_works.md section 5), and
models/stream.py says which thread computes what when.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.fast.convolution import available
from models.fast.inference import FastGenerator, prepare_encoder
from models.loading import load_networks
from models.stream import CueType, Workers, frames_in_order
from options.config import INFERENCE_LETTERS, AudioConfig, NetworkConfig
from util.device import set_up_for_inference
from util.images import tensor_to_uint8, tensor_to_unit_range, to_unit_range
from util.seed import generator_for

SPEECH_GAIN = 1.2
_POSES_KEPT = 4096  # codes; when frames of a longer pose video come back, they are encoded again
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class IdentityCodes:
    """Who speaks: `vector` (1, 2048), and `map` (1, 512, 7, 7), from which the generator starts."""

    vector: Tensor
    map: Tensor


class AvModel:
    """The four networks of inference, on one device, in eval mode.

    Args:
        networks: by letter, G, V, E, A_sync, and A for `encode_voice`, on the CPU; they are changed and belong to the
            model from now on.
        device: where they run. (Not verified so far: a GPU.)
        precision: fp32, tf32 (fp32 with shorter factors in products, on a GPU), fp16 or bf16 (autocast).
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device, precision: str = "fp32") -> None:
        set_up_for_inference(device, allow_tf32=precision == "tf32")
        self._workers = Workers(device, PRECISIONS[precision])
        self.device = self._workers.device
        self.networks: dict[str, Any] = {
            letter: network.to(self.device).eval().requires_grad_(False) for letter, network in networks.items()
        }
        generator = self.networks["G"]
        self._constant, self._stored_noise = generator.input.input, generator.stored_noise()
        noise_weights = [w for name, w in generator.named_parameters() if name.endswith("noise.weight")]
        self._uses_noise = any(bool(weight.any()) for weight in noise_weights)
        if self.device.type != "cpu":
            for letter in ("V", "E", "A_sync"):  # G's weights lie like that in any case
                self.networks[letter].to(memory_format=torch.channels_last)
        elif self._workers.dtype == torch.float32 and available():
            self._take_fast_forms()

    @classmethod
    def from_checkpoints(
        cls,
        directory: Path,
        epoch: str = "latest",
        config: NetworkConfig | None = None,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        letters: Sequence[str] = INFERENCE_LETTERS,
    ) -> AvModel:
        """The model of a folder with `<epoch>_net_<letter>.pth`; see AvModel for device, precision and networks.

        Without `config` the sizes are those that the folder's network.json names, or the published ones. Raises
        CheckpointError: a file is missing, broken, or does not match the sizes.
        """
        sizes = config or NetworkConfig.of_checkpoint(directory)
        return cls(load_networks(directory, epoch, sizes, letters), torch.device(device), precision)

    def encode_identity(self, references: Tensor, use_map: bool = True) -> IdentityCodes:
        """Encodes the reference images of one person, (N, 3, H, W) in [-1, 1], RGB; their codes are averaged.

        use_map: False starts the generator from its learned constant.
        """
        vector, identity_map = self._workers.run(self.networks["V"], references[None], piece=1)
        return IdentityCodes(vector, identity_map if use_map else self._constant)

    def encode_voice(self, voice: Tensor) -> Tensor:
        """The identity vector of a voice, in place of that of a face: (1, 2048); needs A.

        voice: (K, 1, 80 * n_mel_t, 20) in [0, 1], stretches of sound; their vectors are averaged.
        """
        return self._workers.run(self.networks["A"], voice).mean(dim=0, keepdim=True)

    def encode_speech(self, mel: Tensor) -> Tensor:
        """Mouth codes of mel windows: (B, 1, 80, 20) in [0, 1] -> (B, 500)."""
        return self._workers.run(self._mouth_codes, mel)

    def encode_pose(self, frames: Tensor) -> Tensor:
        """Head-pose codes of video frames: (B, 3, H, W) in [-1, 1], RGB -> (B, 12)."""
        return self._workers.run(self._pose_codes, frames)

    def generate(
        self, identity: IdentityCodes, mouth: Tensor, pose: Tensor, noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Frames of one person: (B, 3, S, S) float32 in [-1, 1], RGB, on the model's device.

        mouth: (B, 500).  pose: (B, 12).  noise: per layer (B or 1, 1, H, W), see `noise_for`; None: without noise.
        """
        return self._workers.run(self._images, *self._for_generator(identity, mouth, pose, noise))

    def stream(
        self,
        identity: IdentityCodes,
        cues: Iterable[CueType],
        noise: str = "random",
        seed: int = 0,
        fixed_pose: Tensor | None = None,
        ahead: int = 0,
        pose_codes: Tensor | None = None,
        mouth_codes: Tensor | None = None,
        edit_pose: Callable[[Tensor], Tensor] | None = None,
    ) -> Generator[tuple[CueType, np.ndarray], None, None]:
        """Frames while their cues arrive, in order.

        Args:
            cues: what drives the frames, see `models.stream.Cue`; the next one is asked for when there is room for
                work on it.
            noise, seed: see `noise_for`.
            fixed_pose: (1, 12) from `encode_pose`, for cues without a picture.
            ahead: cues that may be taken before the frame of an earlier one is yielded. 0 is live: each frame is made
                alone and at once. More keeps every core busy, and lets a GPU make eight frames at a time.
            pose_codes, mouth_codes: (T, 12), (T, 500) on the device; row `cue.frame` goes before picture and sound.
            edit_pose: gets the pose code of each cue in order, (12,), and gives the one to take; see
                `models.pose_codes.LivePose`. Pictures are then encoded one by one, as often as they come.

        Yields:
            a cue and its frame, (S, S, 3) uint8 RGB.

        Raises:
            MediaError: the networks gave NaN or infinity for a frame. And whatever `cues` raises.
        """
        workers = self._workers
        piece = workers.piece if ahead else 1
        edited: dict[int, Tensor] = {}  # pose codes by frame number, until the frame is made
        kept: dict[int, Tensor] = {}  # pose codes by number of the picture

        def encode_poses(group: Sequence[CueType]) -> list[Tensor | None]:
            if edit_pose is not None:
                return [edited.pop(cue.frame) for cue in group]
            if pose_codes is not None:
                return [pose_codes[cue.frame] for cue in group]
            codes = {cue.pose_index: kept.get(cue.pose_index) for cue in group}
            new = {cue.pose_index: cue.pose for cue in group if cue.pose is not None and codes[cue.pose_index] is None}
            if new:  # two threads that meet a picture at the same time both encode it
                pixels = workers.upload(torch.from_numpy(np.stack(list(new.values()))))
                with workers.computing():
                    made = workers.apply(piece, self._pose_codes, tensor_to_unit_range(pixels.permute(0, 3, 1, 2)))
                found = dict(zip(new, made, strict=True))
                if len(kept) > _POSES_KEPT:
                    kept.clear()
                kept.update(found)
                codes |= found
            return [fixed_pose if cue.pose is None else codes[cue.pose_index] for cue in group]

        def with_edited_poses(edit: Callable[[Tensor], Tensor]) -> Iterator[CueType]:
            for cue in cues:
                code = fixed_pose if pose_codes is None else pose_codes[[cue.frame]]
                if pose_codes is None and cue.pose is not None:
                    code = self.encode_pose(torch.from_numpy(to_unit_range(cue.pose[None])))
                assert code is not None  # a cue has a picture where there is no fixed pose
                edited[cue.frame] = edit(code[0])
                yield cue

        def make_frames(group: Sequence[CueType]) -> list[np.ndarray]:
            layers = self.noise_for(noise, seed, [cue.frame for cue in group]) if self._uses_noise else None
            mel = workers.upload(torch.from_numpy(np.stack([cue.mel for cue in group])))
            codes = encode_poses(group)
            with workers.computing():
                pose = torch.stack([code.reshape(-1) for code in codes if code is not None])
                if mouth_codes is None:
                    mouth = workers.apply(piece, self._mouth_codes, mel)
                else:
                    mouth = mouth_codes[[cue.frame for cue in group]]
                images = workers.apply(piece, self._images, *self._for_generator(identity, mouth, pose, layers))
                arrays = workers.download(tensor_to_uint8(images), images.isfinite().flatten(1).all(dim=1))
            return arrays()

        driving = cues if edit_pose is None else with_edited_poses(edit_pose)
        return frames_in_order(workers, driving, make_frames, piece, ahead)

    def noise_for(self, mode: str, seed: int, frames: Sequence[int]) -> list[Tensor] | None:
        """Noise images for `generate`: one (B or 1, 1, H, W) tensor per layer, or None.

        `random` draws from (seed, frame number) and nothing else, `stored` takes the checkpoint's, `none` is None.
        """
        if mode == "none":
            return None
        if mode == "stored":
            return self._stored_noise
        shapes = [layer.shape[1:] for layer in self._stored_noise]
        lengths = [shape.numel() for shape in shapes]
        rows = [generator_for(seed, frame).standard_normal(sum(lengths), dtype="float32") for frame in frames]
        layers = torch.from_numpy(np.stack(rows)).split(lengths, dim=1)
        return [layer.unflatten(1, shape).contiguous() for layer, shape in zip(layers, shapes, strict=True)]

    def _mouth_codes(self, mel: Tensor) -> Tensor:
        return self.networks["E"].mouth_embed(SPEECH_GAIN * self.networks["A_sync"](mel))

    def _pose_codes(self, images: Tensor) -> Tensor:
        encoder = self.networks["E"]
        feature = encoder(images.contiguous(memory_format=torch.channels_last))
        return encoder.headpose_embed(encoder.to_headpose(feature))

    def _images(self, start: Tensor, style: Tensor, *noise: Tensor) -> Tensor:
        return self.networks["G"](start, style, noise or None)

    def _for_generator(
        self, identity: IdentityCodes, mouth: Tensor, pose: Tensor, noise: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """The inputs of `_images`, B rows each."""
        batch = len(mouth)
        style = torch.cat([identity.vector.expand(batch, -1), mouth, pose], dim=1)  # (B, 2560)
        used = noise if noise is not None and self._uses_noise else ()
        layers = [self._workers.upload(layer).expand(batch, -1, -1, -1) for layer in used]
        return [identity.map.expand(batch, -1, -1, -1), style, *layers]

    def _take_fast_forms(self) -> None:
        """Replaces networks by their forms for a CPU, made in the workers, whose number of threads those are for."""
        size = self.networks["E"].image_size
        picture = torch.zeros(1, 3, size, size)
        window = torch.zeros(1, 1, AudioConfig.num_mel_bands, AudioConfig.bins_per_window)
        constant = self.networks["V"].model.out_channels
        made = {
            "G": self._workers.submit(FastGenerator, self.networks["G"], constant),
            "E": self._workers.submit(prepare_encoder, self.networks["E"], picture),
            "A_sync": self._workers.submit(prepare_encoder, self.networks["A_sync"], window),
        }  # V sees one image a clip: it would not make up for the time
        self.networks |= {letter: network.result() for letter, network in made.items()}
