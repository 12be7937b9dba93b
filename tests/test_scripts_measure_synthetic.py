"""The measuring script: its numbers on known series, and models that copy the truth, ignore the sound, or leak."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from torch import Tensor

from data.faces.landmarks import FaceLandmarks
from data.synthetic.clips import FIRST_HELD_OUT, STATE_NAMES
from models.av_model import IdentityCodes
from models.networks.probe import Probe
from scripts.measure_synthetic import main
from scripts.synthetic import acceptance, figures
from scripts.synthetic import sheet as sheets
from scripts.synthetic import speakers as rendering
from scripts.synthetic.acceptance import judge, table
from scripts.synthetic.directed import drawn_head, measure_directed
from scripts.synthetic.figures import correlations, encode, identity_figures, measure, retrieval, sync_retrieval
from scripts.synthetic.sheet import contact_sheet, moments_sheet
from scripts.synthetic.speakers import Speaker, load_speakers, make_speaker
from tests.conftest import TINY, write_tiny_model
from util.checkpoint import save_state_dict
from util.errors import MediaError
from util.seed import generator_for

SIZE, FRAMES, PEOPLE = 64, 54, 4
POSE = ("yaw", "pitch", "roll")
RANGES = {"yaw": 80.0, "pitch": 80.0, "roll": 80.0, "opening": 2.0, "width": 4.0, "blink": 2.0}
RANGE_NAMES = list(RANGES)
SQUARES = np.kron(np.indices((4, 4)).sum(axis=0) % 2, np.ones((16, 16), dtype=np.uint8)).astype(np.uint8)  # sharp edges
SOUND = 10  # numbers a fake sound carries: opening, width, eight of what is said


# ------------------------------------------------------------------- a world where the truth is written in the pixels


def _paint(values: np.ndarray, person: int) -> np.ndarray:
    """(T, n) numbers in [-1, 1] -> (T, 3, S, S) uint8 with them in the first row, and the person in the second."""
    frames = np.full((len(values), 3, SIZE, SIZE), 127 + 64 * SQUARES, dtype=np.uint8)
    frames[:, 0, 0, : values.shape[1]] = np.round((values + 1) * 127.5)
    frames[:, 0, 1, person] = 255
    return frames


def _fake_speaker(person: int) -> Speaker:
    rng = generator_for(1, person)
    states = np.zeros((FRAMES, len(STATE_NAMES)), dtype=np.float32)
    for name, spread in {"yaw": 10, "pitch": 6, "roll": 4, "opening": 0.25, "width": 0.4, "blink": 0.2}.items():
        track = gaussian_filter1d(rng.standard_normal(FRAMES), 1.5)
        states[:, STATE_NAMES.index(name)] = spread * track / track.std()
    states[:, STATE_NAMES.index("opening")] += 0.5
    said = rng.uniform(-1, 1, (FRAMES, SOUND - 2)).astype(np.float32)
    values = np.stack([states[:, STATE_NAMES.index(name)] / limit for name, limit in RANGES.items()], axis=1)
    windows = np.zeros((FRAMES, 1, 80, 20), dtype=np.float32)
    windows[:, 0, 0, :SOUND] = np.concatenate([values[:, 3:5], said], axis=1)
    frames = _paint(np.concatenate([values, said], axis=1), person)
    return Speaker(person, person, frames, windows, states, frames[-1], frames[:2])


class FakeProbe:
    """Reads the numbers off the pixels."""

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        readings = {name: images[:, 0, 0, column] * limit for column, (name, limit) in enumerate(RANGES.items())}
        person = (images[:, 0, 1, :PEOPLE] > 0.6).float()
        return readings | {"identity": person / person.norm(dim=1, keepdim=True).clamp_min(1e-6)}

    def features(self, images: Tensor) -> Tensor:
        return torch.stack(list(self(images).values())[:-1], dim=1)


class PixelDetector:
    """Sees a mouth that is as wide as the number in the pixels says."""

    def find_faces(self, image_bgr: np.ndarray) -> list[np.ndarray]:
        return [np.array([0.0, 0, image_bgr.shape[1], image_bgr.shape[0]])]

    def landmarks_of_found(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        width = image_bgr[0, RANGE_NAMES.index("width"), 2] / 127.5
        points = np.random.default_rng(0).uniform(0, SIZE, (68, 2))
        points[48:, 0] *= width
        return FaceLandmarks(points, box)


class FakeModel:
    """Copies what drives it; `fault` spoils one thing."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.device = torch.device("cpu")
        encoder = SimpleNamespace(to_mouth=lambda pixels: pixels[:, 0, 0, 6 : 6 + SOUND - 2])
        self.networks = {"A_sync": lambda windows: windows[:, 0, 0, 2:SOUND], "E": _Callable(encoder)}

    def encode_identity(self, references: Tensor) -> IdentityCodes:
        return IdentityCodes(references[:, 0, 1].mean(dim=0, keepdim=True), torch.zeros(1))

    def encode_speech(self, windows: Tensor) -> Tensor:
        sound = windows[:, 0, 0, :SOUND]
        return torch.full_like(sound, 0.3) if self.fault == "deaf" else sound

    def encode_pose(self, frames: Tensor) -> Tensor:
        return frames[:, 0, 0, :6]

    def generate(self, identity: IdentityCodes, mouth: Tensor, pose: Tensor) -> Tensor:
        squares = gaussian_filter(64.0 * SQUARES, 3) if self.fault == "soft" else SQUARES * 64
        images = torch.tensor((squares - 0.5) / 127.5, dtype=torch.float32).repeat(len(mouth), 3, 1, 1)
        images[:, 0, 0, :6] = pose
        images[:, 0, 0, 3:5] = mouth[:, :2] if self.fault != "mouth of the pose video" else pose[:, 3:5]
        images[:, 0, 0, 6 : 6 + SOUND - 2] = mouth[:, 2:]
        if self.fault == "yaw of the sound":
            images[:, 0, 0, 0] = mouth[:, 0]
        images[:, 0, 1] = identity.vector
        if self.fault == "everybody alike":
            images[:, 0, 1] = 0
            images[:, 0, 1, 0] = 1
        return images


