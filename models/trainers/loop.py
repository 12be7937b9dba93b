"""The training loop: steps, learning rates, averages, validation, saving, stopping; one process of one or many."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from models.av_model import PRECISIONS
from models.networks.sync_batch_norm import convert_batch_norm
from models.trainers.base import Batch, Stage, StepOutput, to_device, weighted_sum
from models.trainers.state import drop_old_epochs, read_state, save_networks, save_state
from options.config import TrainConfig, to_plain
from util.distributed import Ranks, any_rank, mean_over_ranks
from util.errors import CheckpointError, PcavsError
from util.files import atomic_path, make_directory
from util.images import tensor_to_uint8
from util.seed import generator_for
from util.visualizer import Visualizer

logger = logging.getLogger(__name__)

_PICTURE_ROWS = 6


class Trainer:
    """Trains a stage.

    Args:
        stage: on the device, with its starting weights.
        networks: everything that is saved, by letter (the stage's networks, and D).
        config: of the run.
        device: of this process.
        ranks: place of this process among all.
        steps_per_epoch: optimiser steps in which every clip comes once.
        visualizer: of rank 0; None shows nothing.
    """

    def __init__(
        self,
        stage: Stage,
        networks: Mapping[str, nn.Module],
        config: TrainConfig,
        device: torch.device,
        ranks: Ranks,
        steps_per_epoch: int,
        visualizer: Visualizer | None = None,
    ) -> None:
        self.stage, self.networks, self.config = stage, dict(networks), config
        self.device, self.ranks, self.visualizer = device, ranks, visualizer
        self.steps_per_epoch = steps_per_epoch
        self.step = 0
        self._ahead = 0  # how far the schedule is ahead of `step`: epochs of an earlier run may have had fewer steps
        self.stop_requested = False
        if ranks.is_distributed and config.sync_batch_norm:
            for letter, network in self.networks.items():
                self.networks[letter] = convert_batch_norm(network, device)
        self.optimiser = make_optimiser(dict(stage.parameters_to_train()), config, for_adversary=False)
        self._stage = self._parallel(stage)
        self.adversary_optimiser: torch.optim.Optimizer | None = None
        adversary = stage.adversary
        if adversary is not None:
            adversary.set_trainable(True)
            moving = {name: p for name, p in adversary.named_parameters() if p.requires_grad}
            if moving:
                self.adversary_optimiser = make_optimiser(moving, config, for_adversary=True)
                self._adversary = self._parallel(adversary)
            adversary.set_trainable(False)
        self._trained = [name for name, _ in stage.parameters_to_train()]
        if self.adversary_optimiser is not None and adversary is not None:
            self._trained += [f"adversary.{name}" for name in moving]
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.averages: dict[str, Tensor] = {}
        if config.optim.ema > 0 and "G" in self.networks:
            self.averages = {name: p.detach().clone() for name, p in self.networks["G"].named_parameters()}

    @property
    def total_steps(self) -> int:
        """Where the schedule ends, or `--max_steps` if that comes first."""
        optim = self.config.optim
        scheduled = (optim.niter + optim.niter_decay) * self.steps_per_epoch - self._ahead
        return min(scheduled, self.config.max_steps or scheduled)

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return (self.step + self._ahead) / self.steps_per_epoch

    @property
    def batches_seen(self) -> int:
        """Batches of the schedule so far, those that are added up counted one by one."""
        return (self.step + self._ahead) * self._accumulate

    # ------------------------------------------------------------------------------------------------------- the loop

    def fit(self, batches: Iterable[Batch], validation: Callable[[], Iterable[Batch]] | None = None) -> str:
        """Trains to the end of the schedule, `--max_minutes`, or a request to stop; saves in every case.

        Args:
            batches: without end, from batch `batches_seen` of the schedule on.
            validation: gives held-out batches, the same ones each time.

        Returns:
            why it ended: `done`, `time` or `stopped`.

        Raises:
            PcavsError: a loss is not a number (the batch is saved, nothing overwritten); the GPU's memory is full.
        """
        started = time.monotonic()
        meter = _Meter()
        reason = "done"
        stream = iter(batches)
        bar = tqdm(
            total=self.total_steps, initial=self.step, unit="step", dynamic_ncols=True, disable=not self.ranks.is_main
        )
        with bar:
            while self.step < self.total_steps:
                chunk = [to_device(batch, self.device) for batch in itertools.islice(stream, self._accumulate)]
                meter.skipped(chunk)
                losses = self.train_step(chunk)
                self.step += 1
                meter.add(losses, sum(self.stage.count_images(batch) for batch in chunk) * self.ranks.world_size)
                bar.update()
                bar.set_postfix_str(f"{meter.images_per_s:.1f} images/s", refresh=False)
                self._show(meter, chunk[-1])
                if validation is not None and self.step % self.config.val_freq == 0:
                    self.validate(validation())
                self._save_now_and_then()
                out_of_time = self.config.max_minutes is not None and (
                    time.monotonic() - started > 60 * self.config.max_minutes
                )
                stopped, timed_out = self._agree(self.stop_requested), self._agree(out_of_time)
                if stopped or timed_out:
                    reason = "stopped" if stopped else "time"
                    break
        meter.report_skipped()
        self.save("latest")
        return reason

    def train_step(self, chunk: Sequence[Batch]) -> dict[str, float]:
        """One optimiser step of the stage and one of its adversary.

        Args:
            chunk: batches on the device whose gradients are added up.

        Returns:
            unweighted losses, averaged over the chunk and over ranks.
        """
        # dropout and noise depend on the step, not on what ran before: a resumed run makes the same steps
        torch.manual_seed(int(generator_for(self.config.seed, 7, self.step, self.ranks.rank).integers(2**63)))
        self._set_rates()
        self.stage.train()
        try:
            losses = self._step(chunk)
        except torch.cuda.OutOfMemoryError as error:
            raise PcavsError(
                f"step {self.step}: the GPU's memory is full with --batchSize {self.config.batch_size}; lower it (and "
                "raise --accumulate), or add --precision fp16, --gradient_checkpointing or a larger --generate_interval"
            ) from error
        self._average()
        return mean_over_ranks(losses)

    def _step(self, chunk: Sequence[Batch]) -> dict[str, float]:
        outputs, values = self._backward(self._stage, self.stage.weights, [(batch,) for batch in chunk])
        self._require_finite(values, chunk)
        self._apply(self.optimiser)
        adversary = self.stage.adversary
        if adversary is not None and self.adversary_optimiser is not None:
            adversary.set_trainable(True)
            calls = [self.stage.adversary_inputs(o, b) for o, b in zip(outputs, chunk, strict=True)]
            _, more = self._backward(self._adversary, adversary.weights, calls)
            self._require_finite(more, chunk)
            self._apply(self.adversary_optimiser)
            adversary.set_trainable(False)
            values |= more
        self.scaler.update()
        return values

    def _backward(
        self, module: nn.Module, weights: Mapping[str, float], calls: Sequence[tuple[Any, ...]]
    ) -> tuple[list[StepOutput], dict[str, float]]:
        """Forward and backward of every call; gradients are exchanged between ranks once, in the last one."""
        outputs: list[StepOutput] = []
        sums: dict[str, Tensor] = {}
        for number, arguments in enumerate(calls):
            is_last = number == len(calls) - 1
            alone = isinstance(module, DistributedDataParallel) and not is_last
            with module.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
                with self._autocast():
                    output = module(*arguments)
                loss = weighted_sum(output.losses, weights) / len(calls)
                self.scaler.scale(loss).backward()
            for name, value in output.losses.items():
                sums[name] = sums.get(name, 0) + value.detach().float() / len(calls)
            outputs.append(output)
        values = torch.stack(list(sums.values())).tolist()  # one wait for the device
        return outputs, dict(zip(sums, values, strict=True))

    def _apply(self, optimiser: torch.optim.Optimizer) -> None:
        if self.config.optim.clip_grad > 0:
            self.scaler.unscale_(optimiser)
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.config.optim.clip_grad)
        self.scaler.step(optimiser)
        optimiser.zero_grad(set_to_none=True)

    def _require_finite(self, losses: Mapping[str, float], chunk: Sequence[Batch]) -> None:
        broken = [name for name, value in losses.items() if not math.isfinite(value)]
        if not self._agree(bool(broken)):
            return
        if not broken:
            raise PcavsError(f"step {self.step}: a loss on another rank is not a number; its message says which")
        path = self.config.directory / f"nan_batch_{self.step}_rank{self.ranks.rank}.pth"
        try:
            make_directory(path.parent)
            with atomic_path(path) as temporary:
                torch.save([_on_cpu(batch) for batch in chunk], temporary)
            kept = f"the batch is in {path}"
        except (OSError, RuntimeError, PcavsError) as error:  # torch writes zip files with errors of its own
            kept = f"the batch could not be saved ({(str(error) or repr(error)).splitlines()[0]})"
        raise PcavsError(
            f"step {self.step}: loss {broken[0]} is {losses[broken[0]]}; {kept}, the last save is "
            "untouched; lower --lr, set --clip_grad, or use --precision bf16, and go on with --continue_train"
        )

    # --------------------------------------------------------------------------------------------------- rates, average

    def rate_factor(self) -> float:
        """What the learning rates are multiplied with: 1 for niter epochs, then linearly to 0 in niter_decay."""
        optim = self.config.optim
        late = self.epoch - optim.niter
        return 1.0 if late <= 0 or optim.niter_decay == 0 else max(0.0, 1 - late / optim.niter_decay)

    def _set_rates(self) -> None:
        for optimiser in (self.optimiser, self.adversary_optimiser):
            for group in optimiser.param_groups if optimiser is not None else ():
                group["lr"] = group["initial_lr"] * self.rate_factor()

    @torch.no_grad()
    def _average(self) -> None:
        if self.averages:
            for name, parameter in self.networks["G"].named_parameters():
                # an average of few steps would remember the random start
                decay = min(self.config.optim.ema, (1 + self.step) / (10 + self.step))
                self.averages[name].lerp_(parameter, 1 - decay)

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within the block G has its averaged weights, which are those that are saved for inference."""
        own = {n: p.detach().clone() for n, p in self.networks["G"].named_parameters()} if self.averages else {}
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in weights.items():
            self.networks["G"].get_parameter(name).copy_(weight)

    # ------------------------------------------------------------------------------------------------ watching, saving

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Measures on held-out batches, all ranks together; logs and returns the averages."""
        self.stage.eval()
        sums: dict[str, list[float]] = {}
        with self.averaged_weights(), torch.no_grad(), self._autocast():
            for batch in itertools.islice(batches, self.config.val_batches):
                for name, value in self.stage.validate(to_device(batch, self.device)).items():
                    sums.setdefault(name, []).append(value)
        figures = mean_over_ranks({name: sum(values) / len(values) for name, values in sums.items()})
        if self.ranks.is_main and figures:
            logger.info("step %d: %s", self.step, ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
            if self.visualizer is not None:
                self.visualizer.scalars(self.step, figures, self.epoch, 0.0)
        return figures

    def _show(self, meter: _Meter, batch: Batch) -> None:
        if self.step % self.config.print_freq == 0:
            values = meter.take()
            if self.ranks.is_main:
                text = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
                logger.info("epoch %.2f step %d: %s", self.epoch, self.step, text)
            if self.visualizer is not None:
                named = {f"loss/{name}": value for name, value in values.items()}
                named["lr"] = self.optimiser.param_groups[0]["lr"]
                self.visualizer.scalars(self.step, named, self.epoch, meter.images_per_s)
        if self.visualizer is not None and self.step % self.config.display_freq == 0:
            self._show_pictures(batch)

    def _show_pictures(self, batch: Batch) -> None:
        assert self.visualizer is not None
        self.stage.eval()
        few = {name: value[:_PICTURE_ROWS] if isinstance(value, Tensor) else value for name, value in batch.items()}
        with self.averaged_weights(), torch.no_grad(), self._autocast():
            columns = self.stage.pictures(few)
        if columns:
            ready = {label: tensor_to_uint8(images).cpu().numpy() for label, images in columns.items()}
            count = min(len(images) for images in ready.values())
            self.visualizer.images(self.step, [{k: v[row] for k, v in ready.items()} for row in range(count)])

    def _save_now_and_then(self) -> None:
        if self.step % self.config.save_freq == 0:
            self.save("latest")
        if (self.step + self._ahead) % (self.config.save_epoch_freq * self.steps_per_epoch) == 0:
            self.save(str(round(self.epoch)))

    def save(self, epoch: str) -> None:
        """Writes the weights under `epoch`, and with `latest` the state to go on from; rank 0 only."""
        if not self.ranks.is_main:
            return
        directory, averages = self.config.directory, {"G": self.averages} if self.averages else {}
        save_networks(directory, epoch, self.networks, averages, self.config.network)
        if epoch == "latest":
            save_state(directory, self.state())
        else:
            drop_old_epochs(directory, self.config.keep_last)

    def state(self) -> dict[str, Any]:
        """Everything a later process needs to go on exactly from here."""
        optimisers = [o.state_dict() for o in (self.optimiser, self.adversary_optimiser) if o is not None]
        return {
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "ahead": self._ahead,
            "stage": self.config.stage,
            "networks": {letter: network.state_dict() for letter, network in self.networks.items()},
            "trained": self._trained,
            "optimisers": optimisers,
            "scaler": self.scaler.state_dict(),
            "averages": self.averages,
            "config": to_plain(self.config),
        }

    def resume(self) -> None:
        """Goes on from the state file of the run.

        Raises:
            CheckpointError: none there, damaged, of another stage or of other sizes.
        """
        state = read_state(self.config.directory)
        if state["stage"] != self.config.stage:
            raise CheckpointError(
                f"{self.config.directory}: holds stage {state['stage']!r}, not {self.config.stage!r}; start the next "
                "stage under another --name with --load_pretrain"
            )
        if state["trained"] != self._trained:
            differing = sorted(set(state["trained"]) ^ set(self._trained))
            raise CheckpointError(
                f"{self.config.directory}: the saved run trains other parameters ({differing[0]}, for one); give its "
                "--fix_net and loss flags, or start under another --name with --load_pretrain"
            )
        try:
            for letter, network in self.networks.items():
                network.load_state_dict(state["networks"][letter])
            optimisers = [o for o in (self.optimiser, self.adversary_optimiser) if o is not None]
            for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
                _load_optimiser(optimiser, saved)
        except (KeyError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise CheckpointError(
                f"{self.config.directory}: the saved state does not fit ({reason}); give the flags of the saved run"
            ) from error
        if state["scaler"]:  # empty unless the saved run was in fp16
            self.scaler.load_state_dict(state["scaler"])
        if self.averages:  # an average that is new starts from the weights as they are now
            current = dict(self.networks["G"].named_parameters())
            saved_averages = state["averages"] or current
            self.averages = {name: saved_averages[name].detach().clone().to(self.device) for name in current}
        self.step = state["step"]
        before = state.get("steps_per_epoch", self.steps_per_epoch)  # missing in states of 2026-11-24 and before
        place = self.step + state.get("ahead", 0)
        self._ahead = round(place / before * self.steps_per_epoch) - self.step
        if before != self.steps_per_epoch:
            logger.warning("--continue_train: an epoch has %d steps now, had %d; the schedule goes on at epoch %.2f",
                           self.steps_per_epoch, before, self.epoch)  # fmt: skip
        for name in ("batch_size", "seed"):
            if state["config"][name] != getattr(self.config, name):
                logger.warning("--continue_train: %s was %s; the clips come in another order now", name,
                               state["config"][name])  # fmt: skip

    # --------------------------------------------------------------------------------------------------------- helpers

    @property
    def _accumulate(self) -> int:
        return self.config.optim.accumulate

    def _autocast(self) -> Any:
        dtype = PRECISIONS[self.config.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)

    def _agree(self, flag: bool) -> bool:
        return any_rank(flag) if self.ranks.is_distributed else flag

    def _parallel(self, module: nn.Module) -> nn.Module:
        if not self.ranks.is_distributed:
            return module
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)


def make_optimiser(
    parameters: Mapping[str, nn.Parameter], config: TrainConfig, for_adversary: bool
) -> torch.optim.Optimizer:
    """Adam: two time scales where there is an adversary, AMSGrad for the stage (docs/how_it_works.md section 6).

    Raises:
        PcavsError: everything is frozen.
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
    optimiser = torch.optim.Adam(list(parameters.values()), lr=rate, betas=betas, amsgrad=amsgrad)
    for group in optimiser.param_groups:
        group["initial_lr"] = rate
    return optimiser


def _load_optimiser(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Brings back the moments, but keeps the rates, betas and AMSGrad of this run's flags."""
    given = [{name: group[name] for name in ("initial_lr", "betas", "amsgrad")} for group in optimiser.param_groups]
    optimiser.load_state_dict(saved)
    for group, settings in zip(optimiser.param_groups, given, strict=True):
        for name, value in settings.items():
            if group[name] != value:
                logger.info("--continue_train: %s is now %s, was %s", name, value, group[name])
        group.update(settings)
        for parameter in group["params"] if group["amsgrad"] else ():
            moments = optimiser.state[parameter]
            if "exp_avg_sq" in moments:  # the largest so far, where none was kept
                moments.setdefault("max_exp_avg_sq", moments["exp_avg_sq"].clone())


class _Meter:
    """Averages of losses between two lines of the log, images a second, and clips that could not be read."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0
        self._images = 0
        self._since = time.monotonic()
        self._broken: dict[str, int] = {}
        self.images_per_s = 0.0

    def add(self, losses: Mapping[str, float], images: int) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._images += images
        self.images_per_s = self._images / max(time.monotonic() - self._since, 1e-9)

    def take(self) -> dict[str, float]:
        """The averages since the last call."""
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count, self._images, self._since = {}, 0, 0, time.monotonic()
        return means

    def skipped(self, chunk: Sequence[Batch]) -> None:
        for path in (path for batch in chunk for path in batch.get("skipped", ())):
            if path not in self._broken:
                logger.warning("%s: cannot be read; another clip takes its place", path)
            self._broken[path] = self._broken.get(path, 0) + 1

    def report_skipped(self) -> None:
        if self._broken:
            names = ", ".join(sorted(self._broken)[:5])
            logger.warning("%d clips could not be read: %s", len(self._broken), names)


def _on_cpu(batch: Batch) -> dict[str, Any]:
    return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in batch.items()}
