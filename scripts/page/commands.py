"""What the page has to run, as command lines of this project."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.head_motion import MOTIONS
from options.config import INFERENCE_LETTERS, SILENCE_CHOICES
from scripts.page.jobs import ROOT, shown
from util.errors import OptionError
from util.files import write_text

PLAN_FILE = "personal.json"  # in the folder of a personal model
OWN_POSE, PROGRAMME, VIDEO = "the photo's own pose", "a programme", "a video"
HEADS = ("speak", *(motion for motion in MOTIONS if motion not in ("speak", "like")), OWN_POSE, PROGRAMME, VIDEO)
BLINKS = ("none", "auto", "follow")
SILENCES = tuple(SILENCE_CHOICES)
ROWS, PAIRS = "rows.csv", "pairs.csv"
LONGEST_S = 600  # of a voice and a head: longer ones are cut, or one visitor would have the machine for hours
_LABELS = {"demo": "published, real faces", "synthetic": "in the box, synthetic people only"}


@dataclass(frozen=True)
class Places:
    """work: gets all that the page makes, but for models.  checkpoints: folder of the models.  gpu_ids: see test.py."""

    work: Path
    checkpoints: Path = ROOT / "checkpoints"
    gpu_ids: str = ""

    def flags(self) -> list[str]:
        """What every command that uses a model is told of them."""
        where = [] if self.checkpoints == Places.checkpoints else ["--checkpoints_dir", shown(self.checkpoints)]
        return [*where, *(["--gpu_ids", self.gpu_ids] if self.gpu_ids else [])]


@dataclass(frozen=True)
class TalkSettings:
    """What is asked of a talking face: see the flags of test.py. head: one of HEADS."""

    model: str
    head: str = HEADS[0]
    programme: str = ""
    blink: str = BLINKS[0]
    silence: str = SILENCES[0]
    pose_scale: float = 1.0
    mouth_scale: float = 1.0
    seed: int = 0
    paste: bool = False


def models(places: Places) -> list[tuple[str, str]]:
    """(what it is, its name) of all models that can speak; the published one first, then that in the box."""
    names = {path.parent.name for path in places.checkpoints.glob("*/latest_net_G.pth")}
    order = {name: number for number, name in enumerate(_LABELS)}
    found = []
    for name in sorted(names, key=lambda name: (order.get(name, len(order)), name)):
        folder = places.checkpoints / name
        if all((folder / f"latest_net_{letter}.pth").is_file() for letter in INFERENCE_LETTERS):
            kind = _LABELS.get(name) or ("personal" if (folder / PLAN_FILE).is_file() else "your own")
            found.append((f"{name} ({kind})", name))
    return found


def personal_models(places: Places) -> list[str]:
    """Names of models whose training has begun."""
    return sorted(path.parent.name for path in places.checkpoints.glob(f"*/{PLAN_FILE}"))


def crop_commands(photo: Path, output: Path) -> tuple[str, ...]:
    return (_python("scripts/align_68.py", "--folder_path", photo, "--output", output, "--landmarks", "dlib"),)


def talk_commands(
    places: Places, job: Path, photo: Path, voice: Path, video: Path | None, settings: TalkSettings
) -> tuple[str, ...]:
    """Prepares the sources in the job's folder, and makes the video there. Raises OptionError: a setting lacks one."""
    work, results = job / "input", job / "results"
    flags: list[object] = []
    for flag, value, usual in (
        ("--pose_scale", settings.pose_scale, 1.0),
        ("--mouth_scale", settings.mouth_scale, 1.0),
        ("--blink", settings.blink, BLINKS[0]),
        ("--silence", settings.silence, SILENCES[0]),
    ):
        if value != usual and (flag, settings.head) != ("--pose_scale", OWN_POSE):
            flags += [flag, f"{value:g}" if isinstance(value, float) else value]
    if settings.head != OWN_POSE:
        flags.append("--driving_pose")
    lines = [
        _python(
            "scripts/prepare_testing_files.py", "--align", "all" if settings.paste else "auto", "--landmarks", "dlib",
            "--dir_path", work, "--csv_path", work / ROWS, "--src_input_path", photo, "--src_audio_path", voice,
            "--src_pose_path", _pose_source(settings, video), "--duration", LONGEST_S, "--seed", settings.seed,
        ),
        _python(
            "test.py", "--name", settings.model, *places.flags(), "--meta_path_vox", work / ROWS,
            "--results_dir", results, "--input_id_feature", "--gen_video", "--seed", settings.seed, *flags,
        ),
    ]  # fmt: skip
    if settings.paste:
        lines.append(f"{_python('scripts/paste_back.py', '--result', results)}/id_*")
    return tuple(lines)


def personal_commands(
    places: Places, name: str, videos: Sequence[Path], photos: Sequence[Path], *flags: object
) -> tuple[str, ...]:
    """Fits a model to a person; without sources it goes on with a training that was begun."""
    given = (("--video", videos), ("--photo", photos))
    sources = [word for flag, paths in given if paths for word in (flag, *paths)] or ["--continue"]
    return (_python("scripts/personalize.py", "--name", name, *places.flags(), *sources, *flags),)


def compare_commands(videos: Mapping[str, Path], real: Path | None, work: Path, output: Path) -> tuple[str, ...]:
    """Measures videos by name, against the real one where there is one; writes the list that the command reads."""
    truth = "" if real is None else str(real.absolute())
    lines = [f"{_csv(str(path.absolute()))},{_csv(truth)},{_csv(name)}" for name, path in videos.items()]
    write_text(work / PAIRS, "\n".join(["generated,real,name", *lines]) + "\n")
    flags = ["--resample"] if real else []
    return (_python("scripts/evaluate.py", "--pairs", work / PAIRS, "--output", output, *flags),)


def require_model_name(name: str) -> str:
    """A name that a folder can have. Raises OptionError."""
    if not re.fullmatch(r"\w[\w-]{0,39}", name, re.ASCII):
        raise OptionError("the name of a model has 1 to 40 letters, digits, _ or -")
    if name in _LABELS or name == "probe":
        raise OptionError(f"{name} is the name of a model that is there; choose another")
    return name


def _pose_source(settings: TalkSettings, video: Path | None) -> object:
    if settings.head == VIDEO:
        if video is None:
            raise OptionError("give the video that the head shall follow, or choose another head")
        return video
    if settings.head == PROGRAMME:
        # what names a file would read it, and say what is in it
        if "=" not in settings.programme or "/" in settings.programme or "like" in settings.programme:
            raise OptionError("the programme says what the head does, such as 0 yaw=0; 1.5 yaw=20; 3 yaw=0")
        return f"pose:{' '.join(settings.programme.split())}"
    return None if settings.head == OWN_POSE else f"pose:{settings.head}"


def _csv(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _python(*words: object) -> str:
    return shlex.join(["python", *(str(shown(word) if isinstance(word, Path) else word) for word in words)])
