"""What the page shows of a job: how far it is, some of its frames, its files; HTML with all text escaped."""

from __future__ import annotations

import base64
import contextlib
import re
import time
import wave
from html import escape
from pathlib import Path

from data.results import CLIP_NOTE, PASTED, SPEAKING, WITH_SOUND
from options.config import DRIVEN, FIXED, FPS
from scripts.page.jobs import ENDED, FINISHED, WAITING, Job, JobQueue

_SHOWN_FRAMES = 6
_STAGES = (  # what stands in a command -> what it does
    ("align_68", "Looking for the face"),
    ("prepare_testing_files", "Preparing photo, voice and head"),
    ("test.py", "Loading the model"),
    ("personalize", "Working"),
    ("evaluate", "Measuring"),
)
_BAR = re.compile(r"^.*\d+%\|.*\[.*\]$")  # of tqdm


def result_folder(job: Job) -> Path | None:
    """The finished result of a talking face."""
    return next((note.parent for note in sorted(job.results.glob(f"*/{CLIP_NOTE}")) if video_of(note.parent)), None)


def video_of(result: Path) -> Path | None:
    video = result / SPEAKING
    return video if video.is_file() else None


def pasted_of(result: Path) -> Path | None:
    video = result / PASTED
    return video if video.is_file() else None


def files_of(job: Job) -> list[str]:
    """What there is to download."""
    result = result_folder(job)
    found = [result / name for name in (SPEAKING, PASTED, WITH_SOUND)] if result else []
    return [str(path) for path in found if path.is_file()]


def made_frames(job: Job) -> list[Path]:
    """Frames that are there, in order, also of a result that is not finished."""
    folders = [f for name in (DRIVEN, FIXED) for f in [*job.results.glob(f"*/{name}"), *job.results.glob(f".*/{name}")]]
    frames = [path for folder in folders for path in folder.glob(f"{folder.name}*") if path.suffix in (".jpg", ".png")]
    return sorted(frames, key=lambda path: int(path.stem.removeprefix(path.parent.name)))


def wanted_frames(job: Job) -> int:
    """How many frames the prepared sound asks for; 0: it is not there yet."""
    for sound in sorted(job.input.glob("Audio_Source/*.wav")):
        with contextlib.suppress(wave.Error, OSError, EOFError), wave.open(str(sound)) as file:
            return round(file.getnframes() / file.getframerate() * FPS)
    return 0


def show_job(job: Job, queue: JobQueue) -> str:
    """State, bar and newest frames."""
    state = job.state
    if state == WAITING:
        return show_words(f"Waiting: {counted_jobs(queue.place(job))} before this one.")
    if state in ENDED and state != FINISHED:
        return show_words(job.failure(), "failed") + _strip(made_frames(job))
    frames, wanted = made_frames(job), wanted_frames(job)
    if state == FINISHED:
        took = (job.folder / "exit").stat().st_mtime - _began(job)
        return show_words(f"Done in {_minutes(took)}." + (f" {len(frames)} frames." if frames else ""))
    if not frames:
        return show_words(f"{_stage(job)} ...", bar="<progress aria-label='at work'></progress>")
    first = frames[0].stat().st_mtime
    took = time.time() - first
    rate = (len(frames) - 1) / took if took > 0.5 else 0.0
    words = f"{len(frames)} of {wanted or '?'} frames"
    if len(frames) >= wanted > 0:
        words += "; writing the videos"
    elif rate:
        words += f", {rate:.1f} a second, {_minutes((wanted - len(frames)) / rate)} left"
    share = f" max='{wanted}' value='{min(len(frames), wanted)}'" if wanted else ""
    return show_words(f"{words}.", bar=f"<progress aria-label='frames'{share}></progress>") + _strip(frames)


def show_queue(queue: JobQueue) -> str:
    """One line for the top of the page."""
    running, waiting = queue.running(), len(queue.waiting())
    words = "Nothing is running." if running is None else f"Running: {running.title}."
    return f"<p class='queue' role='status'>{escape(words)} {counted_jobs(waiting).capitalize()} waiting.</p>"


def counted_jobs(count: int) -> str:
    return {0: "no jobs", 1: "1 job"}.get(count, f"{count} jobs")


def show_log(job: Job, lines: int = 12) -> str:
    """The last lines that a job has printed, without bars."""
    said = [line for line in job.log.splitlines() if line.strip() and not _BAR.match(line)]
    return f"<pre tabindex='0' aria-label='what it says'>{escape(chr(10).join(said[-lines:]))}</pre>"


def picture(path: Path, label: str, width: int = 112) -> str:
    """A picture inside the page itself, so that its file need not be served."""
    with contextlib.suppress(OSError):
        kind = "png" if path.suffix == ".png" else "jpeg"
        data = base64.b64encode(path.read_bytes()).decode()
        return f"<img src='data:image/{kind};base64,{data}' alt='{escape(label, quote=True)}' width='{width}'>"
    return ""


def _strip(frames: list[Path]) -> str:
    shown = [frames[round(n * (len(frames) - 1) / (_SHOWN_FRAMES - 1))] for n in range(_SHOWN_FRAMES)] if frames else []
    return f"<div class='strip'>{''.join(picture(path, path.stem) for path in dict.fromkeys(shown))}</div>"


def show_words(words: str, kind: str = "", bar: str = "") -> str:
    """A sentence, below a bar."""
    return f"<div class='say {kind}' role='status'>{bar}<p>{escape(words)}</p></div>"


def _stage(job: Job) -> str:
    """What it is doing before there are frames, by how far its log is."""
    if job.kind == "talk" and "row added" in job.log:
        return _STAGES[2][1]
    line = job.commands[0] if job.commands else ""
    return next((words for part, words in _STAGES if part in line), "Working")


def _began(job: Job) -> float:
    return (job.folder / "process").stat().st_mtime


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} minutes"
