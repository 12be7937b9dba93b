"""The probe: reads head pose (degrees), mouth, blink and an identity code off a frame of a synthetic head.

It measures what a generator made; it takes no part in generating. Trained by scripts/train_probe.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.layers import resize_to

IMAGE_SIZE = 112  # pixels; what the probe looks at
IDENTITY_DIM = 64
# How much a quantity usually differs from its mean: the network's outputs are in these units.
SCALES = {"yaw": 12.0, "pitch": 7.0, "roll": 4.5, "opening": 0.3, "width": 0.45, "blink": 0.3}
QUANTITIES = tuple(SCALES)
_WIDTHS = (16, 32, 64, 64, 128, 128)
_STRIDES = (2, 2, 2, 1, 2, 1)  # 112 -> 7
_SQUEEZED, _HIDDEN = 24, 160


def _block(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


class Probe(nn.Module):
    """A small convolutional regressor; 0.49 M parameters.

    The squeezed map is flattened rather than averaged, because where an edge lies is what tells a pose.
    """

    scales: Tensor

    def __init__(self) -> None:
        super().__init__()
        blocks = zip((3, *_WIDTHS[:-1]), _WIDTHS, _STRIDES, strict=True)
        self.trunk = nn.Sequential(*(_block(*sizes) for sizes in blocks))
        self.squeeze = nn.Sequential(nn.Conv2d(_WIDTHS[-1], _SQUEEZED, 1, bias=False), nn.BatchNorm2d(_SQUEEZED))
        self.hidden = nn.Linear(_SQUEEZED * 7**2, _HIDDEN)
        self.quantities = nn.Linear(_HIDDEN, len(QUANTITIES))
        self.identity = nn.Linear(_WIDTHS[-1] + _HIDDEN, IDENTITY_DIM)
        self.register_buffer("scales", torch.tensor(list(SCALES.values())), persistent=False)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Reads frames (B, 3, H, W) in [-1, 1], RGB, the part of a frame that `data.frames.crop_template` gives.

        Returns:
            each of QUANTITIES as (B,), in the units of `data.synthetic.clips.FaceState`, and `identity` (B, 64) of unit
            length: the cosine of two says how alike the people are.
        """
        features, hidden = self._describe(frames)
        values = self.quantities(hidden) * self.scales  # (B, 6)
        code = self.identity(torch.cat([features, hidden], dim=1))  # (B, 64)
        readings = dict(zip(QUANTITIES, values.unbind(dim=1), strict=True))
        readings["identity"] = F.normalize(code, dim=1)
        return readings

    def features(self, frames: Tensor) -> Tensor:
        """What everything is read from, (B, 128 + 160): for a Fréchet distance between sets of frames (B, 3, H, W)."""
        return torch.cat(self._describe(frames), dim=1)

    def _describe(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(resize_to(frames, IMAGE_SIZE))  # (B, 128, 7, 7)
        hidden = F.relu(self.hidden(F.relu(self.squeeze(features)).flatten(1)))  # (B, 24*7*7) -> (B, 160)
        return features.mean(dim=(2, 3)), hidden
