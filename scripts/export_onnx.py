"""Exports G and the encoders to ONNX, and checks every file in ONNX Runtime against torch.

    pip install onnx onnxruntime
    python scripts/export_onnx.py --name demo --output onnx

    file         inputs                                                            outputs
    V.onnx       images (batch, 3, 224, 224)                                       identity_vector, identity_map
    E.onnx       frames (batch, 3, 224, 224)                                       pose (batch, 12)
    A_sync.onnx  mel (batch, 1, 80, 20)                                            mouth (batch, 500)
    G.onnx       identity_vector, identity_map, mouth, pose, noise (batch, 133721) image (batch, 3, 224, 224)

Sizes are those of the published weights; the batch is free. Every file says in its metadata what goes in and comes out.
Frames agree with those of test.py up to rounding.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import INFERENCE_LETTERS, NetworkConfig, TestConfig
from util.cli import DONE, FAILED, Command, add_overwrite_flag, add_size_flag
from util.errors import OptionError
from util.files import claim_output


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=TestConfig.name, help="the model")
    parser.add_argument("--checkpoints_dir", type=Path, default=TestConfig.checkpoints_dir, help="folder of all models")
    parser.add_argument("--which_epoch", default=TestConfig.which_epoch, help="first part of the weights' file names")
    parser.add_argument("--output", type=Path, required=True, help="folder of the ONNX files")
    add_overwrite_flag(parser.add_argument)
    add_size_flag(parser.add_argument)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="largest relative difference from torch")


def run(args: argparse.Namespace) -> int:
    """Writes the files and prints how far each is from torch; FAILED when one is beyond the tolerance."""
    try:
        from models.onnx_graphs import OPSET, compare, export
    except ImportError as error:
        raise OptionError(f"the package {error.name} is missing: pip install onnx onnxruntime") from error

    for letter in INFERENCE_LETTERS:
        claim_output(args.output / f"{letter}.onnx", "--output:", overwrite=args.overwrite)
    directory = args.checkpoints_dir / args.name
    sizes = NetworkConfig.of_checkpoint(directory, args.any_size)
    files = export(directory, args.which_epoch, sizes, args.output)
    misses = 0
    for file, output, difference, relative in compare(files, directory, args.which_epoch, sizes):
        passed = relative <= args.tolerance  # NaN is a miss
        misses += not passed
        print(
            f"{'ok  ' if passed else 'MISS'} {file:12} {output:16} largest difference "
            f"{difference:.2g}, relative {relative:.2g} (allowed {args.tolerance:g})"
        )
    megabytes = sum(path.stat().st_size for path in files.values()) / 1e6
    print(f"{len(files)} files, {megabytes:.1f} MB in {args.output}, opset {OPSET}")
    return FAILED if misses else DONE


main = Command(__doc__, add_flags, run, interrupted="files that are finished stay")


if __name__ == "__main__":
    sys.exit(main())
