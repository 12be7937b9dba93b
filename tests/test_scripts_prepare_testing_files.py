"""From a photo, a voice and a video to a csv row and, with a tiny model, to results with sound and picture in step."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from data import prepare_row
from data.audio import load_audio, log_mel
from data.faces.align_clip import AlignResult
from data.faces.alignment import AlignmentRecord
from data.frames import read_image, write_image
from data.metadata import read_rows
from scripts import prepare_testing_files as prepare
from tests.clip_factory import (
    beep_time,
    brightness,
    flash_time,
    frame_numbers,
    read_wav,
    rotate,
    steady_times,
    uneven_times,
    write_clip,
)
from tests.conftest import Workspace, voice, write_frames, write_wav
from util import ffmpeg
from util.errors import AlignmentError, MetadataError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """me.png, talk.mp4 (1 s at 30 fps) and voice.wav, made once."""
    folder = tmp_path_factory.mktemp("sources")
    write_image(folder / "me.png", np.full((64, 48, 3), 120, np.uint8))
    write_clip(folder / "talk.mp4", steady_times(30, 1.0))
    write_wav(folder / "voice.wav", voice(0.8, sample_rate_hz=44100), 44100)
    return folder


@pytest.fixture
def place(workspace: Workspace, sources: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: sources in it, misc/ still empty."""
    monkeypatch.chdir(workspace.root)
    shutil.copytree(sources, workspace.root, dirs_exist_ok=True)
    return workspace.root


def run(*flags: object) -> int:
    """The script with small sources where no others are given."""
    given = [str(flag) for flag in flags]
    if "--batch" not in given:
        standard = {"--src_input_path": "me.png", "--src_pose_path": "talk.mp4", "--src_audio_path": "voice.wav"}
        given += [part for pair in standard.items() if pair[0] not in given for part in pair]
    return prepare.main(given)


def rows(path: str | Path = "misc/demo2.csv") -> list[list[str]]:
    return [row.fields() for row in read_rows(path)]


def tree(folder: str | Path = "misc") -> dict[str, bytes]:
    """Path -> content of every file, notes left out."""
    files = (p for p in Path(folder).rglob("*") if p.is_file() and not p.name.endswith(".source.json"))
    return {str(p): p.read_bytes() for p in files}


def test_published_flags_and_defaults() -> None:
    defaults = vars(prepare.main.parse([]))
    published = {
        "dir_path": "misc",
        "src_pose_path": "misc/Pose_Source/00473.mp4",
        "src_audio_path": "misc/Audio_Source/00015.mp4",
        "src_mouth_frame_path": None,
        "src_input_path": "misc/Input/00098.mp4",
        "csv_path": "misc/demo2.csv",
        "convert_spectrogram": False,
    }
    assert {name: str(v) if isinstance(v := defaults[name], Path) else v for name in published} == published
    assert (defaults["align"], defaults["append"], defaults["start"], defaults["duration"]) == ("off", False, 0.0, None)


