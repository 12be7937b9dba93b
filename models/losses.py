"""Losses as pure functions of tensors; weights are the trainer's business. Every function returns a scalar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_DISTANCE_EPS = 1e-8
VGG_LAYER_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


def contrastive_loss(
    anchors: Tensor, candidates: Tensor, form: str = "inverse_distance", temperature: float = 0.07
) -> Tensor:
    """Each anchor must find its partner among all candidates: loss = CE(logits, diagonal).

    With unit vectors a_i and c_j, logits_ij = 1 / |a_i - c_j| (`inverse_distance`, as released) or
    <a_i, c_j> / temperature (`cosine`, as the paper writes).

    anchors, candidates: (B, D), row i of one belongs to row i of the other.

    Source: the published training loss; Zhou et al. 2021, eq. 3.
    """
    anchors, candidates = F.normalize(anchors, dim=1), F.normalize(candidates, dim=1)
    if form == "cosine":
        logits = anchors @ candidates.T / temperature
    else:
        distance = torch.cdist(anchors, candidates, compute_mode="donot_use_mm_for_euclid_dist")
        logits = 1 / (distance + _DISTANCE_EPS)
    return F.cross_entropy(logits, torch.arange(len(anchors), device=anchors.device))


def standard_loss(features: Tensor) -> Tensor:
    """Smooth L1 of the mean from 0 and of the deviation from 1, over the rows of (B, D), averaged over columns.

    A cosine sees nothing but the mean where that is long, and leaves the length free; the contrastive loss then has no
    slope, and what G is fed grows.

    Source: ours.
    """
    mean = features.mean(dim=0)
    spread = (features - mean).square().mean(dim=0).add(_DISTANCE_EPS).sqrt()
    return F.smooth_l1_loss(mean, torch.zeros_like(mean)) + F.smooth_l1_loss(spread, torch.ones_like(spread))


def independence_loss(pose: Tensor, speech: Tensor) -> Tensor:
    """Keeps the numbers of a pose code from all saying the same, and from saying what the sound says.

    With columns p_i of `pose` and s_k of `speech`, centred over the batch:
    loss = mean corr(p_i, p_j)^2 over i != j  +  mean corr(p_i, s_k)^2  +  mean max(0, 1 - std(p_i)).

    Args:
        pose: (B, P) how the pose code changes between two moments of a video.
        speech: (B, D) how the speech feature changes; not trained through.

    Source: ours; the first and last term are those of VICReg (Bardes et al. 2022) with correlations.
    """
    pose = pose - pose.mean(dim=0)
    directions = F.normalize(pose, dim=0)
    heard = F.normalize((speech - speech.mean(dim=0)).detach(), dim=0)
    count = pose.shape[1]
    among = (directions.T @ directions).square().sum() - directions.square().sum(dim=0).square().sum()
    spread = pose.square().mean(dim=0).add(_DISTANCE_EPS).sqrt()
    return among / max(1, count * (count - 1)) + (directions.T @ heard).square().mean() + F.relu(1 - spread).mean()


def confusion_loss(features: Tensor) -> Tensor:
    """Mean squared distance of softmax(features), (B, classes), from the uniform distribution."""
    return (F.softmax(features, dim=1) - 1 / features.shape[1]).square().mean()


def gan_loss(scores: Sequence[Tensor], is_real: bool, for_discriminator: bool, mode: str = "hinge") -> Tensor:
    """Adversarial loss, the mean over the discriminator's scales.

    With scores s of true frames and -s of generated ones, per scale: `hinge` mean max(0, 1 - s) for the discriminator
    and -mean s for the generator; `w` -mean s for both. `ls` and `original` take the scores as they are: squared
    distance from 1 (true) or 0, and cross-entropy of their sigmoid.

    Args:
        scores: patch scores (B, 1, h, w) per scale.
        is_real: what the scores should say (for the generator's step: True).
        for_discriminator: the hinge has margins for the discriminator only.
    """
    if mode in ("ls", "original"):
        distance = F.mse_loss if mode == "ls" else F.binary_cross_entropy_with_logits
        return torch.stack([distance(s, torch.full_like(s, float(is_real))) for s in scores]).mean()
    towards = [s if is_real else -s for s in scores]
    with_margin = mode == "hinge" and for_discriminator
    return torch.stack([F.relu(1 - s).mean() if with_margin else -s.mean() for s in towards]).mean()


def feature_matching_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Sum over scales and levels of the L1 distance of the activations, divided by the number of scales.

    The last level, the scores, is left out; level 0 is the image, so a pixel L1 is included.

    fake, real: what the discriminator returns for generated and true images; `real` is not trained through.
    """
    terms = [
        F.l1_loss(f, r.detach())
        for fake_levels, real_levels in zip(fake, real, strict=True)
        for f, r in zip(fake_levels[:-1], real_levels[:-1], strict=True)
    ]
    return torch.stack(terms).sum() / len(fake)


def perceptual_loss(
    fake: Sequence[Tensor], real: Sequence[Tensor], layer_weights: Sequence[float] = VGG_LAYER_WEIGHTS
) -> Tensor:
    """Weighted sum of the L1 distances of features, one (B, C, h, w) tensor per slice of `VGG19Features`."""
    terms = [w * F.l1_loss(f, r.detach()) for w, f, r in zip(layer_weights, fake, real, strict=True)]
    return torch.stack(terms).sum()


def feature_distance(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean over levels of the squared distance between features of unit length, averaged over positions.

    fake, real: features (B, C, h, w), a tensor a level; `real` is not trained through.

    Source: Zhang et al. 2018 (LPIPS), without learned weights.
    """
    terms = [
        (F.normalize(f.float(), dim=1) - F.normalize(r.detach().float(), dim=1)).square().sum(dim=1).mean()
        for f, r in zip(fake, real, strict=True)
    ]
    return torch.stack(terms).mean()


def relative_error(made: Tensor, wanted: Tensor) -> Tensor:
    """Squared distance of codes by the squared length of those that are wanted: sum |m - w|^2 / sum |w|^2.

    Args:
        made, wanted: (B, D); `wanted` is not trained through.
    """
    wanted = wanted.detach().float()
    return (made.float() - wanted).square().sum() / (wanted.square().sum() + _DISTANCE_EPS)


def laplacian_loss(fake: Tensor, real: Tensor, levels: int = 4) -> Tensor:
    """Sum over the bands of a Laplacian pyramid of their L1 distance: fine detail counts as much as large areas.

    fake, real: (B, 3, H, W); sizes are halved as long as both are even, `levels` - 1 times at most.

    Source: Bojanowski et al. 2018, with a 2 x 2 mean for the pyramid and equal weights.
    """
    difference = fake.float() - real.float()  # the pyramid is linear: that of the difference will do
    terms: list[Tensor] = []
    while len(terms) < levels - 1 and not any(size % 2 for size in difference.shape[-2:]):
        coarse = F.avg_pool2d(difference, 2)
        terms.append((difference - F.interpolate(coarse, scale_factor=2)).abs().mean())
        difference = coarse
    return torch.stack([*terms, difference.abs().mean()]).sum()


def attribute_loss(fake: Mapping[str, Tensor], real: Mapping[str, Tensor], scales: Mapping[str, float]) -> Tensor:
    """Mean over quantities of |f - r| / scale, plus 1 - cosine of the identity codes.

    Args:
        fake, real: quantity -> (B,) readings, and `identity` -> (B, D) of unit length; `real` is not trained through.
        scales: quantity -> how much it usually differs from its mean.
    """
    terms = [(fake[name] - real[name].detach()).abs().mean() / scale for name, scale in scales.items()]
    return torch.stack(terms).mean() + 1 - (fake["identity"] * real["identity"].detach()).sum(dim=1).mean()


def gradient_penalty(scores: Sequence[Tensor], images: Tensor) -> Tensor:
    """R1: half the squared gradient of each true image's score, averaged over the images.

    Args:
        scores: patch scores (B, 1, h, w) per scale of `images`; their mean over patches and scales is the score.
        images: (B, 3, H, W), which must require gradients.

    Source: Mescheder et al. 2018.
    """
    score = torch.stack([s.float().mean(dim=(1, 2, 3)) for s in scores]).mean(dim=0).sum()
    (gradient,) = torch.autograd.grad(score, images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2
