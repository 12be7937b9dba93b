"""Synthetic clips: frames with their truth, filmed and clean, on disk and back."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.synthetic import clips as synthetic
from data.synthetic.clips import (
    STATE_NAMES,
    FaceState,
    landmarks,
    make_clip,
    make_identity,
    make_scene,
    read_truth,
    render_states,
    write_clip,
)
from options.config import SAMPLE_RATE_HZ
from util.errors import MediaError
from util.ffmpeg import decode_audio_pieces, probe
from util.seed import generator_for


def test_make_clip_has_one_truth_for_each_frame() -> None:
    clip = make_clip(21, 1, 8)
    assert clip.frames.shape == (8, 224, 224, 3)
    assert clip.wave.shape == (8 * 640,)
    assert clip.truth.states.shape == (8, len(STATE_NAMES))
    scene = make_scene(int(generator_for(21, 303, 1).integers(2**62)))
    np.testing.assert_allclose(
        clip.truth.landmarks[5],
        landmarks(make_identity(21), FaceState(*map(float, clip.truth.states[5])), scene),
        atol=0.02,
    )


def test_make_clip_clean_is_as_drawn_with_the_same_truth() -> None:
    filmed, clean = make_clip(21, 1, 4), make_clip(21, 1, 4, clean=True)
    scene = make_scene(int(generator_for(21, 303, 1).integers(2**62)))
    np.testing.assert_array_equal(clean.frames, render_states(make_identity(21), clean.truth.states, scene))
    assert not np.array_equal(filmed.frames, clean.frames)
    np.testing.assert_array_equal(filmed.truth.states, clean.truth.states)
    np.testing.assert_array_equal(filmed.truth.landmarks, clean.truth.landmarks)
    np.testing.assert_array_equal(filmed.wave, clean.wave)


def test_make_clip_toon_is_the_same_clip_drawn_otherwise() -> None:
    real, toon = make_clip(21, 1, 3), make_clip(21, 1, 3, style="toon")
    np.testing.assert_array_equal(real.truth.states, toon.truth.states)
    np.testing.assert_array_equal(real.truth.identity, toon.truth.identity)
    assert np.abs(real.frames.astype(int) - toon.frames).mean() > 5


def test_make_clip_lights_that_wander_and_flicker_change_the_frames() -> None:
    seeds = (int(generator_for(speaker, 303, 0).integers(2**62)) for speaker in range(400))
    moving = next(speaker for speaker, seed in enumerate(seeds) if make_scene(seed).light_flicker > 0.2)
    filmed, clean = (make_clip(moving, 0, 40, clean=clean).frames.astype(float) for clean in (False, True))
    brightness = [frames[:, 60:120, 90:130].mean(axis=(1, 2, 3)) for frames in (filmed, clean)]
    assert brightness[0].std() / brightness[0].mean() > 1.5 * brightness[1].std() / brightness[1].mean()


def test_make_clip_other_clip_of_the_speaker_keeps_the_face_and_changes_the_scene() -> None:
    one, two = make_clip(21, 0, 25), make_clip(21, 1, 25)
    np.testing.assert_array_equal(one.truth.identity, two.truth.identity)
    assert not np.array_equal(one.frames[:, :, :20], two.frames[:, :, :20])
    assert one.truth.phonemes != two.truth.phonemes


def test_write_clip_video_and_truth_come_back(tmp_path: Path) -> None:
    clip = make_clip(22, 0, 12)
    video = tmp_path / "id00022" / "clip0000" / "00001.mp4"
    write_clip(clip, video)
    info = probe(video)
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")
    assert (info.video_frames, info.width, info.height, info.fps) == (12, 224, 224, 25.0)
    sound = np.frombuffer(next(decode_audio_pieces(video, SAMPLE_RATE_HZ, len(clip.wave))), dtype="<f4")
    assert np.corrcoef(sound, clip.wave[: len(sound)])[0, 1] > 0.9
    truth = read_truth(video)
    np.testing.assert_array_equal(truth.landmarks, clip.truth.landmarks)
    np.testing.assert_array_equal(truth.states, clip.truth.states)
    assert truth.phonemes == clip.truth.phonemes
    assert (truth.speaker_seed, truth.clip_seed) == (22, 0)
    assert {p.name for p in video.parent.iterdir()} == {"00001.mp4", "00001.npz"}


def test_write_clip_coarser_coding_makes_smaller_files(tmp_path: Path) -> None:
    clip = make_clip(22, 0, 12)
    for crf in (16, 34):
        write_clip(dataclasses.replace(clip, crf=crf), tmp_path / f"{crf}" / "00001.mp4")
    fine, coarse = ((tmp_path / f"{crf}" / "00001.mp4").stat().st_size for crf in (16, 34))
    assert coarse < 0.6 * fine


def test_read_truth_missing_file_names_the_script(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"00001\.npz: no ground truth there; make it with scripts"):
        read_truth(tmp_path / "00001.mp4")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text"])
def test_read_truth_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "00001.npz").write_bytes(content)
    with pytest.raises(MediaError, match=r"00001\.npz: not a readable ground truth; delete it"):
        read_truth(tmp_path / "00001.npz")


def test_read_truth_of_another_version_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "00001.npz", state_names=np.array(["yaw"]))
    with pytest.raises(MediaError, match="other states than this version"):
        read_truth(tmp_path / "00001.npz")


def test_write_clip_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(MediaError, match="taken"):
        write_clip(make_clip(22, 0, 2), tmp_path / "taken" / "00001.mp4")


def test_synthetic_modules_do_not_import_torch() -> None:
    root = Path(synthetic.__file__).resolve().parents[2]
    code = "import sys, data.synthetic.clips; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
