#!/usr/bin/env python3
"""Makes a talking head of one person: fits a model to a short clip or to photos, on the machine at hand.

  python scripts/personalize.py --video me.mp4 --name me                      # half a minute of film, half an hour
  python scripts/personalize.py --video me.mp4 --name me --audio speech.wav   # and the first video
  python scripts/personalize.py --photo me.jpg --name me                      # no film: less like, less free
  python scripts/personalize.py --name me --continue                          # after Ctrl-C, a kill or a power cut

Writes checkpoints/<name>: weights for `test.py --name <name>`, web/index.html to watch while it trains, report.html,
a model card, and a csv row to start from. Exit codes: 0 done, 1 failed, 2 wrong options, 130 stopped by Ctrl-C, with
the best weights so far in place.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.base_options import gpu_list
from options.config import NetworkConfig, TestConfig
from util.cli import DONE, INTERRUPTED, Command, natural_int, positive_float, positive_int
from util.errors import OptionError
from util.files import write_json
from util.json_files import read_json, to_builtins
from util.locks import folder_lock

if TYPE_CHECKING:
    from scripts.personal.plan import Plan

_DEFAULT_MINUTES = 30.0


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--name", required=True, help="of the model: a folder of --checkpoints_dir")
    add("--video", type=Path, nargs="+", default=[], help="films of the person speaking, or prepared _cropped folders")
    add("--photo", type=Path, nargs="+", default=[], help="pictures of the person")
    add("--base", help="model to fit: demo, synthetic, or another name; without it demo where its weights are there")
    add("--minutes", type=positive_float, default=_DEFAULT_MINUTES, help="to train")
    add("--steps", type=positive_int, help="to train so many steps, instead of --minutes: the same on every machine")
    add("--use_all", action="store_true", help="then train on the whole clip, for as many steps as were best")
    add("--audio", type=Path, help="what the person says in a first video, in results/<name>")
    add("--continue", dest="go_on", action="store_true", help="go on with the run of this name")
    add("--check", action="store_true", help="take the clips and photos in, say how good they are, and stop; the same "
        "command without it goes on from there")  # fmt: skip
    add("--dry_run", action="store_true", help="say what would be trained, and the memory it takes, and stop")
    add("--work", type=Path, help="folder of prepared pieces; without it <checkpoints_dir>/<name>/work")
    add("--others", type=positive_int, default=48, help="synthetic people that keep the model from forgetting")
    add("--checkpoints_dir", type=Path, default=Path("checkpoints"), help="folder of the models")
    add("--gpu_ids", type=gpu_list, default=(-1,), help="GPU, or -1 for the CPU")
    add("--seed", type=natural_int, default=0, help="of everything that is drawn")


def run(args: argparse.Namespace) -> int:
    """Takes in, trains, measures; returns the exit code."""
    from scripts.personal.plan import PLAN_FILE, Plan, find_base, require_free

    directory = args.checkpoints_dir / args.name
    if args.go_on:
        if not (directory / PLAN_FILE).is_file():
            raise OptionError(f"--continue: {directory} holds no run; leave the flag out to start one")
        plan = read_json(directory / PLAN_FILE, Plan)
    else:
        if not (args.video or args.photo):
            raise OptionError("give --video or --photo of the person")
        plan = Plan(
            name=args.name,
            checkpoints_dir=args.checkpoints_dir,
            base=find_base(args.base, args.checkpoints_dir),
            work=args.work or directory / "work",
            minutes=args.minutes,
            use_all=args.use_all,
            only_photos=not args.video,
            gpu_ids=args.gpu_ids,
            seed=args.seed,
            others=args.others,
        )
        require_free(plan)
    if args.dry_run:
        print(_described(plan))
        return DONE
    with folder_lock(directory, "--name:"):
        return _personalize(plan, args)


def _described(plan: Plan) -> str:
    from models.trainers.plan import describe_personal_plan
    from scripts.personal.plan import train_config

    config = train_config(plan, plan.directory, "fp32", use_noise=True)
    how = "the last blocks of G move"
    if plan.is_small:
        how = "V and G move" if plan.only_photos else "all networks move"
    return f"{plan.name} on {plan.base}: {how}\n{describe_personal_plan(config)}"


def _personalize(plan: Plan, args: argparse.Namespace) -> int:
    from data.audio import scan_audio
    from data.clip_list import read_list
    from options.config import DataConfig
    from scripts.personal.faces import FaceReader
    from scripts.personal.finish import finish
    from scripts.personal.intake import read_intake, take_in
    from scripts.personal.people import choose_reference, other_records, person_records
    from scripts.personal.plan import PLAN_FILE, WATCHED, train_config
    from scripts.personal.training import best_precision, knows_noise, measure_times, put_best_in_place, train
    from scripts.personal.watch import Watch
    from util.device import select_device
    from util.parallel import available_cores

    started = time.monotonic()
    pieces = plan.work / "intake"
    intake = read_intake(pieces) if args.go_on else take_in(args.video, args.photo, pieces)
    for check in intake.checks:
        print(f"{check.severity}: {check.words}", flush=True)
    if args.check:
        return DONE
    plan = dataclasses.replace(plan, only_photos=intake.train_list is None)
    person = person_records(intake, plan.work)
    others = other_records(plan.work / "others", plan.others, workers=available_cores())
    watched = read_list(intake.watch_list) if intake.watch_list else []
    data = DataConfig(crop_size=NetworkConfig.of_checkpoint(plan.base).crop_size)
    reader = FaceReader()
    reference = choose_reference(plan.reference, person, reader, data, chosen=args.go_on)
    watch = Watch(reader, reference, watched, data)
    precision, use_noise = best_precision(select_device(plan.gpu_ids)), knows_noise(plan.base)
    print(_described(plan), flush=True)

    if not (plan.directory / PLAN_FILE).is_file():
        config = train_config(plan, plan.directory, precision, use_noise)
        step_s, look_s = measure_times(config, person, others, reference, watch)
        plan = plan.with_steps(args.steps) if args.steps else plan.with_times(step_s, look_s)
        write_json(plan.directory / PLAN_FILE, to_builtins(plan))
        minutes = (plan.steps * step_s + plan.steps / plan.look_every * look_s) / 60
        print(f"{plan.steps} steps of {step_s:.2f} s, a look every {plan.look_every}: {minutes:.1f} minutes")
    print(f"watch it: {plan.directory / 'web' / 'index.html'}", flush=True)

    first = plan.directory / WATCHED if plan.use_all else plan.directory
    why, best = train(train_config(plan, first, precision, use_noise), person, others, reference, watch)
    put_best_in_place(first, best.step, plan.directory)
    if why == "stopped":
        print(f"stopped; the best weights so far, of step {best.step}, are in {plan.directory}; --continue goes on")
        return INTERRUPTED
    if plan.use_all and best.step > 0:
        config = train_config(plan, plan.directory, precision, use_noise, max_steps=best.step)
        ended, _ = train(config, person_records(intake, plan.work, with_all=True), others, reference, None)
        if ended == "stopped":
            put_best_in_place(first, best.step, plan.directory)
            print(f"stopped; the weights that never saw all of the clip are in {plan.directory}; --continue goes on")
            return INTERRUPTED
    if args.audio is not None:
        scan_audio(args.audio)  # says at once what is wrong with it
    minutes = (time.monotonic() - started) / 60
    row = finish(plan, intake, reader, (first, best, why), args.audio, minutes)
    return DONE if row is None else _first_video(plan, row) if args.audio else _say_next(plan, row)


def _say_next(plan: Plan, row: Path) -> int:
    flags = "--driving_pose --input_id_feature --gen_video"
    print(f"next: python test.py --name {plan.name} --meta_path_vox {row} {flags}")
    return DONE


def _first_video(plan: Plan, row: Path) -> int:
    """Makes the video of the row, in results/<name>; returns the exit code."""
    from scripts.inference.rows import run_rows

    config = TestConfig(
        name=plan.name,
        checkpoints_dir=plan.checkpoints_dir,
        meta_path_vox=row,
        results_dir=TestConfig.results_dir / plan.name,
        gpu_ids=plan.gpu_ids,
        driving_pose=True,
        input_id_feature=True,
        gen_video=True,
        network=NetworkConfig.of_checkpoint(plan.directory),
    )
    return run_rows(config)


main = Command(__doc__, add_flags, run, interrupted="the same command goes on; add --continue if training had begun")


if __name__ == "__main__":
    sys.exit(main())
