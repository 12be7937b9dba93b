"""The rules of the house: who may import whom, and what an import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("options", "data", "models", "util", "scripts", "tests")
ALLOWED = {  # longest matching prefix of the module counts
    "options": ("options", "util"),
    "util": ("util", "options.config"),
    "models.networks": ("models.networks",),
    "models": ("models", "util", "options.config"),
    "data": ("data", "util", "options.config"),
}


def _modules() -> list[Path]:
    return sorted(p for room in ALLOWED if "." not in room for p in (ROOT / room).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in ROOMS}


def _allowed_for(module: str) -> tuple[str, ...]:
    return next(ALLOWED[room] for room in sorted(ALLOWED, key=len, reverse=True) if f"{module}.".startswith(f"{room}."))


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_imports_only_what_its_room_may(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    allowed = _allowed_for(module)
    wrong = {name for name in _imports(path) if not any(f"{name}.".startswith(f"{room}.") for room in allowed)}
    assert wrong == set(), f"{module} may import {allowed}"


def test_import_rule_notices_a_forbidden_import(tmp_path: Path) -> None:
    offender = tmp_path / "offender.py"
    offender.write_text("def f():\n    from data.audio import log_mel\n    import models.registry\n    import numpy\n")
    assert _imports(offender) == {"data.audio.log_mel", "models.registry"}
    assert _allowed_for("models.networks.layers") == ("models.networks",)
    assert _allowed_for("models.losses") == ("models", "util", "options.config")


def test_help_answers_without_importing_torch() -> None:
    code = (
        "import sys, runpy; sys.argv = ['test.py', '--help']\n"
        "try: runpy.run_path('test.py', run_name='__main__')\n"
        "except SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'cv2', 'numpy', 'librosa', 'torchvision'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--driving_pose" in done.stdout


def test_main_modules_start_no_child_process_but_through_ffmpeg_module() -> None:
    callers = [p for p in _modules() if "subprocess" in p.read_text(encoding="utf-8")]
    assert callers == [ROOT / "util" / "ffmpeg.py"]
