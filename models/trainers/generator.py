"""Stage 3: G puts frames together from identity, speech and pose, against D; pictures (B, 3, S, S) in [-1, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.av_model import SPEECH_GAIN
from models.losses import (
    attribute_loss,
    confusion_loss,
    feature_distance,
    feature_matching_loss,
    gan_loss,
    independence_loss,
    laplacian_loss,
    perceptual_loss,
)
from models.networks.layers import resize_to
from models.networks.probe import QUANTITIES, SCALES
from models.trainers.base import IDENTITY_MAP, Adversary, Batch, Stage, StepOutput, identity_retrieval
from models.trainers.sync import readings_loss, sync_losses, sync_retrieval, sync_weights
from options.config import TrainConfig
from util.distributed import gather_with_gradient
from util.images import tensor_to_uint8
from util.metrics.ssim import ssim


class GeneratorStage(Stage):
    """The joint stage: G and pose, with the contrastive and identity losses going on.

    Source: docs/how_it_works.md section 6, points 3 and 4.

    The reference is one frame of the video; E sees augmented frames, so that neither colours nor the shape of the face
    reach G through it; sound and pose come from the same clip as the target.
    """

    adversary: Adversary

    def __init__(
        self, networks: Mapping[str, nn.Module], config: TrainConfig, measures: Mapping[str, nn.Module] | None = None
    ) -> None:
        super().__init__(networks, config, measures)
        classifier = networks["E"].get_submodule("headpose_fc") if config.stage == "dis_pose" else None
        self.adversary = Adversary(networks["D"], classifier, config)
        self.network("G").checkpointing = config.gradient_checkpointing

    @property
    def weights(self) -> dict[str, float]:
        loss = self.config.loss
        return {
            "G/gan": loss.lambda_gan,
            "G/feature_matching": loss.lambda_feat,
            "G/vgg": loss.lambda_vgg,
            "G/vggface": loss.lambda_vggface,
            "G/own": loss.lambda_own,
            "G/laplacian": loss.lambda_laplacian,
            "G/attributes": loss.lambda_attributes,
            "V/identity": loss.lambda_identity,
            "E/confusion": loss.lambda_confusion,
            "E/independence": loss.lambda_independence,
            **sync_weights(loss),
        }

    def unused(self, letter: str) -> tuple[str, ...]:
        unused = super().unused(letter)
        if letter == "G":
            weights = (name for name, _ in self.networks["G"].named_parameters() if name.endswith("noise.weight"))
            noise = () if self.config.use_noise else tuple(weights)
            return (*unused, *noise, "input." if self.config.input_id_feature else "skips.")
        if letter == "V":
            without_map = () if self.config.input_id_feature else IDENTITY_MAP
            return (*unused, *without_map, *(() if self.config.loss.lambda_identity > 0 else ("fc.",)))
        if letter == "E" and not self.uses_visual_mouth:
            return (*unused, "to_mouth.")
        return unused

    @property
    def contrasts(self) -> bool:
        """Whether any loss looks at what sound and picture say of the mouth."""
        return any(sync_weights(self.config.loss).values())

    @property
    def uses_visual_mouth(self) -> bool:
        return self.contrasts or not self.config.generate_from_audio_only

    def forward(self, batch: Batch) -> StepOutput:
        codes = self.encode(batch)
        real = resize_to(batch["target"].flatten(0, 1), self.config.network.image_size)
        fake = self.from_speech(batch, codes, noise=True)
        if not self.config.generate_from_audio_only:  # from the visual mouth code as well
            fake = torch.cat([fake, self.make(batch, codes, codes["mouth"], noise=True)])
            real = torch.cat([real, real])
        losses = self.picture_losses(fake, real)
        loss = self.config.loss
        if loss.lambda_identity > 0:
            scores = self.network("V").classify(codes["identity"])
            losses["V/identity"] = F.cross_entropy(scores.float(), batch["label"])
        if self.contrasts:
            losses |= sync_losses(codes["speech"], codes["mouth"], self.config.data.clip_len, loss)
            if loss.lambda_readings > 0 and "attributes" in self.measures:  # a plan has no measures
                seen, read = (codes["mouth"], codes["pose"]), self.measures["attributes"]
                losses["sync/readings"] = readings_loss(codes["speech"], *seen, read, batch["augmented"])
        if loss.lambda_independence > 0:
            # (B*K*T, D) -> (B*K*(T-1), D): from each frame of a clip to the next one taken
            clips = (codes[name].float().unflatten(0, batch["mel"].shape[:3]) for name in ("pose", "speech"))
            pose, speech = (gather_with_gradient(clip.diff(dim=2).flatten(0, 2)) for clip in clips)
            losses["E/independence"] = independence_loss(pose, speech)
        adversary, motion = self.adversary, None
        if adversary.headpose_classifier is not None:
            # (B*K*T, 12) -> (B, T * 12): the head's motion over each item's first clip
            motion = codes["pose"].unflatten(0, batch["mel"].shape[:3])[:, 0].flatten(1)
            losses["E/confusion"] = confusion_loss(adversary.headpose_classifier(motion).float())
            motion = motion.detach()
        return StepOutput(losses, (fake.detach(), real, motion, batch["label"]))

    def picture_losses(self, fake: Tensor, real: Tensor, free: Tensor | None = None) -> dict[str, Tensor]:
        """What compares generated frames with true ones, and D's opinion.

        Args:
            fake, real: (N, 3, S, S).
            free: (M, 3, S, S) generated frames that have no truth, of which D is asked alone.
        """
        loss, adversary = self.config.loss, self.adversary
        shown = fake if free is None else torch.cat([fake, free])
        corner = adversary.draw_corner(real)
        fake_levels = adversary.discriminator(shown, corner)
        with torch.no_grad():
            real_levels = adversary.discriminator(real, corner)
        losses: dict[str, Tensor] = {}
        if loss.lambda_gan > 0:
            losses["G/gan"] = gan_loss([levels[-1] for levels in fake_levels], True, False, loss.gan_mode)
        if loss.lambda_feat > 0:
            with_truth = [[level[: len(fake)] for level in levels] for levels in fake_levels]
            losses["G/feature_matching"] = feature_matching_loss(with_truth, real_levels)
        for name in ("vgg", "vggface"):
            if name in self.measures:
                losses[f"G/{name}"] = perceptual_loss(self.measures[name](fake), self.measures[name](real))
        if "own" in self.measures:
            losses["G/own"] = feature_distance(self.measures["own"](fake), self.measures["own"](real))
        if loss.lambda_laplacian > 0:
            losses["G/laplacian"] = laplacian_loss(fake, real)
        if loss.lambda_attributes > 0 and "attributes" in self.measures:
            with torch.autocast(fake.device.type, enabled=False):  # 16 bits are coarse for an angle
                read = self.measures["attributes"]
                losses["G/attributes"] = attribute_loss(read(fake.float()), read(real.float()), SCALES)
        return losses

    def count_images(self, batch: Batch) -> int:
        return batch["target"].shape[:2].numel() * (1 if self.config.generate_from_audio_only else 2)

    def validate(self, batch: Batch) -> dict[str, float]:
        """L1 of the generated frames, and the retrieval figures of the encoders."""
        codes = self.encode(batch)
        images = self.from_speech(batch, codes, noise=False)
        figures = sync_retrieval(codes["speech"], codes["mouth"], self.config.data.clip_len) if "mouth" in codes else {}
        figures |= identity_retrieval(self.network("V"), batch["reference"])
        targets = resize_to(batch["target"].flatten(0, 1), images.shape[-1])
        figures["val/l1"] = float(F.l1_loss(images.float(), targets))
        figures["val/detail"] = float(_detail(images.float()) / _detail(targets))
        pairs = zip(*(tensor_to_uint8(x).cpu().numpy() for x in (images.float(), targets)), strict=True)
        figures["val/ssim"] = float(np.mean([ssim(one, other) for one, other in pairs]))
        if "probe" in self.measures:
            count = batch["target"].shape[1]
            probe = self.measures["probe"]
            true = probe(targets)
            figures |= _probed(probe(images.float()), true, count)
            if count > 1 and len(batch["target"]) > 1:  # the sound of each item with the pose of the one before it
                elsewhere = codes["pose"].roll(batch["mel"].shape[1:3].numel(), dims=0)
                made = probe(self.from_speech(batch, codes | {"pose": elsewhere}, noise=False).float())
                figures |= {
                    f"val/swapped_{name}": _followed(torch.stack([made[name], true[name]]), count)
                    for name in ("opening", "width")
                }
        return figures

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        codes = self.encode(batch)
        interval = self.config.data.generate_interval
        return {
            "input": batch["reference"][:, 0],
            "pose (augmented)": batch["augmented"][:, 0, ::interval][:, 0],
            "target": batch["target"][:, 0],
            "generated": self.from_speech(batch, codes, noise=False).unflatten(0, batch["target"].shape[:2])[:, 0],
        }

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """All codes of a batch: identity (B, 2048) and map, features (B*K*T, 512) and pose codes (B*K*T, 12)."""
        encoder = self.network("E")
        identity, identity_map = self.network("V")(batch["reference"])
        features = encoder(batch["augmented"].flatten(0, 2))
        codes = {
            "identity": identity,
            "speech": self.network("A_sync")(batch["mel"].flatten(0, 2)),
            "pose": encoder.headpose_embed(encoder.to_headpose(features)),
        }
        if self.config.input_id_feature:
            codes["map"] = identity_map
        if self.uses_visual_mouth:
            codes["mouth"] = encoder.to_mouth(features)
        return codes

    def from_speech(self, batch: Batch, codes: Mapping[str, Tensor], noise: bool) -> Tensor:
        return self.make(batch, codes, SPEECH_GAIN * codes["speech"], noise)

    def make(self, batch: Batch, codes: Mapping[str, Tensor], mouth: Tensor, noise: bool) -> Tensor:
        """Frames for every generate_interval-th frame of each item's first clip: (B*N, 3, S, S)."""
        count, interval = batch["target"].shape[1], self.config.data.generate_interval
        clips = (values.unflatten(0, batch["mel"].shape[:3]) for values in (mouth, codes["pose"]))  # (B, K, T, D)
        mouth, pose_code = (clip[:, 0, ::interval].flatten(0, 1) for clip in clips)  # (B*N, D)
        identity = codes["identity"].repeat_interleave(count, dim=0)
        start = codes["map"].repeat_interleave(count, dim=0) if "map" in codes else None
        layers = self.draw_noise(len(identity), identity) if noise else None
        return frames_of(self.networks, identity, start, mouth, pose_code, layers)

    def draw_noise(self, count: int, like: Tensor) -> list[Tensor] | None:
        """Noise images for `count` frames, in the type and on the device of `like`; None with --no_noise."""
        if not self.config.use_noise:
            return None
        sizes = self.network("G").noise_sizes
        return [torch.randn(count, 1, s, s, device=like.device, dtype=like.dtype) for s in sizes]


