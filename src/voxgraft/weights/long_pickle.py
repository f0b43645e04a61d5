"""Checkpoints with long histories, opened fast and as safely as torch's restricted unpickler does.

Training programs keep a number for each epoch and class beside the weights: half a million objects
in TotalSegmentator's files. torch's restricted unpickler follows their instructions one by one in
Python. Here the instructions are looked through first, by one expression for all of fixed length;
then Python's own unpickler follows them, with every name that the file asks for answered by
something that was made for this file alone and does nothing. Whatever is unusual is left to torch.
"""

from __future__ import annotations

import gc
import math
import mmap
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxgraft.errors import SourceError
from voxgraft.weights.torchscript import DTYPES

LONG = 1 << 20
"""Bytes of instructions from which a file is long. Those of plain weights are a tenth of it."""

_START = b"\x80\x02"
_FIXED = re.compile(
    rb"(?:[().012NR]|[\]}lbdeastu]|[\x81\x85-\x89Q]|[Kqh].|M..|[Jj].{4}|r..[\x00-\x7f]\x00|G.{8})*+",
    re.DOTALL,
)
"""Instructions of fixed length. None looks up a name, and no number of a memo is a huge one."""

_LENGTHS: Mapping[bytes, struct.Struct] = {
    b"X": struct.Struct("<I"),
    b"T": struct.Struct("<i"),
    b"U": struct.Struct("<B"),
    b"\x8a": struct.Struct("<B"),
}
"""Instructions that a length and as many bytes follow."""

_CONTAINERS = frozenset({"collections.OrderedDict", "argparse.Namespace"})
_TENSORS = frozenset({"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"})
_VALUES = frozenset({"torch.Size", "torch.device"})


def load_long(
    path: Path, bookkeeping: re.Pattern[str], stand_in: Callable[[str], type[Any]]
) -> tuple[Any, list[str]] | None:
    """Open a zip archive of ``torch.save`` whose instructions are long.

    Args:
        path: A whole archive.
        bookkeeping: Names of objects that are left out.
        stand_in: What to put in the place of one, by its name.

    Returns:
        The content, with tensors that lie in the file's own pages, and the names of what was left
        out; None where the file is not long, or has anything unusual.

    Raises:
        SourceError: If a tensor is larger than its numbers.
    """
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: part for part in archive.infolist()}
        pickled = next((n for n in parts if n.split("/", 1)[-1] == "data.pkl"), None)
        if pickled is None or parts[pickled].file_size < LONG:
            return None
        root = pickled.removesuffix("data.pkl")
        order = parts.get(f"{root}byteorder")
        if order is not None and archive.read(order).strip() != b"little":
            return None
        content = archive.read(pickled)
    asked = imports(content)
    if asked is None:
        return None
    left_out = [name for name in asked if not _plain(name)]
    if not all(bookkeeping.fullmatch(name) for name in left_out):
        return None
    numbers = _Numbers(path, {n.removeprefix(f"{root}data/"): p for n, p in parts.items()})
    collecting = gc.isenabled()
    gc.disable()  # It would look through a growing list of numbers again and again.
    try:
        return _Unpickler(content, numbers, stand_in).load(), left_out
    finally:
        if collecting:
            gc.enable()


def imports(content: bytes) -> list[str] | None:
    """Return the names that a pickle would look up, each once; None if it has unusual instructions.

    The instructions are looked through from the first to the last byte, and none is followed.
    """
    if not content.startswith(_START):
        return None
    found: dict[str, None] = {}
    for place in _steps(content, len(_START)):
        if content[place : place + 1] != b"c":
            return list(found) if place == len(content) else None
        ends = content.find(b"\n", place), content.find(b"\n", content.find(b"\n", place) + 1)
        if -1 in ends:
            return None
        module, name = content[place + 1 : ends[0]], content[ends[0] + 1 : ends[1]]
        found[f"{module.decode('latin1')}.{name.decode('latin1')}"] = None
    return None


