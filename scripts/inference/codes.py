"""The codes of a clip as data: computed ahead of its frames, edited, and kept in a file (`codes.npz`)."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.frames import crop_template
from data.prepared import fingerprint
from data.voxtest_dataset import VoxTestDataset
from models.av_model import AvModel, IdentityCodes
from models.pose_codes import edit_poses
from options.config import FPS, INFERENCE_LETTERS, PoseOptions, TestConfig
from util.checkpoint import network_path
from util.errors import CheckpointError, MediaError
from util.files import open_file, write_bytes
from util.images import to_unit_range
from util.json_files import parse_json

_HOW_TO_WRITE = "write it with test.py --save_codes"
_PICTURES = 64  # read at a time


@dataclass(frozen=True)
class ClipCodes:
    """What the generator makes the frames of a clip of.

    mouth: (N, 500), a row for each frame; None: computed while frames are made.  pose: (N, 12); None: likewise.
    """

    identity: IdentityCodes
    mouth: Tensor | None
    pose: Tensor | None


@dataclass(frozen=True)
class CodeSettings:
    """What made the codes of a file: its entry `settings`, as JSON. weights: a hash of the networks' files."""

    weights: str
    model: str
    epoch: str
    first_frame: int
    made_with: str


def clip_codes(
    model: AvModel, config: TestConfig, dataset: VoxTestDataset, keep_as: Path | None, made_with: str
) -> ClipCodes:
    """The codes of a clip: those that `--load_codes` holds, and of the others those that must be known ahead.

    Args:
        keep_as: where all codes are written to; None: nowhere.
        made_with: the settings in words.

    Raises:
        MediaError: pictures, sound or the file cannot be read; `--pose_hold` lies beyond the clip.
        CheckpointError: the file holds codes of another model.
    """
    references = torch.from_numpy(to_unit_range(dataset.references))
    identity = model.encode_identity(references, use_map=config.input_id_feature)
    sizes: dict[str, tuple[int, ...]] = {
        "identity": tuple(identity.vector.shape[1:]),
        "identity_map": tuple(identity.map.shape[1:]),
        "mouth": (len(dataset), config.network.mouth_dim),
        "pose": (len(dataset), config.network.pose_dim),
    }
    loaded = _load(config, sizes, dataset.frames[0]) if config.load_codes is not None else {}
    given = {name: torch.from_numpy(codes).to(model.device) for name, codes in loaded.items()}
    vector, identity_map = given.get("identity"), given.get("identity_map")
    identity = IdentityCodes(
        identity.vector if vector is None else vector[None],
        identity.map if identity_map is None else identity_map[None],
    )
    mouth, pose = given.get("mouth"), given.get("pose")
    if mouth is None and keep_as is not None:
        windows = [torch.from_numpy(item.mel) for item in dataset.items(range(len(dataset)))]
        mouth = model.encode_speech(torch.stack(windows))
    if pose is None and not config.driving_pose and keep_as is not None:
        pose = model.encode_pose(references[:1]).expand(len(dataset), -1)
    elif pose is None and (keep_as is not None or config.pose != PoseOptions()):
        pose = _pose_track(model, dataset)
    if pose is not None and config.pose != PoseOptions():
        hold_s = config.pose.pose_hold
        if hold_s is not None and round(hold_s * FPS) >= len(pose):
            raise MediaError(f"--pose_hold {hold_s:g} lies beyond the end of the clip, {len(pose) / FPS:.2f} s")
        pose = edit_poses(pose, config.pose, _offset(model, config))
    if keep_as is not None:
        settings = CodeSettings(_weights(config), config.name, config.which_epoch, dataset.frames[0], made_with)
        _save(keep_as, settings, identity=identity.vector[0], identity_map=identity.map[0], mouth=mouth, pose=pose)
    return ClipCodes(identity, mouth, pose)


def by_frame(codes: Tensor | None, first_frame: int) -> Tensor | None:
    """Rows by frame number, as `AvModel.stream` wants them; `first_frame` is the number of row 0."""
    return None if codes is None else torch.nn.functional.pad(codes, (0, 0, first_frame, 0))


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


def _save(path: Path, settings: CodeSettings, **codes: Tensor | None) -> None:
    arrays = {name: code.float().cpu().numpy() for name, code in codes.items() if code is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, settings=np.array(json.dumps(asdict(settings))), **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def _load(config: TestConfig, sizes: dict[str, tuple[int, ...]], first_frame: int) -> dict[str, np.ndarray]:
    """The arrays of `--load_codes` by name, as `sizes` wants them; of frames there may be more. Some may be missing."""
    path = config.load_codes
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as stored:  # type: ignore[arg-type]
            arrays = {name: stored[name] for name in ("settings", *sizes) if name in stored.files}
        payload = str(arrays.pop("settings")).encode()
    except (OSError, ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise MediaError(f"--load_codes {path}: holds no codes ({error}); {_HOW_TO_WRITE}") from error
    settings = parse_json(payload, CodeSettings, f"--load_codes {path}", hint=_HOW_TO_WRITE)
    if settings.weights != _weights(config):
        of = f"are of the model {settings.model}, epoch {settings.epoch}, which is not {config.checkpoint_dir}"
        raise CheckpointError(f"--load_codes {path}: these codes {of}; save them anew with --save_codes")
    if settings.first_frame != first_frame:
        raise MediaError(f"--load_codes {path}: begins at frame {settings.first_frame}, the clip at {first_frame}")
    for name, codes in arrays.items():
        wanted, rows = sizes[name], len(codes) if codes.ndim else 0
        fits = codes.shape == wanted or (
            name in ("mouth", "pose") and rows > wanted[0] and codes.shape[1:] == wanted[1:]
        )
        if not fits or codes.dtype.kind != "f" or not np.isfinite(codes).all():
            shape = f"finite numbers shaped {wanted}, got {codes.dtype} {codes.shape}"
            raise MediaError(f"--load_codes {path}: {name} must be {shape}")
    ready = {name: codes.astype(np.float32) for name, codes in arrays.items()}
    return ready | {name: ready[name][: sizes[name][0]] for name in ("mouth", "pose") if name in ready}
