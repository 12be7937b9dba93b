"""Exports G and the encoders to ONNX, and checks every file in ONNX Runtime against torch.

    pip install onnx onnxruntime
    python scripts/export_onnx.py --name demo --output onnx

    file         inputs                                                            outputs
    V.onnx       images (batch, 3, 224, 224)                                       identity_vector, identity_map
    E.onnx       frames (batch, 3, 224, 224)                                       pose (batch, 12)
    A_sync.onnx  mel (batch, 1, 80, 20)                                            mouth (batch, 500)
    G.onnx       identity_vector, identity_map, mouth, pose, noise (batch, 133721) image (batch, 3, 224, 224)

Sizes are those of the published weights. Pictures are RGB in [-1, 1] (uint8 / 127.5 - 1), spectrograms as `data.audio`
makes them; the batch is free. V gives one row an image: average the rows of one person, then repeat them for a batch.
`noise` holds the noise images of all layers one after the other, standard normal numbers, or zeros for none. Every file
says all this in its metadata. Frames agree with those of test.py up to rounding.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import INFERENCE_LETTERS, AudioConfig, NetworkConfig, TestConfig, to_plain
from util.errors import CheckpointError, OptionError, PcavsError
from util.files import atomic_path, make_directory
from util.log import setup_logging

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

OPSET = 17
_CONVENTIONS = {
    "images": "(batch, 3, H, W) float32, RGB in [-1, 1]: uint8 / 127.5 - 1; cropped as data/frames.py does",
    "identity": "one row an image; average the rows of one person",
    "mel": "(batch, 1, mel bands, mel bins) float32 in [0, 1]; 100 bins a second, frame i starts at bin 4 (i - 2)",
    "noise": "standard normal images of all layers, flattened and joined; zeros for none",
    "image": "(batch, 3, S, S) float32, RGB in [-1, 1]; uint8 = clip((x + 1) / 2 * 255), truncated",
}


@dataclass(frozen=True)
class Result:
    """How far a file's output is from torch: absolute, and relative to the larger of 1 and its largest value."""

    file: str
    output: str
    difference: float
    relative: float


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--name", default=TestConfig.name, help="the model (default demo)")
    parser.add_argument("--checkpoints_dir", type=Path, default=TestConfig.checkpoints_dir, help="folder of all models")
    parser.add_argument("--which_epoch", default=TestConfig.which_epoch, help="first part of the weights' file names")
    parser.add_argument("--output", type=Path, required=True, help="folder of the ONNX files")
    parser.add_argument(
        "--tolerance", type=float, default=1e-3, help="largest relative difference from torch (default 1e-3)"
    )
    return parser.parse_args(argv)


def export(directory: Path, epoch: str, sizes: NetworkConfig, output: Path) -> dict[str, Path]:
    """Writes the ONNX files.

    Args:
        directory: holds `<epoch>_net_<letter>.pth`.

    Returns:
        the files by letter.

    Raises:
        CheckpointError: weights are missing, damaged, or do not match the sizes.
        OptionError: a package is missing.
    """
    _require_packages()
    import torch

    from util.checkpoint import require_networks

    require_networks(directory, epoch, INFERENCE_LETTERS)
    make_directory(output)
    written = {}
    for letter, graph in _graphs(directory, epoch, sizes).items():
        inputs = example_inputs(letter, sizes, batch=2)
        target = output / f"{letter}.onnx"
        with torch.no_grad(), atomic_path(target) as temporary:
            _trace(graph.eval(), inputs, graph.outputs, temporary)
            _annotate(temporary, letter, sizes)
        written[letter] = target
    return written


def check(files: Mapping[str, Path], directory: Path, epoch: str, sizes: NetworkConfig) -> list[Result]:
    """Runs the files in ONNX Runtime and AvModel in torch on the same input, at batch 1 and 3.

    Raises:
        CheckpointError: a file does not run.
    """
    _require_packages()
    import numpy as np
    import onnxruntime
    import torch

    from models.av_model import AvModel

    model = AvModel.from_checkpoints(directory, epoch, sizes, torch.device("cpu"))
    results = []
    for letter, path in files.items():
        try:
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common class of its own
            raise CheckpointError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        names = [output.name for output in session.get_outputs()]
        worst = dict.fromkeys(names, (0.0, 0.0))
        for batch in (1, 3):
            inputs = example_inputs(letter, sizes, batch)
            expected = _expected(model, letter, inputs, sizes)
            for name, value in zip(names, session.run(None, inputs), strict=True):
                difference = float(np.abs(value - expected[name]).max())
                relative = difference / max(1.0, float(np.abs(expected[name]).max()))
                worst[name] = max(worst[name], (difference, relative))
        results += [Result(path.name, name, *worst[name]) for name in names]
    return results


