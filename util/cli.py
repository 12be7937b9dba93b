"""The shell of every command: parse, log, run; exit codes 0 done, 1 failed, 2 wrong options, 130 interrupted."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

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
    interrupted: str,
    prefix: str = "",
) -> int:
    """Runs a command from its arguments to its exit code; SIGTERM stops it as Ctrl-C does.

    An OptionError is WRONG_OPTIONS, any other error FAILED; an error that is no PcavsError is a mistake of ours and
    shown with its traceback.

    Args:
        run: the command; None counts as DONE. Imports what is heavy itself, so that `--help` answers at once.
        interrupted: what is kept and what to do next, said after Ctrl-C.
        prefix: in front of every message, e.g. `[rank 1] `.
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
        except OSError as error:
            if verbose or not error.filename:
                traceback.print_exc()
            else:  # such as a name that is too long, or a folder that may not be read
                print_error(f"{error.filename}: {error.strerror}", prefix)
            return FAILED
        except Exception:
            # Python itself would keep the frames, and with them any loading processes, and wait for those for ever
            traceback.print_exc()
            return FAILED


@dataclass(frozen=True)
class Command:
    """The `main` of a command: called with its arguments, by default the process's own, it returns the exit code."""

    description: str | None
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    interrupted: str = "the same command does what is left"

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        return run_command(self.parse, self.run, argv, interrupted=self.interrupted)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        parser = argparse.ArgumentParser(description=self.description, formatter_class=Formatter, allow_abbrev=False)
        self.add_flags(parser)
        return parser.parse_args(argv)


def exit_process(code: int) -> NoReturn:
    """Ends the process with an exit code; of a rank that others wait for, at once.

    What torch leaves running for the exchange of tensors may abort the interpreter on its way out ("terminate called
    without an active exception", seen on a busy machine) when everything is saved already. The launcher would take that
    for a failure and stop the other ranks. So a rank runs Python's own exit functions, writes out what it has printed,
    and leaves without those of the libraries.
    """
    if "RANK" in os.environ:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def print_error(error: object, prefix: str = "") -> None:
    """One line on stderr, as every command says it."""
    print(f"{prefix}error: {printable(str(error))}", file=sys.stderr)


def _number_type(read: Callable[[str], Any], kind: str, is_allowed: Callable[[Any], bool], rule: str) -> Any:
    """An argparse type. Its errors say the rule; as argparse would put it, they would name a function."""

    def number(text: str) -> Any:
        try:
            value = read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be {kind}, got {printable(text)!r}") from error
        if not is_allowed(value):
            raise argparse.ArgumentTypeError(f"must {rule}, got {value if read is int else text}")
        return value

    return number


positive_int = _number_type(int, "a whole number of 1 or more", lambda value: value >= 1, "be at least 1")
natural_int = _number_type(int, "a whole number of 0 or more", lambda value: value >= 0, "not be negative")
positive_float = _number_type(float, "a number", lambda value: 0 < value < float("inf"), "be a number above 0")
natural_float = _number_type(
    float, "a number", lambda value: 0 <= value < float("inf"), "be a number that is not negative"
)


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


def add_worker_flags(parser: argparse._ActionsContainer, default: int | None = None) -> None:
    """Adds --workers and --dask, for `util.parallel.map_processes`; by default there is a process a core."""
    add, kind, count = parser.add_argument, positive_int, available_cores()
    if default is not None:
        kind, count = natural_int, default
    add("--workers", type=kind, default=count, metavar="N", help="processes that work at once")
    add("--dask", default="", metavar="ADDRESS",
        help="take the workers of this Dask scheduler instead, e.g. 127.0.0.1:8786. It and they need PYTHONPATH set to "
        "the folder of this program, and the data under the same paths as here")  # fmt: skip


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
