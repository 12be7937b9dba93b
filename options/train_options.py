"""Flags of train.py; the published spellings are understood, and what the paper leaves open is a flag."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from options import base_options
from options.base_options import filled, network_config, size_flags
from options.config import (
    FREEZABLE,
    NETWORK_FILE,
    NETWORK_LETTERS,
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimConfig,
    TrainConfig,
)
from util.cli import Formatter, natural_float, natural_int, positive_float, positive_int
from util.errors import OptionError

_DESCRIPTION = """Trains the networks in stages: recognition (V), sync (A_sync, E), then the generator with all of them.

  python train.py --train_recognition --name vox_V    --train_list lists/train.csv
  python train.py --train_sync        --name vox_sync --train_list lists/train.csv --clip_len 12 --num_clips 2
  python train.py --name vox --train_list lists/train.csv --load_pretrain checkpoints/vox_V checkpoints/vox_sync
  python train.py --continue_train --name vox ...        goes on exactly where it stopped
  python train.py --gpu_ids 0,1,2,3 ...                  one process per card
  torchrun --nnodes 2 --nproc_per_node 4 train.py ...    several machines
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train.py", description=_DESCRIPTION, formatter_class=Formatter, allow_abbrev=False
    )
    base_options.add_base_flags(parser)
    parser.set_defaults(input_id_feature=TrainConfig.input_id_feature)

    add = parser.add_argument_group("stage").add_argument
    add("--train_recognition", action="store_true", help="V (and A) on speaker labels")
    add("--train_sync", action="store_true", help="A_sync and E by contrasting sound and picture")
    add("--train_dis_pose", action="store_true", help="the generator's stage with head-pose confusion")
    add("--use_audio_id", type=int, default=0, choices=(0, 1), help="recognition trains A, too")
    add("--use_audio", type=int, default=1, choices=(1,), help="speech drives the mouth")
    add("--no_input_id_feature", action="store_true", help="G starts from its learned constant, not the identity map")
    add("--driving_pose", action="store_true", help="always so in training")
    add("--generate_from_audio_only", action="store_true", help="do not generate from the visual mouth code as well")
    add("--no_noise", action="store_true", help="G gets no noise: frames follow from the codes alone")
    for part in FREEZABLE:
        add(f"--fix_net{part}", action="store_true", help=f"freeze {part}, batch-norm statistics too")

    add = parser.add_argument_group("data").add_argument
    add(
        "--dataset_mode",
        choices=("voxtrain", "lrw", "webdataset"),
        help="kind of data: videos, LRW's tree, or tar shards",
    )
    add("--dataroot", type=Path, help="a VoxCeleb2 or LRW tree, a tree of frame folders, or shards")
    add("--lrw_data_path", type=Path, help="the published name of --dataroot for LRW")
    add("--train_list", type=Path, help="csv of clips, written by scripts/prepare_voxceleb2.py")
    add("--val_list", type=Path, help="csv of held-out clips; none: no validation")
    for flag in ("num_clips", "frame_interval", "generate_interval"):
        add(f"--{flag}", type=positive_int, help="see docs/training.md")
    add("--n_mel_T", type=positive_int, help="mel windows that A sees together")
    add("--augment_shape", type=natural_float, help="strength of E's distortions")
    add("--augment_sound", type=natural_float, help="how much the sound's voice, tone, level and noise are changed")
    add("--no_augment", action="store_true", help="E sees the frames as they are")
    add("--cache_gb", type=natural_float, help="decoded videos kept per loading process")

    add = parser.add_argument_group("start").add_argument
    add("--network_file", type=Path, help="a network.json with other sizes than the published ones")
    add("--continue_train", action="store_true", help="go on with the run of this name")
    add("--load_pretrain", type=Path, nargs="+", default=(), help="folders of earlier stages; later ones go first")
    add("--load_separately", action="store_true", help="the published switch of the paths below")
    for letter in NETWORK_LETTERS:
        add(f"--{letter}_pretrain_path", type=Path, help=f"weights of {letter}")
    add("--grow_G", action="store_true", help="G's weights may come from a smaller image size; new levels start fresh")

    add = parser.add_argument_group("losses").add_argument
    add("--gan_mode", choices=("hinge", "ls", "original", "w"), help="form")
    for field in dataclasses.fields(LossConfig):
        if field.name.startswith("lambda_"):
            add(f"--{field.name}", type=natural_float, help="weight")
    add("--no_vgg_loss", action="store_true", help="without the VGG19 loss, which needs its weights")
    add("--no_ganFeat_loss", action="store_true", help="without feature matching")
    add("--no_gan_loss", action="store_true", help="without the adversarial term of G")
    add("--no_id_loss", action="store_true", help="without identity cross-entropy; LRW has no speakers")
    add("--no_cross_modal", action="store_true", help="without the contrastive loss in G's stage")
    add("--vgg_path", type=Path, help="VGG19 weights (torchvision's vgg19-*.pth); else its cache")
    add("--vggface", action="store_true", help="add the VGGFace loss with weight 5")
    add("--vggface_path", type=Path, help="VGGFace weights in VGG19's layout")
    add(
        "--attributes_path",
        type=Path,
        help="a probe for --lambda_attributes and --lambda_readings; not the one that measures",
    )
    add(
        "--contrastive_form",
        choices=("inverse_distance", "cosine"),
        help="logits of the contrastive loss: as released, or as in the paper",
    )
    add("--temperature", type=positive_float, help="of the cosine form")

    add = parser.add_argument_group("optimiser").add_argument
    add("--lr", type=positive_float, help="Adam's rate before TTUR")
    add("--beta1", type=natural_float, help="default: 0 with TTUR, else 0.9")
    add("--beta2", type=natural_float, help="default: 0.9 with TTUR, else 0.999")
    add("--no_TTUR", action="store_true", help="one rate for G and D instead of lr / 2 and lr * 2")
    add("--no_amsgrad", action="store_true", help="plain Adam for G; learns faster from nothing")
    add("--niter", type=natural_int, help="epochs at the first rate")
    add("--niter_decay", type=natural_int, help="epochs in which it falls to 0")
    add("--accumulate", type=positive_int, help="batches summed up to one step")
    add("--clip_grad", type=natural_float, help="0: off")
    add("--ema", type=natural_float, help="decay for G's average; 0: off")
    add("--precision", choices=("fp32", "fp16", "bf16"), help="of the networks")
    add("--gradient_checkpointing", action="store_true", help="compute G's activations twice to save memory")
    add("--no_sync_batch_norm", action="store_true", help="every process takes its own statistics; faster on CPUs")
    add("--max_steps", type=positive_int, help="stop after so many steps in all")
    add("--max_minutes", type=positive_float, help="save and stop after so long")

    add = parser.add_argument_group("progress").add_argument
    add("--dry_run", action="store_true", help="print plan, parameters and memory, and stop")
    add("--save_freq", "--save_latest_freq", type=positive_int, help="steps between saves of `latest`")
    add("--save_epoch_freq", type=positive_int, help="epochs between saves under the epoch's number")
    add("--print_freq", type=positive_int, help="steps between lines of losses")
    add("--display_freq", type=positive_int, help="steps between pictures")
    add("--val_freq", type=positive_int, help="steps between validations")
    add("--keep_last", type=positive_int, help="numbered saves kept")
    add("--val_batches", type=positive_int, help="per validation")
    add("--no_html", action="store_true", help="no web page")
    add("--no_tensorboard", action="store_true", help="no TensorBoard files")
    add("--probe_path", type=Path, help="probe for synthetic heads: validation measures mouth and pose")

    base_options.take_defaults(parser, DataConfig, LossConfig, OptimConfig, TrainConfig)
    base_options.add_ignored_flags(
        parser,
        with_value=("optimizer", "D_steps_per_G", "netD_subarch", "list_start", "list_end"),
        switches=("tf_log", "debug"),
    )
    return parser


