"""SyncNet: one vector for 0.2 s of mouth, one for 0.2 s of sound; near each other when they belong together.

Lips are 5 frames of 224 px at 25 fps, BGR in [0, 255]; sound is 13 MFCC x 20 steps of 10 ms, not scaled.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

_CONV_FEATURES = 512
_ANY_KEY = "netcnnaud.0.weight"


class SyncNet(nn.Module):
    """The two-stream network of `syncnet_v2.model`, with its key names.

    Source: Chung & Zisserman 2016, *Out of time: automated lip sync in the wild*, as released with the second weights.
    """

    def __init__(self, embedding_dim: int = 1024) -> None:
        super().__init__()
        self.netcnnaud = _audio_trunk()
        self.netfcaud = _head(embedding_dim)
        self.netfclip = _head(embedding_dim)
        self.netcnnlip = _lip_trunk()

    def embed_lip(self, lip: Tensor) -> Tensor:
        """(B, 3, 5, 224, 224) float32 BGR in [0, 255] -> (B, embedding_dim), not normalised."""
        return self.netfclip(self.netcnnlip(lip).flatten(1))  # (B, 512, 1, 1, 1) -> (B, 512)

    def embed_audio(self, audio: Tensor) -> Tensor:
        """(B, 1, 13, 20) float32 MFCC, time last -> (B, embedding_dim), not normalised."""
        return self.netfcaud(self.netcnnaud(audio).flatten(1))  # (B, 512, 1, 1) -> (B, 512)


def published_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the names of `SyncNet`, whatever wrapper put its prefix before them (`module.`, `__S__.`).

    Counters that torch older than 0.4.1 did not have (`num_batches_tracked`) may be absent; `load_state_dict` fills
    them in. Raises KeyError: no key ends with `netcnnaud.0.weight`, so these are weights of something else.
    """
    prefixes = [key.removesuffix(_ANY_KEY) for key in state if key.endswith(_ANY_KEY)]
    if not prefixes:
        raise KeyError(f"not weights of SyncNet: no {_ANY_KEY} among {len(state)} keys")
    return {key.removeprefix(prefixes[0]): tensor for key, tensor in state.items()}


def _audio_trunk() -> nn.Sequential:
    """(B, 1, 13, 20) -> (B, 512, 1, 1)."""
    return nn.Sequential(
        *_conv2d(1, 64, 3, padding=1),
        nn.MaxPool2d(1, stride=1),  # does nothing, but the published keys count it
        *_conv2d(64, 192, 3, padding=1),
        nn.MaxPool2d(3, stride=(1, 2)),  # 13 x 20 -> 11 x 9
        *_conv2d(192, 384, 3, padding=1),
        *_conv2d(384, 256, 3, padding=1),
        *_conv2d(256, 256, 3, padding=1),
        nn.MaxPool2d(3, stride=2),  # 11 x 9 -> 5 x 4
        *_conv2d(256, _CONV_FEATURES, (5, 4)),  # 5 x 4 -> 1 x 1
    )


def _lip_trunk() -> nn.Sequential:
    """(B, 3, 5, 224, 224) -> (B, 512, 1, 1, 1); time is gone after the first layer."""
    return nn.Sequential(
        *_conv3d(3, 96, (5, 7, 7), stride=2),  # 5 x 224 x 224 -> 1 x 109 x 109
        _pool(),  # 54 x 54
        *_conv3d(96, 256, (1, 5, 5), stride=2, padding=1),  # 26 x 26
        _pool(padding=1),  # 13 x 13
        *_conv3d(256, 256, (1, 3, 3), padding=1),
        *_conv3d(256, 256, (1, 3, 3), padding=1),
        *_conv3d(256, 256, (1, 3, 3), padding=1),
        _pool(),  # 6 x 6
        *_conv3d(256, _CONV_FEATURES, (1, 6, 6)),  # 1 x 1
    )


def _conv2d(before: int, after: int, kernel: int | tuple[int, int], padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel, padding=padding), nn.BatchNorm2d(after), nn.ReLU()]


def _conv3d(
    before: int, after: int, kernel: tuple[int, int, int], stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    conv = nn.Conv3d(before, after, kernel, (1, stride, stride), (0, padding, padding))
    return [conv, nn.BatchNorm3d(after), nn.ReLU()]


def _pool(padding: int = 0) -> nn.MaxPool3d:
    return nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, padding, padding))


def _head(embedding_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(_CONV_FEATURES, _CONV_FEATURES),
        nn.BatchNorm1d(_CONV_FEATURES),
        nn.ReLU(),
        nn.Linear(_CONV_FEATURES, embedding_dim),
    )
