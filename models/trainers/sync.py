"""Stage 2: A_sync hears and E sees what is said; clips (B, K, T, ...) of T frames, K of each video."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.losses import contrastive_loss, standard_loss
from models.networks.probe import SCALES
from models.trainers.base import Batch, Stage, StepOutput, retrieval_accuracy
from options.config import LossConfig
from util.distributed import gather_with_gradient

_MOUTH, _POSE = ("opening", "width"), ("yaw", "pitch", "roll", "blink")  # of a probe's readings
_POSE_GAIN = 12.0  # four of the 640 numbers of a style: at 3 G took in a third of a turn


class SyncStage(Stage):
    """Contrasts sound and picture in both directions.

    Source: Zhou et al. 2021, section 3.3; docs/how_it_works.md section 6, point 2.
    """

    @property
    def weights(self) -> dict[str, float]:
        return sync_weights(self.config.loss)

    def unused(self, letter: str) -> tuple[str, ...]:
        if letter != "E":
            return super().unused(letter)
        pose = () if self.config.loss.lambda_readings > 0 else ("to_headpose.", "headpose_embed.")
        return (*super().unused(letter), "mouth_embed.", *pose)

    def forward(self, batch: Batch) -> StepOutput:
        speech, features = self._encode(batch)
        encoder = self.network("E")
        mouth = encoder.to_mouth(features)
        losses = sync_losses(speech, mouth, batch["mel"].shape[2], self.config.loss)
        if "attributes" in self.measures:  # a plan has no measures
            pose = encoder.headpose_embed(encoder.to_headpose(features))
            read = self.measures["attributes"]
            losses["sync/readings"] = readings_loss(speech, mouth, pose, read, batch["augmented"])
        return StepOutput(losses)

    def validate(self, batch: Batch) -> dict[str, float]:
        """Retrieval among the clips of the batch, from sound to picture and back."""
        speech, features = self._encode(batch)
        return sync_retrieval(speech, self.network("E").to_mouth(features), batch["mel"].shape[2])

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What A_sync hears and what E sees in every frame, (B*K*T, D) each."""
        return self.network("A_sync")(batch["mel"].flatten(0, 2)), self.network("E")(batch["augmented"].flatten(0, 2))


def sync_weights(loss: LossConfig) -> dict[str, float]:
    """Weights of `sync_losses` and `readings_loss`."""
    return {
        "sync/contrastive": loss.lambda_contrastive,
        "sync/cross_modal": loss.lambda_cross_modal,
        "sync/standard": loss.lambda_standard,
        "sync/readings": loss.lambda_readings,
    }


def sync_losses(speech: Tensor, mouth: Tensor, clip_len: int, loss: LossConfig) -> dict[str, Tensor]:
    """Contrastive loss of whole clips in both directions; what else of the two has a weight.

    Args:
        speech, mouth: (clips * clip_len, D) features frame by frame; the clips of all ranks come together.
        clip_len: frames of a clip; their features are concatenated.
    """
    # (B*K*T, D) -> (clips, T*D)
    heard, seen = (gather_with_gradient(x.float().reshape(-1, clip_len * x.shape[1])) for x in (speech, mouth))
    form, temperature = loss.contrastive_form, loss.temperature
    both_ways = contrastive_loss(heard, seen, form, temperature) + contrastive_loss(seen, heard, form, temperature)
    losses = {"sync/contrastive": both_ways / 2}
    if loss.lambda_cross_modal > 0:
        losses["sync/cross_modal"] = F.l1_loss(mouth.float(), speech.float())
    if loss.lambda_standard > 0:
        losses["sync/standard"] = (standard_loss(heard) + standard_loss(seen)) / 2
    return losses


def readings_loss(speech: Tensor, mouth: Tensor, pose: Tensor, probe: nn.Module, frames: Tensor) -> Tensor:
    """Mean squared distance of the first numbers of all three from what a probe reads of the frames.

    The contrastive loss begins at chance and stays there for long, and with nothing else to see E may fall silent for
    good. This gives all of them something to say at once.

    Args:
        speech, mouth: (N, D) features frame by frame, for opening and width.
        pose: (N, P) pose codes, for yaw, pitch, roll and blink as far as P goes.
        frames: (..., 3, S, S), N in all, as E sees them.
    """
    with torch.no_grad():
        readings = probe(frames.flatten(0, -4).float())
    distances = []
    for values, names in ((speech, _MOUTH), (mouth, _MOUTH), (pose / _POSE_GAIN, _POSE[: pose.shape[1]])):
        read = torch.stack([readings[name] / SCALES[name] for name in names], dim=1)  # (N, 2) or (N, 4)
        distances.append(F.mse_loss(values[:, : len(names)].float(), read))
    return torch.stack(distances).mean()


@torch.no_grad()
def sync_retrieval(speech: Tensor, mouth: Tensor, clip_len: int) -> dict[str, float]:
    """Accuracy of finding a clip's partner in the other modality among the clips of the batch."""
    heard, seen = (x.float().reshape(-1, clip_len * x.shape[1]) for x in (speech, mouth))
    return {
        "val/sync_sound_to_picture": retrieval_accuracy(heard, seen),
        "val/sync_picture_to_sound": retrieval_accuracy(seen, heard),
    }
