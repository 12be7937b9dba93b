"""The tab My face: from a film of somebody to a model of that person, watched while it is trained."""

from __future__ import annotations

import contextlib
import functools
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import msgspec

from scripts.page.commands import (
    PLAN_FILE,
    models,
    personal_commands,
    personal_models,
    require_model_name,
)
from scripts.page.jobs import ENDED, FAILED, RUNNING, WAITING, Job, keep_upload
from scripts.page.parts import Page, as_it_is, sentences, shown_error, unchecked
from scripts.page.progress import counted_jobs, picture, show_log, show_words
from util.errors import OptionError, PcavsError
from util.json_files import read_json, read_json_lines

_TICK_S = 3.0
_CHECKED = ("ok: ", "warning: ")  # how personalize.py begins what it says of a film
_CURVES = ("identity", "cpbd", "mouth", "ssim", "yaw", "G/own", "total")
_INTRO = (
    "Half a minute of film of one person who speaks, from the front, turning the head to both sides, up and down. "
    "Fit your own face, or that of somebody who has agreed. Half an hour on two cores is usual; it goes on when this "
    "page is closed."
)


class _Plan(msgspec.Struct):
    """What is read of personal.json."""

    steps: int = 0


class _Line(msgspec.Struct):
    """What is read of a line of loss_log.jsonl."""

    step: int = 0


class _Shown(msgspec.Struct):
    """What is read of web/steps.json."""

    step: int
    rows: list[dict[str, str]]


def build(page: Page) -> gr.Dropdown:
    """Adds the tab's components; returns the list of personal models."""
    seen = gr.State("")
    gr.Markdown(_INTRO)
    with gr.Row():
        with gr.Column():
            name = gr.Textbox(label="Name of the model", placeholder="me", max_length=40, elem_id="face-name")
            film = as_it_is(gr.Video(label="Film", sources=["upload", "webcam"], elem_id="film"))
            photos = gr.Files(label="Photos, beside a film or instead of one", file_types=["image"])
            with gr.Row():
                check = gr.Button("Check the film", elem_id="check")
                train = gr.Button("Train", variant="primary", elem_id="train")
            minutes = gr.Number(30, label="Minutes to train", minimum=0.1)
            with gr.Accordion("More", open=False):
                bases = [("the published model where it is there, else the one in the box", ""), *models(page.places)]
                base = unchecked(gr.Dropdown(bases, value="", label="Model to start from", filterable=False))
                use_all = gr.Checkbox(False, label="Then train on the whole film")
        with gr.Column():
            names = _names(page)
            known = unchecked(gr.Dropdown(names, value=_current(page), label="Training or model", filterable=False))
            with gr.Row():
                stop = gr.Button("Stop and keep the best", variant="stop", elem_id="stop-training")
                go_on = gr.Button("Go on with it", elem_id="go-on")
            view = gr.HTML(elem_id="face-view")

    sources = [name, film, photos, base]
    outputs = [known, seen]
    check.click(functools.partial(start_check, page), sources, outputs, api_visibility="private")
    wanted = [*sources, minutes, use_all]
    train.click(functools.partial(start_training, page), wanted, outputs, api_visibility="private")
    go_on.click(functools.partial(continue_training, page), known, outputs, api_visibility="private")
    stop.click(functools.partial(stop_training, page), known, None, queue=False, api_visibility="private")
    show = functools.partial(show_model, page)
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    gr.on([known.change, gr.Timer(_TICK_S).tick], show, [known, seen], [view, seen], **quiet)
    return known


def list_models(page: Page, chosen: str | None) -> Any:
    names = _names(page)
    return gr.update(choices=names, value=chosen if chosen in names else _current(page))


def start_check(page: Page, name: str, film: str | None, photos: list[str] | None, base: str) -> tuple[Any, str]:
    return _add(page, "check", f"looking at the film of {name}", name, film, photos, *_of_base(page, base), "--check")


def start_training(
    page: Page, name: str, film: str | None, photos: list[str] | None, base: str, minutes: float, use_all: bool
) -> tuple[Any, str]:
    if not minutes or minutes <= 0:
        raise shown_error("say how many minutes it may train")
    flags = [*_of_base(page, base), "--minutes", f"{minutes:g}", *(["--use_all"] if use_all else [])]
    return _add(page, "face", f"training of {name}", name, film, photos, *flags)


def continue_training(page: Page, name: str | None) -> tuple[Any, str]:
    if name not in personal_models(page.places):
        raise shown_error("choose a training that has begun")
    if (job := newest_job(page, name)) is not None and job.state not in ENDED:
        raise shown_error(f"the training of {name} is {job.state} already")
    folder = page.queue.new_folder()
    with sentences(folder):
        lines = personal_commands(page.places, name, [], [])
        page.queue.add(page.new_job("face", f"training of {name}", folder, lines, name))
    return gr.update(choices=_names(page), value=name), ""


def stop_training(page: Page, name: str | None) -> None:
    job = newest_job(page, name or "")
    if job is None or job.state in ENDED:
        raise shown_error(f"{name or 'nothing'} is not being trained")
    page.queue.cancel(job)


def newest_job(page: Page, name: str) -> Job | None:
    return next((job for job in page.queue.jobs() if job.model == name and job.kind in ("check", "face")), None)


def show_model(page: Page, name: str | None, seen: str) -> tuple[Any, Any]:
    """Checks, state, pictures, curves and report of a personal model; nothing where nothing has changed."""
    if name not in _names(page):
        return show_words("No model of a person yet."), ""
    job = newest_job(page, name)
    folder = page.places.checkpoints / name
    run = _run_folder(folder)
    files = [folder / "report.txt", run / "loss_log.jsonl", run / "web" / "steps.json"]
    files += [job.folder / "log.txt", job.folder / "exit"] if job else []
    state = f"{name} {job and job.id} {job and job.state} {[_changed(path) for path in files]}"
    if state == seen:
        return gr.skip(), gr.skip()
    parts = [_state(page, job, folder), _checks(job), _live(run), _report(folder)]
    return "".join(parts), state


