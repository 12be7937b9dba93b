"""The script that writes synthetic data sets: layout, resuming, held-out speakers, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.synthetic.clips import read_truth
from scripts import make_synthetic_data
from scripts.make_synthetic_data import main, plan_clips


def _arguments(output: Path, **changes: object) -> list[str]:
    flags = {"num_speakers": 1, "clips_per_speaker": 1, "seconds": 0.2, "workers": 1, **changes}
    return ["--output", str(output), *(text for name, value in flags.items() for text in (f"--{name}", str(value)))]


def test_main_writes_the_voxceleb2_layout_with_workers(tmp_path: Path) -> None:
    assert main(_arguments(tmp_path, num_speakers=2, start_speaker=7, workers=2)) == 0
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    expected = [f"dev/mp4/id{speaker:05d}/clip0000/00001.{suffix}" for speaker in (7, 8) for suffix in ("mp4", "npz")]
    assert files == [*expected, "synthetic_data.json"]


def test_main_second_run_makes_only_what_is_missing_or_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _arguments(tmp_path, clips_per_speaker=3)
    assert main(arguments) == 0
    videos = sorted(tmp_path.rglob("*.mp4"))
    videos[0].unlink()
    videos[1].with_suffix(".npz").write_bytes(b"broken")
    untouched = videos[2].stat().st_mtime_ns
    assert main(arguments) == 0
    assert "2 clips made, 1 were there" in capsys.readouterr().out
    assert videos[2].stat().st_mtime_ns == untouched
    assert len(read_truth(videos[1]).states) == 5


def test_main_other_length_or_seed_makes_the_clips_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(_arguments(tmp_path))
    main(_arguments(tmp_path, seconds=0.4))
    main(_arguments(tmp_path, seconds=0.4, seed=1))
    assert capsys.readouterr().out.count("1 clips made, 0 were there") == 3


def test_main_clips_of_another_renderer_are_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("data.synthetic.clips.RENDERER_VERSION", "older")
        main(_arguments(tmp_path))
    for made in (1, 0):
        capsys.readouterr()
        main(_arguments(tmp_path))
        assert f"{made} clips made, {1 - made} were there" in capsys.readouterr().out


def test_main_same_seed_gives_the_same_clip_whatever_the_counts(tmp_path: Path) -> None:
    main(_arguments(tmp_path / "a", start_speaker=4))
    main(_arguments(tmp_path / "b", start_speaker=3, num_speakers=2))
    name = "dev/mp4/id00004/clip0000/00001.npz"
    np.testing.assert_array_equal(
        read_truth(tmp_path / "a" / name).landmarks, read_truth(tmp_path / "b" / name).landmarks
    )


def test_people_of_other_seeds_and_ids_never_meet() -> None:
    seeds = set()
    for seed in (0, 1):
        for start in (0, 99990):
            flags = _arguments(Path("x"), num_speakers=10, seed=seed, start_speaker=start)
            seeds |= {clip.speaker_seed for clip in plan_clips(main.parse(flags))}
    assert len(seeds) == 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_speakers": 0}, "--num_speakers: must be at least 1, got 0"),
        ({"clips_per_speaker": -1}, "--clips_per_speaker: must be at least 1, got -1"),
        ({"workers": 0}, "--workers: must be at least 1, got 0"),
        ({"seconds": 0.1}, "--seconds must be at least 0.2"),
        ({"seconds": "nan"}, "--seconds must be at least 0.2"),
        ({"seed": -1}, "--seed: must not be negative, got -1"),
        ({"start_speaker": 99999, "num_speakers": 2}, "give ids 99999..100000"),
    ],
)
def test_main_bad_value_names_the_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], message: str
) -> None:
    assert main(_arguments(tmp_path, **changes)) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_main_output_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(_arguments(tmp_path / "file")) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "the folder cannot be made" in error


def test_main_interrupt_returns_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(clip: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(make_synthetic_data, "make", interrupt)
    assert main(_arguments(tmp_path)) == 130
    assert "run the same command again" in capsys.readouterr().err
