"""Weights on disk: strict, weights-only, and clear about what is wrong."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.trainers.state import save_state
from util.checkpoint import load_network, read_state_dict, require_networks, save_state_dict
from util.errors import CheckpointError


def _network(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"body": nn.Linear(4, 5), "norm": nn.BatchNorm1d(5), "fc": nn.Linear(5, classes)})


def _equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def _saved(path: Path, state: dict[str, Any]) -> Path:
    torch.save(state, path)
    return path


def _scrambled(classes: int = 3) -> nn.Module:
    network = _network(classes)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    return network


def test_saved_weights_are_loaded_exactly(tmp_path: Path) -> None:
    path = tmp_path / "latest_net_X.pth"
    save_state_dict(_network().state_dict(), path)
    network = _scrambled()
    assert load_network(network, path) == []
    assert _equal(network, _network())


@pytest.mark.parametrize("zipped", [True, False])
def test_data_parallel_prefix_and_old_format_are_read(tmp_path: Path, zipped: bool) -> None:
    state = OrderedDict((f"module.{key}", value) for key, value in _network().state_dict().items())
    path = tmp_path / "x.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    network = _scrambled()
    load_network(network, path)
    assert _equal(network, _network())


def test_half_precision_file_fills_a_float_network(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in _network().state_dict().items()}
    network = _scrambled()
    load_network(network, _saved(tmp_path / "x.pth", state))
    assert network["body"].weight.dtype == torch.float32
    assert torch.equal(network["body"].weight, _network()["body"].weight.half().float())


def test_network_without_memory_takes_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "latest_net_X.pth"
    saved = _network(classes=3)
    save_state_dict(saved.state_dict(), path)
    with torch.device("meta"):
        network = _network(classes=7)
        network["body"].weight = nn.Parameter(torch.empty(4, 5).t())  # another layout than the file's
    assert load_network(network, path, optional_heads=("fc.",)) == ["fc.weight", "fc.bias"]
    assert torch.equal(network["body"].weight, saved["body"].weight)
    assert network["body"].weight.stride() == (1, 5)
    assert torch.equal(network["norm"].running_var, saved["norm"].running_var)
    assert network["fc"].weight.shape == (7, 5)
    assert not network["fc"].weight.any()
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_file_fills_a_network_without_memory(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in _network().state_dict().items()}
    with torch.device("meta"):
        network = _network()
    load_network(network, _saved(tmp_path / "x.pth", state))
    assert network["body"].weight.dtype == torch.float32
    assert torch.equal(network["body"].weight, _network()["body"].weight.half().float())


def test_file_saved_on_cuda_is_mapped_to_the_cpu(tmp_path: Path) -> None:
    """The location tag in the pickle says cuda:0; without CUDA that must not matter."""
    path = _saved(tmp_path / "cpu.pth", {"w": torch.arange(3.0)})
    import zipfile

    tagged = tmp_path / "cuda.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tagged, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            payload = source.read(name)
            if name.endswith("data.pkl"):
                assert payload.count(b"X\x03\x00\x00\x00cpu") == 1
                payload = payload.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            target.writestr(name, payload)
    state = read_state_dict(tagged)
    assert state["w"].device.type == "cpu"
    assert state["w"].tolist() == [0, 1, 2]


def test_optional_head_of_other_size_or_absent_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.pth"
    for state in (
        _network(classes=7).state_dict(),
        {k: v for k, v in _network().state_dict().items() if "fc" not in k},
    ):
        save_state_dict(state, path)
        network = _scrambled()
        head = network["fc"].weight.clone()
        with caplog.at_level("INFO"):
            assert load_network(network, path, optional_heads=("fc.",)) == ["fc.weight", "fc.bias"]
        assert torch.equal(network["fc"].weight, head)
        assert torch.equal(network["body"].weight, _network()["body"].weight)
        assert "left out fc.weight, fc.bias" in caplog.text


def test_other_shape_elsewhere_names_file_key_and_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "wide.pth"
    save_state_dict(_network(classes=7).state_dict(), path)
    with pytest.raises(
        CheckpointError, match=r"wide.pth: fc.weight is \[7, 5\] in the file and \[3, 5\] in the network"
    ):
        load_network(_network(), path)


def test_missing_key_is_named_with_its_shape(tmp_path: Path) -> None:
    state = dict(_network().state_dict())
    del state["norm.running_mean"], state["norm.running_var"]
    with pytest.raises(CheckpointError, match=r"x.pth: lacks norm.running_mean \[5\] and 1 more"):
        load_network(_network(), _saved(tmp_path / "x.pth", state))


def test_unexpected_key_is_named_with_its_shape(tmp_path: Path) -> None:
    state = {**_network().state_dict(), "extra.weight": torch.zeros(2, 3)}
    with pytest.raises(CheckpointError, match=r"x.pth: has extra.weight \[2, 3\], unknown here"):
        load_network(_network(), _saved(tmp_path / "x.pth", state))


def test_weights_of_another_network_are_called_that(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights of another network .*misnamed"):
        load_network(_network(), _saved(tmp_path / "x.pth", {"conv.weight": torch.zeros(1)}))


def test_missing_file_names_the_command_that_gets_it(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"gone.pth: no such file; fetch the published weights .*python.* scripts/download_checkpoints.py",
    ):
        read_state_dict(tmp_path / "gone.pth")


def test_unpickler_stumbling_over_damage_raises_checkpoint_error(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    path.write_bytes(b"\x80\x02.")
    with pytest.raises(CheckpointError, match=r"odd.pth: truncated or not a torch file"):
        read_state_dict(path)


@pytest.mark.parametrize("keep", [0, 10, 200, -20])
def test_truncated_file_raises_checkpoint_error(tmp_path: Path, keep: int) -> None:
    path = _saved(tmp_path / "cut.pth", dict(_network().state_dict()))
    payload = path.read_bytes()
    path.write_bytes(payload[:keep])
    with pytest.raises(CheckpointError, match=r"cut.pth: (truncated or not a torch file|refused)"):
        read_state_dict(path)


def test_web_page_saved_as_weights_raises_checkpoint_error(tmp_path: Path) -> None:
    path = tmp_path / "page.pth"
    path.write_text("<!DOCTYPE html><html>quota exceeded</html>")
    with pytest.raises(CheckpointError, match=r"page.pth: a text \(a web page or a git-lfs pointer\), not weights"):
        read_state_dict(path)


class _Harmful:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    path = _saved(tmp_path / "bad.pth", {"w": _Harmful(marker)})
    with pytest.raises(CheckpointError, match=r"bad.pth: refused, because it is more than a plain state dict"):
        read_state_dict(path)
    raw = tmp_path / "raw.pth"
    raw.write_bytes(pickle.dumps(_Harmful(marker)))
    with pytest.raises(CheckpointError, match=r"raw.pth: (refused|truncated)"):
        read_state_dict(raw)
    assert not marker.exists()


@pytest.mark.parametrize("value", [torch.zeros(2), [1, 2], {"w": torch.zeros(1), "epoch": 3}, {}])
def test_other_contents_than_a_state_dict_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(CheckpointError, match=r"x.pth: holds"):
        read_state_dict(_saved(tmp_path / "x.pth", value))


def test_require_networks_names_all_missing_files_and_other_epochs(tmp_path: Path) -> None:
    for name in ("latest_net_G.pth", "20_net_V.pth"):
        (tmp_path / name).touch()
    with pytest.raises(
        CheckpointError,
        match=r"latest_net_V.pth, latest_net_E.pth; there are weights of epoch 20: choose",
    ):
        require_networks(tmp_path, "latest", ("G", "V", "E"))


def test_save_into_missing_folder_raises_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x.pth: cannot be written"):
        save_state_dict({"w": torch.zeros(1)}, tmp_path / "gone" / "x.pth")


def test_save_where_the_system_takes_no_more_says_the_systems_reason(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"x.pth: cannot be written: File too large$"):
            save_state_dict({"w": torch.zeros(1000, 1000)}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=r"cannot be written: File too large; the older state is still there"):
            save_state(tmp_path, {"w": torch.zeros(1000, 1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- files that would mislead


def _linear(path: Path) -> nn.Linear:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    save_state_dict(network.state_dict(), path)
    return network


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda w: w.long(), "strided int64, the network needs ordinary floating-point"),
        (lambda w: w > 0, "strided bool"),
        (lambda w: torch.complex(w, w), "strided complex64"),
        (lambda w: w.to_sparse(), "sparse_coo float32"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "qint8"),
        (lambda w: w.to("meta"), "float32 without values"),
        (lambda w: torch.full_like(w, float("nan")), "holds NaN or infinity"),
        (lambda w: w.index_fill(1, torch.tensor(1), float("inf")), "holds NaN or infinity"),
    ],
)
def test_numbers_of_a_wrong_kind_are_refused_by_name(
    tmp_path: Path, spoil: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    network = _linear(tmp_path / "w.pth")
    torch.save({**network.state_dict(), "weight": spoil(network.weight.detach())}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: ") as error:
        load_network(nn.Linear(3, 2), tmp_path / "w.pth")
    assert said in str(error.value)


def test_large_finite_weights_are_no_infinity(tmp_path: Path) -> None:
    state = {"weight": torch.full((2, 3), 3e38), "bias": torch.zeros(2)}
    save_state_dict(state, tmp_path / "w.pth")
    network = nn.Linear(3, 2)
    load_network(network, tmp_path / "w.pth")
    assert torch.equal(network.weight, state["weight"])


@pytest.mark.parametrize("kind", ["compressed", "twice"])
def test_archive_that_was_packed_again_is_refused(tmp_path: Path, kind: str) -> None:
    _linear(tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as source:
        members = {name: source.read(name) for name in source.namelist()}
    method = zipfile.ZIP_DEFLATED if kind == "compressed" else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "w.pth", "w", method) as target:
        warnings.simplefilter("ignore")
        for name, payload in members.items():
            for _ in range(2 if kind == "twice" and name.endswith("data/0") else 1):
                target.writestr(name, payload)
    with pytest.raises(CheckpointError, match=rf"w\.pth: was packed again by another program .*{kind}"):
        load_network(nn.Linear(3, 2), tmp_path / "w.pth")


def test_safetensors_file_is_called_that(tmp_path: Path) -> None:
    header = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "w.pth").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match=r"w\.pth: a safetensors file, which is not read here; convert it"):
        load_network(nn.Linear(3, 2), tmp_path / "w.pth")


def test_equal_weights_give_equal_files_whatever_their_name(tmp_path: Path) -> None:
    _linear(tmp_path / "one.pth")
    _linear(tmp_path / "another name.pth")
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "another name.pth").read_bytes()
