"""The tab Results: all videos that are there, and all jobs with their state."""

from __future__ import annotations

import datetime
import functools
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from scripts.page.jobs import ENDED, Job
from scripts.page.parts import Page, command_box, shown_error
from scripts.page.progress import files_of, made_frames, result_folder, video_of

_MOST_SHOWN = 60


def build(page: Page) -> gr.Tab:
    """Adds the tab; its content is read when it is opened."""
    with gr.Tab("Results", id="results") as tab:
        chosen = gr.State("")
        ids = gr.State([])
        with gr.Row():
            with gr.Column():
                gallery = gr.Gallery(
                    label="Videos, the newest first", columns=3, object_fit="contain", allow_preview=False,
                    height="auto", elem_id="gallery",
                )  # fmt: skip
            with gr.Column():
                video = gr.Video(label="Video", interactive=False, elem_id="chosen")
                downloads = gr.Files(label="Downloads", interactive=False)
                command = command_box()
                remove = gr.Button("Remove this video", variant="stop")
        gr.Markdown("### Jobs")
        table = gr.HTML(elem_id="jobs")
        with gr.Row():
            stop = gr.Button("Stop what is running")
            again = gr.Button("Look again")

    fill = functools.partial(_list, page)
    listed = [gallery, ids, table]
    shown = [video, downloads, command, chosen]
    gr.on([tab.select, again.click], fill, None, listed, show_progress="hidden", api_visibility="private")

    def choose(known: list[str], event: gr.SelectData) -> tuple[Any, ...]:  # Gradio looks at the types of a function
        return _choose(page, known[event.index] if event.index < len(known) else "")

    gallery.select(choose, ids, shown, show_progress="hidden", api_visibility="private")
    removed = remove.click(functools.partial(_remove, page), chosen, shown, api_visibility="private")
    removed.success(fill, None, listed, show_progress="hidden", api_visibility="private")
    stop.click(functools.partial(_stop, page), None, None, queue=False, api_visibility="private").success(
        fill, None, listed, show_progress="hidden", api_visibility="private"
    )
    return tab


def videos(page: Page) -> list[tuple[str, Path]]:
    """(title, video) of what has been made, the newest first."""
    found = ((job, result_folder(job)) for job in page.queue.jobs("talk"))
    made = ((job, video_of(result)) for job, result in found if result is not None)
    return [(f"{_time(job)} {job.title}", video) for job, video in made if video is not None]


def _list(page: Page) -> tuple[list[tuple[str, str]], list[str], str]:
    done = [job for job in page.queue.jobs("talk") if result_folder(job) is not None][:_MOST_SHOWN]
    frames = [(job, made_frames(job)) for job in done]
    pictures = [(str(made[len(made) // 2]), f"{_time(job)} {job.title}") for job, made in frames if made]
    return pictures, [job.id for job, made in frames if made], _table(page)


def _table(page: Page) -> str:
    jobs = [job for job in page.queue.jobs() if job.kind != "crop"][:_MOST_SHOWN]
    rows = "".join(
        f"<tr><td>{_time(job)}</td><td>{escape(job.title)}</td><td>{job.state}</td><td>{escape(job.failure())}</td></tr>"
        for job in jobs
    )
    heads = "".join(f"<th scope='col'>{head}</th>" for head in ("begun", "what", "state", "why"))
    return f"<div class='wide' tabindex='0'><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"


def _choose(page: Page, job_id: str) -> tuple[Any, ...]:
    job = page.queue.find(job_id)
    result = result_folder(job) if job is not None else None
    if job is None or result is None:
        raise shown_error("this video is not there any more")
    return str(video_of(result)), files_of(job), job.command_line, job.id


def _remove(page: Page, job_id: str) -> tuple[Any, ...]:
    job = page.queue.find(job_id) if job_id else None
    if job is None or job.state not in ENDED:
        raise shown_error("choose a video first")
    page.queue.remove(job)
    return None, None, "", ""


def _stop(page: Page) -> None:
    running = page.queue.running()
    if running is None:
        raise shown_error("nothing is running")
    page.queue.cancel(running)


def _time(job: Job) -> str:
    return datetime.datetime.fromtimestamp(job.created).strftime("%d %b %H:%M")
