"""Starting weights of encoders that are trained from nothing.

torch's defaults shrink what varies from layer to layer and let constants lead: the ReLU behind the hourglass's last map
then falls silent within a hundred steps, all features become alike, and the contrastive loss stays at log(batch). G
starts as StyleGAN2 does, and with other scales inside its output vanishes; only the colours it begins with are
softer, see `models.trainers.build.soften`.
"""

from __future__ import annotations

import torch
from torch import nn


def he_init(module: nn.Module) -> None:
    """He-normal weights (He et al. 2015) and zero biases in every convolution and linear layer below `module`."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def centre(*layers: nn.Module) -> None:
    """Takes the mean off each filter, for layers behind a ReLU.

    All their inputs are positive. Without this, what they have in common outweighs what tells them apart: a ReLU that
    follows may fall silent, and cosines between features of different frames start near 1.
    """
    for layer in layers:
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        axes = tuple(range(1, layer.weight.dim()))
        layer.weight -= layer.weight.mean(dim=axes, keepdim=True)
