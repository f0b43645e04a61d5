"""Checkpoints as they are found in the wild: read without running anything, or refused by name."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from voxgraft.errors import SourceError
from voxgraft.weights.digests import digest_faults, tensor_digests
from voxgraft.weights.read import read_checkpoint, read_state_dict


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "bn.running_mean": torch.randn(4, generator=generator),
        "bn.num_batches_tracked": torch.tensor(7),
    }


def _same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[n], expected[n]) for n in found)


def test_reads_each_container(tmp_path: Path) -> None:
    state = _state()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save(OrderedDict(state), tmp_path / "c.pyth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "d.bin")  # told by content, not by suffix
    for name in ("b.pth", "c.pyth"):
        assert _same(read_state_dict(tmp_path / name), state)
    for name in ("a.safetensors", "d.bin"):
        found = read_state_dict(str(tmp_path / name))
        assert _same({n: found[n] for n in state}, state)


@pytest.mark.parametrize("legacy", [False, True])
def test_unwraps_by_the_stated_rule_and_says_so(tmp_path: Path, legacy: bool) -> None:
    state = _state()
    content = {
        "epoch": 3,
        "best": torch.tensor(0.5),
        "args": argparse.Namespace(lr=0.1),
        "state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
        "state_dict_ema": {name: tensor + 1 for name, tensor in state.items()},
    }
    path = tmp_path / "run.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    checkpoint = read_checkpoint(path)
    assert _same(checkpoint.state, state)
    assert checkpoint.notes == (
        "read from the key 'state_dict'",
        "not read: the tensors under 'state_dict_ema'",
        "the prefix 'module.' of all names was stripped",
        "the prefix '_orig_mod.' of all names was stripped",
    )
    averaged = read_checkpoint(path, key="state_dict_ema")
    assert torch.equal(averaged.state["conv.weight"], state["conv.weight"] + 1)
    with pytest.raises(SourceError, match=r"has no key 'model': 'model' is not among 'epoch'"):
        read_checkpoint(path, key="model")
    with pytest.raises(SourceError, match=r"no tensors under 'args'"):
        read_checkpoint(path, key="args")


def test_nested_wrappers_and_averaged_alone(tmp_path: Path) -> None:
    state = _state()
    torch.save({"model": {"net": state}, "epoch": 1}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").notes == ("read from the key 'model.net'",)
    torch.save({"model_ema": state}, tmp_path / "b.pt")
    assert _same(read_state_dict(tmp_path / "b.pt"), state)


def test_a_shared_prefix_is_stripped_only_if_all_have_it(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "a.pt")
    assert list(read_state_dict(tmp_path / "a.pt")) == ["module.a", "a"]


def test_precision_becomes_single_and_is_noted(tmp_path: Path) -> None:
    state = {
        "a": torch.ones(2, dtype=torch.float16),
        "b": torch.ones(2, dtype=torch.bfloat16),
        "c": torch.ones(2, dtype=torch.float64),
        "d": torch.ones(2, dtype=torch.float8_e4m3fn),
        "e": torch.ones(2, dtype=torch.int64),
    }
    torch.save(state, tmp_path / "a.pt")
    checkpoint = read_checkpoint(tmp_path / "a.pt")
    assert [str(t.dtype) for t in checkpoint.state.values()] == ["torch.float32"] * 4 + [
        "torch.int64"
    ]
    assert "1 tensors of bfloat16 became float32" in checkpoint.notes
    assert len(checkpoint.notes) == 4


class _Runs:
    ran = False

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import builtins; builtins.voxgraft_test_ran = True",)


@pytest.mark.parametrize("container", ["zip", "legacy", 0, 2, 4, 5])
def test_code_in_a_pickle_is_never_run(tmp_path: Path, container: str | int) -> None:
    import builtins

    path = tmp_path / "evil.pth"
    if isinstance(container, int):
        path.write_bytes(pickle.dumps({"a": _Runs()}, protocol=container))
    else:
        torch.save({"a": _Runs()}, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(SourceError, match=r"would run code when opened.*exec.*docs/grafting.md"):
        read_state_dict(path)
    assert not hasattr(builtins, "voxgraft_test_ran")


def test_whole_modules_are_refused_with_the_class_named(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(SourceError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_state_dict(tmp_path / "a.pth")


def test_broken_torchscript_is_named(tmp_path: Path) -> None:
    # The layout of a TorchScript archive, without the compiler that is deprecated.
    for present, message in (
        (("m/constants.pkl", "m/code/__torch__.py"), r"TorchScript archive without its tensors"),
        (("m/data.pkl", "m/constants.pkl"), r"cannot be read as a PyTorch checkpoint"),
    ):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            for name in present:
                archive.writestr(name, b"x")
        with pytest.raises(SourceError, match=message):
            read_state_dict(tmp_path / "a.pt")


_FAKES = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", r"Git LFS pointer"),
    "html": (b"\n<!DOCTYPE html><html>login</html>", r"web page \(HTML\)"),
    "empty": (b"", r"is empty \(0 bytes\)"),
    "zeros": (bytes(4096), r"begins with zeros only"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), r"HDF5 file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), r"compressed with gzip"),
    "text": (b"hello world, I am no checkpoint", r"cannot be read as a PyTorch checkpoint"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(100), r"NumPy array"),
}


def test_graphs_of_other_programs_are_told_by_their_suffix(tmp_path: Path) -> None:
    for name, kind in (("a.pb", "a TensorFlow graph"), ("a.onnx", "an ONNX graph")):
        (tmp_path / name).write_bytes(b"\n\x0bsome graph")
        with pytest.raises(SourceError, match=rf"is {kind}, not a state dict.*docs/grafting"):
            read_state_dict(tmp_path / name)


@pytest.mark.parametrize("kind", _FAKES)
def test_files_that_are_no_checkpoints_are_named(tmp_path: Path, kind: str) -> None:
    content, message = _FAKES[kind]
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        read_state_dict(tmp_path / "weights.pth")


def test_missing_folder_and_foreign_archive(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        read_state_dict(tmp_path / "none.pth")
    with pytest.raises(SourceError, match="is a folder"):
        read_state_dict(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(SourceError, match=r"zip archive without a checkpoint in it \(readme.txt"):
        read_state_dict(tmp_path / "a.zip")


def test_contents_that_no_network_can_start_from_are_all_named(tmp_path: Path) -> None:
    state: dict[object, object] = {
        "good": torch.ones(2),
        "nan": torch.tensor([1.0, float("nan"), float("inf")]),
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(2, device="meta"),
        "complex": torch.ones(2, dtype=torch.complex64),
        "number": 3.5,
        7: torch.ones(1),
    }
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(SourceError) as caught:
        read_state_dict(tmp_path / "a.pt")
    text = str(caught.value)
    for line in (
        "(6 faults)",
        "nan has 2 values that are NaN or infinite",
        "sparse is sparse (torch.sparse_coo)",
        "meta is on the meta device",
        "complex is complex",
        "number is a float, expected a tensor",
        "the key 7 is no name (a int)",
    ):
        assert line in text


def test_without_tensors_or_with_two_networks(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(SourceError, match="has no state dict: its keys are 'epoch'"):
        read_state_dict(tmp_path / "a.pt")
    torch.save([torch.ones(1)], tmp_path / "b.pt")
    with pytest.raises(SourceError, match="holds a list, expected a mapping"):
        read_state_dict(tmp_path / "b.pt")
    torch.save({"model": _state(), "net": _state()}, tmp_path / "c.pt")
    with pytest.raises(SourceError, match="several networks, under the keys 'model', 'net'"):
        read_state_dict(tmp_path / "c.pt")
    torch.save({}, tmp_path / "d.pt")
    with pytest.raises(SourceError, match="has no state dict"):
        read_state_dict(tmp_path / "d.pt")


def test_duplicate_names_in_safetensors_are_refused(tmp_path: Path) -> None:
    entry = '"a":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'
    header = ("{" + entry % (0, 4) + "," + entry % (4, 8) + "}").encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    assert json.loads(header)["a"]["data_offsets"] == [4, 8]  # JSON itself keeps the last
    with pytest.raises(SourceError, match="cannot be read as safetensors"):
        read_state_dict(path)


def _containers() -> dict[str, bytes]:
    state = _state()
    modern, legacy = io.BytesIO(), io.BytesIO()
    torch.save(state, modern)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    from safetensors.torch import save

    return {"zip": modern.getvalue(), "legacy": legacy.getvalue(), "safetensors": save(state)}


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage"])
def test_damage_is_refused_or_seen_by_the_digests(
    tmp_path: Path, container: str, damage: str
) -> None:
    whole = _containers()[container]
    digests = tensor_digests(_state())
    chance = random.Random(f"{container} {damage}")
    suffix = ".safetensors" if container == "safetensors" else ".pth"
    refused = seen = harmless = 0
    for turn in range(120):
        content = bytearray(whole)
        if damage == "truncated":
            del content[chance.randrange(len(content)) :]
        elif damage == "flipped":
            for _ in range(chance.choice([1, 1, 2, 8])):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        else:
            start = chance.randrange(len(content))
            content[start : start + 16] = chance.randbytes(16)
        path = tmp_path / f"{turn}{suffix}"
        path.write_bytes(content)
        try:
            state = read_state_dict(path)
        except SourceError:
            refused += 1
            continue
        if digest_faults(state, digests):
            seen += 1
        else:
            harmless += 1
            assert all(torch.equal(state[name], value) for name, value in _state().items())
    assert refused + seen + harmless == 120
    if damage == "truncated":
        assert refused == 120
    else:
        assert refused + seen > 0
