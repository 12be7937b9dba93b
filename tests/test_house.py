"""The rules of the house: who may import whom, and what an import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("options", "data", "models", "util", "scripts", "tests")
ENTRY_POINTS = [ROOT / "app.py", ROOT / "test.py", ROOT / "train.py"]
COMMANDS = sorted([*(ROOT / "scripts").glob("[!_]*.py"), *ENTRY_POINTS])
ENGINES = sorted(p.name for p in (ROOT / "scripts").iterdir() if (p / "__init__.py").is_file())
ALLOWED = {  # longest matching prefix of the module counts
    "options": ("options", "util"),
    "util": ("util", "options.config"),
    "models.networks": ("models.networks",),
    "models": ("models", "util", "options.config"),
    "data": ("data", "util", "options.config"),
    **{f"scripts.{name}": (f"scripts.{name}", "data", "models", "util", "options") for name in ENGINES},
}
# who owns what many need: each of these names is bound at the top of one module only
OWNERS = {
    "FPS": "options/config.py",
    "SAMPLE_RATE_HZ": "options/config.py",
    "NETWORK_LETTERS": "options/config.py",
    "INFERENCE_LETTERS": "options/config.py",
    "GENERATED": "options/config.py",
    "MARK": "util/files.py",
    "FIRST_HELD_OUT": "data/synthetic/voice.py",
}


def _product() -> list[Path]:
    rooms = [p for room in ROOMS if room != "tests" for p in (ROOT / room).rglob("*.py")]
    return sorted([*rooms, *ENTRY_POINTS])


def _modules() -> list[Path]:
    return [p for p in _product() if p not in COMMANDS and p != ROOT / "scripts" / "__init__.py"]


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in (*ROOMS, "app", "train", "test")}


def _allowed_for(module: str) -> tuple[str, ...]:
    return next(ALLOWED[room] for room in sorted(ALLOWED, key=len, reverse=True) if f"{module}.".startswith(f"{room}."))


def _are_below(names: set[str], rooms: Iterable[str]) -> set[str]:
    return {name for name in names if any(f"{name}.".startswith(f"{room}.") for room in rooms)}


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_module_imports_only_what_its_room_may(path: Path) -> None:
    allowed = _allowed_for(_name(path))
    assert _imports(path) - _are_below(_imports(path), allowed) == set(), f"{_name(path)} may import {allowed}"


def test_import_rule_notices_a_forbidden_import(tmp_path: Path) -> None:
    offender = tmp_path / "offender.py"
    offender.write_text("def f():\n    from data.audio import log_mel\n    import models.registry\n    import numpy\n")
    assert _imports(offender) == {"data.audio.log_mel", "models.registry"}
    assert _allowed_for("models.networks.layers") == ("models.networks",)
    assert _allowed_for("models.losses") == ("models", "util", "options.config")
    assert _are_below({"data.audio.log_mel", "database.x"}, ("data",)) == {"data.audio.log_mel"}


def test_command_is_imported_by_nobody() -> None:
    commands = {_name(path) for path in COMMANDS}
    wrong = {_name(path): found for path in _product() if (found := _are_below(_imports(path), commands))}
    assert wrong == {}


def test_product_does_not_import_tests() -> None:
    assert {_name(path): found for path in _product() if (found := _are_below(_imports(path), ("tests",)))} == {}


def test_private_names_stay_in_their_module() -> None:
    wrong = {_name(p): found for p in _product() if (found := {n for n in _imports(p) if n.split(".")[-1][:1] == "_"})}
    assert wrong == {}


def test_what_many_need_has_one_owner() -> None:
    bound: dict[str, set[str]] = {name: set() for name in OWNERS}
    for path in _product():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
            for name in names & set(OWNERS):
                bound[name].add(str(path.relative_to(ROOT)))
    assert bound == {name: {owner} for name, owner in OWNERS.items()}


def test_what_the_system_computes_is_cited_from_the_repository() -> None:
    texts = [*_product(), *(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "tests").glob("*.py")]
    word = "SP" + "EC"
    assert [path.name for path in texts if word in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("path", COMMANDS, ids=_name)
def test_help_answers_without_heavy_imports(path: Path) -> None:
    code = (
        f"import sys, runpy; sys.argv = [{str(path)!r}, '--help']\n"
        f"try: runpy.run_path({str(path)!r}, run_name='__main__')\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        "heavy = {'torch', 'cv2', 'numpy', 'av', 'scipy', 'torchvision', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout


def test_main_modules_start_no_child_process_but_through_two_modules() -> None:
    callers = [p for p in _product() if "subprocess" in p.read_text(encoding="utf-8") and "benchmark" not in str(p)]
    assert callers == [ROOT / "util" / "ffmpeg.py", ROOT / "util" / "programs.py"]
