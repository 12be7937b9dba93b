"""Packs a trained model for use: the four networks of inference in half precision, and their network.json.

    python scripts/export_model.py --source checkpoints/small --output checkpoints/synthetic

Weights on disk take half the space; they are computed with in single precision, as any others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import INFERENCE_LETTERS, NetworkConfig, to_plain
from util.errors import CheckpointError, OptionError, PcavsError
from util.files import make_directory, write_json
from util.log import setup_logging

_LARGEST_HALF = 65504.0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of the training")
    parser.add_argument("--which_epoch", default="latest", help="first part of the weights' file names")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model that is made")
    return parser.parse_args(argv)


def export(source: Path, epoch: str, output: Path) -> dict[str, int]:
    """Writes the model.

    Returns:
        bytes of each file.

    Raises:
        CheckpointError: weights are missing, damaged, or too large for half precision; nothing is written.
        OptionError: the output is the source.
    """
    import torch

    from util.checkpoint import network_path, read_state_dict, require_networks, save_state_dict

    if output.resolve() == source.resolve():
        raise OptionError(f"--output {output}: is the source, whose weights of full precision would be lost")
    require_networks(source, epoch, INFERENCE_LETTERS)
    sizes = NetworkConfig.from_file(source / "network.json")
    states = {}
    for letter in INFERENCE_LETTERS:
        path = network_path(source, epoch, letter)
        state = read_state_dict(path)
        for key, tensor in state.items():
            if tensor.is_floating_point():
                if not float(tensor.abs().max()) <= _LARGEST_HALF:
                    raise CheckpointError(f"{path}: {key} holds values that half precision cannot")
                state[key] = tensor.to(torch.float16)
        states[letter] = state
    make_directory(output)
    written = {}
    for letter, state in states.items():
        target = network_path(output, "latest", letter)
        save_state_dict(state, target)
        written[target.name] = target.stat().st_size
    write_json(output / "network.json", to_plain(sizes))
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    setup_logging()
    args = parse_args(argv)
    try:
        written = export(args.source, args.which_epoch, args.output)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    print(json.dumps(written), f"{sum(written.values()) / 1e6:.1f} MB in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
