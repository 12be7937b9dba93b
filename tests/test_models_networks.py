"""The networks: shapes, textbook forms, and what an untrained one gives."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.generator import Generator, default_channels, resolutions
from models.networks.identity_encoder import IdentityEncoder
from models.networks.layers import Blur, ModulatedConv2d, Upsample
from models.registry import NETWORKS, build_network
from options.config import NetworkConfig
from tests.conftest import TINY
from util.errors import OptionError


def _textbook_modulated(layer: ModulatedConv2d, x: Tensor, style: Tensor) -> Tensor:
    """Per-sample weights in a grouped convolution, as in the StyleGAN2 paper."""
    batch, channels, height, width = x.shape
    weight = layer.scale * layer.weight * layer.modulation(style)[:, None, :, None, None]  # (B, out, in, k, k)
    if layer.demodulate:
        weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    out = weight.shape[1]
    x = x.reshape(1, batch * channels, height, width)
    if not layer.upsample:
        y = F.conv2d(x, weight.flatten(0, 1), padding=layer.padding, groups=batch)
        return y.view(batch, out, height, width)
    y = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    y = F.pad(y, (1, 1, 1, 1)).view(batch * out, 1, 2 * height + 3, 2 * width + 3)
    return F.conv2d(y, layer.blur.kernel[None, None]).view(batch, out, 2 * height, 2 * width)


@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize(("kernel_size", "upsample"), [(1, False), (3, False), (3, True)])
def test_modulated_convolution_equals_textbook_form(upsample: bool, demodulate: bool, kernel_size: int) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(6, 8, kernel_size, 5, demodulate, upsample).double()
    x, style = torch.randn(3, 6, 7, 7).double(), torch.randn(3, 5).double()
    assert torch.allclose(layer(x, style), _textbook_modulated(layer, x, style), atol=1e-6)


def test_demodulation_stays_in_single_precision_under_autocast() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(16, 8, 3, 5)
    with torch.no_grad():
        layer.modulation.bias.fill_(1e-4)  # squares are nothing in half precision
        layer.modulation.weight.zero_()
    x, style = torch.randn(2, 16, 7, 7), torch.randn(2, 5)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        half = layer(x, style).float()
    with torch.no_grad():
        assert (half - layer(x, style)).abs().max() < 0.02


def test_gradients_of_modulated_convolution_equal_textbook_form() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(6, 8, 3, 5, upsample=True).double()
    x, style = torch.randn(2, 6, 5, 5).double(), torch.randn(2, 5).double()
    target = torch.randn(2, 8, 10, 10).double()
    gradients = []
    for form in (layer, lambda a, b: _textbook_modulated(layer, a, b)):
        layer.zero_grad()
        ((form(x, style) - target) ** 2).sum().backward()
        gradients.append([p.grad.clone() for p in layer.parameters() if p.grad is not None])
    assert len(gradients[0]) == 3
    for ours, textbook in zip(*gradients, strict=True):
        assert torch.allclose(ours, textbook, rtol=1e-4, atol=1e-6 * textbook.abs().max().item())


def test_blur_and_upsample_equal_zero_insertion_and_padding() -> None:
    torch.manual_seed(0)
    kernel = Blur().kernel
    assert kernel.sum().item() == pytest.approx(4)
    x = torch.randn(2, 3, 9, 9)
    plain = F.conv2d(F.pad(x, (1, 1, 1, 1)).view(6, 1, 11, 11), kernel[None, None]).view(2, 3, 8, 8)
    assert torch.allclose(Blur()(x), plain, atol=1e-6)
    zeros = torch.zeros(2, 3, 18, 18)
    zeros[..., ::2, ::2] = x
    plain = F.conv2d(F.pad(zeros, (2, 1, 2, 1)).view(6, 1, 21, 21), kernel[None, None]).view(2, 3, 18, 18)
    assert torch.allclose(Upsample()(x), plain, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(224, [7, 14, 28, 56, 112, 224]), (256, [4, 8, 16, 32, 64, 128, 256]), (28, [7, 14, 28]), (16, [4, 8, 16])],
)
def test_resolutions_start_at_seven_or_four(size: int, sizes: list[int]) -> None:
    assert resolutions(size) == sizes
    assert len(default_channels(size)) == len(sizes)


def test_default_channels_of_published_size() -> None:
    assert default_channels(224) == (512, 512, 512, 512, 256, 128)


@pytest.mark.parametrize("crop_size", [28, 32])
def test_small_networks_give_the_shapes_of_their_config(crop_size: int) -> None:
    config = dataclasses.replace(TINY, crop_size=crop_size, generator_channels=None)
    nets = {letter: build_network(letter, config).eval() for letter in NETWORKS}
    image = torch.randn(2, 3, crop_size, crop_size)
    vector, identity_map = nets["V"](image[:, None])
    start = resolutions(crop_size)[0]
    assert vector.shape == (2, config.identity_dim)
    assert identity_map.shape == (2, config.generator_input_channels, start, start)
    feature = nets["E"](image)
    assert feature.shape == (2, 32)
    assert nets["E"].mouth_embed(nets["E"].to_mouth(feature)).shape == (2, 28)
    assert nets["E"].headpose_embed(feature).shape == (2, 4)
    assert nets["A_sync"](torch.rand(2, 1, 80, 20)).shape == (2, 32)
    assert nets["A"](torch.rand(2, 1, 320, 20)).shape == (2, config.identity_dim)
    assert nets["G"](identity_map, torch.randn(2, config.style_dim)).shape == image.shape
    assert nets["D"](image)[0][0].shape == image.shape


def test_untrained_generator_gives_an_image_with_variation() -> None:
    torch.manual_seed(0)
    generator = Generator(image_size=56, style_dim=64, input_channels=32)
    with torch.no_grad():
        image = generator(torch.randn(2, 32, 7, 7), torch.randn(2, 64), generator.stored_noise())
    assert image.std(dim=(2, 3)).min() > 0.05
    assert (image[0] - image[1]).abs().mean() > 0.05
    assert image.abs().max() < 1


def test_generator_with_wrong_channel_count_raises_value_error() -> None:
    with pytest.raises(ValueError, match="28 px has 3 resolutions, got 2"):
        Generator(image_size=28, channels=(8, 8))


def test_identity_of_two_images_is_the_mean_of_theirs() -> None:
    torch.manual_seed(0)
    encoder = IdentityEncoder(4, 8, 7, (1, 1, 1, 1), 8, 2, 4).eval()
    images = torch.randn(1, 2, 3, 64, 64)
    vector, identity_map = encoder(images)
    singles = [encoder(images[:, i : i + 1]) for i in range(2)]
    assert torch.allclose(vector, (singles[0][0] + singles[1][0]) / 2, atol=1e-6)
    assert torch.allclose(identity_map, (singles[0][1] + singles[1][1]) / 2, atol=1e-6)


def test_clip_length_and_classes_size_the_heads() -> None:
    config = dataclasses.replace(TINY, clip_len=3, num_classes=9)
    encoder = build_network("E", config)
    assert encoder.mouth_fc[1].weight.shape == (9, 32 * 3)
    assert encoder.headpose_fc[1].weight.shape == (9, 4 * 3)


def test_unknown_network_names_the_choices() -> None:
    with pytest.raises(OptionError, match=r"--netV vit: no such network; choose from resnext, fan"):
        build_network("V", NetworkConfig(), "vit")
