"""Times of blinks and the way of the lids."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from data.blink import blink_seconds, closures, live_closures, natural_blinks, phrase_ends, seen_blinks
from options.config import FPS, TestConfig, blink_choice
from util.errors import OptionError


def test_a_blink_closes_fast_opens_slowly_and_takes_its_time() -> None:
    closure = closures([10], 21)
    assert closure[10] == 1
    assert np.flatnonzero(closure).tolist() == [9, 10, 11, 12]  # 4 frames between open ones: 0.2 s
    assert closure[8:14] == pytest.approx([0, 0.5, 1, 0.741, 0.259, 0], abs=1e-3)
    assert np.flatnonzero(closures([10], 21, 0.32)).tolist() == [7, 8, 9, 10, 11, 12, 13, 14]
    assert closures([], 3).tolist() == [0, 0, 0]


def test_half_closed_eyes_blink_slower() -> None:
    assert [blink_seconds(opening) for opening in (0.4, 0.26, 0.2, 0.1)] == pytest.approx([0.2, 0.2, 0.26, 0.32])


def test_natural_blinks_keep_the_rate_and_come_from_the_seed() -> None:
    minute = 60 * FPS
    for rate in (10, 17, 30):
        counts = [len(natural_blinks(minute, rate, seed)) for seed in range(200)]
        assert np.mean(counts) == pytest.approx(rate, rel=0.07)
    assert natural_blinks(minute, 17, 5) == natural_blinks(minute, 17, 5)
    assert len({tuple(natural_blinks(minute, 17, seed)) for seed in range(20)}) == 20
    gaps = [np.diff(natural_blinks(minute, 17, seed)).min() for seed in range(50)]
    assert min(gaps) >= 0.6 * FPS


def test_every_clip_longer_than_4_s_has_a_blink_that_ends_in_it() -> None:
    for seed in range(100):
        blinks = natural_blinks(101, 3, seed)
        assert blinks
        assert blinks[-1] <= 97
    assert [seed for seed in range(100) if natural_blinks(3, 17, seed)] == []


def test_most_phrase_ends_have_a_blink() -> None:
    ends = list(range(80, 1400, 110))
    near = np.mean([end + 2 in natural_blinks(60 * FPS, 17, seed, ends) for seed in range(50) for end in ends])
    chance = np.mean([end + 2 in natural_blinks(60 * FPS, 17, seed) for seed in range(50) for end in ends])
    assert near > 0.5
    assert chance < 0.03
    counts = [len(natural_blinks(60 * FPS, 17, seed, ends)) for seed in range(100)]
    assert 15 <= np.mean(counts) <= 20


def test_phrase_ends_are_falls_of_loudness() -> None:
    noise = np.random.default_rng(0).standard_normal(16000 * 6).astype(np.float32)
    loud = np.zeros(16000 * 6, dtype=np.float32)
    loud[16000 : 16000 * 3] = 0.1  # speech until 3 s
    loud[16000 * 4 : 16000 * 4 + 1600] = 0.1  # a click
    sound = noise * (loud + 0.0005)
    assert phrase_ends(np.array_split(sound, 7)) == [75]
    assert phrase_ends([sound[:3000]]) == []
    assert phrase_ends([noise]) == []


def test_live_closures_go_on_for_ever_at_the_rate() -> None:
    track = np.array(list(itertools.islice(live_closures(17, 3), 20 * 60 * FPS)))
    assert np.sum(track == 1) / 20 == pytest.approx(17, rel=0.1)
    assert np.mean(track > 0) < 0.06
    assert list(itertools.islice(live_closures(17, 3), 500)) == track[:500].tolist()
    fast = np.array(list(itertools.islice(live_closures(60, 0, 0.32), 60 * FPS)))
    assert np.sum(fast == 1) == pytest.approx(60, abs=12)


def test_blinks_are_seen_where_contrast_falls() -> None:
    contrasts = 0.3 + 0.02 * np.sin(np.arange(100) / 9)
    contrasts[40:44] *= [0.7, 0.4, 0.5, 0.7]
    contrasts[70] *= 0.85  # a look aside
    contrasts[90:92] = np.nan
    contrasts[98:] *= [0.6, 0.5]
    assert seen_blinks(contrasts) == [41, 99]
    assert seen_blinks(np.full(30, np.nan)) == []


def test_choices_of_the_flag() -> None:
    assert [blink_choice(text) for text in ("none", "0", "auto", "follow", "20")] == [0, 0, 17, None, 20]
    assert blink_choice("0.8,3.5") == (0.8, 3.5)
    assert blink_choice("2.5,") == (2.5,)
    assert not TestConfig().blinks
    assert TestConfig(blink="1.5,").blinks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("often", "--blink 'often' is unknown; choose from none, auto, follow, blinks a minute .* times in seconds"),
        ("", "--blink '' is unknown"),
        (",", "--blink ',' is unknown"),
        ("90", "--blink 90: must be from 0 to 60 a minute; a single time is written 90,"),
        ("nan", "--blink nan: must be from 0 to 60 a minute"),
        ("1,-2", "--blink 1,-2: times must be seconds from 0 on"),
        ("1,inf", "--blink 1,inf: times must be seconds from 0 on"),
    ],
)
def test_wrong_choices_are_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        blink_choice(text)


def test_follow_needs_a_pose_source() -> None:
    with pytest.raises(OptionError, match="--blink follow takes the blinks of the pose video; add --driving_pose"):
        TestConfig(blink="follow")
    assert TestConfig(blink="follow", driving_pose=True).blinks
