"""The networks of inference as ONNX files, and how far those are from torch; needs onnx and onnxruntime."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.av_model import SPEECH_GAIN, AvModel, IdentityCodes
from models.loading import load_networks
from options.config import AudioConfig, NetworkConfig
from util.errors import CheckpointError
from util.files import MARK, atomic_path, make_directory
from util.json_files import to_builtins

OPSET = 17
# file, output, how far it is from torch, and that relative to the larger of 1 and the output's largest value
Comparison = tuple[str, str, float, float]
_CONVENTIONS = {
    "images": "(batch, 3, H, W) float32, RGB in [-1, 1]: uint8 / 127.5 - 1; cropped as data/frames.py does",
    "identity": "one row an image; average the rows of one person",
    "mel": "(batch, 1, mel bands, mel bins) float32 in [0, 1]; 100 bins a second, frame i starts at bin 4 (i - 2)",
    "noise": "standard normal images of all layers, flattened and joined; zeros for none",
    "image": "(batch, 3, S, S) float32, RGB in [-1, 1]; uint8 = clip((x + 1) / 2 * 255), truncated",
}


def export(directory: Path, epoch: str, sizes: NetworkConfig, output: Path) -> dict[str, Path]:
    """Writes `<letter>.onnx` for V, E, A_sync and G into the folder `output`; gives the files by letter."""
    networks: dict[str, Any] = load_networks(directory, epoch, sizes)
    graphs = _graphs(networks, sizes)
    make_directory(output)
    files = {letter: output / f"{letter}.onnx" for letter in graphs}
    told = {"sizes": json.dumps(to_builtins(sizes)), "noise_sizes": json.dumps(networks["G"].noise_sizes)}
    for letter, graph in graphs.items():
        with torch.no_grad(), atomic_path(files[letter]) as temporary:
            _trace(graph.eval(), temporary)
            model = onnx.load(str(temporary))
            onnx.helper.set_model_props(model, {"made_by": MARK, "network": letter} | told | _CONVENTIONS)
            onnx.checker.check_model(model)
            onnx.save(model, str(temporary))
    return files


def compare(files: Mapping[str, Path], directory: Path, epoch: str, sizes: NetworkConfig) -> list[Comparison]:
    """Runs the files in ONNX Runtime and AvModel in torch on the same input, at batch 1 and 3."""
    model = AvModel.from_checkpoints(directory, epoch, sizes)
    comparisons = []
    for letter, path in files.items():
        try:
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common class of its own
            raise CheckpointError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        shapes = {given.name: given.shape[1:] for given in session.get_inputs()}
        names = [output.name for output in session.get_outputs()]
        worst = dict.fromkeys(names, (0.0, 0.0))
        for batch in (1, 3):
            inputs, expected = _example(model, letter, shapes, batch)
            found = session.run(names, {name: value.numpy() for name, value in inputs.items()})
            for name, value in zip(names, found, strict=True):
                difference = float((torch.from_numpy(value) - expected[name]).abs().max())
                relative = difference / max(1.0, float(expected[name].abs().max()))
                worst[name] = max(worst[name], (difference, relative))
        comparisons += [(path.name, name, *worst[name]) for name in names]
    return comparisons


def _example(
    model: AvModel, letter: str, shapes: Mapping[str, Sequence[int]], batch: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Seeded inputs of a file by name, and the outputs of torch; all rows show one person, as `generate` wants it."""
    rng = torch.Generator().manual_seed(batch)
    given = {name: torch.rand(batch, *shape, generator=rng) for name, shape in shapes.items()}
    if letter == "V":
        each = [model.encode_identity(image[None]) for image in given["images"]]
        vectors, maps = [codes.vector for codes in each], [codes.map for codes in each]
        return given, {"identity_vector": torch.cat(vectors), "identity_map": torch.cat(maps)}
    if letter == "E":
        return given, {"pose": model.encode_pose(given["frames"])}
    if letter == "A_sync":
        return given, {"mouth": model.encode_speech(given["mel"])}
    layers = model.noise_for("random", 0, range(batch)) or []
    given["noise"] = torch.cat([layer.flatten(1) for layer in layers], dim=1)
    codes = IdentityCodes(given["identity_vector"][:1], given["identity_map"][:1])
    given |= {"identity_vector": codes.vector.expand(batch, -1), "identity_map": codes.map.expand(batch, -1, -1, -1)}
    return given, {"image": model.generate(codes, given["mouth"], given["pose"], layers)}


