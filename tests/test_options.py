"""The command line: the published one as it is, ours, and what it refuses."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import dill
import pytest

from options import base_options
from options.config import AudioConfig, NetworkConfig, TestConfig
from options.test_options import build_parser, to_config
from util.errors import CheckpointError, OptionError
from util.json_files import to_builtins

# the last thing experiments/demo_vox.sh calls: the published command line
_SCRIPT = (Path(__file__).resolve().parents[1] / "experiments" / "demo_vox.sh").read_text()
PUBLISHED = shlex.split(_SCRIPT.rpartition(" test.py ")[2].replace("\\\n", " "))[:-1]


def _config(*flags: str) -> TestConfig:
    return to_config(base_options.parse(build_parser(), flags))


def test_published_command_line_gives_the_published_run() -> None:
    assert len(PUBLISHED) == 40
    config = _config(*PUBLISHED)
    assert config.checkpoint_dir == Path("checkpoints/demo")
    assert (config.gpu_ids, config.batch_size, config.num_threads) == ((0,), 16, 4)
    assert config.driving_pose
    assert config.gen_video
    assert config.input_id_feature
    assert config.network == NetworkConfig()
    assert config.network.style_dim == 2560


def test_flags_without_meaning_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    _config(*PUBLISHED, "--noise_pose", "--noise_pose")
    said = [record.getMessage().split()[0] for record in caplog.records]
    assert said == ["--generate_interval", "--style_feature_loss", "--noise_pose", "--generate_from_audio_only"]


def test_defaults_come_from_the_config() -> None:
    config, defaults = _config(), TestConfig()
    assert config == defaults


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--netV", "vit"], "--netV: invalid choice: 'vit' .*resnext"),
        (["--noise", "loud"], "--noise: invalid choice: 'loud' .*random"),
        (["--batchSize", "0"], "--batchSize: must be at least 1, got 0"),
        (["--gpu_ids", "cuda"], "--gpu_ids: must be GPU numbers such as 0 or 0,1, or -1 for the CPU, got cuda"),
        (["--list_start", "-2"], "--list_start: must not be negative"),
        (["--driving"], "unrecognized arguments: --driving"),
        (["--use_audio", "0"], "--use_audio: invalid choice: '?0"),
    ],
)
def test_wrong_values_name_the_flag(flags: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        _config(*flags)
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(("text", "ids"), [("0", (0,)), ("0,2", (0, 2)), ("-1", (-1,)), ("", (-1,))])
def test_gpu_ids_are_read_as_a_list(text: str, ids: tuple[int, ...]) -> None:
    assert base_options.gpu_list(text) == ids


@pytest.mark.parametrize("size", [230, 0, 7, 14, 8])
def test_crop_size_off_the_grid_is_refused(size: int) -> None:
    with pytest.raises(OptionError, match=rf"--crop_size must be 7\*2\^k or 4\*2\^k .*got {size}"):
        NetworkConfig(crop_size=size)


@pytest.mark.parametrize("size", [16, 28, 112, 224, 256])
def test_crop_size_on_the_grid_is_taken(size: int) -> None:
    assert NetworkConfig(crop_size=size, hourglass_depth=2).crop_size == size


def test_pose_dim_must_leave_room_for_the_mouth() -> None:
    with pytest.raises(OptionError, match="--pose_dim must lie between 1 and 511, got 512"):
        _config("--pose_dim", "512")


def test_style_dim_that_contradicts_the_sizes_is_refused() -> None:
    with pytest.raises(OptionError, match=r"--style_dim must be identity vector 2048 \+ features 512 = 2560, got 2048"):
        _config("--style_dim", "2048")


def test_network_json_beside_the_weights_goes_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "small").mkdir()
    sizes = NetworkConfig(identity_width=8, feature_dim=64, crop_size=112)
    (tmp_path / "small" / "network.json").write_text(json.dumps(to_builtins(sizes)))
    with caplog.at_level("INFO"):
        config = _config("--name", "small", "--checkpoints_dir", str(tmp_path), "--style_dim", "2560")
    assert config.network == sizes
    assert config.data.crop_size == 112
    assert "--style_dim 2560" in caplog.text
    assert "says 320, which goes first" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "network.json: Input data was truncated"),
        ("[1]", "network.json: Expected `object`, got `array`"),
        ('{"widht": 3}', "unknown size 'widht'"),
        ('{"crop_size": 230}', "--crop_size must be"),
        ('{"identity_layers": 3}', r"network.json: Expected `array`, got `int` - at `\$.identity_layers`"),
        ('{"identity_layers": [1, 2.5]}', r"Expected `int`, got `float` - at `\$.identity_layers\[1\]`"),
        ('{"num_classes": "4"}', r"Expected `int`, got `str` - at `\$.num_classes`"),
        ('{"generator_input_channels": 0}', "generator_input_channels must be whole numbers above 0"),
        ('{"generator_channels": [8, 8]}', "generator_channels must have 6 entries for 224 px, got 2"),
        ('{"identity_skips": [8, 8, 8, 8]}', "identity_skips has 4, 3 entries are the most for 224 px"),
        ('{"identity_skips": [0]}', "identity_skips must be whole numbers above 0"),
        ('{"audio_layers": [1, 1]}', "must have 4 entries each"),
        ('{"identity_stem_pool": 1}', r"Expected `bool`, got `int` - at `\$.identity_stem_pool`"),
    ],
)
def test_broken_network_json_raises_checkpoint_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "network.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        _config("--name", "m", "--checkpoints_dir", str(tmp_path))


def test_saved_options_are_read_back_and_the_command_line_goes_first(tmp_path: Path) -> None:
    parser = build_parser()
    flags = [
        "--name",
        "my model",
        "--gpu_ids",
        "0,1",
        "--seed",
        "7",
        "--driving_pose",
        "--precision",
        "bf16",
        "--noise_pose",
    ]
    base_options.save(tmp_path, parser, base_options.parse(parser, flags))
    again = _config("--load_from_opt_file", str(tmp_path / "options.json"), "--seed", "8")
    assert (again.name, again.gpu_ids, again.seed, again.precision) == ("my model", (0, 1), 8, "bf16")
    assert again.driving_pose
    text = (tmp_path / "options.txt").read_text()
    assert "seed: 7" in text
    (line,) = [line for line in text.splitlines() if " seed:" in line]
    assert line.endswith("[default: 0]")
    assert not any(line.endswith("]") for line in text.splitlines() if " labels:" in line)


def test_options_file_is_found_beside_the_weights(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "opt.json").write_text('{"seed": 5}')
    assert _config("--checkpoints_dir", str(tmp_path), "--name", "m", "--load_from_opt_file").seed == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", r"o\.json: JSON is malformed.*; --load_from_opt_file reads a saved options.json"),
        ("[1]", "Expected `object`, got `array`; --load_from_opt_file"),
        ('{"sead": 1}', "unknown option 'sead'"),
        ('{"gen_video": "false"}', "gen_video must be true or false, got 'false'"),
    ],
)
def test_bad_options_file_raises_option_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "o.json").write_text(text)
    with pytest.raises(OptionError, match=message):
        _config("--load_from_opt_file", str(tmp_path / "o.json"))


def test_missing_options_file_raises_option_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"gone\.json: No such file or directory; --load_from_opt_file"):
        _config("--load_from_opt_file", str(tmp_path / "gone.json"))
    with pytest.raises(OptionError, match=r"holds no opt.json, options.json or opt.pkl"):
        _config("--checkpoints_dir", str(tmp_path), "--load_from_opt_file")


def test_options_file_may_hold_flags_without_meaning(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text('{"generate_interval": 1, "noise_pose": true, "seed": 3}')
    assert _config("--load_from_opt_file", str(tmp_path / "o.json")).seed == 3


def test_crop_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="--crop_len must be less than 112, got 112"):
        _config("--crop_len", "112")


def test_labels_without_video_are_said_to_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    _config("--labels")
    assert "--labels has no effect without --gen_video" in caplog.text


def test_value_of_wrong_kind_in_options_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text('{"seed": "many"}')
    with pytest.raises(SystemExit):
        _config("--load_from_opt_file", str(tmp_path / "o.json"))


def test_legacy_pickle_needs_trust(tmp_path: Path) -> None:
    path = tmp_path / "opt.pkl"
    legacy = argparse.Namespace(name="old", batchSize=2, isTrain=False, some_forgotten_flag=3, gpu_ids=[0])
    path.write_bytes(dill.dumps(legacy))
    with pytest.raises(OptionError, match="unpickling runs code; add --trust_pickle"):
        _config("--load_from_opt_file", str(path))
    config = _config("--load_from_opt_file", str(path), "--trust_pickle")
    assert (config.name, config.batch_size, config.gpu_ids) == ("old", 2, (0,))
    path.write_bytes(b"rubbish")
    with pytest.raises(OptionError, match="cannot be unpickled"):
        _config("--load_from_opt_file", str(path), "--trust_pickle")


def test_audio_config_is_consistent_with_the_frame_rate() -> None:
    audio = AudioConfig()
    assert audio.sample_rate_hz / audio.hop_length / audio.bins_per_frame == 25
    assert audio.frame_length % audio.hop_length == 0
