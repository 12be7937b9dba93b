"""What the pages say is true: paths, links, commands, flags, Python blocks, and the walk with your own photo."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from util.ffmpeg import probe, run_ffmpeg

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[a-z]*/README.md")])
# folders that a clone has whole
CODE = ("options", "data", "models", "util", "scripts", "experiments", "tests", "docs")
OTHERS = ("ffmpeg", "pip", "cp", "apt-get", "source")  # programs that are not ours
COMMANDS = ["app.py", "test.py", "train.py", "tests/parity.py"]
COMMANDS += [f"scripts/{path.name}" for path in ROOT.glob("scripts/[a-z]*.py")]

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def parts(page: Path) -> tuple[str, list[tuple[str, str]]]:
    """The prose of a page, and its code blocks with their languages; one without a language is for the shell."""
    pieces = re.split(r"^```", page.read_text(), flags=re.MULTILINE)
    found = [piece.partition("\n") for piece in pieces[1::2]]
    return "".join(pieces[::2]), [(language or "bash", code) for language, _, code in found]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [code for name, code in parts(page)[1] if name == language]


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", parts(page)[0])]


def commands(page: Path) -> Iterator[list[str]]:
    """The shell commands of a page as words, without variables in front."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += [
        code for code in inline_code(page) if code.startswith(("python ", "bash ", "torchrun ", "pip ", "PYTHON="))
    ]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            yield words


def script_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """The Python command that a shell command runs, "" if it runs none of ours, and its arguments."""
    if words[0] in OTHERS:
        return "", []
    place = next((n for n, word in enumerate(words) if word.endswith((".py", ".sh"))), None)
    if place is None:
        assert words[0] == "torchrun", f"what is {shlex.join(words)}?"
        return "", []
    script, arguments = words[place], list(words[place + 1 :])
    assert (ROOT / script).is_file(), script
    if script == "experiments/talk.sh":  # sources first, then flags
        return "test.py", arguments[next((n for n, word in enumerate(arguments) if word[:2] == "--"), len(arguments)) :]
    if script.startswith("experiments/"):  # recipes hand their flags on
        return {"demo_vox.sh": "test.py", "app.sh": "app.py"}.get(Path(script).name, "train.py"), arguments
    return ("", []) if script.endswith(".sh") else (script, arguments)


def command_main(script: str) -> Callable[[Sequence[str]], int]:
    """The `main` of a command, by its path."""
    return importlib.import_module(script.removesuffix(".py").replace("/", ".")).main


class ParsedError(BaseException):
    """The command line was understood; no `except Exception` of a command may swallow it."""


@pages
def test_paths_that_pages_name_exist(page: Path) -> None:
    code = " ".join([*inline_code(page), *blocks(page, "bash")])
    named = re.findall(rf"(?<![\w/.<])(?:(?:{'|'.join(CODE)})/[\w/.]*\w|\w+\.(?:py|sh|toml))(?![\w*<{{])", code)
    beside = {path.name for folder in CODE for path in (ROOT / folder).rglob("*.py")}
    missing = [name for name in named if not (ROOT / name).exists() and ("/" in name or name not in beside)]
    assert missing == []


@pages
def test_links_of_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page.read_text()):
        link = "".join(target)
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)", file.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, link


def test_sections_that_code_cites_exist() -> None:
    titles = re.findall(r"^## (\d+)\. ", (ROOT / "docs" / "how_it_works.md").read_text(), flags=re.MULTILINE)
    code = "".join(path.read_text() for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    assert set(re.findall(r"how_it_works\.md section (\d+)", code)) <= set(titles)


@pages
def test_commands_of_pages_are_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, *args: Any) -> None:
        parse(self, *args)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    for words in commands(page):
        script, arguments = script_of(words)
        if script and arguments:
            assert is_understood(script, arguments), shlex.join(words)


