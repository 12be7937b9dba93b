"""From clips and photos of somebody to what a training reads: aligned pieces with sound, lists by time, and checks.

    intake = take_in([Path("me.mp4")], [], Path("checkpoints/me/intake"))

All that is kept lies in the work folder: `clips/` (the pieces), `photos/`, `train.csv`, `watch.csv`, `held_out.csv`,
`sheets/` (pictures of the alignment) and, last, `intake.json`, by which a finished one is found again. What is only
needed on the way lies in `.making/`; a run that was killed goes on with it. Times are frames at 25 a second.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import shutil
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import median_filter

from data.audio import load_audio, scan_audio
from data.clip_list import ClipRecord, holds_list, write_list
from data.faces.align_clip import SHEET_NAME, align_source, source_score
from data.faces.alignment import RECORD_NAME, is_template_like, read_record, transform_points
from data.faces.face_tracker import FaceTracker
from data.faces.landmarks import LandmarkDetector, make_detector
from data.faces.mouth_sync import MouthFit, lip_heights, mouth_fit
from data.frames import list_frames, read_image
from data.media import Cut, extract_frames, inspect
from data.prepared import NOTE_FORMAT, Shelf, SourceNote, origin_of, prepared_name
from data.video_reader import open_source
from data.voice_activity import spoken_parts
from options.config import FPS, SAMPLE_RATE_HZ, AlignOptions, AudioConfig
from scripts.personal.checks import OK, WARNING, Check, Look, check_face_size, check_length, check_looks, look_at
from scripts.personal.footage import SHORTEST_FRAMES, Footage, Track, extract, look_through, people_of
from util.errors import AlignmentError, MediaError, OptionError
from util.files import atomic_folder, claim_output, make_directory, write_bytes, write_json, writing
from util.json_files import read_json, to_builtins
from util.log import counted
from util.metrics.identity import DlibEmbedder, cosine_similarity

__all__ = ["Check", "Intake", "Piece", "read_intake", "take_in"]

INTAKE_NAME = "intake.json"
PARTS = TRAIN, WATCH, HELD_OUT = ("train", "watch", "held_out")
SHORTEST_S = 3.0  # of the face: less cannot be split into three parts
_FORMAT = 1  # raised when the same sources would come out differently
_MAKING = ".making"
_HELD_OUT_SHARE = 0.1  # of the end, and as much before it to watch
_SNAP = 12  # frames: the border between two parts moves to a cut that is as near
_SOUND_NAME = "audio.wav"
_STILL_SHARE = 0.8  # of frames that change nothing: no film
_LEAST_SPEECH, _LEAST_SPEECH_S = 0.15, 1.5  # of the time, and at least
_SILENT_RMS = 1e-3
_FRAMES_AS_PHOTOS = 6  # of a clip from which no mouth can be learned
_TURN_FRAMES, _TURN_STEP = 75, 25  # windows in which two mouths in one picture are compared
_TURN_MARGIN = 0.1  # of correlation
_TURN_SHARE = 0.3  # of the windows in which another mouth fits better: they take turns
_EQUAL = 0.75  # of two people's weights, see `_weight`
_LEAST_CORRECTION = 3  # frames by which sound and picture must be apart: 2 is what a measurement may be off
_FOLDERS = _CLIPS, _PHOTOS, _SHEETS = ("clips", "photos", "sheets")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """A stretch of a video: `folder` holds frames `%06d.jpg` like the VoxCeleb2 template, and their `audio.wav`."""

    folder: Path
    part: str  # train, watch or held_out
    source: Path
    first_frame: int  # in the source
    num_frames: int


@dataclass(frozen=True)
class Intake:
    """What a training of one person starts from.

    The lists are read by `data.clip_list.read_list`, and are None without clips, and where a clip is of no use for the
    mouth and its frames went to the photos.
    """

    format: int
    sources: list[SourceNote]
    options: dict[str, Any]
    clips: list[Piece] = field(default_factory=list)
    photos: list[Path] = field(default_factory=list)
    train_list: Path | None = None
    watch_list: Path | None = None
    held_out_list: Path | None = None
    checks: list[Check] = field(default_factory=list)


def take_in(videos: Sequence[Path], photos: Sequence[Path], work: Path, faces: AlignOptions | None = None) -> Intake:
    """Prepares, aligns and checks clips and photos of one person; what is done already is found again.

    Args:
        videos: clips, or folders of frames that were prepared (`_cropped`), in the order of their time.
        work: gets everything; the caller holds its lock.
        faces: how landmarks are found; None: by dlib.

    Raises:
        MediaError: damaged, too short, a slide show, or the disk refuses.
        AlignmentError: no face.
        OptionError: nothing given, something of the user's lies where the results go, or a package is missing.
    """
    faces = faces or AlignOptions(landmarks="dlib")
    if not videos and not photos:
        raise OptionError("a personal model needs --video or --photo")
    options = {"landmarks": faces.landmarks, "mode": faces.mode, "face": faces.face}
    sources = [origin_of(path, {}) for path in (*videos, *photos)]
    begun = Intake(_FORMAT, sources, options)
    _claim(work)
    if (found := _finished(work, begun)) is not None:
        return found
    _Making(work, faces).run(begun, videos, photos)
    return read_intake(work)


def read_intake(work: Path) -> Intake:
    """What `take_in` has left in a folder. Raises MediaError: nothing, or not that."""
    stored = read_json(work / INTAKE_NAME, Intake, hint="give the clips again")
    return _with_paths(stored, lambda path: work / path)


def _with_paths(intake: Intake, change: Callable[[Path], Path]) -> Intake:
    """Paths in the work folder are stored relative to it, so that it can be moved."""
    return dataclasses.replace(
        intake,
        clips=[dataclasses.replace(piece, folder=change(piece.folder)) for piece in intake.clips],
        photos=[change(path) for path in intake.photos],
        train_list=intake.train_list and change(intake.train_list),
        watch_list=intake.watch_list and change(intake.watch_list),
        held_out_list=intake.held_out_list and change(intake.held_out_list),
    )


def _claim(work: Path) -> None:
    """Raises OptionError where something of the user's lies in the place of a result."""
    claim_output(work / INTAKE_NAME, "--name:", overwrite=False, is_ours=_holds_intake)
    for name in PARTS:
        claim_output(work / f"{name}.csv", "--name:", overwrite=False, is_ours=holds_list)
    foreign = [work / name for name in _FOLDERS if (work / name).exists()]
    if foreign and not (work / INTAKE_NAME).exists() and not (work / _MAKING).exists():
        raise OptionError(f"--name: {foreign[0]}: is there and was not made by this command; choose another name")


