"""A short run of the fuzzer, and that it finds what it looks for; tests/fuzz_inputs.py itself runs for longer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests import fuzz_inputs
from tests.fuzz_inputs import damage_bytes, damage_json, damage_text, fuzz
from util.errors import MediaError


@pytest.mark.timeout(200)
def test_damaged_inputs_end_well_or_with_one_line() -> None:
    done, faults = fuzz(seed=2, seconds=6)
    assert faults == {}
    assert sum(done.values()) >= 5


@pytest.mark.parametrize("damage", [damage_bytes, damage_text, damage_json])
def test_damage_depends_on_the_seed_alone(damage: fuzz_inputs.Damage) -> None:
    payload = b'{"a": [1, 2, 3], "b": "text", "c": {"d": null}}'
    one, again = (damage(random.Random(5), payload) for _ in range(2))
    assert one == again
    assert len({damage(random.Random(seed), payload) for seed in range(20)}) > 10


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (MediaError("one line"), ""),
        (ValueError("ours"), "ValueError: ours"),
        (None, "a file of the user has changed"),
    ],
)
def test_faults_are_told_from_clean_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, fault: str
) -> None:
    place = fuzz_inputs.Place.__new__(fuzz_inputs.Place)
    place.root, place.whole, place.out = tmp_path, tmp_path / "whole", tmp_path / "out"
    place.whole.mkdir()
    (place.whole / "a.txt").write_bytes(b"some words, 17")
    place.inputs = [place.whole / "a.txt"]
    place.state = place.digest()

    def read(place: fuzz_inputs.Place, path: Path) -> None:
        if error is not None:
            raise error
        (place.whole / "a.txt").write_bytes(b"lost")

    monkeypatch.setattr(fuzz_inputs, "TARGETS", (("a.txt", (damage_text,), read, 1),))
    kind, found = fuzz_inputs.run_case(place, 1, 0)
    assert kind == "a.txt by read"
    assert fault in found
    assert bool(found) == bool(fault)
