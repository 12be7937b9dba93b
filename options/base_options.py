"""Flags shared by test.py and train.py, and how a namespace becomes a dataclass; imports nothing heavy."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from options.config import NETWORK_FILE, NetworkConfig, TestConfig
from options.network_sizes import require_moderate
from util.cli import add_size_flag, natural_int, positive_int
from util.errors import OptionError, printable
from util.files import MARK, make_directory, write_json, write_text
from util.json_files import read_json, to_builtins
from util.log import warn_once

logger = logging.getLogger(__name__)

Settings = TypeVar("Settings")
# what --net<letter> may say: the published names
_NETWORK_NAMES = {
    "G": "modulate", "D": "multiscale", "V": "resnext", "E": "fan", "A": "resseaudio", "A_sync": "ressesync",
}  # fmt: skip
# published flags without meaning here: those with a value, and switches
_IGNORED_WITH_VALUE = (
    "phase", "norm_G", "norm_D", "norm_A", "norm_E", "init_type", "init_variance", "ngf", "ndf", "nef", "z_dim",
    "load_size", "preprocess_mode", "aspect_ratio", "display_winsize", "max_dataset_size", "output_nc", "label_nc",
    "audio_nc", "num_bins_per_frame", "num_frames_per_clip", "frame_rate", "sample_rate", "fitting_iterations",
    "D_input", "feature_encoded_dim", "list_num", "label_mask",
)  # fmt: skip
_IGNORED_SWITCHES = (
    "style_feature_loss", "noise_pose", "serial_batches", "no_flip", "isTrain", "multi_gpu", "no_instance",
    "no_pairing_check", "cache_filelist_write", "cache_filelist_read", "use_transformer",
)  # fmt: skip
# flag -> the NetworkConfig field it sets; a network.json beside the weights goes before them
_SIZE_FLAGS = ("crop_size", "num_classes", "clip_len", "pose_dim", "feature_dim")


def add_ignored_flags(
    parser: argparse.ArgumentParser, with_value: Sequence[str] = (), switches: Sequence[str] = ()
) -> None:
    """Accepts the published flags without meaning here: those that no command needs, and a command's own."""
    add = functools.partial(parser.add_argument, dest="ignored_flags", help=argparse.SUPPRESS)
    for flag in (*_IGNORED_WITH_VALUE, *with_value):
        add(f"--{flag}", action="append", type=lambda _, flag=flag: f"--{flag}")  # type: ignore[misc]
    for flag in (*_IGNORED_SWITCHES, *switches):
        add(f"--{flag}", action="append_const", const=f"--{flag}")


def gpu_list(text: str) -> tuple[int, ...]:
    """argparse type: `0`, `0,2` or `-1` for the CPU."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip()) or (-1,)
    except ValueError as error:
        reason = f"must be GPU numbers such as 0 or 0,1, or -1 for the CPU, got {text}"
        raise argparse.ArgumentTypeError(reason) from error


def add_base_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that mean the same in testing and training."""
    add = parser.add_argument_group("run").add_argument
    add("--name", help="the model: its weights lie in <checkpoints_dir>/<name>")
    add("--checkpoints_dir", type=Path, help="folder of all models")
    add("--which_epoch", help="first part of the weights' file names")
    add("--gpu_ids", type=gpu_list, help="GPU numbers, e.g. 0 or 0,1; -1 is the CPU")
    add(
        "--batchSize", type=positive_int, default=TestConfig.batch_size, help="frames that are loaded and sent together"
    )
    add("--nThreads", type=natural_int, default=TestConfig.num_threads, help="threads that load and write frames")
    add("--seed", type=natural_int, help="of every random choice")
    add("--verbose", action="store_true", help="more messages, and tracebacks")
    add(
        "--load_from_opt_file",
        nargs="?",
        const="",
        metavar="FILE",
        help="take flags from a saved options.json (default: opt.json beside the weights); the command line goes first",
    )
    add("--trust_pickle", action="store_true", help="let --load_from_opt_file read an opt.pkl, which can run code")

    add = parser.add_argument_group("networks").add_argument
    add("--model", default="av", choices=("av",), help="the published name of the system")
    for letter, name in _NETWORK_NAMES.items():
        add(f"--net{letter}", default=name, choices=(name,), help=f"network {letter}")
    for flag in _SIZE_FLAGS:
        default = getattr(NetworkConfig, flag)
        add(f"--{flag}", type=positive_int, help=f"a size of the networks (default: {default})")
    add_size_flag(add)
    add("--style_dim", type=positive_int, help="checked against the sizes; 2560 for the published ones")
    add("--input_id_feature", action="store_true", help="G starts from the identity map")
    add("--crop_len", type=natural_int, help="pixels cut off the 224 px frame")
    add("--num_inputs", type=positive_int, help="reference images averaged into an identity")


