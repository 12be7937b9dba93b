"""How large the networks of a NetworkConfig are, counted before anything is built: a small file may ask for terabytes.

The sums follow the constructors in models/networks; a test compares them with what is built.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from util.errors import OptionError

if TYPE_CHECKING:
    from options.config import NetworkConfig

MOST_TIMES = 2  # as many parameters as the published network has
MOST_PIXELS = 1024  # of a picture's side; StyleGAN2's largest
MOST_LAYERS = 200  # of one kind
LONGEST_CLIP = 25  # frames that a published network would take at a time
_MEL_BANDS = 80


def require_moderate(config: NetworkConfig, published: NetworkConfig) -> None:
    """Raises OptionError, which names the size, for networks that are out of proportion to the published ones."""
    how = "; if that is meant, add --any_size"
    for name in ("crop_size", "generator_size", "identity_size", "pose_size"):
        if (getattr(config, name) or 0) > MOST_PIXELS:
            raise OptionError(f"{name} is {_short(getattr(config, name))} pixels, {MOST_PIXELS} are the most{how}")
    for name in ("identity_layers", "audio_layers", "mapping_layers", "hourglass_depth", "num_discriminators"):
        value = getattr(config, name)
        layers = sum(value) if isinstance(value, tuple) else value
        if layers > MOST_LAYERS:
            raise OptionError(f"{name} is {_short(layers)}, {MOST_LAYERS} are the most{how}")
    # the heads of E that classify whole clips grow with the clip
    limits = count_parameters(dataclasses.replace(published, clip_len=min(config.clip_len, LONGEST_CLIP)))
    for letter, count in count_parameters(config).items():
        if count > MOST_TIMES * limits[letter]:
            most = f"{MOST_TIMES} times the published {limits[letter]:,} are the most"
            raise OptionError(f"network {letter} would have {_short(count)} parameters, {most}{how}")


def resolutions(image_size: int) -> list[int]:
    """Pixels from the smallest map, 7 or 4, to the image; none if halving the image does not lead to those."""
    sizes = [image_size]
    while sizes[0] % 2 == 0 and sizes[0] > 7:
        sizes.insert(0, sizes[0] // 2)
    return sizes if sizes[0] in (4, 7) else []


def _short(number: int) -> str:
    return f"{number:,}" if number < 10**15 else "over 10^15"


def count_parameters(config: NetworkConfig) -> dict[str, int]:
    """Letter -> number of trained parameters."""
    return {
        "G": _generator(config),
        "V": _identity_encoder(config),
        "E": _pose_encoder(config),
        "A_sync": _audio_encoder(config, config.feature_dim, 1),
        "A": _audio_encoder(config, config.identity_dim, config.n_mel_t),
        "D": (config.num_discriminators + config.discriminator_face) * _discriminator(config.discriminator_width),
    }


def _linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _generator(config: NetworkConfig) -> int:
    style, wide = config.style_dim, config.generator_input_channels
    sizes = resolutions(config.image_size)
    # StyleGAN2's: 512 up to 64 px, half as many at each doubling
    table = [2 ** max(0, min(9, 15 - (size - 1).bit_length())) for size in sizes]
    channels = config.generator_channels or table

    def styled(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + _linear(style, inputs) + outputs + 1

    def to_rgb(inputs: int) -> int:
        return 3 * inputs + _linear(style, inputs) + 3

    convs = [styled(below, here) + styled(here, here) for below, here in itertools.pairwise(channels)]
    start = wide * sizes[0] ** 2 + styled(wide, channels[0])
    skips = itertools.starmap(_linear, zip(config.identity_skips, channels[1:], strict=False))
    return config.mapping_layers * _linear(style, style) + start + sum(convs) + sum(map(to_rgb, channels)) + sum(skips)


def _identity_encoder(config: NetworkConfig) -> int:
    inputs = config.identity_width
    total = 3 * 49 * inputs + 2 * inputs
    for stage, blocks in enumerate(config.identity_layers):
        inner = config.identity_groups * config.identity_group_width * 2**stage
        outputs = 4 * config.identity_width * 2**stage
        grouped = 9 * inner * (inner // config.identity_groups)
        rest = grouped + inner * outputs + 4 * inner + 2 * outputs
        total += rest + inputs * inner + (inputs * outputs + 2 * outputs)  # the first block has a shortcut
        total += (blocks - 1) * (rest + outputs * inner)
        inputs = outputs
    total += sum(_linear(inputs // 2**level, n) for level, n in enumerate(config.identity_skips, start=1))
    return total + sum(_linear(inputs, n) for n in (1000, config.generator_input_channels, config.num_classes))


def _pose_encoder(config: NetworkConfig) -> int:
    wide, dim, classes = config.hourglass_channels, config.feature_dim, config.num_classes

    def block(inputs: int, outputs: int) -> int:
        half, quarter = outputs // 2, outputs // 4
        total = 2 * (inputs + half + quarter) + 9 * (inputs * half + half * quarter + quarter**2)
        return total if inputs == outputs else total + 2 * inputs + inputs * outputs

    stem, side = wide // 4, ((config.pose_size or config.crop_size) // 4 + 1) // 2
    trunk = (3 * 49 + 1 + 2) * stem + block(stem, wide // 2) + block(wide // 2, wide // 2) + block(wide // 2, wide)
    trunk += (3 * config.hourglass_depth + 2) * block(wide, wide)
    trunk += _linear(wide, wide) + _linear(wide, 68) + 2 * wide + 2 * 68 + 68 * 9 + 1 + _linear(side**2, dim)
    heads = 5 * _linear(dim, dim) + _linear(dim, dim - config.pose_dim) + _linear(dim, config.pose_dim)
    seen = (dim, dim * config.clip_len, config.pose_dim * config.clip_len)
    return trunk + heads + sum(_linear(inputs, classes) for inputs in seen)


def _audio_encoder(config: NetworkConfig, out_dim: int, windows: int) -> int:
    inputs, height = config.audio_filters[0], _MEL_BANDS * windows
    total = 9 * inputs + inputs + 2 * inputs
    for stage, (blocks, outputs) in enumerate(zip(config.audio_layers, config.audio_filters, strict=True)):
        squeezed = outputs // 8
        rest = 9 * outputs**2 + 4 * outputs + _linear(outputs, squeezed) + _linear(squeezed, outputs)
        shortcut = inputs * outputs + 2 * outputs if stage or inputs != outputs else 0
        total += blocks * rest + 9 * inputs * outputs + (blocks - 1) * 9 * outputs**2 + shortcut
        inputs, height = outputs, -(-height // 2) if stage else height
    pooled = inputs * height
    attention = _linear(pooled, 128) + 2 * 128 + _linear(128, pooled)
    return total + attention + _linear(pooled, out_dim) + _linear(out_dim, config.num_classes)


def _discriminator(width: int) -> int:
    middle = sum(16 * (width << level) * (width << (level + 1)) for level in range(3))
    return 16 * 3 * width + width + middle + 16 * 8 * width + 1
