"""Arrays that JAX programs saved as ``.npz``, as tensors with PyTorch's order of axes.

Flax keeps kernels as (height, width, in, out), matrices as (in, out), and those of an attention
with an axis of heads; PyTorch's are (out, in, height, width) and (out, in).
"""

from __future__ import annotations

import re
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxgraft.errors import SourceError
from voxgraft.weights.pickled import DAMAGE, check_archive, first_line

_STATE = re.compile(r"^(?:opt\.target\.|params\.)")
_SCANNED = re.compile(r"(.*\.)?encoderblock\.(.+)")
_HEADS = re.compile(r".*MultiHeadDotProductAttention_\d+\.(?:query|key|value)\.(kernel|bias)")
_OUT = re.compile(r".*MultiHeadDotProductAttention_\d+\.out\.kernel")


def holds_arrays(path: Path) -> bool:
    """Say whether a file is an archive of NumPy arrays."""
    try:
        if not path.is_file():
            return False  # To open a pipe would wait for whoever writes to it.
        with path.open("rb") as handle:
            if handle.read(4) != b"PK\x03\x04":
                return False
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def load_arrays(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read an ``.npz`` file; arrays of JAX get PyTorch's order of axes.

    Names keep their words, with dots for slashes; ``kernel`` and ``scale`` become ``weight``.
    Blocks that were stacked for a scan are taken apart.

    Returns:
        The tensors, and a note on what was changed.

    Raises:
        SourceError: If the file is damaged, or holds anything but numbers.
    """
    check_archive(path)
    faults = (*DAMAGE, zlib.error, SyntaxError, tokenize.TokenError, NotImplementedError)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name.replace("/", "."): _tensor(archive[name]) for name in archive.files}
    except faults as fault:
        raise SourceError(
            f"{path} cannot be read as NumPy arrays: {first_line(fault)} It is damaged, or holds "
            "Python objects, which are never opened. Download it again, or save plain arrays."
        ) from fault
    if not any(re.fullmatch(r"(?:.*\.)?kernel", name) for name in arrays):
        return arrays, []
    stripped = {_STATE.sub("", name): tensor for name, tensor in arrays.items()}
    if len(stripped) == len(arrays):
        arrays = stripped
    arrays = _unscanned(arrays)
    state = {_renamed(name): _transposed(name, tensor) for name, tensor in arrays.items()}
    return state, ["arrays of JAX got PyTorch's order of axes"]


def _tensor(array: Any) -> Tensor:
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        # NumPy does not know bfloat16: two bytes of no kind.
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"an array of {array.dtype}, expected numbers")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def _unscanned(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    apart: dict[str, Tensor] = {}
    for name, tensor in arrays.items():
        scanned = _SCANNED.fullmatch(name)
        if scanned is None or tensor.ndim == 0:
            apart[name] = tensor
            continue
        before, rest = scanned.group(1) or "", scanned.group(2)
        for number, block in enumerate(tensor):
            apart[f"{before}encoderblock_{number}.{rest}"] = block
    return apart


def _renamed(name: str) -> str:
    return re.sub(r"(^|\.)(?:kernel|scale)$", r"\1weight", name)


def _transposed(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor with its output channels first, as PyTorch has them."""
    if tensor.ndim == 3 and _OUT.fullmatch(name):
        return tensor.flatten(0, 1).T.contiguous()
    heads = _HEADS.fullmatch(name)
    if heads is not None and tensor.ndim > 1:
        return tensor.flatten(1).T.contiguous() if heads.group(1) == "kernel" else tensor.flatten()
    if not re.fullmatch(r"(?:.*\.)?kernel", name):
        return tensor.flatten() if tensor.ndim == 4 and tensor.shape[:3] == (1, 1, 1) else tensor
    if tensor.ndim < 2:
        return tensor
    space = range(tensor.ndim - 2)
    return tensor.permute(tensor.ndim - 1, tensor.ndim - 2, *space).contiguous()
