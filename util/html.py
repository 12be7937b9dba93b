"""Pages to look at results in a browser: plain files, no network, readable on a phone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dominate import document, tags
from dominate.util import raw

from options.config import FPS
from util.files import MARK, write_text

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; margin: 0 0 .75rem; }
h2, li, dd, .say { overflow-wrap: anywhere; }
.card { border: 1px solid var(--line); border-radius: .6rem; margin: 1rem 0; padding: 1rem; }
.media { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .85rem; opacity: .75; }
video, img { display: block; max-width: 100%; height: auto; border-radius: .3rem; background: #000; }
video { min-width: min(14rem, 100%); }
.media img { width: 112px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .75rem 0 0; font-size: .9rem; }
dt { opacity: .75; }
dd { margin: 0; }
.failed { border-left: .4rem solid #c33; }
.interrupted { border-left: .4rem solid #c83; }
.done { border-left: .4rem solid #3a6; }
.say { margin: 0; }
details { margin-top: 1rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); gap: 1rem; }
div.curves { margin-top: 1rem; }
.wide { overflow-x: auto; }
.wide table { border-spacing: .5rem; margin: -.5rem; }
.wide td { min-width: 6rem; padding: 0; vertical-align: top; }
.wide .figures { border-spacing: 0; font-size: .82rem; margin: 0; }
.wide .figures :is(th, td) { min-width: 0; padding: .15rem .4rem; text-align: right; white-space: nowrap; }
.wide .figures :is(th, td):first-child { padding-left: 0; text-align: left; }
pre { background: var(--soft); overflow-x: auto; padding: .75rem; border-radius: .3rem; font-size: .8rem; }
"""
# what a card shows of a row's outputs: file name -> caption
_VIDEOS = {"generated.mp4": "generated", "avconcat.mp4": "reference, generated, sources"}
_THUMBNAILS = {
    "Input_": "reference",
    "G_Pose_Driven_": "generated",
    "G_Fix_Pose_": "generated",
    "Pose_Source_": "pose source",
    "Mouth_Source_": "mouth source",
}


def write_gallery(directory: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], title: str) -> None:
    """Writes `index.html` with a card for each row of `report.json`, and the settings that were the same for all.

    Links are relative to the directory, so that it can be moved or copied.
    """
    done = sum(row["status"] == "done" for row in rows)
    with open_page(directory, title):
        tags.p(f"{done} of {len(rows)} rows done", cls="say")
        for row in rows:
            _card(directory, row)
        with tags.details():
            tags.summary("Options of this run")
            tags.pre("\n".join(f"{name}: {value}" for name, value in settings.items()))


def write_training_page(
    directory: Path, title: str, steps: Sequence[tuple[str, Sequence[Mapping[str, Path]]]], curves: Mapping[str, Path]
) -> None:
    """Writes `index.html` of a training: its curves, then what it showed, in the given order.

    steps: heading and rows of each; a row maps labels to pictures.  curves: name -> picture.
    """
    with open_page(directory, title):
        if curves:
            with tags.section(cls="card curves"):
                for name, picture in curves.items():
                    tags.img(src=relative_link(directory, picture), alt=f"curve of {name}")
        for heading, rows in steps:
            with tags.section(cls="card"):
                tags.h2(heading)
                with tags.div(cls="wide"), tags.table():
                    for row in rows:
                        with tags.tr():
                            for label, picture in row.items():
                                with tags.td():
                                    add_picture(directory, picture, label)


@contextlib.contextmanager
def open_page(directory: Path, title: str, name: str = "index.html") -> Iterator[None]:
    """Tags made inside the block become a page in the style of all of them, written at its end."""
    page = document(title=title)
    page["lang"] = "en"
    with page.head:
        tags.meta(charset="utf-8")
        tags.meta(name="generator", content=MARK)
        tags.meta(name="viewport", content="width=device-width, initial-scale=1")
        tags.style(raw(_STYLE))
    with page:
        tags.h1(title)
        yield
    write_text(directory / name, page.render())


def add_picture(directory: Path, picture: Path, caption: str) -> None:
    """Adds a picture with its caption below; a browser loads it when it comes into view."""
    with tags.figure():
        tags.img(src=relative_link(directory, picture), alt=caption, loading="lazy")
        tags.figcaption(caption)


def add_definitions(facts: Mapping[str, str]) -> None:
    with tags.dl():
        for name, value in facts.items():
            tags.dt(name)
            tags.dd(value)


def relative_link(directory: Path, path: Path) -> str:
    """A link from a page in `directory` that works for every file name, also after both were moved."""
    return quote(Path(os.path.relpath(path, directory)).as_posix())


def _card(directory: Path, row: Mapping[str, Any]) -> None:
    outputs = [Path(output) for output in row["outputs"]]
    with tags.section(cls=f"card {row['status']}"):
        tags.h2(row["name"])
        if row["status"] == "failed":
            tags.p(f"This row failed: {row['error']}", cls="say")
        elif row["status"] == "interrupted":
            tags.p("This row was interrupted; run the same command with --resume to finish it.", cls="say")
        with tags.div(cls="media"):
            for video in (output for name in _VIDEOS for output in outputs if output.name == name and output.is_file()):
                with tags.figure():
                    source = relative_link(directory, video)
                    tags.video(src=source, controls=True, preload="metadata", playsinline=True)
                    tags.figcaption(_VIDEOS[video.name])
            for folder in (output for output in outputs if output.name in _THUMBNAILS):
                for picture in sorted(folder.glob(f"{folder.name}0.*"))[:1]:
                    add_picture(directory, picture, _THUMBNAILS[folder.name])
        add_definitions(_facts(row))


def _facts(row: Mapping[str, Any]) -> dict[str, str]:
    facts = {"row": str(row["row"])}
    if row["frames"]:
        reused = f" ({row['frames_reused']} from an earlier run)" if row["frames_reused"] else ""
        facts["frames"] = f"{row['frames']}{reused}, {row['frames'] / FPS:.2f} s"
        facts["time"] = f"{row['seconds']:.1f} s, {row['fps']:.2f} frames a second"
    if row["made_with"]:
        facts["made with"] = row["made_with"]
    if row.get("blinks"):
        facts["blinks"] = row["blinks"]
    return facts | {name: str(value) for name, value in row["inputs"].items() if value}
