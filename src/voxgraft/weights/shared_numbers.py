"""Numbers that stand under several names in a file: worked on once, and counted once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

_Given = TypeVar("_Given")
_MOST_TIMES = 4
_ROOM = 64 << 20


def once_each(function: Callable[[Tensor], _Given]) -> Callable[[Tensor], _Given]:
    """Return a function that works once for numbers that stand under several names.

    All tensors that it is given must live as long as it does.
    """
    known: dict[object, _Given] = {}

    def once(value: Tensor) -> _Given:
        key = _place(value)
        if key not in known:
            known[key] = function(value)
        return known[key]

    return once


def far_more(claimed: int, stored: int) -> bool:
    """Return whether bytes that a file claims are far more than the bytes that it has."""
    return claimed > _MOST_TIMES * stored + _ROOM


def claims_too_much(state: Mapping[Any, Any]) -> str:
    """Say why tensors would fill far more memory than their file has numbers; empty if not.

    Views of the same numbers, each of which would get memory of its own, may be a few times as
    many as the numbers themselves: half precision becomes single, and a tensor may be repeated.
    """
    claimed: dict[object, tuple[int, str]] = {}
    stored: dict[int, int] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
            continue
        storage = value.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        claimed[_place(value)] = (4 * value.numel(), f"{name} {tuple(value.shape)}")
    bytes_claimed, bytes_stored = sum(size for size, _ in claimed.values()), sum(stored.values())
    if not far_more(bytes_claimed, bytes_stored):
        return ""
    return (
        f"its tensors claim {bytes_claimed / 1e9:.3g} GB, the largest {max(claimed.values())[1]}, "
        f"but only {bytes_stored / 1e9:.3g} GB of numbers are stored"
    )


def _place(value: Tensor) -> object:
    if value.layout != torch.strided or value.is_meta:
        return id(value)
    return value.data_ptr(), value.dtype, value.shape, value.stride()
