"""What all training stages share: which parameters move, how a batch gets to the device, and one optimiser step.

A stage is an `nn.Module` that holds its networks; its `forward` takes a batch and returns unweighted losses, so that
DistributedDataParallel can wrap it. The adversary, where there is one, is a second such module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from options.config import TrainConfig
from util.images import tensor_to_unit_range

Batch = Mapping[str, Any]
Gather = Callable[[Tensor], Tensor]

# parts of networks that no stage and no inference uses, by letter: prefixes of parameter names
UNUSED = {
    "V": ("model.fc.",),
    "E": ("classifier.", "mouth_fc.", "headpose_fc."),
    "A_sync": ("fc.",),
    "G": ("style.",),
}
# what --fix_netE, --fix_netE_mouth and --fix_netE_headpose freeze
E_PARTS = {
    "E": ("model.",),
    "E_mouth": ("to_mouth.", "mouth_embed."),
    "E_headpose": ("to_headpose.", "headpose_embed."),
}


@dataclass
class StepOutput:
    """What a stage makes of a batch: losses by name (`G/gan`), and whatever the adversary or a picture page needs."""

    losses: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)


class Adversary(nn.Module, ABC):
    """The second player of a stage: trained on what the stage made, with its own optimiser."""

    @property
    @abstractmethod
    def weights(self) -> dict[str, float]:
        """Weight of every loss; the keys are those of `forward`."""

    @abstractmethod
    def set_trainable(self, trainable: bool) -> None:
        """Whether backward reaches its parameters; off during the stage's own step."""

    def parameters_to_train(self) -> Iterator[tuple[str, nn.Parameter]]:
        """(`adversary.name`, parameter) of everything its optimiser moves, while it is trainable."""
        return ((f"adversary.{name}", p) for name, p in self.named_parameters() if p.requires_grad)


class Stage(nn.Module, ABC):
    """One stage of training.

    Args:
        networks: by letter, those of `config.letters`; all but D are the stage's own, D is its adversary's.
        config: of the run.
        gather: (B, D) -> (ranks * B, D), rows of all ranks with gradients; the identity on one device.
        measures: networks that are not trained but measure pictures: `vgg`, `vggface`, `probe`.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        config: TrainConfig,
        gather: Gather = lambda rows: rows,
        measures: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.gather = gather
        self.networks = nn.ModuleDict({letter: networks[letter] for letter in config.letters if letter != "D"})
        self.measures = nn.ModuleDict(measures or {}).requires_grad_(False)
        for letter, network in self.networks.items():
            network.requires_grad_(True)
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

    @property
    def adversary(self) -> Adversary | None:
        """The module trained against this one, if any."""
        return None

    def adversary_inputs(self, output: StepOutput, batch: Batch) -> tuple[Any, ...]:
        """Arguments of the adversary's `forward` for what the stage made of a batch."""
        raise NotImplementedError

    def count_images(self, batch: Batch) -> int:
        """How many images the speed in the log counts: generated ones, or those an encoder sees."""
        name = "augmented" if "augmented" in batch else "reference"
        return batch[name].shape[:-3].numel()

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, float]:
        """Measures on a held-out batch, averaged by the caller; the networks are in eval mode."""
        del batch
        return {}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Columns of the picture page: label -> (B, 3, H, W) in [-1, 1]."""
        del batch
        return {}

    def unused(self, letter: str) -> tuple[str, ...]:
        """Prefixes of a network's parameters that this stage does not reach."""
        return UNUSED.get(letter, ())

    def parameters_to_train(self) -> Iterator[tuple[str, nn.Parameter]]:
        """(`letter.name`, parameter) of everything the stage's optimiser moves."""
        for letter, network in self.networks.items():
            yield from ((f"{letter}.{name}", p) for name, p in network.named_parameters() if p.requires_grad)

    def train(self, mode: bool = True) -> Stage:
        """Training mode, except for frozen networks: their batch-norm statistics stay."""
        super().train(mode)
        for letter, network in self.networks.items():
            if letter in self.config.frozen and letter != "E":
                network.eval()
            elif letter == "E":
                trunk = network.get_submodule("model")
                trunk.train(mode and "E" not in self.config.frozen)
        return self

    def _freeze(self, letter: str, network: nn.Module) -> None:
        frozen = list(self.unused(letter))  # prefixes of names
        if letter == "E":
            for part, names in E_PARTS.items():
                frozen += names if part in self.config.frozen else ()
        elif letter in self.config.frozen:
            frozen.append("")
        for name, parameter in network.named_parameters():
            if name.startswith(tuple(frozen)):
                parameter.requires_grad_(False)


def to_device(batch: Batch, device: torch.device) -> dict[str, Any]:
    """Sends a batch; pictures become float32 in [-1, 1], see `util.images`."""
    sent: dict[str, Any] = {}
    for name, value in batch.items():
        there = value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        is_picture = isinstance(there, Tensor) and there.dtype == torch.uint8
        sent[name] = tensor_to_unit_range(there) if is_picture else there
    return sent


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The scalar that is differentiated."""
    return torch.stack([weights[name] * loss.float() for name, loss in losses.items()]).sum()


def retrieval_accuracy(queries: Tensor, candidates: Tensor) -> float:
    """Share of rows whose nearest candidate (cosine) is their own partner.

    Args:
        queries, candidates: (N, D), row i of one belongs to row i of the other.
    """
    similarity = nn.functional.normalize(queries, dim=1) @ nn.functional.normalize(candidates, dim=1).T
    return float((similarity.argmax(dim=1) == torch.arange(len(queries), device=queries.device)).float().mean())


def identity_retrieval(faces: Any, references: Tensor) -> dict[str, float]:
    """Whether two frames of one video find each other among those of all videos of the batch.

    Args:
        faces: V.
        references: (B, N, 3, S, S); with fewer than two frames each there is nothing to find.
    """
    if references.shape[1] < 2:
        return {}
    first, second = faces(references[:, :1])[0], faces(references[:, 1:2])[0]
    return {"val/identity_retrieval": retrieval_accuracy(first.float(), second.float())}
