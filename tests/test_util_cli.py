"""The shell of every command: exit codes, messages, signals."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from util.cli import add_worker_flags, natural_int, part, positive_int, run_command
from util.errors import MediaError, OptionError

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import atexit, ctypes
from util.cli import exit_process
libc = ctypes.CDLL(None)
libc.on_exit(libc.abort, None)  # a library that aborts on the way out
atexit.register(print, "saved")
print("done", end=" ")
exit_process(3)
"""


def _command(work: Callable[[argparse.Namespace], int | None], *argv: str) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=positive_int, default=1)
    parser.add_argument("--verbose", action="store_true")
    return run_command(parser.parse_args, work, argv, interrupted="nothing is lost", prefix="[rank 1] ")


def _raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def work(args: argparse.Namespace) -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MediaError("a.wav: broken"), 1, "[rank 1] error: a.wav: broken\n"),
        (OptionError("--count: too many"), 2, "[rank 1] error: --count: too many\n"),
        (KeyboardInterrupt(), 130, "[rank 1] interrupted: nothing is lost\n"),
    ],
)
def test_error_of_the_user_is_one_line_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture
) -> None:
    assert _command(_raising(error)) == code
    assert capsys.readouterr().err == said


def test_mistake_of_ours_shows_its_traceback_and_ends_with_1(capsys: pytest.CaptureFixture) -> None:
    assert _command(_raising(ZeroDivisionError("oops"))) == 1
    assert "ZeroDivisionError: oops" in capsys.readouterr().err


def test_file_that_the_system_refuses_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert _command(lambda _: Path("a" * 400).stat().st_size) == 1
    assert capsys.readouterr().err == f"[rank 1] error: {'a' * 400}: File name too long\n"


@pytest.mark.parametrize(("flag", "wanted"), [(positive_int, "1 or more"), (natural_int, "0 or more")])
def test_whole_numbers_are_asked_for_in_words(flag: Callable[[str], int], wanted: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be a whole number of {wanted}, got 'seven'"):
        flag("seven")


def test_verbose_shows_where_an_error_comes_from(capsys: pytest.CaptureFixture) -> None:
    assert _command(_raising(MediaError("a.wav: broken")), "--verbose") == 1
    assert "Traceback" in capsys.readouterr().err


def test_wrong_flag_and_help_return_argparse_codes(capsys: pytest.CaptureFixture) -> None:
    assert _command(lambda args: 0, "--count", "0") == 2
    assert "must be at least 1, got 0" in capsys.readouterr().err
    assert _command(lambda args: 0, "--help") == 0


def test_library_that_ends_the_program_with_a_message_has_failed() -> None:
    assert _command(_raising(SystemExit("no licence"))) == 1
    assert _command(_raising(SystemExit(3))) == 3
    assert _command(_raising(SystemExit())) == 0


def test_result_of_the_command_is_the_code() -> None:
    assert _command(lambda args: None) == 0
    assert _command(lambda args: args.count, "--count", "1") == 1


def test_sigterm_stops_like_ctrl_c_and_the_handler_of_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert _command(lambda args: os.kill(os.getpid(), signal.SIGTERM)) == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_natural_int_refuses_negative_numbers() -> None:
    assert natural_int("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match="must not be negative, got -1"):
        natural_int("-1")


@pytest.mark.parametrize("text", ["3", "3/3", "-1/3", "a/b", "1/0", "1/2/3", ""])
def test_part_refuses_what_is_no_part(text: str) -> None:
    assert part("0/3") == (0, 3)
    with pytest.raises(argparse.ArgumentTypeError, match="must be i/n with i from 0 to n - 1"):
        part(text)


def test_worker_flags_default_to_one_process_a_core_of_this_machine() -> None:
    parser = argparse.ArgumentParser()
    add_worker_flags(parser)
    args = parser.parse_args([])
    assert 1 <= args.workers <= (os.cpu_count() or 1)
    assert args.dask == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="on_exit is glibc's")
@pytest.mark.parametrize(("rank", "code"), [("1", 3), (None, -6)])
def test_a_rank_ends_with_its_own_code_whatever_libraries_do_at_exit(rank: str | None, code: int):
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}
    environment |= {} if rank is None else {"RANK": rank}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    if rank is not None:
        assert done.stdout == "done saved\n"
