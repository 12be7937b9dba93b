"""Starting weights: features that differ from frame to frame, and no dead ReLU."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from models.networks.init import centre, he_init
from models.registry import build_network
from options.config import NetworkConfig
from tests.conftest import TINY

SMALL = NetworkConfig(crop_size=56, num_classes=4, feature_dim=64, hourglass_channels=32, hourglass_depth=2)


def spread(features: torch.Tensor) -> float:
    """What differs between rows, relative to what they have in common."""
    return float((features - features.mean(dim=0)).norm() / features.norm())


def test_pose_encoder_starts_with_live_units_and_different_features():
    torch.manual_seed(0)
    encoder = build_network("E", SMALL)
    seen = {}
    encoder.model.conv6.register_forward_hook(lambda module, inputs, output: seen.update(maps=output))
    with torch.no_grad():
        features = encoder(torch.rand(16, 3, 56, 56) * 2 - 1)
        mouth = encoder.to_mouth(features)
    assert 0.3 < float((seen["maps"] > 0).float().mean()) < 0.7
    assert spread(features) > 0.5
    assert spread(mouth) > 0.5


def test_speech_encoder_starts_with_different_features():
    torch.manual_seed(0)
    encoder = build_network("A_sync", dataclasses.replace(TINY, audio_filters=(16, 16, 32, 32)))
    with torch.no_grad():
        assert spread(encoder(torch.rand(16, 1, 80, 20))) > 0.3


def test_he_init_scales_weights_by_inputs_and_zeroes_biases():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(8, 64, 3), nn.Linear(200, 300))
    he_init(layers)
    assert abs(float(layers[0].weight.detach().std()) - (2 / 72) ** 0.5) < 0.01
    assert abs(float(layers[1].weight.detach().std()) - (2 / 200) ** 0.5) < 0.002
    assert not layers[0].bias.any()
    assert not layers[1].bias.any()


def test_centre_takes_the_mean_off_each_filter():
    torch.manual_seed(0)
    layer = nn.Linear(10, 3)
    centre(layer)
    torch.testing.assert_close(layer(torch.full((1, 10), 7.0)), layer.bias[None], atol=1e-5, rtol=0)
