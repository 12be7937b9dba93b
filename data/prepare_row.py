"""From a photo, a voice and a video to the csv row of one result: frames at 25 fps, 16 kHz sound, each made once."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from data.audio import load_audio, log_mel
from data.faces.align_clip import align_source, default_output, source_score
from data.faces.alignment import RECORD_NAME
from data.media import Cut, Media, count_ready_frames, extract_frames, extract_sound, inspect
from data.metadata import Row, format_row, read_table, split_fields, text_rows, write_rows
from data.pose_programme import MOTION_WORDS, PoseProgramme, find_programme
from data.pose_source import make_pose_folder
from data.prepared import Shelf, SourceNote, origin_of, prepared_name
from options.config import AudioConfig, PrepareOptions
from util.arrays import read_arrays
from util.errors import AlignmentError, MediaError, MetadataError
from util.ffmpeg import probe
from util.files import claim_output, write_bytes

# what a source can be used for, and the folder below `dir_path` that gets what is made of it
REFERENCE, POSE_SOURCE, AUDIO_SOURCE, MOUTH_SOURCE = ROLES = ("Input", "Pose_Source", "Audio_Source", "Mouth_Source")
_BATCH_FORMAT = "a line is: id pose audio [mouth], separated by spaces, paths with spaces in double quotes"
DEFAULT_MOTION = "idle"  # of a head that is drawn where nobody names a pose source
BATCH_COLUMNS = ("id", "pose", "audio", "mouth")  # in the order of ROLES

_log = logging.getLogger(__name__)


def read_batch(path: Path) -> list[Row]:
    """The lines of a --batch file; blank lines, `#` lines and a heading `id pose audio` are left out.

    Raises MetadataError: no such file, not text, or nothing in it.
    """
    lines = text_rows(path, read_table(path, "batch file", _BATCH_FORMAT, "--batch "))
    if lines and lines[0].text.lower().split()[:3] == ["id", "pose", "audio"]:
        lines = lines[1:]
    if not lines:
        raise MetadataError(f"--batch {path}: holds no jobs; {_BATCH_FORMAT}")
    return lines


def batch_sources(line: Row) -> dict[str, Path]:
    """Role -> source of a line of a --batch file; relative paths count from the working directory, else from the file.

    Raises MetadataError: quotes that do not close, or another number of columns.
    """
    try:
        fields = split_fields(line.text)
    except csv.Error as error:
        raise MetadataError(f"{error}; {_BATCH_FORMAT}") from error
    if len(fields) not in (3, 4):
        raise MetadataError(f"expected 3 or 4 columns, got {len(fields)}; {_BATCH_FORMAT}")
    found = {}
    for role, text in zip(ROLES, fields, strict=False):
        beside = line.source.parent / text
        if text not in ("None", "none", "") or role in (REFERENCE, AUDIO_SOURCE):
            is_beside = os.path.exists(beside) and not os.path.exists(text)  # pathlib raises for too long names
            found[role] = beside if is_beside else Path(text)
    return found


class RowPreparer:
    """Makes the inputs of rows, each source once for each role; `say` takes a line about all that was made or found."""

    def __init__(self, config: PrepareOptions, say: Callable[[str], None]) -> None:
        self._config, self._say = config, say
        self._frames_of = functools.cache(self._make_frames)
        self._wav_of = functools.cache(self._make_wav)
        self._origin_of = functools.cache(lambda path: origin_of(path, {}))

    def fields(self, sources: dict[str, Path], labels: Sequence[str]) -> list[object]:
        """Prepares the sources of a row and returns its 8 fields.

        Args:
            sources: role -> source; that of the pose may be words, see `find_programme`. Without a pose source the
                reference gives the pose; without a mouth source the audio source gives the frames, if it is a video.
            labels: what messages call the ROLES.

        Raises PcavsError: a source cannot be read or made use of; others may have been prepared by then.
        """
        programme = find_programme(str(sources[POSE_SOURCE])) if POSE_SOURCE in sources else None
        files = {role: path for role, path in sources.items() if role != POSE_SOURCE or programme is None}
        media = _inspect_sources(files, labels)
        reference, num_references = self._frames_of(REFERENCE, media[REFERENCE])
        pose, num_poses = self._frames_of(POSE_SOURCE, media[POSE_SOURCE]) if POSE_SOURCE in media else (None, 0)
        wav = self._wav_of(media[AUDIO_SOURCE])
        if programme is not None:
            pose, num_poses = self._drawn(programme, wav)
        mouth, num_mouths = self._mouth_frames(media)
        spectrogram = shown(_write_spectrogram(wav)) if self._config.convert_spectrogram else "dummy"
        return [
            shown(reference), num_references, shown(pose), num_poses, shown(wav), shown(mouth), num_mouths, spectrogram
        ]  # fmt: skip

    def _make_frames(self, role: str, media: Media) -> tuple[Path, int]:
        """The folder of frames of a source, aligned if that was asked for, and their number."""
        folder, count = self._extracted(role, media)
        made_by_align_68 = (media.path / RECORD_NAME).is_file()
        align = self._config.align
        if align == "off" or made_by_align_68 or (align == "auto" and self._is_template_like(folder)):
            return folder, count
        result = align_source(folder, default_output(folder), self._config.faces)
        self._say(str(result))
        return result.output, result.record.num_frames

    def _drawn(self, programme: PoseProgramme, wav: Path) -> tuple[Path, int]:
        """The folder of pose frames of a head that is drawn; they lie like the template, and are not aligned."""
        config = self._config
        made = make_pose_folder(config.dir_path / POSE_SOURCE, programme, config.seed, wav, config.faces)
        self._say(f"{shown(made.path)}: {made.extent} frames of a synthetic head, {made.how}")
        return made.path, made.extent

    def _mouth_frames(self, media: dict[str, Media]) -> tuple[Path | None, int]:
        if MOUTH_SOURCE in media:
            return self._frames_of(MOUTH_SOURCE, media[MOUTH_SOURCE])
        audio = media[AUDIO_SOURCE]
        if not audio.has_frames:
            return None, 0
        try:
            return self._frames_of(MOUTH_SOURCE, audio)
        except AlignmentError as error:
            # nobody asked for these frames, they are only shown beside the result
            _log.warning("%s; its frames are used unaligned", error)
            return self._extracted(MOUTH_SOURCE, audio)

    def _make_wav(self, media: Media) -> Path:
        shelf, name = Shelf(self._config.dir_path / AUDIO_SOURCE, ".wav"), prepared_name(media.path)
        cut = self._cut(AUDIO_SOURCE)
        if media.is_plain_wav and cut.is_everything and media.path.resolve() == shelf.path_of(name).resolve():
            path, how = media.path, "used where it is"
        else:
            made = shelf.get(name, self._origin(media, cut), lambda part: extract_sound(media, part, cut))
            path, how = made.path, made.how
        self._say(f"{shown(path)}: {probe(path).audio_duration_s:.2f} s of sound, {how}")
        return path

    def _extracted(self, role: str, media: Media) -> tuple[Path, int]:
        shelf, name = Shelf(self._config.dir_path / role), prepared_name(media.path)
        cut = self._cut(role)
        path, how, count = media.path, "used where it is", 0
        if media.kind == "folder" and cut.is_everything and path.resolve() == shelf.path_of(name).resolve():
            count = count_ready_frames(path)
        if not count:
            made = shelf.get(name, self._origin(media, cut), lambda part: extract_frames(media, part, cut))
            path, how, count = made.path, made.how, made.extent
        self._say(f"{shown(path)}: {count} frame{'' if count == 1 else 's'}, {how}")
        return path, count

    def _is_template_like(self, folder: Path) -> bool:
        try:
            score, fits = source_score(folder, self._config.faces)
        except AlignmentError:
            return False  # the alignment looks at every frame, and says best what is wrong
        verdict = "not aligned again" if fits else "needs alignment"
        self._say(f"{shown(folder)}: {score:.1f} px off the template, {verdict}")
        return fits

    def _cut(self, role: str) -> Cut:
        """The reference is a person, not a span of time: it is never cut."""
        return Cut() if role == REFERENCE else Cut(self._config.start_s, self._config.duration_s)

    def _origin(self, media: Media, cut: Cut) -> SourceNote:
        timed = media.kind != "picture"
        options = {"start_s": cut.start_s, "duration_s": cut.duration_s} if timed else {}
        return dataclasses.replace(self._origin_of(media.path), options=options)


def _inspect_sources(sources: dict[str, Path], labels: Sequence[str]) -> dict[str, Media]:
    """Looks at all sources of a row before any work is done; errors name the label."""
    media = {}
    for role, label in zip(ROLES, labels, strict=True):
        if role not in sources:
            continue
        path = sources[role]
        try:
            media[role] = found = inspect(path)
        except MediaError as error:
            hint = f", and no motion ({MOTION_WORDS})" if role == POSE_SOURCE and not os.path.exists(path) else ""
            raise MediaError(f"{label} {error}{hint}") from error
        if role == AUDIO_SOURCE and not found.has_sound:
            raise MediaError(f"{label} {path}: has no sound ({found.kind}); give a recording or a video with sound")
        if role != AUDIO_SOURCE and not found.has_frames:
            raise MediaError(f"{label} {path}: has no pictures; give a video, a picture or a folder of frames")
    return media


def _write_spectrogram(wav: Path) -> Path:
    """Beside the sound: (M, 80) float32 .npy."""
    buffer = io.BytesIO()
    np.save(buffer, log_mel(load_audio(wav)))
    path = wav.with_suffix(".npy")
    claim_output(path, "--convert_spectrogram:", overwrite=False, is_ours=_is_spectrogram)
    write_bytes(path, buffer.getvalue())
    return path


def _is_spectrogram(path: Path) -> bool:
    try:
        stored = read_arrays(path, ".npy spectrogram").get("")
    except MediaError:
        return False
    return stored is not None and stored.ndim == 2 and stored.shape[1] == AudioConfig.num_mel_bands


def add_row(csv_path: Path, fields: Iterable[object], append: bool) -> bool:
    """Writes a row; with `append` after those that are there, or returns False where it is one of them."""
    known = ""
    if append and csv_path.exists():
        known = read_table(csv_path, "metadata file", "choose another one", "--csv_path ")
    row = list(fields)
    if format_row(row) in known.splitlines():
        return False
    write_rows(csv_path, [row], append=append)
    return True


def shown(path: Path | None) -> str:
    """A path for the csv: relative within the working directory, where the row then holds after a move; else whole."""
    if path is None:
        return "None"
    whole = Path(os.path.abspath(path))  # unlike resolve() it follows no links, which are there to be used
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
