"""The training loop: steps, learning rates, validation, saving, stopping; one process of one or many."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.sync_batch_norm import convert_batch_norm
from models.trainers.base import Batch, Stage, to_device
from models.trainers.meter import Meter
from models.trainers.optimiser import MovingAverage, Player, autocast
from models.trainers.state import drop_old_epochs, read_state, save_state
from options.config import NETWORK_FILE, TrainConfig
from util.checkpoint import network_path, save_state_dict
from util.distributed import Ranks, any_rank, mean_over_ranks
from util.errors import CheckpointError, PcavsError
from util.files import atomic_path, make_directory, write_json
from util.images import tensor_to_uint8
from util.json_files import to_builtins
from util.log import progress
from util.seed import generator_for
from util.visualizer import Visualizer

logger = logging.getLogger(__name__)

_EQUAL = 0.01  # scores of looks that differ by less say nothing


@dataclass(frozen=True)
class Look:
    """What a watcher saw: figures by name, the higher the better score, and rows of pictures (label -> uint8 RGB)."""

    score: float
    figures: dict[str, float]
    rows: list[dict[str, np.ndarray]]


@dataclass(frozen=True)
class Best:
    """The look whose weights are kept under its step: the last one with about the highest score.

    Rates fall towards the end, so of equals the later one is the better: a look at a second of film is rough.
    """

    step: int = 0
    score: float = -math.inf
    looks_since: int = -1  # since the highest score; -1: there was no look yet
    highest: float = -math.inf

    def after(self, step: int, score: float) -> Best:
        """With one more look. The beginning, step 0, is left for what is better, not for its equal."""
        since = 0 if score > self.highest else self.looks_since + 1
        if score > self.highest - (_EQUAL if self.step else 0):
            return Best(step, score, since, max(score, self.highest))
        return replace(self, looks_since=since)


class Trainer:
    """Trains a stage.

    Args:
        stage: on the device, with its starting weights.
        networks: everything that is saved, by letter (the stage's networks, and D).
        steps_per_epoch: optimiser steps in which every clip comes once.
    """

    def __init__(
        self,
        stage: Stage,
        networks: Mapping[str, nn.Module],
        config: TrainConfig,
        device: torch.device,
        ranks: Ranks,
        steps_per_epoch: int,
    ) -> None:
        self.stage, self.networks, self.config = stage, networks, config
        self.device, self.ranks, self.steps_per_epoch = device, ranks, steps_per_epoch
        self.step = 0  # optimiser steps done
        self.stop_signal = 0  # the number of the signal that asks to save and stop; 0: none came
        self.visualizer: Visualizer | None = None  # of rank 0, set by the caller; `fit` closes it
        # of rank 0: looks at the networks (by letter) every `val_freq` steps, and before the first
        self.watcher: Callable[[Mapping[str, nn.Module]], Look] | None = None
        self.best = Best()
        self._ahead = 0  # how far the schedule is ahead of `step`: epochs of an earlier run may have had fewer steps
        if ranks.is_distributed and config.sync_batch_norm:
            for network in networks.values():
                convert_batch_norm(network, device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._players = [Player(stage, config, device, self._scaler, ranks.is_distributed)]
        if stage.adversary is not None:
            stage.adversary.set_trainable(True)
            if list(stage.adversary.parameters_to_train()):
                self._players.append(Player(stage.adversary, config, device, self._scaler, ranks.is_distributed))
            stage.adversary.set_trainable(False)
        self.average = MovingAverage(networks.get("G"), config.optim.ema)

    def fit(self, batches: Iterable[Batch], validation: Iterable[Batch] | None = None) -> str:
        """Trains to the end of the schedule, `--max_minutes`, or a request to stop; saves in every case.

        `batches` go on without end from batch `batches_seen` of the schedule. Returns why it ended: `done`, `time`,
        `stopped`, or `worse`, when the watcher has seen nothing better for long. Raises PcavsError: a loss is not a
        number (the batch is saved, nothing overwritten), a full GPU.
        """
        started = time.monotonic()
        meter, stream, quiet = Meter(), iter(batches), not self.ranks.is_main
        bar = progress(total=self.total_steps, initial=self.step, unit="step", disable=quiet)
        with bar, contextlib.ExitStack() as at_end:
            if self.visualizer is not None:
                at_end.callback(self.visualizer.close)
            if self.best.looks_since < 0:
                self._look()
            reason = "worse" if self._is_past_its_best else "done"
            while self.step < self.total_steps and reason == "done":
                taken = itertools.islice(stream, self.config.optim.accumulate)
                chunk = [to_device(batch, self.device) for batch in taken]
                meter.add_skipped(chunk)
                losses = self.training_step(chunk)
                meter.add(losses, sum(self.stage.count_images(batch) for batch in chunk) * self.ranks.world_size)
                bar.update()
                bar.set_postfix_str(f"{meter.images_per_s:.1f} images/s", refresh=False)
                self._show(meter, chunk[-1])
                if validation is not None and self.step % self.config.val_freq == 0:
                    self.validate(validation)
                if self.step % self.config.val_freq == 0:
                    self._look()
                self._save_now_and_then()
                reason = self._reason_to_stop(started)
            meter.report_skipped()
            self.save("latest")
        return reason

    def training_step(self, chunk: Sequence[Batch]) -> dict[str, float]:
        """One optimiser step of the stage and one of its adversary, on the gradients of all batches of `chunk`.

        Returns unweighted losses, averaged over the chunk and over ranks.
        """
        # dropout and noise depend on the step, not on what ran before: a resumed run makes the same steps
        torch.manual_seed(int(generator_for(self.config.seed, 7, self.step, self.ranks.rank).integers(2**63)))
        self.stage.train()
        try:
            losses = self._move_players(chunk)
        except torch.cuda.OutOfMemoryError as error:
            raise PcavsError(
                f"step {self.step}: the GPU's memory is full with --batchSize {self.config.batch_size}; lower it (and "
                "raise --accumulate), or add --precision fp16, --gradient_checkpointing or a larger --generate_interval"
            ) from error
        self.average.update(self.step)
        self.step += 1
        return mean_over_ranks(losses)

    def _move_players(self, chunk: Sequence[Batch]) -> dict[str, float]:
        stage, *opponent = self._players
        outputs, losses = stage.backward([(batch,) for batch in chunk])
        self._require_finite(losses, chunk)
        stage.move(self.rate_factor(), self.step)
        adversary = self.stage.adversary
        if adversary is not None and opponent:
            adversary.set_trainable(True)
            _, more = opponent[0].backward([output.for_adversary for output in outputs])
            self._require_finite(more, chunk)
            opponent[0].move(self.rate_factor(), self.step)
            adversary.set_trainable(False)
            losses |= more
        self._scaler.update()
        return losses

    def _require_finite(self, losses: Mapping[str, float], chunk: Sequence[Batch]) -> None:
        broken = [name for name, value in losses.items() if not math.isfinite(value)]
        if not any_rank(bool(broken)):
            return
        if not broken:
            raise PcavsError(f"step {self.step}: a loss on another rank is not a number; its message says which")
        path = self.config.directory / f"nan_batch_{self.step}_rank{self.ranks.rank}.pth"
        try:
            make_directory(path.parent)
            with atomic_path(path) as temporary:
                torch.save([to_device(batch, torch.device("cpu")) for batch in chunk], temporary)
            kept = f"the batch is in {path}"
        except (OSError, RuntimeError, PcavsError) as error:  # torch writes zip files with errors of its own
            kept = f"the batch could not be saved ({(str(error) or repr(error)).splitlines()[0]})"
        raise PcavsError(
            f"step {self.step}: loss {broken[0]} is {losses[broken[0]]}; {kept}, the last save is "
            "untouched; lower --lr, set --clip_grad, or use --precision bf16, and go on with --continue_train"
        )

    def _reason_to_stop(self, started: float) -> str:
        """`stopped`, `time`, `worse`, or `done`; the same on all ranks."""
        limit = self.config.max_minutes
        out_of_time = limit is not None and time.monotonic() - started > 60 * limit
        stopped, timed_out = any_rank(self.stop_signal != 0), any_rank(out_of_time)
        return "stopped" if stopped else "time" if timed_out else "worse" if self._is_past_its_best else "done"

    @property
    def _is_past_its_best(self) -> bool:
        patience = self.config.personal.patience
        return patience is not None and self.best.looks_since >= patience

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
        return (self.step + self._ahead) * self.config.optim.accumulate

    def rate_factor(self) -> float:
        """What the learning rates are multiplied with: 1 for niter epochs, then linearly to 0 in niter_decay.

        In the first `warm_up` steps it rises to that.
        """
        optim = self.config.optim
        late = self.epoch - optim.niter
        rising = min(1.0, (self.step + 1) / optim.warm_up) if optim.warm_up else 1.0
        return rising if late <= 0 or optim.niter_decay == 0 else rising * max(0.0, 1 - late / optim.niter_decay)

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Measures on held-out batches, all ranks together; logs and returns the averages."""
        self.stage.eval()
        sums: dict[str, list[float]] = {}
        with self.average.in_use(), torch.no_grad(), autocast(self.config, self.device):
            for batch in batches:
                for name, value in self.stage.validate(to_device(batch, self.device)).items():
                    sums.setdefault(name, []).append(value)
        figures = mean_over_ranks({name: sum(values) / len(values) for name, values in sums.items()})
        if self.ranks.is_main and figures:
            logger.info("step %d: %s", self.step, ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
            if self.visualizer is not None:
                self.visualizer.scalars(self.step, figures, self.epoch, 0.0)
        return figures

    def _look(self) -> None:
        """Lets the watcher look, shows what it saw, and keeps the weights if nothing was clearly better before."""
        if self.watcher is None or not self.ranks.is_main:
            return
        self.stage.eval()
        with self.average.in_use(), torch.no_grad():
            look = self.watcher(self.networks)
        self.best = self.best.after(self.step, look.score)
        is_kept = self.best.step == self.step
        figures = {"watched/score": look.score, **{f"watched/{name}": value for name, value in look.figures.items()}}
        logger.info("step %d: %s%s", self.step, ", ".join(f"{k.partition('/')[2]} {v:.3f}" for k, v in figures.items()),
                    ", kept" if is_kept else "")  # fmt: skip
        if self.visualizer is not None:
            self.visualizer.scalars(self.step, figures, self.epoch, 0.0)
            self.visualizer.images(self.step, look.rows)
        if is_kept:
            self.save(str(self.step))  # before the state that names it
        self.save("latest")

    def _show(self, meter: Meter, batch: Batch) -> None:
        if self.step % self.config.print_freq == 0:
            losses = meter.take()
            if self.ranks.is_main:
                text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
                logger.info("epoch %.2f step %d: %s", self.epoch, self.step, text)
            if self.visualizer is not None:
                named = {f"loss/{name}": value for name, value in losses.items()}
                named["lr"] = self._players[0].optimiser.param_groups[0]["lr"]
                self.visualizer.scalars(self.step, named, self.epoch, meter.images_per_s)
        if self.visualizer is not None and self.step % self.config.display_freq == 0:
            self._show_pictures(self.visualizer, batch)

    def _show_pictures(self, visualizer: Visualizer, batch: Batch) -> None:
        self.stage.eval()
        few = {name: value[:6] if isinstance(value, Tensor) else value for name, value in batch.items()}
        with self.average.in_use(), torch.no_grad(), autocast(self.config, self.device):
            columns = self.stage.pictures(few)
        ready = {label: tensor_to_uint8(images).cpu().numpy() for label, images in columns.items()}
        if ready:
            rows = zip(*ready.values(), strict=True)
            visualizer.images(self.step, [dict(zip(ready, row, strict=True)) for row in rows])

    def _save_now_and_then(self) -> None:
        if self.step % self.config.save_freq == 0:
            self.save("latest")
        if (self.step + self._ahead) % (self.config.save_epoch_freq * self.steps_per_epoch) == 0:
            self.save(str(round(self.epoch)))

    def save(self, epoch: str) -> None:
        """Writes the weights under `epoch`, and with `latest` the state to go on from; rank 0 only."""
        if not self.ranks.is_main:
            return
        directory = make_directory(self.config.directory)
        if epoch == "latest":  # first, so that whoever finds weights of a run can also go on with it
            save_state(directory, self.state())
        write_json(directory / NETWORK_FILE, to_builtins(self.config.network))
        for letter, network in self.networks.items():
            averaged = self.average.weights if letter == "G" else {}
            save_state_dict({**network.state_dict(), **averaged}, network_path(directory, epoch, letter))
        if epoch != "latest":
            drop_old_epochs(directory, self.config.keep_last)

    def state(self) -> dict[str, Any]:
        """Everything that a later process needs to go on exactly from here."""
        return {
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "ahead": self._ahead,
            "stage": self.config.stage,
            "networks": {letter: network.state_dict() for letter, network in self.networks.items()},
            "trained": [name for player in self._players for name in player.names],
            "optimisers": [player.optimiser.state_dict() for player in self._players],
            "scaler": self._scaler.state_dict(),
            "averages": self.average.weights,
            "best": to_builtins(self.best),
            "config": to_builtins(self.config),
        }

    def resume(self) -> None:
        """Goes on from the state file of the run."""
        state = read_state(self.config.directory)
        self._require_same_run(state)
        try:
            for letter, network in self.networks.items():
                network.load_state_dict(state["networks"][letter])
            for player, saved in zip(self._players, state["optimisers"], strict=True):
                player.load(saved)
        except (KeyError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise CheckpointError(
                f"{self.config.directory}: the saved state does not fit ({reason}); give the flags of the saved run"
            ) from error
        if state["scaler"]:  # empty unless the saved run was in fp16
            self._scaler.load_state_dict(state["scaler"])
        self.average.load(state["averages"])
        self.step = state["step"]
        self.best = Best(**state["best"]) if "best" in state else Best()
        before = state["steps_per_epoch"]
        place = self.step + state["ahead"]
        self._ahead = round(place / before * self.steps_per_epoch) - self.step
        if before != self.steps_per_epoch:
            logger.warning("--continue_train: an epoch has %d steps now, had %d; the schedule goes on at epoch %.2f",
                           self.steps_per_epoch, before, self.epoch)  # fmt: skip

    def _require_same_run(self, state: Mapping[str, Any]) -> None:
        """Raises CheckpointError for a state of another stage or of other trained parts; warns of another order."""
        directory, trained = self.config.directory, [name for player in self._players for name in player.names]
        if state["stage"] != self.config.stage:
            raise CheckpointError(
                f"{directory}: holds stage {state['stage']!r}, not {self.config.stage!r}; start the next "
                "stage under another --name with --load_pretrain"
            )
        if state["trained"] != trained:
            differing = sorted(set(state["trained"]) ^ set(trained))
            raise CheckpointError(
                f"{directory}: the saved run trains other parameters ({differing[0]}, for one); give its "
                "--fix_net and loss flags, or start under another --name with --load_pretrain"
            )
        for name in ("batch_size", "seed"):
            if state["config"][name] != getattr(self.config, name):
                logger.warning("--continue_train: %s was %s; the clips come in another order now", name,
                               state["config"][name])  # fmt: skip