def test_photo_voice_and_video_become_the_published_row(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert rows() == [
        ["misc/Input/me", "1", "misc/Pose_Source/talk", "25", "misc/Audio_Source/voice.wav", "None", "0", "dummy"]
    ]
    assert sorted(tree()) == sorted(
        ["misc/Input/me/000000.jpg", "misc/Audio_Source/voice.wav", "misc/demo2.csv"]
        + [f"misc/Pose_Source/talk/{n:06d}.jpg" for n in range(25)]
    )
    assert len(read_wav(Path("misc/Audio_Source/voice.wav"))) == 0.8 * 16000
    assert read_image("misc/Input/me/000000.jpg").shape == (64, 48, 3)  # as it is, test.py resizes
    assert "next: python test.py --name synthetic --meta_path_vox misc/demo2.csv" in capsys.readouterr().out


def test_video_as_audio_source_gives_the_mouth_frames(place: Path) -> None:
    assert run("--src_audio_path", "talk.mp4") == 0
    (row,) = rows()
    assert row[4:7] == ["misc/Audio_Source/talk.wav", "misc/Mouth_Source/talk", "25"]
    assert run("--src_audio_path", "talk.mp4", "--src_mouth_frame_path", write_frames(place / "lips", 3, size=48)) == 0
    (row,) = rows()
    assert row[4:7] == ["misc/Audio_Source/talk.wav", "misc/Mouth_Source/lips", "3"]


def test_convert_spectrogram_writes_the_log_mel_into_the_row(place: Path) -> None:
    assert run("--convert_spectrogram") == 0
    (row,) = rows()
    assert row[7] == "misc/Audio_Source/voice.npy"
    mel = np.load(row[7])
    assert (mel.shape, mel.dtype) == ((7 + 80, 80), np.float32)
    np.testing.assert_array_equal(mel, log_mel(load_audio(row[4])))


def test_no_pose_gives_a_row_that_uses_the_references(place: Path, workspace: Workspace) -> None:
    assert run("--src_pose_path", "None", "--csv_path", "misc/demo.csv") == 0
    assert rows("misc/demo.csv")[0][2:4] == ["None", "0"]
    assert workspace.run("--driving_pose") == 0


def test_paths_outside_the_working_directory_stay_whole(place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    assert run("--dir_path", outside, "--csv_path", outside / "a.csv") == 0
    assert rows(outside / "a.csv")[0][0] == str(outside / "Input" / "me")
    assert run("--dir_path", "../elsewhere") == 0
    assert rows()[0][0] == str(outside / "Input" / "me")
    assert run("--dir_path", place / "misc") == 0
    assert rows()[0][0] == "misc/Input/me"


def _uneven_turned_clip(folder: Path) -> float:
    """`my clip (1) ü.mov`: 29.97 fps with frames missing, filmed with the phone turned; returns when it flashes."""
    path = folder / "my clip (1) ü.mov"
    event = write_clip(path, uneven_times(2.4), flash_s=1.3, size=(160, 120))
    rotate(path)
    return event


def test_uneven_rotated_clip_goes_to_results_with_sound_and_picture_in_step(place: Path, workspace: Workspace) -> None:
    event = _uneven_turned_clip(place)
    name = "my clip (1) ü"
    assert run("--src_pose_path", f"{name}.mov", "--src_audio_path", f"{name}.mov", "--csv_path", "misc/demo.csv") == 0
    (row,) = rows("misc/demo.csv")
    assert row[2] == f"misc/Pose_Source/{name}"
    assert row[4:6] == [f"misc/Audio_Source/{name}.wav", f"misc/Mouth_Source/{name}"]
    assert read_image(Path(row[2]) / "000000.jpg").shape == (160, 120, 3)
    beep = beep_time(read_wav(Path(row[4])), 16000)
    assert abs(beep - event) < 0.005
    for folder in (row[2], row[5]):
        assert abs(flash_time(brightness(Path(folder))) - beep) < 0.025

    assert workspace.run("--driving_pose", "--gen_video") == 0
    (result,) = workspace.results.glob("id_*")
    with av.open(str(result / "avconcat.mp4")) as video:
        pictures = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
    with av.open(str(result / "avconcat.mp4")) as video:
        heard = list(video.decode(audio=0))
    assert pictures[0].shape == (28, 4 * 28)
    columns = {"pose": np.s_[:, 56:84], "mouth": np.s_[:, 84:112]}
    shown = {column: [picture[part].mean() for picture in pictures] for column, part in columns.items()}
    sound = np.concatenate([frame.to_ndarray()[0] for frame in heard])
    beep = float(heard[0].time) + beep_time(sound, heard[0].sample_rate)
    for column, levels in shown.items():
        assert max(levels) - min(levels) > 100, column
        assert abs(flash_time(levels) - beep) < 0.040, column
    assert abs(beep - event) < 0.040


def test_start_and_duration_cut_pose_audio_and_mouth_alike(place: Path) -> None:
    event = write_clip(place / "long.mkv", uneven_times(3.0), flash_s=1.7)
    assert run("--src_input_path", "talk.mp4", "--src_pose_path", "long.mkv", "--src_audio_path", "long.mkv",
               "--start", "1.2", "--duration", "1.0") == 0  # fmt: skip
    (row,) = rows()
    assert (row[1], row[3], row[6]) == ("25", "25", "25")  # the reference is whole
    beep = beep_time(read_wav(Path(row[4])), 16000)
    assert abs(beep - (event - 1.2)) < 0.005
    assert len(read_wav(Path(row[4]))) == 16000
    for folder in (row[2], row[5]):
        assert abs(flash_time(brightness(Path(folder))) - beep) < 0.025


def test_another_cut_of_a_source_gets_a_folder_of_its_own(place: Path) -> None:
    assert run() == 0
    assert run("--start", "0.2", "--append") == 0
    assert run("--start", "0.2", "--append", "--src_pose_path", "me.png") == 0  # a picture has no time
    assert run("--append", "--src_pose_path", "me.png") == 0
    talk, voice_, whole = "misc/Pose_Source/talk", "misc/Audio_Source/voice", "misc/Pose_Source/me"
    assert [row[2:5] for row in rows()] == [
        [talk, "25", f"{voice_}.wav"],
        [f"{talk}_2", "20", f"{voice_}_2.wav"],
        [whole, "1", f"{voice_}_2.wav"],
        [whole, "1", f"{voice_}.wav"],
    ]
    assert len(read_wav(Path(f"{voice_}_2.wav"))) == round(0.6 * 16000)


def test_cut_beyond_the_end_names_start_and_length(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--start", "60") == 1
    assert "talk.mp4: has no picture in the part from --start 60 s on; it is 1.0" in capsys.readouterr().err
    assert sorted(tree()) == ["misc/Input/me/000000.jpg"]


def test_second_run_makes_nothing_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--src_audio_path", "talk.mp4") == 0
    before, times = tree(), {p: os.stat(p).st_mtime_ns for p in tree() if not p.endswith(".csv")}
    monkeypatch.setattr(prepare_row, "extract_frames", lambda *_: pytest.fail("frames were extracted again"))
    monkeypatch.setattr(prepare_row, "extract_sound", lambda *_: pytest.fail("sound was extracted again"))
    assert run("--src_audio_path", "talk.mp4") == 0
    assert tree() == before
    assert {p: os.stat(p).st_mtime_ns for p in times} == times


def test_sources_that_lie_where_they_belong_are_used_in_place(place: Path) -> None:
    write_frames(place / "misc/Input/me", 1, size=48)
    write_frames(place / "misc/Pose_Source/talk", 9, size=48, suffix=".png")
    write_wav(place / "misc/Audio_Source/voice.wav", voice(0.5))
    before = tree()
    flags = ("--src_input_path", "misc/Input/me", "--src_pose_path", place / "misc/Pose_Source/talk",
             "--src_audio_path", "./misc/Audio_Source/voice.wav")  # fmt: skip
    assert run(*flags) == 0
    assert rows()[0][:6] == [
        "misc/Input/me", "1", "misc/Pose_Source/talk", "9", "misc/Audio_Source/voice.wav", "None"
    ]  # fmt: skip
    after = tree()
    del after["misc/demo2.csv"]
    assert after == before
    assert run(*flags, "--duration", "0.2") == 0  # a part of them needs a place of its own
    assert rows()[0][:5] == ["misc/Input/me", "1", "misc/Pose_Source/talk_2", "5", "misc/Audio_Source/voice_2.wav"]
    assert {name: content for name, content in tree().items() if name in before} == before


def test_unordered_folder_at_its_destination_is_renumbered_beside_it(place: Path) -> None:
    folder = place / "misc/Pose_Source/shots"
    folder.mkdir(parents=True)
    for number in (1, 2, 10):
        write_image(folder / f"{number}.png", np.full((40, 40, 3), 20 * number, np.uint8))
    before = tree("misc/Pose_Source/shots")
    assert run("--src_pose_path", "misc/Pose_Source/shots") == 0
    assert rows()[0][2:4] == ["misc/Pose_Source/shots_2", "3"]
    assert [round(level / 20) for level in brightness(Path("misc/Pose_Source/shots_2"))] == [1, 2, 10]
    assert tree("misc/Pose_Source/shots") == before


def test_read_only_source_folder_is_enough(place: Path) -> None:
    source = write_frames(place / "locked", 2, size=48)
    source.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert run("--src_pose_path", source) == 0
    finally:
        source.chmod(stat.S_IRWXU)
    assert rows()[0][3] == "2"
    assert sorted(p.name for p in source.iterdir()) == ["000000.jpg", "000001.jpg"]


def test_csv_is_replaced_or_with_append_added_to(place: Path) -> None:
    assert run() == 0
    assert run("--src_pose_path", "me.png") == 0
    assert [row[2] for row in rows()] == ["misc/Pose_Source/me"]
    assert run("--append") == 0
    assert [row[2] for row in rows()] == ["misc/Pose_Source/me", "misc/Pose_Source/talk"]
    assert run("--append") == 0  # the same row twice would make the same clip twice
    assert len(rows()) == 2


def test_failure_leaves_the_csv_and_finished_work_as_they_were(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    before = tree()
    (place / "talk.mp4").write_text("only some words\n" * 99)
    assert run() == 1
    assert "error: --src_pose_path talk.mp4: not a readable picture, video or recording" in capsys.readouterr().err
    assert tree() == before


def test_batch_prepares_each_source_once_and_goes_on_after_a_failure(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "jobs").mkdir()
    shutil.copy(place / "me.png", place / "jobs" / "my self.png")
    (place / "jobs" / "all.csv").write_text(
        "# everybody\nid pose audio mouth\n"
        "me.png talk.mp4 voice.wav\n\n"
        '"my self.png" talk.mp4 talk.mp4\n'
        "me.png gone.mp4 voice.wav\n"
        "me.png talk.mp4\n"
        'me.png "talk.mp4 voice.wav\n'
        "me.png None talk.mp4 me.png\n",
        encoding="utf-8",
    )
    made: list[str] = []
    original = prepare_row.extract_frames

    def noted(media: Any, folder: Path, cut: Any) -> int:
        made.append(f"{folder.parent.name} {media.path.name}")
        return original(media, folder, cut)

    monkeypatch.setattr(prepare_row, "extract_frames", noted)
    assert run("--batch", "jobs/all.csv", "--csv_path", "misc/all.csv") == 1
    sound, talk = "misc/Audio_Source/voice.wav", "misc/Audio_Source/talk.wav"
    assert rows("misc/all.csv") == [
        ["misc/Input/me", "1", "misc/Pose_Source/talk", "25", sound, "None", "0", "dummy"],
        ["misc/Input/my self", "1", "misc/Pose_Source/talk", "25", talk, "misc/Mouth_Source/talk", "25", "dummy"],
        ["misc/Input/me", "1", "None", "0", talk, "misc/Mouth_Source/me", "1", "dummy"],
    ]
    assert sorted(made) == sorted(
        ["Input me.png", "Pose_Source talk.mp4", "Input my self.png", "Mouth_Source talk.mp4", "Mouth_Source me.png"]
    )
    captured = capsys.readouterr().err
    assert "error: jobs/all.csv:6: pose gone.mp4: no such file or folder" in captured
    assert "error: jobs/all.csv:7: expected 3 or 4 columns, got 2; a line is: id pose audio [mouth]" in captured
    assert "error: jobs/all.csv:8: " in captured
    assert "3 of 6 jobs done" in captured
    assert run("--batch", "jobs/all.csv", "--csv_path", "misc/all.csv", "--append") == 1
    assert len(rows("misc/all.csv")) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such batch file"), (b"# nothing\n", "holds no jobs"), (b"\xff\xfe\xff", "UTF-8")],
)
def test_unusable_batch_file_raises_metadata_error(place: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (place / "jobs.csv").write_bytes(content)
    with pytest.raises(MetadataError, match=f"--batch jobs.csv: .*{message}"):
        prepare_row.read_batch(Path("jobs.csv"))
    assert run("--batch", "jobs.csv") == 1


def test_unreadable_csv_to_append_to_is_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "misc/demo2.csv").write_bytes(b"\xff\xfe\xff")
    assert run("--append") == 1
    assert "error: --csv_path misc/demo2.csv: cannot be read as UTF-8 text" in capsys.readouterr().err
    assert (place / "misc/demo2.csv").read_bytes() == b"\xff\xfe\xff"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--duration", "0"], "argument --duration: must be a number above 0, got 0"),
        (["--src_audio_path", "None"], "--src_audio_path cannot be None"),
        (["--csv_path", "misc"], "--csv_path misc: is a folder; give the name of a file"),
        (["--batch", "jobs.csv", "--src_pose_path", "a.mp4"], "--batch and --src_pose_path contradict each other"),
        (["--batch", "jobs.csv", "--csv_path", "jobs.csv"], "--csv_path jobs.csv: is read by this very command"),
        (["--face", "nearest"], "--face 'nearest' is unknown"),
        (["--start", "-1"], "argument --start: must be a number that is not negative, got -1"),
        (["--start", "nan"], "argument --start: must be a number that is not negative, got nan"),
        (["--align", "maybe"], "argument --align: invalid choice: 'maybe'"),
    ],
)
def test_options_that_cannot_be_honoured_exit_2_and_name_themselves(
    place: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    (place / "jobs.csv").write_text("me.jpg talk.mov voice.m4a\n")
    assert prepare.main(flags) == 2
    assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["me.png", "voice.wav", "notes.txt"])
def test_file_of_the_user_is_not_replaced_by_the_csv(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (place / "notes.txt").write_text("my notes\n")
    before = (place / name).read_bytes()
    assert run("--csv_path", name) == 2
    assert f"--csv_path {name}: is " in capsys.readouterr().err
    assert (place / name).read_bytes() == before
    assert not (place / "misc").exists() or not list((place / "misc").glob("*/*"))


def _make(place: Path, name: str, write: Callable[[Path], object]) -> str:
    write(place / name)
    return name


BAD_SOURCES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "text": ("--src_pose_path", lambda p: p.write_text("words\n" * 99), "bad.mp4: not a readable picture, video"),
    "mute": ("--src_audio_path", lambda p: write_clip(p, steady_times(25, 0.4), with_sound=False), "has no sound"),
    "sound": ("--src_input_path", lambda p: shutil.copy(p.parent / "voice.wav", p), "bad.mp4: has no pictures"),
    "missing": ("--src_input_path", lambda p: None, "bad.mp4: no such file or folder"),
}


@pytest.mark.parametrize("kind", BAD_SOURCES)
def test_bad_source_is_named_with_its_flag_and_loses_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    assert run() == 0
    before = tree()
    flag, write, message = BAD_SOURCES[kind]
    assert run(flag, _make(place, "bad.mp4", write)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "bad.mp4" in error
    assert "Traceback" not in error
    assert tree() == before
    assert not list(Path("misc").rglob("*.part*"))


def test_missing_published_sample_says_where_samples_come_from(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main([]) == 1
    error = capsys.readouterr().err
    assert "--src_input_path misc/Input/00098.mp4: no such file or folder" in error
    assert "scripts/download_checkpoints.py --samples" in error


HALF_A_FRAME = 'first="${last%%%06d.jpg}000000.jpg"; echo half > "$first"'


def _write_stub(folder: Path, script: str) -> Path:
    """A shell script to put in ffmpeg's place; `$last` is the output it is asked for."""
    stub = folder / "ffmpeg"
    stub.write_text(f'#!/bin/sh\nfor last; do :; done\nlast="${{last#file:}}"\n{script}\n')
    stub.chmod(0o755)
    return stub


def _stub_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    stub = str(_write_stub(folder, script))
    monkeypatch.setattr(ffmpeg, "ffmpeg_path", lambda: stub)


def test_full_disk_is_reported_and_leaves_nothing_half_made(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        _stub_ffmpeg(place, patch, f'{HALF_A_FRAME}; echo "$first: No space left on device" >&2; exit 1')
        assert run() == 1
    assert "talk.mp4: reading its frames: ffmpeg failed: " in (error := capsys.readouterr().err)
    assert "000000.jpg: No space left on device" in error
    assert sorted(tree()) == ["misc/Input/me/000000.jpg"]
    assert run() == 0
    assert frame_numbers(Path("misc/Pose_Source/talk"))[:3] == [0, 1, 2]


def test_frame_cut_short_without_a_word_from_ffmpeg_is_noticed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _stub_ffmpeg(place, monkeypatch, HALF_A_FRAME)
    assert run() == 1
    assert "talk.mp4: its last frame could not be written completely; is the disk full?" in capsys.readouterr().err
    assert sorted(tree()) == ["misc/Input/me/000000.jpg"]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stop_in_the_middle_and_a_second_run(place: Path, sign: signal.Signals) -> None:
    """ffmpeg hangs after half a frame; whatever ends the script, the next run makes the whole clip."""
    stub = _write_stub(place, f"{HALF_A_FRAME}; sleep 0.5; echo $$ > started; exec sleep 60")
    command = [sys.executable, str(ROOT / "scripts/prepare_testing_files.py"), "--src_input_path", "me.png",
               "--src_pose_path", "talk.mp4", "--src_audio_path", "voice.wav"]  # fmt: skip
    more = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.PIPE,
        "text": True,
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    }
    with subprocess.Popen(command, cwd=place, env={**os.environ, "PCAVS_FFMPEG": str(stub)}, **more) as process:
        started, deadline = place / "started", time.monotonic() + 60
        while not started.is_file() or not started.read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)  # the stub may run before the script knows its number
        process.send_signal(sign)
        if sign == signal.SIGKILL:
            os.kill(int(started.read_text()), signal.SIGKILL)  # else its open pipe holds us up
        error = process.communicate(timeout=60)[1]
    assert not Path("misc/demo2.csv").exists()
    if sign == signal.SIGKILL:
        assert len(list(Path("misc/Pose_Source").glob(".talk.*.part"))) == 1
    else:
        assert process.returncode == 130
        assert "interrupted: what is finished stays and is used again by the same command" in error
        assert "Traceback" not in error
        with pytest.raises(ProcessLookupError):  # ffmpeg was ended too
            os.kill(int((place / "started").read_text()), 0)
        assert not list(Path("misc/Pose_Source").iterdir())
    assert run() == 0
    assert sorted(p.name for p in Path("misc/Pose_Source").iterdir()) == ["talk"]
    assert len(frame_numbers(Path("misc/Pose_Source/talk"))) == 25


class _FakeAlignment:
    """Stands for align_68: `_cropped` folders that say what they were made of, scores by folder name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fits: Sequence[str] = (), faceless: Sequence[str] = ()) -> None:
        self.aligned: list[str] = []
        self.fits, self.faceless = fits, faceless
        monkeypatch.setattr(prepare_row, "align_source", self.align)
        monkeypatch.setattr(prepare_row, "source_score", self.score)

    def align(self, source: Path, output: Path, options: object) -> object:
        self.aligned.append(f"{source.parent.name}/{source.name}")
        if source.name in self.faceless:
            raise AlignmentError(f"{source}: no face in any of its frames")
        count = len(list(source.glob("*.jpg")))
        shutil.rmtree(output, ignore_errors=True)
        write_frames(output, count, size=224)
        (output / "alignment.json").write_text(json.dumps(str(options)))
        matrices, points = np.zeros((count, 2, 3)), np.zeros((count, 68, 2))
        status = ["detected"] * count
        return AlignResult(output, AlignmentRecord("x", 9, 9, "mean", 1.0, matrices[0], matrices, points, status))

    def score(self, source: Path, options: object) -> tuple[float, bool]:
        if source.name in self.faceless:
            raise AlignmentError(f"{source}: no face in the frames looked at")
        return (5.0, True) if source.name in self.fits else (60.0, False)


def test_align_names_cropped_folders_for_every_picture_source(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _FakeAlignment(monkeypatch, fits=["me"])
    assert run("--src_audio_path", "talk.mp4", "--align", "--face", "largest") == 0
    assert rows() == [
        ["misc/Input/me_cropped", "1", "misc/Pose_Source/talk_cropped", "25", "misc/Audio_Source/talk.wav",
         "misc/Mouth_Source/talk_cropped", "25", "dummy"]
    ]  # fmt: skip
    assert fake.aligned == ["Input/me", "Pose_Source/talk", "Mouth_Source/talk"]
    assert "face='largest'" in Path("misc/Input/me_cropped/alignment.json").read_text()


def test_align_auto_aligns_only_what_is_not_template_like(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = _FakeAlignment(monkeypatch, fits=["me"])
    assert run("--align", "auto") == 0
    assert rows()[0][:4] == ["misc/Input/me", "1", "misc/Pose_Source/talk_cropped", "25"]
    assert fake.aligned == ["Pose_Source/talk"]
    output = capsys.readouterr().out
    assert "misc/Input/me: 5.0 px off the template, not aligned again" in output
    assert "misc/Pose_Source/talk: 60.0 px off the template, needs alignment" in output


def test_align_leaves_folders_of_align_68_as_they_are(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _FakeAlignment(monkeypatch)
    assert run("--align") == 0
    pose, reference = "misc/Pose_Source/talk_cropped", "misc/Input/me_cropped"
    assert run("--align", "--src_pose_path", pose, "--src_input_path", reference) == 0
    assert rows()[0][:4] == [reference, "1", pose, "25"]
    assert fake.aligned == ["Input/me", "Pose_Source/talk"]


def test_no_face_fails_the_row_but_not_for_mouth_frames_nobody_asked_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(place / "talk.mp4", place / "slides.mp4")
    _FakeAlignment(monkeypatch, faceless=["slides"])
    assert run("--align", "--src_audio_path", "slides.mp4") == 0
    assert rows()[0][5:7] == ["misc/Mouth_Source/slides", "25"]
    warning = "warning: misc/Mouth_Source/slides: no face in any of its frames; its frames are used unaligned"
    assert warning in capsys.readouterr().err
    for mode in ("all", "auto"):
        assert run("--align", mode, "--src_pose_path", "slides.mp4") == 1
        assert "error: misc/Pose_Source/slides: no face in any of its frames" in capsys.readouterr().err
    assert run("--align", "--src_mouth_frame_path", "slides.mp4") == 1
    assert rows()[0][5] == "misc/Mouth_Source/slides"  # the csv of the first run


def _astronaut_sources(place: Path) -> list[str]:
    """The astronaut as a photo, and turning a little in a 30 fps clip with sound."""
    import cv2
    from skimage.data import astronaut

    photo = np.ascontiguousarray(astronaut()[:400, :400, ::-1])
    write_image(place / "astronaut.png", photo)
    folder = place / "turning"
    folder.mkdir()
    for number in range(9):
        turn = cv2.getRotationMatrix2D((220, 120), number - 4, 1.0)
        turned = cv2.warpAffine(photo, turn, (400, 400), borderMode=cv2.BORDER_REFLECT)
        write_image(folder / f"{number:06d}.jpg", turned)
    wav = write_wav(place / "tone.wav", voice(0.4))
    ffmpeg.run_ffmpeg(["-framerate", "30", "-i", folder / "%06d.jpg", "-i", wav, place / "turn.mp4"], "making")
    return ["--src_input_path", "astronaut.png", "--src_pose_path", "turn.mp4", "--src_audio_path", "turn.mp4"]


def test_one_command_gives_the_frames_of_the_three_published_steps(place: Path) -> None:
    pytest.importorskip("dlib")
    from data.metadata import write_rows
    from scripts import align_68

    sources = _astronaut_sources(place)
    assert run(*sources, "--dir_path", "one", "--csv_path", "one/demo2.csv", "--align", "--landmarks", "dlib") == 0

    assert run(*sources, "--dir_path", "three", "--csv_path", "three/demo2.csv") == 0
    (row,) = rows("three/demo2.csv")
    for folder in (row[0], row[2], row[5]):
        assert align_68.main(["--folder_path", folder, "--landmarks", "dlib"]) == 0
    edited = [f"{field}_cropped" if turn in (0, 2, 5) else field for turn, field in enumerate(row)]
    write_rows("three/demo2.csv", [edited])

    assert Path("one/demo2.csv").read_text() == Path("three/demo2.csv").read_text().replace("three/", "one/")
    one, three = tree("one"), tree("three")
    frames = [name for name in one if name.endswith(".jpg")]
    assert len(frames) == 2 * (1 + 8 + 8)
    assert all(one[name] == three[name.replace("one/", "three/", 1)] for name in frames)
    assert read_image("one/Input/astronaut_cropped/000000.jpg").shape == (224, 224, 3)
    assert one["one/Audio_Source/turn.wav"] == three["three/Audio_Source/turn.wav"]


def test_without_pose_source_and_sample_the_head_is_drawn(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["--src_input_path", "me.png", "--src_audio_path", "voice.wav"]) == 0
    assert rows()[0][2:4] == ["misc/Pose_Source/idle", "20"]
    assert "no --src_pose_path: the head is drawn, and moves by itself (idle)" in capsys.readouterr().out
    assert run("--src_pose_path", "misc/Pose_Source/00473.mp4") == 1  # given, and not there
    assert "the published samples come with" in capsys.readouterr().err
    shutil.copy("talk.mp4", "misc/Pose_Source/00473.mp4")
    assert prepare.main(["--src_input_path", "me.png", "--src_audio_path", "voice.wav"]) == 0
    assert rows()[0][2:4] == ["misc/Pose_Source/00473", "25"]  # as published


def test_words_are_a_pose_source(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--src_pose_path", "pose:0 yaw=0; 0.4 yaw=20", "--align", "auto", "--landmarks", "dlib") == 1  # no face
    assert run("--src_pose_path", "pose:0 yaw=0; 0.4 yaw=20") == 0
    assert rows()[0][2:4] == ["misc/Pose_Source/programme", "20"]
    Path("jobs.csv").write_text('me.png "pose:0 yaw=0; 0.4 yaw=20" voice.wav\nme.png still voice.wav\n')
    assert run("--batch", "jobs.csv") == 0
    assert [row[2] for row in rows()] == ["misc/Pose_Source/programme", "misc/Pose_Source/still"]
    shutil.copy("talk.mp4", "still")
    assert run("--src_pose_path", "still") == 0
    assert rows()[0][3] == "25"
    assert "still: is a file here, and taken as that; the motion is pose:still" in capsys.readouterr().err


def test_pose_words_with_a_mistake_make_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in {
        "idel": "--src_pose_path idel: no such file or folder, and no motion (still, idle, nod, ",
        "pose:0 yaw=0; 2 yww=20": "pose programme, line 1: unknown word 'yww=20'",
    }.items():
        assert run("--src_pose_path", words) == 1
        assert message in capsys.readouterr().err
    assert not tree()
