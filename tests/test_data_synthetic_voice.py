"""How synthetic people sound: sources, phones, true mouths, what is held out, what becomes of the sound."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from data.synthetic import recorded, texts, voice
from data.synthetic.phones import BREATH, LAUGH, PHONES, RESTING, SILENCE, VOWELS, Phoneme, mouth_track, phones_of
from data.synthetic.recorded import HELD_OUT_VOICES, VOICES, RecordedVoice, Spoken, installed_voices, say, translate
from data.synthetic.sound import Variation, degrade, level_of, vary
from data.synthetic.voice import FIRST_HELD_OUT, FORMANT, choose_voice, phonemes_of, speak
from options.config import SAMPLE_RATE_HZ
from util.errors import MediaError

FLITE = RecordedVoice("flite", "slt", "en", 1.0)
ESPEAK = RecordedVoice("espeak-ng", "de", "de")
PROGRAMS = ("flite", "festival", "espeak-ng")


@pytest.fixture
def formant_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "installed_voices", lambda: ())


@pytest.fixture(params=PROGRAMS)
def program_voices(request: pytest.FixtureRequest) -> list[RecordedVoice]:
    """The voices of a program that are installed."""
    found = [v for v in installed_voices() if v.program == request.param]
    if not found:
        pytest.skip(f"{request.param}, one of its voices or the package praat-parselmouth is not installed")
    return found


def _frames(timeline: tuple[Phoneme, ...] | list[Phoneme]) -> np.ndarray:
    return (np.arange(int(timeline[-1].end_s * 25)) + 0.5) / 25


def _truth_of(wave: np.ndarray, timeline: list[Phoneme] | tuple[Phoneme, ...]) -> tuple[np.ndarray, np.ndarray, float]:
    """Opening and loudness (dB) of all frames, and the widest mouth in the middle of p, b, m."""
    times = _frames(timeline)
    opening = mouth_track(timeline, times)[:, 0]
    count = len(times)
    rms = np.sqrt(np.mean(wave[: count * 640].reshape(count, 640).astype(np.float64) ** 2, axis=1))
    loud_db = 20 * np.log10(rms + 1e-5)
    middles = np.array([(p.start_s + p.end_s) / 2 for p in timeline if p.name in ("p", "b", "m")])
    closed = float(mouth_track(timeline, middles)[:, 0].max()) if len(middles) else np.nan
    return opening, loud_db, closed


# -- phones


def test_phones_of_diphthong_and_affricate_are_two_marks_are_dropped() -> None:
    assert phones_of("oʊ") == ["oo", "uh"]
    assert phones_of("tʃ") == ["t", "sh"]
    assert phones_of("ɑ̃ː") == ["aa"]
    assert phones_of("ɯᵝ") == ["ix"]


@pytest.mark.parametrize(("speaker", "name"), [(FLITE, "qq"), (ESPEAK, "☃")])
def test_translate_unknown_phone_names_it_and_the_voice(speaker: RecordedVoice, name: str) -> None:
    with pytest.raises(MediaError, match=f"{speaker.label} speaks a phone that is not known: '{name}'"):
        translate(speaker, name)


@pytest.mark.parametrize(
    ("speaker", "name", "expected"),
    [
        (FLITE, "ow", ["oo", "uh"]),
        (FLITE, "pau", [SILENCE]),
        (RecordedVoice("festival", "lp_diphone", "it"), "E1", ["eh"]),
        (RecordedVoice("festival", "czech_ph", "cs"), "r~*", ["sh"]),
        (RecordedVoice("festival", "suo_fi_lj_diphone", "fi"), "@:", ["ae"]),
        (RecordedVoice("festival", "msu_ru_nsh_clunits", "ru"), "bb", ["b"]),
        (RecordedVoice("festival", "hindi_NSK_diphone", "hi"), "j", ["d", "zh"]),
        (RecordedVoice("festival", "upc_ca_ona_hts", "ca"), "L", ["l"]),
        (ESPEAK, "pf", ["p", "f"]),
    ],
)
def test_translate_names_of_every_program(speaker: RecordedVoice, name: str, expected: list[str]) -> None:
    assert translate(speaker, name) == expected


@pytest.mark.parametrize(
    ("language", "table"),
    [
        ("en", recorded.ARPABET),
        ("it", recorded.ITALIAN),
        ("cs", recorded.CZECH),
        ("fi", recorded.FINNISH),
        ("te", recorded.INDIAN),
        ("ru", recorded.RUSSIAN),
        ("ca", recorded.CATALAN),
    ],
)
def test_translate_every_name_of_a_table_is_a_phone(language: str, table: dict[str, str]) -> None:
    phones = [phone for name in table for phone in translate(RecordedVoice("festival", "x", language), name)]
    assert set(phones) <= set(PHONES)
    assert {"p", "b", "m", "t", "s", SILENCE} <= set(phones)


def test_phonemes_of_cover_the_sound_and_short_pauses_do_not_close_the_mouth() -> None:
    ends = (("pau", 0.2), ("ow", 0.4), ("pau", 0.45), ("aa", 0.6), ("pau", 0.9), ("h#", 1.0))
    timeline = phonemes_of(FLITE, Spoken(np.zeros(16000), 16000, ends))
    assert [(p.name, round(p.start_s, 3), round(p.end_s, 3)) for p in timeline] == [
        (SILENCE, 0, 0.2),
        ("oo", 0.2, 0.3),
        ("uh", 0.3, 0.4),
        ("q", 0.4, 0.45),
        ("aa", 0.45, 0.6),
        (SILENCE, 0.6, 1.0),
    ]
    opening = mouth_track(timeline, np.array([0.1, 0.425, 0.8]))[:, 0]
    assert opening[1] > 0.3
    assert opening[[0, 2]].max() < 0.01


# -- mouths


def test_mouth_track_closed_lips_close_and_open_vowels_open() -> None:
    for name in ("m", "b", "p"):
        timeline = [Phoneme("aa", 0, 0.2), Phoneme(name, 0.2, 0.28), Phoneme("aa", 0.28, 0.5)]
        track = mouth_track(timeline, np.array([0.10, 0.24, 0.40]))
        assert track[1, 0] < 0.001
        assert track[1, 3] > 0.999
        assert track[[0, 2], 0].min() > 0.7
    teeth = mouth_track([Phoneme("aa", 0, 0.2), Phoneme("f", 0.2, 0.3), Phoneme("aa", 0.3, 0.5)], np.array([0.25]))
    assert teeth[0, 2] > 0.95
    assert teeth[0, 0] < 0.15


def test_mouth_track_rounded_and_spread_vowels_have_opposite_width() -> None:
    assert mouth_track([Phoneme("uw", 0, 0.4)], np.array([0.2]))[0, 1] < -0.9
    assert mouth_track([Phoneme("iy", 0, 0.4)], np.array([0.2]))[0, 1] > 0.8
    between = mouth_track([Phoneme("uw", 0, 0.2), Phoneme("iy", 0.2, 0.4)], np.array([0.17]))[0, 1]
    assert -0.3 < between < 0.3  # coarticulation


@pytest.mark.parametrize(("vowel", "sign"), [("uw", -1), ("iy", 1)])
def test_mouth_track_consonant_takes_the_width_of_its_vowels(vowel: str, sign: int) -> None:
    timeline = [Phoneme(vowel, 0, 0.15), Phoneme("t", 0.15, 0.23), Phoneme(vowel, 0.23, 0.4)]
    assert sign * mouth_track(timeline, np.array([0.19]))[0, 1] > 0.4


def test_mouth_track_loud_vowels_open_wider() -> None:
    openings = [mouth_track([Phoneme("aa", 0, 0.4, stress)], np.array([0.2]))[0, 0] for stress in (0.75, 1.0, 1.15)]
    np.testing.assert_allclose(openings, [0.76, 0.91, 1.0], atol=1e-6)


@pytest.mark.parametrize("name", RESTING)
def test_mouth_track_pause_breath_and_laughter_keep_the_mouth_closed(name: str) -> None:
    timeline = [Phoneme("aa", 0, 0.3), Phoneme(name, 0.3, 0.8), Phoneme("aa", 0.8, 1.0)]
    assert mouth_track(timeline, np.linspace(0.36, 0.66, 20))[:, 0].max() < 0.005
    assert mouth_track(timeline, np.array([0.77]))[0, 0] > 0.05  # the lips part before the voice comes


def test_phones_that_close_the_lips_bite_them_and_round_them() -> None:
    assert {name for name, phone in PHONES.items() if phone.press == 1} == {"p", "b", "m"}
    assert {name for name, phone in PHONES.items() if phone.lip_teeth == 1} == {"f", "v"}
    assert {name for name, phone in PHONES.items() if phone.width <= -0.8} == {"uw", "oo", "yu", "w"}
    assert {name for name, phone in PHONES.items() if phone.opening == 0} == {"p", "b", "m", *RESTING}


# -- texts


def test_make_text_held_out_sentences_are_never_said_by_others() -> None:
    for language, sentences in texts.SENTENCES.items():
        held_out = {s for n, s in enumerate(sentences) if n % 5 == 4}
        assert held_out
        said = " ".join(texts.make_text(seed, language, 60, False) for seed in range(20))
        assert not any(sentence in said for sentence in held_out)
        assert any(sentence in texts.make_text(3, language, 200, True) for sentence in held_out)


def test_make_text_thousands_of_seeds_differ() -> None:
    assert len({texts.make_text(seed, "en", 24, False) for seed in range(2000)}) > 1800
    assert all(len(texts.make_text(seed, "mr", 24, True).split()) >= 24 for seed in range(20))


def test_every_voice_has_a_language_and_held_out_voices_exist() -> None:
    assert {v.language for v in VOICES} == set(texts.SENTENCES)
    assert {v.label for v in VOICES} > HELD_OUT_VOICES
    for program in PROGRAMS:  # each on both sides, so that either kind of people has voices with any program
        sides = {v.label in HELD_OUT_VOICES for v in VOICES if v.program == program}
        assert sides == {True, False}


# -- who speaks with what


def test_choose_voice_held_out_people_have_voices_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "installed_voices", lambda: VOICES)
    seeds = range(400)
    trained, held_out, other_seed = (
        {v.label for s in seeds if (v := choose_voice(first + s, s % 2)) is not None}
        for first in (0, FIRST_HELD_OUT, 100000)
    )
    assert held_out == HELD_OUT_VOICES
    assert trained == {v.label for v in VOICES} - HELD_OUT_VOICES
    assert not other_seed & HELD_OUT_VOICES  # --seed 1 gives other people to train on


def test_choose_voice_women_mostly_have_womens_voices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "installed_voices", lambda: VOICES)
    drawn = [[choose_voice(seed, femininity) for seed in range(600)] for femininity in (0.0, 1.0)]
    shares = [[v is None for v in voices].count(True) / 600 for voices in drawn]
    np.testing.assert_allclose(shares, 0.1, atol=0.04)
    sexes = [np.mean([v.femininity for v in voices if v is not None and v.femininity is not None]) for voices in drawn]
    assert sexes[0] < 0.15
    assert sexes[1] > 0.7


def test_sources_without_programs_is_the_formant_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "installed_voices", lambda: ())
    assert voice.sources() == "the formant voice"
    monkeypatch.setattr(voice, "installed_voices", lambda: VOICES[:5])
    assert voice.sources() == "the formant voice, flite (4 voices), festival (1 voices)"


def test_installed_voices_lists_what_the_programs_know(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("parselmouth")
    answers = {"flite": b"Voices available: kal awb_time kal16 slt \n", "festival": b"(czech_ph lp_diphone other)\n"}
    monkeypatch.setattr(recorded.shutil, "which", lambda name: f"/bin/{name}" if name in answers else None)
    monkeypatch.setattr(recorded, "run_program", lambda command, doing: answers[Path(command[0]).name])
    found = installed_voices.__wrapped__()
    assert [v.label for v in found] == ["flite slt", "flite kal16", "festival lp_diphone", "festival czech_ph"]


# -- speech


@pytest.mark.usefixtures("formant_alone")
def test_speak_formant_voice_covers_the_time_and_is_seeded() -> None:
    speech = speak(5, 7, 0.2, 48000)
    assert speech.voice == FORMANT
    assert speech.wave.shape == (48000,)
    assert speech.wave.dtype == np.float32
    assert speech.phonemes[0].start_s == 0
    assert speech.phonemes[-1].end_s == pytest.approx(3.0)
    assert all(a.end_s == pytest.approx(b.start_s) for a, b in itertools.pairwise(speech.phonemes))
    again, other = speak(5, 7, 0.2, 48000), speak(6, 7, 0.2, 48000)
    np.testing.assert_array_equal(again.wave, speech.wave)
    assert again.phonemes == speech.phonemes
    assert not np.array_equal(other.wave, speech.wave)


@pytest.mark.usefixtures("formant_alone")
def test_speak_formant_voice_is_loud_when_the_mouth_is_open() -> None:
    found = [_truth_of(s.wave, s.phonemes) for s in (speak(seed, seed, 0.5, 80000) for seed in range(12))]
    assert np.mean([np.corrcoef(opening, loud)[0, 1] for opening, loud, _ in found]) > 0.5
    assert np.nanmax([closed for _, _, closed in found]) < 0.01


@pytest.mark.usefixtures("formant_alone")
def test_speak_breathes_and_laughs_with_lips_closed() -> None:
    heard = []
    for seed in range(16):
        speech = speak(seed, seed, 0.5, 80000)
        for p in speech.phonemes:
            if p.name in (BREATH, LAUGH):
                piece = speech.wave[int(p.start_s * SAMPLE_RATE_HZ) : int(p.end_s * SAMPLE_RATE_HZ)]
                inside = np.linspace(p.start_s + 0.03, p.end_s - 0.06, 9)
                heard.append((p.name, np.std(piece) > 0, mouth_track(speech.phonemes, inside)[:, 0].max()))
    assert {name for name, _, _ in heard} == {BREATH, LAUGH}
    assert all(audible for _, audible, _ in heard)
    assert max(opening for _, _, opening in heard) < 0.01


def test_speak_recorded_voice_is_seeded_and_covers_the_time(program_voices: list[RecordedVoice], monkeypatch) -> None:
    monkeypatch.setattr(voice, "installed_voices", lambda: tuple(program_voices[:1]))
    trained = program_voices[0].label not in HELD_OUT_VOICES
    person = next(s for s in itertools.count(0 if trained else FIRST_HELD_OUT) if choose_voice(s, 0.5) is not None)
    speech, again = speak(3, person, 0.5, 64000), speak(3, person, 0.5, 64000)
    assert speech.voice == program_voices[0].label
    assert speech.wave.shape == (64000,)
    np.testing.assert_array_equal(speech.wave, again.wave)
    assert speech.phonemes == again.phonemes
    assert speech.phonemes[0].start_s == 0
    assert speech.phonemes[-1].end_s == 4
    assert all(a.end_s == pytest.approx(b.start_s) for a, b in itertools.pairwise(speech.phonemes))


def test_say_every_sentence_has_known_phones_and_a_true_mouth(program_voices: list[RecordedVoice]) -> None:
    """All sentences of a language by its first voice, some words by the others: loud when open, closed on p, b, m."""
    languages = set()
    follows = []
    for speaker in program_voices:
        sentences = texts.SENTENCES[speaker.language][:: 4 if speaker.language in languages else 1]
        languages.add(speaker.language)
        spoken = say(speaker, " ".join(sentences))
        timeline = phonemes_of(speaker, spoken)
        wave, timeline = vary(spoken.wave, spoken.rate_hz, timeline, Variation(), np.random.default_rng(0))
        opening, loud_db, closed = _truth_of(wave, voice.stressed(wave, timeline))
        follows.append(np.corrcoef(opening, loud_db)[0, 1])
        assert follows[-1] > 0.28, speaker.label
        assert closed < 0.01, speaker.label
    assert np.mean(follows) > 0.4


def test_say_lips_are_closed_where_the_sound_of_a_stop_is_quiet(program_voices: list[RecordedVoice]) -> None:
    """The middle of p lies 12 dB below the vowels, so boundaries are where the sound says."""
    for speaker in program_voices:
        if speaker.language != "en":
            continue
        spoken = say(speaker, "Peter keeps a happy puppy, people pay a penny for a paper cup, upper apple puppet.")
        times = {"p": [], "vowel": []}
        for p in phonemes_of(speaker, spoken):
            kind = "vowel" if p.name in VOWELS else p.name
            if kind in times and p.end_s - p.start_s > 0.04:
                middle = p.start_s + 0.4 * (p.end_s - p.start_s)
                at = int(middle * spoken.rate_hz)
                reach = int(0.01 * spoken.rate_hz)
                times[kind].append(10 * np.log10(np.mean(spoken.wave[at - reach : at + reach] ** 2) + 1e-9))
        assert np.median(times["p"]) < np.median(times["vowel"]) - 12, speaker.label


# -- what becomes of it


def test_vary_moves_pitch_tempo_and_the_times_with_them() -> None:
    pytest.importorskip("parselmouth")
    rate = 22050
    time = np.arange(3 * rate) / rate
    buzz = sum(np.sin(2 * np.pi * 110 * k * time) / k for k in range(1, 30))
    wave = np.where((time > 1) & (time < 2), buzz, 0.0)
    timeline = [Phoneme(SILENCE, 0, 1), Phoneme("aa", 1, 2), Phoneme(SILENCE, 2, 3)]
    change = Variation(pitch=1.5, formants=1.1, seconds=0.7, drift=0.2)
    varied, moved = vary(wave, rate, timeline, change, np.random.default_rng(1))
    assert len(varied) == pytest.approx(moved[-1].end_s * SAMPLE_RATE_HZ, rel=0.02)
    assert moved[-1].end_s == pytest.approx(2.1, rel=0.25)
    heard = np.nonzero(np.abs(varied) > 0.1 * np.abs(varied).max())[0] / SAMPLE_RATE_HZ
    assert heard[0] == pytest.approx(moved[1].start_s, abs=0.025)
    assert heard[-1] == pytest.approx(moved[1].end_s, abs=0.025)
    middle = int((moved[1].start_s + moved[1].end_s) / 2 * SAMPLE_RATE_HZ)
    piece = varied[middle - 2000 : middle + 2000]
    auto = np.correlate(piece, piece, "full")[len(piece) - 1 :]
    lags = np.arange(SAMPLE_RATE_HZ // 300, SAMPLE_RATE_HZ // 70)
    assert SAMPLE_RATE_HZ / lags[np.argmax(auto[lags])] == pytest.approx(165, rel=0.05)


def test_degrade_keeps_sound_in_its_place_and_in_range() -> None:
    rng = np.random.default_rng(0)
    gate = np.repeat(np.tile([0, 1, 1, 0.3], 4), 4000)
    clean = 0.1 * rng.standard_normal(64000) * gate
    levels = []
    for seed in range(40):
        worse = degrade(clean, np.random.default_rng(seed))
        assert worse.shape == clean.shape
        assert worse.dtype == np.float32
        assert np.abs(worse).max() < 1
        envelope = np.sqrt(np.mean(worse.reshape(-1, 160).astype(np.float64) ** 2, axis=1))
        wanted = np.sqrt(np.mean(clean.reshape(-1, 160) ** 2, axis=1))
        lag = np.argmax(np.correlate(envelope - envelope.mean(), wanted - wanted.mean(), "full")) - (len(wanted) - 1)
        assert -1 <= lag <= 3, seed  # 10 ms each; a room lags
        levels.append(level_of(worse))
    assert max(levels) / min(levels) > 5
