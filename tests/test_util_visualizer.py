"""What a training shows: the log over a resume, TensorBoard events, the page, and disks that refuse."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util import visualizer
from util.errors import MediaError
from util.visualizer import Visualizer, curves_of, read_log


def _row(value: int = 128, labels: tuple[str, ...] = ("input", "target", "generated")) -> dict[str, np.ndarray]:
    return {label: np.full((8, 8, 3), (value, 20 * i, 0), dtype=np.uint8) for i, label in enumerate(labels)}


def _plain(directory: Path, resume_step: int = 0) -> Visualizer:
    return Visualizer(directory, use_tensorboard=False, resume_step=resume_step)


def _lines(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "loss_log.jsonl").read_text().splitlines()]


def _page(directory: Path) -> str:
    return (directory / "web" / "index.html").read_text(encoding="utf-8")


def test_import_needs_nothing_heavy() -> None:
    code = "import sys, util.visualizer; assert not {'torch', 'PIL', 'matplotlib', 'scipy'} & set(sys.modules)"
    root = Path(visualizer.__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_read_log_leaves_damaged_lines_out(tmp_path: Path) -> None:
    log = tmp_path / "loss_log.jsonl"
    log.write_text('{"step": 1, "a": 2}\nnonsense\n[3]\n{"a": 4}\n{"step": 2, "a": 5}\n{"step": 3, "a"')
    assert [entry["a"] for entry in read_log(log)] == [2, 5]


def test_read_log_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone.jsonl: cannot be read: No such file"):
        read_log(tmp_path / "gone.jsonl")


def test_curves_of_gaps_and_rare_values_keep_their_steps() -> None:
    curves = curves_of([{"step": 5, "epoch": 1, "a": 1.0, "b": None}, {"step": 9, "a": None, "b": 2, "c": "text"}])
    assert {name: (c.steps.tolist(), c.values.tolist()) for name, c in curves.items()} == {
        "a": ([5], [1.0]),
        "b": ([9], [2.0]),
    }


def test_scalars_append_one_line_each_at_once(tmp_path: Path) -> None:
    shown = _plain(tmp_path / "new")
    shown.scalars(1, {"loss/G/gan": 0.5, "loss/D": float("nan")}, epoch=0.25, images_per_s=12.5)
    shown.scalars(2, {"loss/G/gan": np.float32(0.25)}, epoch=0.5, images_per_s=13)  # type: ignore[dict-item]
    shown.scalars(2, {"val/ssim": 0.75}, epoch=0.5, images_per_s=0)
    assert _lines(tmp_path / "new") == [
        {"step": 1, "epoch": 0.25, "images_per_s": 12.5, "loss/G/gan": 0.5, "loss/D": None},
        {"step": 2, "epoch": 0.5, "images_per_s": 13.0, "loss/G/gan": 0.25},
        {"step": 2, "epoch": 0.5, "val/ssim": 0.75},
    ]


def test_resume_drops_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    first = _plain(tmp_path)
    for step in range(1, 6):
        first.scalars(step, {"a": step}, epoch=0, images_per_s=1)
    with (tmp_path / "loss_log.jsonl").open("a") as file:
        file.write('{"step": 6, "a"')
    second = _plain(tmp_path, resume_step=3)
    second.scalars(4, {"a": 40}, epoch=0, images_per_s=1)
    assert [(line["step"], line["a"]) for line in _lines(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    _plain(tmp_path)
    assert _lines(tmp_path) == []


def test_images_newest_step_first_with_labels_in_order(tmp_path: Path) -> None:
    shown = _plain(tmp_path)
    shown.images(5, [_row(10), _row(20)])
    shown.scalars(5, {"loss/G": 1.0}, epoch=0, images_per_s=1)
    shown.images(1234, [_row(30), _row(200, ("pose <source>",))])
    links = re.findall(r'src="(images/[^"]+)"', _page(tmp_path))
    assert links == [
        "images/step00001234_0_input.jpg", "images/step00001234_0_target.jpg", "images/step00001234_0_generated.jpg",
        "images/step00001234_1_pose%20_source_.jpg",
        "images/step00000005_0_input.jpg", "images/step00000005_0_target.jpg", "images/step00000005_0_generated.jpg",
        "images/step00000005_1_input.jpg", "images/step00000005_1_target.jpg", "images/step00000005_1_generated.jpg",
    ]  # fmt: skip
    assert _page(tmp_path).count("<tr>") == 4
    assert "<figcaption>pose &lt;source&gt;</figcaption>" in _page(tmp_path)
    assert "http" not in re.sub(r"<!DOCTYPE[^>]*>", "", _page(tmp_path))
    picture = np.asarray(Image.open(tmp_path / "web/images/step00001234_1_pose _source_.jpg"))
    np.testing.assert_allclose(picture[4, 4], (200, 0, 0), atol=6)


def test_images_of_one_step_twice_replace_each_other_and_a_resume_hides_later_ones(tmp_path: Path) -> None:
    shown = _plain(tmp_path)
    for step in (10, 20, 20, 30):
        shown.images(step, [_row()])
    assert re.findall(r"<h2>step (\d+)</h2>", _page(tmp_path)) == ["30", "20", "10"]
    _plain(tmp_path, resume_step=20).images(25, [_row()])
    assert re.findall(r"<h2>step (\d+)</h2>", _page(tmp_path)) == ["25", "20", "10"]


def test_page_keeps_the_newest_steps_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visualizer, "STEPS_ON_PAGE", 3)
    shown = _plain(tmp_path)
    for step in range(1, 6):
        shown.images(step, [_row(labels=("input",))])
    assert re.findall(r"<h2>step (\d+)</h2>", _page(tmp_path)) == ["5", "4", "3"]
    assert len(list((tmp_path / "web" / "images").iterdir())) == 5


def test_page_shows_a_curve_per_quantity_and_close_brings_it_up_to_date(tmp_path: Path) -> None:
    shown = _plain(tmp_path)
    shown.images(1, [_row()])
    assert "curves/" not in _page(tmp_path)
    for step in (1, 2, 3):
        shown.scalars(step, {"loss/G/gan": 1 / step}, epoch=0, images_per_s=1)
    shown.close()
    assert re.findall(r'src="(curves/[^"]+)"', _page(tmp_path)) == ["curves/images_per_s.png", "curves/loss_G_gan.png"]
    assert Image.open(tmp_path / "web" / "curves" / "loss_G_gan.png").size == (640, 400)


def test_damaged_list_of_steps_starts_the_page_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _plain(tmp_path).images(1, [_row()])
    (tmp_path / "web" / "steps.json").write_text('[{"step": 1}]')
    with caplog.at_level(logging.WARNING):
        _plain(tmp_path, resume_step=1).images(2, [_row()])
    assert re.search(r"steps.json: .*missing required field `rows`.*; the page starts anew", caplog.text)
    assert re.findall(r"<h2>step (\d+)</h2>", _page(tmp_path)) == ["2"]


def test_no_html_writes_no_page(tmp_path: Path) -> None:
    shown = Visualizer(tmp_path, use_html=False, use_tensorboard=False)
    shown.images(1, [_row()])
    shown.scalars(1, {"a": 1}, epoch=0, images_per_s=1)
    shown.close()
    assert [p.name for p in tmp_path.iterdir()] == ["loss_log.jsonl"]


def test_tensorboard_holds_each_step_once_after_a_resume(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for resume_step, steps in ((0, (1, 2, 3, 4)), (2, (3, 4))):
        shown = Visualizer(tmp_path, use_html=False, resume_step=resume_step)
        for step in steps:
            shown.scalars(step, {"loss/a": 10 * resume_step + step}, epoch=step / 4, images_per_s=1)
        shown.images(4, [_row()])
        shown.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/a")] == [(1, 1), (2, 2), (3, 23), (4, 24)]
    assert events.Tags()["images"] == ["row0/input", "row0/target", "row0/generated"]
    assert {"epoch", "images_per_s"} <= set(events.Tags()["scalars"])


def test_missing_tensorboard_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            shown = Visualizer(tmp_path, use_html=False)
            shown.scalars(1, {"a": 1}, epoch=0, images_per_s=1)
            shown.images(1, [_row()])
            shown.close()
    assert [r.getMessage() for r in caplog.records if "TensorBoard" in r.getMessage()] == [
        "no TensorBoard logs are written; install them with `pip install tensorboard`"
    ]


def test_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="file: the folder cannot be made"):
        Visualizer(tmp_path / "file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_line_that_names_the_log(tmp_path: Path) -> None:
    shown = _plain(tmp_path)
    (tmp_path / "loss_log.jsonl").symlink_to("/dev/full")
    with pytest.raises(MediaError, match=r"loss_log.jsonl: cannot be written: No space left"):
        shown.scalars(1, {"a": 1}, epoch=0, images_per_s=1)


def test_pictures_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    shown = _plain(tmp_path)
    (tmp_path / "web").touch()
    with pytest.raises(MediaError, match="images: the folder cannot be made"):
        shown.images(1, [_row()])
