"""Jobs of the page: commands of this project in processes of their own, one after the other, that outlive the page.

<work>/jobs/<id>/job.json     what it is, and its commands
                 run.sh       the same as a script, which is what runs
                 log.txt      what it has printed; there once it has begun
                 alive        locked by its processes, by all of which the lock is let go
                 exit         its exit code; there once it has ended
                 cancelled    there once it was told to stop
                 input/       what was uploaded, and what is prepared of it: removed a day after the end
                 results/     what test.py made
<work>/uploads/, kept/        uploads as Gradio takes them, and copies for several jobs: removed after a day

Nothing else is remembered, so a page that is started again finds what has finished, goes on showing what runs, and
starts what still waits.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import secrets
import shlex
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from util.cli import DONE, INTERRUPTED
from util.errors import MediaError, PcavsError, printable
from util.files import make_directory, safe_name, try_lock, write_json, write_text, writing
from util.json_files import read_json, to_builtins
from util.programs import start_program

ROOT = Path(__file__).resolve().parents[2]
WAITING, RUNNING, FINISHED, FAILED, STOPPED, LOST = "waiting", "running", "finished", "failed", "stopped", "lost"
ENDED = (FINISHED, FAILED, STOPPED, LOST)
MOST_WAITING = 20
KEPT_S = 24 * 3600.0  # uploads, and what was prepared of them
_POLL_S = 0.3
_SWEEP_S = 600.0
_LOG_TAIL = 1 << 16  # bytes
_LONGEST_STEM = 40  # bytes of an uploaded file's name that are kept
_checking = threading.Lock()  # two looks at a lock would each take the other for the job


@dataclass(frozen=True)
class Job:
    """Commands that run one after the other until one fails.

    kind: crop, talk, check, face or compare.  title: for people.  commands: lines for a shell in the project's folder.
    model: the personal model that it is about.
    """

    folder: Path
    kind: str
    title: str
    commands: tuple[str, ...]
    created: float  # seconds since 1970
    model: str = ""

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def input(self) -> Path:
        return self.folder / "input"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def state(self) -> str:
        code = self.exit_code
        if code is not None:
            return {DONE: FINISHED, INTERRUPTED: STOPPED}.get(code, FAILED)
        if not (self.folder / "log.txt").exists():
            return WAITING
        if _is_locked(self.folder / "alive"):
            return RUNNING
        if self.exit_code is not None:  # it has ended in between
            return self.state
        return STOPPED if (self.folder / "cancelled").exists() else LOST

    @property
    def exit_code(self) -> int | None:
        try:
            return int((self.folder / "exit").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    @property
    def log(self) -> str:
        """The end of what it has printed."""
        with contextlib.suppress(OSError), (self.folder / "log.txt").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL))
            return file.read().decode(errors="replace")
        return ""

    @property
    def command_line(self) -> str:
        """The commands to copy into a terminal in the project's folder."""
        return "\n".join(self.commands)

    def failure(self) -> str:
        """The sentence by which its commands said why they failed or stopped; "" where they did not."""
        state = self.state
        if state == STOPPED:
            return "Stopped. What was finished is kept."
        if state == LOST:
            return "It was ended from outside, by a restart of the machine perhaps. What was finished is kept."
        if state != FAILED:
            return ""
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        said = [match[1] for line in lines if (match := re.match(r"(?:[\w.-]+: )?error: (.+)", line))]
        said = said or [line for line in lines if " failed: " in line]
        sentence = said[-1] if said else f"It failed. The last it said: {lines[-1] if lines else 'nothing'}"
        return printable(sentence.replace(f"{shown(self.input)}/", ""))


