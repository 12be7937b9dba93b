"""Sample inputs of the bundled model: complete rows, the same files every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.audio import load_audio
from data.frames import list_frames, read_image
from data.metadata import read_rows
from data.synthetic import voice as voices
from data.synthetic.recorded import VOICES, RecordedVoice, Spoken
from scripts import make_demo_inputs


def hum(voice: RecordedVoice, text: str) -> Spoken:
    """What every program would say if all it knew were a vowel: 0.4 s at 8 kHz."""
    wave = 0.3 * np.sin(2 * np.pi * (150 + len(text)) * np.arange(3200) / 8000)
    return Spoken(wave, 8000, (("pau", 0.1), ("aa" if voice.program == "flite" else "a", 0.3), ("pau", 0.4)))


def test_rows_name_files_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(voices, "say", hum)
    monkeypatch.setattr(voices, "installed_voices", lambda: VOICES)
    monkeypatch.setattr(voices, "choose_voice", lambda *_: None)  # the head babbles
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


def test_voice_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(voices, "installed_voices", lambda: ())
    assert make_demo_inputs.main(["--misc_dir", str(tmp_path / "misc")]) == 1
    assert "the voice festival lp_diphone is not installed; docs/synthetic.md lists" in capsys.readouterr().err
    assert not (tmp_path / "misc").exists()


def test_speech_is_as_loud_as_people_and_has_the_times_of_its_phones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "say", hum)
    monkeypatch.setattr(voices, "installed_voices", lambda: VOICES)
    speech = voices.say_clearly("flite rms", "a")
    assert len(speech.wave) == 6400
    assert [p.end_s for p in speech.phonemes] == pytest.approx([0.1, 0.3, 0.4])
    assert np.sqrt(np.mean(speech.wave**2)) == pytest.approx(voices.SPEECH_LEVEL, rel=0.01)
