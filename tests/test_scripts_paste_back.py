"""paste_back from result folders to videos: photos, videos forth and back, sound, and every way it can go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from data import frames
from data.faces import paste_result as paste_back
from data.faces.alignment import AlignmentInfo, AlignmentRecord, warp, write_record
from data.faces.paste import SHAPES
from data.faces.paste_result import Target, paste_result
from data.frames import crop_template, write_image
from data.prepared import fingerprint
from data.video_reader import open_source
from options.config import PASTE_MASKS as MASKS
from options.config import PasteOptions
from scripts.paste_back import main
from tests.conftest import Workspace, voice, write_wav
from util.errors import MediaError
from util.ffmpeg import named_colours, probe, run_ffmpeg

ROOT = Path(__file__).resolve().parents[1]
SIZE = (160, 120)  # of the sources, width and height
# a face of 48 px in the middle of the source: 192 template pixels
MATRIX = np.array([[4.0, 0, 111.5 - 4 * 80], [0, 4, 95.5 - 4 * 60]])
CLEAR = np.s_[10:25, :]  # rows above the pasted square


def _photo(size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(40, 216, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)


def _flat(level: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


class Scene:
    """misc/Input/me (a photo, a folder or a video), its alignment, and results/id_me with generated frames."""

    def __init__(self, root: Path) -> None:
        self.inputs = root / "misc" / "Input"
        self.cropped = self.inputs / "me_cropped"
        self.result = root / "results" / "id_me%d ü"
        self.cropped.mkdir(parents=True)
        self.output = self.result / "pasted.mp4"
        self.source = self.inputs

    def photo(self, image: np.ndarray) -> Scene:
        self.source = self.inputs / "me.png"
        write_image(self.source, image)
        return self

    def folder(self, images: Sequence[np.ndarray]) -> Scene:
        self.source = self.inputs / "me"
        self.source.mkdir()
        for number, image in enumerate(images):
            write_image(self.source / f"{number:06d}.png", image)
        return self

    def video(self, images: Sequence[np.ndarray]) -> Scene:
        self.folder(images)
        pattern, self.source = self.source / "%06d.png", self.inputs / "me.mp4"
        lossless = ["-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p"]
        run_ffmpeg(["-framerate", "25", "-i", pattern, *lossless, self.source], "making a clip")
        return self

    def align(self, matrices: Sequence[np.ndarray] = (MATRIX,), size: tuple[int, int] = SIZE) -> Scene:
        count = len(matrices)
        info = AlignmentInfo(state=fingerprint(open_source(self.source).files))
        landmarks = np.zeros((count, 68, 2))
        record = AlignmentRecord(
            self.source.name, *size, "mean", 0.0, matrices[0], np.stack(matrices), landmarks, ["given"] * count, info
        )
        write_record(self.cropped / "alignment.json", record)
        return self

    def generate(self, pictures: Sequence[np.ndarray], column: str = "G_Pose_Driven_", **note: Any) -> Scene:
        for number, picture in enumerate(pictures):
            path = self.result / column / f"{column}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, picture)
        audio = write_wav(self.result.parent / "voice.wav", voice(len(pictures) / 25))
        known = {"audio": str(audio), "reference": str(self.cropped), "first_frame": 0, "crop_len": 16}
        (self.result / "clip.json").write_text(json.dumps({**known, **note}))
        return self

    def run(self, *flags: object) -> int:
        return main([str(part) for part in ("--result", self.result, *flags)])

    def frames(self) -> list[np.ndarray]:
        """The finished frames, lossless."""
        folder = self.result / "frames"
        assert self.run("--frames_dir", folder) == 0
        return [cv2.imread(str(path)) for path in sorted(folder.iterdir())]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def _still(scene: Scene, count: int = 5, picture: np.ndarray | None = None) -> Scene:
    """A photo with `count` generated frames, whole and ready."""
    picture = np.full((56, 56, 3), 200, np.uint8) if picture is None else picture
    return scene.photo(_photo()).align().generate([picture] * count)


def _decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24", **named_colours(frame)) for frame in container.decode(video=0)]


def _clear_levels(frames: Sequence[np.ndarray]) -> list[int]:
    """The grey level of each background, read beside the pasted square."""
    return [round(float(frame[CLEAR].mean())) for frame in frames]


# ---- photos


def test_photo_with_its_very_crop_is_unchanged(scene: Scene) -> None:
    photo = _photo()
    crop = np.ascontiguousarray(crop_template(warp(photo, MATRIX))[:, :, ::-1])
    frames = scene.photo(photo).align().generate([crop] * 3).frames()
    assert len(frames) == 3
    for frame in frames:
        assert np.array_equal(frame[CLEAR], photo[CLEAR])
        assert np.abs(frame.astype(int) - photo).max() <= 4
    played = _decoded(scene.output)
    assert len(played) == 3
    assert np.abs(played[1].astype(int) - photo).mean() < 3  # through H.264


def test_each_frame_shows_its_own_picture_on_the_same_photo(scene: Scene) -> None:
    pictures = [np.full((56, 56, 3), level, np.uint8) for level in (10, 90, 180, 250)]
    scene.photo(_photo()).align().generate(pictures)
    folder = scene.result / "frames"
    assert scene.run("--no_colour_match", "--frames_dir", folder) == 0
    frames = [cv2.imread(str(folder / f"{number:06d}.png")) for number in range(4)]
    assert [int(frame[60, 80, 0]) for frame in frames] == [10, 90, 180, 250]
    assert all(np.array_equal(frame[CLEAR], _photo()[CLEAR]) for frame in frames)


def test_colours_are_matched_unless_asked_not_to(scene: Scene) -> None:
    crop = crop_template(warp(_photo(), MATRIX))[:, :, ::-1]
    scene.photo(_photo()).align().generate([np.clip(crop.astype(int) + 30, 0, 255).astype(np.uint8)] * 2)
    errors = []
    for flags in ([], ["--no_colour_match"]):
        folder = scene.result.with_name(f"frames{len(errors)}")
        assert scene.run("--frames_dir", folder, *flags) == 0
        middle = cv2.imread(str(folder / "000001.png"))[50:70, 70:90].astype(int)
        errors.append(abs(float((middle - _photo()[50:70, 70:90]).mean())))
    assert errors[0] < 3
    assert errors[1] == pytest.approx(30, abs=2)


def test_fixed_pose_results_are_pasted_too(scene: Scene) -> None:
    scene.photo(_photo()).align().generate([_flat(90, (28, 28))] * 2, column="G_Fix_Pose_")
    assert len(scene.frames()) == 2


def test_large_photo_is_reduced_to_even_sides(scene: Scene) -> None:
    big = cv2.resize(_photo(), (1201, 901), interpolation=cv2.INTER_CUBIC)
    matrix = MATRIX.copy()
    matrix[:, :2] *= 160 / 1201
    scene.photo(big).align([matrix], (1201, 901)).generate([_flat(255, (56, 56))] * 2)
    assert scene.run("--max_size", 401, "--no_colour_match") == 0
    info = probe(scene.output)
    assert (info.width, info.height) == (400, 300)
    shown = _decoded(scene.output)[0]
    assert abs(int(shown[150, 200, 1]) - 255) < 6  # the face is in the middle of the photo
    small = cv2.resize(big, (400, 300), interpolation=cv2.INTER_AREA)
    assert np.abs(shown[10:60].astype(int) - small[10:60]).mean() < 3


def test_odd_photo_loses_its_last_row_and_column(scene: Scene) -> None:
    photo = _photo((161, 121))
    scene.photo(photo).align(size=(161, 121)).generate([_flat(99, (28, 28))])
    (frame,) = scene.frames()
    assert np.array_equal(frame[:20], photo[:20, :160])
    assert frame.shape == (120, 160, 3)


def test_crop_len_of_the_result_moves_the_square(scene: Scene) -> None:
    scene.photo(_flat(50)).align().generate([_flat(200, (56, 56))], crop_len=0)
    assert scene.run("--no_colour_match", "--mask", "square", "--feather", 0, "--frames_dir", scene.result / "f") == 0
    row = cv2.imread(str(scene.result / "f" / "000000.png"))[60, :, 0]
    assert np.flatnonzero(row == 200).size == pytest.approx(224 / 4, abs=1)


# ---- videos


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_video_plays_forth_and_back_under_the_generated_frames(scene: Scene, kind: str) -> None:
    levels = [40, 70, 100, 130]
    images = [_flat(level) for level in levels]
    getattr(scene, kind)(images).align([MATRIX] * 4).generate([_flat(200, (28, 28))] * 11)
    found = _clear_levels(scene.frames())
    expected = [40, 70, 100, 130, 130, 100, 70, 40, 40, 70, 100]
    assert np.abs(np.subtract(found, expected)).max() <= 2


@pytest.mark.parametrize("kind", ["folder", "video"])
@pytest.mark.parametrize(
    ("first", "count", "expected"), [(2, 2, [100, 130]), (2, 4, [100, 130, 130, 100]), (5, 1, [100])]
)
def test_first_frame_of_the_result_is_the_first_of_the_video(
    scene: Scene, kind: str, first: int, count: int, expected: list[int]
) -> None:
    getattr(scene, kind)([_flat(level) for level in (40, 70, 100, 130)]).align([MATRIX] * 4)
    scene.generate([_flat(200, (28, 28))] * count, first_frame=first)
    assert np.abs(np.subtract(_clear_levels(scene.frames()), expected)).max() <= 2


def test_result_without_a_note_starts_with_the_published_frame(scene: Scene) -> None:
    scene.folder([_flat(level) for level in (40, 70, 100, 130)]).align([MATRIX] * 4)
    scene.generate([_flat(200, (28, 28))] * 2)
    sound = json.loads((scene.result / "clip.json").read_text())["audio"]
    (scene.result / "clip.json").unlink()
    folder = scene.result / "frames"
    assert scene.run("--alignment", scene.cropped, "--audio", sound, "--frames_dir", folder) == 0
    frames = [cv2.imread(str(path)) for path in sorted(folder.iterdir())]
    assert np.abs(np.subtract(_clear_levels(frames), [100, 130])).max() <= 2


def test_video_longer_than_the_result_is_cut(scene: Scene) -> None:
    scene.video([_flat(level) for level in (40, 70, 100, 130)]).align([MATRIX] * 4).generate([_flat(9, (28, 28))] * 2)
    assert np.abs(np.subtract(_clear_levels(scene.frames()), [40, 70])).max() <= 2


def test_each_video_frame_is_pasted_by_its_own_matrix(scene: Scene) -> None:
    shifted = [MATRIX - np.array([[0, 0, 4.0 * move], [0, 0, 0]]) for move in (0, 7, -11)]
    scene.folder([_flat(50)] * 3).align(shifted).generate([_flat(250, (56, 56))] * 5)
    folder = scene.result / "frames"
    assert scene.run("--no_colour_match", "--frames_dir", folder) == 0
    for number, move in enumerate((0, 7, -11, -11, 7)):
        light = cv2.imread(str(folder / f"{number:06d}.png"))[60, :, 0].astype(float) - 50
        centre = (np.arange(SIZE[0]) * light).sum() / light.sum()
        assert centre == pytest.approx(80 + move, abs=0.1)


@pytest.mark.parametrize("kind", ["photo", "folder", "video"])
def test_few_frames_are_in_memory_at_a_time(scene: Scene, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [_flat(40 + number) for number in range(20)]
    getattr(scene, kind)(images[0] if kind == "photo" else images).align([MATRIX] * (1 if kind == "photo" else 20))
    scene.generate([_flat(200, (28, 28))] * 45)
    alive: weakref.WeakSet[Picture] = weakref.WeakSet()
    most = 0

    class Picture(np.ndarray):
        __hash__ = object.__hash__  # type: ignore[assignment]
        __eq__ = object.__eq__  # type: ignore[assignment]

    def tracked(self: Target, name: str, image: np.ndarray) -> np.ndarray:
        nonlocal most
        picture = image.view(Picture)
        alive.add(picture)
        most = max(most, len(alive))
        return picture

    monkeypatch.setattr(Target, "_fit", tracked)
    assert scene.run() == 0
    assert 1 <= most <= 3


def test_alignment_of_another_clip_makes_that_the_background(scene: Scene, tmp_path: Path) -> None:
    _still(scene)
    other = Scene(tmp_path / "other").folder([_flat(33)] * 2).align([MATRIX] * 2)
    for flag in (other.cropped, other.cropped / "alignment.json"):
        assert scene.run("--alignment", flag) == 0
        assert np.abs(np.subtract(_clear_levels(_decoded(scene.output)), 33)).max() <= 2


def test_moved_background_is_found_by_its_flag(scene: Scene) -> None:
    _still(scene)
    moved = scene.source.rename(scene.inputs / "elsewhere.png")
    assert scene.run("--background", moved) == 0
    assert probe(scene.output).video_frames == 5


# ---- sound and encoding


def test_sound_starts_with_the_picture_and_lasts_as_long(scene: Scene) -> None:
    _still(scene, count=32)
    assert scene.run() == 0
    info = probe(scene.output)
    assert (info.video_codec, info.audio_codec, info.video_frames, info.fps) == ("h264", "aac", 32, 25)
    assert abs(info.audio_duration_s - 32 / 25) < 0.04
    with av.open(str(scene.output)) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0) if f.pts >= 0])
    onsets = [np.argmax(np.abs(x) > 0.05) / rate for x, rate in ((heard, 48000), (voice(1.28), 16000))]
    assert abs(onsets[0] - onsets[1]) < 0.005


def test_colours_survive_the_encoding_and_are_labelled(scene: Scene) -> None:
    photo = np.zeros((120, 160, 3), np.uint8)
    photo[:, :80], photo[:, 80:] = (60, 120, 200), (190, 60, 40)
    scene.photo(photo).align().generate([_flat(100, (28, 28))] * 2)
    assert scene.run() == 0
    with av.open(str(scene.output)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.pix_fmt) == (1, 1, "yuv420p")  # BT.709, limited
        picture = next(container.decode(video=0))
        frame = picture.to_ndarray(format="bgr24", **named_colours(picture))
    for columns in (np.s_[5:70], np.s_[90:155]):
        assert np.abs(frame[5:25, columns].astype(int) - photo[5:25, columns]).max() <= 4


def test_output_flag_names_the_video(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    target = tmp_path / "new folder" / "my:video.mov"
    assert scene.run("--output", target) == 0
    assert probe(target).video_frames == 5
    assert not scene.output.exists()
    assert capsys.readouterr().out == f"{target}: 5 frames of 160x120 on {scene.source}\n"


def test_audio_flag_replaces_the_noted_sound(scene: Scene, tmp_path: Path) -> None:
    _still(scene, count=10)
    (scene.result / "clip.json").write_text(json.dumps({"reference": str(scene.cropped)}))
    assert scene.run() == 1
    assert scene.run("--audio", write_wav(tmp_path / "b.wav", voice(2.0))) == 0
    assert probe(scene.output).audio_duration_s == pytest.approx(0.4, abs=0.04)


# ---- from test.py


def test_result_of_test_py_is_pasted_without_further_flags(workspace: Workspace) -> None:
    row = workspace.add_inputs(seconds=0.4)
    photo = workspace.misc / "Input" / "face.png"
    write_image(photo, _photo((400, 300)))
    matrix = np.array([[0.8, 0, 111.5 - 0.8 * 200], [0, 0.8, 95.5 - 0.8 * 150]])
    record = AlignmentRecord("face.png", 400, 300, "mean", 0.0, matrix, matrix[None], np.zeros((1, 68, 2)), ["given"])
    write_record(workspace.root / row[0] / "alignment.json", record)
    workspace.write_csv(row)
    assert workspace.run("--driving_pose", "--published_timing") == 0
    result = workspace.results / "id_a_pose_a_audio_a"
    note = json.loads((result / "clip.json").read_text())
    assert (note["reference"], note["first_frame"], note["crop_len"]) == (str(workspace.root / row[0]), 2, 16)
    assert main(["--result", str(result)]) == 0
    info = probe(result / "pasted.mp4")
    assert (info.width, info.height, info.video_frames) == (400, 300, len(workspace.frames("id_a_pose_a_audio_a")))


# ---- what can go wrong


def _fails(scene: Scene, capsys: pytest.CaptureFixture, *flags: object) -> str:
    """Runs, checks that it failed with one line and left nothing, and returns the line."""
    before = sorted(scene.result.rglob("*"))
    capsys.readouterr()
    assert scene.run(*flags) == 1
    assert sorted(scene.result.rglob("*")) == before
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_missing_result_fails(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--result", str(tmp_path / "gone")]) == 1
    assert "gone: no such result folder" in capsys.readouterr().err


def test_result_without_generated_frames_fails(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    scene.photo(_photo()).align().generate([_flat(9, (28, 28))], column="Input_")
    assert "has no G_Pose_Driven_ or G_Fix_Pose_ folder, nothing was generated here; run test.py first" in _fails(
        scene, capsys
    )


def test_empty_frame_folder_fails(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    _still(scene, count=1)
    (scene.result / "G_Pose_Driven_" / "G_Pose_Driven_0.png").unlink()
    assert "has no G_Pose_Driven_ or G_Fix_Pose_ folder, nothing was generated" in _fails(scene, capsys)


def test_gap_in_the_generated_frames_names_the_frame(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    (scene.result / "G_Pose_Driven_" / "G_Pose_Driven_2.png").unlink()
    assert "frame G_Pose_Driven_2.png is missing; finish the row with test.py --resume" in _fails(scene, capsys)


def test_unreadable_generated_frame_fails_and_keeps_the_earlier_video(
    scene: Scene, capsys: pytest.CaptureFixture
) -> None:
    _still(scene)
    scene.output.write_bytes(b"earlier, made by PC-AVS")
    (scene.result / "G_Pose_Driven_" / "G_Pose_Driven_3.png").write_bytes(b"rubbish")
    assert "G_Pose_Driven_3.png: not a readable picture" in _fails(scene, capsys)
    assert scene.output.read_bytes() == b"earlier, made by PC-AVS"


@pytest.mark.parametrize("shape", [(40, 56, 3), (40, 40, 3)])
def test_generated_frame_of_another_size_fails(
    scene: Scene, capsys: pytest.CaptureFixture, shape: tuple[int, int, int]
) -> None:
    _still(scene)
    write_image(scene.result / "G_Pose_Driven_" / "G_Pose_Driven_3.png", np.zeros(shape, np.uint8))
    message = _fails(scene, capsys)
    assert f"G_Pose_Driven_3.png: is {shape[1]}x{shape[0]}, generated frames are square and of one size" in message


def test_reference_that_was_not_aligned_fails(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    (scene.cropped / "alignment.json").unlink()
    message = _fails(scene, capsys)
    assert f"{scene.cropped}: holds no alignment.json, which says where the face was; scripts/align_68.py" in message


def test_damaged_alignment_fails(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    (scene.cropped / "alignment.json").write_text("{}")
    assert "alignment.json: Object missing required field `source`; run scripts/align_68.py" in _fails(scene, capsys)


def test_without_a_note_of_the_reference_the_alignment_must_be_given(
    scene: Scene, capsys: pytest.CaptureFixture
) -> None:
    _still(scene)
    (scene.result / "clip.json").write_text('{"audio": "a.wav"}')
    assert "no clip.json names its reference; give --alignment NAME_cropped" in _fails(scene, capsys)


@pytest.mark.parametrize("text", ["rubbish", "[]", '{"first_frame": "2"}', '{"crop_len": -1}', "[" * 100000])
def test_broken_note_is_named(scene: Scene, capsys: pytest.CaptureFixture, text: str) -> None:
    _still(scene)
    (scene.result / "clip.json").write_text(text)
    assert f"{scene.result / 'clip.json'}: " in _fails(scene, capsys)


def test_without_a_note_of_the_sound_it_must_be_given(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    (scene.result / "clip.json").unlink()
    assert "says which sound belongs here; give --audio FILE" in _fails(scene, capsys, "--alignment", scene.cropped)


def test_background_that_is_gone_fails(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    scene.source.unlink()
    assert "me.png: what was aligned is no longer there; give --background" in _fails(scene, capsys)
    message = _fails(scene, capsys, "--background", scene.inputs / "you.png")
    assert "you.png: no such folder, video or picture" in message


def test_background_of_another_size_fails(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    write_image(scene.inputs / "big.png", _photo((320, 240)))
    message = _fails(scene, capsys, "--background", scene.inputs / "big.png")
    assert "big.png: is 320x240, but 160x120 was aligned; give that very photo or video" in message


def test_background_folder_of_another_length_fails(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    scene.folder([_flat(50)] * 3).align([MATRIX] * 4).generate([_flat(200, (28, 28))])
    assert "me: has 3 frames, its alignment 4; align it again" in _fails(scene, capsys)


@pytest.mark.parametrize("count", [4, 9])
def test_background_video_that_ends_too_early_fails(scene: Scene, capsys: pytest.CaptureFixture, count: int) -> None:
    scene.video([_flat(50)] * 3).align([MATRIX] * 4).generate([_flat(200, (28, 28))] * count)
    assert "me.mp4: has 3 frames, its alignment 4; align it again" in _fails(scene, capsys)


def test_unreadable_background_frame_fails(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    scene.folder([_flat(50)] * 3).align([MATRIX] * 3).generate([_flat(200, (28, 28))] * 5)
    (scene.source / "000002.png").write_bytes(b"rubbish")
    assert "000002.png: not a readable picture" in _fails(scene, capsys)


def test_background_frame_of_another_size_fails(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    scene.folder([_flat(50), _flat(50), _flat(50, (64, 64))]).align([MATRIX] * 3)
    scene.generate([_flat(200, (28, 28))] * 5)
    assert "000002.png: is 64x64, but 160x120 was aligned" in _fails(scene, capsys)


def test_changed_background_is_a_warning(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    _still(scene)
    assert paste_result(scene.result, scene.output)
    assert not caplog.messages
    write_image(scene.source, _photo(seed=1))
    paste_result(scene.result, scene.output)
    assert [message for message in caplog.messages if "me.png: has changed since it was aligned" in message]


def test_sound_that_cannot_be_used_fails_before_the_work(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _still(scene, count=30)
    run_ffmpeg(["-i", scene.source, tmp_path / "mute.mp4"], "making a clip")
    short = write_wav(tmp_path / "short.wav", voice(0.5))
    monkeypatch.setattr(paste_back, "_pasted", None)
    assert "mute.mp4: holds no sound; give --audio FILE" in _fails(scene, capsys, "--audio", tmp_path / "mute.mp4")
    assert "gone.wav: no such file" in _fails(scene, capsys, "--audio", tmp_path / "gone.wav")
    assert "short.wav: 0.50 s of sound for 1.20 s of picture" in _fails(scene, capsys, "--audio", short)


def test_output_must_not_take_the_place_of_an_input(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    scene.video([_flat(50)] * 2).align([MATRIX] * 2).generate([_flat(200, (28, 28))] * 2)
    before = scene.source.read_bytes()
    assert "was not made by this command" in _fails(scene, capsys, "--output", scene.source)
    message = _fails(scene, capsys, "--output", scene.source, "--overwrite")
    assert "would overwrite what it is made from" in message
    assert scene.source.read_bytes() == before


@pytest.mark.parametrize("kind", ["folder", "photo"])
def test_frames_must_not_take_the_place_of_the_background(
    scene: Scene, capsys: pytest.CaptureFixture, kind: str
) -> None:
    scene.folder([_flat(50)] * 2).align([MATRIX] * 2).generate([_flat(200, (28, 28))] * 2)
    target = scene.source
    if kind == "photo":
        scene.source = scene.source / "000000.png"
        (target / "000001.png").unlink()
        scene.cropped = target / "cropped"
        scene.cropped.mkdir()
        scene.align()
    before = (target / "000000.png").read_bytes()
    flags = ["--alignment", scene.cropped, "--background", scene.source, "--frames_dir", target]
    assert "holds what the video is made from; choose another folder" in _fails(scene, capsys, *flags)
    assert (target / "000000.png").read_bytes() == before


def test_output_that_is_a_folder_fails(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    (tmp_path / "x.mp4").mkdir()
    assert "x.mp4: is a folder; give the name of a file" in _fails(scene, capsys, "--output", tmp_path / "x.mp4")


def test_output_in_an_impossible_place_fails(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    (tmp_path / "file").write_text("")
    assert "the folder cannot be made" in _fails(scene, capsys, "--output", tmp_path / "file" / "x.mp4")


def test_disk_that_refuses_fails_with_its_reason(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    _still(scene)

    def full(*args: object, **options: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(paste_back.tempfile, "TemporaryDirectory", full)
    with pytest.raises(MediaError, match=r"pasted.mp4: cannot be written: No space left on device"):
        paste_result(scene.result, scene.output)


def test_frames_dir_with_foreign_files_is_left_alone(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    _still(scene, count=3)
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("000003.png", "holiday.jpg"):
        write_image(folder / name, _photo())
        message = _fails(scene, capsys, "--frames_dir", folder)
        assert f"frames: holds {name}, which is none of these frames; empty it" in message
        (folder / name).unlink()
    assert scene.run("--frames_dir", folder) == 0
    assert scene.run("--frames_dir", folder) == 0  # its own frames are written again
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png", "000002.png"]


def test_ctrl_c_leaves_nothing_half_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    _still(scene)
    before = sorted(scene.result.rglob("*"))
    calls = 0

    def interrupted(path: Path) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > 3:  # in the midst of the encoding
            raise KeyboardInterrupt
        return frames.read_image(path)

    monkeypatch.setattr(paste_back, "read_image", interrupted)
    assert scene.run() == 130
    assert "interrupted" in capsys.readouterr().err
    assert sorted(scene.result.rglob("*")) == before


def test_one_failing_result_does_not_stop_the_others(scene: Scene, capsys: pytest.CaptureFixture) -> None:
    _still(scene)
    assert main(["--result", str(scene.result / "gone"), str(scene.result)]) == 1
    assert scene.output.is_file()
    assert "1 of 2 results done" in capsys.readouterr().err


# ---- flags


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--feather", "0.6"], "--feather must be from 0 to 0.5"),
        (["--feather", "nan"], "--feather must be from 0 to 0.5"),
        (["--feather", "-0.1"], "--feather must be from 0 to 0.5"),
        (["--max_size", "10"], "--max_size must be at least 64 pixels, got 10"),
        (["--mask", "star"], "invalid choice: 'star'"),
        (["--output", "x.gif"], "--output must end in .mp4, .mov, .m4v, got x.gif"),
        (["more", "--output", "x.mp4"], "--output belongs to one result, --result names 2"),
        (["more", "--frames_dir", "x"], "--frames_dir belongs to one result, --result names 2"),
    ],
)
def test_impossible_flags_exit_with_2(flags: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["--result", "some", *flags]) == 2
    assert message in capsys.readouterr().err


def test_masks_are_the_outlines_there_are() -> None:
    assert set(MASKS) == set(SHAPES)


@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_leaves_the_surroundings_alone(scene: Scene, mask: str) -> None:
    _still(scene, count=1)
    paste_result(scene.result, scene.output, PasteOptions(mask, 0.3), frames_dir=scene.result / "f")
    frame = cv2.imread(str(scene.result / "f" / "000000.png"))
    assert np.array_equal(frame[:30], _photo()[:30])
    assert not np.array_equal(frame, _photo())


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys, runpy; sys.argv = ['paste_back.py', '--help']\n"
        "try: runpy.run_path('scripts/paste_back.py', run_name='__main__')\n"
        "except SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'cv2', 'numpy', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--no_colour_match" in done.stdout
    assert "%06d.png" in done.stdout
