"""Short digests of tensors: what makes a changed weight visible and gives it a name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor

from voxgraft.weights.shared_numbers import once_each

DIGEST_DIGITS = 16
"""Hex digits kept of each tensor's SHA-256: 64 bits, ample to tell damage from the true tensor."""


def tensor_digest(tensor: Tensor) -> str:
    """Return a digest of a tensor's type, shape and values, as 16 hex digits.

    The digest does not depend on strides or on the device: two tensors that compare equal, of the
    same type and shape and without signed zeros or NaN, have the same one.
    """
    values = tensor.detach().cpu().contiguous()
    kind = f"{str(values.dtype).removeprefix('torch.')}{list(values.shape)}"
    digest = hashlib.sha256(kind.encode())
    if values.numel():
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:DIGEST_DIGITS]


def tensor_digests(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the digest of each tensor of a state dict, by name."""
    digest = once_each(tensor_digest)
    return {name: digest(tensor) for name, tensor in state.items()}


def digest_faults(state: Mapping[str, Tensor], expected: Mapping[str, str]) -> list[str]:
    """Compare a state dict with the digests that its tensors should have.

    Args:
        state: Tensors as they were read.
        expected: Digest of each tensor that should be there, by name.

    Returns:
        One sentence a fault, naming the tensor: renamed, missing, transposed, changed or extra.
        Empty if every tensor is there, and nothing else is.
    """
    found = tensor_digests(state)
    extra = {name: digest for name, digest in found.items() if name not in expected}
    faults = []
    for name, digest in expected.items():
        if name in found:
            if found[name] != digest:
                faults.append(_changed(name, state[name], digest))
            continue
        alias = next((other for other, value in extra.items() if value == digest), None)
        if alias is None:
            faults.append(f"{name} is missing")
        else:
            del extra[alias]
            faults.append(f"{name} is renamed: its values are under {alias!r}")
    faults += [
        f"{name} {list(state[name].shape)} is extra: no such tensor belongs" for name in extra
    ]
    return faults


def _changed(name: str, tensor: Tensor, digest: str) -> str:
    shape = list(tensor.shape)
    for order in _exchanges(tensor.ndim):
        if tensor_digest(tensor.permute(order)) == digest:
            axes = " and ".join(str(axis) for axis, other in enumerate(order) if axis != other)
            return f"{name} {shape} is transposed: axes {axes} are exchanged"
    return f"{name} {shape} has other values than the published ones"


def _exchanges(axes: int) -> Sequence[tuple[int, ...]]:
    """Return the orders of ``axes`` axes, simplest first, that are not the given one."""
    if not 2 <= axes <= 5:
        return []
    orders = [order for order in permutations(range(axes)) if order != tuple(range(axes))]
    return sorted(orders, key=lambda order: sum(a != b for a, b in enumerate(order)))
