"""G, E and A_sync in forms for inference on a CPU: results within 1e-4 of the plain forms, in a fraction of their time.

The plain networks are what is read, trained, saved and compared with; the forms made here can only be run, in fp32 and
without gradients, where `models.fast.convolution.available()`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.fast.convolution import PackedConv2d, UpsamplingConv2d, conv3x3, upsampling_matrix
from models.networks.audio_encoder import SEBlock
from models.networks.generator import Generator
from models.networks.layers import DEMODULATION_EPS, GAIN, SLOPE, StyledConv, ToRGB
from models.networks.pose_encoder import FaceAlignmentNet, PreActivationBlock

# convolutions with a batch norm right behind them
_FOLLOWED_BY_NORM: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    SEBlock: (("conv2", "bn2"), ("downsample.0", "downsample.1")),
    FaceAlignmentNet: (("conv1", "bn1"), ("conv_last0", "bn_end0"), ("l0", "bn5")),
}


@torch.no_grad()
def prepare_encoder(network: nn.Module, example: Tensor) -> nn.Module:
    """Replaces the convolutions of E or A_sync, in eval mode, by their fast forms, and returns the network.

    example: one input of the size to come; other sizes work, slower.
    """
    shapes = _input_shapes(network, example)
    for module in list(network.modules()):
        for convolution, norm in _FOLLOWED_BY_NORM.get(type(module), ()):
            _fold(module, convolution, norm, shapes)
    _replace(network, shapes)
    return network.eval()


def _input_shapes(network: nn.Module, example: Tensor) -> dict[nn.Module, torch.Size]:
    """The input shapes of everything that can be replaced."""
    shapes: dict[nn.Module, torch.Size] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes[module] = inputs[0].shape

    replaced = [module for module in network.modules() if isinstance(module, (nn.Conv2d, PreActivationBlock))]
    hooks = [module.register_forward_pre_hook(note) for module in replaced]
    network(example)
    for hook in hooks:
        hook.remove()
    return shapes


def _fold(module: nn.Module, convolution: str, norm: str, shapes: dict[nn.Module, torch.Size]) -> None:
    """Multiplies a batch norm into the convolution before it."""
    parent, _, name = convolution.rpartition(".")
    if parent and getattr(module, parent) is None:
        return
    plain: Any = module.get_submodule(convolution)
    folded = fuse_conv_bn_eval(plain, cast(nn.BatchNorm2d, module.get_submodule(norm)))
    shapes[folded] = shapes.pop(plain)
    setattr(module.get_submodule(parent), name, folded)
    setattr(module.get_submodule(parent), norm.rpartition(".")[2], nn.Identity())


def _replace(module: nn.Module, shapes: dict[nn.Module, torch.Size]) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, PreActivationBlock):
            setattr(module, name, FastPreActivationBlock(child, shapes[child]))
        elif isinstance(child, nn.Conv2d):
            setattr(module, name, FastConv2d(child, shapes[child]))
        else:
            _replace(child, shapes)


class FastConv2d(nn.Module):
    """A convolution with packed weights; see PackedConv2d."""

    def __init__(self, layer: nn.Conv2d, shape: torch.Size) -> None:
        super().__init__()
        padding = cast(tuple[int, int], layer.padding)
        self.packed = PackedConv2d(layer.weight, shape[2:], padding, layer.stride, layer.groups)
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return self.packed(x.contiguous(memory_format=torch.channels_last), self.bias)


class FastPreActivationBlock(nn.Module):
    """A PreActivationBlock that works on one image at a time."""

    def __init__(self, block: PreActivationBlock, shape: torch.Size) -> None:
        super().__init__()
        height, width = shape[2:]
        layers = (block.conv1, block.conv2, block.conv3)
        self.norms = [_scale_and_shift(norm) for norm in (block.bn1, block.bn2, block.bn3)]
        self.convolutions = [conv3x3(layer.weight, height, width) for layer in layers]
        self.shortcut: tuple[Tensor, Tensor, PackedConv2d] | None = None
        if block.downsample is not None:
            norm, _, layer = cast(Any, block.downsample)
            self.shortcut = (*_scale_and_shift(norm), PackedConv2d(layer.weight, (height, width)))

    def forward(self, x: Tensor) -> Tensor:
        images = [self._image(image)[None] for image in x.permute(0, 2, 3, 1)]
        return (images[0] if len(images) == 1 else torch.cat(images)).permute(0, 3, 1, 2)

    def _image(self, x: Tensor) -> Tensor:
        """(H, W, in) -> (H, W, out)."""
        shortcut = x
        if self.shortcut is not None:
            scale, shift, projection = self.shortcut
            active = torch.addcmul(shift, x, scale).relu_()
            shortcut = projection(active[None].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[0]
        y = torch.empty(shortcut.shape)
        first = 0
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = convolution(functools.partial(_load_active, x, *norm))
            part = slice(first, first + x.shape[-1])
            torch.add(x, shortcut[..., part], out=y[..., part])
            first = part.stop
        return y


def _load_active(x: Tensor, scale: Tensor, shift: Tensor, columns: slice, out: Tensor) -> None:
    """Batch norm and ReLU of some columns: the `load` of conv3x3."""
    torch.addcmul(shift, x[:, columns], scale, out=out).relu_()


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a batch norm in eval mode multiplies with and adds, (C,) each."""
    statistics: Any = norm
    scale = norm.weight * torch.rsqrt(statistics.running_var + norm.eps)
    return scale, norm.bias - statistics.running_mean * scale


