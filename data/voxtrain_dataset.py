"""Training items: pieces of a clip as uint8 frames and mel windows, drawn from (seed, epoch, index) alone.

VoxCeleb2, LRW and anything else that `data.clip_list` lists.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from data.audio import WINDOW_FRAMES, mel_window, voice_windows
from data.augment import Augmentation, apply_augmentation, change_sound, draw_augmentation, draw_sound_change
from data.clip_list import ClipRecord, PackedRecords
from data.clip_reader import ClipReader
from options.config import AudioConfig, DataConfig
from util.errors import MediaError, MetadataError
from util.log import warn_once
from util.parallel import end_with_parent
from util.seed import generator_for

FAILURES_IN_A_ROW = 10
_log = logging.getLogger(__name__)


class VoxTrainDataset(Dataset):
    """Items for every training stage. A stage names the parts it needs, and only those are read.

    An item is a dict. S is crop_size, K num_clips, T clip_len, N the number of generated frames:
        reference: (num_inputs, 3, S, S) uint8 RGB, random frames of the clip.
        target: (N, 3, S, S) uint8 RGB, every generate_interval-th frame of piece 0.
        augmented: (K, T, 3, S, S) uint8 RGB, the frames of all pieces, all changed by one augmentation.
        mel: (K, T, 1, 80, 20) float32 in [0, 1], the sound around each of those frames. Windows that reach over the
            start or the end of the clip are silent there. With `augment_sound` one change for all of them.
        voice: (1, 80 * n_mel_t, 20) float32, n_mel_t consecutive windows of 0.2 s, stacked along the mel bands.
        label, index: int, the speaker and the number of the clip.
        start: (K,) int64, the first frame of each piece.
        skipped: paths of clips that could not be read.
    The K pieces do not overlap where the clip is long enough; where it is not, they lie as far apart as they can. Their
    order is random. The random choices depend on the seed, the epoch and the index only: every loading process makes
    the same item, and a part looks the same whether or not other parts are read.

    Clips that are too short for K pieces are left out with a warning. Raises MetadataError: none is long enough.

    fields: the parts to read.  n_mel_t: windows of `voice`.
    """

    def __init__(
        self, records: Sequence[ClipRecord], data: DataConfig, seed: int, fields: frozenset[str], n_mel_t: int = 4
    ) -> None:
        self.records = PackedRecords(long_enough(records, data))
        self._data, self._seed, self._fields, self._n_mel_t = data, seed, fields, n_mel_t
        self._reader = ClipReader(data)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        """The item of an (epoch, index); a plain index means epoch 0.

        The next clip takes the place of one that cannot be read, which a warning and `skipped` name. Raises MediaError:
        ten clips in a row cannot be read.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        skipped: list[str] = []
        while True:
            record = self.records[index]
            rng = generator_for(self._seed, epoch, index)
            try:
                item = make_item(self._reader, record, rng, self._data, self._fields, self._n_mel_t)
                return {**item, "index": index, "skipped": skipped}
            except MediaError as error:
                warn_once(_log, f"{error}; the next clip takes its place")
                skipped.append(str(record.path))
                if len(skipped) >= min(FAILURES_IN_A_ROW, len(self.records)):
                    raise MediaError(f"{len(skipped)} clips in a row cannot be read, the last: {error}") from error
            index = (index + 1) % len(self.records)


def long_enough(records: Sequence[ClipRecord], data: DataConfig) -> list[ClipRecord]:
    """The clips that have room for the pieces of an item; a warning names others. MetadataError if none is left."""
    shortest = shortest_clip(data)
    kept = [record for record in records if record.num_frames >= shortest]
    short = [record for record in records if record.num_frames < shortest]
    if not kept:
        raise MetadataError(
            f"none of {len(records)} clips has the {shortest} frames that --clip_len {data.clip_len}, "
            f"--frame_interval {data.frame_interval} and --num_clips {data.num_clips} need; lower one of them"
        )
    if short:
        names = ", ".join(f"{record.path} ({record.num_frames})" for record in short[:3])
        more = " ..." if len(short) > 3 else ""
        _log.warning("%d clips have less than %d frames and are left out: %s%s", len(short), shortest, names, more)
    return kept


def shortest_clip(data: DataConfig) -> int:
    """How many frames a clip needs: clip_len * frame_interval, and room for num_clips different starts."""
    return max(data.clip_len * data.frame_interval, (data.clip_len - 1) * data.frame_interval + data.num_clips)