class _Callable(SimpleNamespace):
    def __init__(self, encoder: SimpleNamespace) -> None:
        super().__init__(to_mouth=encoder.to_mouth)

    def __call__(self, frames: Tensor) -> Tensor:
        return frames


@pytest.fixture(scope="module")
def speakers() -> list[Speaker]:
    return [_fake_speaker(person) for person in range(PEOPLE)]


def _missed(figures: dict[str, float]) -> set[str]:
    return {line["title"].split(",")[0] for line in judge(figures) if not line["reached"]}


def test_measure_model_that_copies_the_truth_reaches_every_threshold(speakers: list[Speaker]) -> None:
    figures = measure(FakeModel(), FakeProbe(), speakers, FRAMES, seed=0)
    assert _missed(figures) == set()
    assert figures["sync/audio_to_visual"] == figures["sync/visual_to_audio"] == 1
    assert figures["cross/opening/pooled"] == pytest.approx(1, abs=1e-3)
    assert figures["cross/roll/mean"] == pytest.approx(1, abs=2e-2)
    assert figures["ruler/yaw/pooled"] == pytest.approx(1, abs=1e-3)
    assert figures["self/identity/own"] == pytest.approx(1)
    assert figures["cross/identity/others"] == pytest.approx(0)
    assert figures["cross/identity/retrieval"] == 1
    assert figures["silence/mean_opening"] == pytest.approx(0, abs=0.02)
    assert figures["self/mean_opening"] == pytest.approx(0.5, abs=0.05)
    for leak in ("leak/yaw_of_audio_clip", "leak/opening_of_pose_video"):  # nothing beyond accident
        assert figures[f"{leak}/mean"] == pytest.approx(figures[f"{leak}/chance_mean"], abs=0.02)
    assert figures["ruler/identity/retrieval"] == 1
    assert figures["self/identity/share"] == pytest.approx(1)
    assert figures["self/cpbd"] == figures["self/cpbd_of_truth"] == 1
    assert figures["self/frechet"] == pytest.approx(0, abs=1e-2)
    assert all(np.isfinite(value) for value in figures.values())


def test_measure_model_that_ignores_the_sound_fails_the_mouth(speakers: list[Speaker]) -> None:
    figures = measure(FakeModel("deaf"), FakeProbe(), speakers, FRAMES, seed=0)
    assert {"mouth opening", "mouth opening in silence"} <= _missed(figures)
    assert figures["self/opening/mean"] == 0
    assert figures["self/yaw/pooled"] > 0.99


def test_measure_mouth_that_follows_the_pose_video_is_a_leak(speakers: list[Speaker]) -> None:
    figures = measure(FakeModel("mouth of the pose video"), FakeProbe(), speakers, FRAMES, seed=0)
    assert figures["self/opening/pooled"] > 0.99
    assert figures["leak/opening_of_pose_video/pooled"] > 0.99
    assert "drop of the mouth" in _missed(figures)


