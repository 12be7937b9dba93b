"""Generated mouths beside those of real people: an acted clip whose mouth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.synthetic import real_clips as module
from scripts.synthetic.real_clips import measure_real_clips, mouth_openings, real_clips
from tests.conftest import voice, write_frames, write_wav
from util.errors import MediaError
from util.ffmpeg import run_ffmpeg

FRAMES = 60


def _clip(path: Path, sound: bool) -> Path:
    frames = write_frames(path.with_suffix(""), 10, size=64)
    wav = write_wav(path.with_suffix(".wav"), voice(0.4))
    arguments = ["-framerate", "25", "-i", frames / "%06d.jpg", *(["-i", wav] if sound else []), "-pix_fmt", "yuv420p"]
    run_ffmpeg([*arguments, path], "a clip")
    return path


def test_real_clips_are_videos_with_sound_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    spoken = [_clip(tmp_path / "a.mp4", True), _clip(tmp_path / "b" / "c.mp4", True)]
    _clip(tmp_path / "mute.mp4", False)
    assert real_clips(tmp_path) == spoken
    with pytest.raises(MediaError, match=r"--real_clips .*mute: holds no video with sound"):
        real_clips(tmp_path / "mute")


def test_mouth_openings_are_lips_by_eyes(tmp_path: Path) -> None:
    class Detector:
        count = 0

        def find_faces(self, image: np.ndarray) -> list[np.ndarray]:
            self.count += 1
            return [] if self.count == 4 else [np.array([0.0, 0, 64, 64])]

        def landmarks_of_found(self, image: np.ndarray, box: np.ndarray) -> object:
            points = np.zeros((68, 2))
            points[66], points[45] = (0, self.count), (20, 0)
            return type("Face", (), {"points": points})

    openings = mouth_openings(Detector(), _clip(tmp_path / "a.mp4", True))  # type: ignore[arg-type]
    np.testing.assert_allclose(openings, [0.05, 0.1, 0.15, np.nan, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5])


def test_measure_real_clips_finds_a_mouth_that_is_two_frames_late(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    made = {name: rng.standard_normal(FRAMES) for name in ("late", "blind")}
    true = {"late": np.roll(made["late"], 2), "blind": np.full(FRAMES, np.nan)}
    true["late"][10] = np.nan
    monkeypatch.setattr(module, "mouth_openings", lambda _, path: true[path.stem])
    monkeypatch.setattr(module, "load_audio", lambda _: voice(2.4))
    monkeypatch.setattr(module, "generate", lambda model, *_: model.now)
    monkeypatch.setattr(module, "read", lambda _, name: {"opening": made[name]})

    class Model:
        names = iter(made)

        def encode_speech(self, windows: object) -> None:
            assert windows.shape == (FRAMES, 1, 80, 20)  # type: ignore[attr-defined]
            self.now = next(self.names)

    monkeypatch.setattr(module, "encode", lambda *_: type("Codes", (), {"pose": np.zeros((7, 3)), "identity": 0}))
    clips = [Path("x/late.mp4"), Path("x/blind.mp4")]
    figures = measure_real_clips(Model(), None, None, [None], clips)  # type: ignore[arg-type, list-item]
    assert figures["real/x/late/shift"] == 2
    assert figures["real/x/late/shifted"] == pytest.approx(1)
    assert abs(figures["real/x/late"]) < 0.4
    assert figures["real/x/blind"] == 0
    assert figures["real/mean"] == pytest.approx(figures["real/x/late"] / 2)
    assert figures["real/mean_shifted"] == pytest.approx(0.5)
