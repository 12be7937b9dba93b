"""Where the weights of the perceptual losses come from."""

from __future__ import annotations

from pathlib import Path

import torch

from models.networks.perceptual import VGG19Features
from util.errors import CheckpointError
from util.torchvision_compat import ensure_torchvision


def load_vgg19(path: Path | None, flag: str = "--vgg_path") -> VGG19Features:
    """VGG19 with pretrained weights, from a file or from torchvision's cache (which may download).

    Args:
        path: a state dict in torchvision's layout; None asks torchvision.
        flag: that the error names.

    Raises:
        CheckpointError: no weights to be had; says how to train without.
    """
    ensure_torchvision()
    from torchvision.models import VGG19_Weights, vgg19

    try:
        if path is None and flag == "--vgg_path":
            return VGG19Features(vgg19(weights=VGG19_Weights.IMAGENET1K_V1).features)
        if path is None:
            raise CheckpointError(f"give {flag}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        features = vgg19(weights=None).features
        features.load_state_dict({k.removeprefix("features."): v for k, v in state.items() if "classifier" not in k})
    except Exception as error:  # no network, a damaged file, other keys: all mean that there are no weights
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"weights for the perceptual loss: {reason}; give {flag} FILE (torchvision's vgg19-dcbb9e9d.pth), "
            "or train without with --no_vgg_loss"
        ) from error
    return VGG19Features(features)
