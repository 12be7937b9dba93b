"""test.py --blink, with a tiny model in whose place the picture of a face comes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from data.synthetic.clips import FIRST_HELD_OUT, FaceState, make_identity, render_frame
from scripts.inference.blinks import ClipBlinks
from tests.conftest import Workspace

NAME = "id_a_pose_a_audio_a"
WHO = make_identity(FIRST_HELD_OUT)


@pytest.fixture
def faces(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A row whose pose video blinks in picture 20, and whose generated frames all show one face."""
    workspace.write_csv(workspace.add_inputs(seconds=4.5, pose_frames=40))
    for number in range(40):
        blink = float(np.interp(abs(number - 20), [0, 1, 2], [1, 0.6, 0]))
        path = workspace.misc / "Pose_Source" / "a" / f"{number:06d}.jpg"
        assert cv2.imwrite(str(path), render_frame(WHO, FaceState(blink=blink)))
    face = cv2.cvtColor(render_frame(WHO, FaceState()), cv2.COLOR_BGR2RGB)
    closing = ClipBlinks.apply
    monkeypatch.setattr(ClipBlinks, "apply", lambda self, index, _: closing(self, index, face))
    return workspace


def changed(workspace: Workspace) -> list[int]:
    """Numbers of frames that are not as the open ones."""
    frames = workspace.frames(NAME)
    return [number for number, frame in enumerate(frames) if frame != frames[0]]


def test_times_are_kept_and_reported(faces: Workspace) -> None:
    assert faces.run("--driving_pose", "--blink", "0.8,3.0") == 0
    assert changed(faces) == [19, 20, 21, 22, 74, 75, 76, 77]
    (row,) = faces.report()
    assert row["blinks"] == "at 0.80 3.00 s"
    assert "blink 0.8,3.0, noise" in row["made_with"]
    assert "at 0.80 3.00 s" in (faces.results / "index.html").read_text()


def test_auto_blinks_by_the_seed(faces: Workspace) -> None:
    assert faces.run("--driving_pose", "--blink", "auto") == 0
    first = changed(faces)
    assert len(first) >= 4
    assert faces.run("--driving_pose", "--blink", "auto", "--batchSize", "3") == 0
    assert changed(faces) == first


def test_follow_blinks_when_the_pose_video_does(faces: Workspace) -> None:
    assert faces.run("--driving_pose", "--blink", "follow") == 0
    (row,) = faces.report()
    assert row["blinks"] == "at 0.80 2.36 4.00 s"  # picture 20 of 40, played forth and back
    assert changed(faces)[:4] == [19, 20, 21, 22]


def test_none_is_the_default_and_changes_no_byte(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    workspace.run("--driving_pose")
    frames = workspace.frames(NAME)
    workspace.run("--driving_pose", "--blink", "none")
    assert workspace.frames(NAME) == frames
    (row,) = workspace.report()
    assert row["blinks"] == ""
    assert "blink" not in row["made_with"]


def test_faces_that_cannot_blink_are_left_alone_and_said(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    workspace.run("--driving_pose")
    frames = workspace.frames(NAME)
    assert workspace.run("--driving_pose", "--blink", "0.2,") == 0  # the tiny model's frames show nothing
    assert workspace.frames(NAME) == frames
    assert workspace.report()[0]["blinks"] == "at 0.20 s, 1 left out (no face)"


def test_bad_blinks_are_one_clear_line(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    row = workspace.add_inputs()
    workspace.write_csv(row)
    assert workspace.run("--blink", "often") == 2
    assert "error: --blink 'often' is unknown; choose from none, auto" in capsys.readouterr().err
    assert workspace.run("--blink", "follow") == 2
    assert "add --driving_pose" in capsys.readouterr().err
    assert workspace.run("--blink", "0.2,7.25") == 1
    assert workspace.report()[0]["error"] == "--blink 7.25 lies beyond the end of the clip, 0.52 s"
    workspace.write_csv([*row[:2], "None", "0", *row[4:]])
    assert workspace.run("--driving_pose", "--blink", "follow") == 1
    assert "the row has none; try --blink auto" in workspace.report()[0]["error"]


def test_resume_begins_anew_when_blinks_are_others(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    workspace.run("--driving_pose", "--blink", "0.2,")
    workspace.run("--driving_pose", "--blink", "0.2,", "--resume")
    assert workspace.report()[0]["frames_reused"] > 0
    workspace.run("--driving_pose", "--blink", "0.4,", "--resume")
    assert workspace.report()[0]["frames_reused"] == 0
