#!/usr/bin/env python3
"""Measures how fast everything is beside the textbook form of the same networks.

  python scripts/benchmark.py                               # seeded weights of the published size, on the CPU
  python scripts/benchmark.py --name demo --json bench.json # other weights; writes every round's figures
  python scripts/benchmark.py --network_file experiments/networks/small.json
  python scripts/benchmark.py --stages G test --repeats 3   # only some
  python scripts/benchmark.py --stages train                # training steps
  python scripts/benchmark.py --device cuda                 # batch 1, 8, 32 in fp32, tf32, fp16, bf16

Contestants of a stage take turns. The textbook form is the published way: per-sample weights in grouped convolutions,
the blur apart, identity and both poses encoded and two frames generated for every frame. It gets the same weights, and
the exit code is 1 when its frame differs by more than 1 of 255 in single precision. docs/performance.md says what the
rows mean.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import NetworkConfig, TestConfig
from util.cli import DONE, FAILED, Command, add_overwrite_flag, add_size_flag, positive_int, print_error
from util.errors import OptionError
from util.files import MARK, claim_output, write_json

# name -> what it measures
STAGES = {
    "V": "identity encoder",
    "E": "pose encoder",
    "A_sync": "speech encoder",
    "G": "generator, and whether its frame equals the textbook's",
    "test": "test.py as a whole, in frames a second; memory; first frame",
    "long": "memory of ten seconds, ten minutes and an hour of sound, with a tiny model",
    "train": "training steps of the joint stage",
    "gpu": "G and the chain by batch and precision on a GPU",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    weights = parser.add_argument_group("weights")
    weights.add_argument("--name", help="the model; without it seeded random weights are made")
    weights.add_argument(
        "--checkpoints_dir", type=Path, default=TestConfig.checkpoints_dir, help="folder of all models"
    )
    weights.add_argument("--which_epoch", default=TestConfig.which_epoch, help="first part of the weights' file names")
    weights.add_argument("--network_file", type=Path, help="sizes of the seeded networks, as JSON")
    add_size_flag(weights.add_argument)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--stages", nargs="+", choices=STAGES, help="only these")
    what.add_argument("--train", action="store_true", help="also training steps")
    what.add_argument("--long", action="store_true", help="also up to an hour of sound, with a tiny model")
    what.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where")
    what.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16"), help="of ours")
    what.add_argument("--repeats", type=positive_int, default=5, help="rounds")
    what.add_argument("--frames", type=positive_int, default=50, help="frames test.py makes")
    what.add_argument("--batch", type=positive_int, default=4, help="frames a call gets on the CPU")
    what.add_argument("--train_batch", type=positive_int, default=2, help="clips of a training step")
    what.add_argument("--threads", type=positive_int, help="of torch; without it what torch takes")
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="write all figures, every round's")
    add_overwrite_flag(output.add_argument, "the place of --json")


def chosen_stages(args: argparse.Namespace) -> list[str]:
    """Names of the stages in their order."""
    by_default = {"gpu", "test"} if args.device == "cuda" else set(STAGES) - {"long", "train", "gpu"}
    wanted = set(args.stages or by_default) | {name for name in ("train", "long") if getattr(args, name)}
    return [name for name in STAGES if name in wanted]


def check_options(args: argparse.Namespace, stages: Sequence[str]) -> None:
    """Raises OptionError for flags that contradict each other or the machine."""
    import torch

    if args.name and args.network_file:
        raise OptionError("--network_file is for seeded weights; the sizes of --name come from its network.json")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device cuda: no CUDA device here; leave the flag out to measure the CPU")
    if args.frames < 5:
        raise OptionError(f"--frames must be at least 5 (0.2 s of sound), got {args.frames}")
    if "gpu" in stages and args.device != "cuda":
        raise OptionError("--stages gpu needs --device cuda")


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes; FAILED when a frame in single precision is not the textbook's."""
    import torch

    from scripts.benchmarks.measure import HEADER, Bench, describe_machine, seeded_weights, table_lines
    from scripts.benchmarks.stages import STAGES as FUNCTIONS
    from util.json_files import to_builtins

    stages = chosen_stages(args)
    check_options(args, stages)
    if args.json:
        inputs = [args.network_file] if args.network_file else []
        claim_output(args.json, "--json", inputs=inputs, overwrite=args.overwrite)
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="benchmark_") as scratch:
        folder = Path(scratch)
        if args.name:
            directory, epoch, weights = args.checkpoints_dir / args.name, args.which_epoch, args.name
            sizes = NetworkConfig.of_checkpoint(directory, args.any_size)
        else:
            sizes = NetworkConfig()
            if args.network_file:
                sizes = NetworkConfig.from_file(args.network_file, args.any_size)
            directory, epoch = seeded_weights(folder / "weights" / "seeded", sizes), "latest"
            weights = f"seeded, sizes of {args.network_file.name if args.network_file else 'the published ones'}"
        device = torch.device(args.device)
        about, words = f"{describe_machine(device)}; weights: {weights}", shlex.join(["python", *sys.argv])
        print(f"### {datetime.date.today()}: `{words}`\n\n{about}.\n\n{HEADER}", flush=True)
        bench = Bench(
            directory, epoch, sizes, device, folder, args.repeats, args.frames, args.batch,
            args.precision, args.train_batch,
        )  # fmt: skip
        for name in stages:
            done = len(bench.rows)
            FUNCTIONS[name](bench)
            print("\n".join(table_lines(bench.rows[done:])), flush=True)
    print("", *(f"- {name}: {value:.3g}" for name, value in bench.figures.items()), sep="\n")
    if args.json:
        rows = [{**to_builtins(row), "median_s": row.median} for row in bench.rows]
        facts = {"made_by": MARK, "command": words, "about": about}
        write_json(args.json, {**facts, "rows": rows, "figures": bench.figures})
    for difference in bench.differing:
        print_error(difference)
    return FAILED if bench.differing else DONE


_STAGES_HELP = "\nstages:\n" + "\n".join(f"  {name:9} {text}" for name, text in STAGES.items())
main = Command(f"{__doc__}{_STAGES_HELP}", add_flags, run, interrupted="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
