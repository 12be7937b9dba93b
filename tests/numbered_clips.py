"""Small videos whose pictures tell their own number, for tests of training data; lengths in frames at 25 fps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from data.clip_list import ClipRecord
from tests.conftest import voice

RATE_HZ = 16000
_LUMA_START, _LUMA_STEP = 20, 3  # up to 70 numbers


def write_numbered(
    path: Path,
    count: int,
    size: int = 224,
    keys_every: int = 250,
    b_frames: int = 0,
    wave: np.ndarray | None = None,
    first_number: int = 0,
) -> ClipRecord:
    """Writes an mp4 whose frame k is flat grey number first_number + k, lossless; with `wave`, its 16 kHz sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.options = {"qp": "0", "preset": "veryfast", "g": str(keys_every), "bf": str(b_frames)}
        video.options |= {"sc_threshold": "0", "b_adapt": "0"} if b_frames else {"sc_threshold": "0"}
        sound = container.add_stream("aac", rate=RATE_HZ, layout="mono") if wave is not None else None
        for k in range(count):
            planes = np.full((size * 3 // 2, size), 128, np.uint8)
            planes[:size] = _LUMA_START + _LUMA_STEP * (first_number + k)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and wave is not None:
            for first in range(0, len(wave), 1024):
                chunk = av.AudioFrame.from_ndarray(
                    wave[None, first : first + 1024].astype(np.float32), format="fltp", layout="mono"
                )
                chunk.sample_rate, chunk.pts, chunk.time_base = RATE_HZ, first, Fraction(1, RATE_HZ)
                container.mux(sound.encode(chunk))
            container.mux(sound.encode(None))
    return ClipRecord(path, None, count, path.parent.name, 0)


def write_tree(root: Path, speakers: int = 2, clips: int = 2, count: int = 40, size: int = 224) -> Path:
    """A tree laid out like VoxCeleb2 below `root`: speaker s, clip c starts with number 5 * c; sound inside."""
    for s in range(speakers):
        for c in range(clips):
            path = root / "dev" / "mp4" / f"id{s:05d}" / "video" / f"{c:05d}.mp4"
            write_numbered(path, count, size, 12, 2, voice(count / 25, seed=10 * s + c), first_number=5 * c)
    return root


def numbers_in(frames: np.ndarray) -> list[int]:
    """(N, 3, S, S) uint8 -> the number each frame shows."""
    luma = 16 + frames.reshape(len(frames), -1).mean(axis=1) * 219 / 255
    return [round((y - _LUMA_START) / _LUMA_STEP) for y in luma]
