"""From a letter of checkpoint names, `<epoch>_net_<letter>.pth`, and a NetworkConfig to a network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from models.networks.audio_encoder import AudioEncoder
from models.networks.discriminator import MultiscaleDiscriminator
from models.networks.generator import Generator, resolutions
from models.networks.identity_encoder import IdentityEncoder
from models.networks.pose_encoder import PoseEncoder
from options.config import AudioConfig, NetworkConfig

# Heads whose size follows the class count or the clip length, and the D of the face, which an earlier stage may lack.
# Only training uses them, so a checkpoint may lack them or have them in another size; all else must match exactly.
OPTIONAL_HEADS: Mapping[str, tuple[str, ...]] = {
    "G": (),
    "V": ("fc.",),
    "E": ("classifier.2.", "mouth_fc.1.", "headpose_fc.1."),
    "A_sync": ("fc.",),
    "A": ("fc.",),
    "D": ("discriminator_face.",),
}


def build_network(letter: str, config: NetworkConfig) -> nn.Module:
    """A freshly initialised network: `letter` is G, V, E, A_sync, A or D."""
    if letter == "G":
        return Generator(
            image_size=config.image_size,
            style_dim=config.style_dim,
            channels=config.generator_channels,
            input_channels=config.generator_input_channels,
            mapping_layers=config.mapping_layers,
            skips=config.identity_skips,
        )
    if letter == "V":
        return IdentityEncoder(
            num_classes=config.num_classes,
            map_channels=config.generator_input_channels,
            map_size=resolutions(config.image_size)[0],
            layers=config.identity_layers,
            width=config.identity_width,
            groups=config.identity_groups,
            group_width=config.identity_group_width,
            image_size=config.identity_size,
            stem_pool=config.identity_stem_pool,
            skips=config.identity_skips,
        )
    if letter == "E":
        return PoseEncoder(
            pose_dim=config.pose_dim,
            num_classes=config.num_classes,
            clip_len=config.clip_len,
            image_size=config.pose_size or config.crop_size,
            feature_dim=config.feature_dim,
            channels=config.hourglass_channels,
            depth=config.hourglass_depth,
        )
    if letter == "D":
        return MultiscaleDiscriminator(
            config.discriminator_width, config.num_discriminators, config.discriminator_face, config.discriminator_crop
        )
    out_dim, windows = {"A_sync": (config.feature_dim, 1), "A": (config.identity_dim, config.n_mel_t)}[letter]
    return AudioEncoder(
        num_classes=config.num_classes,
        num_mel_bands=AudioConfig.num_mel_bands * windows,
        out_dim=out_dim,
        layers=config.audio_layers,
        filters=config.audio_filters,
    )
