"""V: who a face is, from reference images; RGB in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.layers import resize_to

_EXPANSION = 4


class Bottleneck(nn.Module):
    """ResNeXt bottleneck: 1x1, grouped 3x3, 1x1, each with batch norm, and a shortcut."""

    def __init__(self, in_channels: int, planes: int, inner: int, groups: int, stride: int) -> None:
        super().__init__()
        out_channels = planes * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNeXt(nn.Module):
    """ResNeXt trunk with torchvision's key names; 50 layers of 32x4d by default.

    Written out because torchvision's class fixes the stem at 64 channels, and a small model needs a narrow one.

    Args:
        layers: blocks per stage.
        groups, group_width: of the 3x3 convolutions in the first stage, for a stem of 64 channels.
        stem_pool: max-pool behind the stem; without it the feature map is twice as large.
    """

    def __init__(
        self, layers: Sequence[int], width: int, groups: int, group_width: int, stem_pool: bool = True
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        in_channels = width
        for stage, blocks in enumerate(layers):
            planes = width * 2**stage
            inner = groups * group_width * 2**stage
            stage_blocks = []
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 0 else 1
                stage_blocks.append(Bottleneck(in_channels, planes, inner, groups, stride))
                in_channels = planes * _EXPANSION
            setattr(self, f"layer{stage + 1}", nn.Sequential(*stage_blocks))
        self.num_stages = len(layers)
        self.stem_pool = stem_pool
        self.out_channels = in_channels
        self.fc = nn.Linear(in_channels, 1000)  # ImageNet's classes: in the checkpoints, never used
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 32 * width, H / 32, W / 32), or twice the size without the max-pool."""
        return self.levels(x)[-1]

    def levels(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the stem's features and those of every stage, the largest first."""
        x = F.relu(self.bn1(self.conv1(x)))
        outputs = [x]
        if self.stem_pool:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(self.num_stages):
            x = getattr(self, f"layer{stage + 1}")(x)
            outputs.append(x)
        return outputs


class IdentityEncoder(nn.Module):
    """Identity vector and identity map of reference images.

    Args:
        map_size: side of the identity map, the generator's smallest resolution.
        image_size: side that images are resized to first; None takes them as they come.
        skips: channels taken from the stages before the last, the nearest first, at 2, 4 ... times the map's side. They
            come folded into the map, 4, 16 ... channels for each; `Generator` unfolds them.

    Source: Zhou et al. 2021, section 3.2.
    """

    def __init__(
        self,
        num_classes: int = 5830,
        map_channels: int = 512,
        map_size: int = 7,
        layers: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        groups: int = 32,
        group_width: int = 4,
        image_size: int | None = None,
        stem_pool: bool = True,
        skips: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.model = ResNeXt(layers, width, groups, group_width, stem_pool)
        self.conv1x1 = nn.Conv2d(self.model.out_channels, map_channels, 1)
        self.fc = nn.Linear(self.model.out_channels, num_classes)
        self.skips = nn.ModuleList(
            nn.Conv2d(self.model.out_channels // 2**level, channels, 1) for level, channels in enumerate(skips, start=1)
        )
        self.map_size = map_size

    def forward(self, references: Tensor) -> tuple[Tensor, Tensor]:
        """N images a person (B, N, 3, H, W) in [-1, 1], RGB -> mean vectors (B, 2048) and maps (B, 512, 7, 7)."""
        batch, count = references.shape[:2]
        images = resize_to(references.flatten(0, 1), self.image_size)  # (B, N, 3, H, W) -> (B*N, 3, S, S)
        levels = self.model.levels(images)
        vector = levels[-1].mean(dim=(2, 3))  # of (B*N, 2048, S/32, S/32)
        identity_map = self.map_of(levels, F.adaptive_avg_pool2d)
        return vector.unflatten(0, (batch, count)).mean(dim=1), identity_map.unflatten(0, (batch, count)).mean(dim=1)

    def map_of(self, levels: Sequence[Tensor], pool: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Of the trunk's levels, the identity map with what the skips add: (N, 512, 7, 7) without any.

        pool: (N, C, h, h) and a side -> (N, C, side, side), as `F.adaptive_avg_pool2d`.
        """
        parts = [pool(self.conv1x1(levels[-1]), self.map_size)]
        for level, skip in enumerate(self.skips, start=1):
            fine = pool(skip(levels[-1 - level]), self.map_size * 2**level)
            parts.append(F.pixel_unshuffle(fine, 2**level))  # (N, C, 7 * 2^k, 7 * 2^k) -> (N, C * 4^k, 7, 7)
        return torch.cat(parts, dim=1) if self.skips else parts[0]

    def classify(self, vector: Tensor) -> Tensor:
        """(B, 2048) -> speaker scores (B, num_classes)."""
        return self.fc(vector)