class FastStyledConv:
    """One styled convolution; images are (H, W, C).

    With D the demodulation, which is positive, and b the bias, `leaky(D * y + b) == D * leaky(y + b / D)`. This gives
    the result without the D in front: the layers that take it as input scale their input anyway, and D goes into that.
    """

    def __init__(self, layer: StyledConv, size: int) -> None:
        weight = layer.conv.weight[0]
        self.energy = weight.square().sum(dim=(2, 3)).t().contiguous()  # (in, out)
        self.bias = layer.activate["bias"].flatten() * GAIN
        self.noise_gain = layer.noise["weight"].item() * GAIN
        self.convolution = conv3x3(weight, size, size) if not layer.conv.upsample else None
        if layer.conv.upsample:
            self.upsampling = UpsamplingConv2d(weight, size, size)
            kernel = layer.conv.blur.kernel.expand(len(weight), 1, 4, 4).contiguous()
            self.blur = PackedConv2d(kernel, (2 * size + 1, 2 * size + 1), padding=(1, 1), groups=len(weight))

    def demodulation(self, modulation: Tensor) -> Tensor:
        """(in,) -> D (out,), the gain of the activation included."""
        return torch.rsqrt(modulation.square() @ self.energy + DEMODULATION_EPS) * GAIN

    def __call__(self, x: Tensor, factor: Tensor, demodulation: Tensor, noise: Tensor | None) -> Tensor:
        """(H, W, in) times `factor` (in,), with D (out,) and noise (H', W') -> (H', W', out), to multiply with D."""
        bias, noise_gain = self.bias / demodulation, self.noise_gain / demodulation
        if self.noise_gain == 0:
            noise = None

        def load(columns: slice, out: Tensor) -> None:
            torch.mul(x[:, columns], factor, out=out)

        def finish(columns: slice, y: Tensor) -> None:
            y.add_(bias)
            if noise is not None:
                y.addcmul_(noise[:, columns, None], noise_gain)
            F.leaky_relu_(y, SLOPE)

        if self.convolution is not None:
            return self.convolution(load, finish)
        doubled = self.upsampling((x * factor)[None].permute(0, 3, 1, 2))
        y = self.blur(doubled, bias, SLOPE if noise is None else None).permute(0, 2, 3, 1)[0]
        return y if noise is None else F.leaky_relu_(y.addcmul_(noise[..., None], noise_gain), SLOPE)


