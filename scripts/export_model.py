"""Packs a trained model for use: the four networks of inference in half precision, and their network.json.

    python scripts/export_model.py --source checkpoints/small --output checkpoints/synthetic

Weights on disk take half the space; they are computed with in single precision, as any others.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import INFERENCE_LETTERS, NETWORK_FILE, NetworkConfig
from util.cli import run_command
from util.errors import CheckpointError, OptionError
from util.files import claim_output, make_directory, write_json
from util.json_files import to_builtins

_LARGEST_HALF = 65504.0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of the training")
    parser.add_argument("--which_epoch", default="latest", help="first part of the weights' file names")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model that is made")
    parser.add_argument("--overwrite", action="store_true", help="replace weights in it that this command has not made")
    return parser


def run(args: argparse.Namespace) -> None:
    """Writes the model.

    Raises:
        CheckpointError: weights are missing, damaged, or too large for half precision; nothing is written.
        OptionError: the output is the source.
    """
    import torch

    from models.registry import OPTIONAL_HEADS
    from util.checkpoint import network_path, read_state_dict, require_networks, save_state_dict

    if args.output.resolve() == args.source.resolve():
        raise OptionError(f"--output {args.output}: is the source, whose weights of full precision would be lost")
    for letter in INFERENCE_LETTERS:
        claim_output(network_path(args.output, "latest", letter), "--output:", overwrite=args.overwrite)
    require_networks(args.source, args.which_epoch, INFERENCE_LETTERS)
    sizes = NetworkConfig.from_file(args.source / NETWORK_FILE)
    states = {}
    for letter in INFERENCE_LETTERS:
        path = network_path(args.source, args.which_epoch, letter)
        heads = OPTIONAL_HEADS[letter]  # they know the people of the training, and nobody asks them any more
        states[letter] = {k: v for k, v in read_state_dict(path).items() if not k.startswith(heads)}
        for key, tensor in states[letter].items():
            if tensor.is_floating_point():
                if not float(tensor.abs().max()) <= _LARGEST_HALF:
                    raise CheckpointError(f"{path}: {key} holds values that half precision cannot")
                states[letter][key] = tensor.to(torch.float16)
    make_directory(args.output)
    written = {}
    for letter, state in states.items():
        target = network_path(args.output, "latest", letter)
        save_state_dict(state, target)
        written[target.name] = target.stat().st_size
    write_json(args.output / NETWORK_FILE, to_builtins(dataclasses.replace(sizes, num_classes=1)))
    print(json.dumps(written), f"{sum(written.values()) / 1e6:.1f} MB in {args.output}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return run_command(build_parser().parse_args, run, argv)


if __name__ == "__main__":
    sys.exit(main())
