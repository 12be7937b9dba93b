"""The implementation against the published figures, in full size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import parity

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.all_cores
@pytest.mark.timeout(600)
def test_all_static_quantities_match_reference() -> None:
    checks = list(parity.static_checks(GOLDEN, seed=1))
    assert len(checks) == 60
    assert [str(check) for check in checks if not check.passed] == []


def test_check_with_nan_or_beyond_tolerance_is_a_miss() -> None:
    assert parity.Check("x", 0.1, 0.1).passed
    assert not parity.Check("x", 0.11, 0.1).passed
    assert not parity.Check("x", float("nan"), 0.1).passed
