"""Result folders -> videos whose frames, order and lengths are measured by decoding them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from data import result_videos
from data.results import find_columns
from scripts.concat_videos import main
from tests.conftest import voice, write_wav
from util.errors import MediaError
from util.ffmpeg import decode_audio_pieces, probe

LEVELS = {"Input_": 40, "G_Pose_Driven_": 90, "Pose_Source_": 150, "Mouth_Source_": 210}


def _result(root: Path, counts: dict[str, int], seconds: float, suffix: str = ".jpg") -> Path:
    """Columns of flat grey frames; the first frame of each is darker by 30."""
    folder = root / "id_a b_pose_50%d_audio_ü"
    for column, count in counts.items():
        (folder / column).mkdir(parents=True)
        for n in range(count):
            image = np.full((64, 64, 3), LEVELS[column] - (30 if n == 0 else 0), np.uint8)
            ok, payload = cv2.imencode(suffix, image)
            assert ok
            (folder / column / f"{column}{n}{suffix}").write_bytes(payload.tobytes())
    audio = write_wav(root / "völce.wav", voice(seconds))
    (folder / "clip.json").write_text(json.dumps({"audio": str(audio)}))
    return folder


def _decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_concat_stacks_columns_in_published_order_and_adds_sound(tmp_path: Path, suffix: str) -> None:
    folder = _result(tmp_path, dict.fromkeys(LEVELS, 25), 1.0, suffix)
    assert main([str(folder)]) == 0
    frames = _decoded(folder / "concat.mp4")
    assert len(frames) == 25
    assert frames[0].shape == (64, 256)
    for turn, level in enumerate(LEVELS.values()):
        block = np.s_[:, 64 * turn + 8 : 64 * turn + 56]
        assert abs(frames[0][block].mean() - (level - 30)) < 3
        assert abs(frames[12][block].mean() - level) < 3
    names = [f"{column}.mp4" for column in LEVELS] + ["concat.mp4", "avconcat.mp4", "generated.mp4"]
    for name in names:
        info = probe(folder / name)
        assert (info.video_codec, info.video_frames, info.fps) == ("h264", 25, 25)
        assert info.audio_codec == ("aac" if name in ("avconcat.mp4", "generated.mp4") else None)
    assert abs(_decoded(folder / "generated.mp4")[5].mean() - 90) < 3
    assert sorted(p.name for p in folder.iterdir()) == sorted([*names, *LEVELS, "clip.json"])


@pytest.mark.parametrize(("frames", "seconds"), [(30, 1.2), (31, 1.201), (26, 1.2)])
def test_sound_and_picture_start_and_end_within_one_frame(tmp_path: Path, frames: int, seconds: float) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": frames}, seconds)
    main([str(folder)])
    info = probe(folder / "avconcat.mp4")
    assert info.video_duration_s == pytest.approx(frames / 25)
    assert abs(info.audio_duration_s - min(seconds, frames / 25)) < 0.04
    with av.open(str(folder / "avconcat.mp4")) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0) if f.pts >= 0])
    expected = voice(seconds)
    onset = [np.argmax(np.abs(x) > 0.05) / rate for x, rate in ((heard, 48000), (expected, 16000))]
    assert abs(onset[0] - onset[1]) < 0.005


def test_gap_between_time_stamps_does_not_shift_the_sound_against_the_mouth(tmp_path: Path) -> None:
    """The networks hear the samples one after the other, so that is when the mouth moves."""
    folder = _result(tmp_path, {"G_Pose_Driven_": 50}, 1.0)
    gappy = tmp_path / "gappy.mkv"
    with av.open(str(gappy), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start_s, level in [(0.0, 0.0), (1.5, 0.5)]:  # half a second is missing
            sound = (level * 32767 * np.sin(2 * np.pi * 400 * np.arange(16000) / 16000)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, round(start_s * 16000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    (folder / "clip.json").write_text(json.dumps({"audio": str(gappy)}))
    assert main([str(folder)]) == 0
    with av.open(str(folder / "avconcat.mp4")) as container:
        frames = [f for f in container.decode(audio=0) if f.pts >= 0]
    played = np.concatenate([f.to_ndarray()[0] for f in frames])
    loud = np.abs(played) > 0.1
    heard = np.frombuffer(b"".join(decode_audio_pieces(gappy, 16000, 16000)), np.float32)
    assert np.argmax(loud) / 48000 == pytest.approx(np.argmax(np.abs(heard) > 0.1) / 16000, abs=0.03)
    ends_s = [float(f.pts * f.time_base) for f in frames]
    assert np.diff(ends_s).max() < 0.03  # no jump


def test_shorter_column_holds_its_last_frame_and_longer_one_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = _result(tmp_path, {"Input_": 3, "G_Pose_Driven_": 10, "Pose_Source_": 14}, 0.4)
    main([str(folder)])
    frames = _decoded(folder / "concat.mp4")
    assert len(frames) == 10
    assert abs(frames[9][:, 8:56].mean() - LEVELS["Input_"]) < 3
    said = capsys.readouterr().err
    assert "Input_: 3 frames beside 10 generated ones; its last frame is held" in said
    assert "Pose_Source_: 14 frames beside 10 generated ones; the rest is left out" in said


def test_labels_add_a_strip_with_writing(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"Input_": 5, "G_Pose_Driven_": 5}, 0.2)
    main([str(folder), "--labels"])
    frame = _decoded(folder / "concat.mp4")[2]
    assert frame.shape == (64 + 24, 128)
    assert frame[:24].max() > 240
    assert frame[:24, :64].min() < 120
    assert frame[:24, 64:].min() < 120
    assert abs(frame[30:, 8:56].mean() - LEVELS["Input_"]) < 3


def test_folder_without_generated_frames_fails(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = _result(tmp_path, {"Input_": 3}, 0.3)
    assert main([str(folder)]) == 1
    assert "nothing was generated here; run test.py first" in capsys.readouterr().err


def test_one_bad_folder_does_not_stop_the_others(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5}, 0.2)
    assert main([str(tmp_path / "gone"), str(folder)]) == 1
    assert (folder / "generated.mp4").is_file()


def test_gap_in_frames_names_the_frame(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5}, 0.2)
    (folder / "G_Pose_Driven_" / "G_Pose_Driven_2.jpg").unlink()
    with pytest.raises(MediaError, match=r"frame G_Pose_Driven_2.jpg is missing; finish the row with test.py --resume"):
        result_videos.concat(folder, tmp_path / "völce.wav")


def test_broken_frame_fails_and_leaves_no_video(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5}, 0.2)
    (folder / "G_Pose_Driven_" / "G_Pose_Driven_2.jpg").write_bytes(b"rubbish")
    with pytest.raises(MediaError, match=r"G_Pose_Driven_2.jpg: not a readable picture"):
        result_videos.concat(folder, tmp_path / "völce.wav")
    assert not list(folder.glob("*.mp4"))
    assert not list(folder.glob(".*"))


def test_missing_sound_fails_with_its_name(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5}, 0.2)
    with pytest.raises(MediaError, match=r"gone.wav: no such file"):
        result_videos.concat(folder, tmp_path / "gone.wav")
    with pytest.raises(MediaError, match=r"G_Pose_Driven_0.jpg: holds no sound"):
        result_videos.concat(folder, folder / "G_Pose_Driven_" / "G_Pose_Driven_0.jpg")
    assert not list(folder.glob("*.mp4"))  # noticed before anything is encoded


def test_missing_and_empty_columns_are_said_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5, "Pose_Source_": 5}, 0.2)
    note = json.loads((folder / "clip.json").read_text())
    columns = ["Input_", "G_Pose_Driven_", "Pose_Source_", "Mouth_Source_"]
    (folder / "clip.json").write_text(json.dumps({**note, "columns": columns}))
    (folder / "Mouth_Source_").mkdir()
    assert main([str(folder)]) == 0
    said = capsys.readouterr().err
    assert "column Input_ is missing, the videos are made without it" in said
    assert "column Mouth_Source_ is missing" in said
    assert _decoded(folder / "concat.mp4")[0].shape == (64, 128)


def test_interrupted_concat_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5}, 0.2)

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(result_videos, "run_ffmpeg_to", interrupt)
    assert main([str(folder)]) == 130


def test_relative_folder_with_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _result(tmp_path / "run:1", {"G_Pose_Driven_": 5}, 0.2)
    monkeypatch.chdir(tmp_path)
    assert main([str(folder.relative_to(tmp_path))]) == 0


def test_sound_much_shorter_than_the_picture_is_an_error(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 50}, 0.5)
    with pytest.raises(MediaError, match=r"0.5\d* s of sound beside 2.000 s of picture"):
        result_videos.concat(folder, tmp_path / "völce.wav")
    assert not (folder / "avconcat.mp4").exists()
    write_wav(tmp_path / "bit_short.wav", voice(1.9))
    with pytest.raises(MediaError, match=r"s of sound beside 2.000 s of picture"):
        result_videos.concat(folder, tmp_path / "bit_short.wav")


def test_unwritable_folder_fails_with_a_message(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5}, 0.2)
    (folder / "G_Pose_Driven_.mp4").mkdir()  # a name that cannot be replaced, also for root
    with pytest.raises(MediaError, match=r"G_Pose_Driven_.mp4"):
        result_videos.concat(folder, tmp_path / "völce.wav")
    assert not [name for name in os.listdir(folder) if ".part" in name]


def test_without_clip_json_the_sound_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5}, 0.2)
    (folder / "clip.json").unlink()
    assert main([str(folder)]) == 1
    assert "give --audio FILE" in capsys.readouterr().err
    assert main([str(folder), "--audio", str(tmp_path / "völce.wav")]) == 0


def _overwrite(path: Path, height: int, width: int) -> None:
    ok, payload = cv2.imencode(path.suffix, np.full((height, width, 3), 90, np.uint8))
    assert ok
    path.write_bytes(payload.tobytes())


def test_frames_of_other_sizes_are_named(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"Input_": 3, "G_Pose_Driven_": 3}, 0.2)
    _overwrite(folder / "Input_" / "Input_1.jpg", 64, 32)
    with pytest.raises(MediaError, match=r"Input_1.jpg: is of another size than the frames before it"):
        result_videos.concat(folder, tmp_path / "völce.wav")
    _overwrite(folder / "Input_" / "Input_0.jpg", 32, 64)
    with pytest.raises(MediaError, match="columns of heights 32, 64 cannot stand side by side"):
        result_videos.concat(folder, tmp_path / "völce.wav")
    _overwrite(folder / "Input_" / "Input_0.jpg", 64, 63)
    with pytest.raises(MediaError, match=r"Input_0.jpg: is 63x64, H.264 needs even numbers; resize the frames"):
        result_videos.concat(folder, tmp_path / "völce.wav")
    assert not list(folder.glob("*.mp4"))


def test_colours_and_edges_between_columns_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    colours = {"Input_": (200, 40, 60), "G_Pose_Driven_": (30, 180, 70), "Pose_Source_": (60, 50, 210)}  # BGR
    for column, colour in colours.items():
        (folder / column).mkdir(parents=True)
        for n in range(5):
            cv2.imwrite(str(folder / column / f"{column}{n}.png"), np.full((64, 64, 3), colour, np.uint8))
    result_videos.concat(folder, write_wav(tmp_path / "a.wav", voice(0.2)))
    for column, colour in colours.items():
        with av.open(str(folder / f"{column}.mp4")) as container:
            frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        assert len(frames) == 5
        assert np.abs(frames[3].astype(int) - colour).max() <= 4  # up to its borders


def test_videos_follow_frames_that_are_still_made(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5}, 0.2)
    columns = find_columns(folder)
    hidden = {n: (folder / "G_Pose_Driven_" / f"G_Pose_Driven_{n}.jpg") for n in range(5)}
    payloads = {n: path.read_bytes() for n, path in hidden.items()}
    for path in hidden.values():
        path.unlink()

    def make(number: int) -> bool:
        hidden[number].write_bytes(payloads[number])
        return True

    videos = result_videos.make_videos(folder, columns, tmp_path / "völce.wav", wait=make)
    assert [path.name for path in videos] == ["G_Pose_Driven_.mp4", "concat.mp4", "avconcat.mp4", "generated.mp4"]
    assert len(_decoded(folder / "generated.mp4")) == 5


@pytest.mark.parametrize("last", [0, 3])
def test_frames_that_are_never_made_leave_no_video(tmp_path: Path, last: int) -> None:
    folder = _result(tmp_path, {"G_Pose_Driven_": 5}, 0.2)
    columns = find_columns(folder)
    with pytest.raises(MediaError, match=f"frame {last} is not made, and neither are the videos"):
        result_videos.make_videos(folder, columns, tmp_path / "völce.wav", wait=lambda number: number < last)
    assert sorted(path.name for path in folder.iterdir()) == ["G_Pose_Driven_", "clip.json"]


def test_every_video_says_that_it_is_synthetic_and_by_which_settings(tmp_path: Path) -> None:
    folder = _result(tmp_path, {"Input_": 5, "G_Pose_Driven_": 5}, 0.2)
    note = json.loads((folder / "clip.json").read_text())
    (folder / "clip.json").write_text(json.dumps({**note, "settings": "0123456789abcdef99", "made_with": "model x"}))
    assert main([str(folder)]) == 0
    said = "synthetic video, made by PC-AVS: model x; settings 0123456789abcdef"
    for path in folder.glob("*.mp4"):
        with av.open(path) as container:
            comment = container.metadata["comment"]
        assert comment == (f"source of a {said}" if path.name == "Input_.mp4" else said)
    assert len(list(folder.glob("*.mp4"))) == 5
