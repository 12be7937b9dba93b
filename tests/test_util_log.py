"""What is printed: one clean line, whatever a name holds; bars that are lines in a log file."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from util import log
from util.cli import print_error
from util.errors import MediaError, printable
from util.log import counted, progress, setup_logging


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31m\r\nb\0.mp4: no", r"a\x1b[31m\r\nb\x00.mp4: no"),
        ("got " + "7" * 300, "got " + "7" * 20 + "..."),
        ("A" * 5000 + ": no", "A" * 300 + "... no"),
        ("misc/ü 人.jpg: 12345678901234567890", "misc/ü 人.jpg: 12345678901234567890"),
        ("[Errno 1094995529] Invalid data", "Invalid data"),
        ("<_io.BytesIO object at 0x7f2a3c> is no picture", "<_io.BytesIO object> is no picture"),
        ("out/.clip.0a1b2c3d.part.mp4: cut", "out/clip.mp4: cut"),
    ],
)
def test_messages_are_one_clean_line(text: str, shown: str, capsys: pytest.CaptureFixture) -> None:
    assert printable(text) == str(MediaError(text)) == shown
    print_error(ValueError(text))
    assert capsys.readouterr().err == f"error: {shown}\n"


def test_log_escapes_names_and_keeps_the_lines_of_tracebacks(capsys: pytest.CaptureFixture) -> None:
    setup_logging()
    logging.getLogger("a").warning("%s: odd", "b\x1b[2J")
    try:
        raise ValueError("c")
    except ValueError as error:
        logging.getLogger("a").error("d", exc_info=error)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [r"warning: b\x1b[2J: odd", "error: d"]
    assert lines[-1] == "ValueError: c"


def test_counted_knows_one() -> None:
    assert [counted(n, "frame") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]


def test_bar_in_a_file_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(log, "_LINE_EVERY_S", 0.0)
    assert list(progress(range(3), desc="work", unit="frame")) == [0, 1, 2]
    assert "\r" not in stream.getvalue()
    assert stream.getvalue().splitlines()[-1].startswith("work: 100%")
    stream.seek(0)
    stream.truncate()
    monkeypatch.setattr(log, "_LINE_EVERY_S", 10.0)
    assert list(progress(range(3), desc="work")) == [0, 1, 2]
    assert stream.getvalue() == ""
