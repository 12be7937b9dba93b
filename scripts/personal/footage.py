"""One video as shots of faces: cuts, the faces in each shot, whose they are and how well each goes with the sound.

Frames are numbered from 0 at 25 a second; points and sizes are pixels of the frames on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.audio import load_audio, log_mel
from data.clip_reader import find_sound
from data.faces.alignment import TEMPLATE_POINTS, TEMPLATE_SIZE, fill_gaps, similarity_transform, three_points
from data.faces.face_tracker import FaceTracker
from data.faces.landmarks import LandmarkDetector, box_size
from data.faces.mouth_sync import MouthFit, lip_heights, mouth_fit, voice_levels
from data.frames import list_frames, read_image
from data.media import Cut, Media, extract_frames, extract_sound, inspect
from data.prepared import Shelf, origin_of, prepared_name
from data.scene_cuts import find_cuts
from data.video_reader import frames_by_number, open_video
from options.config import FPS, AlignOptions
from util.errors import MediaError
from util.log import progress
from util.metrics.identity import DlibEmbedder, cosine_similarity

SHORTEST_FRAMES = 25  # of a shot, and of a stretch of it that shows a face
MOST_S = 300.0  # of a video: a person's looks and speech do not get better known by more
LONGEST_GAP = 12  # frames without the face that are bridged
# cosine of dlib's vectors: 0.988 and more between the halves of 14 real clips, 0.92 at most between people
SAME_PERSON = 0.94
_SMALL = 1280  # pixels: frames up to this size stay as they are
_CROP_SIDE = 320  # pixels of a larger frame that a crop of 224 is made of, at least
_SAMPLES = 8  # frames in which the size of the face is measured
_LOOK_EVERY = 25  # frames in which faces are counted
_MOST_FACES = 3  # that are followed through a shot
_OTHER_SIZE = 0.5  # of the largest face: smaller ones are bystanders
_SAME_PLACE = 0.5  # of a face's size: two tracks that are nearer to one another are one
_PORTRAITS = 5  # frames of a track that tell who it is

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Track:
    """One face in a stretch of one shot.

    film: path of the video.  first: number of its first frame.  points: (T, 68, 2) float64.  known: (T,) bool, False
    where they were made up.  vector: (128,), who it is.  levels: (T,) `voice_levels`, None without a sound.
    """

    film: Path
    first: int
    points: np.ndarray
    known: np.ndarray
    vector: np.ndarray
    levels: np.ndarray | None

    @property
    def end(self) -> int:
        """Number of the frame behind its last one."""
        return self.first + len(self.points)

    @property
    def size(self) -> float:
        """Median side of the face."""
        return float(np.median([box_size(np.concatenate([p.min(axis=0), p.max(axis=0)])) for p in self.points]))

    @property
    def fit(self) -> MouthFit | None:
        """How well the mouth goes with the sound."""
        return None if self.levels is None else mouth_fit([(lip_heights(self.points), self.levels)])

    def overlaps(self, other: Track) -> bool:
        """Whether both are seen at the same time."""
        return self.film == other.film and self.first < other.end and other.first < self.end

    def part(self, first: int, end: int) -> Track:
        """The frames from `first` on and before `end`."""
        own = slice(first - self.first, end - self.first)
        levels = None if self.levels is None else self.levels[own]
        return dataclasses.replace(self, first=first, points=self.points[own], known=self.known[own], levels=levels)


@dataclass(frozen=True, eq=False)
class Footage:
    """A video: its frames and sound, and the faces in it.

    frames: folder `%06d.jpg`.  reduction: pixels of the video in one of the frames.  sound: 16 kHz WAV.  cuts: first
    frames of all shots but the first.
    """

    path: Path
    frames: Path
    num_frames: int
    reduction: float
    sound: Path | None
    cuts: Sequence[int] = ()
    tracks: Sequence[Track] = ()

    @property
    def name(self) -> str:
        """Of what is made of it; two videos of one name have two."""
        return self.frames.name


def extract(path: Path, making: Path, detector: LandmarkDetector) -> Footage:
    """Extracts frames and sound of a video, of its first MOST_S seconds.

    Args:
        making: folder for frames and sound, which are found again there.

    Raises:
        MediaError: the video is damaged, or the disk refuses.
    """
    media = inspect(path)
    if not media.has_frames:
        raise MediaError(f"{path}: holds sound but no pictures; give a video that shows the face, or a photo")
    if media.length_s > MOST_S:
        _log.warning("%s: lasts %.0f s; the first %.0f s are used", path, media.length_s, MOST_S)
    cut = Cut(duration_s=MOST_S)
    side = _reduced_side(media, detector)
    frames = Shelf(making / "frames").get(
        prepared_name(path), origin_of(path, {"side": side}), lambda part: extract_frames(media, part, cut, side)
    )
    reduction = 1.0
    if side is not None:
        whole = open_video(path, resample=True)
        reduction = max(whole.width, whole.height) / max(read_image(list_frames(frames.path)[0]).shape[:2])
    return Footage(path, frames.path, frames.extent, reduction, _sound_of(media, making, cut))


def look_through(film: Footage, detector: LandmarkDetector, embedder: DlibEmbedder) -> Footage:
    """Finds the cuts, and follows the faces in every shot. Raises OptionError: a package is missing."""
    files = list_frames(film.frames)
    cuts = find_cuts(read_image(file) for file in progress(files, desc=f"{film.name[:30]}: cuts", unit="frame"))
    levels = None if film.sound is None else voice_levels(log_mel(load_audio(film.sound)), len(files))
    tracks: list[Track] = []
    for first, end in itertools.pairwise([0, *cuts, len(files)]):
        if end - first >= SHORTEST_FRAMES:
            for points in _follow_faces(files[first:end], f"{film.name[:30]}: faces", detector):
                tracks += _stretches(film.path, points, first, files, levels, embedder)
    return dataclasses.replace(film, cuts=cuts, tracks=tracks)


def _reduced_side(media: Media, detector: LandmarkDetector) -> int | None:
    """The size to which frames are reduced, so that enough of the face stays; None: not at all."""
    if media.kind != "clip":
        return None
    video = open_video(media.path, resample=True)
    longest = max(video.width, video.height)
    if longest <= _SMALL:
        return None
    crops: list[float] = []
    count = min(video.num_frames, round(MOST_S * FPS))
    numbers = sorted({round(at) for at in np.linspace(0, count - 1, _SAMPLES)})
    with contextlib.suppress(MediaError):  # of a damaged video what there is will be read
        for place, image in enumerate(frames_by_number(media.path, numbers, math.inf)):
            # a thorough search of a large frame takes seconds: it is made once, where nothing was found so far
            if boxes := detector.find_faces(image, thorough=place == len(numbers) // 2 and not crops):
                face = detector.landmarks_of_found(image, max(boxes, key=box_size))
                turn = similarity_transform(three_points(face.points), TEMPLATE_POINTS)
                crops.append(TEMPLATE_SIZE / float(np.hypot(turn[0, 0], turn[1, 0])))
    if not crops:
        return _SMALL
    return min(longest, max(_SMALL, round(longest * _CROP_SIDE / min(crops))))


def _sound_of(media: Media, making: Path, cut: Cut) -> Path | None:
    """The sound as WAV; a folder of frames has it beside it, where this project's commands put it."""
    source = media
    if media.kind == "folder":
        folder = media.path.resolve()
        name, shelf = folder.name.removesuffix("_cropped"), folder.parent.parent / "Audio_Source"
        beside = sorted(path for path in shelf.glob("*") if path.stem == name and path.is_file())
        try:
            source = inspect(beside[0] if beside else find_sound(media.path))
        except MediaError as error:
            _log.warning("%s", error)
            return None
    if not source.has_sound:
        return None
    made = Shelf(making / "sound", ".wav").get(
        prepared_name(media.path), origin_of(source.path, {}), lambda part: extract_sound(source, part, cut)
    )
    return made.path