def to_config(arguments: argparse.Namespace) -> TrainConfig:
    """The namespace as a frozen dataclass; the number of classes may still follow from the data."""
    stage = _stage(arguments)
    network = _network(arguments)
    _check(arguments, stage, network)
    paths = ((letter, getattr(arguments, f"{letter}_pretrain_path")) for letter in NETWORK_LETTERS)
    return filled(
        TrainConfig,
        arguments,
        stage=stage,
        batch_size=arguments.batchSize,
        num_threads=arguments.nThreads,
        dataroot=arguments.dataroot or arguments.lrw_data_path,
        use_audio_id=bool(arguments.use_audio_id),
        input_id_feature=not arguments.no_input_id_feature,
        use_noise=not arguments.no_noise,
        sync_batch_norm=not arguments.no_sync_batch_norm,
        frozen=tuple(part for part in FREEZABLE if getattr(arguments, f"fix_net{part}")),
        pretrain_dirs=tuple(arguments.load_pretrain),
        pretrain_paths=tuple((letter, path) for letter, path in paths if path),
        grow_generator=arguments.grow_G,
        use_html=not arguments.no_html,
        use_tensorboard=not arguments.no_tensorboard,
        data=filled(
            DataConfig,
            arguments,
            crop_size=network.crop_size,
            clip_len=network.clip_len,
            augment=not arguments.no_augment,
        ),
        network=network,
        loss=_losses(arguments, stage),
        optim=filled(OptimConfig, arguments, no_ttur=arguments.no_TTUR, amsgrad=not arguments.no_amsgrad),
    )


