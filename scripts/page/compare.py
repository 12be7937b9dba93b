"""The tab Compare: two or three videos side by side, in step, and what the evaluation says of them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from scripts.page.commands import compare_commands
from scripts.page.jobs import FAILED, FINISHED, MOST_WAITING, keep_upload
from scripts.page.parts import Page, as_it_is, looks, sentences, shown_error, unchecked
from scripts.page.progress import picture, show_job
from scripts.page.results import videos
from util.errors import OptionError
from util.files import make_directory, safe_name

_MOST = 3
# the first video leads; the others, which are silent, follow it
_PLAY = """() => {
  const all = [...document.querySelectorAll('#side video')], lead = all[0];
  all.slice(1).forEach(v => { v.muted = true; v.currentTime = lead.currentTime; });
  if (lead) lead.ontimeupdate = () => all.slice(1).forEach(v => {
    if (Math.abs(v.currentTime - lead.currentTime) > 0.08) v.currentTime = lead.currentTime;
  });
  all.forEach(v => v.play());
}"""
_PAUSE = "() => document.querySelectorAll('#side video').forEach(v => v.pause())"
_SEEK = """(part) => document.querySelectorAll('#side video').forEach(v => {
  const lead = document.querySelector('#side video');
  v.pause();
  v.currentTime = part / 100 * (lead.duration || 0);
})"""


def build(page: Page) -> gr.Tab:
    with gr.Tab("Compare", id="compare") as tab:
        with gr.Row():
            made = unchecked(
                gr.Dropdown(
                    [], label="Videos that were made here", multiselect=True, max_choices=_MOST, filterable=False
                )
            )
            others = gr.Files(label="Other videos", file_types=["video"])
            real = as_it_is(gr.Video(label="The real video, if there is one", sources=["upload"]))
        with gr.Row():
            show = gr.Button("Show side by side", variant="primary")
            measure = gr.Button("Measure")
        side = gr.HTML(elem_id="side")
        with gr.Row():
            play = gr.Button("Play all", elem_id="play-all")
            pause = gr.Button("Pause", elem_id="pause-all")
        place = gr.Slider(0, 100, 0, label="Place, in percent", elem_id="place")
        status = gr.HTML(elem_id="compare-status")
        table = gr.Markdown()
        curves = gr.HTML(elem_id="compare-curves")

    tab.select(
        lambda: gr.update(choices=[(title, str(path)) for title, path in videos(page)]), None, made,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    show.click(functools.partial(_side, page), [made, others], side, api_visibility="private")
    play.click(None, js=_PLAY)
    pause.click(None, js=_PAUSE)
    place.input(None, place, None, js=_SEEK)
    measure.click(
        functools.partial(compare, page), [made, others, real], [status, table, curves],
        concurrency_limit=2 * MOST_WAITING, show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    return tab


def _chosen(page: Page, made: list[str] | None, others: list[str] | None) -> dict[str, Path]:
    """Name -> video. Raises OptionError: not two or three."""
    known = {str(path): path.parents[2].name[9:15] for _, path in videos(page)}
    chosen = {f"made_{known[path]}": Path(path) for path in made or [] if path in known}
    for path in others or []:
        name = safe_name(Path(path).stem)[:40]
        chosen[name if name not in chosen else f"{name}_{len(chosen)}"] = Path(path)
    if not 1 < len(chosen) <= _MOST:
        raise OptionError(f"choose two or three videos; {len(chosen)} are chosen")
    return chosen


def _side(page: Page, made: list[str] | None, others: list[str] | None) -> str:
    with sentences():
        chosen = _chosen(page, made, others)
    figures = "".join(
        f"<figure><video src='gradio_api/file={quote(str(path))}' controls playsinline preload='auto'"
        f" aria-label='{escape(name, quote=True)}'></video><figcaption>{escape(name)}</figcaption></figure>"
        for name, path in chosen.items()
    )
    return f"<div class='side'>{figures}</div>"


async def compare(
    page: Page, made: list[str] | None, others: list[str] | None, real: str | None
) -> AsyncIterator[tuple[Any, Any, Any]]:
    """Measures the chosen videos in a job: state, table, curves."""
    folder = page.queue.new_folder()
    with sentences(folder):
        chosen = _chosen(page, made, others)
        kept = {name: keep_upload(path, make_directory(folder / "input" / name)) for name, path in chosen.items()}
        truth = keep_upload(real, folder / "input") if real else None
        lines = compare_commands(kept, truth, folder / "input", folder / "evaluation")
        job = page.queue.add(page.new_job("compare", f"measuring {', '.join(chosen)}", folder, lines))
    async for now in looks(job):
        yield show_job(now, page.queue), gr.skip(), gr.skip()
    if job.state == FAILED:
        raise shown_error(job.failure())
    if job.state == FINISHED:
        text = (folder / "evaluation" / "summary.md").read_text(encoding="utf-8").partition("\n\n")[2]
        parts = sorted((folder / "evaluation" / "pictures").glob("*.png"))
        shown = "".join(picture(path, f"curve {path.stem}", 360) for path in parts if "distribution" not in path.stem)
        yield show_job(job, page.queue), text, f"<div class='curves'>{shown}</div>"
