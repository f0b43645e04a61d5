"""Thousands of broken files: each ends in a SourceError, or holds exactly what it should."""

from __future__ import annotations

import io
import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from voxgraft.errors import SourceError
from voxgraft.weights.digests import digest_faults, tensor_digests
from voxgraft.weights.read import read_checkpoint, read_state_dict


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "a.weight": torch.randn(3, 2, generator=generator),
        "a.bias": torch.randn(3, generator=generator),
    }


def _contents() -> dict[str, bytes]:
    state = _state()
    modern, legacy, arrays, packed = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": state, "best": np.float64(0.5)}, modern)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    plain = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez(arrays, **plain)
    np.savez_compressed(packed, **plain)
    return {
        "modern.pth": modern.getvalue(),
        "legacy.pth": legacy.getvalue(),
        "plain.npz": arrays.getvalue(),
        "packed.npz": packed.getvalue(),
        "one.safetensors": save(state),
    }


CONTENTS = _contents()


def _outcome(path: Path, content: bytes) -> bool:
    """Say whether a file is refused, or seen to be changed by its digests."""
    path.write_bytes(content)
    try:
        state = read_state_dict(path)
    except SourceError:
        return True
    return bool(digest_faults(state, tensor_digests(_state())))


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_of_any_length_but_its_own_is_refused(tmp_path: Path, name: str) -> None:
    whole = CONTENTS[name]
    assert not _outcome(tmp_path / name, whole)
    # A hundred and fifty lengths over all, and each of the last forty: numbers without an end.
    lengths = {
        *range(0, len(whole), max(1, len(whole) // 150)),
        *range(len(whole) - 40, len(whole)),
    }
    for length in sorted(lengths):
        assert _outcome(tmp_path / name, whole[:length]), length


@pytest.mark.parametrize("name", CONTENTS)
def test_flipped_bytes_end_in_words(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    for _ in range(250):
        content = bytearray(CONTENTS[name])
        for _ in range(chance.choice([1, 1, 3, 20])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        _outcome(tmp_path / name, bytes(content))


_LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.binary(max_size=5), st.just(np.ones(2)), st.just(np.float32(1)), st.just({1, 2}),
    st.just(torch.ones(2)), st.just(torch.float16), st.just(torch.Size([1])),
)  # fmt: skip
_KEY = st.one_of(st.sampled_from(["state_dict", "model", "ema", "teacher", "a.weight"]),
                 st.integers(), st.text(max_size=3), st.none())  # fmt: skip
_CONTENT = st.recursive(
    _LEAF,
    lambda inner: st.one_of(
        st.dictionaries(_KEY, inner, max_size=4), st.lists(inner, max_size=3),
        st.tuples(inner, inner),
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(content=_CONTENT, modern=st.booleans(), key=st.sampled_from([None, "model", "a.b", ""]))
def test_whatever_a_checkpoint_holds_ends_in_tensors_or_words(
    tmp_path_factory: pytest.TempPathFactory, content: object, modern: bool, key: str | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "content.pth"
    torch.save(content, path, _use_new_zipfile_serialization=modern)
    try:
        state = read_checkpoint(path, key=key).state
    except SourceError:
        return
    assert state
    assert all(isinstance(name, str) and isinstance(t, torch.Tensor) for name, t in state.items())


@settings(max_examples=200, deadline=None)
@given(module=st.sampled_from(["os", "builtins", "torch", "numpy", "mmengine.x", "a.b", "posix"]),
       name=st.sampled_from(["system", "eval", "Tensor", "HistoryBuffer", "getattr", "x.y", ""]),
       tail=st.binary(max_size=12), protocol=st.integers(0, 5))  # fmt: skip
def test_names_that_a_pickle_asks_for_are_never_called(
    tmp_path_factory: pytest.TempPathFactory, module: str, name: str, tail: bytes, protocol: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "asks.pt"
    asks = (
        b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X\x04\x00\x00\x00true\x85R" + tail + b"."
    )
    path.write_bytes(asks if protocol % 2 else pickle.dumps({"a": 1}, protocol=protocol) + asks)
    with pytest.raises(SourceError):
        read_checkpoint(path)


def test_weights_in_parts(tmp_path: Path) -> None:
    state = _state()
    index = tmp_path / "model.safetensors.index.json"
    parts = {"a.weight": "one.safetensors", "a.bias": "two.safetensors"}
    for name, file in parts.items():
        save_file({name: state[name]}, tmp_path / file)
    index.write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    checkpoint = read_checkpoint(index)
    assert checkpoint.notes == ("read from several files",)
    assert not digest_faults(checkpoint.state, tensor_digests(state))
    for places, message in (
        ({"a.weight": "../one.safetensors"}, "is no name of a file beside the index"),
        ({"a.weight": 3}, "is no name of a file beside the index"),
        ({"a.weight": "three.safetensors"}, r"three\.safetensors is missing"),
        ({"a.bias": "one.safetensors"}, r"a\.bias is not in one\.safetensors"),
        ({}, "is no index of weights"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(SourceError, match=message):
            read_checkpoint(index)
    for text in ("", "[", "[1]", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(SourceError, match=r"is no JSON|is no index"):
            read_checkpoint(index)
    with pytest.raises(SourceError, match="does not exist"):
        read_checkpoint(tmp_path / "none.index.json")


def test_the_wrapping_of_one_sub_module_is_stripped(tmp_path: Path) -> None:
    state = {"encoder.module.a": torch.ones(1), "encoder.module.b": torch.ones(1),
             "head.module.c": torch.ones(1), "head.d": torch.ones(1)}  # fmt: skip
    torch.save(state, tmp_path / "a.pt")
    checkpoint = read_checkpoint(tmp_path / "a.pt")
    assert list(checkpoint.state) == ["encoder.a", "encoder.b", "head.module.c", "head.d"]
    assert checkpoint.notes == ("'module.' of all names under 'encoder' was stripped",)