def _add(
    page: Page, kind: str, title: str, name: str, film: str | None, photos: list[str] | None, *flags: str
) -> tuple[Any, str]:
    folder = page.queue.new_folder()
    name = (name or "").strip()
    with sentences(folder):
        require_model_name(name)
        if not film and not photos:
            raise OptionError("give a film or photos of the person")
        if (before := newest_job(page, name)) is not None and before.state in (WAITING, RUNNING):
            raise OptionError(f"the {before.title} is {before.state}; wait for it, or stop it")
        films = [keep_upload(film, page.queue.kept_folder(film))] if film else []
        pictures = [keep_upload(path, page.queue.kept_folder(path)) for path in photos or []]
        lines = personal_commands(page.places, name, films, pictures, *flags)
        page.queue.add(page.new_job(kind, title, folder, lines, name))
    return gr.update(choices=_names(page), value=name), ""


def _of_base(page: Page, base: str) -> list[str]:
    if base and base not in [name for _, name in models(page.places)]:
        raise shown_error(f"there is no model {base}")
    return ["--base", base] if base else []


def _names(page: Page) -> list[str]:
    """Of models that are there, and of those that are on their way."""
    jobs = {job.model for kind in ("check", "face") for job in page.queue.jobs(kind)}
    return sorted({*personal_models(page.places), *jobs})


def _current(page: Page) -> str | None:
    """The model whose job is the newest: what a visitor who comes back wants to see."""
    jobs = [job for job in page.queue.jobs() if job.kind in ("check", "face")]
    running = [job for job in jobs if job.state in (RUNNING, WAITING)]
    names = [job.model for job in [*running, *jobs]] + personal_models(page.places)
    return next(iter(names), None)


def _run_folder(folder: Path) -> Path:
    """Where a training writes what it shows: with --use_all in a folder below."""
    watched = folder / "watched"
    return watched if (watched / "web").is_dir() and not (folder / "web").is_dir() else folder


def _state(page: Page, job: Job | None, folder: Path) -> str:
    if job is None:
        return show_words("Not trained from this page." if (folder / PLAN_FILE).is_file() else "")
    state = job.state
    if state == WAITING:
        return show_words(f"Waiting: {counted_jobs(page.queue.place(job))} before this one.")
    if state == FAILED:
        return show_words(job.failure(), "failed")
    if state != RUNNING:
        done = "Done: Talk has it in its list." if job.kind == "face" else "Looked at: train, or choose another film."
        return show_words(job.failure() or done)
    steps, step = _steps(folder), _last_step(_run_folder(folder))
    share = f" max='{steps}' value='{min(step, steps)}'" if steps else ""
    words = f"Step {step} of {steps}." if steps else "Looking at the film, then measuring how long a step takes ..."
    return f"<progress aria-label='steps'{share}></progress>{show_words(words)}{show_log(job, 6)}"


def _steps(folder: Path) -> int:
    with contextlib.suppress(PcavsError):
        if (folder / PLAN_FILE).is_file():
            return read_json(folder / PLAN_FILE, _Plan).steps
    return 0


def _last_step(run: Path) -> int:
    with contextlib.suppress(PcavsError):
        return max((line.step for line in read_json_lines(run / "loss_log.jsonl", _Line)), default=0)
    return 0


def _checks(job: Job | None) -> str:
    lines = [line for line in (job.log.splitlines() if job else []) if line.startswith(_CHECKED) or " minutes" in line]
    items = "".join(f"<li>{escape(line.removeprefix('ok: '))}</li>" for line in dict.fromkeys(lines))
    return f"<h3>The film</h3><ul class='checks'>{items}</ul>" if items else ""


def _live(run: Path) -> str:
    steps: list[_Shown] = []
    with contextlib.suppress(PcavsError):
        if (run / "web" / "steps.json").is_file():
            steps = read_json(run / "web" / "steps.json", list[_Shown])
    if not steps:
        return ""
    newest = steps[0]
    images = run / "web" / "images"
    shown_rows = ["".join(_captioned(images / file, label) for label, file in row.items()) for row in newest.rows]
    rows = "".join(f"<div class='strip'>{row}</div>" for row in shown_rows)
    curves = sorted((run / "web" / "curves").glob("*.png"), key=lambda path: (_rank(path), path.name))
    shown = "".join(picture(path, f"curve of {path.stem}", 240) for path in curves[: len(_CURVES)])
    return f"<h3>Step {newest.step}</h3>{rows}<h3>Curves</h3><div class='curves'>{shown}</div>"


def _rank(path: Path) -> int:
    return next((n for n, name in enumerate(_CURVES) if name.replace("/", "_") in path.stem), len(_CURVES))


def _captioned(path: Path, label: str) -> str:
    return f"<figure>{picture(path, label)}<figcaption>{escape(label)}</figcaption></figure>"


def _report(folder: Path) -> str:
    with contextlib.suppress(OSError):
        text = (folder / "report.txt").read_text(encoding="utf-8")
        # the table keeps its columns, the sentences may wrap
        parts = [(escape(part), "columns" if "   " in part else "words") for part in text.strip().split("\n\n")]
        return "<h3>The report</h3>" + "".join(
            f"<pre class='{kind}' tabindex='0' aria-label='report'>{part}</pre>" for part, kind in parts
        )
    return ""


def _changed(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return 0
