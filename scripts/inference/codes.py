"""The codes of a clip as data: computed ahead of its frames, edited, and kept in a file (`codes.npz`)."""

from __future__ import annotations

import functools
import io
import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.audio import SILENCE
from data.frames import crop_template
from data.prepared import fingerprint
from data.voice_activity import mouth_shares, spoken_parts
from data.voxtest_dataset import VoxTestDataset
from models.av_model import AvModel, IdentityCodes
from models.pose_codes import edit_poses
from options.config import FPS, INFERENCE_LETTERS, AudioConfig, MouthOptions, PoseOptions, TestConfig
from util.arrays import read_arrays
from util.checkpoint import network_path
from util.errors import CheckpointError, MediaError
from util.files import write_bytes
from util.images import to_unit_range

# entries of the file beside the codes; weights: a hash of the networks' files
_SETTINGS = ("weights", "model", "epoch", "first_frame", "made_with")
_PICTURES = 64  # read at a time
_WINDOWS = 512  # of sound, likewise


def clip_codes(
    model: AvModel, config: TestConfig, dataset: VoxTestDataset, keep_as: Path | None, made_with: str
) -> tuple[IdentityCodes, Tensor | None, Tensor | None]:
    """The codes of a clip: those that `--load_codes` holds, and of the others those that must be known ahead.

    keep_as: where all codes are written to; None: nowhere.  made_with: the settings in words, for that file.
    Returns identity, mouth and pose codes, (T, 500) and (T, 12) by frame number; None: computed while frames are made.

    Raises:
        MediaError: pictures, sound or the file cannot be read; `--pose_hold` lies beyond the clip.
        CheckpointError: the file holds codes of another model.
        OptionError: a package is missing that an option needs.
    """
    references = torch.from_numpy(to_unit_range(dataset.references))
    own = model.encode_identity(references, use_map=config.input_id_feature)
    if config.use_audio_id:
        voice = torch.from_numpy(dataset.voice(config.network.n_mel_t))
        own = IdentityCodes(model.encode_voice(voice), own.map)
    loaded = _load(config, own, len(dataset), dataset.frames[0]) if config.load_codes is not None else {}
    given = {name: torch.from_numpy(codes).to(model.device) for name, codes in loaded.items()}
    vector, identity_map = given.get("identity", own.vector[0]), given.get("identity_map", own.map[0])
    mouth, pose = given.get("mouth"), given.get("pose")
    if mouth is None and (keep_as is not None or config.mouth != MouthOptions()):
        mouth = _mouth_track(model, dataset)
    if mouth is not None and config.mouth != MouthOptions():
        mouth = _edit_mouth(model, config.mouth, dataset, mouth)
    if pose is None and (keep_as is not None or config.pose != PoseOptions()):
        fixed = None if config.driving_pose else model.encode_pose(references[:1])
        pose = _pose_track(model, dataset) if fixed is None else fixed.expand(len(dataset), -1)
    if pose is not None and config.pose != PoseOptions():
        hold_s = config.pose.pose_hold
        if hold_s is not None and round(hold_s * FPS) >= len(pose):
            raise MediaError(f"--pose_hold {hold_s:g} lies beyond the end of the clip, {len(pose) / FPS:.2f} s")
        pose = edit_poses(pose, config.pose, _offset(model, config))
    if keep_as is not None:
        assert mouth is not None
        assert pose is not None
        kept = {"identity": vector, "identity_map": identity_map, "mouth": mouth, "pose": pose}
        arrays = {name: codes.float().cpu().numpy() for name, codes in kept.items()}
        settings = (_weights(config), config.name, config.which_epoch, dataset.frames[0], made_with)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays, **dict(zip(_SETTINGS, map(np.array, settings), strict=True)))  # type: ignore[arg-type]
        write_bytes(keep_as, buffer.getvalue())
    before = (0, 0, dataset.frames[0], 0)  # rows in front of the first frame's
    mouth, pose = (None if codes is None else torch.nn.functional.pad(codes, before) for codes in (mouth, pose))
    return IdentityCodes(vector[None], identity_map[None]), mouth, pose


def _mouth_track(model: AvModel, dataset: VoxTestDataset) -> Tensor:
    """The mouth code of every frame: (N, 500)."""
    windows, pieces = dataset.windows(), []
    while piece := list(itertools.islice(windows, _WINDOWS)):
        pieces.append(model.encode_speech(torch.from_numpy(np.stack(piece))))
    return torch.cat(pieces)


