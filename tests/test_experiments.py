"""The recipes as shell scripts: the smoke run trains all stages, and every recipe's flags are understood."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from options import base_options, test_options, train_options
from options.config import TestConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "app": [],
    "demo_vox": ["test"],
    "finetune_lrw": ["joint"],
    "talk": ["test"],
    "train_generator": ["joint"],
    "train_recognition": ["recognition"],
    "train_smoke": ["recognition", "sync", "joint"],
    "train_sync": ["sync"],
    "train_synthetic": ["recognition", "sync", "joint", "joint", "joint"],
}
ARGUMENTS = {"talk": ["me.jpg", "voice.wav", "nod", "--seed", "3"]}
# takes the place of Python: writes down its arguments, and leaves the files that a recipe looks for
NOTE = """#!{python}
import json, pathlib, sys
with open("calls", "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
given = dict(zip(sys.argv, sys.argv[1:]))
for folder in (given.get("--output", "out"), given.get("--checkpoints_dir", "") + "/" + given.get("--name", "")):
    path = pathlib.Path(folder.lstrip("/"))
    path.mkdir(parents=True, exist_ok=True)
    (path / "train.csv").touch()
"""


def commands_of(recipe: Path, folder: Path) -> list[TrainConfig | TestConfig]:
    """Runs a recipe in a folder of its own, and reads the flags that it gives to train.py and test.py."""
    for name in ("experiments", "scripts"):
        (folder / name).mkdir()
    (folder / "python").write_text(NOTE.format(python=sys.executable))
    (folder / "python").chmod(0o755)
    (folder / "scripts" / "setup_env.sh").write_text(f"PYTHON={folder}/python\n")
    script = folder / "experiments" / recipe.name
    script.write_bytes(recipe.read_bytes())
    command = ["bash", str(script), *ARGUMENTS.get(recipe.stem, [])]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[TrainConfig | TestConfig] = []
    for line in (folder / "calls").read_text().splitlines():
        call = json.loads(line)
        for command, options in (("train.py", train_options), ("test.py", test_options)):
            if command in call:
                flags = call[call.index(command) + 1 :]
                found.append(options.to_config(base_options.parse(options.build_parser(), flags)))
    return found


@pytest.mark.parametrize("recipe", sorted((ROOT / "experiments").glob("*.sh")), ids=lambda path: path.stem)
def test_recipe_flags_are_understood(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)  # for experiments/networks
    configs = commands_of(recipe, tmp_path)
    assert [getattr(config, "stage", "test") for config in configs] == STAGES[recipe.stem]
    if recipe.stem == "finetune_lrw":
        (config,) = configs
        assert isinstance(config, TrainConfig)
        assert (config.dataset_mode, config.dataroot) == ("lrw", Path("lipread_mp4"))
        assert config.loss.lambda_identity == 0  # LRW has words for labels, no speakers


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