def is_understood(script: str, arguments: list[str]) -> bool:
    """Whether the command goes on behind its parser."""
    try:
        command_main(script)(arguments)
    except ParsedError:
        return True
    except SystemExit:
        return False
    return False


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Every flag that the help of a command shows."""
    shown = io.StringIO()
    for script in COMMANDS:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            command_main(script)(["--help"])
    return set(re.findall(r"(?<![\w-])--\w+", shown.getvalue()))


@pages
def test_flags_that_pages_name_are_flags_of_a_command(page: Path, known_flags: set[str]) -> None:
    alone = [code for code in inline_code(page) if code.startswith("--")]
    named = {flag for code in alone for flag in re.findall(r"(?<![\w-])--\w+", code)}
    assert named - known_flags - {"--lambda_mine"} == set()  # the loss that somebody adds


@pages
def test_blocks_are_of_a_language_that_is_checked_or_shown(page: Path) -> None:
    assert {language for language, _ in parts(page)[1]} <= {"bash", "python", "mermaid", "bibtex"}


@pages
def test_python_blocks_run_as_they_stand(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for block in blocks(page, "python"):
        code = compile(block, str(page), "exec")
        if "gradio_client" in block:  # tests/test_app.py runs it beside a page
            continue
        exec(code, {"__name__": "block"})
        if "model.stream" in block:  # 5.3 s of sound, live
            shown = capsys.readouterr().out.splitlines()
            assert [line.split(",")[0] for line in shown] == [f"frame {number}" for number in range(133)]


def test_walk_with_your_own_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's commands beside me.jpg, voice.m4a and talk.mov; landmarks by dlib, which fetches nothing."""
    misc = ROOT / "misc"
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints", target_is_directory=True)
    shutil.copy(misc / "Input" / "synthetic_bela" / "000000.jpg", tmp_path / "me.jpg")
    # 15 packets of AAC: no ffmpeg pads them
    run_ffmpeg(["-t", "0.96", "-i", misc / "Audio_Source" / "synthetic_voice.wav", tmp_path / "voice.m4a"], "voice")
    pictures = misc / "Pose_Source" / "synthetic_head" / "%06d.jpg"
    run_ffmpeg(["-framerate", "25", "-i", pictures, "-frames:v", "25", tmp_path / "talk.mov"], "head")
    monkeypatch.chdir(tmp_path)
    walk = next(block for block in blocks(ROOT / "README.md", "bash") if "prepare_testing_files" in block)
    for line in walk.replace("\\\n", " ").splitlines():
        _, script, *arguments = shlex.split(line, comments=True)
        detector = ["--landmarks", "dlib"] if "prepare" in script else []
        assert command_main(script)([*arguments, *detector]) == 0, line
    result = tmp_path / "results" / "id_me_cropped_pose_talk_cropped_audio_voice"
    assert probe(result / "pasted.mp4").video_frames == 24
    assert probe(result / "generated.mp4").audio_duration_s == pytest.approx(0.96, abs=0.05)


def test_readme_shows_a_result_first_and_stays_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 160
    assert any("docs/demo.gif" in line for line in lines[:16])
    assert (ROOT / "docs" / "demo.gif").stat().st_size < 3_000_000
    with Image.open(ROOT / "docs" / "demo.gif") as picture:
        assert picture.n_frames * picture.info["duration"] == 5280  # ms, the length of the shorter voice
    assert (ROOT / "docs" / "directing.gif").stat().st_size < 2_000_000


def test_readme_has_the_figures_of_the_model_in_the_box() -> None:
    """A model that is trained anew brings new figures; the README then needs them, too."""
    figures = json.loads((ROOT / "checkpoints" / "synthetic" / "figures.json").read_text())["acceptance"]
    value = {figure["title"].split(",")[0]: f"{figure['value']:.2f}" for figure in figures}
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"mouth follows the sound {value['mouth opening']}" in text
    yaw, pitch = value["yaw of the pose source"], value["pitch of the pose source"]
    assert f"head follows the video {yaw} (yaw) and {pitch} (pitch)" in text
    assert f"SSIM {value['SSIM']}" in text
