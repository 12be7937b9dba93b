"""What moves weights: Adam for a stage or its adversary, gradients added up over batches and ranks, G's average."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.av_model import PRECISIONS
from models.trainers.base import Adversary, Stage, StepOutput, weighted_sum
from options.config import TrainConfig
from util.errors import PcavsError

logger = logging.getLogger(__name__)


class Player:
    """A stage or its adversary, with the optimiser of what it trains, which must require gradients now.

    Args:
        scaler: of losses in fp16; the stage and its adversary share it.
        is_distributed: whether gradients are averaged over ranks.
    """

    def __init__(
        self,
        module: Stage | Adversary,
        config: TrainConfig,
        device: torch.device,
        scaler: torch.amp.GradScaler,
        is_distributed: bool,
    ) -> None:
        self._config, self._device, self._scaler = config, device, scaler
        self._weights = module.weights
        parameters = dict(module.parameters_to_train())
        self.names = list(parameters)
        self.optimiser = make_optimiser(parameters, config, isinstance(module, Adversary))
        self._module: nn.Module = module
        if is_distributed:
            devices = [device.index] if device.type == "cuda" else None
            self._module = DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)

    def backward(self, calls: Sequence[tuple[Any, ...]]) -> tuple[list[StepOutput], dict[str, float]]:
        """Forward and backward for the arguments of each call; ranks exchange gradients once, in the last one.

        Returns what each call gave, and the unweighted losses, averaged over the calls as the gradients are.
        """
        outputs: list[StepOutput] = []
        sums: dict[str, Tensor] = {}
        for number, arguments in enumerate(calls):
            waits = isinstance(self._module, DistributedDataParallel) and number < len(calls) - 1
            with self._module.no_sync() if waits else contextlib.nullcontext():  # type: ignore[operator]
                with autocast(self._config, self._device):
                    output = self._module(*arguments)
                loss = weighted_sum(output.losses, self._weights) / len(calls)
                self._scaler.scale(loss).backward()
            for name, value in output.losses.items():
                sums[name] = sums.get(name, 0) + value.detach().float() / len(calls)
            outputs.append(output)
        values = torch.stack(list(sums.values())).tolist()  # one wait for the device
        return outputs, dict(zip(sums, values, strict=True))

    def move(self, rate_factor: float, step: int) -> None:
        """One optimiser step along the gradients, at the first learning rate times `rate_factor`."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * rate_factor if step >= group.get("late", 0) else 0.0
        if self._config.optim.clip_grad > 0:
            self._scaler.unscale_(self.optimiser)
            parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self._config.optim.clip_grad)
        self._scaler.step(self.optimiser)
        self.optimiser.zero_grad(set_to_none=True)

    def load(self, saved: dict[str, Any]) -> None:
        """Brings back the moments of a saved optimiser, but keeps the rates, betas and AMSGrad of this run's flags."""
        names = ("initial_lr", "betas", "amsgrad")
        given = [{name: group[name] for name in names} for group in self.optimiser.param_groups]
        self.optimiser.load_state_dict(saved)
        for group, settings in zip(self.optimiser.param_groups, given, strict=True):
            for name, value in settings.items():
                if group[name] != value:
                    logger.info("--continue_train: %s is now %s, was %s", name, value, group[name])
            group.update(settings)
            for parameter in group["params"] if group["amsgrad"] else ():
                moments = self.optimiser.state[parameter]
                if "exp_avg_sq" in moments:  # the largest so far, where none was kept
                    moments.setdefault("max_exp_avg_sq", moments["exp_avg_sq"].clone())


class MovingAverage:
    """The moving average of G's parameters, which inference gets; empty for a decay of 0 and in stages without G."""

    def __init__(self, generator: nn.Module | None, decay: float) -> None:
        self._decay = decay
        self._parameters = dict(generator.named_parameters()) if generator is not None and decay > 0 else {}
        self.weights = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the parameters after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))  # an average of few steps would remember the random start
        for name, parameter in self._parameters.items():
            self.weights[name].lerp_(parameter, 1 - decay)

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Goes on from a saved average; one that is new (`saved` is empty) starts from the parameters as they are."""
        for name, parameter in self._parameters.items():
            self.weights[name].copy_(saved[name] if saved else parameter.detach())

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Within the block G has its averaged weights."""
        own = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The block in which networks compute in `--precision`."""
    dtype = PRECISIONS[config.precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def make_optimiser(
    parameters: Mapping[str, nn.Parameter], config: TrainConfig, for_adversary: bool
) -> torch.optim.Optimizer:
    """Adam: two time scales where there is an adversary, AMSGrad for the stage (docs/how_it_works.md section 6).

    Parameters are in one group, but for letters that `OptimConfig.rates` or `late` names.
    """
    if not parameters:
        raise PcavsError("every network of this stage is frozen: nothing to train; leave out a --fix_net flag")
    optim = config.optim
    two_scales = config.has_adversary and not optim.no_ttur
    rate = optim.lr * ((2 if for_adversary else 0.5) if two_scales else 1)
    betas = (
        optim.beta1 if optim.beta1 is not None else (0.0 if two_scales else 0.9),
        optim.beta2 if optim.beta2 is not None else (0.9 if two_scales else 0.999),
    )
    amsgrad = optim.amsgrad and config.has_adversary and not for_adversary
    paces, late = dict(optim.rates), dict(optim.late)
    groups: dict[tuple[float, int], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        letter = name.partition(".")[0]
        groups.setdefault((paces.get(letter, 1.0), late.get(letter, 0)), []).append(parameter)
    settings = [{"params": some, "lr": rate * pace, "late": step} for (pace, step), some in groups.items()]
    optimiser = torch.optim.Adam(settings, lr=rate, betas=betas, amsgrad=amsgrad)
    for group in optimiser.param_groups:
        group["initial_lr"] = group["lr"]
    return optimiser
