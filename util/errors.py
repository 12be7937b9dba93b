"""The errors a user can cause: each says what, where and what to do next, in one line."""

from __future__ import annotations


class PcavsError(Exception):
    """Base of all errors that are answered with one line and exit code 1 instead of a traceback."""


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
