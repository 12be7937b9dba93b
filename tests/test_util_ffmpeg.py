"""Starting ffmpeg, its errors, and what the probe measures."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import voice, write_frames, write_wav
from util.errors import MediaError
from util.ffmpeg import (
    decode_audio_pieces,
    open_media,
    probe,
    protocol_free,
    run_ffmpeg,
    run_ffmpeg_fed,
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames at 25 fps with 1.2 s of sound."""
    folder = tmp_path_factory.mktemp("clip")
    frames, wav = write_frames(folder / "f", 30, size=64), write_wav(folder / "a.wav", voice(1.2))
    path = folder / "clip.mp4"
    run_ffmpeg(["-framerate", "25", "-i", frames / "%06d.jpg", "-i", wav, "-pix_fmt", "yuv420p", path], "making a clip")
    return path


def test_probe_counts_frames_and_measures_durations(clip: Path) -> None:
    info = probe(clip)
    assert (info.video_frames, info.width, info.height) == (30, 64, 64)
    assert info.fps == 25
    assert info.video_duration_s == pytest.approx(1.2)
    assert info.audio_duration_s == pytest.approx(1.2, abs=0.07)


def test_probe_of_sound_alone_has_no_picture(tmp_path: Path) -> None:
    info = probe(write_wav(tmp_path / "a.wav", voice(0.5)))
    assert info.video_codec is None
    assert info.video_frames == 0
    assert info.audio_duration_s == pytest.approx(0.5)


def test_probe_of_no_media_raises_media_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("text")
    with pytest.raises(MediaError, match=r"a.mp4: not a readable media file"):
        probe(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match=r"gone.mp4: no such file"):
        probe(tmp_path / "gone.mp4")


def test_title_that_is_not_utf8_is_no_error(tmp_path: Path, clip: Path) -> None:
    titled = tmp_path / "titled.mp4"
    run_ffmpeg(["-i", clip, "-c", "copy", "-metadata", os.fsdecode(b"title=Caf\xe9"), titled], "writing a title")
    assert b"Caf\xe9" in titled.read_bytes()
    with open_media(titled) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30
    assert probe(titled).video_frames == 30


def test_decode_audio_of_video_without_sound_raises_media_error(tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "f", 5, size=64)
    run_ffmpeg(["-framerate", "25", "-i", frames / "%06d.jpg", tmp_path / "mute.mp4"], "making a clip")
    with pytest.raises(MediaError, match=r"mute.mp4: holds no sound; choose a file with an audio stream"):
        list(decode_audio_pieces(tmp_path / "mute.mp4", 16000, 16000))


@pytest.mark.parametrize("name", ["-i.wav", "a:b.wav", "a b'\"$(x).wav", "100%d.wav"])
def test_odd_file_names_are_not_read_as_flags_protocols_or_patterns(tmp_path: Path, name: str) -> None:
    path = write_wav(tmp_path / name, voice(0.3))
    assert sum(len(piece) for piece in decode_audio_pieces(path, 16000, 16000)) == 4 * 4800
    assert protocol_free(path) == f"file:{path}"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen]:
    """Every process that the test starts."""
    processes: list[subprocess.Popen] = []
    popen = subprocess.Popen

    def remembered(*args: Any, **options: Any) -> subprocess.Popen:
        processes.append(popen(*args, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", remembered)
    return processes


def test_decode_audio_pieces_together_are_the_sound(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", voice(0.5))
    whole = np.frombuffer(b"".join(decode_audio_pieces(path, 16000, 16000)), "<f4")
    pieces = list(decode_audio_pieces(path, 16000, 3000))
    assert [len(piece) // 4 for piece in pieces] == [3000, 3000, 2000]
    np.testing.assert_array_equal(np.frombuffer(b"".join(pieces), "<f4"), whole)
    np.testing.assert_allclose(whole, voice(0.5), atol=1e-4)


def test_decode_audio_pieces_that_are_no_longer_wanted_end_ffmpeg(
    tmp_path: Path, started: list[subprocess.Popen]
) -> None:
    pieces = decode_audio_pieces(write_wav(tmp_path / "a.wav", voice(60.0)), 16000, 100)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_damage_behind_the_first_pieces_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text("#!/bin/sh\nhead -c 8000 /dev/zero\necho broken packet >&2\nexit 1\n")
    ffmpeg.chmod(0o755)
    monkeypatch.setattr("util.ffmpeg.ffmpeg_path", lambda: str(ffmpeg))
    pieces = decode_audio_pieces(write_wav(tmp_path / "a.wav", voice(0.5)), 16000, 1000)
    assert len(next(pieces)) == len(next(pieces)) == 4000
    with pytest.raises(MediaError, match=r"a.wav: reading the sound: ffmpeg failed: broken packet"):
        next(pieces)


def test_run_ffmpeg_failure_carries_what_was_done_and_the_last_lines(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"copying the sky: ffmpeg failed: .*No such file"):
        run_ffmpeg(["-i", tmp_path / "gone.mp4", tmp_path / "out.mp4"], "copying the sky")


RAW = ["-f", "rawvideo", "-pix_fmt", "gray", "-video_size", "64x64", "-framerate", "25", "-i", "pipe:0"]


def test_run_ffmpeg_fed_passes_every_chunk_on(tmp_path: Path) -> None:
    run_ffmpeg_fed([*RAW, tmp_path / "out.mp4"], (bytes(64 * 64) for _ in range(7)), "encoding")
    assert probe(tmp_path / "out.mp4").video_frames == 7


def test_run_ffmpeg_fed_stops_when_ffmpeg_gives_up(tmp_path: Path) -> None:
    asked = 0

    def endless() -> Iterator[bytes]:
        nonlocal asked
        while asked < 100_000:
            asked += 1
            yield bytes(64 * 64)

    with pytest.raises(MediaError, match=r"encoding: ffmpeg failed: .*No such file"):
        run_ffmpeg_fed([*RAW, tmp_path / "gone" / "out.mp4"], endless(), "encoding")
    assert asked < 100_000


def test_run_ffmpeg_fed_ends_ffmpeg_when_the_chunks_fail(tmp_path: Path, started: list[subprocess.Popen]) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(64 * 64)
        raise MediaError("frame 1 is damaged")

    with pytest.raises(MediaError, match="frame 1 is damaged"):
        run_ffmpeg_fed([*RAW, tmp_path / "out.mp4"], broken(), "encoding")
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_run_ffmpeg_fed_without_ffmpeg_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("util.ffmpeg.ffmpeg_path", lambda: "/gone/ffmpeg")
    with pytest.raises(MediaError, match="encoding: /gone/ffmpeg cannot be started: No such file"):
        run_ffmpeg_fed(RAW, [], "encoding")