def _holds_intake(path: Path) -> bool:
    try:
        read_json(path, Intake)
    except MediaError:
        return False
    return True


def _finished(work: Path, begun: Intake) -> Intake | None:
    """The intake of the same sources and settings that is there, whole."""
    try:
        known = read_intake(work)
    except MediaError:
        return None
    contents = [[note.sha256 for note in intake.sources] for intake in (known, begun)]
    if (known.format, known.options) != (begun.format, begun.options) or contents[0] != contents[1]:
        return None
    lists = [path for path in (known.train_list, known.watch_list, known.held_out_list) if path is not None]
    whole = all(path.is_file() for path in (*lists, *known.photos))
    try:
        whole = whole and all(len(list_frames(piece.folder)) == piece.num_frames for piece in known.clips)
    except MediaError:
        return None
    return known if whole else None


@dataclass(frozen=True, eq=False)
class _Shot:
    """A stretch of the chosen face: `crops` are aligned frames, `points` (T, 68, 2) in their pixels."""

    film: Footage
    track: Track
    crops: Path
    points: np.ndarray
    look: Look


class _Making:
    """One run of `take_in`."""

    def __init__(self, work: Path, faces: AlignOptions) -> None:
        self._work, self._faces = work, faces
        self._making = work / _MAKING
        self._new = self._making / "new"  # what takes the place of an older result in the end
        self._detector: LandmarkDetector = make_detector(faces.landmarks, faces.device)
        self._embedder = DlibEmbedder()
        self._checks: list[Check] = []

    def run(self, begun: Intake, videos: Sequence[Path], photos: Sequence[Path]) -> None:
        """Leaves the finished intake in the work folder."""
        shutil.rmtree(self._new, ignore_errors=True)
        make_directory(self._new)
        films = [extract(path, self._making, self._detector) for path in videos]
        shots = self._shots(films) if films else []
        pieces: list[Piece] = []
        made: list[Path] = []
        if shots:
            own = [
                [shot for shot in shots if shot.film is film] for film in {id(s.film): s.film for s in shots}.values()
            ]
            talking = [shot for group in own if self._can_learn_mouth(group[0].film, group) for shot in group]
            if sum(len(shot.points) for shot in talking) >= SHORTEST_S * FPS:
                pieces = self._write_pieces(talking)
            made = self._frames_as_photos([shot for shot in shots if not pieces or shot not in talking])
        vector = np.mean([shot.track.vector for shot in shots], axis=0) if shots else None
        made = [*self._aligned_photos(photos, vector), *made]
        lists = {part: self._write_list(part, pieces) for part in PARTS}
        intake = dataclasses.replace(
            begun,
            clips=pieces,
            photos=made,
            train_list=lists[TRAIN],
            watch_list=lists[WATCH],
            held_out_list=lists[HELD_OUT],
            checks=self._checks,
        )
        self._put_in_place(_with_paths(intake, lambda path: path.relative_to(self._new)))

    def _put_in_place(self, intake: Intake) -> None:
        """Exchanges an older result for the new one; without `intake.json` nobody takes it for finished."""
        with writing(self._work):
            (self._work / INTAKE_NAME).unlink(missing_ok=True)
            for name in _FOLDERS:
                shutil.rmtree(self._work / name, ignore_errors=True)
            for part in PARTS:
                (self._work / f"{part}.csv").unlink(missing_ok=True)
            for path in sorted(self._new.iterdir()):
                os.replace(path, self._work / path.name)
        write_json(self._work / INTAKE_NAME, to_builtins(intake))
        shutil.rmtree(self._making, ignore_errors=True)

    def _say(self, name: str, figure: float, unit: str, words: str, severity: str = OK) -> None:
        self._checks.append(Check(name, float(figure), unit, words, severity))

    # ------------------------------------------------------------------------------------------- whose face, when

    def _shots(self, films: Sequence[Footage]) -> list[_Shot]:
        """The stretches that show the person, aligned; raises where there are none."""
        total = sum(film.num_frames for film in films)
        names = ", ".join(str(film.path) for film in films)
        if total < SHORTEST_S * FPS:
            raise MediaError(f"{names}: lasts {_too_short(total / FPS)}")
        films = [look_through(film, self._detector, self._embedder) for film in films]
        people = people_of([track for film in films for track in film.tracks])
        if not people:
            raise AlignmentError(
                f"{names}: no face that stays for a second; it should be upright, lit, turned less than 90 degrees and "
                "80 px high at least"
            )
        order = [film.path for film in films]
        tracks = sorted(self._chosen(people), key=lambda track: (order.index(track.film), track.first))
        stretches = [part for track in tracks for part in self._own_turns(track, people)]
        shots = [self._aligned(films[order.index(part.film)], part) for part in stretches]
        moving = [shot for shot in shots if shot.look.still_share < _STILL_SHARE]
        if not moving:
            raise MediaError(f"{names}: the face stands still in every frame (a slide show?); give pictures by --photo")
        if still := sum(len(shot.points) for shot in shots) - sum(len(shot.points) for shot in moving):
            self._say("still", still / FPS, "s", f"{still / FPS:.1f} s stand still and are left out", WARNING)
        self._describe(films, moving, total)
        usable = sum(len(shot.points) for shot in moving)
        if usable < SHORTEST_S * FPS:
            raise MediaError(f"{names}: shows the face for {_too_short(usable / FPS)}")
        return moving

    def _chosen(self, people: Sequence[list[Track]]) -> list[Track]:
        """The tracks of the one whose mouth goes best with the sound for longest, of about equals the first."""
        weights = [_weight(own) for own in people]
        chosen = next(own for own, weight in zip(people, weights, strict=True) if weight >= _EQUAL * max(weights))
        if len(people) > 1:
            heard = any(track.fit is not None and track.fit.natural > 0 for track in chosen)
            why = "whose mouth goes best with the sound" if heard else "who is largest and longest in the picture"
            seconds = sum(len(track.points) for track in chosen) / FPS
            words = (
                f"{len(people)} people are seen; it is about the one {why} ({seconds:.1f} s, first at "
                f"{chosen[0].first / FPS:.1f} s), others are left out"
            )
            self._say("people", len(people), "people", words, WARNING)
        taken: list[Track] = []
        for track in chosen:  # one face a moment: where two are alike, the one that speaks
            if all(_weight([track]) > _weight([other]) for other in taken if other.overlaps(track)):
                taken = [other for other in taken if not other.overlaps(track)] + [track]
        return taken

    def _own_turns(self, track: Track, people: Sequence[list[Track]]) -> list[Track]:
        """The parts of a track in which nobody else in the picture speaks."""
        others = [other for own in people for other in own if other is not track and other.overlaps(track)]
        if not others or track.levels is None:
            return [track]
        mine = _windows(track, track)
        theirs = np.max([_windows(other, track) for other in others], axis=0)
        listens = median_filter((theirs > mine + _TURN_MARGIN).astype(int), 3, mode="nearest").astype(bool)
        if listens.mean() < _TURN_SHARE:
            return [track]
        speaks = np.repeat(~listens, _TURN_STEP)[: len(track.points)]
        speaks = np.pad(speaks, (0, len(track.points) - len(speaks)), mode="edge")
        runs = np.split(np.arange(len(speaks)), np.flatnonzero(np.diff(speaks.astype(int))) + 1)
        kept = [track.part(track.first + int(run[0]), track.first + int(run[-1]) + 1) for run in runs if speaks[run[0]]]
        kept = [part for part in kept if len(part.points) >= SHORTEST_FRAMES]
        left_out = (len(track.points) - sum(len(part.points) for part in kept)) / FPS
        words = f"somebody else in the picture speaks in turn; {left_out:.1f} s of listening are left out"
        self._say("turns", left_out, "s", words, WARNING)
        return kept

    # ---------------------------------------------------------------------------------------------------- aligning

    def _aligned(self, film: Footage, track: Track) -> _Shot:
        """Frames of a stretch as crops; they stay as they are where they lie like the template."""
        name = f"{film.name}_{track.first:06d}"
        cut = Cut(track.first / FPS, len(track.points) / FPS)
        digest = SourceNote(NOTE_FORMAT, str(film.frames), str(track.points.sum()), dataclasses.asdict(cut))
        folder = (
            Shelf(self._making / "shots")
            .get(name, digest, lambda part: extract_frames(inspect(film.frames), part, cut))
            .path
        )
        height, width = read_image(list_frames(folder)[0]).shape[:2]
        known = np.where(track.known[:, None, None], track.points, np.nan)
        if is_template_like(known, width, height):
            crops, points = folder, track.points
        else:
            given = folder.with_name(f"{folder.name}.npy")
            with writing(given):
                np.save(given, known)
            settings = dataclasses.replace(self._faces, landmarks_file=given)
            crops = align_source(folder, folder.with_name(f"{folder.name}_cropped"), settings).output
            record = read_record(crops / RECORD_NAME)
            points = np.stack([transform_points(m, p) for m, p in zip(record.matrices, record.landmarks, strict=True)])
            sheet = make_directory(self._new / _SHEETS) / f"{name}.png"
            write_bytes(sheet, (crops / SHEET_NAME).read_bytes())
        look = look_at((read_image(file) for file in list_frames(crops)), points)
        return _Shot(film, track, crops, points, look)

    def _describe(self, films: Sequence[Footage], shots: Sequence[_Shot], total: int) -> None:
        """The checks of what is seen."""
        usable = sum(len(shot.points) for shot in shots)
        cuts = sum(len(film.cuts) for film in films)
        self._checks.append(check_length(usable / FPS))
        if cuts or len(shots) > len(films):
            words = f"{counted(cuts, 'cut')}; {counted(len(shots), 'piece')} used"
            self._say("cuts", cuts, "cuts", words)
        seen = sum(int(shot.track.known.sum()) for shot in shots) / total
        words = f"the face is seen in {seen:.0%} of the frames"
        self._say("face_share", seen, "share", words, OK if seen > 0.8 else WARNING)
        tracks, factors = [shot.track.points for shot in shots], [shot.film.reduction for shot in shots]
        self._checks.append(check_face_size(tracks, factors))
        self._checks.extend(check_looks([shot.look for shot in shots]))

    # ------------------------------------------------------------------------------------------------------- sound

    def _sound_shift(self, film: Footage, shots: Sequence[_Shot]) -> int:
        """Frames by which the sound of a film comes too late, where that is clear; else 0."""
        fit = _fit_of([shot for shot in shots if shot.film is film])
        if fit is None:
            return 0
        late = round(fit.late_frames)
        if fit.is_clear and abs(late) >= _LEAST_CORRECTION:
            late_ms = 1000 * late // FPS
            way = "late" if late > 0 else "early"
            words = f"{film.path.name}: the sound comes about {abs(late_ms)} ms too {way}; it is moved by as much"
            self._say("sync", late_ms, "ms", words, WARNING)
            return late
        if fit.goes_together:
            words = f"{film.path.name}: sound and picture go together (correlation {fit.natural:.2f})"
            self._say("sync", fit.natural, "correlation", words)
        else:
            words = (
                f"{film.path.name}: the mouth is not seen to go with the sound (correlation {fit.natural:.2f}); is "
                "it this person who speaks?"
            )
            self._say("sync", fit.natural, "correlation", words, WARNING)
        return 0

    def _can_learn_mouth(self, film: Footage, shots: Sequence[_Shot]) -> bool:
        """Whether speech is heard in the shots of a film; what is said if not."""
        name = film.path.name
        usable = sum(len(shot.points) for shot in shots) / FPS
        if film.sound is None or _rms(film.sound) < _SILENT_RMS:
            self._say("speech", 0.0, "s", f"{name}: there is no sound; {_WITHOUT_MOUTH}", WARNING)
            return False
        try:
            spoken = _spoken_frames(film.sound, shots) / FPS
        except OptionError:
            words = f"{name}: speech was not told from other sounds: pip install 'silero-vad>=6.2.3'"
            self._say("speech", usable, "s", words, WARNING)
            return True
        if spoken < max(_LEAST_SPEECH * usable, _LEAST_SPEECH_S):
            words = f"{name}: {spoken:.1f} s of speech are heard in {usable:.1f} s (music, noise?); {_WITHOUT_MOUTH}"
            self._say("speech", spoken, "s", words, WARNING)
            return False
        self._say("speech", spoken, "s", f"{name}: {spoken:.1f} s of speech are heard")
        return True

    # -------------------------------------------------------------------------------------------- what is written

    def _write_pieces(self, shots: Sequence[_Shot]) -> list[Piece]:
        films = {shot.film.path: shot.film for shot in shots}
        late = {path: self._sound_shift(film, shots) for path, film in films.items()}
        waves = {path: None if film.sound is None else load_audio(film.sound) for path, film in films.items()}
        pieces: list[Piece] = []
        for shot in shots:
            (shot.crops / SHEET_NAME).unlink(missing_ok=True)  # is kept elsewhere, and is no frame
        for shot, first, end, part in _split(shots):
            folder = make_directory(self._new / _CLIPS) / f"{len(pieces):03d}_{part}"
            begin = shot.track.first + first
            with writing(folder), atomic_folder(folder) as making:
                extract_frames(inspect(shot.crops), making, Cut(first / FPS, (end - first) / FPS))
                path = shot.film.path
                _write_wav(making / _SOUND_NAME, _sound_of(waves[path], begin + late[path], end - first))
            pieces.append(Piece(folder, part, path.absolute(), begin, end - first))
        return pieces

    def _write_list(self, part: str, pieces: Sequence[Piece]) -> Path | None:
        own = [piece for piece in pieces if piece.part == part]
        if not own:
            return None
        path = self._new / f"{part}.csv"
        write_list(path, [ClipRecord(p.folder, p.folder / _SOUND_NAME, p.num_frames, "me", 0) for p in own])
        return path

    def _frames_as_photos(self, shots: Sequence[_Shot]) -> list[Path]:
        """A few frames with open eyes and different head turns."""
        if not shots:
            return []
        frames = [(shot, number) for shot in shots for number in range(len(shot.points))]
        contrasts = np.concatenate([shot.look.contrasts for shot in shots])
        yaws = np.concatenate([shot.look.angles[:, 0] for shot in shots])
        awake = np.flatnonzero(contrasts >= np.median(contrasts))
        by_yaw = awake[np.argsort(yaws[awake], kind="stable")]
        chosen = by_yaw[np.linspace(0, len(by_yaw) - 1, _FRAMES_AS_PHOTOS).round().astype(int)]
        made = []
        for number in sorted(set(chosen.tolist())):
            shot, frame = frames[number]
            folder = make_directory(self._new / _PHOTOS / f"{shot.film.name}_{shot.track.first + frame:06d}_cropped")
            path = folder / "000000.jpg"
            write_bytes(path, list_frames(shot.crops)[frame].read_bytes())
            made.append(path)
        return made

    def _aligned_photos(self, photos: Sequence[Path], vector: np.ndarray | None) -> list[Path]:
        """Photos as crops; those that lie like the template already stay as they are."""
        made: list[Path] = []
        settings = dataclasses.replace(self._faces, face="largest")
        for number, path in enumerate(photos):
            if open_source(path).kind == "video":
                raise MediaError(f"--photo {path}: is no picture; give a film as --video")
            folder = make_directory(self._new / _PHOTOS) / f"{number:02d}_{prepared_name(path)}"
            if self._is_aligned(path, settings):
                with writing(folder), atomic_folder(folder) as making:
                    extract_frames(inspect(path), making, Cut())
            else:
                aligned = align_source(path, folder.with_name(f"{folder.name}_cropped"), settings)
                folder, record = aligned.output, aligned.record
                self._describe_photo(path, record.landmarks[0], record.info.most_faces)
            pictures = list_frames(folder)
            made += pictures
            vector = self._check_likeness(path, read_image(pictures[0]), vector)
        return made

    def _describe_photo(self, photo: Path, points: np.ndarray, most_faces: int) -> None:
        size = check_face_size([points[None]], [1.0])
        self._say(size.name, size.figure, size.unit, f"{photo.name}: {size.words}", size.severity)
        if most_faces > 1:
            words = f"{photo.name}: shows {most_faces} faces; the largest one is taken"
            self._say("people", most_faces, "people", words, WARNING)

    def _is_aligned(self, photo: Path, settings: AlignOptions) -> bool:
        try:
            return source_score(photo, settings)[1]
        except AlignmentError:
            return False  # the alignment says best what is wrong

    def _check_likeness(self, photo: Path, crop: np.ndarray, vector: np.ndarray | None) -> np.ndarray | None:
        """Warns of a photo that shows somebody else; returns who it is about."""
        face, _ = FaceTracker(self._detector, "largest").step(crop)
        if face is None:
            return vector
        own = self._embedder.embed(crop, face.points)
        likeness = 1.0 if vector is None else float(cosine_similarity(own, vector))
        if likeness < _SAME_IN_PHOTO:
            words = f"{photo.name}: seems to show somebody else (cosine {likeness:.2f}); is it the right photo?"
            self._say("photo", likeness, "cosine", words, WARNING)
        return own if vector is None else vector


