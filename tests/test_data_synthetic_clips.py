"""Synthetic heads: determinism, geometry and light of the pictures, truth on disk."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.faces.alignment import three_points
from data.synthetic import clips as synthetic
from data.synthetic import motion
from data.synthetic.clips import (
    STATE_NAMES,
    FaceState,
    combine,
    landmarks,
    make_clip,
    make_identity,
    make_performance,
    make_scene,
    read_truth,
    render_frame,
    render_states,
    write_clip,
)
from data.synthetic.formant import make_phonemes
from data.synthetic.head import rotation_matrix
from data.synthetic.person import HAIR_STYLES
from data.synthetic.raster import rasterise
from data.synthetic.voice import mouth_track
from options.config import SAMPLE_RATE_HZ
from util.errors import MediaError
from util.ffmpeg import decode_audio_pieces, probe

PERSON = make_identity(3)


# -- rasteriser


def _triangle(points: list[list[float]], depth: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array(points, dtype=np.float32), np.full(3, depth, dtype=np.float32)


def test_rasterise_two_overlapping_triangles_shows_the_nearer_one() -> None:
    far, far_depth = _triangle([[0, 0], [19, 0], [0, 19]], 1.0)
    near, near_depth = _triangle([[0, 0], [9, 0], [0, 9]], 5.0)
    uv = np.repeat(np.array([[1.0, 0.0], [2.0, 0.0]], dtype=np.float32), 3, axis=0)
    shown = rasterise(
        np.concatenate([far, near]),
        np.concatenate([far_depth, near_depth]),
        uv,
        np.arange(6).reshape(2, 3),
        np.zeros(2, dtype=bool),
        20,
    )
    image = np.zeros(400)
    image[shown.pixel] = shown.uv[:, 0]
    image = image.reshape(20, 20)
    x, y = np.meshgrid(np.arange(20), np.arange(20))
    np.testing.assert_allclose(image, np.where(x + y <= 9, 2, np.where(x + y <= 19, 1, 0)), atol=1e-4)


def test_rasterise_attributes_are_linear_across_the_triangle() -> None:
    points, depth = _triangle([[2, 1], [17, 4], [5, 16]], 0.0)
    shown = rasterise(points, depth, points * 3 + 1, np.array([[0, 1, 2]]), np.zeros(1, dtype=bool), 20)
    at = np.stack([shown.pixel % 20, shown.pixel // 20], axis=1)
    assert len(at) > 70
    np.testing.assert_allclose(shown.uv, at * 3 + 1, atol=1e-3)


def test_rasterise_back_face_is_left_out_unless_two_sided() -> None:
    points, depth = _triangle([[0, 0], [0, 9], [9, 0]], 0.0)
    face = np.array([[0, 1, 2]])
    assert len(rasterise(points, depth, points, face, np.zeros(1, dtype=bool), 20).pixel) == 0
    assert len(rasterise(points, depth, points, face, np.ones(1, dtype=bool), 20).pixel) == 55


def test_rasterise_neighbouring_slivers_leave_no_hole() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([[0], np.sort(rng.uniform(0, 30, 60)), [30]])
    top = np.stack([x, 1e-4 * rng.random(len(x))], axis=1)
    bottom = np.stack([x, np.full(len(x), 30.0)], axis=1)
    points = np.concatenate([top, bottom]).astype(np.float32)
    n = len(x)
    a = np.arange(n - 1)
    faces = np.concatenate([np.stack([a, a + 1, a + n], axis=1), np.stack([a + 1, a + n + 1, a + n], axis=1)])
    shown = rasterise(points, np.zeros(2 * n, dtype=np.float32), points, faces, np.zeros(len(faces), dtype=bool), 40)
    image = np.zeros(1600, dtype=bool)
    image[shown.pixel] = True
    assert image.reshape(40, 40)[1:30, 1:30].all()


# -- pictures


def test_make_identity_same_seed_is_equal_and_others_differ() -> None:
    assert make_identity(5) == make_identity(5)
    vectors = np.stack([make_identity(seed).vector() for seed in range(40)])
    assert vectors.shape == (40, 44)
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) == 40
    assert len({make_identity(seed).hair_style for seed in range(60)}) >= 8


def test_render_frame_same_seed_gives_identical_bytes_in_another_process() -> None:
    code = (
        "import zlib; from data.synthetic.clips import *; c = make_clip(11, 2, 3);"
        "print(zlib.crc32(c.frames.tobytes()), zlib.crc32(c.wave.tobytes()), zlib.crc32(c.truth.landmarks.tobytes()))"
    )
    root = Path(synthetic.__file__).resolve().parents[2]
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.split()) == 3


def test_render_frame_earlier_states_leave_no_trace() -> None:
    fresh = render_frame(PERSON, FaceState(yaw=5))
    render_frame(PERSON, FaceState(blink=1, opening=1, yaw=-30))
    assert np.array_equal(render_frame(PERSON, FaceState(yaw=5)), fresh)


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_render_frame_every_hair_style_shows_a_face_on_a_background(style: str) -> None:
    frame = render_frame(dataclasses.replace(PERSON, hair_style=style), FaceState())
    assert frame.shape == (224, 224, 3)
    assert frame.dtype == np.uint8
    background = render_frame(dataclasses.replace(PERSON, hair_style=style), FaceState(shift_x=500))
    face = (frame != background).any(axis=2)
    assert face[30:150, 76:148].mean() > 0.99
    assert frame[20:160, 70:150].std() > 10


def test_landmarks_frontal_face_lies_on_the_voxceleb_template() -> None:
    for seed in range(8):
        centres = three_points(landmarks(make_identity(seed), FaceState()))
        np.testing.assert_allclose(centres, [[87, 59], [137, 59], [112, 120]], atol=3.0)


def test_landmarks_point_at_what_is_painted_there() -> None:
    person = dataclasses.replace(PERSON, iris_tone=0.0, skin_tone=0.0)
    state = FaceState(yaw=12, pitch=6, gaze_x=-6, gaze_y=-2)
    frame = render_frame(person, state).astype(float)
    points = landmarks(person, state)
    for eye in (points[36:42], points[42:48]):
        x, y = eye.mean(axis=0).round().astype(int)
        assert frame[y - 3 : y + 4, x - 4 : x + 5].min() < 60  # the pupil
    opened = FaceState(opening=1.0)
    x, y = landmarks(person, opened)[60:68].mean(axis=0).round().astype(int)
    assert render_frame(person, opened)[y, x].mean() < 0.5 * render_frame(person, FaceState())[y - 25, x].mean()


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(25, 0, 0), (0, 15, 0), (0, 0, 10), (-30, -12, 8)])
def test_landmarks_follow_the_rotation(yaw: float, pitch: float, roll: float) -> None:
    points = landmarks(PERSON, FaceState(yaw=yaw, pitch=pitch, roll=roll)) - landmarks(PERSON, FaceState())
    nose = points[30] - points[[36, 39, 42, 45]].mean(axis=0)  # the tip stands out, so it moves against the eyes
    assert np.sign(yaw) == np.sign(nose[0]) or yaw == 0
    assert np.sign(pitch) == -np.sign(nose[1]) or pitch == 0
    eyes = landmarks(PERSON, FaceState(yaw=yaw, pitch=pitch, roll=roll))
    line = eyes[42:48].mean(axis=0) - eyes[36:42].mean(axis=0)
    if yaw == 0 and pitch == 0:
        assert np.degrees(np.arctan2(line[1], line[0])) == pytest.approx(roll, abs=0.5)


@pytest.mark.parametrize("seed", [1, 5, 44])
def test_render_frame_background_never_shows_through_the_face(seed: int) -> None:
    loud = dataclasses.replace(make_scene(seed), background_bgr=(0.0, 0.97, 0.0), background_kind="studio")
    for state in (
        FaceState(yaw=-30, pitch=8, opening=0.3, width=-1),
        FaceState(yaw=24, opening=1, width=0.8),
        FaceState(pitch=15, opening=0.7, lip_teeth=1, roll=10),
        FaceState(yaw=33, pitch=-15, press=1),
    ):
        frame = render_frame(make_identity(seed), state, loud).astype(int)
        green = (frame[..., 1] > frame[..., 2] + 60).astype(np.uint8)
        points = landmarks(make_identity(seed), state)
        inside = np.zeros((224, 224), dtype=np.uint8)
        cv2.fillConvexPoly(inside, cv2.convexHull(points.round().astype(np.int32)), 1)
        assert not (green & cv2.erode(inside, np.ones((7, 7), np.uint8))).any()


def test_render_frame_yaw_hides_the_far_ear_and_shows_the_near_one() -> None:
    person = dataclasses.replace(PERSON, hair_style="bald", face_width=0.0)
    red = dataclasses.replace(make_scene(3), background_bgr=(0.2, 0.6, 0.2), background_kind="studio")
    turned = render_frame(person, FaceState(yaw=35), red).astype(int)
    mirrored = render_frame(person, FaceState(yaw=-35), red).astype(int)
    skin = [(f[..., 2] > f[..., 1] + 8)[40:110] for f in (turned, mirrored)]
    columns = [np.nonzero(s.any(axis=0))[0] for s in skin]
    # the nose points to the turned side; the back of the head and the near ear are on the other one
    assert columns[0].mean() < 112 < columns[1].mean()


def test_rotation_matrix_is_a_rotation_with_the_documented_signs() -> None:
    for angles in ((30, 0, 0), (0, 15, 0), (0, 0, 10), (20, -10, 5)):
        matrix = rotation_matrix(*angles)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
    nose = np.array([0, 0, 1.0])
    assert (rotation_matrix(30, 0, 0) @ nose)[0] == pytest.approx(0.5)  # to the right of the picture
    assert (rotation_matrix(0, 30, 0) @ nose)[1] == pytest.approx(-0.5)  # up
    assert (rotation_matrix(0, 0, 30) @ np.array([0, -1.0, 0]))[0] == pytest.approx(0.5)  # the crown to the right


def test_render_frame_opening_widens_the_gap_and_darkens_it() -> None:
    gaps = []
    for opening in (0.0, 0.5, 1.0):
        points = landmarks(PERSON, FaceState(opening=opening))
        gaps.append(points[66, 1] - points[62, 1])
    assert abs(gaps[0]) < 0.5
    assert gaps[1] == pytest.approx(gaps[2] / 2, rel=0.05)
    assert 15 < gaps[2] < 26


def test_landmarks_rounding_narrows_and_spreading_widens_the_mouth() -> None:
    width = {w: np.ptp(landmarks(PERSON, FaceState(width=w))[[48, 54], 0]) for w in (-1.0, 0.0, 1.0)}
    assert width[-1.0] < 0.72 * width[0.0]
    assert width[1.0] > 1.12 * width[0.0]


def test_landmarks_blink_closes_the_lids_and_hides_the_eye() -> None:
    opened, shut = landmarks(PERSON, FaceState()), landmarks(PERSON, FaceState(blink=1.0))
    height = [np.abs(p[[37, 38]].mean(axis=0) - p[[41, 40]].mean(axis=0))[1] for p in (opened, shut)]
    assert height[0] > 5
    assert height[1] < 1.5
    x, y = opened[36:42].mean(axis=0).astype(int)
    patches = [render_frame(PERSON, FaceState(blink=b))[y - 3 : y + 3, x - 9 : x + 9] for b in (0.0, 1.0)]
    assert patches[0].std() > 1.5 * patches[1].std()


def test_render_frame_gaze_moves_the_iris() -> None:
    person = dataclasses.replace(PERSON, iris_tone=0.0, skin_tone=0.0)
    points = landmarks(person, FaceState())
    x0, x1 = points[36, 0], points[39, 0]
    y = points[36:42, 1].mean()
    window = (slice(int(y) - 2, int(y) + 3), slice(int(x0) + 3, int(x1) - 2))
    dark = []
    for gaze in (-20, 20):
        darkness = 255.0 - render_frame(person, FaceState(gaze_x=gaze))[window].mean(axis=(0, 2))
        dark.append(float((np.arange(len(darkness)) * darkness**4).sum() / (darkness**4).sum()))
    assert dark[1] - dark[0] > 3


def test_render_frame_light_from_the_other_side_moves_the_shade() -> None:
    def balance(azimuth: float) -> float:
        frame = render_frame(PERSON, FaceState(), dataclasses.replace(make_scene(3), light_azimuth_deg=azimuth)).astype(
            float
        )
        return float(frame[70:110, 125:145].mean() - frame[70:110, 79:99].mean())

    assert balance(50) > 8
    assert balance(-50) < -8


# -- acting


def test_render_states_with_anothers_pose_keeps_the_mouth() -> None:
    speech, motion = make_performance(1, PERSON, 20), make_performance(2, make_identity(8), 30)
    both = combine(speech, motion)
    assert both.states.shape == (20, len(STATE_NAMES))
    np.testing.assert_array_equal(both.track("opening"), speech.track("opening"))
    np.testing.assert_array_equal(both.track("yaw"), motion.track("yaw")[:20])
    np.testing.assert_array_equal(both.wave, speech.wave)
    assert render_states(PERSON, both.states[:2]).shape == (2, 224, 224, 3)


def test_make_performance_head_motion_is_bounded_and_independent_of_speech() -> None:
    motions = [motion._motion(seed, 200) for seed in range(60)]
    times = (np.arange(200) + 0.5) / 25
    openings = [mouth_track(make_phonemes(seed, 8.0), times)[:, 0] for seed in range(60)]
    for name, limit in (("yaw", 35), ("pitch", 20), ("roll", 12)):
        values = np.stack([motion[name] for motion in motions])
        assert np.abs(values).max() <= limit
        assert np.std(values) > limit / 5
        assert np.abs(np.diff(values, axis=1)).max() < 6  # degrees in 40 ms
        correlation = [np.corrcoef(track, opening)[0, 1] for track, opening in zip(values, openings, strict=True)]
        assert abs(np.mean(correlation)) < 0.1
    assert np.mean([motion["blink"].max() for motion in motions]) > 0.9


def test_make_performance_a_nod_moves_the_face_in_the_frame() -> None:
    states = np.stack([make_performance(seed, PERSON, 75).states for seed in range(20)])
    moved = states - states.mean(axis=1, keepdims=True)
    pitch, place = (moved[..., STATE_NAMES.index(name)].ravel() for name in ("pitch", "shift_y"))
    assert np.polyfit(pitch, place, 1)[0] == pytest.approx(-0.8, abs=0.1)  # pixels a degree; looking up moves up
    assert np.corrcoef(pitch, place)[0, 1] < -0.9
    assert 4 < pitch.std() < 8


def test_make_performance_states_are_the_motion_and_the_mouth_of_the_phonemes() -> None:
    run = make_performance(6, PERSON, 60)
    mouth = mouth_track(list(run.phonemes), (np.arange(60) + 0.5) / 25)
    for column, name in enumerate(motion.MOUTH_NAMES):
        np.testing.assert_allclose(run.track(name), mouth[:, column], atol=1e-6)
    np.testing.assert_allclose(run.track("yaw"), motion._motion(6, 60)["yaw"], atol=1e-5)
    assert run.wave.shape == (60 * 640,)


def test_make_performance_same_speech_with_other_motion_seed_stream() -> None:
    """Motion comes from the clip's seed alone, speech from the seed and the voice."""
    one, two = make_performance(4, make_identity(1), 50), make_performance(4, make_identity(2), 50)
    np.testing.assert_array_equal(one.track("yaw"), two.track("yaw"))
    assert not np.array_equal(one.wave, two.wave)


# -- clips on disk


def test_make_clip_has_one_truth_for_each_frame() -> None:
    clip = make_clip(21, 1, 8)
    assert clip.frames.shape == (8, 224, 224, 3)
    assert clip.wave.shape == (8 * 640,)
    assert clip.truth.states.shape == (8, len(STATE_NAMES))
    head = synthetic._head(make_identity(21), make_scene(3))
    np.testing.assert_allclose(
        clip.truth.landmarks[5], head.landmarks(FaceState(*map(float, clip.truth.states[5]))), atol=0.02
    )


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


def test_read_truth_missing_file_names_the_script(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"00001\.npz: no ground truth there; make it with scripts"):
        read_truth(tmp_path / "00001.mp4")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text"])
def test_read_truth_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "00001.npz").write_bytes(content)
    with pytest.raises(MediaError, match=r"00001\.npz: not readable as ground truth"):
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
