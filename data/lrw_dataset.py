"""LRW, 500 words said by many: clips of 29 frames, 256 x 256, 25 fps, for `data.voxtrain_dataset.VoxTrainDataset`.

Frames are scaled from 256 pixels to the template of 224 as they are and then cropped like all others; nothing is
aligned. The label is the number of the word: LRW does not tell the speakers.
"""

from __future__ import annotations

from pathlib import Path

from data.clip_list import ClipRecord, build_lists, find_clips
from util.errors import MediaError


def scan_lrw(root: str | Path, split: str) -> list[ClipRecord]:
    """Lists `lipread_mp4/WORD/<split>/WORD_NNNNN.mp4`, sorted; labels number the words of all splits.

    No file is opened: every clip of LRW has 29 frames. The word stands in the place of the speaker.

    root: the folder that holds `lipread_mp4`, or that folder. Raises MediaError: it holds no clip of the split.
    """
    records = build_lists([(clip, 29, None) for clip in find_clips(root, "lrw")])[split]
    if not records:
        raise MediaError(
            f"{root}: holds no clips of the split {split}; expected lipread_mp4/WORD/{split}/WORD_00001.mp4"
        )
    return records
