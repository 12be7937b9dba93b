"""torchvision can be imported, whichever build is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_ensure_torchvision_gives_a_working_vgg19() -> None:
    code = (
        "from util.torchvision_compat import ensure_torchvision\n"
        "vision = ensure_torchvision(); assert ensure_torchvision() is vision\n"
        "print(sum(p.numel() for p in vision.models.vgg19(weights=None).features.parameters()))\n"
    )
    assert _run(code) == "20024384"


def test_ensure_torchvision_defines_nothing_where_torchvision_is_healthy() -> None:
    code = (
        "import sys, types\n"
        "sys.modules['torchvision'] = healthy = types.ModuleType('torchvision')\n"
        "from util import torchvision_compat as compat\n"
        "print(compat.ensure_torchvision() is healthy, compat._kept)\n"
    )
    assert _run(code) == "True []"
