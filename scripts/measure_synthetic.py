#!/usr/bin/env python3
"""Measures a model on synthetic speakers it has never seen, against the truth they were rendered from.

  python scripts/measure_synthetic.py --name synthetic --output results/synthetic_measured

Held-out people are rendered, the model makes them speak with their own and with each other's sound and head motion,
and a probe (scripts/train_probe.py) reads mouth, pose and identity off the generated frames. Some of them follow a
drawn head through a programme. Writes figures.json, figures.md, sheet.png (with others' motion and sound) and
moments.png (with their own); 25 frames a second, angles in degrees, mouth opening 0..1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.base_options import gpu_list
from options.config import NetworkConfig
from util.cli import FAILED, Command, add_overwrite_flag, add_size_flag, natural_int
from util.errors import OptionError
from util.files import MARK, carries_mark, claim_output, make_directory, write_json, write_text

_FIGURES, _TABLE, _SHEET, _MOMENTS = "figures.json", "figures.md", "sheet.png", "moments.png"
_DIRECTED = 8  # people who follow a drawn head


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoints_dir", type=Path, default=Path("checkpoints"), help="folder of the models")
    add("--name", default="synthetic", help="the model, a folder of --checkpoints_dir")
    add("--which_epoch", default="latest", help="which of its weights")
    add("--probe", type=Path, help="weights of the probe; without it <checkpoints_dir>/probe/probe.pth")
    add("--num_speakers", type=int, default=16, help="people to measure on")
    add("--start_speaker", type=int, default=50000, help="the first one's seed; people below 50000 are for training")
    add("--frames", type=int, default=75, help="of each clip")
    add("--seed", type=natural_int, default=0, help="of the clips and the sync distractors")
    add("--output", type=Path, help="folder of the figures; without it results/<name>_measured")
    add("--cache", type=Path, help="folder that keeps rendered speakers for the next time")
    add("--real_clips", type=Path, help="folder of videos of real people: do generated mouths follow their speech?")
    add("--gpu_ids", type=gpu_list, default=(-1,), help="GPU, or -1 for the CPU")
    add_size_flag(add)
    add_overwrite_flag(add)
    add("--strict", action="store_true", help="exit 1 when a threshold is missed")


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from data.faces.landmarks import DlibDetector
    from data.frames import write_image
    from data.synthetic.clips import FIRST_HELD_OUT
    from models.av_model import AvModel
    from scripts.synthetic.acceptance import judge, table
    from scripts.synthetic.directed import drawn_head, measure_directed
    from scripts.synthetic.figures import LEAST_FRAMES, LEAST_SPEAKERS, encode, load_probe, measure
    from scripts.synthetic.real_clips import measure_real_clips, real_clips
    from scripts.synthetic.sheet import contact_sheet, moments_sheet
    from scripts.synthetic.speakers import load_speakers
    from util.device import select_device

    least = {"num_speakers": LEAST_SPEAKERS, "frames": LEAST_FRAMES, "start_speaker": FIRST_HELD_OUT}
    for flag, value in least.items():
        if getattr(args, flag) < value:
            raise OptionError(f"--{flag} must be at least {value}, got {getattr(args, flag)}")
    output = args.output or Path("results") / f"{args.name}_measured"
    are_ours = carries_mark(output / _FIGURES)  # the picture cannot carry it
    for name in (_FIGURES, _TABLE, _SHEET, _MOMENTS):
        claim_output(output / name, "--output:", overwrite=args.overwrite, is_ours=lambda _: are_ours)
    clips = real_clips(args.real_clips) if args.real_clips else []
    folder = args.checkpoints_dir / args.name
    network = NetworkConfig.of_checkpoint(folder, args.any_size)
    probe = load_probe(args.probe or args.checkpoints_dir / "probe" / "probe.pth")
    model = AvModel.from_checkpoints(folder, args.which_epoch, network, select_device(args.gpu_ids))
    speakers = load_speakers(
        args.start_speaker, args.num_speakers, args.frames, args.seed, network.crop_size, args.cache
    )
    detector = DlibDetector()
    figures = measure(model, probe, speakers, args.frames, args.seed, detector)
    codes = [encode(model, speaker) for speaker in speakers[:_DIRECTED]]
    figures |= measure_directed(model, probe, detector, codes, *drawn_head(network.crop_size))
    if clips:
        figures |= measure_real_clips(model, probe, detector, speakers, clips)
    acceptance = judge(figures)
    make_directory(output)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    write_json(output / _FIGURES, {"made_by": MARK, "settings": settings, "acceptance": acceptance, "figures": figures})
    text = table(figures, acceptance)
    write_text(output / _TABLE, f"# {args.name}, epoch {args.which_epoch}, on held-out people\n\n{text}")
    for name, draw in ((_SHEET, contact_sheet), (_MOMENTS, moments_sheet)):
        write_image(output / name, np.ascontiguousarray(draw(model, speakers)[..., ::-1]))
    print(text)
    num_reached = sum(line["reached"] for line in acceptance)
    print(f"{num_reached} of {len(acceptance)} reached; written to {output}")
    return FAILED if args.strict and num_reached < len(acceptance) else 0


main = Command(__doc__, add_flags, run, interrupted="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
