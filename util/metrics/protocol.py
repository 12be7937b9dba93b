"""What an evaluation measures, and how: the protocols, printed into every report, because figures depend on them.

A clip's figure is the mean over its frames, a set's the mean over its clips; the deviation is that between clips.
"""

from __future__ import annotations

from dataclasses import dataclass

HIGHER, LOWER, NEITHER = "higher", "lower", ""


@dataclass(frozen=True)
class Quantity:
    """One figure of a clip or of a whole set."""

    name: str
    metric: str  # what --metrics asks for
    title: str
    better: str  # HIGHER, LOWER, or NEITHER: then near the ground truth is good
    digits: int  # after the point
    rule: str
    unit: str = ""
    per_frame: bool = True  # a value for every frame, so that there is a curve


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("ssim", "ssim", "SSIM", HIGHER, 3, "scikit-image on 8-bit colour, uniform 7 x 7 window"),
        Quantity("psnr", "psnr", "PSNR", HIGHER, 2, "on 8-bit colour; equal frames count as 100 dB", "dB"),
        Quantity("cpbd", "cpbd", "CPBD", NEITHER, 3, "sharpness of grey frames without a reference, 0 to 1"),
        Quantity("lmd", "lmd", "LMD", LOWER, 2, "mean distance of the 20 mouth landmarks, each mouth centred", "px"),
        Quantity("lmd_sum", "lmd", "LMD, sum", LOWER, 1, "sum over the 20 mouth landmarks, as in older tools", "px"),
        Quantity("lmd_face", "lmd", "LMD, face", LOWER, 2, "mean distance of all 68 landmarks, centred", "px"),
        Quantity("lmd_normalised", "lmd", "LMD / eyes", LOWER, 4, "LMD by the distance of the outer eye corners"),
        Quantity("lse_c", "sync", "LSE-C", HIGHER, 2, "sync confidence of SyncNet, shifts of -15 to 15 frames, "
                 "zeros beyond the ends", per_frame=False),
        Quantity("lse_d", "sync", "LSE-D", LOWER, 2, "SyncNet's distance at the best shift", per_frame=False),
        Quantity("sync_offset", "sync", "AV offset", NEITHER, 1, "best shift; below 0 the picture runs ahead of the "
                 "sound", "frames", per_frame=False),
        Quantity("model_sync_c", "model_sync", "Model sync C", HIGHER, 3, "confidence as LSE-C, but by A_sync and E of "
                 "--sync_model: how well sound and face agree as that model sees it; compare only by one model",
                 per_frame=False),
        Quantity("model_sync_d", "model_sync", "Model sync D", LOWER, 3, "its distance at the best shift: unit "
                 "vectors, one a frame", per_frame=False),
        Quantity("model_sync_offset", "model_sync", "Model sync offset", NEITHER, 1, "its best shift, signed like "
                 "AV offset", "frames", per_frame=False),
        Quantity("identity", "identity", "Identity", HIGHER, 3, "cosine of face embeddings, in every 5th frame, "
                 "against the identity reference, or the first real face where none is known"),
        Quantity("frechet", "frechet", "Fréchet", LOWER, 1, "distance of Inception features, all clips together",
                 per_frame=False),
    )
}  # fmt: skip
METRICS = tuple(dict.fromkeys(quantity.metric for quantity in QUANTITIES.values()))
MODEL_SYNC = "model_sync"  # in no protocol: its figures depend on the model that is asked
NEED_REAL = ("ssim", "psnr", "lmd")  # compared frame by frame with the real video
NEED_FACES = ("lmd", "identity")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A fixed way to measure; change it under another name only."""

    name: str
    metrics: tuple[str, ...]  # without --metrics
    columns: tuple[str, ...]  # of the summary table; the files hold every quantity
    detect_every: int  # the face is looked for in every so many-th frame and followed in between
    identity_every: int = 5  # as above, for the embedding: it changes slowly, and takes longer than all else
    frechet_frames: int = 100  # of each clip, evenly spread, so that long clips do not count for more
    about: str

    def quantities(self, metrics: tuple[str, ...]) -> tuple[str, ...]:
        """The columns for these metrics: those of the protocol, and the first of every metric it has none for."""
        chosen = [name for name in self.columns if QUANTITIES[name].metric in metrics]
        known = {QUANTITIES[name].metric for name in chosen}
        extra = [next(q.name for q in QUANTITIES.values() if q.metric == m) for m in metrics if m not in known]
        return (*chosen, *extra)

    def rules(self, metrics: tuple[str, ...]) -> dict[str, str]:
        """Title -> how it is measured, for the report."""
        return {q.title: q.rule for q in QUANTITIES.values() if q.metric in metrics}


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="paper",
            metrics=("ssim", "cpbd", "lmd", "sync"),
            columns=("ssim", "cpbd", "lmd", "lse_c"),
            detect_every=1,
            about="the four figures of Zhou et al. 2021, section 4.1; a face is looked for in every frame",
        ),
        Protocol(
            name="modern",
            metrics=tuple(metric for metric in METRICS if metric != MODEL_SYNC),
            columns=("ssim", "psnr", "cpbd", "lmd", "lmd_normalised", "lse_c", "lse_d", "identity", "frechet"),
            detect_every=5,
            about="the paper's figures and those asked for since; a face is looked for in every 5th frame and followed",
        ),
    )
}
