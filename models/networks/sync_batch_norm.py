"""Batch norm whose statistics come from the batches of all ranks, on any device.

torch's own SyncBatchNorm runs on GPUs only; training over several CPUs, and the proof that two ranks make the
gradients of one, need the same on the CPU.
"""

from __future__ import annotations

import torch
import torch.distributed
import torch.distributed.nn.functional as collective
from torch import Tensor, nn


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm1d and 2d over all ranks; same parameters, buffers and keys as theirs."""

    def _check_input_dim(self, x: Tensor) -> None:
        del x

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape, normalised by mean and variance over all ranks' (B, ...)."""
        if not (self.training and torch.distributed.is_initialized()):
            return super().forward(x)
        axes = [0, *range(2, x.dim())]
        values = x if x.dtype == torch.float64 else x.float()
        count = values.new_full((1,), values.numel() / values.shape[1])
        sums = torch.cat([values.sum(dim=axes), values.square().sum(dim=axes), count])
        sums = collective.all_reduce(sums)
        channels = x.shape[1]
        total = sums[-1].detach()
        mean = sums[:channels] / total
        variance = (sums[channels:-1] / total - mean.square()).clamp_min(0)
        self._remember(mean.detach(), (variance * total / (total - 1)).detach())
        scale = torch.rsqrt(variance + self.eps)
        shift = -mean * scale
        if self.affine:
            shift = shift * self.weight + self.bias
            scale = scale * self.weight
        shape = (1, channels, *([1] * (x.dim() - 2)))
        return (values * scale.view(shape) + shift.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased_variance)):
            running.lerp_(value.to(running.dtype), self.momentum)  # type: ignore[union-attr, arg-type]


def convert_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replaces every batch norm below `module` (in place; parameters stay the same objects)."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # torch's own class is faster
    for name, child in list(module.named_children()):
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            setattr(module, name, _copy_of(child))
        else:
            convert_batch_norm(child, device)
    return module


def _copy_of(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> SyncBatchNorm:
    copy = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    copy.weight, copy.bias = norm.weight, norm.bias
    copy.running_mean, copy.running_var = norm.running_mean, norm.running_var
    copy.num_batches_tracked = norm.num_batches_tracked
    return copy.train(norm.training)
