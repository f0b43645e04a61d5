"""What training programs keep beside the weights: left out, never run, never in the way."""

from __future__ import annotations

import argparse
import datetime
import decimal
import os
import struct
import types
import uuid
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from voxgraft.errors import SourceError
from voxgraft.weights.read import read_checkpoint

BESIDE: Mapping[str, object] = {
    "histories": defaultdict(list, {"dice": [np.float32(0.1)] * 3}),
    "an empty history": defaultdict(list),
    "nested histories": defaultdict(dict, {1: defaultdict(int, {"a": 1})}),
    "the last values": deque([np.float64(1.0)], maxlen=3),
    "counts": Counter("aab"),
    "settings": argparse.Namespace(when=datetime.datetime(2026, 1, 2), sizes=range(3)),
    "times": [datetime.timedelta(1), datetime.date(2026, 1, 2), datetime.UTC],
    "names": frozenset({"a"}),
    "numbers": [decimal.Decimal("1.2"), 1j, slice(1, 2), bytearray(b"a"), uuid.UUID(int=3)],
    "a namespace": types.SimpleNamespace(a=1, inner=types.SimpleNamespace(b=OrderedDict(c=2))),
    "arrays": {"a": np.arange(3), "words": np.array(["a", "b"]), "kind": np.dtype("float32")},
    "random states": [np.random.RandomState(3).get_state(), torch.get_rng_state()],
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("what", BESIDE)
def test_what_lies_beside_the_weights_is_left_out(tmp_path: Path, what: str, legacy: bool) -> None:
    state = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
    content = {"epoch": 3, "kept": BESIDE[what], "state_dict": state}
    path = tmp_path / "run.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(path).state
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_weights_in_a_mapping_with_defaults_are_weights(tmp_path: Path) -> None:
    weights = defaultdict(list, {"a": torch.ones(2)})
    torch.save({"net": weights}, tmp_path / "a.pt")
    assert torch.equal(read_checkpoint(tmp_path / "a.pt").state["a"], torch.ones(2))


@pytest.mark.parametrize("legacy", [False, True])
def test_few_numbers_are_no_huge_tensor(tmp_path: Path, legacy: bool) -> None:
    state = {"a": torch.zeros(1).expand(1 << 20, 1 << 20), "b": torch.ones(1).expand(3)}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(SourceError, match=r"claim .* the largest a \(1048576, 1048576\)"):
        read_checkpoint(tmp_path / "a.pt")


def test_names_of_the_same_numbers_go_on_sharing_them(tmp_path: Path) -> None:
    numbers = torch.rand(8, 8).half()
    state = {**{f"a.{n}": numbers for n in range(50)}, "turned": numbers.t(), "b": numbers + 1}
    torch.save(state, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt").state
    assert len({found[f"a.{n}"].data_ptr() for n in range(50)}) == 1
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in state.items())


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.float16, torch.float64])
def test_a_counter_counts(tmp_path: Path, kind: torch.dtype) -> None:
    torch.save({"bn.num_batches_tracked": torch.ones((), dtype=kind)}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt").state["bn.num_batches_tracked"]
    assert found.dtype == torch.int64
    assert int(found) == 1


def test_an_archive_that_claims_far_more_than_it_has_is_not_unpacked(tmp_path: Path) -> None:
    for name in ("a.pt", "a.npz"):
        inner = "archive/data/0" if name == "a.pt" else "a.npy"
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(inner, bytes(100 << 20))
            if name == "a.pt":
                archive.writestr("archive/data.pkl", b"\x80\x02}.")
        with pytest.raises(SourceError, match=r"its parts claim 105 MB unpacked"):
            read_checkpoint(tmp_path / name)


def test_views_of_the_same_numbers_do_not_fill_the_memory(tmp_path: Path) -> None:
    numbers = torch.rand(1 << 16).half()
    torch.save({f"a.{n}": numbers[n:] for n in range(400)}, tmp_path / "a.pt")
    with pytest.raises(SourceError, match=r"tensors claim 0\.1\d* GB"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(SourceError, match="does not exist"):
        read_checkpoint(tmp_path / "a.pt")


def test_packed_numbers_are_named(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(SourceError, match=r"float4\w*, expected plain|cannot be read"):
        read_checkpoint(path)