class JobQueue:
    """Starts the waiting jobs of a work folder, one at a time and the oldest first."""

    def __init__(self, work: Path) -> None:
        self._jobs = make_directory(work / "jobs")
        self._uploads = make_directory(work / "uploads")
        self._kept = make_directory(work / "kept")
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._swept = 0.0
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Starts no further job; what runs goes on."""
        self._ended.set()
        self._thread.join()

    def new_folder(self) -> Path:
        """An empty folder for a job; those of later jobs sort behind it."""
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        folder = self._jobs / f"{now}-{secrets.token_hex(4)}"
        make_directory(folder / "input")
        return folder

    def kept_folder(self, upload: str) -> Path:
        """Where an upload is kept for several jobs; Gradio's folder for it is named by its content."""
        return make_directory(self._kept / safe_name(Path(upload).parent.name))

    def add(self, job: Job) -> Job:
        """Puts a job behind those that wait. Raises PcavsError: too many do."""
        with self._lock:
            if len(self.waiting()) >= MOST_WAITING:
                shutil.rmtree(job.folder, ignore_errors=True)
                raise PcavsError(f"{MOST_WAITING} jobs wait already; try again when some of them are done")
            _write(job)
        return job

    def run_now(self, job: Job, timeout_s: float) -> Job:
        """Runs a short job beside the queue, and waits for its end. Raises PcavsError: it took too long."""
        _write(job)
        _start(job)
        deadline = time.monotonic() + timeout_s
        while job.state == RUNNING:
            if time.monotonic() > deadline:
                self.cancel(job)
                raise PcavsError(f"{job.title}: took longer than {timeout_s:g} s and was stopped")
            time.sleep(0.05)
        return job

    def jobs(self, kind: str = "") -> list[Job]:
        """All jobs of a kind, the newest first."""
        found = [self.find(path.name) for path in sorted(self._jobs.iterdir(), reverse=True) if path.is_dir()]
        return [job for job in found if job is not None and kind in ("", job.kind)]

    def find(self, job_id: str) -> Job | None:
        """The job of an id; None: there is none, or not any more."""
        folder = self._jobs / safe_name(job_id or "_")
        with contextlib.suppress(MediaError):
            if (folder / "job.json").is_file():
                return read_json(folder / "job.json", Job)
        return None

    def waiting(self) -> list[Job]:
        """The oldest first."""
        return [job for job in reversed(self.jobs()) if job.kind != "crop" and job.state == WAITING]

    def running(self) -> Job | None:
        return next((job for job in self.jobs() if job.kind != "crop" and job.state == RUNNING), None)

    def place(self, job: Job) -> int:
        """How many jobs are before one that waits, the running one included."""
        before = [other for other in self.waiting() if other.id < job.id]
        return len(before) + (self.running() is not None)

    def cancel(self, job: Job) -> None:
        """Ctrl-C for a job that runs, which keeps what it has finished; one that waits never begins."""
        with self._lock:
            if job.state == WAITING:
                write_text(job.folder / "exit", f"{INTERRUPTED}\n")
                return
        with contextlib.suppress(OSError, ValueError):
            process = int((job.folder / "process").read_text(encoding="ascii"))
            if job.state == RUNNING:
                (job.folder / "cancelled").touch()
                os.killpg(process, signal.SIGINT)

    def remove(self, job: Job) -> None:
        """Removes a job that has ended with all of its files."""
        if job.state in ENDED:
            shutil.rmtree(job.folder, ignore_errors=True)

    def _run(self) -> None:
        while not self._ended.wait(_POLL_S):
            with self._lock, contextlib.suppress(PcavsError, OSError):
                waiting = self.waiting()
                if waiting and self.running() is None:
                    _start(waiting[0])
            if time.monotonic() - self._swept > _SWEEP_S or not self._swept:
                self._swept = time.monotonic()
                with contextlib.suppress(OSError):
                    self._sweep()

    def _sweep(self) -> None:
        """Removes what was uploaded a day ago, and what was prepared of it for jobs that have ended."""
        in_use = "\n".join(job.command_line for job in self.jobs() if job.state not in ENDED)
        for path in [*self._uploads.iterdir(), *self._kept.iterdir()]:
            kept_s = KEPT_S if path.is_dir() else _SWEEP_S  # a file is an upload under way, or what is left of it
            if _age_s(path) > kept_s and path.name not in in_use:
                shutil.rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True)
        for job in self.jobs():
            if job.state in ENDED and _age_s(job.folder) > KEPT_S:
                shutil.rmtree(job.folder if job.kind == "crop" else job.input, ignore_errors=True)


def keep_upload(upload: str | Path, folder: Path) -> Path:
    """Gives a job its own copy of an uploaded file, under a short and harmless name. Raises MediaError: it is gone."""
    path = Path(upload)
    stem = safe_name(path.stem).encode()[:_LONGEST_STEM].decode(errors="ignore").strip(". ") or "file"
    suffix = path.suffix.lower() if re.fullmatch(r"\.\w{1,5}", path.suffix, re.ASCII) else ""
    kept = folder / f"{stem.replace(' ', '_')}{suffix}"
    with writing(path.name, "the upload is gone; choose the file again"):
        if not kept.exists():
            shutil.copyfile(path, kept)
    return kept


def _write(job: Job) -> None:
    lines = [
        "#!/usr/bin/env bash",
        "set -e",
        f"exit_file={shlex.quote(str(job.folder.absolute() / 'exit'))}",
        """trap 'echo $? >"$exit_file.part" && mv "$exit_file.part" "$exit_file"' EXIT""",
        f"trap 'exit {INTERRUPTED}' INT",
        f"""python() {{ {shlex.quote(sys.executable)} -u "$@"; }}""",
        f"cd {shlex.quote(str(ROOT))}",
        *job.commands,
    ]
    write_text(job.folder / "run.sh", "\n".join(lines) + "\n")
    write_json(job.folder / "job.json", to_builtins(job))


def _start(job: Job) -> None:
    command = ["bash", str(job.folder / "run.sh")]
    process = start_program(command, log=job.folder / "log.txt", lock=job.folder / "alive")
    write_text(job.folder / "process", f"{process}\n")


def _is_locked(path: Path) -> bool:
    try:
        with _checking:
            descriptor = os.open(path, os.O_RDWR)
            try:
                return try_lock(descriptor) is False
            finally:
                os.close(descriptor)
    except OSError:
        return False


def _age_s(path: Path) -> float:
    return time.time() - path.lstat().st_mtime


def shown(path: Path) -> str:
    """As commands name it: from the project's folder, where it lies there."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
