"""What ``torch.save`` wrote, opened without running anything that is in it."""

from __future__ import annotations

import _compat_pickle
import argparse
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

import torch

from voxgraft.errors import SourceError
from voxgraft.weights.file_kinds import is_archive, unsafe_imports
from voxgraft.weights.long_pickle import load_long
from voxgraft.weights.shared_numbers import far_more
from voxgraft.weights.torchscript import is_torchscript, torchscript_tensors

# What torch.load raises on damaged files. Anything else is a defect here and should be seen.
DAMAGE = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
    OSError,
    ImportError,
)

_BOOKKEEPING = re.compile(
    r"(?:pytorch_lightning|lightning|lightning_fabric|mmengine|mmcv|mmaction|omegaconf|yacs"
    r"|pathlib|fvcore|monai\.utils\.enums)\..+"
    r"|numpy\.(?:_?core\.multiarray\.(?:scalar|_reconstruct)|_?core\.numeric\._frombuffer"
    r"|ndarray|dtype|dtypes\.\w+|random\._pickle\.\w+)"
    r"|collections\.(?:deque|defaultdict)|_codecs\.encode|typing\.\w+"
    r"|(?:datetime|decimal|fractions|uuid|easydict|addict|munch|box|ml_collections)\..+"
    r"|types\.SimpleNamespace|__?builtin(?:s|__)\.(?:set|frozenset|dict|list|tuple|slice|complex"
    r"|bytearray|x?range|int|long|float|str|unicode|bool|bytes)"
)
"""Classes that training programs keep beside the weights (settings, histories, paths)."""

_MAPPINGS = re.compile(
    r".*\.(?:AttributeDict|ConfigDict|Config|CfgNode|EasyDict|Dict|Munch|Box)"
    r"|collections\.defaultdict|.*\.dict"
)


class LeftOut:
    """Stands for an object of another program, of which nothing is read or run."""

    def __init__(self, *values: Any) -> None:
        """Take whatever the file says, and forget it."""

    def __new__(cls, *values: Any) -> LeftOut:
        """Make a stand-in of whatever the file says."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Forget the object's content."""


class LeftOutList(list[Any]):
    """Stands for another program's sequence."""

    def __init__(self, *values: Any) -> None:
        """Take whatever the file says, and forget it."""
        super().__init__()

    def __new__(cls, *values: Any) -> LeftOutList:
        """Make a stand-in of whatever the file says."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Forget the object's content."""