def frames_of(
    networks: Any, identity: Tensor, start: Tensor | None, mouth: Tensor, pose: Tensor, noise: list[Tensor] | None
) -> Tensor:
    """What G makes of features: (N, 3, S, S) in [-1, 1].

    Args:
        networks: by letter, of which E and G are taken.
        identity, start: (N, 2048) and (N, 512, 7, 7) of V; without `start` G begins with its constant.
        mouth, pose: (N, 512) features before E's `mouth_embed`, and (N, 12) codes.
    """
    style = torch.cat([identity, networks["E"].mouth_embed(mouth), pose], dim=1)  # (N, 2560)
    return networks["G"](start, style, noise)


def _probed(made: Mapping[str, Tensor], true: Mapping[str, Tensor], count: int) -> dict[str, float]:
    """Correlation of what a probe reads off generated and true frames, (B * count) each.

    `probe_`: over all frames, which a G does well that copies the pose of each reference. `follows_`: of the steps from
    one frame of an item to its next, which it does not.
    """
    figures = {}
    for name in QUANTITIES:
        pair = torch.stack([made[name], true[name]])  # (2, B * count)
        figures[f"val/probe_{name}"] = float(torch.corrcoef(pair)[0, 1])
        if count > 1:
            figures[f"val/follows_{name}"] = _followed(pair, count)
    return figures | {"val/probe_identity": float((made["identity"] * true["identity"]).sum(dim=1).mean())}


def _followed(pair: Tensor, count: int) -> float:
    """Correlation of two rows' steps, (2, B * count), from one frame of an item to its next."""
    return float(torch.corrcoef(pair.unflatten(1, (-1, count)).diff().flatten(1))[0, 1])


def _detail(images: Tensor) -> Tensor:
    """How much finer structure there is than 2 pixels: the mean size of what a 2 x 2 mean takes away."""
    return (images - F.interpolate(F.avg_pool2d(images, 2), scale_factor=2)).abs().mean()