def _trace(graph: Graph, path: Path) -> None:
    inputs = tuple(torch.rand(2, *shape) for shape in graph.inputs.values())
    names = [*graph.inputs, *graph.outputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's deprecation, and its notes on shapes that are constant here
        # folded constants would be transposed weights, stored a second time; tracing instead of dynamo needs no further
        # package, and every torch from 2.4 on has it
        torch.onnx.export(
            graph, inputs, str(path), input_names=list(graph.inputs), output_names=list(graph.outputs),
            dynamic_axes={name: {0: "batch"} for name in names}, opset_version=OPSET, do_constant_folding=False,
            dynamo=False,
        )  # fmt: skip


def _area_mean(size: int, out_size: int) -> Callable[[Tensor], Tensor]:
    """`F.adaptive_avg_pool2d` of square maps as two products, for ONNX has it only where sizes have a whole ratio."""
    matrix = F.adaptive_avg_pool1d(torch.eye(size)[None], out_size)[0].T.contiguous()  # (out_size, size)
    return lambda x: x if size == out_size else matrix @ x @ matrix.T


class Graph(nn.Module):
    """A function of networks with the shapes of its inputs, less the batch, and the names of its outputs."""

    def __init__(
        self,
        networks: Sequence[nn.Module],
        function: Callable[..., Any],
        inputs: Mapping[str, Sequence[int]],
        outputs: Sequence[str],
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.function, self.inputs, self.outputs = function, inputs, outputs

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(*tensors)


def _graphs(networks: Mapping[str, Any], sizes: NetworkConfig) -> dict[str, Graph]:
    """By letter; what they compute is AvModel's."""
    v, e, a_sync, g = (networks[letter].eval() for letter in ("V", "E", "A_sync", "G"))
    side, v_side, sides = sizes.crop_size, v.image_size or sizes.crop_size, g.noise_sizes
    resize_for_v, resize_for_e = _area_mean(side, v_side), _area_mean(side, e.image_size)
    with torch.no_grad():
        found = [x.shape[-1] for x in v.model.levels(torch.zeros(1, 3, v_side, v_side))]
    targets = [v.map_size * 2**level for level in range(len(found))]
    pools = {target: _area_mean(size, target) for size, target in zip(reversed(found), targets, strict=True)}

    def identity(images: Tensor) -> tuple[Tensor, Tensor]:
        levels = v.model.levels(resize_for_v(images))
        return levels[-1].mean(dim=(2, 3)), v.map_of(levels, lambda x, target: pools[target](x))

    def pose(frames: Tensor) -> Tensor:
        return e.headpose_embed(e.to_headpose(e.model(resize_for_e(frames))))

    def mouth(mel: Tensor) -> Tensor:
        return e.mouth_embed(SPEECH_GAIN * a_sync(mel))

    def image(vector: Tensor, identity_map: Tensor, mouth_code: Tensor, pose_code: Tensor, noise: Tensor) -> Tensor:
        parts = noise.split([side**2 for side in sides], dim=1)
        layers = [part.view(-1, 1, side, side) for part, side in zip(parts, sides, strict=True)]
        return g(identity_map, torch.cat([vector, mouth_code, pose_code], dim=1), layers)

    of_g = {
        "identity_vector": (sizes.identity_dim,),
        "identity_map": (sum(g.map_parts), sides[0], sides[0]),
        "mouth": (sizes.mouth_dim,),
        "pose": (sizes.pose_dim,),
        "noise": (sum(side**2 for side in sides),),
    }
    of_a_sync = {"mel": (1, AudioConfig.num_mel_bands, AudioConfig.bins_per_window)}
    return {
        "V": Graph([v], identity, {"images": (3, side, side)}, ["identity_vector", "identity_map"]),
        "E": Graph([e], pose, {"frames": (3, side, side)}, ["pose"]),
        "A_sync": Graph([a_sync, e], mouth, of_a_sync, ["mouth"]),
        "G": Graph([g], image, of_g, ["image"]),
    }