_SAME_IN_PHOTO = 0.9
_WITHOUT_MOUTH = (
    f"a mouth cannot be learned from that: {_FRAMES_AS_PHOTOS} of its frames are taken as photos, so that the look is "
    "learned and the mouth stays that of the base. For the mouth, film a minute of speech"
)


def _too_short(seconds: float) -> str:
    return (
        f"{seconds:.1f} s; {SHORTEST_S:.0f} s are the least, half a minute is good, a single moment serves as --photo"
    )


def _weight(tracks: Sequence[Track]) -> float:
    """For how long, and how well, somebody speaks; where nobody is heard, for how long and how large he is seen."""
    spoken = seen = 0.0
    for track in tracks:
        seen += len(track.points) * track.size
        if (fit := track.fit) is not None:
            spoken += len(track.points) * max(0.0, fit.natural)
    return spoken + 1e-6 * seen


def _windows(track: Track, times: Track) -> np.ndarray:
    """How well a mouth goes with the sound around every second of another track."""
    values = []
    for start in range(times.first, max(times.first + 1, times.end - _TURN_STEP // 2), _TURN_STEP):
        middle = start + _TURN_STEP // 2
        first = max(track.first, times.first, middle - _TURN_FRAMES // 2)
        part = track.part(first, min(track.end, middle + _TURN_FRAMES // 2)) if first < track.end else None
        fit = None if part is None or len(part.points) < SHORTEST_FRAMES else part.fit
        values.append(-1.0 if fit is None else fit.natural)
    return np.array(values)


def _fit_of(shots: Sequence[_Shot]) -> MouthFit | None:
    heard = [(lip_heights(s.track.points), s.track.levels) for s in shots if s.track.levels is not None]
    return mouth_fit(heard) if heard else None  # type: ignore[arg-type]


def _rms(sound: Path) -> float:
    return AudioConfig.rms_target / scan_audio(sound).gain


def _spoken_frames(sound: Path, shots: Sequence[_Shot]) -> int:
    """Frames of the shots in which somebody speaks."""
    spoken = np.zeros(max(shot.track.end for shot in shots), dtype=bool)
    for begin, end in spoken_parts(sound, scan_audio(sound).gain):
        spoken[round(begin * FPS) : round(end * FPS)] = True
    return int(sum(spoken[shot.track.first : shot.track.end].sum() for shot in shots))


def _split(shots: Sequence[_Shot]) -> list[tuple[_Shot, int, int, str]]:
    """Shots in pieces (shot, first, end, part): the last tenth is held out, the one before it watched."""
    ends = np.cumsum([len(shot.points) for shot in shots])
    total = int(ends[-1])
    part_frames = max(SHORTEST_FRAMES, round(_HELD_OUT_SHARE * total))
    borders = []
    for border in (total - 2 * part_frames, total - part_frames):
        nearest = int(ends[np.argmin(np.abs(ends - border))])
        borders.append(nearest if abs(nearest - border) <= _SNAP else border)
    pieces = []
    for shot, end in zip(shots, ends, strict=True):
        start = int(end) - len(shot.points)
        inside = [start, *(b for b in borders if start < b < end), int(end)]
        for first, last in itertools.pairwise(inside):
            part = PARTS[sum(first >= border for border in borders)]
            pieces.append((shot, first - start, last - start, part))
    return pieces


def _sound_of(wave_all: np.ndarray | None, first_frame: int, num_frames: int) -> np.ndarray:
    """(samples,) of those frames; silence outside of the sound."""
    per_frame = SAMPLE_RATE_HZ // FPS
    piece = np.zeros(num_frames * per_frame, dtype=np.float32)
    if wave_all is not None:
        first = first_frame * per_frame
        begin, end = max(first, 0), min(first + len(piece), len(wave_all))
        if begin < end:
            piece[begin - first : end - first] = wave_all[begin:end]
    return piece


def _write_wav(path: Path, samples: np.ndarray) -> None:
    """16 kHz mono, 16 bit."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes())