def make_item(
    reader: ClipReader,
    record: ClipRecord,
    rng: np.random.Generator,
    data: DataConfig,
    fields: frozenset[str],
    n_mel_t: int,
) -> dict[str, Any]:
    """Makes the item of a clip, see `VoxTrainDataset`, without `index` and `skipped`."""
    starts, references, voice, augmentation = draw_plan(rng, record.num_frames, data, n_mel_t)
    pieces = starts[:, None] + data.frame_interval * np.arange(data.clip_len)  # (K, T)
    item: dict[str, Any] = {"label": record.label, "start": starts}
    wanted = {"reference": references, "target": pieces[0, :: data.generate_interval], "augmented": pieces.ravel()}
    wanted = {name: numbers for name, numbers in wanted.items() if name in fields}
    if wanted:
        # one reading for all parts, because decoding passes over the frames between them anyway
        frames = reader.frames(record, [int(n) for n in np.concatenate(list(wanted.values()))])
        ends = np.cumsum([len(numbers) for numbers in wanted.values()])[:-1]
        item.update(zip(wanted, np.split(frames, ends), strict=True))
    if "augmented" in fields:
        clips = item["augmented"]
        clips = apply_augmentation(clips, augmentation) if data.augment else clips
        item["augmented"] = clips.reshape(*pieces.shape, *clips.shape[1:])  # (K*T, 3, S, S) -> (K, T, 3, S, S)
    mel = reader.mel(record) if fields & {"mel", "voice"} else np.empty(0)
    if mel.size and data.augment_sound > 0:
        mel = change_sound(mel, draw_sound_change(rng, data.augment_sound))
    if "mel" in fields:
        item["mel"] = np.stack([[mel_window(mel, int(number)) for number in piece] for piece in pieces])
    if "voice" in fields:
        numbers = range(voice, voice + n_mel_t * WINDOW_FRAMES, WINDOW_FRAMES)
        windows = {number: mel_window(mel, number) for number in numbers}
        item["voice"] = voice_windows(windows, voice, n_mel_t)  # n * (1, 80, 20) -> (1, 80 * n, 20)
    return item


def draw_plan(
    rng: np.random.Generator, num_frames: int, data: DataConfig, n_mel_t: int
) -> tuple[np.ndarray, np.ndarray, int, Augmentation]:
    """Draws all that an item takes from a clip of `num_frames`, whichever parts are read then.

    Frame numbers of the pieces' starts, (K,) int64, of the references and of the first voice window; the augmentation.
    """
    starts = draw_starts(rng, num_frames, data)
    references = rng.integers(0, num_frames, data.num_inputs)
    # the windows of the voice lie within the clip; in a shorter one the last of them are silent
    first = AudioConfig.window_offset_frames
    last = max(first, first + num_frames - n_mel_t * WINDOW_FRAMES)
    voice = int(rng.integers(first, last + 1))
    return starts, references, voice, draw_augmentation(rng, data.crop_size, data.augment_shape)


def draw_starts(rng: np.random.Generator, num_frames: int, data: DataConfig) -> np.ndarray:
    """Draws the first frames of K pieces within a clip, all different: (K,) int64, in random order.

    They lie the length of a piece apart, or as far as the clip allows; all such places are about equally likely.
    """
    count = data.num_clips
    latest = num_frames - 1 - (data.clip_len - 1) * data.frame_interval
    apart = min(data.clip_len * data.frame_interval, latest // (count - 1)) if count > 1 else 0
    slack = latest - apart * (count - 1)
    starts = np.sort(rng.integers(0, slack + 1, count)) + apart * np.arange(count)
    return rng.permutation(starts)


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stacks items to a batch of tensors; `label`, `index` and `start` are int64, `skipped` is one list of paths."""
    batch: dict[str, Any] = {}
    for name in items[0]:
        values = [item[name] for item in items]
        if name == "skipped":
            batch[name] = [path for paths in values for path in paths]
        else:
            batch[name] = torch.from_numpy(np.stack(values))
    return batch


def worker_init(worker_id: int) -> None:  # noqa: ARG001
    """For `DataLoader(worker_init_fn=...)`: one thread a loading process, because there are many of them."""
    # Ctrl-C and torch's launcher reach the whole process group; the trainer decides when its loaders end
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # torch's own watch takes init for the trainer when that was killed while its loaders began: they stayed for ever
    threading.Thread(target=end_with_parent, daemon=True).start()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