class LeftOutMapping(OrderedDict[Any, Any]):
    """Stands for another program's mapping, whose entries may be the weights themselves."""

    def __new__(cls, *values: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        """Make a plain mapping, into nothing else torch puts entries; forget how it was made."""
        return OrderedDict(values[0] if values and isinstance(values[0], dict | list) else ())


def load_pickled(path: Path) -> tuple[Any, list[str]]:
    """Open a file of ``torch.save`` with torch's restricted unpickler.

    Where a training program kept its settings or histories beside the weights (Lightning,
    mmengine, NumPy's numbers, paths), these objects are replaced by empty stand-ins: none of their
    code is imported or run. Anything else that is no tensor in plain containers is refused.

    Returns:
        The content, and a note where something was left out.

    Raises:
        SourceError: If the file is damaged, or would run code.
    """
    modern = is_archive(path)
    if modern:
        check_archive(path)
        if is_torchscript(path):
            return _load_torchscript(path)
        if (long := _load_long(path)) is not None:
            return long

    def load() -> Any:
        # What torch says while it tries a damaged file is of no use to the reader: the file
        # either opens, and its content is checked, or is refused by name.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=modern)

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return load(), []
    except DAMAGE as fault:
        wanted = unsafe_imports(path) if isinstance(fault, pickle.UnpicklingError) else []
        if not wanted or not all(_BOOKKEEPING.fullmatch(name) for name in wanted):
            _raise_unreadable(path, fault, wanted)
    return _without_bookkeeping(path, load, wanted)


def _without_bookkeeping(
    path: Path, load: Callable[[], Any], wanted: list[str]
) -> tuple[Any, list[str]]:
    stand_ins: list[Any] = [argparse.Namespace]
    # torch asks for some of Python 2's names by those of today.
    names = dict.fromkeys([*wanted, *map(_todays_name, wanted)])
    stand_ins += [(_stand_in(name), name) for name in names]
    allowed: AbstractContextManager[Any] = torch.serialization.safe_globals(stand_ins)
    try:
        with allowed:
            content = load()
    except DAMAGE as fault:
        _raise_unreadable(path, fault, wanted)
    return content, _left_out(wanted)


def _todays_name(name: str) -> str:
    """Return what Python 3 calls what an older pickle asks for (``__builtin__.list``)."""
    module, _, last = name.rpartition(".")
    if (module, last) in _compat_pickle.NAME_MAPPING:
        return ".".join(_compat_pickle.NAME_MAPPING[module, last])
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{last}"


def _left_out(names: list[str]) -> list[str]:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return [f"objects of other programs beside the weights were left out ({shown})"] * bool(names)


def _load_long(path: Path) -> tuple[Any, list[str]] | None:
    try:
        loaded = load_long(path, _BOOKKEEPING, _stand_in)
    except (*DAMAGE, NotImplementedError):
        return None  # torch says what is wrong with it
    return None if loaded is None else (loaded[0], _left_out(loaded[1]))


def _stand_in(name: str) -> type[Any]:
    if _MAPPINGS.fullmatch(name):
        return LeftOutMapping
    return LeftOutList if name.endswith((".deque", ".list", ".ListConfig")) else LeftOut


def _load_torchscript(path: Path) -> tuple[Any, list[str]]:
    try:
        return torchscript_tensors(path), ["read from a TorchScript archive; no program ran"]
    except DAMAGE as fault:
        _raise_unreadable(path, fault, [])


def check_archive(path: Path) -> None:
    """See that each part of a zip archive matches its own checksum.

    Raises:
        SourceError: If one does not, if the parts claim to be far larger than the file, or the
            archive is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            claimed, size = sum(part.file_size for part in archive.infolist()), path.stat().st_size
            if far_more(claimed, size):
                raise SourceError(
                    f"{path} has {size / 1e6:.3g} MB, but its parts claim {claimed / 1e6:.3g} MB "
                    "unpacked; weights are hardly compressed. It is damaged, or made to fill the "
                    "memory. Download it again; if it is what you want, unpack it yourself."
                )
            damaged = archive.testzip()
    except (*DAMAGE, zlib.error) as fault:
        _raise_unreadable(path, fault, [])
    if damaged is not None:
        raise SourceError(
            f"{path} is damaged: its part {damaged!r} does not match its own checksum. "
            "Download it again and compare its SHA-256."
        )


def _raise_unreadable(path: Path, fault: BaseException, wanted: list[str]) -> NoReturn:
    code = [name for name in wanted if not _BOOKKEEPING.fullmatch(name)]
    if code:
        raise SourceError(
            f"{path} would run code when opened: its pickle asks for {', '.join(code[:5])}. Only "
            "tensors in plain containers are read. If you trust the file, open it once with the "
            "program that wrote it, save `model.state_dict()` with safetensors, and give that file "
            "(docs/grafting.md, 'Files that are refused')."
        ) from fault
    raise SourceError(
        f"{path} cannot be read as a PyTorch checkpoint: {first_line(fault)} The file is "
        "truncated, damaged or of another kind. Download it again and compare its SHA-256."
    ) from fault


def first_line(fault: BaseException) -> str:
    """Return the first line of what a library says, in one short sentence."""
    text = str(fault).rpartition("WeightsUnpickler error:")[2].strip()
    line = (text.splitlines() or [""])[0][:200].rstrip(".")
    return f"{type(fault).__name__}: {line}." if line else f"{type(fault).__name__}."
