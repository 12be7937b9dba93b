"""Fréchet distance between two sets of feature vectors (FID when the features are Inception's)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.errors import CheckpointError, MediaError


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of feature vectors; sets of any size, in any parts, without keeping the vectors."""

    count: int
    mean: np.ndarray  # (D,) float64
    scatter: np.ndarray  # (D, D) float64, sum of outer products of what is left after taking off the mean

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Moments of (N, D) features. Raises MediaError for NaN or infinite numbers."""
        x = features.astype(np.float64)
        if not np.isfinite(x).all():
            raise MediaError("features hold NaN or infinite numbers; leave out the frames they come from")
        mean = x.mean(axis=0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan et al. 1983)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """(D, D) float64, divided by N - 1. Raises MediaError for a single vector."""
        if self.count < 2:
            raise MediaError("a Fréchet distance needs at least 2 feature vectors on each side, got 1")
        return self.scatter / (self.count - 1)


def frechet_distance(real: Moments, generated: Moments) -> float:
    """Squared Fréchet distance of two Gaussians, |m - n|^2 + tr(S + T - 2 (S T)^(1/2)).

    The trace of the root is the sum of the square roots of the eigenvalues of S^(1/2) T S^(1/2), which is symmetric: no
    complex numbers, and singular covariances (fewer vectors than dimensions) need no help. With few vectors the figure
    is far too large, so compare only figures of the same N.

    Source: Dowson & Landau 1982; Heusel et al. 2017 for images.
    """
    s, t = real.covariance, generated.covariance
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ t @ root)
    squared_gap = np.sum((real.mean - generated.mean) ** 2)
    distance = squared_gap + np.trace(s) + np.trace(t) - 2 * np.sum(np.sqrt(np.maximum(cross, 0)))
    return max(0.0, float(distance))


def inception_features(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The 2048 pooled numbers of torchvision's Inception v3, for `Moments.of`; on the CPU.

    FID in papers uses other weights (TensorFlow's, of 2015) and another resize: name the weights beside the figure and
    compare only with figures of the same.

    Returns:
        a function (B, H, W, 3) uint8 BGR -> (B, 2048) float32; frames are resized to 299 px, bilinear, antialiased.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; torchvision's weights are inception_v3_google-0cc3c7bd.pth")
    import torch

    from util.checkpoint import load_network
    from util.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, aux_logits=True, transform_input=False, init_weights=False)
    load_network(network, path)
    network.fc = torch.nn.Identity()
    network.eval().requires_grad_(False)

    def features(frames_bgr: np.ndarray) -> np.ndarray:
        rgb = torch.from_numpy(np.ascontiguousarray(frames_bgr[..., ::-1].transpose(0, 3, 1, 2))).float()
        resized = torch.nn.functional.interpolate(rgb, (299, 299), mode="bilinear", antialias=True)
        return network(resized / 127.5 - 1).numpy()  # these weights were trained on [-1, 1]

    return features
