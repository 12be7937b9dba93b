"""The report of a personal model: as text, JSON and a page with pictures; its model card, and a row to start from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from dominate import tags

from data.frames import write_image
from data.metadata import write_rows
from models.trainers.loop import Best
from options.config import TRAINED_ON
from scripts.personal.intake import Check
from scripts.personal.measure import Measured
from scripts.personal.plan import Plan
from scripts.personal.watch import WEIGHTS
from util.files import MARK, make_directory, write_json, write_text
from util.html import add_picture, open_page
from util.json_files import to_builtins

SIDES = ("base", "personal", "truth")
REPORT_JSON, REPORT_TEXT, REPORT_PAGE, CARD = "report.json", "report.txt", "report.html", "README.md"
_SHOWN = 8  # frames of a strip
# figure -> what it is, digits
_ROWS = {
    "identity": ("identity, dlib's cosine to the person", 3),
    "cpbd": ("sharpness, CPBD", 3),
    "detail": ("fine structure, part of the truth's", 2),
    "ssim": ("SSIM", 3),
    "lmd": ("LMD, mouth, px", 2),
    "mouth": ("mouth opening, correlation", 2),
    "yaw": ("yaw, correlation", 2),
    "pitch": ("pitch, correlation", 2),
    "offset": ("mouth behind the truth, frames", 0),
    "faces": ("frames with a face", 2),
    "yaw_control": ("yaw over 25 degrees to both sides, correlation", 2),
    "yaw_slope": ("degrees a degree of yaw", 2),
    "yaw_faces": ("its frames with a face", 2),
    "yaw_identity": ("its identity", 3),
    "pitch_control": ("pitch over 25 degrees up and down, correlation", 2),
    "pitch_slope": ("degrees a degree of pitch", 2),
    "pitch_faces": ("its frames with a face", 2),
    "pitch_identity": ("its identity", 3),
    "voices": ("mouth by two strangers' voices, correlation", 2),
    "voices_found": ("their sound found, 1 of 8, by the base's A_sync", 2),
}


@dataclass(frozen=True)
class Facts:
    """What the report says beside the figures."""

    plan: Plan
    best: Best
    why: str  # the training ended
    minutes: float
    train_s: float  # seconds of the person's clips
    num_photos: int
    checks: Sequence[Check]
    warnings: Sequence[str]


def write_report(directory: Path, facts: Facts, sides: Mapping[str, Measured]) -> str:
    """Writes report.json, .txt and .html; returns the text."""
    figures = {side: sides[side].figures for side in SIDES if side in sides}
    text = _text(facts, figures)
    plain = {s: {n: v if math.isfinite(v) else None for n, v in some.items()} for s, some in figures.items()}
    report = {
        "made_by": MARK, "plan": to_builtins(facts.plan), "best": to_builtins(facts.best), "ended": facts.why,
        "minutes": round(facts.minutes, 1), "seconds_of_clips": facts.train_s, "photos": facts.num_photos,
        "checks": [to_builtins(check) for check in facts.checks], "warnings": list(facts.warnings), "figures": plain,
    }  # fmt: skip
    write_json(directory / REPORT_JSON, report)
    write_text(directory / REPORT_TEXT, text)
    _write_page(directory, facts, sides, figures)
    write_text(directory / CARD, _card(facts, text))
    write_text(directory / TRAINED_ON, f"{facts.plan.name}, from {facts.plan.base.name}\n")
    return text


def _table(figures: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    lines = []
    for name, (title, digits) in _ROWS.items():
        cells = [figures[side].get(name, math.nan) if side in figures else math.nan for side in SIDES]
        if any(math.isfinite(value) for value in cells):
            lines.append([title, *("–" if not math.isfinite(v) else f"{v:.{digits}f}" for v in cells)])
    return lines


def _told(facts: Facts) -> list[str]:
    """The training in sentences."""
    plan, best = facts.plan, facts.best
    material = f"{facts.train_s:.1f} s of clips and {facts.num_photos} photos"
    took = f"{facts.minutes:.1f} minutes since the last start"
    lines = [f"{plan.name}: {material}, on {plan.base.name}, seed {plan.seed}; {took}."]
    if math.isfinite(best.score):
        parts = ", ".join(f"{name} x {weight:g}" for name, weight in WEIGHTS.items())
        lines.append(
            f"Kept: the weights of step {best.step} of {plan.steps}, the last with about the best score on the watched "
            f"part ({best.score:.3f}: {parts}, each from 0 to 1)."
        )
    if plan.use_all:
        lines.append(f"Then trained on everything for {best.step} steps; the figures are those of the watched run.")
    return lines


def _text(facts: Facts, figures: Mapping[str, Mapping[str, float]]) -> str:
    lines = [*_told(facts), "", f"{'on the held-out part':50}" + "".join(f"{side:>10}" for side in SIDES)]
    lines += [f"{title:50}" + "".join(f"{cell:>10}" for cell in cells) for title, *cells in _table(figures)]
    remarks = [*facts.warnings, *(check.words for check in facts.checks)]
    return "\n".join([*lines, "", *(f"- {remark}" for remark in remarks)]) + "\n"


def _card(facts: Facts, text: str) -> str:
    plan = facts.plan
    return (
        f"# {plan.name}\n\nA talking head of one person, fitted by `scripts/personalize.py` to {plan.base.name}. "
        "Videos that it makes are generated: say so where you show them. Make none of people who have not agreed.\n\n"
        f"    python test.py --name {plan.name} --meta_path_vox {_row_path(plan)} --driving_pose --input_id_feature "
        "--gen_video\n\n## Figures\n\n" + "".join(f"    {line}\n" for line in text.splitlines())
    )


def _write_page(
    directory: Path, facts: Facts, sides: Mapping[str, Measured], figures: Mapping[str, Mapping[str, float]]
) -> None:
    pictures = make_directory(directory / "report")
    with open_page(directory, f"{facts.plan.name}: a personal model", REPORT_PAGE):
        for line in _told(facts):
            tags.p(line, cls="say")
        for remark in facts.warnings:
            tags.p(f"Warning: {remark}", cls="say")
        with tags.section(cls="card"), tags.div(cls="wide"), tags.table():
            with tags.tr():
                for title in ("on the held-out part", *SIDES):
                    tags.th(title)
            for cells in _table(figures):
                with tags.tr():
                    for cell in cells:
                        tags.td(cell)
        for kind in dict.fromkeys(name for side in sides.values() for name in side.pictures):
            with tags.section(cls="card"):
                tags.h2(kind)
                for side in [s for s in ("truth", "base", "personal") if s in sides and kind in sides[s].pictures]:
                    path = pictures / f"{kind.replace(' ', '_').replace(chr(39), '')}_{side}.jpg"
                    write_image(path, strip(sides[side].pictures[kind]))
                    add_picture(directory, path, side)
        for check in facts.checks:
            tags.p(check.words, cls="say")


def strip(frames: np.ndarray) -> np.ndarray:
    """Some frames of (T, H, W, 3) uint8 RGB side by side: (H, W * n, 3) uint8 BGR."""
    places = np.linspace(0, len(frames) - 1, min(_SHOWN, len(frames))).round().astype(int)
    return cv2.cvtColor(np.hstack([frames[place] for place in places]), cv2.COLOR_RGB2BGR)


def _row_path(plan: Plan) -> Path:
    return plan.directory / f"{plan.name}.csv"


def write_row(plan: Plan, pose: tuple[Path, int] | None, audio: Path) -> Path:
    """The row to start from, in <name>.csv: the person, a folder of frames with the head motion, a sound."""
    folder, count = pose or (None, 0)
    write_rows(_row_path(plan), [[plan.reference, 1, folder, count, audio, None, 0, "dummy"]])
    return _row_path(plan)