def _edit_mouth(model: AvModel, options: MouthOptions, dataset: VoxTestDataset, codes: Tensor) -> Tensor:
    """Mouth codes, (N, 500), nearer to that of silence or farther from it."""
    window = torch.full((1, 1, AudioConfig.num_mel_bands, AudioConfig.bins_per_window), SILENCE)
    rest = model.encode_speech(window)
    shares = np.full(len(codes), options.mouth_scale, dtype=np.float32)
    if options.silence == "rest":
        shares *= mouth_shares(spoken_parts(dataset.audio, dataset.gain), dataset.frames[: len(codes)])
    return torch.lerp(rest, codes, torch.from_numpy(shares).to(codes.device)[:, None])


def _pose_track(model: AvModel, dataset: VoxTestDataset) -> Tensor:
    """The pose code of every frame, each picture encoded once: (N, 12)."""
    places = [dataset.pose_place(frame) for frame in dataset.frames]
    needed = sorted({index for place in places for index in place[:2]})
    pieces = []
    for start in range(0, len(needed), _PICTURES):
        pictures = np.stack([dataset.pose_picture(index) for index in needed[start : start + _PICTURES]])
        pieces.append(model.encode_pose(torch.from_numpy(to_unit_range(pictures))))
    codes, row_of = torch.cat(pieces), {index: row for row, index in enumerate(needed)}
    ones, others, shares = zip(*places, strict=True)
    one, other = (codes[[row_of[index] for index in indices]] for indices in (ones, others))
    return one + (other - one) * torch.tensor(shares, device=codes.device)[:, None]


def _offset(model: AvModel, config: TestConfig) -> Tensor | None:
    """What `--pose_offset` adds to codes: the drawn head's code at these angles less that of the head at 0."""
    if not any(config.pose.pose_offset):
        return None
    from data.synthetic.pose_head import render_poses  # the painter takes half a second to import

    frames = render_poses(np.array([config.pose.pose_offset, (0.0, 0.0, 0.0)]))
    pictures = np.stack([crop_template(frame, config.data) for frame in frames])
    turned, frontal = model.encode_pose(torch.from_numpy(to_unit_range(pictures)))
    return turned - frontal


def _weights(config: TestConfig) -> str:
    return _hash_of(tuple(network_path(config.checkpoint_dir, config.which_epoch, x) for x in INFERENCE_LETTERS))


@functools.cache
def _hash_of(files: tuple[Path, ...]) -> str:
    return fingerprint(files).content


def _load(config: TestConfig, own: IdentityCodes, num_frames: int, first_frame: int) -> dict[str, np.ndarray]:
    """The arrays of `--load_codes` by name, float32; some may be missing, and what goes on behind the clip is left."""
    path = config.load_codes
    sizes: dict[str, tuple[int, ...]] = {
        "identity": tuple(own.vector.shape[1:]),
        "identity_map": tuple(own.map.shape[1:]),
        "mouth": (num_frames, config.network.mouth_dim),
        "pose": (num_frames, config.network.pose_dim),
    }
    try:
        stored = read_arrays(str(path), ".npz of codes")
        arrays = {entry: stored[entry] for entry in sizes if entry in stored}
        weights, name, epoch, first, _ = (stored[entry].item() for entry in _SETTINGS)
    except (MediaError, ValueError, KeyError) as error:
        raise MediaError(f"--load_codes {path}: holds no codes ({error}); write it with --save_codes") from error
    if weights != _weights(config):
        of = f"are of the model {name}, epoch {epoch}, which is not {config.checkpoint_dir}"
        raise CheckpointError(f"--load_codes {path}: these codes {of}; save them anew with --save_codes")
    if first != first_frame:
        raise MediaError(f"--load_codes {path}: begins at frame {first}, the clip at {first_frame}")
    for entry, whole in arrays.items():
        codes = arrays[entry] = whole[:num_frames] if entry in ("mouth", "pose") and whole.ndim else whole
        if codes.shape != sizes[entry] or codes.dtype.kind != "f" or not np.isfinite(codes).all():
            wanted = f"finite numbers shaped {sizes[entry]}, got {codes.dtype} {codes.shape}"
            raise MediaError(f"--load_codes {path}: {entry} must be {wanted}")
    return {entry: codes.astype(np.float32) for entry, codes in arrays.items()}
