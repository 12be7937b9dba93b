"""The page as a whole: its tabs, its looks, and the line that says what is running."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from scripts.page import compare, face, results, talk
from scripts.page.jobs import ROOT
from scripts.page.parts import Page
from scripts.page.progress import show_queue
from util.files import make_directory

TITLE = "Talking faces"
EXAMPLES = {"Anna": ("synthetic_anna", "synthetic_voice"), "Bela": ("synthetic_bela", "synthetic_other_voice")}
CSS = """
footer { display: none !important; }
.gradio-container, .gradio-container > .main { box-sizing: border-box; max-width: min(72rem, 100vw) !important; }
.gradio-container { margin: 0 auto !important; min-width: 0 !important; }
.say p, .queue { overflow-wrap: anywhere; margin: .25rem 0; }
.say.failed p { border-left: .4rem solid #c33; padding-left: .6rem; }
.say progress { width: 100%; height: 1rem; accent-color: #2563eb; }
.strip { display: flex; flex-wrap: wrap; gap: .4rem; }
.strip img, figure img { border-radius: .3rem; max-width: 100%; height: auto; }
.strip > img, .strip figure { width: min(112px, 30%); }
.strip figure img { width: 100%; }
.side { display: flex; flex-wrap: wrap; gap: 1rem; }
.side figure { flex: 1 1 14rem; margin: 0; min-width: 0; }
.side video { width: 100%; background: #000; }
figure { margin: 0; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
pre.columns { white-space: pre; overflow-wrap: normal; font-size: .64rem; }
.curves { display: flex; flex-wrap: wrap; gap: .5rem; }
.curves img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
@media (max-width: 480px) { .gradio-container { padding: .5rem !important; } }
"""
_FONTS = ("system-ui", "sans-serif")
_TICK_S = 3.0
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def theme() -> gr.themes.Base:
    """With the fonts that the visitor has: nothing is fetched."""
    calm = gr.themes.Default(primary_hue="blue", font=_FONTS, font_mono=("ui-monospace", "monospace"))
    return calm.set(  # white on it is easily read
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
    )


def build(page: Page) -> gr.Blocks:
    with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
        gr.Markdown(
            f"# {TITLE}\nAnimate only people who have agreed, and say that a video is generated wherever you show it."
        )
        line = gr.HTML(functools.partial(show_queue, page.queue), elem_id="queue")
        with gr.Tab("Talk", id="talk") as talk_tab:
            model = talk.build(page, _examples(page.places.work))
        with gr.Tab("My face", id="face") as face_tab:
            known = face.build(page)
        compare.build(page)
        results.build(page)
        gr.Timer(_TICK_S).tick(functools.partial(show_queue, page.queue), None, line, **_QUIET)
        # what was made since the page was opened, or while it was closed
        for event in (blocks.load, talk_tab.select):
            event(functools.partial(talk.list_models, page), model, model, **_QUIET)
        for event in (blocks.load, face_tab.select):
            event(functools.partial(face.list_models, page), known, known, **_QUIET)
    return blocks


def _examples(work: Path) -> dict[str, tuple[Path, Path]]:
    """Photo and voice by name, copied to where files may be served from."""
    folder = make_directory(work / "examples")
    found = {}
    for name, (photo, voice) in EXAMPLES.items():
        sources = (ROOT / "misc" / "Input" / photo / "000000.jpg", ROOT / "misc" / "Audio_Source" / f"{voice}.wav")
        copies = (folder / f"{name.lower()}.jpg", folder / f"{name.lower()}.wav")
        if all(source.is_file() for source in sources):
            for source, copy in zip(sources, copies, strict=True):
                shutil.copyfile(source, copy)
            found[name] = copies
    return found