def take_defaults(parser: argparse.ArgumentParser, *kinds: type[Any]) -> None:
    """Gives the flags without a default that of the field of the same name in these dataclasses."""
    values = {field.name: field.default for kind in kinds for field in dataclasses.fields(kind)}
    flags = {action.dest for action in parser._actions if action.default is None} - set(_SIZE_FLAGS)
    parser.set_defaults(**{name: value for name, value in values.items() if name in flags})


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parses `argv`, putting the flags of `--load_from_opt_file` in front of it."""
    arguments = parser.parse_args(argv)
    if arguments.load_from_opt_file is not None:
        path = _options_file(arguments)
        arguments = parser.parse_args([*_as_flags(parser, path, arguments.trust_pickle), *argv])
    for flag in dict.fromkeys(arguments.ignored_flags or []):
        warn_once(logger, f"{flag} is accepted for old scripts and has no meaning here")
    return arguments


def size_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The sizes that the command line gives, by NetworkConfig's names."""
    return {flag: value for flag in _SIZE_FLAGS if (value := getattr(arguments, flag)) is not None}


def network_config(arguments: argparse.Namespace) -> NetworkConfig:
    """Sizes from the `network.json` beside the weights where there is one, else from the flags.

    Raises OptionError: `--style_dim` contradicts the sizes, or they are out of proportion. And CheckpointError.
    """
    given = size_flags(arguments)
    described = arguments.checkpoints_dir / arguments.name / NETWORK_FILE
    if described.is_file():
        config = NetworkConfig.from_file(described, arguments.any_size)
        given["style_dim"] = arguments.style_dim or config.style_dim
        for flag, value in given.items():
            if getattr(config, flag) != value:
                logger.info("--%s %s: %s says %s, which goes first", flag, value, described, getattr(config, flag))
        return config
    config = NetworkConfig(**given)
    if not arguments.any_size:
        require_moderate(config, NetworkConfig())
    if arguments.style_dim not in (None, config.style_dim):
        raise OptionError(
            f"--style_dim must be identity vector {config.identity_dim} + features {config.feature_dim} "
            f"= {config.style_dim}, got {arguments.style_dim}; other sizes need a network.json beside the weights"
        )
    return config


def filled(kind: type[Settings], arguments: argparse.Namespace, **values: Any) -> Settings:
    """A dataclass from the flags of the same names, and `values` for the fields that no flag gives as they are."""
    names = {field.name for field in dataclasses.fields(kind)} - values.keys()  # type: ignore[arg-type]
    return kind(**{name: getattr(arguments, name) for name in names if hasattr(arguments, name)}, **values)


def describe(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """All options as text, those that differ from their default marked."""
    lines = ["----------------- Options ---------------"]
    for name, value in sorted(_plain(arguments).items()):
        default = to_builtins(parser.get_default(name))
        mark = f"\t[default: {default}]" if value != default else ""
        lines.append(f"{name:>25}: {printable(str(value)):<30}{mark}".rstrip())
    lines.append("----------------- End -------------------")
    return "\n".join(lines)


def save(directory: Path, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Writes options.txt and options.json; the latter is what `--load_from_opt_file` reads."""
    make_directory(directory)
    write_text(directory / "options.txt", f"{describe(parser, arguments)}\n{MARK}\n")
    write_json(directory / "options.json", {"made_by": MARK, **_plain(arguments)})


def _options_file(arguments: argparse.Namespace) -> Path:
    if arguments.load_from_opt_file:
        return Path(arguments.load_from_opt_file)
    directory = arguments.checkpoints_dir / arguments.name
    for name in ("opt.json", "options.json", "opt.pkl"):
        if (directory / name).is_file():
            return directory / name
    raise OptionError(f"--load_from_opt_file: {directory} holds no opt.json, options.json or opt.pkl; give the file")


def _as_flags(parser: argparse.ArgumentParser, path: Path, trust_pickle: bool) -> list[str]:
    legacy, hint = path.suffix == ".pkl", "--load_from_opt_file reads a saved options.json"
    values = _read_pickle(path, trust_pickle) if legacy else read_json(path, dict[str, Any], OptionError, hint)
    actions = {flag.removeprefix("--"): action for action in parser._actions for flag in action.option_strings}
    flags: list[str] = []
    for name, value in values.items():
        action = actions.get(name)
        if name in ("made_by", "ignored_flags", "load_from_opt_file", "trust_pickle") or value is None:
            continue
        if action is None and not legacy:
            raise OptionError(f"{path}: unknown option {name!r}; see --help for the names")
        if action is None or action.dest == "ignored_flags":
            continue
        if action.nargs == "+":
            flags += [action.option_strings[0], *map(str, value)] if value else []
        elif action.nargs == 0:
            if not isinstance(value, bool):
                raise OptionError(f"{path}: {name} must be true or false, got {value!r}")
            flags += [action.option_strings[0]] if value else []
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else value
            flags.append(f"{action.option_strings[0]}={text}")
    return flags


def _read_pickle(path: Path, trusted: bool) -> dict[str, Any]:
    if not trusted:
        raise OptionError(
            f"--load_from_opt_file {path}: unpickling runs code; add --trust_pickle if you trust this file"
        )
    import dill

    try:
        with path.open("rb") as file:
            return dict(vars(dill.load(file)))
    except Exception as error:  # an unpickler raises whatever the file makes it raise
        raise OptionError(f"--load_from_opt_file {path}: cannot be unpickled: {error}") from error


def _plain(arguments: argparse.Namespace) -> dict[str, Any]:
    return to_builtins({name: value for name, value in vars(arguments).items() if name != "ignored_flags"})
