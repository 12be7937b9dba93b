#!/usr/bin/env python3
"""Draws docs/demo.gif, the picture at the top of README.md, from results of test.py; 12.5 frames a second.

  bash experiments/demo_vox.sh --gpu_ids -1 --frame_format png
  python docs/demo_picture.py results

A row a result: reference, head from, generated, and below them how loud the voice is, with a mark at the frame's time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from data.audio import load_audio  # noqa: E402
from data.results import find_columns, generated_column, noted_audio  # noqa: E402
from options.config import FPS, INPUT, POSE, SAMPLE_RATE_HZ  # noqa: E402
from util.cli import Command  # noqa: E402

STEP = 2  # of the frames every second: browsers slow down what is faster
SIDE, GAP, TITLE, VOICE = 160, 6, 24, 26  # pixels
WIDTH = 3 * SIDE + 4 * GAP
ROW = SIDE + VOICE + GAP
PAPER, INK, BARS, MARK = (255, 255, 255), (40, 40, 40), (170, 185, 205), (200, 60, 50)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="folder of results, the first two of which are shown")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "demo.gif", help="the picture")


def run(args: argparse.Namespace) -> None:
    pages = list(draw_pages(sorted(args.results.glob("id_*"))[:2]))
    # one palette for all frames: what does not move then stays the same, and takes no room
    sample = Image.fromarray(np.concatenate([np.asarray(page) for page in pages[::10]]))
    palette = sample.quantize(128, dither=Image.Dither.NONE)  # with more colours the file would exceed 3 MB
    frames = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    duration_ms = 1000 * STEP // FPS
    frames[0].save(args.output, save_all=True, append_images=frames[1:], duration=duration_ms, loop=0, optimize=False)
    print(f"{args.output}: {len(frames)} frames, {args.output.stat().st_size / 1e6:.2f} MB")


def draw_pages(results: Sequence[Path]) -> Iterator[Image.Image]:
    """The pictures, until the shortest result ends."""
    rows = [list(draw_row(result)) for result in results]
    font = ImageFont.load_default(15)
    for parts in zip(*rows, strict=False):
        page = Image.new("RGB", (WIDTH, TITLE + len(parts) * ROW), PAPER)
        draw = ImageDraw.Draw(page)
        for number, title in enumerate(("reference", "head from", "generated")):
            centre = GAP + number * (SIDE + GAP) + SIDE // 2
            draw.text((centre, TITLE // 2), title, INK, font, anchor="mm")
        for number, part in enumerate(parts):
            page.paste(part, (0, TITLE + number * ROW))
        yield page


def draw_row(result: Path) -> Iterator[Image.Image]:
    """One result: three columns above its voice, every `STEP`-th frame."""
    columns = find_columns(result)
    found = {column.prefix: column for column in columns}
    shown = [found[INPUT], found[POSE], generated_column(result, columns)]
    wave = load_audio(noted_audio(result))
    count = shown[-1].count
    for number in range(0, count, STEP):
        row = Image.new("RGB", (WIDTH, ROW), PAPER)
        for place, column in enumerate(shown):
            with Image.open(column.path(number)) as picture:
                row.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (GAP + place * (SIDE + GAP), 0))
        draw_voice(ImageDraw.Draw(row), wave, number / FPS, count / FPS)
        yield row


def draw_voice(draw: ImageDraw.ImageDraw, wave: np.ndarray, now_s: float, length_s: float) -> None:
    """Bars as high as the sound is loud, four pixels each, and a mark at the time of the frame."""
    middle, bars = SIDE + VOICE // 2, (WIDTH - 2 * GAP) // 4
    pieces = np.array_split(wave[: round(length_s * SAMPLE_RATE_HZ)], bars)
    loudness = np.array([np.sqrt(np.mean(np.square(piece))) for piece in pieces])
    for number, height in enumerate((VOICE - 8) / 2 * loudness / loudness.max()):
        left = GAP + 4 * number
        draw.rectangle((left, middle - height, left + 2, middle + height), BARS)
    mark = GAP + round((WIDTH - 2 * GAP) * now_s / length_s)
    draw.rectangle((mark, middle - VOICE // 2 + 2, mark + 1, middle + VOICE // 2 - 2), MARK)


main = Command(__doc__, add_flags, run)


if __name__ == "__main__":
    sys.exit(main())
