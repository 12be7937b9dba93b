"""The networks: shapes, textbook forms, and what an untrained one gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks import textbook
from models.networks.generator import Generator, default_channels, resolutions
from models.networks.identity_encoder import IdentityEncoder
from models.networks.layers import Blur, StyledConv, Upsample
from models.registry import OPTIONAL_HEADS, build_network
from options.config import NETWORK_LETTERS
from tests.conftest import TINY
from util.checkpoint import load_network, network_path, save_state_dict


def _noise(generator: Generator, batch: int) -> list[Tensor]:
    return [torch.randn(batch, 1, size, size).double() for size in generator.noise_sizes]


def _small_generator() -> Generator:
    torch.manual_seed(0)
    generator = Generator(image_size=28, style_dim=5, channels=(8, 6, 7), input_channels=6, mapping_layers=1).double()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("noise.weight", "bias")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return generator


@pytest.mark.parametrize("upsample", [False, True])
def test_styled_convolution_equals_textbook_form(upsample: bool) -> None:
    torch.manual_seed(0)
    layer = StyledConv(6, 8, 5, upsample).double()
    with torch.no_grad():
        layer.noise.weight.fill_(0.4)
        layer.activate.bias.normal_()
    x, style, noise = torch.randn(3, 6, 7, 7), torch.randn(3, 5), torch.randn(3, 1, 14, 14)
    noise = noise if upsample else noise[..., ::2, ::2]
    x, style, noise = x.double(), style.double(), noise.double()
    assert torch.allclose(layer(x, style, noise), textbook.styled_conv(layer, x, style, noise), atol=1e-6)
    assert torch.allclose(layer(x, style, None), textbook.styled_conv(layer, x, style, None), atol=1e-6)


def test_generator_equals_textbook_form_in_images_and_gradients() -> None:
    generator = _small_generator()
    identity_map, style = torch.randn(3, 6, 7, 7).double(), torch.randn(3, 5).double()
    noise, target = _noise(generator, 3), torch.rand(3, 3, 28, 28).double()
    gradients, images = [], []
    for form in (generator, lambda *inputs: textbook.generate(generator, *inputs)):
        generator.zero_grad()
        leaves = [identity_map.clone().requires_grad_(), style.clone().requires_grad_()]
        images.append(form(*leaves, noise))
        (images[-1] - target).square().sum().backward()
        named = {name: p.grad.clone() for name, p in generator.named_parameters() if p.grad is not None}
        gradients.append({**named, "identity_map": leaves[0].grad, "style": leaves[1].grad})
    assert torch.allclose(images[0], images[1], atol=1e-6)
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) == sum(not n.startswith(("style.", "input.")) for n, _ in generator.named_parameters()) + 2
    for name, ours in gradients[0].items():
        scale = gradients[1][name].abs().max().item()
        assert scale > 0, name
        assert (ours - gradients[1][name]).abs().max() < 1e-5 * scale, name


def test_generator_in_both_layouts_gives_the_same_image() -> None:
    generator = _small_generator()
    identity_map, style = torch.randn(2, 6, 7, 7).double(), torch.randn(2, 5).double()
    with torch.no_grad():
        plain = generator(identity_map, style)
        last = generator(identity_map.contiguous(memory_format=torch.channels_last), style)
    assert torch.allclose(plain, last, atol=1e-12)


def test_demodulation_stays_in_single_precision_under_autocast() -> None:
    torch.manual_seed(0)
    layer = StyledConv(16, 8, 5)
    with torch.no_grad():
        layer.conv.modulation.bias.fill_(1e-4)  # squares are nothing in half precision
        layer.conv.modulation.weight.zero_()
    x, style = torch.randn(2, 16, 7, 7), torch.randn(2, 5)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        half = layer(x, style, None).float()
    with torch.no_grad():
        assert (half - layer(x, style, None)).abs().max() < 0.02


def test_blur_and_upsample_equal_zero_insertion_and_padding() -> None:
    torch.manual_seed(0)
    kernel = Blur(3).kernel
    assert kernel.sum().item() == pytest.approx(4)
    x = torch.randn(2, 3, 9, 9)
    plain = F.conv2d(F.pad(x, (1, 1, 1, 1)).view(6, 1, 11, 11), kernel[None, None]).view(2, 3, 8, 8)
    assert torch.allclose(Blur(3)(x), plain, atol=1e-6)
    zeros = torch.zeros(2, 3, 18, 18)
    zeros[..., ::2, ::2] = x
    plain = F.conv2d(F.pad(zeros, (2, 1, 2, 1)).view(6, 1, 21, 21), kernel[None, None]).view(2, 3, 18, 18)
    assert torch.allclose(Upsample(3)(x), plain, atol=1e-6)


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
    nets = {letter: build_network(letter, config).eval() for letter in NETWORK_LETTERS}
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


def test_skips_carry_places_of_the_reference_to_the_same_places_of_the_frame() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        TINY, crop_size=56, generator_channels=None, identity_stem_pool=False, identity_skips=(4, 2)
    )
    plain = build_network("G", dataclasses.replace(config, identity_skips=())).eval()
    nets = {letter: build_network(letter, config).eval() for letter in "VG"}
    nets["G"].load_state_dict(plain.state_dict(), strict=False)
    images, style = torch.randn(2, 1, 3, 56, 56), torch.randn(2, config.style_dim)
    with torch.no_grad():
        identity_map = nets["V"](images)[1]
        assert identity_map.shape == (2, 16 + 4 * 4 + 16 * 2, 7, 7)
        before = nets["G"](identity_map, style)
        torch.testing.assert_close(before, plain(identity_map[:, :16], style))  # nothing is used at first
        torch.nn.init.normal_(nets["G"].skips[1].weight)
        # the map's part of the finest skip, from one corner of it
        corner = identity_map.clone()
        corner[:, -32:, 0, 0] += 1
        change = (nets["G"](corner, style) - nets["G"](identity_map, style)).abs().amax(dim=1)
    assert change[:, :14, :14].amax() > 1e-3
    assert change[:, 20:].amax() < 1e-6 > change[:, :, 20:].amax()


def test_untrained_generator_gives_an_image_with_variation() -> None:
    torch.manual_seed(0)
    generator = Generator(image_size=56, style_dim=64, input_channels=32)
    with torch.no_grad():
        image = generator(torch.randn(2, 32, 7, 7), torch.randn(2, 64), generator.stored_noise())
    assert image.std(dim=(2, 3)).min() > 0.05
    assert (image[0] - image[1]).abs().mean() > 0.05
    assert image.abs().max() < 1


def test_identity_of_two_images_is_the_mean_of_theirs() -> None:
    torch.manual_seed(0)
    encoder = IdentityEncoder(4, 8, 7, (1, 1, 1, 1), 8, 2, 4).eval()
    images = torch.randn(1, 2, 3, 64, 64)
    vector, identity_map = encoder(images)
    singles = [encoder(images[:, i : i + 1]) for i in range(2)]
    assert torch.allclose(vector, (singles[0][0] + singles[1][0]) / 2, atol=1e-6)
    assert torch.allclose(identity_map, (singles[0][1] + singles[1][1]) / 2, atol=1e-6)


def test_identity_encoder_without_stem_pool_sees_twice_as_finely() -> None:
    sizes = []
    for pooled in (True, False):
        config = dataclasses.replace(TINY, crop_size=112, generator_channels=None, identity_stem_pool=pooled)
        encoder = build_network("V", config).eval()
        sizes.append(encoder.model(torch.randn(1, 3, 112, 112)).shape[-1])
    assert sizes == [4, 7]


def test_clip_length_and_classes_size_the_heads() -> None:
    config = dataclasses.replace(TINY, clip_len=3, num_classes=9)
    encoder = build_network("E", config)
    assert encoder.mouth_fc[1].weight.shape == (9, 32 * 3)
    assert encoder.headpose_fc[1].weight.shape == (9, 4 * 3)


def test_discriminator_of_the_face_sees_the_middle_of_the_picture_alone_and_takes_weights_without_it(tmp_path: Path):
    torch.manual_seed(0)
    plain = build_network("D", TINY).eval()
    save_state_dict(plain.state_dict(), network_path(tmp_path, "latest", "D"))
    other = build_network("D", dataclasses.replace(TINY, discriminator_face=True)).eval()
    left_out = load_network(other, network_path(tmp_path, "latest", "D"), OPTIONAL_HEADS["D"])
    assert left_out
    assert all(key.startswith("discriminator_face.") for key in left_out)

    image = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        *pyramid, face = other(image)
        for expected, found in zip(plain(image), pyramid, strict=True):
            torch.testing.assert_close(found[-1], expected[-1])
        assert torch.equal(face[0], image[:, :, 7:35, 14:42])
        assert torch.equal(face[-1], other.discriminator_face(image[:, :, 7:35, 14:42])[-1])


def test_first_discriminator_may_see_a_square_alone_anywhere_in_the_picture() -> None:
    torch.manual_seed(0)
    network = build_network("D", dataclasses.replace(TINY, discriminator_crop=28)).eval()
    image = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        first, second = network(image, (8, 16))
        assert torch.equal(first[0], image[:, :, 8:36, 16:44])
        assert second[0].shape[-1] == 28  # of the whole picture
    corners = [network.draw_corner(56) for _ in range(300)]
    assert {min(corner) for corner in corners} >= {0}
    assert max(max(corner) for corner in corners) == 28
    assert network.draw_corner(28) == network.draw_corner(14) == (0, 0)
    assert build_network("D", TINY).draw_corner(56) == (0, 0)
