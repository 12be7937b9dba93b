"""Stage 1: V learns who a face is, and A who a voice is, from speaker labels; frames (B, N, 3, S, S)."""

from __future__ import annotations

from torch.nn import functional as F

from models.trainers.base import Batch, Stage, StepOutput, identity_retrieval


class RecognitionStage(Stage):
    """Softmax cross-entropy on speaker labels (docs/how_it_works.md section 6, point 1)."""

    @property
    def weights(self) -> dict[str, float]:
        return {"V/identity": self.config.loss.lambda_identity, "A/identity": self.config.loss.lambda_identity}

    def unused(self, letter: str) -> tuple[str, ...]:
        # the identity map has no label to learn from
        return (*super().unused(letter), "conv1x1.") if letter == "V" else super().unused(letter)

    def forward(self, batch: Batch) -> StepOutput:
        faces = self.network("V")
        vector, _ = faces(batch["reference"])  # (B, 2048)
        losses = {"V/identity": F.cross_entropy(faces.classify(vector).float(), batch["label"])}
        if "A" in self.networks:
            voices = self.network("A")
            scores = voices.classify(voices(batch["voice"]))
            losses["A/identity"] = F.cross_entropy(scores.float(), batch["label"])
        return StepOutput(losses)

    def validate(self, batch: Batch) -> dict[str, float]:
        return identity_retrieval(self.network("V"), batch["reference"])
