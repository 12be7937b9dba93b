"""Fast networks against the plain ones, and their convolutions against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.fast.convolution import (
    DirectConv2d,
    UpsamplingConv2d,
    WinogradConv2d,
    available,
    conv3x3,
    transforms,
    upsampling_matrix,
)
from models.fast.inference import FastConv2d, FastGenerator, FastPreActivationBlock, prepare_encoder
from models.networks import textbook
from models.networks.generator import Generator
from models.networks.layers import Upsample
from models.networks.pose_encoder import PreActivationBlock
from models.registry import build_network
from tests.conftest import TINY

needs_onednn = pytest.mark.skipif(not available(), reason="this torch has no oneDNN or no MKL")


def _lively(network: nn.Module) -> nn.Module:
    """Random statistics, biases and noise weights in place of zeros and ones."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(("bias", "running_mean", "noise.weight")):
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
            elif name.endswith("running_var"):
                tensor.mul_(0.5 + torch.rand(tensor.shape, generator=generator))
    return network.eval().requires_grad_(False)


def _generator(skips: tuple[int, ...] = ()) -> Generator:
    """Small, with one layer that is wide enough for Winograd's form."""
    torch.manual_seed(0)
    generator = Generator(
        image_size=28, style_dim=7, channels=(8, 128, 128), input_channels=6, mapping_layers=1, skips=skips
    )
    _lively(generator)
    for skip in generator.skips:
        torch.nn.init.normal_(skip.weight)
    return generator


def _close(ours: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    return ours.shape == expected.shape and bool((ours - expected).abs().max() <= tolerance * expected.abs().max())


@pytest.mark.parametrize("outputs", [4, 8])
def test_transforms_give_the_filtered_values(outputs: int) -> None:
    torch.manual_seed(0)
    a, g, b = transforms(outputs)
    x, taps = torch.randn(outputs + 2).double(), torch.randn(3).double()
    assert torch.allclose(a @ ((g @ taps) * (b @ x)), x.unfold(0, 3, 1) @ taps, atol=1e-10)


@needs_onednn
@pytest.mark.parametrize("size", [(8, 12), (16, 24), (12, 8)])
def test_winograd_form_equals_convolution(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 5, *size), torch.randn(6, 5, 3, 3), torch.randn(6)
    image = x[0].permute(1, 2, 0)
    y = WinogradConv2d(weight, *size)(
        lambda columns, out: out.copy_(image[:, columns]), lambda columns, y: y.add_(bias)
    )
    assert _close(y.permute(2, 0, 1)[None], F.conv2d(x, weight, bias, padding=1), 1e-5)


@needs_onednn
def test_winograd_form_in_several_chunks_equals_convolution() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 128, 112, 112), torch.randn(8, 128, 3, 3)
    convolution = WinogradConv2d(weight, 112, 112)
    assert convolution.chunk == 2  # of 14 columns of tiles
    y = convolution(lambda columns, out: out.copy_(x[0].permute(1, 2, 0)[:, columns]))
    assert _close(y.permute(2, 0, 1)[None], F.conv2d(x, weight, padding=1))


@needs_onednn
def test_winograd_form_is_taken_where_it_is_faster() -> None:
    weight = torch.randn(128, 128, 3, 3)
    assert isinstance(conv3x3(weight, 28, 56), WinogradConv2d)
    assert isinstance(conv3x3(weight[:, :64], 28, 56), DirectConv2d)
    assert isinstance(conv3x3(weight, 14, 14), DirectConv2d)
    assert isinstance(conv3x3(weight, 30, 32), DirectConv2d)


@needs_onednn
def test_upsampling_convolution_equals_transposed_one() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 5, 6, 7), torch.randn(4, 5, 3, 3)
    expected = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    assert _close(UpsamplingConv2d(weight, 6, 7)(x), expected, 1e-6)


def test_upsampling_matrix_equals_upsample() -> None:
    torch.manual_seed(0)
    layer, image = Upsample(3), torch.randn(3, 6, 6)
    double = upsampling_matrix(layer.taps(), 6)
    assert torch.allclose(double @ image @ double.t(), layer(image[None])[0], atol=1e-6)


@needs_onednn
@pytest.mark.parametrize("constant", [0, 5])
def test_fast_generator_equals_the_textbook_form(constant: int) -> None:
    generator = _generator()
    identity_map, style = torch.randn(3, 6, 7, 7), torch.randn(3, 7)
    style[1, :5] = style[0, :5]
    noise = [torch.randn(3, 1, size, size) for size in generator.noise_sizes]
    fast = FastGenerator(generator, constant)
    assert isinstance(fast.layers[-1].convolution, WinogradConv2d)
    for layers in (noise, None, generator.stored_noise()):
        expected = textbook.generate(generator, identity_map, style, layers)
        assert _close(fast(identity_map, style, layers), expected)


@needs_onednn
@pytest.mark.parametrize("skips", [(2,), (2, 1)])
def test_fast_generator_adds_what_the_map_has_folded(skips: tuple[int, ...]) -> None:
    generator = _generator(skips)
    identity_map, style = torch.randn(3, sum(generator.map_parts), 7, 7), torch.randn(3, 7)
    made = FastGenerator(generator, 5)(identity_map, style)
    assert _close(made, textbook.generate(generator, identity_map, style))
    assert _close(made, generator(identity_map, style))
    assert not _close(made, generator(identity_map[:, :6], style), 0.05)


@needs_onednn
def test_fast_generator_gives_the_same_bits_in_any_batch_and_order() -> None:
    fast = FastGenerator(_generator(), constant=5)
    identity_map, style = torch.randn(3, 6, 7, 7), torch.randn(3, 7)
    together = fast(identity_map, style)
    for i in (2, 0, 1):
        assert torch.equal(fast(identity_map[i : i + 1], style[i : i + 1])[0], together[i])


@needs_onednn
def test_noise_of_weight_zero_changes_nothing() -> None:
    generator = _generator()
    for layer in (generator.conv1, *generator.convs):
        layer.noise.weight.zero_()
    fast = FastGenerator(generator)
    identity_map, style = torch.randn(1, 6, 7, 7), torch.randn(1, 7)
    assert torch.equal(fast(identity_map, style, generator.stored_noise()), fast(identity_map, style))


@needs_onednn
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("letter", "shape"), [("E", (3, 28, 28)), ("A_sync", (1, 80, 20))])
def test_fast_encoders_equal_the_plain_ones(letter: str, shape: tuple[int, ...], batch: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(batch, *shape)
    network = _lively(build_network(letter, TINY))
    expected = network(x)
    fast = prepare_encoder(network, x[:1])
    assert any(isinstance(module, FastConv2d) for module in fast.modules())
    assert not any(isinstance(module, nn.Conv2d) for module in fast.modules())
    assert _close(fast(x), expected, 1e-5)


@needs_onednn
@pytest.mark.parametrize("channels", [128, 256])
def test_fast_block_in_winograd_form_equals_the_plain_one(channels: int) -> None:
    torch.manual_seed(0)
    block, x = _lively(PreActivationBlock(channels, 256)), torch.randn(2, channels, 28, 28)
    fast = FastPreActivationBlock(block, x.shape)
    assert isinstance(fast.convolutions[0], WinogradConv2d)
    assert _close(fast(x), block(x), 1e-5)
