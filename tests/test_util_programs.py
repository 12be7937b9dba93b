"""Programs that may not be installed: found by name, run without a shell, failures in one line."""

from __future__ import annotations

import sys

import pytest

from util.errors import MediaError
from util.programs import run_program


def test_run_program_passes_arguments_and_input_as_they_are() -> None:
    code = "import sys; print(sys.argv[1], sys.stdin.read())"
    assert run_program([sys.executable, "-c", code, "a $b 'c'"], "testing", b"text").decode().strip() == "a $b 'c' text"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-program-at-all"], "testing: no-such-program-at-all cannot be started: "),
        ([sys.executable, "-c", "import sys; sys.exit('out of breath')"], "ended with 1: out of breath"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "took longer than 0.5 s and was stopped"),
    ],
)
def test_run_program_failure_is_one_line(command: list[str], message: str) -> None:
    with pytest.raises(MediaError, match=r"^testing: ") as caught:
        run_program(command, "testing", timeout_s=0.5 if "sleep" in command[-1] else 60)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