def _stage(arguments: argparse.Namespace) -> str:
    chosen = [name for name in ("recognition", "sync", "dis_pose") if getattr(arguments, f"train_{name}")]
    if len(chosen) > 1:
        raise OptionError("choose one stage, got " + " and ".join(f"--train_{name}" for name in chosen))
    return chosen[0] if chosen else "joint"


def _check(arguments: argparse.Namespace, stage: str, network: NetworkConfig) -> None:
    if not (arguments.dataroot or arguments.lrw_data_path or arguments.train_list):
        raise OptionError(
            "no data: give --train_list (a csv, see scripts/prepare_voxceleb2.py) or --dataroot (a tree of videos)"
        )
    if arguments.train_list and arguments.dataset_mode == "webdataset":
        raise OptionError("--train_list lists clips, --dataset_mode webdataset reads --dataroot's shards: choose one")
    if stage == "dis_pose" and network.clip_len * arguments.frame_interval < 20:
        raise OptionError(
            "--train_dis_pose needs clip_len * frame_interval >= 20 (a shorter clip tells nothing about a word), "
            f"got {network.clip_len} * {arguments.frame_interval}"
        )
    if arguments.lambda_independence > 0 and network.clip_len < 2:
        raise OptionError("--lambda_independence compares moments of a clip: --clip_len must be at least 2, got 1")
    if arguments.niter + arguments.niter_decay == 0:
        raise OptionError("--niter 0 and --niter_decay 0: nothing to train")
    if not 0 <= arguments.ema < 1:
        raise OptionError(f"--ema must lie in [0, 1), got {arguments.ema}")
    for flag in ("beta1", "beta2"):
        value = getattr(arguments, flag)
        if value is not None and value >= 1:
            raise OptionError(f"--{flag} must lie in [0, 1), got {value}")
    if stage == "recognition" and (arguments.no_id_loss or arguments.dataset_mode == "lrw"):
        raise OptionError("--train_recognition learns from speakers: not with --no_id_loss or --dataset_mode lrw")
    if len(arguments.gpu_ids) > 1 and arguments.batchSize % len(arguments.gpu_ids):
        raise OptionError(f"--batchSize {arguments.batchSize} must be a multiple of the {len(arguments.gpu_ids)} GPUs")
    if stage == "sync" and (arguments.batchSize * arguments.num_clips) < 2:
        raise OptionError("--train_sync contrasts clips: --batchSize times --num_clips must be at least 2")
    if arguments.load_separately and not any(getattr(arguments, f"{n}_pretrain_path") for n in NETWORK_LETTERS):
        raise OptionError("--load_separately: give at least one of --G_pretrain_path, --V_pretrain_path, ...")


def _network(arguments: argparse.Namespace) -> NetworkConfig:
    """Sizes: of the run that is continued, of --network_file, or of the flags."""
    own = arguments.checkpoints_dir / arguments.name / NETWORK_FILE
    if arguments.network_file is None or (arguments.continue_train and own.is_file()):
        network = network_config(arguments)
    elif arguments.network_file.is_file():
        network = dataclasses.replace(
            NetworkConfig.from_file(arguments.network_file, arguments.any_size), **size_flags(arguments)
        )
    else:
        raise OptionError(f"--network_file {arguments.network_file}: no such file")
    return network if arguments.n_mel_T is None else dataclasses.replace(network, n_mel_t=arguments.n_mel_T)


def _losses(arguments: argparse.Namespace, stage: str) -> LossConfig:
    values = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(LossConfig)}
    if arguments.vggface:
        values["lambda_vggface"] = values["lambda_vggface"] or 5.0
    switches = {
        "lambda_vgg": arguments.no_vgg_loss,
        "lambda_feat": arguments.no_ganFeat_loss,
        "lambda_gan": arguments.no_gan_loss,
        "lambda_identity": arguments.no_id_loss or (stage != "recognition" and arguments.dataset_mode == "lrw"),
        "lambda_contrastive": arguments.no_cross_modal and stage != "sync",
        "lambda_confusion": stage != "dis_pose",
    }
    values.update({name: 0.0 for name, off in switches.items() if off})
    needed = {"recognition": ("lambda_identity",), "sync": ("lambda_contrastive", "lambda_cross_modal")}
    others = tuple(name for name in values if name.startswith("lambda_"))
    if not any(values[name] for name in needed.get(stage, others)):
        raise OptionError(f"stage {stage}: every loss is switched off, there is nothing to train")
    return LossConfig(**values)