def test_measure_yaw_that_follows_the_sound_is_a_leak(speakers: list[Speaker]) -> None:
    figures = measure(FakeModel("yaw of the sound"), FakeProbe(), speakers, FRAMES, seed=0)
    assert figures["audio_swapped/opening/pooled"] > 0.99
    assert "yaw of the pose source" in _missed(figures)


def test_measure_model_that_gives_everybody_one_face_finds_the_right_one_by_chance(speakers: list[Speaker]) -> None:
    figures = measure(FakeModel("everybody alike"), FakeProbe(), speakers, FRAMES, seed=0)
    assert figures["self/identity/retrieval"] == pytest.approx(1 / PEOPLE)


def test_measure_soft_frames_are_as_blurred_as_they_look(speakers: list[Speaker]) -> None:
    figures = measure(FakeModel("soft"), FakeProbe(), speakers, FRAMES, seed=0)
    assert "sharpness (CPBD)" in _missed(figures)
    assert figures["self/cpbd_share"] < 0.2
    assert figures["self/ssim"] < 0.99


def test_measure_landmark_distance_is_that_of_the_mouths(speakers: list[Speaker]) -> None:
    figures = measure(FakeModel(), FakeProbe(), speakers, FRAMES, 0, PixelDetector())
    assert figures["self/lmd"] == pytest.approx(0, abs=0.1)
    assert "landmark distance of the mouth" not in _missed(figures)
    deaf = measure(FakeModel("deaf"), FakeProbe(), speakers, FRAMES, 0, PixelDetector())
    assert deaf["self/lmd"] > 1
    assert deaf["self/faces_found"] == 1


def test_measure_uses_the_first_frames_only(speakers: list[Speaker]) -> None:
    short = [speaker.first(51) for speaker in speakers]
    assert measure(FakeModel(), FakeProbe(), speakers, 51, 0) == measure(FakeModel(), FakeProbe(), short, 99, 0)


# ---------------------------------------------------------------------------------------------------------- numbers


def test_correlations_pooled_sees_a_wrong_offset_and_mean_does_not() -> None:
    truth = [np.arange(10.0), np.arange(10.0) + 100]
    read = [np.arange(10.0) + 200, np.arange(10.0)]
    assert correlations(read, truth)["mean"] == pytest.approx(1)
    assert correlations(read, truth)["pooled"] < -0.9


def test_retrieval_counts_the_right_column() -> None:
    similarity = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.4]])
    assert retrieval(similarity, np.array([0, 1, 1])) == pytest.approx(2 / 3)


def test_identity_figures_separate_own_from_others() -> None:
    codes = [np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([[0.0, 1.0]])]
    figures = identity_figures(codes, np.eye(2))
    assert figures == pytest.approx({"own": 2.6 / 3, "others": 0.8 / 3, "retrieval": 2 / 3})


def test_sync_retrieval_features_without_content_are_at_chance_or_below() -> None:
    rng = np.random.default_rng(0)
    random = sync_retrieval(rng.standard_normal((6, 50, 4)), rng.standard_normal((6, 50, 4)), seed=0)
    assert all(value < 0.1 for value in random.values())
    constant = np.ones((4, 50, 3))
    assert sync_retrieval(constant, constant, seed=0) == {"audio_to_visual": 0, "visual_to_audio": 0}


def test_sync_retrieval_needs_the_time_not_only_the_person() -> None:
    rng = np.random.default_rng(0)
    person = np.repeat(rng.standard_normal((5, 1, 8)), 60, axis=1)
    blurred = sync_retrieval(
        person + 1e-3 * rng.standard_normal((5, 60, 8)), person + 1e-3 * rng.standard_normal((5, 60, 8)), seed=0
    )
    assert all(value < 0.2 for value in blurred.values())


def test_correlations_leave_out_a_clip_in_which_nothing_happens() -> None:
    truth = [np.array([0.0, 1, 0, 0]), np.zeros(4)]
    assert correlations([2 * truth[0], np.arange(4.0)], truth)["mean"] == pytest.approx(1)
    assert correlations([np.arange(4.0)], [np.zeros(4)])["mean"] == 0