def _follow_faces(files: Sequence[Path], what: str, detector: LandmarkDetector) -> list[np.ndarray]:
    """Landmarks of every face of a shot that may be the speaker's: (T, 68, 2), NaN where it is not seen."""
    seen = [detector.find_faces(read_image(file), thorough=False) for file in files[::_LOOK_EVERY]]
    if not any(seen) and not detector.find_faces(read_image(files[len(files) // 2])):
        return []
    largest = max((box_size(box) for boxes in seen for box in boxes), default=0.0)
    count = max(sum(box_size(box) > _OTHER_SIZE * largest for box in boxes) for boxes in seen)
    choices = [str(number) for number in range(min(max(map(len, seen)), _MOST_FACES))] if count > 1 else ["track"]
    trackers = [FaceTracker(detector, choice, AlignOptions.detect_every) for choice in choices]
    points: list[list[np.ndarray]] = [[] for _ in trackers]
    for file in progress(files, desc=what, unit="frame"):
        image = read_image(file)
        for tracker, own in zip(trackers, points, strict=True):
            face, _ = tracker.step(image)
            own.append(np.full((68, 2), np.nan) if face is None else face.points)
    found: list[np.ndarray] = []
    for track in map(np.stack, points):
        if not any(_are_one(track, other) for other in found):
            found.append(track)
    return found


def _are_one(track: np.ndarray, other: np.ndarray) -> bool:
    """Whether two tracks are of one face, by most of the frames in which both were seen."""
    apart = np.linalg.norm(track.mean(axis=1) - other.mean(axis=1), axis=1)
    both = np.isfinite(apart)
    if not both.any():
        return False
    sides = np.ptp(track[both], axis=1).max(axis=1)
    return float(np.mean(apart[both] < _SAME_PLACE * sides)) > 0.5


def _stretches(
    film: Path,
    points: np.ndarray,
    first: int,
    files: Sequence[Path],
    levels: np.ndarray | None,
    embedder: DlibEmbedder,
) -> list[Track]:
    """The stretches of a shot in which a face is seen, short gaps filled; `first` is the shot's first frame."""
    seen = np.flatnonzero(np.isfinite(points[:, 0, 0]))
    tracks = []
    for run in np.split(seen, np.flatnonzero(np.diff(seen) > LONGEST_GAP + 1) + 1):
        if not len(run) or run[-1] + 1 - run[0] < SHORTEST_FRAMES:
            continue
        own = points[run[0] : run[-1] + 1]
        filled, _ = fill_gaps(own, LONGEST_GAP)
        begin, end = first + int(run[0]), first + int(run[-1]) + 1
        portraits = run[np.linspace(0, len(run) - 1, _PORTRAITS).round().astype(int)]
        vectors = [embedder.embed(read_image(files[first + number]), points[number]) for number in portraits]
        heard = None if levels is None else levels[begin:end]
        known = np.isfinite(own[:, 0, 0])
        tracks.append(Track(film, begin, filled, known, np.mean(vectors, axis=0), heard))
    return tracks


def people_of(tracks: Sequence[Track]) -> list[list[Track]]:
    """Sorts tracks by whom they show; people in the order in which they come."""
    people: list[list[Track]] = []
    for track in tracks:
        likeness = [float(cosine_similarity(track.vector, np.mean([t.vector for t in own], axis=0))) for own in people]
        if likeness and max(likeness) >= SAME_PERSON:
            people[int(np.argmax(likeness))].append(track)
        else:
            people.append([track])
    return people
