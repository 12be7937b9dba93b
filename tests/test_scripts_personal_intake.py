"""Clips and photos of drawn people, taken in: pieces, lists, whose face, what is said, and bad input."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import wave
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.clip_list import read_list
from data.faces.landmarks import DlibDetector, LandmarkDetector
from data.frames import list_frames, read_image
from data.synthetic.clips import Clip, make_clip, write_clip
from data.voxtrain_dataset import VoxTrainDataset
from options.config import SAMPLE_RATE_HZ, DataConfig
from scripts.personal import footage, intake
from scripts.personal.checks import Check
from scripts.personal.intake import INTAKE_NAME, Intake, read_intake, take_in
from tests.conftest import fail_writing, write_wav
from util.errors import AlignmentError, MediaError, OptionError, PcavsError

COUNT = 80  # frames of a clip
SPEECH = [(0.2, 3.0)]  # what the detector of speech says, in seconds
Cuts = Callable[..., None]


@pytest.fixture(scope="module")
def dlib_detector() -> LandmarkDetector:
    return DlibDetector()


@pytest.fixture(scope="module")
def anna() -> Clip:
    return make_clip(21, 0, COUNT, clean=True)


@pytest.fixture(scope="module")
def bela() -> Clip:
    return make_clip(30, 0, COUNT, clean=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, dlib_detector: LandmarkDetector) -> Cuts:
    """dlib loaded once; cuts and speech are told, for the packages that find them are optional. Returns how to."""

    def tell(cuts: Sequence[int] = (), spoken: Sequence[tuple[float, float]] | PcavsError = SPEECH) -> None:
        def spoken_parts(path: Path, gain: float) -> Sequence[tuple[float, float]]:
            if isinstance(spoken, PcavsError):
                raise spoken
            return spoken

        def find_cuts(frames: Iterable[np.ndarray]) -> list[int]:
            assert sum(1 for _ in frames)
            return list(cuts)

        monkeypatch.setattr(footage, "find_cuts", find_cuts)
        monkeypatch.setattr(intake, "spoken_parts", spoken_parts)

    monkeypatch.setattr(intake, "make_detector", lambda name, device: dlib_detector)
    monkeypatch.setattr("data.faces.align_clip.make_detector", lambda name, device: dlib_detector)
    tell()
    return tell


def folder_of(path: Path, frames: Iterable[np.ndarray], sound: np.ndarray | None = None) -> Path:
    """A folder of frames with its sound, as the commands of this project prepare it."""
    path.mkdir(parents=True)
    for number, frame in enumerate(frames):
        assert cv2.imwrite(str(path / f"{number:06d}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
    if sound is not None:
        write_wav(path / "audio.wav", sound)
    return path


def said(result: Intake) -> dict[str, Check]:
    return {check.name: check for check in result.checks}


def sound_in(folder: Path) -> np.ndarray:
    with wave.open(str(folder / "audio.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (SAMPLE_RATE_HZ, 1)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def test_clip_becomes_three_parts_by_time_that_a_training_reads(tmp_path: Path, anna: Clip) -> None:
    source = folder_of(tmp_path / "me_cropped", anna.frames, anna.wave)
    result = take_in([source], [], tmp_path / "work")
    parts = [(piece.part, piece.first_frame, piece.num_frames) for piece in result.clips]
    assert parts == [("train", 0, 30), ("watch", 30, 25), ("held_out", 55, 25)]
    # it lies like the template, so its frames are taken as they are
    for piece in result.clips:
        for number, path in enumerate(list_frames(piece.folder)):
            assert path.read_bytes() == (source / f"{piece.first_frame + number:06d}.jpg").read_bytes()
        heard = anna.wave[640 * piece.first_frame :][: 640 * piece.num_frames]
        np.testing.assert_allclose(sound_in(piece.folder), np.clip(heard, -1, 1), atol=1e-4)
    lists = [result.train_list, result.watch_list, result.held_out_list]
    records = [read_list(path) for path in lists if path is not None]
    assert [[record.num_frames for record in own] for own in records] == [[30], [25], [25]]
    data = DataConfig(crop_size=56, clip_len=4)
    item = VoxTrainDataset(records[2], data, 0, frozenset({"target", "mel"}))[0]
    assert item["target"].shape == (4, 3, 56, 56)
    assert item["mel"].shape == (1, 4, 1, 80, 20)
    checks = said(result)
    assert checks["length"].figure == pytest.approx(3.2)
    assert (checks["length"].severity, checks["face_share"].figure, checks["face_share"].severity) == (
        "warning",
        1.0,
        "ok",
    )
    assert checks["speech"].figure == pytest.approx(70 / 25)
    assert "people" not in checks


def test_second_run_finds_the_first_and_other_sources_take_its_place(
    tmp_path: Path, anna: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, work = folder_of(tmp_path / "me_cropped", anna.frames, anna.wave), tmp_path / "work"
    first = take_in([source], [], work)
    assert sorted(p.name for p in work.iterdir()) == sorted(
        ["clips", "held_out.csv", INTAKE_NAME, "train.csv", "watch.csv"]
    )
    with monkeypatch.context() as patch:
        patch.setattr(intake, "extract", lambda *args: pytest.fail("was prepared again"))
        assert take_in([source], [], work) == first
    moved = work.rename(tmp_path / "elsewhere")
    assert read_intake(moved).clips[0].folder == moved / "clips" / "000_train"
    list_frames(read_intake(moved).clips[1].folder)[3].unlink()  # no longer whole
    assert len(list_frames(take_in([source], [], moved).clips[1].folder)) == 25
    photo = take_in([], [source / "000000.jpg"], moved)
    assert (photo.clips, photo.train_list) == ([], None)
    assert sorted(p.name for p in moved.iterdir()) == [INTAKE_NAME, "photos"]


def test_video_of_a_whole_scene_is_aligned_and_its_sound_goes_along(tmp_path: Path, anna: Clip) -> None:
    scene = np.full((COUNT, 320, 480, 3), 90, np.uint8)
    scene[:, 40:264, 150:374] = anna.frames
    write_clip(dataclasses.replace(anna, frames=scene), tmp_path / "me.mp4")
    result = take_in([tmp_path / "me.mp4"], [], tmp_path / "work")
    assert [piece.num_frames for piece in result.clips] == [30, 25, 25]
    for piece in result.clips:
        for number, path in enumerate(list_frames(piece.folder)):
            crop = read_image(path)[40:180, 50:170].astype(float)
            truth = anna.frames[piece.first_frame + number][40:180, 50:170].astype(float)
            assert crop.shape == truth.shape
            assert np.corrcoef(crop.ravel(), truth.ravel())[0, 1] > 0.5  # moved and scaled by the alignment
    heard = np.concatenate([sound_in(piece.folder) for piece in result.clips])
    assert np.corrcoef(heard, anna.wave)[0, 1] > 0.9  # AAC
    assert [p.name for p in (tmp_path / "work" / "sheets").iterdir()] == ["me_000000.png"]


def test_turns_by_cuts_leave_the_first_person(tmp_path: Path, anna: Clip, bela: Clip, quick: Cuts) -> None:
    quick(cuts=[40, 80, 120], spoken=[(0.0, 6.4)])
    frames = [*anna.frames[:40], *bela.frames[:40], *anna.frames[40:], *bela.frames[40:]]
    half = 40 * 640
    sound = np.concatenate([anna.wave[:half], bela.wave[:half], anna.wave[half:], bela.wave[half:]])
    source = folder_of(tmp_path / "two_cropped", frames, sound)
    result = take_in([source], [], tmp_path / "work")
    of_anna, of_bela = {*range(40), *range(80, 120)}, {*range(40, 80), *range(120, 160)}
    shown = {n for piece in result.clips for n in range(piece.first_frame, piece.first_frame + piece.num_frames)}
    assert shown in (of_anna, of_bela)
    people = said(result)["people"]
    assert (people.figure, people.severity) == (2, "warning")
    assert "2 people are seen" in people.words


def test_of_two_faces_side_by_side_the_one_that_speaks_is_taken(tmp_path: Path, anna: Clip, bela: Clip) -> None:
    scene = np.concatenate([anna.frames, bela.frames], axis=2)
    result = take_in([folder_of(tmp_path / "two", scene, bela.wave)], [], tmp_path / "work")
    assert "2 people are seen; it is about the one whose mouth goes best" in said(result)["people"].words
    assert sum(piece.num_frames for piece in result.clips) == COUNT
    for piece in result.clips:
        crop = read_image(list_frames(piece.folder)[0])[40:180, 50:170].astype(float)
        likeness = [
            np.corrcoef(crop.ravel(), clip.frames[piece.first_frame, 40:180, 50:170].astype(float).ravel())[0, 1]
            for clip in (anna, bela)
        ]
        assert likeness[1] > likeness[0]


def test_silent_clip_beside_a_spoken_one_gives_photos_only(
    tmp_path: Path, anna: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footage, "MOST_S", 3.08)
    spoken = folder_of(tmp_path / "a_cropped", anna.frames, anna.wave)
    silent = folder_of(tmp_path / "b_cropped", anna.frames[:30])
    result = take_in([silent, spoken], [], tmp_path / "work")
    assert {piece.source for piece in result.clips} == {spoken}
    assert sum(piece.num_frames for piece in result.clips) == 77  # nothing behind MOST_S
    assert len(result.photos) == 6
    assert all(path.parent.name.startswith("b_cropped_") for path in result.photos)


def test_silent_clip_gives_photos_and_says_so(tmp_path: Path, anna: Clip) -> None:
    source = folder_of(tmp_path / "me_cropped", anna.frames, np.zeros(len(anna.wave)))
    result = take_in([source], [], tmp_path / "work")
    assert (result.clips, result.train_list, len(result.photos)) == ([], None, 6)
    speech = said(result)["speech"]
    assert (speech.figure, speech.severity) == (0.0, "warning")
    assert "me_cropped: there is no sound; a mouth cannot be learned" in speech.words
    for photo in result.photos:
        assert any(photo.read_bytes() == path.read_bytes() for path in source.glob("*.jpg"))


def test_music_gives_photos_and_without_the_detector_it_is_said(tmp_path: Path, anna: Clip, quick: Cuts) -> None:
    source = folder_of(tmp_path / "me_cropped", anna.frames, anna.wave)
    quick(spoken=[(1.0, 1.2)])
    music = take_in([source], [], tmp_path / "music")
    assert (len(music.clips), len(music.photos)) == (0, 6)
    assert "0.2 s of speech are heard in 3.2 s (music, noise?)" in said(music)["speech"].words
    quick(spoken=OptionError("pip install it"))
    unknown = take_in([source], [], tmp_path / "unknown")
    assert len(unknown.clips) == 3
    assert "speech was not told from other sounds: pip install" in said(unknown)["speech"].words


def test_frames_without_the_face_are_left_out(tmp_path: Path, anna: Clip, quick: Cuts) -> None:
    grey = [np.full((224, 224, 3), 120, np.uint8)] * 20
    source = folder_of(tmp_path / "me_cropped", [*anna.frames[:50], *grey, *anna.frames[50:]], None)
    result = take_in([source], [], tmp_path / "work")
    assert said(result)["length"].figure == pytest.approx(COUNT / 25, abs=0.2)
    assert said(result)["face_share"].figure == pytest.approx(COUNT / (COUNT + 20), abs=0.03)


def test_photos_are_aligned_and_another_person_is_noticed(tmp_path: Path, anna: Clip, bela: Clip) -> None:
    scene = np.full((400, 400, 3), 90, np.uint8)
    scene[100:324, 60:284] = anna.frames[0]
    for name, image in (("a", scene), ("b", anna.frames[40]), ("c", bela.frames[0])):
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    result = take_in([], [tmp_path / f"{name}.png" for name in "abc"], tmp_path / "work")
    assert [str(path.relative_to(tmp_path / "work" / "photos")) for path in result.photos] == [
        "00_a_cropped/000000.jpg",
        "01_b/000000.jpg",
        "02_c/000000.jpg",
    ]
    assert [read_image(path).shape for path in result.photos] == [(224, 224, 3)] * 3
    warned = [check.words.split(":")[0] for check in result.checks if check.name == "photo"]
    assert warned == ["c.png"]


@pytest.mark.parametrize(
    ("frames", "error", "words"),
    [
        (lambda clip: clip.frames[:25], MediaError, r"me: lasts 1\.0 s; 3 s are the least.*--photo"),
        (lambda clip: [clip.frames[0]] * 76, MediaError, "stands still in every frame .*slide show.*--photo"),
        (lambda clip: [np.full((224, 224, 3), 90, np.uint8)] * 76, AlignmentError, "no face that stays for a second"),
        (
            lambda clip: [*clip.frames[:60], *[np.full((224, 224, 3), 90, np.uint8)] * 30],
            MediaError,
            r"shows the face for 2\.[3-6] s; 3 s are the least",
        ),
    ],
    ids=["short", "still", "no face", "little face"],
)
def test_useless_clip_is_refused_with_one_message(
    tmp_path: Path, anna: Clip, frames: Callable[[Clip], Iterable[np.ndarray]], error: type[Exception], words: str
) -> None:
    source = folder_of(tmp_path / "me", frames(anna), anna.wave)
    with pytest.raises(error, match=words):
        take_in([source], [], tmp_path / "work")
    assert not (tmp_path / "work" / INTAKE_NAME).exists()


def test_broken_files_and_nothing_at_all_are_refused(tmp_path: Path, anna: Clip) -> None:
    (tmp_path / "me.mp4").write_bytes(bytes(range(256)) * 99)
    with pytest.raises(MediaError, match=r"me\.mp4: not a readable picture, video or recording"):
        take_in([tmp_path / "me.mp4"], [], tmp_path / "work")
    with pytest.raises(MediaError, match="holds sound but no pictures"):
        take_in([write_wav(tmp_path / "a.wav", anna.wave)], [], tmp_path / "work")
    with pytest.raises(OptionError, match="needs --video or --photo"):
        take_in([], [], tmp_path / "work")


def test_full_disk_is_one_message_and_keeps_the_older_intake(
    tmp_path: Path, anna: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    photo = tmp_path / "a.png"
    assert cv2.imwrite(str(photo), anna.frames[0])
    before = take_in([], [photo], work)
    source = folder_of(tmp_path / "me_cropped", anna.frames, anna.wave)
    with monkeypatch.context() as patch:
        fail_writing(patch, "000044")
        with pytest.raises(MediaError, match=os.strerror(errno.ENOSPC)):
            take_in([source], [], work)
    assert read_intake(work) == before
    assert take_in([], [photo], work) == before
    assert len(take_in([source], [], work).clips) == 3


def test_things_of_the_user_are_not_replaced(tmp_path: Path, anna: Clip) -> None:
    photo = tmp_path / "a.png"
    assert cv2.imwrite(str(photo), anna.frames[0])
    for name in ("photos", INTAKE_NAME, "train.csv"):
        work = tmp_path / name.replace(".", "_")
        (work / "photos").mkdir(parents=True)
        if name == "photos":
            (work / name / "holiday.jpg").write_bytes(b"mine")
        else:
            shutil.rmtree(work / "photos")
            (work / name).write_text("mine")
        with pytest.raises(OptionError, match="--name"):
            take_in([], [photo], work)
        assert b"mine" in [p.read_bytes() for p in work.rglob("*") if p.is_file()]
