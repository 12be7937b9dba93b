"""D: two PatchGANs, the second on the image at half the size; every level's activations come out.

A third may look at eyes and mouth alone, which are a twentieth of the picture. The first may look at a square alone, at
another place in every step: what it costs grows with the pixels it sees, and most of what D costs is the first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

_SLOPE = 0.2
# where eyes and mouth are in a frame of the VoxCeleb2 template, in parts of its height and width
_FACE_ROWS, _FACE_COLUMNS = (0.12, 0.62), (0.25, 0.75)


class PatchDiscriminator(nn.Module):
    """4x4 convolutions from `width` channels to 8 times as many; spectral and instance norm on the middle three."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model0 = nn.Sequential(nn.Conv2d(3, width, 4, stride=2, padding=2), nn.LeakyReLU(_SLOPE))
        self.model1 = self._level(width, 2 * width, stride=2)
        self.model2 = self._level(2 * width, 4 * width, stride=2)
        self.model3 = self._level(4 * width, 8 * width, stride=1)
        self.model4 = nn.Sequential(nn.Conv2d(8 * width, 1, 4, stride=1, padding=2))

    @staticmethod
    def _level(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
        convolution = spectral_norm(nn.Conv2d(in_channels, out_channels, 4, stride, padding=2, bias=False))
        normalised = nn.Sequential(convolution, nn.InstanceNorm2d(out_channels))
        return nn.Sequential(normalised, nn.LeakyReLU(_SLOPE))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the image itself, four feature maps, and the patch scores (B, 1, h, w)."""
        levels = [image]
        for model in (self.model0, self.model1, self.model2, self.model3, self.model4):
            levels.append(model(levels[-1]))
        return levels


class MultiscaleDiscriminator(nn.Module):
    """PatchGANs on an image pyramid. Source: Wang et al. 2018 (pix2pixHD), as in SPADE.

    Args:
        width: channels of the first level.
        num_discriminators: levels of the pyramid.
        face: whether one more looks at the part with eyes and mouth.
        crop: side of the square that the first level sees, pixels; None for the whole picture.
    """

    def __init__(
        self, width: int = 64, num_discriminators: int = 2, face: bool = False, crop: int | None = None
    ) -> None:
        super().__init__()
        self.crop = crop
        self.num_discriminators = num_discriminators
        if face:
            self.discriminator_face = PatchDiscriminator(width)
        self.face = face
        for scale in range(num_discriminators):
            self.add_module(f"discriminator_{scale}", PatchDiscriminator(width))

    def draw_corner(self, size: int) -> tuple[int, int]:
        """Row and column of the corner of the first level's square, somewhere in a picture of `size` pixels."""
        places = 1 + max(0, size - (self.crop or size))
        row, column = torch.randint(places, (2,)).tolist() if places > 1 else (0, 0)
        return row, column

    def forward(self, image: Tensor, corner: tuple[int, int] = (0, 0)) -> list[list[Tensor]]:
        """(B, 3, H, W) in [-1, 1] -> per scale, and last for the face, the list of `PatchDiscriminator.forward`.

        `corner`: of `draw_corner`, the same for pictures whose features are compared.
        """
        outputs, face = [], image
        for scale in range(self.num_discriminators):
            if scale > 0:
                image = F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
            seen = image
            if scale == 0 and self.crop:
                row, column = corner
                seen = image[:, :, row : row + self.crop, column : column + self.crop]
            outputs.append(getattr(self, f"discriminator_{scale}")(seen))
        if self.face:
            (top, bottom), (left, right) = (
                (round(start * size), round(end * size))
                for (start, end), size in zip((_FACE_ROWS, _FACE_COLUMNS), face.shape[2:], strict=True)
            )
            outputs.append(self.discriminator_face(face[:, :, top:bottom, left:right]))
        return outputs