def example_inputs(letter: str, sizes: NetworkConfig, batch: int) -> dict[str, np.ndarray]:
    """Seeded inputs of a file by name; all rows of a batch show one person, as `AvModel.generate` wants it."""
    import numpy as np

    from models.networks.generator import resolutions

    rng = np.random.default_rng(batch)
    crop, audio, first = sizes.crop_size, AudioConfig(), resolutions(sizes.image_size)[0]
    if letter in ("V", "E"):
        name = "images" if letter == "V" else "frames"
        arrays = {name: rng.uniform(-1, 1, (batch, 3, crop, crop))}
    elif letter == "A_sync":
        arrays = {"mel": rng.uniform(0, 1, (batch, 1, audio.num_mel_bands, audio.bins_per_window))}
    else:
        person = {
            "identity_vector": np.abs(rng.standard_normal((1, sizes.identity_dim))),
            "identity_map": rng.standard_normal((1, sizes.generator_input_channels, first, first)),
        }
        arrays = {name: np.repeat(value, batch, axis=0) for name, value in person.items()}
        arrays["mouth"] = rng.standard_normal((batch, sizes.mouth_dim))
        arrays["pose"] = rng.standard_normal((batch, sizes.pose_dim))
        arrays["noise"] = rng.standard_normal((batch, sum(s * s for s in _noise_sizes(sizes))))
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def _noise_sizes(sizes: NetworkConfig) -> list[int]:
    """(H, W) of every layer's noise, as `Generator.noise_sizes`."""
    from models.networks.generator import resolutions

    first, *further = resolutions(sizes.image_size)
    return [first] + [size for size in further for _ in range(2)]


def _expected(model: Any, letter: str, inputs: Mapping[str, np.ndarray], sizes: NetworkConfig) -> dict[str, np.ndarray]:
    import torch

    from models.av_model import Identity

    given = {name: torch.from_numpy(value) for name, value in inputs.items()}
    if letter == "V":
        each = [model.encode_identity(image[None]) for image in given["images"]]
        maps = [person.map for person in each if person.map is not None]
        found = {"identity_vector": torch.cat([person.vector for person in each]), "identity_map": torch.cat(maps)}
    elif letter == "E":
        found = {"pose": model.encode_pose(given["frames"])}
    elif letter == "A_sync":
        found = {"mouth": model.encode_speech(given["mel"])}
    else:
        sides = _noise_sizes(sizes)
        parts = given["noise"].split([side * side for side in sides], dim=1)
        layers = [part.unflatten(1, (1, side, side)) for part, side in zip(parts, sides, strict=True)]
        person = Identity(given["identity_vector"][:1], given["identity_map"][:1])
        found = {"image": model.generate(person, given["mouth"], given["pose"], layers)}
    return {name: value.numpy() for name, value in found.items()}


def _graphs(directory: Path, epoch: str, sizes: NetworkConfig) -> dict[str, Any]:
    """What is traced, by letter."""
    from models.onnx_graphs import IdentityGraph, ImageGraph, PoseGraph, SpeechGraph
    from models.registry import OPTIONAL_HEADS, build_network
    from util.checkpoint import load_network, network_path

    networks: dict[str, Any] = {}
    for letter in INFERENCE_LETTERS:
        networks[letter] = build_network(letter, sizes)
        load_network(networks[letter], network_path(directory, epoch, letter), OPTIONAL_HEADS[letter])
    return {
        "V": IdentityGraph(networks["V"], sizes.crop_size),
        "E": PoseGraph(networks["E"], sizes.crop_size),
        "A_sync": SpeechGraph(networks["A_sync"], networks["E"]),
        "G": ImageGraph(networks["G"]),
    }


def _trace(graph: nn.Module, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its deprecation, and notes on shapes that are constant here
        torch.onnx.export(
            graph,
            tuple(torch.from_numpy(value) for value in inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
            opset_version=OPSET,
            dynamo=False,  # the exporter by tracing needs no further package, and every torch from 2.4 on has it
        )


def _annotate(path: Path, letter: str, sizes: NetworkConfig) -> None:
    """Writes sizes and conventions into the file's metadata."""
    import onnx

    model = onnx.load(str(path))
    notes = {
        "network": letter,
        "sizes": json.dumps(to_plain(sizes)),
        "noise_sizes": json.dumps(_noise_sizes(sizes)),
        **_CONVENTIONS,
    }
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise OptionError(f"the package {error.name} is missing: pip install onnx onnxruntime") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 1 also when a file differs from torch."""
    setup_logging()
    args = parse_args(argv)
    try:
        directory = args.checkpoints_dir / args.name
        described = directory / "network.json"
        sizes = NetworkConfig.from_file(described) if described.is_file() else NetworkConfig()
        files = export(directory, args.which_epoch, sizes, args.output)
        results = check(files, directory, args.which_epoch, sizes)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    misses = 0
    for result in results:
        passed = result.relative <= args.tolerance  # NaN is a miss
        misses += not passed
        print(
            f"{'ok  ' if passed else 'MISS'} {result.file:12} {result.output:16} largest difference "
            f"{result.difference:.2g}, relative {result.relative:.2g} (allowed {args.tolerance:g})"
        )
    megabytes = sum(path.stat().st_size for path in files.values()) / 1e6
    print(f"{len(files)} files, {megabytes:.1f} MB in {args.output}, opset {OPSET}")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
