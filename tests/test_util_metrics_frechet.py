"""Fréchet distances of Gaussians whose distance is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from util.errors import CheckpointError, MediaError
from util.metrics.frechet import Moments, frechet_distance, inception_features


def gaussian(mean: np.ndarray, covariance: np.ndarray, count: int = 11) -> Moments:
    return Moments(count, mean.astype(np.float64), covariance * (count - 1.0))


def random_covariance(seed: int, size: int) -> np.ndarray:
    a = np.random.default_rng(seed).standard_normal((size, 2 * size))
    return a @ a.T / size


def test_frechet_distance_of_diagonal_gaussians_equals_formula() -> None:
    a = gaussian(np.array([1.0, 2, 3]), np.diag([4.0, 9, 1]))
    b = gaussian(np.array([1.0, 0, 6]), np.diag([1.0, 9, 25]))
    assert frechet_distance(a, b) == pytest.approx(13 + (2 - 1) ** 2 + (1 - 5) ** 2, rel=1e-12)


def test_frechet_distance_of_two_dimensions_equals_closed_form() -> None:
    s, t = random_covariance(0, 2), random_covariance(1, 2)
    trace_of_root = np.sqrt(np.trace(s @ t) + 2 * np.sqrt(np.linalg.det(s @ t)))
    expected = np.trace(s) + np.trace(t) - 2 * trace_of_root
    assert frechet_distance(gaussian(np.zeros(2), s), gaussian(np.zeros(2), t)) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_equals_matrix_root_of_scipy() -> None:
    s, t = random_covariance(2, 30), random_covariance(3, 30)
    expected = np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)
    assert frechet_distance(gaussian(np.zeros(30), s), gaussian(np.zeros(30), t)) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_singular_covariances_equals_formula() -> None:
    rng = np.random.default_rng(4)
    v, w = rng.standard_normal((2, 200))
    a, b = gaussian(np.zeros(200), np.outer(v, v)), gaussian(np.zeros(200), np.outer(w, w))
    assert frechet_distance(a, b) == pytest.approx(v @ v + w @ w - 2 * abs(v @ w), rel=1e-4)


def test_frechet_distance_of_same_features_is_zero() -> None:
    features = np.random.default_rng(5).standard_normal((10, 64)).astype(np.float32)  # fewer vectors than dimensions
    assert frechet_distance(Moments.of(features), Moments.of(features)) == pytest.approx(0, abs=1e-4)


def test_frechet_distance_of_samples_approaches_that_of_their_gaussians() -> None:
    rng = np.random.default_rng(6)
    a = Moments.of(rng.standard_normal((20000, 4)))
    b = Moments.of(3 * rng.standard_normal((20000, 4)) + 2)
    assert frechet_distance(a, b) == pytest.approx(4 * (2**2 + (3 - 1) ** 2), rel=0.02)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_moments_of_parts_add_up_to_those_of_the_whole() -> None:
    features = np.random.default_rng(7).standard_normal((53, 6)) * 5 + 1000
    total = Moments.of(features[:1]) + Moments.of(features[1:20]) + Moments.of(features[20:])
    assert total.count == 53
    np.testing.assert_allclose(total.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(total.covariance, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-12)


def test_moments_of_nan_raises() -> None:
    with pytest.raises(MediaError, match="NaN or infinite"):
        Moments.of(np.array([[1.0, np.nan]]))


def test_frechet_distance_of_single_vector_raises() -> None:
    with pytest.raises(MediaError, match="at least 2 feature vectors on each side, got 1"):
        frechet_distance(Moments.of(np.zeros((3, 2))), Moments.of(np.zeros((1, 2))))


def test_inception_features_without_weights_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"inception\.pth: no such file; torchvision's weights"):
        inception_features(tmp_path / "inception.pth")


@pytest.mark.slow
def test_inception_features_equal_network_before_its_last_layer(tmp_path: Path) -> None:
    import torch

    from tests.seeded_weights import fill
    from util.checkpoint import save_state_dict
    from util.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, aux_logits=True, transform_input=False, init_weights=False)
    fill(network, 1)
    save_state_dict(network.state_dict(), tmp_path / "inception.pth")
    frames = np.random.default_rng(8).integers(0, 256, (2, 299, 299, 3)).astype(np.uint8)
    features = inception_features(tmp_path / "inception.pth")(frames)
    assert features.shape == (2, 2048)
    rgb = torch.from_numpy(frames[..., ::-1].copy()).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        scores = network.eval()(rgb)
        assert scores.std() > 0.01
        torch.testing.assert_close(network.fc(torch.from_numpy(features)), scores, rtol=1e-4, atol=1e-4)
