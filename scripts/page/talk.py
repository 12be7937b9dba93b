"""The tab Talk: a photo, a voice and a head become a video."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from data.faces.align_clip import SHEET_NAME
from scripts.page.commands import (
    BLINKS,
    HEADS,
    LONGEST_S,
    PROGRAMME,
    SILENCES,
    VIDEO,
    TalkSettings,
    crop_commands,
    models,
    talk_commands,
)
from scripts.page.jobs import ENDED, FAILED, FINISHED, MOST_WAITING, Job, keep_upload
from scripts.page.parts import Page, as_it_is, command_box, looks, sentences, shown_error, unchecked
from scripts.page.progress import files_of, pasted_of, picture, result_folder, show_job, show_words, video_of
from util.errors import OptionError

_CROP_S = 120.0  # the longest that looking for a face may take
_TIP = "Drop a photo of one face, or take one."


def build(page: Page, examples: dict[str, tuple[Path, Path]]) -> gr.Dropdown:
    """Adds the tab's components; returns the list of models.

    examples: name -> photo and voice, files that may be served.
    """
    mine = gr.State("")
    with gr.Row():
        with gr.Column():
            with gr.Row():
                buttons = [gr.Button(f"Example: {name}", size="sm") for name in examples]
            photo = as_it_is(
                gr.Image(label="Photo", type="filepath", image_mode=None, sources=["upload", "webcam"], height=260)
            )
            crop = gr.HTML(show_words(_TIP), label="The crop", elem_id="crop")
            voice = as_it_is(
                gr.Audio(
                    label=f"Voice, of {LONGEST_S // 60} minutes at most",
                    type="filepath",
                    sources=["upload", "microphone"],
                )
            )
            head = gr.Dropdown(HEADS, value=HEADS[0], label="Head", info="how it moves", filterable=False)
            programme = gr.Textbox(
                label="Programme", info="seconds and degrees", placeholder="0 yaw=0; 1.5 yaw=20 pitch=-5; 3 yaw=0",
                visible=False,
            )  # fmt: skip
            video = as_it_is(gr.Video(label="Video of a head", sources=["upload", "webcam"], visible=False))
            choices = models(page.places)
            model = unchecked(
                gr.Dropdown(choices, value=choices[0][1] if choices else None, label="Model", filterable=False)
            )
            with gr.Accordion("More", open=False):
                blink = gr.Dropdown(BLINKS, value=BLINKS[0], label="Blinking", filterable=False)
                silence = gr.Dropdown(SILENCES, value=SILENCES[0], label="Mouth in silence", filterable=False)
                pose_scale = gr.Slider(0, 2, 1, step=0.1, label="Motion of the head", info="0 is still")
                mouth_scale = gr.Slider(0, 2, 1, step=0.1, label="Opening of the mouth", info="0 is at rest")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                paste = gr.Checkbox(False, label="Put the face back into the photo")
        with gr.Column():
            with gr.Row():
                make = gr.Button("Make the video", variant="primary", elem_id="make")
                cancel = gr.Button("Cancel", variant="stop", elem_id="cancel")
            status = gr.HTML(elem_id="talk-status")
            made = gr.Video(label="Video", interactive=False, elem_id="made")
            pasted = gr.Video(label="In the photo", interactive=False, height=160)
            downloads = gr.Files(label="Downloads", interactive=False)
            command = command_box()

    head.change(
        lambda choice: (gr.update(visible=choice == PROGRAMME), gr.update(visible=choice == VIDEO)),
        head, [programme, video], show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    for button, files in zip(buttons, examples.values(), strict=True):
        button.click(functools.partial(_paths, files), None, [photo, voice], api_visibility="private")
    photo.change(
        functools.partial(show_crop, page), photo, crop,
        concurrency_limit=1, show_progress="minimal", api_visibility="private",
    )  # fmt: skip
    make.click(
        functools.partial(talk, page),
        [photo, voice, head, programme, video, model, blink, silence, pose_scale, mouth_scale, seed, paste],
        [made, pasted, downloads, command, status, mine],
        concurrency_limit=2 * MOST_WAITING, show_progress="hidden", api_name="talk",
    )  # fmt: skip
    cancel.click(functools.partial(stop, page), mine, None, queue=False, api_visibility="private")
    return model


def list_models(page: Page, chosen: str | None) -> Any:
    """The list as it is now; the choice stays where it can."""
    choices = models(page.places)
    names = [name for _, name in choices]
    return gr.update(choices=choices, value=chosen if chosen in names else next(iter(names), None))


def show_crop(page: Page, upload: str | None) -> str:
    """The face in a photo: where it was found, and its crop."""
    if not upload:
        return show_words(_TIP)
    folder = page.queue.new_folder()
    with sentences(folder):
        photo = keep_upload(upload, folder / "input")
        output = folder / "cropped"
        job = page.new_job("crop", "looking for the face", folder, crop_commands(photo, output))
        job = page.queue.run_now(job, _CROP_S)
    if job.state != FINISHED:
        return show_words(job.failure(), "failed")
    sheet = picture(output / SHEET_NAME, "the photo with the landmarks found, and below it the crop", 160)
    caption = "The face that is taken. Red crosses are where eyes and mouth should be."
    return f"<figure>{sheet}<figcaption>{caption}</figcaption></figure>"


async def talk(
    page: Page,
    photo: str | None,
    voice: str | None,
    head: str = HEADS[0],
    programme: str | None = None,
    video: str | None = None,
    model: str = "",
    blink: str = BLINKS[0],
    silence: str = SILENCES[0],
    pose_scale: float = 1.0,
    mouth_scale: float = 1.0,
    seed: float = 0,
    paste: bool = False,
) -> AsyncIterator[tuple[Any, ...]]:
    """Adds a job, and shows it until it has ended: video, pasted video, files, command, state, id."""
    folder = page.queue.new_folder()
    with sentences(folder):
        if not photo or not voice:
            raise OptionError(f"give a {'voice' if photo else 'photo'} first, or press an example")
        if model not in [name for _, name in models(page.places)]:
            raise OptionError(f"there is no model {model}")
        settings = TalkSettings(
            model, head, programme or "", blink, silence, float(pose_scale), float(mouth_scale), int(seed or 0), paste
        )
        kept_photo, kept_voice = keep_upload(photo, folder / "input"), keep_upload(voice, folder / "input")
        kept_video = keep_upload(video, folder / "input") if video else None
        lines = talk_commands(page.places, folder, kept_photo, kept_voice, kept_video, settings)
        title = f"{kept_photo.stem} speaks, by {model}"
        job = page.queue.add(page.new_job("talk", title, folder, lines, model))
    async for now in looks(job):
        yield (gr.skip(), gr.skip(), gr.skip(), job.command_line, show_job(now, page.queue), job.id)
    result = result_folder(job)
    yield (*_outcome(job, result), job.command_line, show_job(job, page.queue), job.id)
    if job.state == FAILED:
        raise shown_error(job.failure())


def _outcome(job: Job, result: Path | None) -> tuple[Any, Any, Any]:
    if result is None:
        return None, None, None
    pasted = pasted_of(result)
    return str(video_of(result)), pasted and str(pasted), files_of(job)


def stop(page: Page, job_id: str) -> None:
    job = page.queue.find(job_id) if job_id else None
    if job is None or job.state in ENDED:
        raise shown_error("nothing of yours is running")
    page.queue.cancel(job)


def _paths(files: tuple[Path, Path]) -> tuple[str, str]:
    return str(files[0]), str(files[1])
