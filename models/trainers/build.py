"""From a TrainConfig to a Trainer: the networks of the stage, their starting weights, the stage, and its trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from models.networks.layers import ToRGB
from models.networks.perceptual import EncoderFeatures, VGG19Features
from models.networks.probe import Probe
from models.registry import OPTIONAL_HEADS, build_network
from models.trainers.base import Stage
from models.trainers.generator import GeneratorStage
from models.trainers.loop import Trainer
from models.trainers.personal import PersonalStage
from models.trainers.recognition import RecognitionStage
from models.trainers.sync import SyncStage
from options.config import INFERENCE_LETTERS, TrainConfig
from util.checkpoint import load_network, network_path, read_state_dict
from util.distributed import Ranks
from util.errors import CheckpointError
from util.torchvision_compat import ensure_torchvision

logger = logging.getLogger(__name__)

TRAINERS: Mapping[str, type[Stage]] = {
    "recognition": RecognitionStage,
    "sync": SyncStage,
    "joint": GeneratorStage,
    "dis_pose": GeneratorStage,
    "personal": PersonalStage,
}


def build_trainer(config: TrainConfig, device: torch.device, ranks: Ranks, num_clips: int) -> Trainer:
    """The trainer of a run, at its first step, or where the run stopped with `--continue_train`."""
    torch.manual_seed(config.seed)  # the same random start on every rank
    networks = build_networks(config, device)
    stage = TRAINERS[config.stage](networks, config, load_measures(config)).to(device)
    trainer = Trainer(stage, networks, config, device, ranks, config.steps_per_epoch(num_clips))
    if config.continue_train:
        trainer.resume()
        logger.info("going on from step %d (epoch %.2f)", trainer.step, trainer.epoch)
    return trainer


def build_networks(config: TrainConfig, device: torch.device) -> dict[str, nn.Module]:
    """The networks of the stage by letter, with their starting weights, on the device."""
    networks = {letter: build_network(letter, config.network) for letter in config.letters}
    for letter, network in networks.items():
        if not config.continue_train and not load_start(config, letter, network) and letter == "G":
            soften(network)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.to(device)
    return networks


def load_start(config: TrainConfig, letter: str, network: nn.Module) -> bool:
    """Loads what `--<letter>_pretrain_path` or the last fitting folder of `--load_pretrain` holds, if anything.

    Returns:
        whether there was something.
    """
    given = dict(config.pretrain_paths).get(letter)
    found = [network_path(folder, config.which_epoch, letter) for folder in config.pretrain_dirs]
    path = given or next((p for p in reversed(found) if p.is_file()), None)
    if path is None:
        logger.info("%s: starts from random weights", letter)
    elif letter == "G" and config.grow_generator:
        fresh = load_grown(network, path)
        logger.info("G: from %s, %d tensors of the new resolutions start fresh", path, fresh)
    else:
        load_network(network, path, OPTIONAL_HEADS[letter])
        logger.info("%s: from %s", letter, path)
    return path is not None


@torch.no_grad()
def soften(generator: nn.Module) -> None:
    """Takes the colours of a new G to a tenth.

    Features of trained encoders are several times as large as those of new ones (the cosine of the contrastive loss
    leaves their length free), and G's colours grow with them: more than half of all pixels would begin at the ends of
    its tanh, where nothing is learned.
    """
    for module in generator.modules():
        if isinstance(module, ToRGB):
            module.conv.weight.mul_(0.1)


def load_grown(generator: nn.Module, path: Path) -> int:
    """Loads weights of a generator of a smaller image size; returns how many tensors keep their random start."""
    state, own = read_state_dict(path), generator.state_dict()
    for key, tensor in state.items():
        if key not in own or own[key].shape != tensor.shape:
            have = list(own[key].shape) if key in own else "none"
            raise CheckpointError(f"{path}: {key} is {list(tensor.shape)}, here {have}; --grow_G needs equal channels")
    generator.load_state_dict(state, strict=False)
    return len(own) - len(state)


def load_measures(config: TrainConfig) -> dict[str, nn.Module]:
    """The networks that a stage measures pictures with, as far as wanted: the sync stage by `attributes` alone.

    `vgg`, `vggface`, `own`, `attributes`, `probe`.
    """
    measures: dict[str, nn.Module] = {}
    loss = config.loss
    reads = config.has_adversary or config.stage == "sync"
    if (reads and loss.lambda_readings > 0) or (config.has_adversary and loss.lambda_attributes > 0):
        if config.attributes_path is None:
            flag = "--lambda_readings" if loss.lambda_readings > 0 else "--lambda_attributes"
            raise CheckpointError(f"{flag} compares what a probe reads: give --attributes_path FILE")
        measures["attributes"] = Probe()
        load_network(measures["attributes"], config.attributes_path)
    if not config.has_adversary:
        return measures
    if loss.lambda_vgg > 0:
        measures["vgg"] = _load_vgg19(config.vgg_path, "--vgg_path")
    if loss.lambda_vggface > 0:
        measures["vggface"] = _load_vgg19(config.vggface_path, "--vggface_path")
    if loss.lambda_own > 0:
        encoders = {letter: build_network(letter, config.network) for letter in ("V", "E")}
        if not all(load_start(config, letter, network) for letter, network in encoders.items()):
            raise CheckpointError(
                "--lambda_own compares features of trained encoders: give --load_pretrain with folders of V and of E, "
                "also with --continue_train"
            )
        measures["own"] = EncoderFeatures(encoders["V"], encoders["E"])  # type: ignore[arg-type]
    if config.stage == "personal":
        base = {letter: build_network(letter, config.network) for letter in INFERENCE_LETTERS}
        missing = [letter for letter, network in base.items() if not load_start(config, letter, network)]
        if missing:
            raise CheckpointError(f"stage personal: --load_pretrain names no folder with {missing[0]} of the base")
        measures["base"] = nn.ModuleDict(base).eval()
    if config.probe_path is not None:
        measures["probe"] = Probe()
        load_network(measures["probe"], config.probe_path)
    return measures


def _load_vgg19(path: Path | None, flag: str) -> VGG19Features:
    """VGG19 with the weights of a file in torchvision's layout; VGG19's own without a file come from torchvision."""
    vgg = ensure_torchvision().models
    try:
        if path is None and flag == "--vgg_path":
            return VGG19Features(vgg.vgg19(weights=vgg.VGG19_Weights.IMAGENET1K_V1).features)
        if path is None:
            raise CheckpointError(f"give {flag}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        features = vgg.vgg19(weights=None).features
        features.load_state_dict({k.removeprefix("features."): v for k, v in state.items() if "classifier" not in k})
    except Exception as error:  # no network, a damaged file, other keys: all mean that there are no weights
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"weights for the perceptual loss: {reason}; give {flag} FILE (torchvision's vgg19-dcbb9e9d.pth), "
            "or train without with --no_vgg_loss"
        ) from error
    return VGG19Features(features)
