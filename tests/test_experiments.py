"""The recipes as shell scripts: the smoke run trains all stages, and each recipe's flags are understood."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from options.train_options import build_parser, to_config

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("train_recognition", "train_sync", "train_generator", "finetune_lrw")
STAGES = {"train_recognition": "recognition", "train_sync": "sync"}


def test_smoke_recipe_trains_all_stages(tmp_path: Path):
    environment = {**os.environ, "PYTHON": sys.executable, "STEPS": "2", "WORK": str(tmp_path / "smoke run")}
    done = subprocess.run(
        ["bash", "experiments/train_smoke.sh"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for stage, letters in (("recognition", "V"), ("sync", "E"), ("joint", "G")):
        assert (tmp_path / "smoke run" / stage / f"latest_net_{letters}.pth").is_file()
    table = [line.split() for line in done.stdout.splitlines() if line.startswith(("recognition", "sync", "joint "))]
    assert {(row[0], row[1]) for row in table} >= {
        ("recognition", "V/identity"),
        ("sync", "sync/contrastive"),
        ("joint", "G/feature_matching"),
        ("joint", "D/real"),
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_flags_are_understood(recipe: str):
    text = (ROOT / "experiments" / f"{recipe}.sh").read_text().replace("\\\n", " ")
    command = next(line for line in text.splitlines() if line.startswith("exec"))
    command = re.sub(r"\$\{VAL:\+[^}]*\}", "", command.split("train.py", 1)[1])
    flags = [word for word in shlex.split(command) if not word.startswith("$@")]
    config = to_config(build_parser().parse_args(flags))
    assert config.stage == STAGES.get(recipe, "joint")
    assert config.name.startswith("vox")


def test_lrw_recipe_has_no_identity_loss():
    arguments = build_parser().parse_args(["--dataset_mode", "lrw", "--dataroot", "lrw"])
    assert to_config(arguments).loss.lambda_identity == 0
