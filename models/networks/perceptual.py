"""Features for perceptual losses, of VGG19 or of our own encoders; images RGB in [-1, 1].

VGG19 takes them as they are, as the published loss does.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.networks.identity_encoder import IdentityEncoder
from models.networks.layers import resize_to
from models.networks.pose_encoder import PoseEncoder

_SLICE_ENDS = (2, 7, 12, 21, 30)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1


class VGG19Features(nn.Module):
    """Activations after the first ReLU of each of the five blocks of `torchvision.models.vgg19(...).features`."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        starts = (0, *_SLICE_ENDS[:-1])
        self.slices = nn.ModuleList(features[start:end] for start, end in zip(starts, _SLICE_ENDS, strict=True))
        self.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # the activations before it are returned too

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> five feature maps, from (B, 64, H, W) to (B, 512, H/16, W/16)."""
        outputs = []
        x = image
        for part in self.slices:
            x = part(x)
            outputs.append(x)
        return outputs


class EncoderFeatures(nn.Module):
    """Features of a V that knows people and an E that sees what they say; both stay as they are."""

    def __init__(self, identity: IdentityEncoder, pose: PoseEncoder) -> None:
        super().__init__()
        self.identity, self.pose = identity, pose
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> EncoderFeatures:  # noqa: ARG002
        """Always in eval mode: statistics of batches would make it another ruler in every step."""
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, C, h, w) of every level of V, then of E."""
        seen = (self.identity.model.levels(resize_to(image, self.identity.image_size)),
                self.pose.model.levels(resize_to(image, self.pose.image_size)))  # fmt: skip
        return [*seen[0], *seen[1]]
