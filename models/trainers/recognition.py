"""Stage 1: V learns who a face is, and A who a voice is, from speaker labels; frames (B, N, 3, S, S)."""

from __future__ import annotations

from torch.nn import functional as F

from models.losses import contrastive_loss
from models.trainers.base import IDENTITY_MAP, Batch, Stage, StepOutput, identity_retrieval, retrieval_accuracy
from util.distributed import gather_with_gradient

# With the published 1 the length of A's vector grows to several times that of V's, and G takes it as it is.
_FACE_WEIGHT = 100.0


class RecognitionStage(Stage):
    """Softmax cross-entropy on speaker labels (docs/how_it_works.md section 6, point 1).

    A's vector takes the place of V's when people are generated, so it also learns to be what V makes of the face: by
    L1 distance, and contrasted with those of the batch.
    """

    @property
    def weights(self) -> dict[str, float]:
        loss = self.config.loss
        weights = {"V/identity": loss.lambda_identity, "A/identity": loss.lambda_identity}
        return weights | {"A/face": loss.lambda_cross_modal or _FACE_WEIGHT, "A/contrastive": loss.lambda_contrastive}

    def unused(self, letter: str) -> tuple[str, ...]:
        # the identity map has no label to learn from
        return (*super().unused(letter), *IDENTITY_MAP) if letter == "V" else super().unused(letter)

    def forward(self, batch: Batch) -> StepOutput:
        faces = self.network("V")
        vector, _ = faces(batch["reference"])  # (B, 2048)
        losses = {"V/identity": F.cross_entropy(faces.classify(vector).float(), batch["label"])}
        if "A" in self.networks:
            voices = self.network("A")
            heard, seen = voices(batch["voice"]), vector.detach().float()  # (B, 2048)
            losses["A/identity"] = F.cross_entropy(voices.classify(heard).float(), batch["label"])
            losses["A/face"] = F.l1_loss(heard.float(), seen)
            everybody = gather_with_gradient(heard.float()), gather_with_gradient(seen)
            form, temperature = self.config.loss.contrastive_form, self.config.loss.temperature
            losses["A/contrastive"] = contrastive_loss(*everybody, form, temperature)
        return StepOutput(losses)

    def validate(self, batch: Batch) -> dict[str, float]:
        measures = identity_retrieval(self.network("V"), batch["reference"])
        if "A" in self.networks:
            heard, seen = self.network("A")(batch["voice"]), self.network("V")(batch["reference"])[0]
            measures["val/voice_to_face"] = retrieval_accuracy(heard.float(), seen.float())
        return measures
