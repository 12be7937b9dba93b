"""What all training stages share: which parameters move, how a batch gets to the device, and one optimiser step.

A stage is an `nn.Module` that holds its networks; its `forward` takes a batch and returns unweighted losses, so that
DistributedDataParallel can wrap it. The adversary, where there is one, is a second such module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.losses import gan_loss, gradient_penalty
from options.config import TrainConfig
from util.images import tensor_to_unit_range

Batch = Mapping[str, Any]

# parts of networks that no stage and no inference uses, by letter: prefixes of parameter names
UNUSED = {
    "V": ("model.fc.",),
    "E": ("classifier.", "mouth_fc.", "headpose_fc."),
    "A_sync": ("fc.",),
    "G": ("style.",),
}
IDENTITY_MAP = ("conv1x1.", "skips.")  # of V
# what --fix_netE, --fix_netE_mouth and --fix_netE_headpose freeze
E_PARTS = {
    "E": ("model.",),
    "E_mouth": ("to_mouth.", "mouth_embed."),
    "E_headpose": ("to_headpose.", "headpose_embed."),
}
_R1_SHARE = 4  # every so many-th true image of a batch bears the gradient penalty, which is dear


@dataclass
class StepOutput:
    """What a stage makes of a batch: losses by name (`G/gan`), and the adversary's arguments, if there is one."""

    losses: dict[str, Tensor]
    for_adversary: tuple[Tensor | None, ...] = ()


