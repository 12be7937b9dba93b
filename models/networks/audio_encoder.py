"""A_sync and A: what is said, and who says it, from log-mel images (B, 1, mel bands, mel bins) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.init import centre, he_init

_SE_REDUCTION = 8
_ATTENTION_CHANNELS = 128


class SqueezeExcitation(nn.Module):
    """Scales every channel by a gate computed from all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // _SE_REDUCTION),
            nn.ReLU(),
            nn.Linear(channels // _SE_REDUCTION, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean(dim=(2, 3)))[:, :, None, None]


class SEBlock(nn.Module):
    """Residual block in the published order: conv - ReLU - BN, conv - BN - gate, add, ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = SqueezeExcitation(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(F.relu(self.conv1(x)))
        x = self.se(self.bn2(self.conv2(x)))
        return F.relu(x + shortcut)


class SEResNet(nn.Module):
    """SE-ResNet-34 with self-attentive pooling over time; `layers` and `filters` are blocks and channels per stage."""

    def __init__(self, num_mel_bands: int, out_dim: int, layers: Sequence[int], filters: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, filters[0], 3, padding=1)
        self.bn1 = nn.BatchNorm2d(filters[0])
        in_channels, height = filters[0], num_mel_bands
        for stage, (blocks, channels) in enumerate(zip(layers, filters, strict=True)):
            stage_blocks = []
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 0 else 1
                stage_blocks.append(SEBlock(in_channels, channels, stride))
                in_channels = channels
                height = -(-height // stride)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*stage_blocks))
        self.num_stages = len(layers)
        pooled = in_channels * height
        self.attention = nn.Sequential(
            nn.Conv1d(pooled, _ATTENTION_CHANNELS, 1),
            nn.ReLU(),
            nn.BatchNorm1d(_ATTENTION_CHANNELS),
            nn.Conv1d(_ATTENTION_CHANNELS, pooled, 1),
            nn.Softmax(dim=2),
        )
        self.fc = nn.Linear(pooled, out_dim)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 1, mel bands, mel bins) -> (B, out_dim)."""
        x = self.bn1(F.relu(self.conv1(mel)))
        for stage in range(self.num_stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        x = x.flatten(1, 2)  # (B, 256, 10, 3) -> (B, 2560, 3)
        return self.fc(torch.sum(x * self.attention(x), dim=2))


class AudioEncoder(nn.Module):
    """Speech content (A_sync, out_dim 512) or identity (A, out_dim 2048) from sound.

    A sees n_mel_T windows stacked: num_mel_bands is 4 * 80 for it.

    Source: Zhou et al. 2021, section 3.2; SE-ResNet-34 of Chung et al. 2020.
    """

    def __init__(
        self,
        num_classes: int = 5830,
        num_mel_bands: int = 80,
        out_dim: int = 512,
        layers: Sequence[int] = (3, 4, 6, 3),
        filters: Sequence[int] = (32, 64, 128, 256),
    ) -> None:
        super().__init__()
        self.model = SEResNet(num_mel_bands, out_dim, layers, filters)
        self.fc = nn.Linear(out_dim, num_classes)
        he_init(self)
        centre(self.model.fc)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 1, num_mel_bands, bins) -> (B, out_dim)."""
        return self.model(mel)

    def classify(self, feature: Tensor) -> Tensor:
        """(B, out_dim) -> (B, num_classes)."""
        return self.fc(feature)
