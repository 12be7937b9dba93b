#!/usr/bin/env python3
"""Trains the probe that measures generated synthetic heads, and measures the probe on people it has never seen.

  python scripts/train_probe.py --output checkpoints/probe --threads 2

renders its pictures itself, trains for --minutes and writes probe.pth (fp16) and probe.json (accuracy) to --output.

  python scripts/train_probe.py --output checkpoints/teacher --clips lists/train.csv

takes half of them from synthetic clips, as a camera has filmed them: a teacher, for --attributes_path of train.py. What
measures must not have taught.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.cli import Command, add_overwrite_flag, natural_int, positive_float, positive_int
from util.errors import OptionError
from util.files import MARK, claim_output, make_directory, write_json

_WEIGHTS, _REPORT = "probe.pth", "probe.json"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output", type=Path, default=Path("checkpoints/probe"), help="folder of the two files")
    add("--clips", type=Path, help="list of synthetic clips: half of the pictures are their frames")
    add("--num_identities", type=positive_int, default=400, help="people to draw")
    add("--frames", type=positive_int, default=20000, help="pictures to train on")
    add("--minutes", type=positive_float, default=8.0, help="of training on a core of its own")
    add("--seed", type=natural_int, default=0, help="of states, weights and order")
    add("--threads", type=positive_int, default=1, help="rendering processes, then threads")
    add_overwrite_flag(add)


def run(args: argparse.Namespace) -> None:
    import torch

    from data.clip_list import read_list
    from data.synthetic.clips import FIRST_HELD_OUT
    from models.networks.probe import IMAGE_SIZE
    from scripts.synthetic import probe_training as training
    from scripts.synthetic.figures import load_probe
    from util.checkpoint import save_state_dict

    clips = read_list(args.clips) if args.clips else []
    if not 2 <= args.num_identities <= FIRST_HELD_OUT:
        raise OptionError(
            f"--num_identities must be 2 to {FIRST_HELD_OUT} (from there on people are held out), "
            f"got {args.num_identities}"
        )
    # one a person and scene, one a clip, one batch
    least = max(training.BATCH, max(args.num_identities * training.SCENES, len(clips)) * (2 if clips else 1))
    if args.frames < least:
        raise OptionError(f"--frames must be at least {least} (one a person, scene and clip), got {args.frames}")
    for name in (_WEIGHTS, _REPORT):
        claim_output(args.output / name, "--output:", overwrite=args.overwrite)
    make_directory(args.output)
    torch.set_num_threads(args.threads)
    held_out = training.render_all(training.held_out_shots(args.seed), args.threads)
    drawn = args.frames // 2 if clips else args.frames
    pictures = training.render_all(training.training_shots(args.num_identities, drawn, args.seed), args.threads)
    if clips:
        filmed = training.read_all(clips, args.frames - drawn, args.threads)
        pictures = training.together(pictures, filmed)
    probe, steps = training.train(pictures, args.minutes, args.seed)
    state = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in probe.state_dict().items()}
    save_state_dict(state, args.output / _WEIGHTS)
    probe = load_probe(args.output / _WEIGHTS)  # half precision is what everybody will use
    sharp = training.evaluate(probe, held_out)
    report = {
        "made_by": MARK,
        "parameters": sum(parameter.numel() for parameter in probe.parameters()),
        "training": {
            "people": len(pictures.people.unique()),
            "frames": len(pictures.frames),
            "minutes": args.minutes,
            "steps": steps,
            "batch": training.BATCH,
            "seed": args.seed,
            "threads": args.threads,
        },
        "held_out": {
            "people": training.HELD_OUT_PEOPLE, "first": FIRST_HELD_OUT, "frames": len(held_out.frames),
        },
        "sharp": sharp,
        f"blurred by {training.BLUR_SIGMA} px of {IMAGE_SIZE}": training.evaluate(probe, held_out, training.BLUR_SIGMA),
    }  # fmt: skip
    write_json(args.output / _REPORT, report)
    for name, value in sharp.items():
        print(f"{name:40} {value:.3f}")
    print(f"{args.output}: {_WEIGHTS} and {_REPORT} written")


main = Command(__doc__, add_flags, run, interrupted="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
