"""What a training shows while it runs: `loss_log.jsonl`, TensorBoard, and a page of pictures and curves; rank 0 only.

directory/loss_log.jsonl    one line of numbers per call of `scalars`
directory/tensorboard/      the same, and the pictures
directory/web/index.html    the newest steps first, with curves on top; plain files that can be copied anywhere
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import MediaError
from util.files import make_directory, safe_name, write_bytes, write_json, write_text, writing
from util.html import write_training_page
from util.json_files import read_json, read_json_lines
from util.log import warn_once
from util.plot import Curve, draw_panel, write_png

STEPS_ON_PAGE = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Shown:
    """One step of the page: its rows, each a mapping of label to file name in web/images."""

    step: int
    rows: list[dict[str, str]]


class Visualizer:
    """Writes numbers and pictures of a training into its folder, which is made.

    resume_step: the step the training goes on from; what an earlier run showed of later steps is dropped. 0 is a new
    training, and starts a new log. Raises MediaError: the folder or the log cannot be written.
    """

    def __init__(
        self, directory: Path, use_html: bool = True, use_tensorboard: bool = True, resume_step: int = 0
    ) -> None:
        self._directory = make_directory(directory)
        self._web = self._directory / "web"
        self._steps_path = self._web / "steps.json"
        self._log_path = self._directory / "loss_log.jsonl"
        _forget_after(self._log_path, resume_step)
        self._use_html = use_html
        self._shown = _read_shown(self._steps_path, resume_step) if use_html else []
        self._writer = _open_tensorboard(self._directory / "tensorboard", resume_step) if use_tensorboard else None

    def scalars(self, step: int, values: Mapping[str, float], epoch: float, images_per_s: float) -> None:
        """Adds a line to the log, and the values to TensorBoard. Raises MediaError when the disk refuses.

        step: of the optimiser, counted from 1.  values: such as {"loss/G/gan": 0.7}; what is not finite is written as
        null.  images_per_s: target frames a second, of all ranks together; 0: not measured, left out.
        """
        speed = {"images_per_s": images_per_s} if images_per_s else {}
        numbers = {"epoch": epoch, **speed, **values}
        finite = {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
        with writing(self._log_path):
            with self._log_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **finite}) + "\n")
            if self._writer is not None:
                for name, value in numbers.items():
                    self._writer.add_scalar(name, value, step)

    def images(self, step: int, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Writes pictures under web/images and to TensorBoard, and the page anew. Raises MediaError as `scalars`.

        rows: one per clip, each from label (input, target, generated ...) to (H, W, 3) uint8 RGB.
        """
        if self._writer is not None:
            with writing(self._directory / "tensorboard"):
                for number, row in enumerate(rows):
                    for label, image in row.items():
                        self._writer.add_image(f"row{number}/{label}", image, step, dataformats="HWC")
        if self._use_html:
            shown = _Shown(step, [self._write_row(step, number, row) for number, row in enumerate(rows)])
            self._shown = [shown, *(s for s in self._shown if s.step != step)][:STEPS_ON_PAGE]
            write_json(self._steps_path, [asdict(s) for s in self._shown])
            self._write_page()

    def close(self) -> None:
        """Ends the TensorBoard file and writes the page with the curves up to the end. May be called twice."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._use_html:
            self._write_page()

    def _write_row(self, step: int, number: int, row: Mapping[str, np.ndarray]) -> dict[str, str]:
        from PIL import Image

        folder = make_directory(self._web / "images")
        names = {label: f"step{step:08d}_{number}_{safe_name(label)}.jpg" for label in row}
        for label, image_rgb in row.items():
            buffer = io.BytesIO()
            Image.fromarray(image_rgb).save(buffer, "JPEG", quality=92)
            write_bytes(folder / names[label], buffer.getvalue())
        return names

    def _write_page(self) -> None:
        folder = make_directory(self._web / "curves")
        curves = curves_of(read_log(self._log_path)) if self._log_path.is_file() else {}
        pictures = {name: folder / f"{safe_name(name)}.png" for name in curves}
        for name, path in pictures.items():
            write_png(path, draw_panel(name, {name: curves[name]}))
        images = self._web / "images"
        steps = [
            (f"step {shown.step}", [{label: images / name for label, name in row.items()} for row in shown.rows])
            for shown in self._shown
        ]
        write_training_page(self._web, f"Training of {self._directory.name}", steps, pictures)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Reads `loss_log.jsonl`, without damaged lines, such as a kill in the middle of writing leaves."""
    return [entry for entry in read_json_lines(path, dict[str, Any]) if isinstance(entry.get("step"), int)]


def curves_of(entries: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Every number of the log over the steps, by name, in order of appearance; values that are no number are gaps."""
    points: dict[str, list[tuple[int, float]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name not in ("step", "epoch") and isinstance(value, (int, float)) and math.isfinite(value):
                points.setdefault(name, []).append((entry["step"], value))
    return {
        name: Curve(np.array([step for step, _ in pairs]), np.array([value for _, value in pairs], dtype=np.float64))
        for name, pairs in points.items()
    }


def _forget_after(log: Path, step: int) -> None:
    """Drops the lines of later steps and damaged ones, so that a resumed training has every step once."""
    if not log.exists():
        return
    entries = read_log(log)
    kept = [entry for entry in entries if entry["step"] <= step]
    if len(kept) < len(entries):
        _log.info("%s: dropped %d lines of an earlier run after step %d", log, len(entries) - len(kept), step)
    write_text(log, "".join(json.dumps(entry) + "\n" for entry in kept))


def _read_shown(path: Path, last_step: int) -> list[_Shown]:
    """What the page showed up to a step, newest first; nothing when its list is missing or damaged."""
    if not path.exists():
        return []
    try:
        stored = read_json(path, list[_Shown])
    except MediaError as error:
        _log.warning("%s; the page starts anew", error)
        return []
    return [shown for shown in stored if shown.step <= last_step]


def _open_tensorboard(directory: Path, resume_step: int) -> Any:
    """A SummaryWriter, or None without the package TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        warn_once(_log, "no TensorBoard logs are written; install them with `pip install tensorboard`")
        return None
    make_directory(directory)
    with writing(directory):
        return SummaryWriter(str(directory), purge_step=resume_step + 1)
