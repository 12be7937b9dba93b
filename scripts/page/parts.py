"""What all tabs share: components that take uploads as they are, and errors as sentences."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from scripts.page.commands import Places
from scripts.page.jobs import ENDED, Job, JobQueue
from util.errors import PcavsError, printable

_LOOK_S = 0.7


@dataclass(frozen=True)
class Page:
    """What the tabs work with."""

    places: Places
    queue: JobQueue

    def new_job(self, kind: str, title: str, folder: Path, commands: tuple[str, ...], model: str = "") -> Job:
        return Job(folder, kind, title, commands, time.time(), model)


def as_it_is(component: Any) -> Any:
    """Lets a component hand on the path of an upload unopened: Gradio would decode it, however large, in the page."""
    component.preprocess = lambda payload: payload.path if payload is not None else None
    return component


def unchecked(component: Any) -> Any:
    """Lets a list hand on any choice, for Gradio knows only those that were there when the page was started."""
    component.preprocess = lambda payload: payload
    return component


def command_box() -> Any:
    """Commands, and a button that copies them; Gradio's own takes the label away from the text."""
    box = gr.Textbox(
        label="The same from the command line", lines=4, max_lines=8, interactive=False, elem_classes="command"
    )
    copy = gr.Button("Copy the commands", size="sm")
    copy.click(None, box, None, js="text => { navigator.clipboard.writeText(text); }")
    return box


@contextlib.contextmanager
def sentences(folder: Path | None = None) -> Iterator[None]:
    """Shows an error that a user can cause as the sentence that the command line prints."""
    try:
        yield
    except PcavsError as error:
        text = str(error).replace(f"{folder / 'input'}/", "") if folder is not None else str(error)
        raise shown_error(text) from None


def shown_error(text: str) -> gr.Error:
    """An error for the visitor; its text would else be taken for HTML."""
    return gr.Error(escape(printable(text)), duration=None, print_exception=False)


async def looks(job: Job) -> AsyncIterator[Job]:
    """Yields a job at once, now and then while it waits or runs, and at its end."""
    yield job
    while job.state not in ENDED:
        await asyncio.sleep(_LOOK_S)
        if not os.path.isdir(job.folder):
            return
        yield job
