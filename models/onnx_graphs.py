"""The networks of inference as scripts/export_onnx.py traces them: plain operators, shapes fixed but for the batch.

They hold the weights of the networks and compute the same; what follows from sizes alone is worked out beforehand,
because a tracer would write it into the graph as arithmetic on shapes, which ONNX cannot take for a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.av_model import SPEECH_GAIN
from models.networks.generator import Generator
from models.networks.layers import ModulatedConv2d, StyledConv, ToRGB


class AreaMean(nn.Module):
    """`F.adaptive_avg_pool2d` of square maps as two products with a constant matrix; any pair of sizes."""

    matrix: Tensor

    def __init__(self, size: int, out_size: int) -> None:
        super().__init__()
        matrix = F.adaptive_avg_pool1d(torch.eye(size)[None], out_size)[0].T  # (out_size, size)
        self.register_buffer("matrix", matrix.contiguous())
        self.is_identity = size == out_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, size, size) -> (B, C, out_size, out_size)."""
        return x if self.is_identity else self.matrix @ x @ self.matrix.T


class IdentityGraph(nn.Module):
    """V: images (B, 3, H, H) -> identity vectors (B, 2048) and maps (B, 512, 7, 7), one an image."""

    outputs: Sequence[str] = ("identity_vector", "identity_map")

    def __init__(self, network: Any, crop_size: int) -> None:
        super().__init__()
        size = network.image_size or crop_size
        self.resize = AreaMean(crop_size, size)
        self.model, self.conv1x1 = network.model, network.conv1x1
        self.pool = AreaMean(math.ceil(size / 32), network.map_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model(self.resize(images))
        return features.mean(dim=(2, 3)), self.pool(self.conv1x1(features))


class PoseGraph(nn.Module):
    """E with the heads of the head pose: frames (B, 3, H, H) -> (B, 12)."""

    outputs: Sequence[str] = ("pose",)

    def __init__(self, network: Any, crop_size: int) -> None:
        super().__init__()
        self.resize = AreaMean(crop_size, network.image_size)
        self.model, self.to_headpose, self.headpose_embed = network.model, network.to_headpose, network.headpose_embed

    def forward(self, frames: Tensor) -> Tensor:
        return self.headpose_embed(self.to_headpose(self.model(self.resize(frames))))


class SpeechGraph(nn.Module):
    """A_sync with E's mouth embedding and the gain of inference: mel (B, 1, 80, 20) -> (B, 500)."""

    outputs: Sequence[str] = ("mouth",)

    def __init__(self, network: nn.Module, pose_encoder: Any) -> None:
        super().__init__()
        self.network, self.mouth_embed = network, pose_encoder.mouth_embed

    def forward(self, mel: Tensor) -> Tensor:
        return self.mouth_embed(SPEECH_GAIN * self.network(mel))


class ImageGraph(nn.Module):
    """G: identity, mouth, pose and noise (B, sum of H*W) -> images (B, 3, S, S)."""

    outputs: Sequence[str] = ("image",)
    kernel: Tensor

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.noise_sizes = list(generator.noise_sizes)
        self.first, self.first_to_rgb = _Styled(generator.conv1), _ToRGB(generator.to_rgb1)
        self.convs = nn.ModuleList(_Styled(layer) for layer in generator.convs)  # type: ignore[arg-type]
        self.to_rgbs = nn.ModuleList(_ToRGB(layer) for layer in generator.to_rgbs)  # type: ignore[arg-type]
        self.register_buffer("kernel", generator.to_rgbs[0].upsample.kernel.repeat(3, 1, 1, 1))  # type: ignore

    def forward(
        self, identity_vector: Tensor, identity_map: Tensor, mouth: Tensor, pose: Tensor, noise: Tensor
    ) -> Tensor:
        style = torch.cat([identity_vector, mouth, pose], dim=1)
        parts = noise.split([s * s for s in self.noise_sizes], dim=1)
        layers = [part.view(-1, 1, s, s) for part, s in zip(parts, self.noise_sizes, strict=True)]
        x = self.first(identity_map, style, layers[0])
        image = self.first_to_rgb(x, style)
        for level, to_rgb in enumerate(self.to_rgbs):
            x = self.convs[2 * level](x, style, layers[2 * level + 1])
            x = self.convs[2 * level + 1](x, style, layers[2 * level + 2])
            # (B, 3, s, s) -> (B, 3, 2s, 2s)
            image = F.conv_transpose2d(image, self.kernel, stride=2, padding=1, groups=3) + to_rgb(x, style)
        return torch.tanh(image)


class _Modulation(nn.Module):
    """(B, style_dim) -> (B, in), what the input channels are scaled with; every factor is in the weights."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: ModulatedConv2d) -> None:
        super().__init__()
        linear = layer.modulation
        self.register_buffer("weight", linear.weight.detach() * (linear.scale * layer.scale))
        self.register_buffer("bias", linear.bias.detach() * (linear.lr_multiplier * layer.scale))

    def forward(self, style: Tensor) -> Tensor:
        return F.linear(style, self.weight, self.bias)


class _Styled(nn.Module):
    """`StyledConv`: (B, in, H, W) -> (B, out, H, W), or twice the size."""

    weight: Tensor
    energy: Tensor
    bias: Tensor
    noise_weight: Tensor
    kernel: Tensor

    def __init__(self, layer: StyledConv) -> None:
        super().__init__()
        conv = layer.conv
        weight = conv.weight.detach()[0]  # (out, in, 3, 3)
        self.upsample, self.channels = conv.upsample, len(weight)
        self.modulation = _Modulation(conv)
        self.register_buffer("weight", (weight.transpose(0, 1) if conv.upsample else weight).contiguous())
        self.register_buffer("energy", weight.square().sum(dim=(2, 3)).T.contiguous())  # (in, out)
        self.register_buffer("bias", layer.activate.bias.detach().clone())
        self.register_buffer("noise_weight", layer.noise.weight.detach().clone())
        if conv.upsample:
            self.register_buffer("kernel", conv.blur.kernel.repeat(self.channels, 1, 1, 1))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        modulation = self.modulation(style)
        demodulation = torch.rsqrt(modulation.square() @ self.energy + 1e-8)  # (B, out)
        x = x * modulation[:, :, None, None]
        if self.upsample:
            x = F.conv_transpose2d(x, self.weight, stride=2)  # (B, out, 2H+1, 2W+1)
            x = F.conv2d(x, self.kernel, padding=1, groups=self.channels)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x = x * demodulation[:, :, None, None] + self.noise_weight * noise + self.bias
        return F.leaky_relu(x, 0.2) * math.sqrt(2)


class _ToRGB(nn.Module):
    """`ToRGB` without the image below: (B, in, H, W) -> (B, 3, H, W)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: ToRGB) -> None:
        super().__init__()
        self.modulation = _Modulation(layer.conv)
        self.register_buffer("weight", layer.conv.weight.detach()[0].contiguous())
        self.register_buffer("bias", layer.bias.detach().clone())

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return F.conv2d(x * self.modulation(style)[:, :, None, None], self.weight) + self.bias
