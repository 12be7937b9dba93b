"""Folders of pose frames without a video: a pose programme shown by the synthetic head, made once and found again."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np

from data.audio import full_frames, load_audio, scan_audio
from data.faces.head_pose import video_angles
from data.frames import write_image
from data.head_motion import motion_statistics
from data.pose_programme import PoseProgramme
from data.prepared import NOTE_FORMAT, Prepared, Shelf, SourceNote, prepared_name
from data.synthetic.clips import RENDERER_VERSION
from data.synthetic.pose_head import render_poses
from options.config import ANGLES, FPS, AlignOptions
from util.errors import MediaError
from util.files import write_bytes
from util.log import progress

ANGLES_NAME = "angles.csv"  # what the head shows, a line a frame
_REPEATED_S = 60.0  # of a motion that goes on for longer: the generator plays it forth and back
_FORMAT = 1  # raised when the same programme would come out differently


def make_pose_folder(
    parent: Path, programme: PoseProgramme, seed: int, sound: Path | int, faces: AlignOptions | None = None
) -> Prepared:
    """A folder of frames `%06d.jpg` below `parent` that shows a programme.

    Args:
        sound: the recording whose length it gets, and which the motion `speak` follows; or a number of frames.
        faces: how landmarks are found in the video of the motion `like`.

    Raises:
        MediaError: sound or video cannot be read, `speak` without a sound, or the disk refuses.
        AlignmentError: no face in the video.
    """
    count = sound if isinstance(sound, int) else len(full_frames(scan_audio(sound).num_samples))
    if programme.may_repeat:
        count = min(count, round(_REPEATED_S * FPS))
    wave = load_audio(sound) if programme.motion == "speak" and not isinstance(sound, int) else None
    if wave is None and programme.motion == "speak":
        raise MediaError("the motion 'speak' follows a recording; give one")
    like = None if programme.like is None else _statistics(programme.like, faces or AlignOptions())
    angles = programme.angles(count, seed, wave, like)
    options = {"format": _FORMAT, "renderer": RENDERER_VERSION, "seed": seed, "frames": count}
    digest = hashlib.sha256(np.round(angles, 3).astype("<f4").tobytes()).hexdigest()
    # with all that makes it in its name, no programme takes the place of another
    source = f"pose:{programme.words} {json.dumps(options)} {digest[:16]}"
    origin = SourceNote(NOTE_FORMAT, source, digest, options)
    return Shelf(parent).get(prepared_name(Path(programme.name)), origin, lambda part: _write(part, angles))


@functools.cache  # rows of a batch may name the same video
def _statistics(video: Path, faces: AlignOptions) -> np.ndarray:
    if not os.path.exists(video):  # pathlib raises for names no disk can hold
        raise MediaError(f"like:{video}: no such video or folder of frames")
    return motion_statistics(video_angles(video, faces))


def _write(folder: Path, angles: np.ndarray) -> None:
    frames = progress(render_poses(angles), total=len(angles), unit="frame", desc="pose head")
    for number, frame in enumerate(frames):
        write_image(folder / f"{number:06d}.jpg", frame)
    table = io.StringIO()
    np.savetxt(table, angles, fmt="%.3f", delimiter=",", header=",".join(ANGLES), comments="")
    write_bytes(folder / ANGLES_NAME, table.getvalue().encode())
