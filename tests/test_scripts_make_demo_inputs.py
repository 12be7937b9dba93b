"""Sample inputs of the bundled model: complete rows, the same files every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.audio import load_audio
from data.frames import list_frames, read_image
from data.metadata import read_rows
from scripts import make_demo_inputs


def test_rows_name_files_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(make_demo_inputs, "FRAMES", 10)
    monkeypatch.setattr(make_demo_inputs, "POSE_FRAMES", 3)
    monkeypatch.chdir(tmp_path)
    assert make_demo_inputs.main(["--misc_dir", "misc"]) == 0
    first = {p: p.read_bytes() for p in sorted(Path("misc").rglob("*")) if p.is_file()}
    rows = read_rows(Path("misc/demo.csv"))
    assert len(rows) == 2
    for row in rows:
        clip = row.clip()
        assert len(list_frames(clip.reference_dir)) == 1
        assert len(list_frames(clip.pose_dir)) == clip.num_pose_frames == 3
        assert len(load_audio(clip.audio)) == 10 * 640
        assert read_image(clip.reference_dir / "000000.jpg").shape == (224, 224, 3)
    assert make_demo_inputs.main(["--misc_dir", "misc"]) == 0
    assert {p: p.read_bytes() for p in first} == first
