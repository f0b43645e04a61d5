"""A changed tensor is named, and how it was changed."""

from __future__ import annotations

import hashlib

import torch

from voxgraft.weights.digests import digest_faults, tensor_digest, tensor_digests


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": torch.randn(4, 4, 1, 1, generator=generator),
        "b": torch.randn(2, 3, generator=generator),
        "c": torch.randn(5, generator=generator),
    }


def test_digest_by_hand_and_free_of_strides() -> None:
    tensor = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    expected = hashlib.sha256(b"float32[2, 2]" + tensor.numpy().tobytes()).hexdigest()[:16]
    assert tensor_digest(tensor) == expected
    assert tensor_digest(tensor.T.contiguous().T) == expected
    assert tensor_digest(tensor.T) != expected
    assert tensor_digest(torch.ones(0)) != tensor_digest(torch.ones(0, 1))
    assert len(tensor_digest(torch.tensor(3))) == 16


def test_each_kind_of_change_is_named() -> None:
    expected = tensor_digests(_state())
    assert digest_faults(_state(), expected) == []
    state = _state()
    state["a"] = state["a"].transpose(0, 1).contiguous()
    assert digest_faults(state, expected) == [
        "a [4, 4, 1, 1] is transposed: axes 0 and 1 are exchanged"
    ]
    state = _state()
    state["b"] = state["b"].T
    assert digest_faults(state, expected) == ["b [3, 2] is transposed: axes 0 and 1 are exchanged"]
    state = _state()
    state["d"] = state.pop("c")
    assert digest_faults(state, expected) == ["c is renamed: its values are under 'd'"]
    state = _state()
    del state["c"]
    assert digest_faults(state, expected) == ["c is missing"]
    state = {**_state(), "z": torch.ones(2)}
    assert digest_faults(state, expected) == ["z [2] is extra: no such tensor belongs"]
    state = _state()
    state["c"][0] = torch.nextafter(state["c"][0], torch.tensor(9.0))
    assert digest_faults(state, expected) == ["c [5] has other values than the published ones"]
