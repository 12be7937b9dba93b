"""Sheets of generated synthetic people beside the truth, to be looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from data.synthetic.clips import Performance, combine, make_identity, make_scene, render_states
from models.av_model import AvModel
from scripts.synthetic.figures import CONDITIONS, encode, generate, to_images
from scripts.synthetic.speakers import Speaker, as_seen

_SHEET_COLUMNS, _SHEET_BLOCKS = 8, 3
_MOMENTS, _MOMENT_PEOPLE, _MOMENTS_A_ROW = 20, 5, 10


def contact_sheet(model: AvModel, speakers: Sequence[Speaker]) -> np.ndarray:
    """Some people with the head motion and the sound of others, to be looked at.

    Returns:
        uint8 RGB; in blocks of four rows: reference, pose source, truth (rendered), generated; 8 moments side by side.
    """
    blocks = []
    for i in range(min(_SHEET_BLOCKS, len(speakers))):
        person, posing, speaking = (speakers[(i + shift) % len(speakers)] for shift in (0, *CONDITIONS["cross"]))
        moments = np.linspace(0, len(person.frames) - 1, _SHEET_COLUMNS).round().astype(int)
        moved = dataclasses.replace(posing, frames=posing.frames[moments])
        spoken = torch.from_numpy(speaking.windows[moments])
        pose = model.encode_pose(to_images(moved.frames))
        identity = model.encode_identity(to_images(person.reference[None]))
        made = generate(model, identity, model.encode_speech(spoken), pose)
        truth = _rendered(person, posing, speaking, moments)
        rows = [person.reference[None].repeat(len(moments), 0), moved.frames, truth, made]
        blocks.append(np.vstack([np.hstack([face.transpose(1, 2, 0) for face in row]) for row in rows]))
    return np.vstack(blocks)


def moments_sheet(model: AvModel, speakers: Sequence[Speaker]) -> np.ndarray:
    """People with their own head motion and sound, full size.

    Returns:
        uint8 RGB; 20 moments of 5 people, 10 side by side: a row of the truth, below it what was generated.
    """
    rows = []
    for person in speakers[:_MOMENT_PEOPLE]:
        at = np.linspace(0, len(person.frames) - 1, _MOMENTS).round().astype(int)
        shown = dataclasses.replace(person, frames=person.frames[at], windows=person.windows[at])
        codes = encode(model, shown)
        made = generate(model, codes.identity, codes.mouth, codes.pose)
        for start in range(0, _MOMENTS, _MOMENTS_A_ROW):
            part = slice(start, start + _MOMENTS_A_ROW)
            both = shown.frames[part], made[part]
            rows += [np.hstack([face.transpose(1, 2, 0) for face in faces]) for faces in both]
    return np.vstack(rows)


def _rendered(person: Speaker, posing: Speaker, speaking: Speaker, moments: np.ndarray) -> np.ndarray:
    """What a perfect model would make: (len(moments), 3, S, S) uint8 RGB."""
    mouth, pose = (Performance(who.states[moments], (), np.zeros(0, np.float32)) for who in (speaking, posing))
    states = combine(mouth, pose).states
    pictures = render_states(make_identity(person.seed), states, make_scene(person.scene_seed))
    return as_seen(pictures, person.frames.shape[-1])
