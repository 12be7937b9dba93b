"""Packs a trained model for use: the four networks of inference in half precision, and their network.json.

    python scripts/export_model.py --source checkpoints/small --output checkpoints/synthetic

Weights on disk take half the space; they are computed with in single precision, as any others.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import INFERENCE_LETTERS, NETWORK_FILE, NetworkConfig
from util.cli import Command, add_size_flag
from util.errors import CheckpointError, OptionError
from util.files import claim_output, make_directory, write_json
from util.json_files import to_builtins


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="folder of the training")
    parser.add_argument("--which_epoch", default="latest", help="first part of the weights' file names")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model that is made")
    parser.add_argument("--overwrite", action="store_true", help="replace weights in it that this command has not made")
    add_size_flag(parser.add_argument)


def run(args: argparse.Namespace) -> None:
    """Writes the model, or nothing where weights are missing, damaged or too large for half precision."""
    import torch

    from models.registry import OPTIONAL_HEADS
    from util.checkpoint import network_path, read_state_dict, require_networks, save_state_dict

    if args.output.resolve() == args.source.resolve():
        raise OptionError(f"--output {args.output}: is the source, whose weights of full precision would be lost")
    for letter in INFERENCE_LETTERS:
        claim_output(network_path(args.output, "latest", letter), "--output:", overwrite=args.overwrite)
    require_networks(args.source, args.which_epoch, INFERENCE_LETTERS)
    sizes = NetworkConfig.from_file(args.source / NETWORK_FILE, args.any_size)
    states = {}
    for letter in INFERENCE_LETTERS:
        path = network_path(args.source, args.which_epoch, letter)
        heads = OPTIONAL_HEADS[letter]  # they know the people of the training, and nobody asks them any more
        states[letter] = {k: v for k, v in read_state_dict(path).items() if not k.startswith(heads)}
        for key, tensor in states[letter].items():
            if tensor.is_floating_point():
                if not float(tensor.abs().max()) <= torch.finfo(torch.float16).max:  # NaN is no better
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


main = Command(__doc__, add_flags, run)


if __name__ == "__main__":
    sys.exit(main())
