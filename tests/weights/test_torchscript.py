"""Tensors of TorchScript archives, read without their program."""

from __future__ import annotations

import builtins
import io
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from voxgraft.errors import SourceError
from voxgraft.weights import read_checkpoint
from voxgraft.weights.torchscript import torchscript_tensors


def _network() -> nn.Module:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU())
    network = nn.Sequential(inner, nn.Conv3d(4, 2, 1))
    inner[0].weight.data = inner[0].weight.data.transpose(3, 4)  # strides of their own
    return network


def _saved(path: Path, how: str) -> nn.Module:
    network = _network().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        if how == "trace":
            program = torch.jit.trace(network, torch.zeros(1, 1, 5, 5, 5))
        else:
            program = torch.jit.script(network)
        torch.jit.save(program, str(path))
    return network


@pytest.mark.parametrize("how", ["trace", "script"])
def test_the_tensors_are_those_of_the_network(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.pt"
    network = _saved(path, how)
    checkpoint = read_checkpoint(path)
    expected = network.state_dict()
    assert list(checkpoint.state) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.state[name], tensor)
        assert checkpoint.state[name].dtype == tensor.dtype
    assert any("TorchScript" in note for note in checkpoint.notes)


def _with_pickle(path: Path, content: bytes) -> None:
    """Write the archive again with another pickle in it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, content if name.endswith("/data.pkl") else part)


class _Runs:
    def __reduce__(self):
        return exec, ("import builtins; builtins.voxgraft_test_ran = True",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    _saved(path, "trace")
    _with_pickle(path, pickle.dumps({"a": _Runs()}, protocol=2))
    with pytest.raises(pickle.UnpicklingError, match=r"asks for (__builtin__|builtins)\.exec"):
        torchscript_tensors(path)
    with pytest.raises(SourceError):
        read_checkpoint(path)
    assert not hasattr(builtins, "voxgraft_test_ran")


class _Lies(pickle.Pickler):
    """Says of a tensor that it has more numbers than its storage."""

    def __init__(self, file: io.BytesIO, shape: tuple[object, ...], offset: object = 0) -> None:
        super().__init__(file, protocol=2)
        self.shape, self.offset = shape, offset

    def persistent_id(self, value: object) -> object:
        if isinstance(value, bytes):
            return ("storage", "FloatStorage", "0", "cpu", 4)
        return None

    def reducer_override(self, value: object) -> object:
        if isinstance(value, nn.Module):
            return _Scripted, (), {"weight": _Tensor()}
        if isinstance(value, _Tensor):
            strides = (1,) * len(self.shape)
            return torch._utils._rebuild_tensor_v2, (
                b"", self.offset, self.shape, strides, False, {},
            )  # fmt: skip
        return NotImplemented


class _Tensor:
    pass


class _Scripted:
    pass


_Scripted.__module__, _Scripted.__qualname__ = "__torch__.network", "Network"


@pytest.mark.parametrize(
    ("shape", "offset"),
    [((10**6,), 0), ((4,), 10**6), ((-1,), 0), ((2,), -5), (("4",), 0), ((2.5,), 0)],
)
def test_shapes_beyond_the_numbers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[object, ...], offset: int
) -> None:
    import sys
    import types

    module = types.ModuleType("__torch__.network")
    module.Network = _Scripted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__torch__", types.ModuleType("__torch__"))
    monkeypatch.setitem(sys.modules, "__torch__.network", module)
    path = tmp_path / "a.pt"
    _saved(path, "trace")
    content = io.BytesIO()
    _Lies(content, shape, offset).dump(nn.Identity())
    _with_pickle(path, content.getvalue())
    with pytest.raises((pickle.UnpicklingError, TypeError), match=r"reaches beyond|impossible"):
        torchscript_tensors(path)
    with pytest.raises(SourceError, match="cannot be read"):
        read_checkpoint(path)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    _saved(path, "trace")
    whole = path.read_bytes()
    for share in (0.3, 0.7, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(SourceError):
            read_checkpoint(path)
