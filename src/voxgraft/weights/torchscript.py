"""The tensors of a TorchScript archive, without its program.

An archive holds the network's objects as a pickle, its tensors as plain bytes, and its code as
text. Here the pickle is opened by an unpickler that knows nothing but containers of attributes and
records of tensors: no class of the archive is looked up, no code of it is read, let alone run.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES: Mapping[str, torch.dtype] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""Kinds of stored numbers, by the names that torch gives them in files."""

_DEEPEST = 64


class _Attributes:
    """An object of the archive, of whatever class: only its attributes are kept."""

    attributes: Mapping[Any, Any] = {}

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


@dataclass(frozen=True)
class _Record:
    """What the pickle says of a tensor."""

    storage: Any
    offset: Any
    shape: Any
    stride: Any


def _record(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> _Record:
    return _Record(storage, offset, shape, stride)


def _same(value: Any, *rest: Any) -> Any:
    return value


class _Reader(pickle.Unpickler):
    """Answers every name by something harmless."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _record
        if module == "torch._utils" and name.startswith("_rebuild_parameter"):
            return _same
        if module == "torch" and name in DTYPES:
            return name
        if module == "collections" and name == "OrderedDict":
            return dict
        if module == "torch.jit._pickle":
            return _same
        if module.startswith("__torch__"):
            return _Attributes
        raise pickle.UnpicklingError(f"the archive asks for {module}.{name}")

    def persistent_load(self, identity: Any) -> Any:
        return identity


def is_torchscript(path: Path) -> bool:
    """Say whether a zip archive is one that TorchScript wrote."""
    with zipfile.ZipFile(path) as archive:
        inner = {name.split("/", 1)[-1] for name in archive.namelist()}
    scripted = "constants.pkl" in inner or any(name.startswith("code/") for name in inner)
    return scripted and "data.pkl" in inner


def torchscript_tensors(path: Path) -> dict[str, Tensor]:
    """Return the parameters and buffers of a TorchScript network, by their state-dict names.

    The program in the archive is neither compiled nor run. Buffers that the network does not keep
    in its state dict (``persistent=False``) cannot be told from others and are there too.

    Raises:
        pickle.UnpicklingError: If the archive is damaged, or holds what no network is made of.
        zipfile.BadZipFile: If it is no zip archive.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickled = next((name for name in names if name.split("/", 1)[-1] == "data.pkl"), None)
        if pickled is None:
            raise pickle.UnpicklingError("the archive has no data.pkl")
        root = pickled.removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder").strip() != b"little":
            raise pickle.UnpicklingError("the archive's numbers are not little-endian")
        network = _Reader(io.BytesIO(archive.read(pickled))).load()
        records: dict[str, _Record] = {}
        _gather(network, "", records, 0)
        storages: dict[str, bytearray] = {}
        return {
            name: _tensor(name, record, archive, root, storages) for name, record in records.items()
        }


def _gather(value: Any, prefix: str, records: dict[str, _Record], depth: int) -> None:
    if depth > _DEEPEST:
        raise pickle.UnpicklingError(f"the archive nests modules deeper than {_DEEPEST}")
    if not isinstance(value, _Attributes):
        return
    for name, inner in value.attributes.items():
        path = f"{prefix}{name}"
        if isinstance(inner, _Record):
            records[path] = inner
        else:
            _gather(inner, f"{path}.", records, depth + 1)


def _tensor(
    name: str,
    record: _Record,
    archive: zipfile.ZipFile,
    root: str,
    storages: dict[str, bytearray],
) -> Tensor:
    place = record.storage
    if not (isinstance(place, tuple) and len(place) >= 3 and place[0] == "storage"):
        raise pickle.UnpicklingError(f"{name} has no storage")
    dtype, key = DTYPES.get(str(place[1])), f"{root}data/{place[2]}"
    if dtype is None or key not in archive.namelist():
        raise pickle.UnpicklingError(f"the numbers of {name} ({place[1]}) are not in the archive")
    if key not in storages:
        storages[key] = bytearray(archive.read(key))
    shape, stride, offset = record.shape, record.stride, record.offset
    numbers = (offset, *shape, *stride) if isinstance(shape, tuple) else (None,)
    if len(shape) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError(f"{name} has an impossible shape {shape!r}")
    if math.prod(shape) == 0:
        return torch.empty(shape, dtype=dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if (last + 1) * dtype.itemsize > len(storages[key]):
        raise pickle.UnpicklingError(f"{name} reaches beyond its numbers")
    if math.prod(shape) * dtype.itemsize > 4 * len(storages[key]) + (64 << 20):
        raise pickle.UnpicklingError(f"{name} claims the shape {shape}, beyond its numbers")
    flat = torch.frombuffer(storages[key], dtype=dtype)
    return flat.as_strided(shape, stride, offset).clone()
