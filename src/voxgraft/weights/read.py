"""Tensors out of a checkpoint file, by name; nothing in the file is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from voxgraft.errors import SourceError, raise_faults
from voxgraft.weights.file_kinds import refuse_other_kinds
from voxgraft.weights.jax_arrays import holds_arrays, load_arrays
from voxgraft.weights.nested import find_network, strip_wrapping
from voxgraft.weights.pickled import LeftOut, LeftOutList, first_line, load_pickled
from voxgraft.weights.prefixes import COUNTER
from voxgraft.weights.sharded import INDEX_SUFFIX, load_shards
from voxgraft.weights.shared_numbers import claims_too_much, once_each
from voxgraft.weights.tensorflow_graph import is_graph, load_graph

_FLOATING = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2fnuz,
    }
)
"""Kinds of numbers that become single precision; others are packed, or powers of two alone."""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file and what was done to find them."""

    state: dict[str, Tensor]
    notes: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What nnU-Net keeps of its training beside the weights (``init_args``), unchecked."""


def read_state_dict(path: str | Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by name. See :func:`read_checkpoint`."""
    return read_checkpoint(path, key=key).state


def read_checkpoint(path: str | Path, *, key: str | None = None) -> Checkpoint:
    """Read a checkpoint without running anything that is in it.

    Reads ``.safetensors``, whatever ``torch.save`` wrote (``.pth .pt .pyth .tar .bin .ckpt``,
    told by content, not by suffix) with torch's restricted unpickler, ``.npz`` archives of plain
    arrays (JAX), frozen TensorFlow graphs (``.pb``), and files in parts by their ``….index.json``.

    Where the top level is no mapping of names to tensors, the network is looked for
    (:func:`voxgraft.weights.nested.find_network`). A prefix that all names share, or all names of
    one sub-module (``module.``, ``_orig_mod.``), is stripped. Half precision becomes float32. Each
    of these steps is a note.

    Args:
        path: The file.
        key: Key of the network in the file, with dots between levels, where there are several.

    Returns:
        Tensors on the CPU, in the file's order; and the notes.

    Raises:
        SourceError: If the file is missing, empty, damaged, of another kind (HTML, HDF5,
            Git LFS pointer, ...), would run code, or holds anything but finite dense tensors.
    """
    path = Path(path)
    if path.name.endswith(INDEX_SUFFIX):
        content, notes = load_shards(path, lambda part: _load(part)[0]), ["read from several files"]
    else:
        content, notes = _load(path)
    state, found = find_network(content, path, key)
    settings = content.get("init_args") if state is not content else None
    state, stripped = strip_wrapping(state)
    _check(state, path)
    state, upcast = _single_precision(state)
    every = (*notes, *found, *stripped, *upcast)
    return Checkpoint(state, every, settings if isinstance(settings, dict) else {})


def _load(path: Path) -> tuple[Any, list[str]]:
    if not holds_arrays(path):
        refuse_other_kinds(path)
    with path.open("rb") as handle:
        start = handle.read(10)
    if path.suffix == ".safetensors" or _looks_like_safetensors(start):
        return _load_safetensors(path), []
    if is_graph(path):
        return load_graph(path)
    return load_arrays(path) if holds_arrays(path) else load_pickled(path)


def _looks_like_safetensors(start: bytes) -> bool:
    return len(start) == 10 and start[8:9] == b"{" and start[9:10] in (b'"', b"}", b" ")


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as fault:
        raise SourceError(
            f"{path} cannot be read as safetensors: {first_line(fault)} The file is truncated, "
            "damaged or of another kind. Download it again and compare its SHA-256."
        ) from fault
    return state


def _check(state: dict[Any, Any], path: Path) -> None:
    if claim := claims_too_much(state):
        raise SourceError(f"{path} is damaged: {claim}. Download it again, or save it anew.")
    faults = []
    finite = once_each(_finite)
    for name, value in state.items():
        if not isinstance(name, str) or not name:
            faults.append(f"the key {name!r} is no name (a {type(name).__name__})")
        elif not isinstance(value, Tensor):
            faults.append(f"{name} is {_what(value)}, expected a tensor")
        elif value.is_quantized:
            faults.append(f"{name} is quantized ({value.dtype}), expected plain numbers")
        elif value.layout != torch.strided:
            faults.append(f"{name} is sparse ({value.layout}), expected a dense tensor")
        elif value.is_meta:
            faults.append(f"{name} is on the meta device: it has a shape but no values")
        elif value.is_floating_point() and value.dtype not in _FLOATING:
            faults.append(f"{name} is {value.dtype}, expected plain floating point")
        elif value.is_complex():
            faults.append(f"{name} is complex ({value.dtype}), expected real numbers")
        elif value.is_floating_point() and not finite(value):
            count = int((~torch.isfinite(value.float())).sum())
            faults.append(f"{name} has {count} values that are NaN or infinite")
    if faults:
        raise_faults(
            SourceError,
            f"{path} holds what no network can start from",
            faults,
            "Save the network's state dict alone, with finite dense tensors (docs/grafting.md).",
        )
    if not state:
        raise SourceError(f"{path} holds no tensors at all. Save the network's state dict.")


def _what(value: Any) -> str:
    if isinstance(value, LeftOut | LeftOutList):
        return "an object of another program"
    return f"a {type(value).__name__}"


def _finite(value: Tensor) -> bool:
    if value.element_size() < 2:
        value = value.float()
    return bool(torch.isfinite(value).all())


def _single_precision(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    counts: dict[str, int] = {}
    # Names of the same numbers go on sharing them: nnU-Net's files have three for each.
    single = once_each(Tensor.float)
    given = list(state.items())  # No key of what is known may be freed and come again.
    for name, value in given:
        if name.endswith(COUNTER) and value.dtype != torch.int64:
            state[name] = value.long()
        elif value.is_floating_point() and value.dtype != torch.float32:
            kind = str(value.dtype).removeprefix("torch.")
            counts[kind] = counts.get(kind, 0) + 1
            state[name] = single(value)
    return state, [f"{count} tensors of {kind} became float32" for kind, count in counts.items()]