class SwayingDetector(PixelDetector):
    """Sees a face that is as many pixels to the right as the number in the pixels says, times 10."""

    def landmarks_of_found(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        yaw = image_bgr[0, RANGE_NAMES.index("yaw"), 2] / 127.5 - 1
        return FaceLandmarks(np.stack([np.arange(68) + 10 * yaw, np.arange(68.0)], axis=1), box)


def _directed(model: FakeModel, speakers: list[Speaker]) -> dict[str, float]:
    angles = drawn_head(SIZE)[1]
    tracks = np.stack([angles[:, 0], angles[:, 1], angles[:, 2]], axis=1) / [RANGES[name] for name in POSE]
    head = _paint(np.concatenate([tracks, np.zeros((len(tracks), 3 + SOUND - 2))], axis=1), 0)
    codes = [encode(model, speaker) for speaker in speakers]
    return measure_directed(model, FakeProbe(), SwayingDetector(), codes, head, angles)


def test_directed_head_that_is_copied_has_gain_one_and_is_still(speakers: list[Speaker]) -> None:
    figures = _directed(FakeModel(), speakers)
    for angle in POSE:
        assert figures[f"directed/{angle}/correlation"] == pytest.approx(1, abs=5e-3)
        assert figures[f"directed/{angle}/gain"] == pytest.approx(1, abs=0.02)
        assert figures[f"directed/{angle}/gain_at_half"] == pytest.approx(0.5, abs=0.02)
    assert figures["directed/still_px"] == pytest.approx(0, abs=1e-6)


def test_head_that_moves_with_the_sound_is_neither_directed_nor_still(speakers: list[Speaker]) -> None:
    figures = _directed(FakeModel("yaw of the sound"), speakers)
    assert abs(figures["directed/yaw/correlation"]) < 0.3
    assert figures["directed/pitch/correlation"] > 0.99
    spoken = [np.abs(np.diff(s.windows[:50, 0, 0, 0])).max() for s in speakers]
    assert min(spoken) > 0
    swayed = np.mean([np.abs(x - x.mean()) for x in (s.windows[:50, 0, 0, 0] for s in speakers)])
    assert figures["directed/still_px"] == pytest.approx(10 * 224 / SIZE * swayed, rel=0.05)


def test_drawn_head_goes_through_its_programme() -> None:
    frames, angles = drawn_head(SIZE)
    assert frames.shape == (125, 3, SIZE, SIZE)
    assert angles.min(axis=0) == pytest.approx([-20, -12, -10], abs=0.5)
    assert angles.max(axis=0) == pytest.approx([20, 12, 10], abs=0.5)
    assert (angles[0] == 0).all()


def test_judge_says_by_how_much() -> None:
    figures = dict.fromkeys(_figure_names(), 0.9)
    figures["self/opening/mean"] = 0.8
    lines = {line["title"]: line for line in judge(figures)}
    assert lines["mouth opening, own sound"]["reached"] is False
    assert lines["mouth opening, own sound"]["margin"] == pytest.approx(-0.13)
    assert lines["drop of the mouth, pose swapped"]["value"] == pytest.approx(0)
    text = table(figures, judge(figures))
    assert "| mouth opening, own sound | 0.800 | >= 0.93 | **not reached, by 0.130** |" in text
    assert "| SSIM, own sound and pose | 0.900 | >= 0.77 | reached |" in text


def _figure_names() -> set[str]:
    return {name for threshold in acceptance.THRESHOLDS for name in (*threshold.names, *threshold.minus)}


# --------------------------------------------------------------------------------------------------------- speakers


def test_make_speaker_is_seeded_and_shows_what_its_states_say() -> None:
    speaker = make_speaker(FIRST_HELD_OUT, 3, seed=0, size=56)
    assert speaker.frames.shape == (3, 3, 56, 56)
    assert speaker.windows.shape == (3, 1, 80, 20)
    assert speaker.states.shape == (3, len(STATE_NAMES))
    assert speaker.reference.shape == (3, 56, 56)
    assert speaker.portraits.shape == (3, 3, 56, 56)
    assert len({portrait.tobytes() for portrait in speaker.portraits}) == 3  # one a scene
    again = make_speaker(FIRST_HELD_OUT, 3, seed=0, size=56)
    other = make_speaker(FIRST_HELD_OUT, 3, seed=1, size=56)
    np.testing.assert_array_equal(speaker.frames, again.frames)
    assert not np.array_equal(speaker.states, other.states)


def test_load_speakers_cache_gives_the_same_and_renders_once(tmp_path: Path) -> None:
    first = load_speakers(FIRST_HELD_OUT, 1, 2, seed=0, size=28, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    second = load_speakers(FIRST_HELD_OUT, 1, 2, seed=0, size=28, cache=tmp_path)
    plain = load_speakers(FIRST_HELD_OUT, 1, 2, seed=0, size=28)
    assert path.stat().st_mtime_ns == written
    for field in dataclasses.fields(Speaker):
        np.testing.assert_array_equal(getattr(first[0], field.name), getattr(second[0], field.name))
        np.testing.assert_array_equal(getattr(first[0], field.name), getattr(plain[0], field.name))


def test_load_speakers_damaged_cache_names_the_file(tmp_path: Path) -> None:
    load_speakers(FIRST_HELD_OUT, 1, 2, seed=0, size=28, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MediaError, match=f"{path.name}: not readable as a cached speaker"):
        load_speakers(FIRST_HELD_OUT, 1, 2, seed=0, size=28, cache=tmp_path)


# ------------------------------------------------------------------------------------------------------- the script


@pytest.fixture
def flags(tmp_path: Path, speakers: list[Speaker], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run of a tiny model over painted speakers; only the sheet's truth is rendered."""
    config = dataclasses.replace(TINY, crop_size=SIZE, generator_channels=(16,) * 5)
    tiny_model = write_tiny_model(tmp_path / "checkpoints" / "tiny", config)
    torch.manual_seed(0)
    save_state_dict(Probe().state_dict(), tmp_path / "probe.pth")
    monkeypatch.setattr(rendering, "load_speakers", lambda *_: speakers[:3])
    monkeypatch.setattr(figures, "LEAST_FRAMES", 14)  # the tiny model's figures mean nothing anyway
    flags = ["--checkpoints_dir", str(tiny_model.parent), "--name", "tiny", "--probe", str(tmp_path / "probe.pth")]
    return [*flags, "--num_speakers", "3", "--frames", "14", "--output", str(tmp_path / "out")]


def test_main_measures_a_tiny_model_and_writes_figures_and_sheet(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    assert main([*flags, "--strict"]) == 1
    report = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert report["settings"]["num_speakers"] == 3
    assert report["figures"]["self/faces_found"] == 0  # so that there is no landmark distance
    assert len(report["acceptance"]) == 19
    assert "not reached" in (tmp_path / "out" / "figures.md").read_text()
    assert f"of 19 reached; written to {tmp_path / 'out'}" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "out" / "sheet.png")).shape == (3 * 4 * SIZE, 8 * SIZE, 3)


def test_main_missed_threshold_is_no_error_without_strict(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "measure", lambda *_: dict.fromkeys(_figure_names(), 0.5))
    for name in ("contact_sheet", "moments_sheet"):
        monkeypatch.setattr(sheets, name, lambda *_: np.zeros((8, 8, 3), np.uint8))
    assert main(flags) == 0
    assert main([*flags, "--strict"]) == 1
    monkeypatch.setattr(acceptance, "THRESHOLDS", ())
    assert main([*flags, "--strict"]) == 0


def test_contact_sheet_of_a_perfect_model_shows_the_reference_first(speakers: list[Speaker]) -> None:
    sheet = contact_sheet(FakeModel(), speakers)
    assert sheet.shape == (12 * SIZE, 8 * SIZE, 3)
    np.testing.assert_array_equal(sheet[:SIZE, :SIZE], speakers[0].reference.transpose(1, 2, 0))
    np.testing.assert_array_equal(sheet[SIZE : 2 * SIZE, :SIZE], speakers[1].frames[0].transpose(1, 2, 0))


def test_moments_are_shown_below_the_truth(speakers: list[Speaker]) -> None:
    sheet = moments_sheet(FakeModel(), speakers)
    assert sheet.shape == (PEOPLE * 4 * SIZE, 10 * SIZE, 3)
    np.testing.assert_array_equal(sheet[2 * SIZE : 3 * SIZE, -SIZE:], speakers[0].frames[-1].transpose(1, 2, 0))
    made, truth = sheet[3 * SIZE, -SIZE:], speakers[0].frames[-1, :, 0].T  # the first row of pixels says what is shown
    np.testing.assert_allclose(made[:6].astype(int), truth[:6], atol=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_speakers", "2"], "--num_speakers must be at least 3"),
        (["--frames", "49"], "--frames must be at least 50"),
        (["--start_speaker", "3"], "--start_speaker must be at least 50000"),
        (["--seed", "-1"], "--seed: must not be negative, got -1"),
        (["--probe", "nowhere.pth"], "nowhere.pth: no such file"),
        (["--checkpoints_dir", "nowhere"], "probe.pth: no such file"),
    ],
)
def test_main_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(arguments) == (1 if "no such file" in message else 2)
    assert message in capsys.readouterr().err


def test_parse_args_defaults_name_the_model_in_the_box() -> None:
    args = main.parse([])
    assert (args.checkpoints_dir / args.name, args.which_epoch) == (Path("checkpoints/synthetic"), "latest")
    assert (args.num_speakers, args.frames, args.start_speaker) == (16, 75, FIRST_HELD_OUT)
