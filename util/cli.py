"""The shell of every command: parse, log, run; exit codes 0 done, 1 failed, 2 wrong options, 130 interrupted."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence

from util.errors import OptionError, PcavsError, printable
from util.log import setup_logging
from util.parallel import available_cores

DONE, FAILED, WRONG_OPTIONS, INTERRUPTED = 0, 1, 2, 130


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the example commands of the description as written and shows defaults."""


def run_command(
    parse: Callable[[Sequence[str]], argparse.Namespace],
    run: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
    *,
    interrupted: str = "the same command does what is left",
    prefix: str = "",
) -> int:
    """Runs a command from its arguments to its exit code; SIGTERM stops it as Ctrl-C does.

    Args:
        run: the command; None counts as DONE. Imports what is heavy itself, so that `--help` answers at once.
        argv: without the program's name; None takes the process's own.
        interrupted: what is kept and what to do next, said after Ctrl-C.
        prefix: in front of every message, e.g. `[rank 1] `.

    Returns:
        the exit code. An OptionError is WRONG_OPTIONS, any other error FAILED; an error that is no PcavsError is a
        mistake of ours and shown with its traceback.
    """
    setup_logging(prefix=prefix)
    verbose = False
    with _sigterm_as_ctrl_c():
        try:
            args = parse(sys.argv[1:] if argv is None else argv)
            verbose = bool(getattr(args, "verbose", False))
            setup_logging(verbose, prefix)
            return run(args) or DONE
        except SystemExit as end:  # argparse has said what is wrong, or shown its help
            return end.code if isinstance(end.code, int) else FAILED if end.code else DONE
        except PcavsError as error:
            if verbose:
                traceback.print_exc()
            print_error(error, prefix)
            return WRONG_OPTIONS if isinstance(error, OptionError) else FAILED
        except KeyboardInterrupt:
            print(f"{prefix}interrupted: {interrupted}", file=sys.stderr)
            return INTERRUPTED
        except Exception:
            # Python itself would keep the frames, and with them any loading processes, and wait for those for ever
            traceback.print_exc()
            return FAILED


def print_error(error: object, prefix: str = "") -> None:
    """One line on stderr, as every command says it."""
    print(f"{prefix}error: {printable(str(error))}", file=sys.stderr)


def positive_int(text: str) -> int:
    """argparse type: an integer of at least 1."""
    return _int_from(1, text)


def natural_int(text: str) -> int:
    """argparse type: an integer of at least 0."""
    return _int_from(0, text)


def _int_from(least: int, text: str) -> int:
    try:
        if (value := int(text)) >= least:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be a whole number of {least} or more, got {printable(text)}")


def number(text: str) -> float:
    """float(text). Raises ArgumentTypeError, by which argparse does not name a function."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, got {printable(text)}") from error


def part(text: str) -> tuple[int, int]:
    """argparse type: `3/8` is the fourth of 8 parts, as (3, 8)."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"must be i/n with i from 0 to n - 1, such as 0/8 ... 7/8, got {text!r}")
    return int(number), int(count)


def add_size_flag(add: Callable[..., object]) -> None:
    """Adds --any_size by a parser's or group's `add_argument`."""
    add("--any_size", action="store_true", help="take networks of more than twice the published parameters, too")


def add_overwrite_flag(add: Callable[..., object], what: str = "--output") -> None:
    """Adds --overwrite, for `util.files.claim_output`."""
    add("--overwrite", action="store_true", help=f"replace files in {what} that this command has not made")


def add_worker_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --workers and --dask, for `util.parallel.map_processes`."""
    parser.add_argument(
        "--workers", type=positive_int, default=available_cores(), metavar="N", help="processes, by default one a core"
    )
    parser.add_argument(
        "--dask",
        default="",
        metavar="ADDRESS",
        help="take the workers of this Dask scheduler instead, e.g. 127.0.0.1:8786. It and they need PYTHONPATH set to "
        "the folder of this program, and the data under the same paths as here",
    )


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there may a handler be set
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
