"""Sound on disk -> log-mel -> the windows of frames."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data import audio
from data.audio import (
    MelStream,
    WindowStream,
    audio_pieces,
    chunks,
    file_windows,
    full_frames,
    load_audio,
    log_mel,
    mel_basis,
    mel_window,
    num_mel_bins,
    published_frames,
    scan_audio,
    scan_pieces,
)
from tests.conftest import voice, write_wav
from util.errors import MediaError
from util.ffmpeg import run_ffmpeg


def test_load_audio_of_16_bit_wav_is_exact(tmp_path: Path) -> None:
    samples = np.round(voice(0.5) * 32767) / 32768
    path = write_wav(tmp_path / "a.wav", voice(0.5))
    assert np.abs(load_audio(path) - samples).max() < 1e-7


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_load_audio_stereo_at_other_rate_is_mixed_and_resampled(tmp_path: Path, rate: int) -> None:
    time_s = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 440 * time_s)
    path = write_wav(tmp_path / "stereo.wav", np.stack([0.8 * tone, 0.2 * tone], axis=1), rate)
    wave = load_audio(path)
    assert abs(len(wave) - 16000) <= 16
    inner = slice(2000, 14000)
    # ffmpeg adds channels with constant power; loudness is normalised later, so only the shape counts
    expected = np.sqrt(0.5) * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(wave[inner] - expected[inner]).max() < 0.01


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac", "ogg", "opus"])
def test_load_audio_of_compressed_formats_keeps_pitch_and_length(tmp_path: Path, suffix: str) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)
    wav, path = write_wav(tmp_path / "a.wav", tone), tmp_path / f"a.{suffix}"
    run_ffmpeg(["-i", wav, path], "making a test sound")
    wave = load_audio(path)
    assert abs(len(wave) - 16000) < 1700
    spectrum = np.abs(np.fft.rfft(wave[4000:12000]))
    assert abs(np.argmax(spectrum) * 16000 / 8000 - 500) <= 2


def test_load_audio_of_wav_named_mp3_goes_by_content(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.mp3", voice(0.4))
    assert len(load_audio(path)) == 6400


def test_load_audio_missing_file_raises_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone.wav: no such audio file"):
        load_audio(tmp_path / "gone.wav")


def test_load_audio_empty_file_raises_media_error(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(MediaError, match=r"empty.wav: the file is empty"):
        load_audio(tmp_path / "empty.wav")


def test_load_audio_header_without_samples_raises_media_error(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "none.wav", np.zeros(0))
    with pytest.raises(MediaError, match=r"none.wav"):
        load_audio(path)


def test_load_audio_of_text_raises_media_error(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("this is no sound\n" * 50)
    with pytest.raises(MediaError, match=r"text.wav: not a readable media file"):
        load_audio(path)


def test_load_audio_shorter_than_a_window_raises_media_error(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "short.wav", voice(0.19))
    with pytest.raises(MediaError, match=r"short.wav: only 0.190 s of sound; at least 0.2 s"):
        load_audio(path)


def test_load_audio_with_nan_raises_media_error(tmp_path: Path) -> None:
    raw, path = tmp_path / "a.f32", tmp_path / "nan.wav"
    samples = voice(0.5).astype("<f4")
    samples[100] = np.nan
    raw.write_bytes(samples.tobytes())
    run_ffmpeg(["-f", "f32le", "-ar", "16000", "-ac", "1", "-i", raw, "-c:a", "pcm_f32le", path], "making a test sound")
    with pytest.raises(MediaError, match="NaN"):
        load_audio(path)


def test_gain_brings_sound_to_the_wanted_rms_and_spares_silence() -> None:
    wave = voice(1.0).astype(np.float32)
    assert np.sqrt(np.mean((wave * scan_pieces([wave]).gain) ** 2)) == pytest.approx(0.1, rel=1e-5)
    assert scan_pieces([np.zeros(10, np.float32)]) == (10, 1000)


def test_chunks_do_not_depend_on_the_pieces() -> None:
    wave = np.arange(1003, dtype=np.float32)
    for pieces in ([wave], np.split(wave, [1, 2, 300, 700]), np.split(wave, [999])):
        found = list(chunks(pieces, 100))
        assert [len(chunk) for chunk in found] == [100] * 10 + [3]
        assert np.array_equal(np.concatenate(found), wave)


@pytest.mark.parametrize("samples", [3200, 3201, 3359, 3360, 16000])
def test_log_mel_has_seven_bins_more_than_hops(samples: int) -> None:
    mel = log_mel(voice(1.0)[:samples].astype(np.float32))
    assert mel.shape == (7 + -(-samples // 160), 80)
    assert num_mel_bins(samples) == len(mel)


def test_log_mel_of_silence_is_zero() -> None:
    assert np.array_equal(log_mel(np.zeros(8000, np.float32)), np.zeros((57, 80), np.float32))


def test_log_mel_in_chunks_equals_direct_sum() -> None:
    """Against a per-frame discrete Fourier sum, across the chunk border."""
    wave = voice(25.0).astype(np.float32)
    mel = log_mel(wave)
    from data.audio import analysis_window

    padded = np.concatenate([np.zeros(1120), wave * scan_pieces([wave]).gain, np.zeros(2000)])
    for bin_number in (0, 7, 511, 512, 513, 2048):
        frame = padded[160 * bin_number : 160 * bin_number + 1280] * analysis_window()
        bands = mel_basis() @ np.abs(np.fft.rfft(frame))
        expected = np.clip((20 * np.log10(np.maximum(1e-5, bands)) - 20 + 100) / 100, 0, 1)
        assert np.abs(mel[bin_number] - expected).max() < 1e-5


def test_mel_window_is_bins_around_the_frame_and_silent_outside() -> None:
    mel = np.arange(1, 41, dtype=np.float32)[:, None].repeat(80, axis=1)
    window = mel_window(mel, 5)
    assert window.shape == (1, 80, 20)
    assert np.array_equal(window[0, 3], np.arange(13, 33))
    assert np.array_equal(mel_window(mel, 0)[0, 0], [0] * 8 + list(range(1, 13)))
    assert np.array_equal(mel_window(mel, 9)[0, 0], list(range(29, 41)) + [0] * 8)
    assert np.array_equal(mel_window(mel, 100)[0], np.zeros((80, 20)))


def test_published_frames_run_from_two_to_a_quarter_of_the_bins_less_three() -> None:
    assert published_frames(1460) == range(2, 363)
    assert len(published_frames(1460)) == 361
    assert len(published_frames(18)) == 0


@pytest.mark.parametrize(("samples", "count"), [(3200, 5), (3201, 6), (16000, 25), (16001, 26)])
def test_full_frames_cover_the_sound(samples: int, count: int) -> None:
    assert full_frames(samples) == range(count)


def test_mel_basis_is_that_of_librosa() -> None:
    import librosa

    expected = librosa.filters.mel(sr=16000, n_fft=1280, n_mels=80, fmin=125, fmax=7600)
    assert mel_basis().dtype == np.float32
    assert np.abs(mel_basis() - expected).max() < 1e-7 * expected.max()


def _in_pieces(wave: np.ndarray, size: int) -> list[np.ndarray]:
    return [wave[start : start + size] for start in range(0, len(wave), size)]


def _rms_gain(wave: np.ndarray) -> float:
    return 0.1 / float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


@pytest.mark.parametrize("size", [1, 7, 160, 999, 16000, 100_000])
def test_mel_stream_of_any_pieces_is_log_mel(size: int) -> None:
    wave = voice(0.4 if size == 1 else 6.001).astype(np.float32)  # longer than what is transformed together
    stream = MelStream(_rms_gain(wave))
    bins = np.concatenate([*(stream.feed(piece) for piece in _in_pieces(wave, size)), stream.finish()])
    expected = log_mel(wave)
    assert bins.shape == expected.shape
    assert np.abs(bins - expected).max() < 1e-6


def test_mel_bin_is_there_with_its_last_sample() -> None:
    stream = MelStream(1.0)
    assert len(stream.feed(np.zeros(159, np.float32))) == 0
    assert len(stream.feed(np.zeros(1, np.float32))) == 1
    assert len(stream.feed(np.zeros(321, np.float32))) == 2


@pytest.mark.parametrize("samples", [3200, 3201, 6400, 16111])
def test_window_stream_gives_every_window_of_the_sound(samples: int) -> None:
    wave = voice(1.1)[:samples].astype(np.float32)
    stream = WindowStream(_rms_gain(wave))
    windows = [pair for piece in _in_pieces(wave, 700) for pair in stream.feed(piece)] + stream.finish()
    assert [frame for frame, _ in windows] == list(full_frames(samples))
    mel = log_mel(wave)
    for frame, window in windows:
        assert window.dtype == np.float32
        assert window.flags.c_contiguous
        assert np.abs(window - mel_window(mel, frame)).max() < 1e-6


def test_window_is_ready_an_eighth_of_a_second_after_its_frame() -> None:
    stream = WindowStream(1.0)
    ready = {frame: n for n in range(1, 4000) for frame, _ in stream.feed(np.zeros(1, np.float32))}
    assert ready == {frame: 640 * frame + 1920 for frame in range(4)}


def test_running_gain_comes_to_that_of_the_whole() -> None:
    """The same sound at any level gives the same bins, from the first piece on, and soon those of a known gain."""
    wave = voice(4.0).astype(np.float32)
    given, loud, quiet = MelStream(_rms_gain(wave)), MelStream(), MelStream()
    for start in range(0, len(wave), 1600):
        piece = wave[start : start + 1600]
        expected, estimated = given.feed(piece), loud.feed(piece)
        assert np.abs(estimated - quiet.feed(0.01 * piece)).max() < 1e-3
    assert np.abs(expected - estimated).max() < 0.02  # of 100 dB


def test_running_gain_follows_a_voice_that_goes_farther_away() -> None:
    wave = voice(2.0).astype(np.float32)
    stream = MelStream()
    for level in [1.0] * 8 + [0.1] * 30:
        bins = stream.feed(level * wave)
    assert np.abs(bins - log_mel(wave)[: len(bins)])[50:].mean() < 0.03


def test_silence_is_amplified_a_thousand_times_at_most() -> None:
    assert not MelStream().feed(np.zeros(16000, np.float32)).any()
    assert MelStream().feed(np.zeros(0, np.float32)).shape == (0, 80)


def test_file_is_scanned_and_read_in_pieces(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", voice(11.0))
    wave = load_audio(path)
    assert [len(piece) for piece in audio_pieces(path)] == [81920, 81920, 12160]
    sound = scan_audio(path)
    assert sound.num_samples == len(wave)
    assert sound.gain == pytest.approx(_rms_gain(wave), rel=1e-12)
    mel = log_mel(wave)
    windows = list(file_windows(path, sound.gain))
    assert [frame for frame, _ in windows] == list(range(275))
    assert all(np.array_equal(window, mel_window(mel, frame)) for frame, window in windows)


def test_memory_of_windows_does_not_grow_with_the_sound() -> None:
    piece = voice(5.12).astype(np.float32)

    def peak(pieces: int) -> int:
        stream = WindowStream(1.0)
        tracemalloc.start()
        try:
            for _ in range(pieces):
                stream.feed(piece)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    assert peak(12) < 1.1 * peak(2)


def test_sound_of_days_is_refused_when_the_limit_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wav(tmp_path / "a.wav", voice(12.0))
    monkeypatch.setattr(audio, "LONGEST_S", 10)
    with pytest.raises(MediaError, match=r"a.wav: more than \d hours of sound; take a part .* --duration"):
        scan_audio(tmp_path / "a.wav")
