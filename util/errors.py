"""The errors a user can cause: each says what, where and what to do next, in one line."""

from __future__ import annotations

import re

# what a message may hold that helps nobody: places in memory, numbers of errors, tokens of temporary names
_NOISE = re.compile(
    r" (?:at|@) 0x[0-9a-f]+|\[Errno -?\d+\] |\.[0-9a-f]{8}\.(?:part|old)\b|\.(?=[^/\s]+\.[0-9a-f]{8}\.part)"
)
_LONG = re.compile(r"(\d{20})\d{21,}|(\S{300})\S{700,}")


def printable(text: str) -> str:
    """One line for a terminal: control characters escaped, very long numbers and words cut, nothing of temporary names.

    >>> printable("a\\x1b[31m: 2 > " + "1" * 300)
    'a\\\\x1b[31m: 2 > 11111111111111111111...'
    """
    text = _LONG.sub(r"\1\2...", _NOISE.sub("", text))
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else repr(c)[1:-1] for c in text)


class PcavsError(Exception):
    """Base of all errors that are answered with one line and exit code 1 instead of a traceback."""

    def __str__(self) -> str:
        return printable(super().__str__())


class OptionError(PcavsError):
    """A flag, or a pair of flags, that cannot be honoured; names the flag and the value."""


class MetadataError(PcavsError):
    """A metadata csv that cannot be read; names file and line."""


class MediaError(PcavsError):
    """An image, video or audio file that is missing, broken or of the wrong kind; names the file."""


class AlignmentError(PcavsError):
    """Faces or landmarks that cannot be found or fitted; names the file or frame."""


class CheckpointError(PcavsError):
    """Weights that are missing, truncated, foreign or of other sizes; names file, key and shapes."""


class DownloadError(PcavsError):
    """A file that cannot be fetched or unpacked; names the address or the archive and the way by hand."""
