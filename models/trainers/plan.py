"""What a run is going to do, before it does it: networks, steps, memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.networks.perceptual import EncoderFeatures
from models.registry import build_network
from models.trainers.base import Stage
from models.trainers.build import TRAINERS
from options.config import INFERENCE_LETTERS, OTHERS, PERSON, STAGES, TrainConfig

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


def describe_plan(config: TrainConfig, num_clips: int) -> str:
    """The plan as text: stage, parameters, steps and an estimate of the memory of one device."""
    networks, stage = _on_meta(config)
    lines = [f"stage {config.stage} ({STAGES[config.stage]}), run {config.directory}"]
    lines += _describe_networks(networks, stage)
    steps, epochs = config.steps_per_epoch(num_clips), config.optim.niter + config.optim.niter_decay
    limit = f", stopped at step {config.max_steps}" if config.max_steps else ""
    lines.append(f"  {num_clips} clips, {steps} steps an epoch, {epochs} epochs, {epochs * steps} steps{limit}")
    return "\n".join([*lines, *_describe_cost(config, stage, networks)])


def describe_personal_plan(config: TrainConfig) -> str:
    """The same where a model is fitted to a person, which knows no epochs."""
    networks, stage = _on_meta(config)
    return "\n".join([*_describe_networks(networks, stage), *_describe_cost(config, stage, networks)])


def _on_meta(config: TrainConfig) -> tuple[dict[str, nn.Module], Stage]:
    measures: dict[str, nn.Module] = {}
    with torch.device("meta"):
        networks = {letter: build_network(letter, config.network) for letter in config.letters}
        if config.stage == "personal":
            base = {letter: build_network(letter, config.network) for letter in INFERENCE_LETTERS}
            measures = {"base": nn.ModuleDict(base), "own": EncoderFeatures(base["V"], base["E"])}  # type: ignore[arg-type]
    return networks, TRAINERS[config.stage](networks, config, measures)


def _describe_networks(networks: Mapping[str, nn.Module], stage: Stage) -> list[str]:
    moving = {id(p) for _, p in stage.parameters_to_train()}
    if stage.adversary is not None:
        stage.adversary.set_trainable(True)
        moving |= {id(p) for _, p in stage.adversary.parameters_to_train()}
    lines = []
    for letter, network in networks.items():
        total = sum(p.numel() for p in network.parameters())
        trained = sum(p.numel() for p in network.parameters() if id(p) in moving)
        lines.append(f"  {letter:7}{total / 1e6:8.2f} M parameters, {trained / 1e6:8.2f} M trained")
    return lines


def _describe_cost(config: TrainConfig, stage: Stage, networks: Mapping[str, nn.Module]) -> list[str]:
    losses = ", ".join(f"{name} x {weight:g}" for name, weight in stage.weights.items() if weight)
    gib = estimate_memory(config, stage, networks, max(1, config.batch_size // len(config.gpu_ids))) / 2**30
    memory = f"memory of one device, estimated: {gib:.1f} GiB (weights, gradients, Adam, activations)"
    return [f"  losses: {losses}", f"  {memory}"]


def estimate_memory(config: TrainConfig, stage: Stage, networks: Mapping[str, nn.Module], batch_size: int) -> float:
    """Bytes of weights, gradients, optimiser state and kept activations; on the meta device, nothing is computed."""
    parameters = [p for network in (*networks.values(), stage.measures) for p in network.parameters()]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    moments = 3 if config.has_adversary else 2
    fixed = 4 * sum(p.numel() for p in parameters) + 4 * trained * (1 + moments)
    own = {p.untyped_storage()._cdata for p in parameters}
    kept: dict[int, torch.UntypedStorage] = {}  # by address, and held, so that views of one memory count once

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    if stage.adversary is not None:
        stage.adversary.set_trainable(False)
    stage.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        stage(_meta_batch(config, 2))
    per_clip = sum(storage.nbytes() for storage in kept.values()) / 2 * _BYTES[config.precision] / 4
    return fixed + per_clip * batch_size


def _meta_batch(config: TrainConfig, clips: int) -> dict[str, Tensor]:
    data, audio = config.data, config.audio
    size = config.network.crop_size
    targets = len(range(0, data.clip_len, data.generate_interval))
    bands, bins = audio.num_mel_bands, audio.bins_per_window
    shapes = {
        "reference": (data.num_inputs, 3, size, size),
        "target": (targets, 3, size, size),
        "augmented": (data.num_clips, data.clip_len, 3, size, size),
        "mel": (data.num_clips, data.clip_len, 1, bands, bins),
        "voice": (1, bands * config.network.n_mel_t, bins),
    }
    batch = {name: torch.empty(clips, *shape, device="meta") for name, shape in shapes.items()}
    # a person and another one, told apart by labels that must have values
    is_personal = config.stage == "personal"
    labels = torch.tensor([PERSON, OTHERS] * clips)[:clips]
    batch["label"] = labels if is_personal else torch.zeros(clips, dtype=torch.int64, device="meta")
    return batch
