"""Prepared networks against the plain ones, and their convolutions against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.fast import convolution as fast_convolution
from models.fast import inference as fast_inference
from models.fast.convolution import (
    Conv3x3,
    UpsamplingConv2d,
    WinogradConv2d,
    available,
    transforms,
    upsampling_matrix,
)
from models.fast.inference import FastConv2d, FastGenerator, FastPreActivationBlock, prepare_for_inference
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


def _generator() -> Generator:
    """Small, with one layer that is wide enough for Winograd's form."""
    torch.manual_seed(0)
    generator = Generator(image_size=28, style_dim=7, channels=(8, 128, 128), input_channels=6, mapping_layers=1)
    _lively(generator)
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
def test_winograd_form_in_several_chunks_equals_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_convolution, "_MOST_BYTES", 1)
    torch.manual_seed(0)
    x, weight = torch.randn(1, 5, 8, 24), torch.randn(6, 5, 3, 3)
    convolution = WinogradConv2d(weight, 8, 24)
    assert convolution.chunk == 1
    y = convolution(lambda columns, out: out.copy_(x[0].permute(1, 2, 0)[:, columns]), None)
    assert _close(y.permute(2, 0, 1)[None], F.conv2d(x, weight, padding=1), 1e-5)


@needs_onednn
def test_winograd_form_is_taken_where_it_is_faster() -> None:
    weight = torch.randn(128, 128, 3, 3)
    assert Conv3x3(weight, 28, 56).winograd is not None
    assert Conv3x3(weight[:, :64], 28, 56).winograd is None
    assert Conv3x3(weight, 14, 14).winograd is None
    assert Conv3x3(weight, 30, 32).winograd is None


@needs_onednn
def test_upsampling_convolution_equals_transposed_one() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 5, 6, 7), torch.randn(4, 5, 3, 3)
    expected = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    assert _close(UpsamplingConv2d(weight, 6, 7)(x), expected, 1e-6)


def test_upsampling_matrix_equals_upsample() -> None:
    torch.manual_seed(0)
    layer, image = Upsample(), torch.randn(3, 6, 6)
    double = upsampling_matrix(layer.taps(), 6)
    assert torch.allclose(double @ image @ double.t(), layer(image[None])[0], atol=1e-6)


@needs_onednn
@pytest.mark.parametrize("constant", [0, 5])
def test_prepared_generator_equals_the_textbook_form(constant: int) -> None:
    generator = _generator()
    identity_map, style = torch.randn(3, 6, 7, 7), torch.randn(3, 7)
    style[1, :5] = style[0, :5]
    noise = [torch.randn(3, 1, size, size) for size in generator.noise_sizes]
    inputs = [(identity_map, style, noise), (identity_map, style, None), (None, style, generator.stored_noise())]
    expected = [textbook.generate(generator, *each) for each in inputs]
    fast = prepare_for_inference(generator, constant=constant)
    assert isinstance(fast, FastGenerator)
    assert fast.layers[-1].convolution is not None
    assert fast.layers[-1].convolution.winograd is not None
    for each, image in zip(inputs, expected, strict=True):
        assert _close(fast(*each), image)
    assert fast.noise_sizes == generator.noise_sizes
    assert all(torch.equal(a, b) for a, b in zip(fast.stored_noise(), generator.stored_noise(), strict=True))


@needs_onednn
def test_prepared_generator_gives_the_same_bits_in_any_batch_and_order() -> None:
    fast = prepare_for_inference(_generator(), constant=5)
    identity_map, style = torch.randn(3, 6, 7, 7), torch.randn(3, 7)
    together = fast(identity_map, style)
    for i in (2, 0, 1):
        assert torch.equal(fast(identity_map[i : i + 1], style[i : i + 1])[0], together[i])


@needs_onednn
def test_noise_of_weight_zero_changes_nothing() -> None:
    generator = _generator()
    for layer in (generator.conv1, *generator.convs):
        layer.noise.weight.zero_()
    fast = prepare_for_inference(generator)
    identity_map, style = torch.randn(1, 6, 7, 7), torch.randn(1, 7)
    assert torch.equal(fast(identity_map, style, fast.stored_noise()), fast(identity_map, style))


@needs_onednn
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("letter", ["V", "E", "A_sync", "A"])
def test_prepared_encoders_equal_the_plain_ones(letter: str, batch: int) -> None:
    torch.manual_seed(0)
    shapes = {"V": (1, 3, 28, 28), "E": (3, 28, 28), "A_sync": (1, 80, 20), "A": (1, 320, 20)}
    x = torch.rand(batch, *shapes[letter])
    network = _lively(build_network(letter, TINY))
    expected = network(x)
    fast = prepare_for_inference(network, x[:1])
    assert any(isinstance(module, FastConv2d) for module in fast.modules())
    assert not any(isinstance(module, nn.Conv2d) for module in fast.modules())
    outputs = fast(x)
    pairs = zip(outputs, expected, strict=True) if letter == "V" else [(outputs, expected)]
    assert all(_close(ours, plain, 1e-5) for ours, plain in pairs)


@needs_onednn
@pytest.mark.parametrize("channels", [128, 256])
def test_prepared_block_in_winograd_form_equals_the_plain_one(channels: int) -> None:
    torch.manual_seed(0)
    block, x = _lively(PreActivationBlock(channels, 256)), torch.randn(2, channels, 28, 28)
    fast = FastPreActivationBlock(block, x.shape)
    assert fast.convolutions[0].winograd is not None
    assert _close(fast(x), block(x), 1e-5)


def test_other_precisions_and_machines_keep_the_plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    half = _generator().half()
    assert prepare_for_inference(half) is half
    with torch.device("meta"):
        elsewhere = build_network("E", TINY)
    assert prepare_for_inference(elsewhere) is elsewhere
    monkeypatch.setattr(fast_inference, "available", lambda: False)
    plain = _generator()
    assert prepare_for_inference(plain) is plain