class FastToRGB:
    """Colours of an image to be multiplied with D; see FastStyledConv."""

    def __init__(self, layer: ToRGB, size: int) -> None:
        self.weight = layer.conv.weight[0, :, :, 0, 0].clone()  # (3, in)
        self.bias = layer.bias[0].clone()  # (3, 1, 1)
        self.double = upsampling_matrix(layer.upsample.taps(), size // 2) if hasattr(layer, "upsample") else None

    def __call__(self, x: Tensor, factor: Tensor, image: Tensor | None) -> Tensor:
        """(H, W, in) and (3, H / 2, W / 2) or None -> (3, H, W)."""
        rgb = (x @ (self.weight * factor).t()).permute(2, 0, 1) + self.bias
        if image is None or self.double is None:
            return rgb
        return rgb + self.double @ image @ self.double.t()


class FastGenerator(nn.Module):
    """The images of a Generator, one at a time: none depends on those beside it.

    Args:
        constant: leading entries of the style that stay from image to image, the identity; what they contribute is
            computed when they change.
    """

    def __init__(self, generator: Generator, constant: int = 0) -> None:
        super().__init__()
        sizes = generator.noise_sizes
        styled = [generator.conv1, *generator.convs]
        colours = [generator.to_rgb1, *generator.to_rgbs]
        inputs = [sizes[0], *sizes[:-1]]  # side of every layer's input
        self.layers = [FastStyledConv(layer, size) for layer, size in zip(styled, inputs, strict=True)]
        self.colours = [FastToRGB(layer, sizes[2 * level]) for level, layer in enumerate(colours)]
        linears = [(layer.conv.modulation, layer.conv.scale) for layer in (*styled, *colours)]
        weight = torch.cat([linear.weight * (linear.scale * scale) for linear, scale in linears])
        self.bias = torch.cat([linear.bias * (linear.lr_multiplier * scale) for linear, scale in linears])
        self.widths = [len(linear.weight) for linear, _ in linears]
        self.constant = constant
        self.of_constant, self.of_rest = weight[:, :constant].contiguous(), weight[:, constant:].contiguous()
        self._kept = (torch.full((constant,), torch.nan), self.bias)
        self.unfold = generator.unfold if len(generator.skips) else None
        self._kept_map: tuple[Tensor, Tensor, list[Tensor | None]] | None = None
        self.eval()

    def forward(self, identity_map: Tensor, style: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """See Generator; the map is required."""
        noises = [[layer[i % len(layer), 0] for layer in noise or ()] for i in range(len(style))]
        rows = zip(identity_map, style, noises, strict=True)
        return torch.stack([self._image(*self._unfolded(one), *row) for one, *row in rows])

    def _unfolded(self, identity_map: Tensor) -> tuple[Tensor, Sequence[Tensor | None]]:
        """Of a map (C', s, s) what G starts from, (C, s, s), and what it adds later, (C, H, W) or nothing each.

        It stays from image to image, as the identity does.
        """
        if self.unfold is None:
            return identity_map, ()
        if self._kept_map is None or not torch.equal(identity_map, self._kept_map[0]):
            start, skipped = self.unfold(identity_map[None])
            added = [None if x is None else x[0] for x in skipped]
            self._kept_map = identity_map.clone(), start[0].clone(), added
        return self._kept_map[1:]

    def _modulations(self, style: Tensor) -> Sequence[Tensor]:
        """(style_dim,) -> (in,) for every layer."""
        leading, before = self._kept
        if not torch.equal(style[: self.constant], leading):
            leading = style[: self.constant].clone()
            before = torch.addmv(self.bias, self.of_constant, leading)
            self._kept = leading, before
        return torch.addmv(before, self.of_rest, style[self.constant :]).split(self.widths)

    def _image(self, start: Tensor, skipped: Sequence[Tensor | None], style: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Of `_unfolded`, with (style_dim,) and (H, W) a layer, or nothing -> (3, image_size, image_size)."""
        modulations = self._modulations(style)
        x = start.permute(1, 2, 0)
        pending: Tensor | float = 1.0  # D of the layer before
        image = None
        for index, layer in enumerate(self.layers):
            demodulation = layer.demodulation(modulations[index])
            x = layer(x, modulations[index] * pending, demodulation, noise[index] if noise else None)
            pending = demodulation
            if index % 2 == 1 and skipped:
                added = skipped[index // 2]
                x = x if added is None else x + added.permute(1, 2, 0) / demodulation
            if index % 2 == 0:
                level = index // 2
                image = self.colours[level](x, modulations[len(self.layers) + level] * pending, image)
        assert image is not None
        return torch.tanh(image)