class Adversary(nn.Module):
    """The second player of a stage, trained on what the stage made, with its own optimiser.

    D, and with `--train_dis_pose` the classifier that tries to tell the word (or speaker) from the head's motion.
    """

    def __init__(self, discriminator: nn.Module, headpose_classifier: nn.Module | None, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.discriminator = discriminator
        self.headpose_classifier = headpose_classifier
        self.set_trainable(False)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every loss."""
        return {"D/fake": 1.0, "D/real": 1.0, "D/r1": self.config.loss.lambda_r1, "D/headpose": 1.0}

    def set_trainable(self, trainable: bool) -> None:
        """Whether backward reaches its parameters; off during the stage's own step."""
        self.discriminator.requires_grad_(trainable and "D" not in self.config.frozen)
        if self.headpose_classifier is not None:
            self.headpose_classifier.requires_grad_(trainable)

    def draw_corner(self, images: Tensor) -> tuple[int, int]:
        """Where D's first level looks, in pictures (N, 3, S, S)."""
        corner: tuple[int, int] = self.discriminator.draw_corner(images.shape[-1])  # type: ignore[operator]
        return corner

    def parameters_to_train(self) -> Iterator[tuple[str, nn.Parameter]]:
        """(`adversary.name`, parameter) of everything its optimiser moves, while it is trainable."""
        return ((f"adversary.{name}", p) for name, p in self.named_parameters() if p.requires_grad)

    def forward(self, fake: Tensor, real: Tensor, motion: Tensor | None, labels: Tensor) -> StepOutput:
        """Losses of telling true frames from generated ones.

        Args:
            fake, real: (N, 3, S, S).
            motion: (B, clip_len * pose_dim) pose codes of whole clips; None without a classifier.
            labels: (B,).
        """
        mode = self.config.loss.gan_mode
        corner = self.draw_corner(real)
        scores = [levels[-1] for levels in self.discriminator(torch.cat([fake, real]), corner)]
        count = len(fake)
        losses = {
            "D/fake": gan_loss([s[:count] for s in scores], False, True, mode),
            "D/real": gan_loss([s[count:] for s in scores], True, True, mode),
        }
        if self.config.loss.lambda_r1 > 0:
            losses["D/r1"] = self._gradient_penalty(real[::_R1_SHARE])
        if self.headpose_classifier is not None:
            losses["D/headpose"] = F.cross_entropy(self.headpose_classifier(motion).float(), labels)
        return StepOutput(losses)

    def _gradient_penalty(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # gradients of gradients are too small for 16 bits
            images = images.float().requires_grad_()
            scores = [levels[-1] for levels in self.discriminator(images, self.draw_corner(images))]
            return gradient_penalty(scores, images)


class Stage(nn.Module, ABC):
    """One stage of training.

    Args:
        networks: by letter, those of `config.letters`; all but D are the stage's own, D is its adversary's.
        measures: networks that are not trained but measure pictures, see `load_measures`.
    """

    adversary: Adversary | None  # what is trained against this stage

    def __init__(
        self, networks: Mapping[str, nn.Module], config: TrainConfig, measures: Mapping[str, nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.adversary = None
        self.networks = nn.ModuleDict({letter: networks[letter] for letter in config.letters if letter != "D"})
        self.measures = nn.ModuleDict(measures or {}).requires_grad_(False)
        for letter, network in self.networks.items():
            self._freeze(letter, network)

    def network(self, letter: str) -> Any:
        """A network by its letter; Any, because stages call heads that only some networks have."""
        return self.networks[letter]

    @property
    @abstractmethod
    def weights(self) -> dict[str, float]:
        """Weight of every loss; the keys are those of `forward`."""

    @abstractmethod
    def forward(self, batch: Batch) -> StepOutput:
        """Unweighted losses of a batch that lies on the device."""

    def count_images(self, batch: Batch) -> int:
        """How many images the speed in the log counts: generated ones, or those an encoder sees."""
        name = "augmented" if "augmented" in batch else "reference"
        return batch[name].shape[:-3].numel()

    @abstractmethod
    def validate(self, batch: Batch) -> dict[str, float]:
        """Measures on a held-out batch, averaged by the caller; the networks are in eval mode."""

    def pictures(self, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """Columns of the picture page: label -> (B, 3, H, W) in [-1, 1]; none by default."""
        return {}

    def unused(self, letter: str) -> tuple[str, ...]:
        """Prefixes of a network's parameters that this stage does not reach."""
        return UNUSED.get(letter, ())

    def parameters_to_train(self) -> Iterator[tuple[str, nn.Parameter]]:
        """(`letter.name`, parameter) of everything the stage's optimiser moves."""
        for letter, network in self.networks.items():
            yield from ((f"{letter}.{name}", p) for name, p in network.named_parameters() if p.requires_grad)

    def train(self, mode: bool = True) -> Stage:
        """Training mode, except for frozen networks and measures: their batch-norm statistics stay."""
        super().train(mode)
        self.measures.eval()
        for letter, network in self.networks.items():
            if letter in self.config.frozen:
                (network.get_submodule("model") if letter == "E" else network).eval()
        return self

    def _freeze(self, letter: str, network: nn.Module) -> None:
        frozen = list(self.unused(letter))  # prefixes of names
        if letter == "E":
            for part, names in E_PARTS.items():
                frozen += names if part in self.config.frozen else ()
        elif letter in self.config.frozen:
            frozen.append("")
        moving = self.config.moving or ("",)
        for name, parameter in network.named_parameters():
            moves = not name.startswith(tuple(frozen)) and f"{letter}.{name}".startswith(moving)
            parameter.requires_grad_(moves)


def to_device(batch: Batch, device: torch.device) -> dict[str, Any]:
    """Sends a batch; pictures become float32 in [-1, 1], see `util.images`."""
    sent = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
    pictures = {k: v for k, v in sent.items() if isinstance(v, Tensor) and v.dtype == torch.uint8}
    return sent | {k: tensor_to_unit_range(v) for k, v in pictures.items()}


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The scalar that is differentiated."""
    return torch.stack([weights[name] * loss.float() for name, loss in losses.items()]).sum()


def retrieval_accuracy(queries: Tensor, candidates: Tensor) -> float:
    """Share of rows whose nearest candidate (cosine) is their own partner.

    Args:
        queries, candidates: (N, D), row i of one belongs to row i of the other.
    """
    similarity = F.normalize(queries, dim=1) @ F.normalize(candidates, dim=1).T
    return float((similarity.argmax(dim=1) == torch.arange(len(queries), device=queries.device)).float().mean())


def identity_retrieval(faces: Any, references: Tensor) -> dict[str, float]:
    """Whether two frames of one video find each other, by V (`faces`), among those of all videos of the batch.

    Args:
        references: (B, N, 3, S, S) with at least two frames each.
    """
    first, second = faces(references[:, :1])[0], faces(references[:, 1:2])[0]
    return {"val/identity_retrieval": retrieval_accuracy(first.float(), second.float())}
