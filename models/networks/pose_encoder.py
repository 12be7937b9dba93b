"""E: what a face does, freed of who it is; a frame in, a 512-vector and the codes of mouth and head pose out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.init import centre, he_init
from models.networks.layers import resize_to

_LANDMARK_MAPS = 68


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv3x3 three times, to 1/2, 1/4 and 1/4 of the output channels, concatenated, plus the input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half, quarter = out_channels // 2, out_channels // 4
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(quarter)
        self.conv3 = nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, out_channels, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        first = self.conv1(F.relu(self.bn1(x)))
        second = self.conv2(F.relu(self.bn2(first)))
        third = self.conv3(F.relu(self.bn3(second)))
        return torch.cat([first, second, third], dim=1) + shortcut


class Hourglass(nn.Module):
    """Hourglass of `depth` levels: each adds a full-resolution branch and one at half the resolution."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        for level in range(depth, 0, -1):
            self.add_module(f"b1_{level}", PreActivationBlock(channels, channels))
            self.add_module(f"b2_{level}", PreActivationBlock(channels, channels))
        self.b2_plus_1 = PreActivationBlock(channels, channels)
        for level in range(1, depth + 1):
            self.add_module(f"b3_{level}", PreActivationBlock(channels, channels))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self._level(self.depth, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        upper = self.dropout(getattr(self, f"b1_{level}")(x))
        lower = getattr(self, f"b2_{level}")(F.max_pool2d(x, 2))
        lower = self._level(level - 1, lower) if level > 1 else self.b2_plus_1(lower)
        lower = getattr(self, f"b3_{level}")(lower)
        return upper + F.interpolate(lower, size=upper.shape[-2:], mode="bilinear", align_corners=False)


class FaceAlignmentNet(nn.Module):
    """One-stack FAN that ends in a feature vector. Source: Bulat and Tzimiropoulos 2017 for the trunk."""

    def __init__(self, image_size: int, out_dim: int, channels: int, depth: int) -> None:
        super().__init__()
        stem = channels // 4
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = PreActivationBlock(stem, channels // 2)
        self.conv3 = PreActivationBlock(channels // 2, channels // 2)
        self.conv4 = PreActivationBlock(channels // 2, channels)
        self.m0 = Hourglass(channels, depth)
        self.top_m_0 = PreActivationBlock(channels, channels)
        self.conv_last0 = nn.Conv2d(channels, channels, 1)
        self.l0 = nn.Conv2d(channels, _LANDMARK_MAPS, 1)
        self.bn_end0 = nn.BatchNorm2d(channels)
        self.conv6 = nn.Conv2d(_LANDMARK_MAPS, 1, 3, stride=2, padding=1)
        map_size = (image_size // 4 + 1) // 2  # 28 at 224 px
        self.fc = nn.Linear(map_size**2, out_dim)
        self.bn5 = nn.BatchNorm2d(_LANDMARK_MAPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, out_dim)."""
        x = self.levels(x)[-1]
        x = F.relu(self.bn_end0(self.conv_last0(x)))
        x = F.relu(self.bn5(self.l0(x)))  # (B, 68, S/4, S/4)
        x = self.conv6(x)  # (B, 1, S/8, S/8)
        return self.fc(F.relu(x.flatten(1)))

    def levels(self, x: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> features before the hourglass, (B, 128, S/2, S/2) and (B, 256, S/4, S/4), and behind it."""
        x = F.relu(self.bn1(self.conv1(x)))  # (B, 64, S/2, S/2)
        fine = self.conv2(x)
        coarse = self.conv4(self.conv3(F.max_pool2d(fine, 2)))
        return [fine, coarse, self.top_m_0(self.m0(coarse))]


class PoseEncoder(nn.Module):
    """The space without identity, and the heads that split it into mouth and head pose.

    Args:
        pose_dim: length of the head-pose code; the mouth code takes what is left of feature_dim.
        num_classes, clip_len: of the confusion heads; frames they see together.
        image_size: side of the frame the trunk sees; frames of another size are resized to it.
        channels, depth: of the hourglass.

    Source: Zhou et al. 2021, section 3.2.
    """

    def __init__(
        self,
        pose_dim: int = 12,
        num_classes: int = 5830,
        clip_len: int = 1,
        image_size: int = 224,
        feature_dim: int = 512,
        channels: int = 256,
        depth: int = 4,
    ) -> None:
        super().__init__()
        dim = feature_dim
        self.image_size = image_size
        self.model = FaceAlignmentNet(image_size, dim, channels, depth)
        self.classifier = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, num_classes))
        self.to_mouth = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.mouth_embed = nn.Sequential(nn.ReLU(), nn.Linear(dim, dim - pose_dim))
        self.mouth_fc = nn.Sequential(nn.ReLU(), nn.Linear(dim * clip_len, num_classes))
        self.to_headpose = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.headpose_embed = nn.Sequential(nn.ReLU(), nn.Linear(dim, pose_dim))
        self.headpose_fc = nn.Sequential(nn.ReLU(), nn.Linear(pose_dim * clip_len, num_classes))
        he_init(self)
        centre(self.model.conv6, self.model.fc, self.to_mouth[2], self.to_headpose[2])

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1], RGB -> (B, feature_dim), before any head."""
        return self.model(resize_to(frames, self.image_size))