def _steps(content: bytes, place: int) -> Iterator[int]:
    """Give the places of instructions that look up a name; then where what is known ends."""
    fixed, lengths = _FIXED.match, _LENGTHS
    while True:
        run = fixed(content, place)
        place = place if run is None else run.end()
        instruction = content[place : place + 1]
        length = lengths.get(instruction)
        if length is not None and place + 1 + length.size <= len(content):
            (count,) = length.unpack_from(content, place + 1)
            place += 1 + length.size + max(count, 0)
            continue
        yield place
        if instruction != b"c":
            return
        place = content.find(b"\n", content.find(b"\n", place) + 1) + 1


def _plain(name: str) -> bool:
    storage = name.removeprefix("torch.") in DTYPES and name.startswith("torch.")
    return storage or name in _CONTAINERS or name in _TENSORS or name in _VALUES


class _Numbers:
    """The numbers of an archive's tensors, where they lie in the file."""

    def __init__(self, path: Path, parts: Mapping[str, zipfile.ZipInfo]) -> None:
        self._path, self._parts = path, parts
        with path.open("rb") as handle:
            # Pages are read when they are needed, and what is written to them stays in memory.
            self._pages = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(
        self, key: str, kind: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> Tensor:
        """Return the tensor that an instruction describes, in the file's own pages."""
        dtype, part = DTYPES[kind], self._parts[key]
        if part.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError(f"the numbers {key!r} are compressed")
        if len(shape) != len(stride) or not all(
            type(n) is int and n >= 0 for n in (offset, *shape, *stride)
        ):
            raise pickle.UnpicklingError(f"an impossible shape {shape!r}")
        if math.prod(shape) == 0:
            return torch.empty(shape, dtype=dtype)
        count = part.file_size // dtype.itemsize
        if offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) >= count:
            # torch's reader would go on into whatever follows in the file.
            raise SourceError(
                f"{self._path} is damaged: a tensor of shape {shape} reaches beyond its {count} "
                f"numbers (part {key!r}). Download it again and compare its SHA-256."
            )
        name, extra = struct.unpack_from("<HH", self._pages, part.header_offset + 26)
        start = part.header_offset + 30 + name + extra
        flat = torch.frombuffer(self._pages, dtype=dtype, count=count, offset=start)
        return flat.as_strided(shape, stride, offset)


class _Unpickler(pickle.Unpickler):
    """Answers every name by something made for this file that does nothing.

    Instructions may call what they were given and set its attributes: since no answer is used by
    any other file, and none leads to anything outside, nothing of that has a consequence.
    """

    def __init__(
        self, content: bytes, numbers: _Numbers, stand_in: Callable[[str], type[Any]]
    ) -> None:
        # A reader that can look ahead: otherwise each instruction is a call of it.
        super().__init__(BufferedReader(BytesIO(content)))
        self._answers: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": _rebuild(numbers),
            "torch._utils._rebuild_parameter": lambda data, *rest: data,
            "torch.Size": lambda sizes=(): tuple(sizes),
        }
        self._stand_in = stand_in

    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in self._answers:
            storage = module == "torch" and name in DTYPES
            self._answers[asked] = name if storage else self._made(asked)
        return self._answers[asked]

    def _made(self, asked: str) -> Any:
        kind = self._stand_in(asked)
        if issubclass(kind, list | dict):
            return type(kind.__name__, (kind,), {})
        # One object stands for all: there may be a million of them.
        only = kind()
        return type(kind.__name__, (kind,), {"__new__": lambda cls, *values: only})

    def persistent_load(self, identity: Any) -> Any:
        return identity


def _rebuild(numbers: _Numbers) -> Callable[..., Tensor]:
    def rebuild(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Tensor:
        if not (isinstance(storage, tuple) and len(storage) >= 3 and storage[0] == "storage"):
            raise pickle.UnpicklingError("a tensor has no storage")
        return numbers.tensor(storage[2], storage[1], offset, shape, stride)

    return rebuild
