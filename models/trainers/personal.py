"""A model is fitted to one person, and must not forget the others; pictures (B, 3, S, S) in [-1, 1].

A batch holds clips of the person and of other people, whose share falls (`PersonalConfig`). Labels tell them apart:
PERSON, PHOTO (the person, but still and silent) and OTHERS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.av_model import SPEECH_GAIN
from models.losses import laplacian_loss, relative_error
from models.networks.layers import resize_to
from models.trainers.base import Batch, StepOutput
from models.trainers.generator import GeneratorStage, frames_of
from models.trainers.sync import sync_losses
from options.config import OTHERS, PHOTO


class PersonalStage(GeneratorStage):
    """The joint stage on few clips of one person, with the base as the measure of what must stay.

    Three kinds of frames are made of a batch: the person's and other people's own, which are compared with their truth
    (or other people's with what the base makes of them), and the person's under the motion and the sound of others,
    which have no truth: there the base's frame of the same codes says what pose and mouth should be.

    Batch norm keeps the base's statistics, for those of a few clips of one person would not hold for anybody else.
    `measures["base"]` holds the base's V, E, A_sync and G.
    """

    @property
    def weights(self) -> dict[str, float]:
        personal = self.config.personal
        return super().weights | {
            "G/pose": personal.lambda_pose,
            "G/mouth": personal.lambda_mouth,
            "G/likeness": personal.lambda_likeness,
            "G/lips": personal.lambda_lips,
        }

    @property
    def uses_visual_mouth(self) -> bool:
        return True  # of photos, which have no sound

    def train(self, mode: bool = True) -> Any:
        """Training mode for G alone, which has neither statistics nor dropout."""
        super().train(mode)
        for letter in ("V", "E", "A_sync"):
            self.networks[letter].eval()
        return self

    def forward(self, batch: Batch) -> StepOutput:
        labels = batch["label"].tolist()
        codes = self.encode(batch)
        interval = self.config.data.generate_interval
        mel = batch["mel"]  # (B, K, T, 1, 80, 20)
        photo = torch.tensor([label == PHOTO for label in labels], device=mel.device)
        # (B*K*T, D) -> (B, T', D) of the first piece's frames that are generated
        heard, seen, pose = (
            codes[name].unflatten(0, mel.shape[:3])[:, 0, ::interval] for name in ("speech", "mouth", "pose")
        )
        mouth = torch.where(photo[:, None, None], seen, SPEECH_GAIN * heard)
        own = {"identity": codes["identity"], "map": codes.get("map"), "mouth": mouth, "pose": pose}

        count = pose.shape[1]
        noise = self.draw_noise(len(labels) * count, mouth)
        everybody = torch.arange(len(labels), device=mel.device).repeat_interleave(count)
        fake = _frames(self.networks, own, everybody, mouth.flatten(0, 1), pose.flatten(0, 1), noise)
        real = resize_to(batch["target"].flatten(0, 1), self.config.network.image_size)
        base = self._base_codes(batch) if "base" in self.measures else own
        if self.config.personal.base_is_target:
            made = self._base_frames(base, everybody, base["mouth"].flatten(0, 1), base["pose"].flatten(0, 1), noise)
            others = torch.tensor([label == OTHERS for label in labels], device=mel.device).repeat_interleave(count)
            real = torch.where(others[:, None, None, None], made, real)

        faces, motions, sounds = foreign_pairs(labels)
        free_noise = self.draw_noise(len(faces), mouth)
        free = _frames(self.networks, own, faces, mouth[sounds, 0], pose[motions, 0], free_noise)
        losses = self.picture_losses(fake, real, free)
        if self.config.personal.lambda_lips > 0:
            losses["G/lips"] = laplacian_loss(around_lips(fake), around_lips(real))
        if "base" in self.measures:
            made = self._base_frames(base, faces, base["mouth"][sounds, 0], base["pose"][motions, 0], free_noise)
            losses |= self._foreign_losses(free, made, batch["target"][faces, 0])
        if self.contrasts:
            spoken = [number for number, label in enumerate(labels) if label != PHOTO]
            # (B*K*T, D) -> the features of clips that have a sound
            speech, lips = (codes[n].unflatten(0, mel.shape[:3])[spoken].flatten(0, 2) for n in ("speech", "mouth"))
            losses |= sync_losses(speech, lips, self.config.data.clip_len, self.config.loss)
        return StepOutput(losses, (torch.cat([fake, free]).detach(), real, None, batch["label"]))

    def _foreign_losses(self, free: Tensor, base: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """How far the person under others' motion and sound is from the base's frames, and from the person.

        Args:
            free, base: (M, 3, S, S) the person as generated, and by the base with the same motion and sound.
            truth: (M, 3, S, S) frames of the person.
        """
        encoder, faces = self.measures["base"]["E"], self.measures["base"]["V"]  # type: ignore[index]
        seen, wanted = encoder(free), encoder(base)
        poses, mouths = ([read(x) for x in (seen, wanted)] for read in (_read_pose(encoder), encoder.to_mouth))
        likes = [faces(frames[:, None])[0] for frames in (free, truth)]
        return {
            "G/pose": relative_error(*poses),
            "G/mouth": 1 - F.cosine_similarity(*(x.float() for x in mouths)).mean(),
            "G/likeness": 1 - F.cosine_similarity(*(x.float() for x in likes)).mean(),
        }

    @torch.no_grad()
    def _base_codes(self, batch: Batch) -> dict[str, Tensor]:
        """What the base's encoders make of a batch: identity (B, 2048), map, mouth and pose (B, T', D)."""
        base: Any = self.measures["base"]
        interval = self.config.data.generate_interval
        identity, start = base["V"](batch["reference"])
        frames, mel = (batch[name][:, 0, ::interval] for name in ("augmented", "mel"))
        features = base["E"](frames.flatten(0, 1))
        speech = SPEECH_GAIN * base["A_sync"](mel.flatten(0, 1))
        photo = (batch["label"] == PHOTO).repeat_interleave(mel.shape[1])[:, None].to(mel.device)
        mouth = torch.where(photo, base["E"].to_mouth(features), speech)
        codes = {"mouth": mouth, "pose": _read_pose(base["E"])(features)}
        codes = {name: code.unflatten(0, mel.shape[:2]) for name, code in codes.items()}
        return codes | {"identity": identity} | ({"map": start} if self.config.input_id_feature else {})

    @torch.no_grad()
    def _base_frames(self, codes: Mapping[str, Any], *arguments: Any) -> Tensor:
        return _frames(self.measures["base"], codes, *arguments)


def around_lips(frames: Tensor) -> Tensor:
    """Where the mouth of an aligned face is, however the head turns: (N, 3, S, S) -> (N, 3, 3/8 S, S/2).

    Lips are 2 % of a picture: a mouth that stays shut costs a picture's losses less than a blurred collar does.
    """
    unit = frames.shape[-1] // 16
    return frames[..., 8 * unit : 14 * unit, 4 * unit : 12 * unit]


def foreign_pairs(labels: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Who is shown with whose motion and whose sound: the number of a clip each, in three lists.

    Every clip of the person gets the motion of one of the others and the sound of another, if there are two.

    >>> foreign_pairs([PERSON, OTHERS, PHOTO, OTHERS])
    ([0, 2], [1, 3], [3, 1])
    """
    others = [number for number, label in enumerate(labels) if label == OTHERS]
    faces = [number for number, label in enumerate(labels) if label != OTHERS]
    motions = [others[k % len(others)] for k in range(len(faces))]
    sounds = [others[(k + 1) % len(others)] for k in range(len(faces))]
    return faces, motions, sounds


def _frames(
    networks: Any, codes: Mapping[str, Any], rows: Any, mouth: Tensor, pose: Tensor, noise: list[Tensor] | None
) -> Tensor:
    """Frames of the people of `rows` (M) with mouth features and pose codes (M, D)."""
    start = None if codes.get("map") is None else codes["map"][rows]
    return frames_of(networks, codes["identity"][rows], start, mouth, pose, noise)


def _read_pose(encoder: Any) -> nn.Module:
    return nn.Sequential(encoder.to_headpose, encoder.headpose_embed)
