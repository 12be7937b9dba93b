"""scripts/setup_env.sh: which Python it takes, which versions it installs, and whose torch it leaves alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
NOT_PASSED_ON = {"PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "PCAVS_LATEST"}
WITHOUT_CONSTRAINT = {"torch", "torchvision", "ruff", "mypy"}  # the machine's own, and pinned in requirements-dev.txt
PACKAGES = [
    ("torch", "2.4.0", ""),
    ("torch", "2.7.1+cu126", ""),
    ("torch", "2.14.1", ""),
    ("torchvision", "0.19.0", "torch (==2.4.0)"),
    ("torchvision", "0.22.1", "torch (==2.7.1)"),
    ("torchvision", "0.29.1", "torch (==2.14.1)"),
    ("tool", "1.0", ""),
    ("tool", "2.0", ""),
    ("tool", "3.0", ""),
    ("opencv_python", "5.0", ""),
    ("opencv_python_headless", "5.0", ""),
]


def write_wheel(folder: Path, name: str, version: str, needs: str) -> None:
    """A package of one module; opencv-python's cannot be imported, as on a machine without libGL."""
    info = f"{name}-{version}.dist-info"
    module = "cv2" if name.startswith("opencv") else name
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if needs:
        metadata += f"Requires-Dist: {needs}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", "raise ImportError('libGL.so.1')\n" if name == "opencv_python" else "")
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the real setup_env.sh, small lists, and an empty environment that installs only from a folder."""
    root = tmp_path / "a project"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup_env.sh", root / "scripts")
    (root / "requirements.txt").write_text("# a list\ntorch>=2.4\ntorchvision>=0.19\nopencv-python>=4.8\ntool>=1\n")
    (root / "requirements-dev.txt").write_text("tool>=1\n")
    (root / "constraints.txt").write_text("tool==2.0\n")
    (root / "wheels").mkdir()
    for package in PACKAGES:
        write_wheel(root / "wheels", *package)
    return root


Setup = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def setup(project: Path) -> Setup:
    """Sources the script and prints what PYTHON became."""

    def run(**environment: str) -> subprocess.CompletedProcess:
        kept = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "wheels"}
        return subprocess.run(
            ["bash", "-c", '. scripts/setup_env.sh && echo "PYTHON is $PYTHON"'],
            cwd=project,
            env={**kept, **pip, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def environment(project: Path, empty_environment: Path) -> Path:
    """The project's `.venv`, ready made."""
    return shutil.copytree(empty_environment, project / ".venv", symlinks=True)


def installed(environment: Path) -> dict[str, str]:
    found = (folder.name.removesuffix(".dist-info").split("-") for folder in environment.glob("lib/*/*/*.dist-info"))
    return {name: version for name, version in found if name not in {"pip", "setuptools"}}


def fake_python(folder: Path, version: str) -> None:
    """An interpreter of which only the version is there."""
    folder.mkdir(exist_ok=True)
    for name in ("python3", "python", *(f"python3.{minor}" for minor in range(10, 15))):
        (folder / name).write_text(f"#!/bin/sh\n[ {name} = python3 ] && echo {version}\n")
        (folder / name).chmod(0o755)


@pytest.mark.parametrize("version", ["3.9.18", "3.15.0"])
def test_no_python_that_fits_names_the_one_found_and_what_to_do(project: Path, setup: Setup, version: str) -> None:
    fake_python(project / "bin", version)
    done = setup(PATH=f"{project / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"setup: needs Python 3.10 to 3.14 and found {version}; install one")
    assert "PYTHON=/path/to/python" in done.stderr


def test_given_python_that_does_not_fit_is_an_error_that_names_it(project: Path, setup: Setup) -> None:
    fake_python(project / "bin", "3.9.18")
    done = setup(PYTHON="bin/python3")
    assert done.returncode == 1
    assert done.stderr.startswith(f"setup: {project}/bin/python3 is Python 3.9.18, needed is 3.10 to 3.14")


def test_constrained_versions_are_installed_and_a_second_call_installs_nothing(
    project: Path, setup: Setup, environment: Path
) -> None:
    done = setup()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"PYTHON is {environment}/bin/python"
    expected = {"torch": "2.14.1", "torchvision": "0.29.1", "tool": "2.0", "opencv_python_headless": "5.0"}
    assert installed(environment) == expected
    assert "installing" not in setup().stdout

    (project / "constraints.txt").write_text("tool==1.0\n")
    assert setup().returncode == 0
    assert installed(environment)["tool"] == "1.0"


def test_latest_goes_without_constraints_and_back(setup: Setup, environment: Path) -> None:
    for latest, version in (("0", "2.0"), ("1", "3.0"), ("0", "2.0")):
        assert setup(PCAVS_LATEST=latest).returncode == 0
        assert installed(environment)["tool"] == version


@pytest.mark.parametrize("latest", ["0", "1"])
def test_torch_that_is_there_stays(project: Path, setup: Setup, environment: Path, latest: str) -> None:
    pip = [environment / "bin" / "python", "-m", "pip", "install", "-q", "--no-index"]
    subprocess.run([*pip, "--find-links", project / "wheels", "torch==2.7.1+cu126"], check=True)
    done = setup(PCAVS_LATEST=latest)
    assert done.returncode == 0, done.stderr
    assert (installed(environment)["torch"], installed(environment)["torchvision"]) == ("2.7.1+cu126", "0.22.1")


def test_torch_that_is_too_old_is_replaced(project: Path, setup: Setup, environment: Path) -> None:
    pip = [environment / "bin" / "python", "-m", "pip", "install", "-q", "--no-index"]
    subprocess.run([*pip, "--find-links", project / "wheels", "torch==2.4.0"], check=True)
    requirements = project / "requirements.txt"
    requirements.write_text(requirements.read_text().replace("torch>=2.4", "torch>=2.5"))
    assert setup().returncode == 0
    assert installed(environment)["torch"] == "2.14.1"


def entries(*lists: str) -> list[tuple[str, Requirement]]:
    lines = [line.partition("#")[0].strip() for one in lists for line in (ROOT / one).read_text().splitlines()]
    return [(canonicalize_name(one.name), one) for one in map(Requirement, filter(None, lines))]


@pytest.mark.parametrize("minor", range(10, 15))
def test_every_requirement_has_one_constraint_that_it_allows(minor: int) -> None:
    python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.9"}
    pins = [(name, pin) for name, pin in entries("constraints.txt") if not pin.marker or pin.marker.evaluate(python)]
    versions = {name: str(pin.specifier).removeprefix("==") for name, pin in pins}
    assert len(versions) == len(pins)
    for name, wanted in entries("requirements.txt", "requirements-app.txt", "requirements-dev.txt"):
        if name in WITHOUT_CONSTRAINT:
            assert name not in versions
        else:
            assert wanted.specifier.contains(versions[name]), f"{wanted}: make constraints.txt anew as it says"
