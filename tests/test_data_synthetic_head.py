"""Pictures of synthetic people: who they are, geometry, light, eyes, what they wear, and how drawn they may be."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.faces.alignment import three_points
from data.faces.landmarks import DlibDetector
from data.synthetic import clips as synthetic
from data.synthetic.clips import FaceState, Identity, Scene, landmarks, make_identity, make_scene, render_frame
from data.synthetic.head import rotation_matrix
from data.synthetic.person import BEARD_STYLES, EARRINGS, GLASSES, HAIR_STYLES, HEADWEAR
from data.synthetic.scene import BACKGROUNDS, COLLARS

PLAIN = {"glasses": "none", "headwear": "none", "earrings": "none", "beard_style": "none", "asymmetry": 0.0}
PERSON = dataclasses.replace(make_identity(3), hair_style="short", **PLAIN)
GREEN = {"background_bgr": (0.0, 0.97, 0.0), "background_kind": "studio", "rim_strength": 0.0}


def _scene(seed: int, **changes: object) -> Scene:
    """A scene in even white light from the front, apart from the changes."""
    even = {"light_azimuth_deg": 10.0, "fill_bgr": (1.0, 1.0, 1.0), "light_warmth": 0.0, "body_yaw_deg": 0.0}
    return dataclasses.replace(make_scene(seed), **{**even, "camera_distance": 900.0, "mood": 0.0, **changes})


SCENE = _scene(3)


def _is_background(frame: np.ndarray) -> np.ndarray:
    frame = frame.astype(int)
    return frame[..., 1] > frame[..., 2] + 60


def _face_region(person: Identity, state: FaceState, scene: Scene) -> np.ndarray:
    inside = np.zeros((224, 224), dtype=np.uint8)
    points = landmarks(person, state, scene)
    cv2.fillConvexPoly(inside, cv2.convexHull(points.round().astype(np.int32)), 1)
    return cv2.erode(inside, np.ones((7, 7), np.uint8)).astype(bool)


# -- people


def test_make_identity_same_seed_is_equal_and_others_differ() -> None:
    assert make_identity(5) == make_identity(5)
    vectors = np.stack([make_identity(seed).vector() for seed in range(2000)])
    assert vectors.shape == (2000, 86)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert vectors.min() >= -1
    assert vectors.max() <= 1
    assert len(np.unique(vectors, axis=0)) == 2000
    spread = vectors[:, :-41].std(axis=0)  # of the numbers; 41 kinds come after them
    assert (spread > 0.05).all()


def test_make_identity_every_kind_is_drawn() -> None:
    people = [make_identity(seed) for seed in range(2000)]
    for name, kinds in {
        "hair_style": HAIR_STYLES,
        "beard_style": BEARD_STYLES,
        "glasses": GLASSES,
        "headwear": HEADWEAR,
        "earrings": EARRINGS,
    }.items():
        assert {getattr(person, name) for person in people} == set(kinds)
    assert 0.15 < np.mean([person.glasses != "none" for person in people]) < 0.35
    assert {person.style for person in people} == {"real"}
    scenes = [make_scene(seed) for seed in range(500)]
    assert {scene.background_kind for scene in scenes} == set(BACKGROUNDS)
    assert {scene.collar for scene in scenes} == set(COLLARS)


# -- pictures


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


@pytest.mark.parametrize(
    "wear",
    [
        *({"hair_style": style} for style in HAIR_STYLES),
        *({"beard_style": style, "beard": 0.9} for style in BEARD_STYLES),
        *({"headwear": kind, "hair_style": "long"} for kind in HEADWEAR),
        *({"glasses": kind, "earrings": "hoops"} for kind in GLASSES),
        {"style": "toon"},
    ],
    ids=lambda wear: "-".join(map(str, wear.values())),
)
def test_render_frame_whatever_is_worn_shows_a_face_before_the_background(wear: dict[str, object]) -> None:
    person, scene = dataclasses.replace(PERSON, **wear), _scene(3, **GREEN)
    frame = render_frame(person, FaceState(yaw=8), scene)
    assert frame.shape == (224, 224, 3)
    assert frame.dtype == np.uint8
    background = _is_background(frame)
    assert not background[_face_region(person, FaceState(yaw=8), scene)].any()
    assert background[:100, :20].mean() > 0.5
    assert frame[20:160, 70:150].std() > 10


@pytest.mark.parametrize("collar", COLLARS)
def test_render_frame_shoulders_fill_the_lower_edge(collar: str) -> None:
    frame = render_frame(PERSON, FaceState(), _scene(3, **GREEN, collar=collar, clothes_bgr=(0.4, 0.3, 0.6)))
    assert _is_background(frame)[216:].mean() < 0.02
    assert _is_background(frame)[150, [5, 218]].all()  # above the shoulders


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_render_frame_background_pans_with_the_shoulders(kind: str) -> None:
    """The crop keeps to the face, so what is behind it moves as the head turns."""
    scene = _scene(8, background_kind=kind)
    still, turned, again = (
        render_frame(PERSON, state, scene)[:40, :40].astype(int)
        for state in (FaceState(), FaceState(yaw=30), FaceState(opening=1.0))
    )
    assert np.array_equal(still, again)
    if kind != "plain":
        assert np.abs(still - turned).mean() > 0.2


def test_landmarks_frontal_face_lies_on_the_voxceleb_template() -> None:
    centres = np.stack([three_points(landmarks(make_identity(seed), FaceState())) for seed in range(40)])
    np.testing.assert_allclose(centres.mean(axis=0), [[87, 59], [137, 59], [112, 120]], atol=2.6)
    assert np.abs(centres - centres.mean(axis=0)).max() < 5


def test_landmarks_point_at_what_is_painted_there() -> None:
    person = dataclasses.replace(PERSON, iris_tone=0.0, skin_tone=0.1)
    state = FaceState(yaw=12, pitch=6, gaze_x=-6, gaze_y=-2)
    frame = render_frame(person, state, SCENE).astype(float)
    points = landmarks(person, state, SCENE)
    for eye in (points[36:42], points[42:48]):
        x, y = eye.mean(axis=0).round().astype(int)
        assert frame[y - 3 : y + 4, x - 4 : x + 5].min() < 60  # the pupil
    opened = FaceState(opening=1.0)
    x, y = landmarks(person, opened, SCENE)[60:68].mean(axis=0).round().astype(int)
    lit = render_frame(person, FaceState(), SCENE)[y - 25, x].mean()
    assert render_frame(person, opened, SCENE)[y, x].mean() < 0.5 * lit


def test_landmarks_are_where_dlib_sees_them() -> None:
    """A detector trained on photographs finds the faces, and puts its points near the truth."""
    detector = DlibDetector()
    distances = []
    for seed in range(12):
        person, scene = dataclasses.replace(make_identity(seed), glasses="none", headwear="none"), _scene(seed)
        state = FaceState(yaw=14.0 * (seed % 3 - 1), pitch=5.0 * (seed % 2), opening=0.15 * (seed % 4))
        frame = render_frame(person, state, scene)
        faces = detector.find_faces(frame, thorough=False)
        if faces:
            seen = detector.landmarks_of_found(frame, faces[0]).points
            distances.append(np.linalg.norm(seen - landmarks(person, state, scene), axis=1))
    assert len(distances) >= 11
    mean = np.mean(distances, axis=0)
    assert mean[27:48].mean() < 2.0  # nose and eyes
    assert mean[48:].mean() < 3.0  # mouth
    assert mean.mean() < 3.6


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(25, 0, 0), (0, 15, 0), (0, 0, 10), (-30, -12, 8)])
def test_landmarks_follow_the_rotation(yaw: float, pitch: float, roll: float) -> None:
    points = landmarks(PERSON, FaceState(yaw=yaw, pitch=pitch, roll=roll)) - landmarks(PERSON, FaceState())
    nose = points[30] - points[[36, 39, 42, 45]].mean(axis=0)  # the tip stands out, so it moves against the eyes
    assert np.sign(yaw) == np.sign(nose[0]) or yaw == 0
    assert np.sign(pitch) == -np.sign(nose[1]) or pitch == 0


@pytest.mark.parametrize("roll", [-15.0, -12.0, -4.0, 6.0, 12.0])
def test_landmarks_the_line_of_the_eyes_tilts_by_the_roll(roll: float) -> None:
    eyes = landmarks(PERSON, FaceState(roll=roll))
    line = eyes[42:48].mean(axis=0) - eyes[36:42].mean(axis=0)
    assert np.degrees(np.arctan2(line[1], line[0])) == pytest.approx(roll, abs=0.5)


def test_render_frame_a_tilt_turns_the_picture_of_the_face() -> None:
    """The truth tilts, and so does what is drawn: turned back, the face is nearly the upright one."""
    tilted = FaceState(roll=12)
    upright = render_frame(PERSON, FaceState(), SCENE).astype(float)
    frame = render_frame(PERSON, tilted, SCENE)
    source, target = landmarks(PERSON, tilted, SCENE)[27:48], landmarks(PERSON, FaceState(), SCENE)[27:48]
    matrix, _ = cv2.estimateAffinePartial2D(source, target)
    assert np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])) == pytest.approx(-12, abs=0.5)
    back = cv2.warpAffine(frame, matrix, (224, 224)).astype(float)
    face = np.s_[45:125, 85:140]
    assert np.abs(back - upright)[face].mean() < 0.5 * np.abs(frame - upright)[face].mean()


@pytest.mark.parametrize("seed", [1, 5, 44])
def test_render_frame_background_never_shows_through_the_face(seed: int) -> None:
    person, loud = (
        dataclasses.replace(make_identity(seed), glasses="none"),
        dataclasses.replace(make_scene(seed), **GREEN),
    )
    for state in (
        FaceState(yaw=-30, pitch=8, opening=0.3, width=-1),
        FaceState(yaw=24, opening=1, width=0.8),
        FaceState(pitch=15, opening=0.7, lip_teeth=1, roll=10),
        FaceState(yaw=33, pitch=-15, press=1),
    ):
        frame = render_frame(person, state, loud)
        assert not (_is_background(frame) & _face_region(person, state, loud)).any()


def test_render_frame_yaw_hides_the_far_ear_and_shows_the_near_one() -> None:
    person = dataclasses.replace(PERSON, hair_style="bald", face_width=0.0)
    scene = _scene(3, **GREEN)
    skin = [~_is_background(render_frame(person, FaceState(yaw=yaw), scene))[40:110] for yaw in (35, -35)]
    columns = [np.nonzero(s.any(axis=0))[0] for s in skin]
    # the nose points to the turned side; the back of the head and the near ear are on the other one
    assert columns[0].mean() < 108
    assert columns[1].mean() > 116


def test_rotation_matrix_is_a_rotation_with_the_documented_signs() -> None:
    for angles in ((30, 0, 0), (0, 15, 0), (0, 0, 10), (20, -10, 5)):
        matrix = rotation_matrix(*angles)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
    nose = np.array([0, 0, 1.0])
    assert (rotation_matrix(30, 0, 0) @ nose)[0] == pytest.approx(0.5)  # to the right of the picture
    assert (rotation_matrix(0, 30, 0) @ nose)[1] == pytest.approx(-0.5)  # up
    assert (rotation_matrix(0, 0, 30) @ np.array([0, -1.0, 0]))[0] == pytest.approx(0.5)  # the crown to the right


# -- mouth


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


def test_landmarks_a_smile_raises_the_corners_of_the_mouth() -> None:
    corners = [landmarks(PERSON, FaceState(), _scene(3, mood=mood))[[48, 54], 1].mean() for mood in (-0.5, 0.0, 1.0)]
    assert corners[0] > corners[1] + 0.8
    assert corners[2] < corners[1] - 2


# -- eyes


def _eye_patch(person: Identity, state: FaceState) -> np.ndarray:
    x, y = landmarks(person, FaceState(), SCENE)[36:42].mean(axis=0).astype(int)
    return render_frame(person, state, SCENE)[y - 3 : y + 4, x - 8 : x + 9].astype(float)


def test_landmarks_blink_closes_the_lids() -> None:
    heights = []
    for blink in (0.0, 0.5, 1.0):
        points = landmarks(PERSON, FaceState(blink=blink))
        heights.append((points[[41, 40], 1] - points[[37, 38], 1]).mean())
    assert heights[0] > 5
    assert heights[1] == pytest.approx(heights[0] / 2, rel=0.2)
    assert 0 <= heights[2] < 1.0


def test_render_frame_closed_lids_look_like_skin() -> None:
    person = dataclasses.replace(PERSON, iris_tone=0.0, skin_tone=0.15, makeup=0.0)
    opened, shut = _eye_patch(person, FaceState()), _eye_patch(person, FaceState(blink=1.0))
    points = landmarks(person, FaceState(), SCENE)
    x, y = points[30].astype(int)
    cheek = render_frame(person, FaceState(), SCENE)[y - 4 : y + 4, x - 34 : x - 24].astype(float)
    lid, skin = np.median(shut, axis=(0, 1)), np.median(cheek, axis=(0, 1))
    assert (lid > 0.6 * skin).all()
    np.testing.assert_allclose(lid / lid.sum(), skin / skin.sum(), atol=0.05)  # of the same hue
    dark = [(patch.mean(axis=2) < 55).mean() for patch in (opened, shut)]
    assert dark[0] > 0.10  # pupil and iris
    assert dark[1] < 0.4 * dark[0]  # lashes


def test_render_frame_blink_covers_the_iris_from_above() -> None:
    person = dataclasses.replace(PERSON, iris_tone=0.0, skin_tone=0.15)
    dark = [(_eye_patch(person, FaceState(blink=blink)).mean(axis=2) < 70).sum() for blink in (0.0, 0.6, 1.0)]
    assert dark[0] > dark[1] > dark[2]


def test_render_frame_gaze_moves_the_iris() -> None:
    person = dataclasses.replace(PERSON, iris_tone=0.0, skin_tone=0.1)
    dark = []
    for gaze in (-20, 20):
        darkness = 255.0 - _eye_patch(person, FaceState(gaze_x=gaze)).mean(axis=(0, 2))
        dark.append(float((np.arange(len(darkness)) * darkness**4).sum() / (darkness**4).sum()))
    assert dark[1] - dark[0] > 2.5


def test_render_frame_dark_glasses_hide_the_eyes() -> None:
    person = dataclasses.replace(PERSON, skin_tone=0.1, glasses="dark")
    bare = dataclasses.replace(person, glasses="none")
    change = [
        np.abs(_eye_patch(who, FaceState()) - _eye_patch(who, FaceState(gaze_x=15))).mean() for who in (person, bare)
    ]
    assert change[0] < 0.5 * change[1]


# -- light


def test_render_frame_light_from_the_other_side_moves_the_shade() -> None:
    def balance(azimuth: float) -> float:
        frame = render_frame(PERSON, FaceState(), _scene(3, light_azimuth_deg=azimuth, key_strength=0.8)).astype(float)
        return float(frame[70:110, 125:145].mean() - frame[70:110, 79:99].mean())

    assert balance(50) > 8
    assert balance(-50) < -8


def test_render_frame_a_brim_shades_the_face() -> None:
    scene = _scene(3, light_elevation_deg=55.0, light_azimuth_deg=0.0, key_strength=0.9, fill_strength=0.1)
    bare, shaded = (
        render_frame(dataclasses.replace(PERSON, headwear=kind), FaceState(), scene)[44:52, 95:130].mean()
        for kind in ("none", "cap")
    )
    assert shaded < 0.85 * bare


# -- styles


def test_make_identity_toon_is_the_same_person_in_flat_colours_with_big_eyes() -> None:
    real, toon = make_identity(3), make_identity(3, style="toon")
    np.testing.assert_array_equal(real.vector(), toon.vector())
    bare = [dataclasses.replace(who, **PLAIN) for who in (real, toon)]
    eyes = [np.ptp(landmarks(who, FaceState(), SCENE)[36:42], axis=0) for who in bare]
    assert (eyes[1] > 1.3 * eyes[0]).all()
    cheeks = [render_frame(who, FaceState(), SCENE)[85:110, 76:96] for who in bare]
    colours = [len(np.unique(cheek.reshape(-1, 3) // 4, axis=0)) for cheek in cheeks]
    assert colours[1] < 0.6 * colours[0]
