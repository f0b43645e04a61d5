"""Tensors out of a checkpoint file, by name; nothing in the file is ever run."""

from __future__ import annotations

import argparse
import pickle
import struct
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from voxgraft.errors import SourceError, raise_faults
from voxgraft.weights.file_kinds import is_archive, refuse_other_kinds, unsafe_imports

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network_weights",
    "network",
    "net",
    "module",
    "weights",
    "params",
)
"""Keys under which training code keeps the network, tried by :func:`read_checkpoint`."""

AVERAGED = ("state_dict_ema", "model_ema", "ema", "ema_state_dict")
"""Keys of an averaged copy of the network; used only if asked for, or if there is nothing else."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name; stripped where all names have it."""

_DEEPEST = 4

# What torch.load raises on damaged files. Anything else is a defect here and should be seen.
_DAMAGE = (
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


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file and what was done to find them."""

    state: dict[str, Tensor]
    notes: tuple[str, ...]


def read_state_dict(path: str | Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by name. See :func:`read_checkpoint`."""
    return read_checkpoint(path, key=key).state


def read_checkpoint(path: str | Path, *, key: str | None = None) -> Checkpoint:
    """Read a checkpoint without running anything that is in it.

    Reads ``.safetensors``, and whatever ``torch.save`` wrote (``.pth .pt .pyth .tar .bin .ckpt``,
    told by content, not by suffix) with torch's restricted unpickler.

    Where the top level is no mapping of names to tensors, the network is looked for under the
    keys :data:`WRAPPERS`, down to four levels. Exactly one of them must hold tensors; an averaged
    copy (:data:`AVERAGED`) is taken only if named by ``key`` or if there is nothing else. A prefix
    that all names share (:data:`PREFIXES`) is stripped. Half precision becomes float32. Each of
    these steps is a note.

    Args:
        path: The file.
        key: Key of the network in the file, with dots between levels, where there are several.

    Returns:
        Tensors on the CPU, in the file's order; and the notes.

    Raises:
        SourceError: If the file is missing, empty, damaged, of another kind (TorchScript, HTML,
            Git LFS pointer, ...), would run code, or holds anything but finite dense tensors.
    """
    path = Path(path)
    refuse_other_kinds(path)
    with path.open("rb") as handle:
        start = handle.read(10)
    if path.suffix == ".safetensors" or _looks_like_safetensors(start):
        content: Any = _load_safetensors(path)
    else:
        content = _load_pickled(path)
    state, notes = _unwrap(content, path, key)
    state, stripped = _strip_prefixes(state)
    _check(state, path)
    state, upcast = _single_precision(state)
    return Checkpoint(state, (*notes, *stripped, *upcast))


def _looks_like_safetensors(start: bytes) -> bool:
    return len(start) == 10 and start[8:9] == b"{" and start[9:10] in (b'"', b"}", b" ")


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as fault:
        raise SourceError(
            f"{path} cannot be read as safetensors: {_first_line(fault)} The file is truncated, "
            "damaged or of another kind. Download it again and compare its SHA-256."
        ) from fault
    return state


def _load_pickled(path: Path) -> Any:
    modern = is_archive(path)
    if modern:
        _check_archive(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            # What torch says while it tries a damaged file is of no use to the reader: the file
            # either opens, and its content is checked below, or is refused by name.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=modern)
    except _DAMAGE as fault:
        _raise_unreadable(path, fault)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (*_DAMAGE, NotImplementedError) as fault:
        _raise_unreadable(path, fault)
    if damaged is not None:
        raise SourceError(
            f"{path} is damaged: its part {damaged!r} does not match its own checksum. "
            "Download it again and compare its SHA-256."
        )


def _raise_unreadable(path: Path, fault: BaseException) -> NoReturn:
    wanted = unsafe_imports(path) if isinstance(fault, pickle.UnpicklingError) else []
    if wanted:
        raise SourceError(
            f"{path} would run code when opened: its pickle asks for {', '.join(wanted[:5])}. Only "
            "tensors in plain containers are read. If you trust the file, open it once with the "
            "program that wrote it, save `model.state_dict()` with safetensors, and give that file "
            "(docs/grafting.md, 'Files that are refused')."
        ) from fault
    raise SourceError(
        f"{path} cannot be read as a PyTorch checkpoint: {_first_line(fault)} The file is "
        "truncated, damaged or of another kind. Download it again and compare its SHA-256."
    ) from fault


def _first_line(fault: BaseException) -> str:
    text = str(fault).rpartition("WeightsUnpickler error:")[2].strip()
    line = (text.splitlines() or [""])[0][:200].rstrip(".")
    return f"{type(fault).__name__}: {line}." if line else f"{type(fault).__name__}."


def _unwrap(content: Any, path: Path, key: str | None) -> tuple[dict[str, Tensor], list[str]]:
    if key is not None:
        for level in key.split("."):
            if not isinstance(content, dict) or level not in content:
                raise SourceError(
                    f"{path} has no key {key!r}: {level!r} is not among "
                    f"{_listed(content)}. Give one that is there."
                )
            content = content[level]
        if not _holds_tensors(content):
            raise SourceError(f"{path} has no tensors under {key!r}, but {_listed(content)}.")
        return content, [f"read from the key {key!r}, as asked"]
    steps: list[str] = []
    for _ in range(_DEEPEST):
        if _holds_tensors(content):
            notes = [f"read from the key {'.'.join(steps)!r}"] if steps else []
            return content, notes
        step = _next_step(content, path, steps)
        steps.append(step)
        content = content[step]
    raise SourceError(
        f"{path} keeps its tensors deeper than {_DEEPEST} levels, below {'.'.join(steps)!r}. "
        "Save the network's state dict alone."
    )


def _next_step(content: Any, path: Path, steps: list[str]) -> str:
    if not isinstance(content, dict):
        raise SourceError(
            f"{path} holds {_listed(content)}, expected a mapping of names to tensors. "
            "Save the network's state dict."
        )
    for names in (WRAPPERS, AVERAGED):
        found = [name for name in names if _reaches_tensors(content.get(name), _DEEPEST)]
        if len(found) > 1:
            raise SourceError(
                f"{path} has several networks, under the keys {', '.join(map(repr, found))}. "
                "Choose one with `key=`."
            )
        if found:
            return found[0]
    where = f" under {'.'.join(steps)!r}" if steps else ""
    raise SourceError(
        f"{path} has no state dict{where}: its keys are {_listed(content)}. Looked for names with "
        f"tensors, or for one of the keys {', '.join(WRAPPERS)}. Name the right one with `key=`."
    )


def _holds_tensors(content: Any) -> bool:
    """Say whether a mapping has tensors at this level.

    A training checkpoint may keep a stray tensor (a best score) beside its networks: it counts
    as a level of tensors only if no known wrapper is there with tensors of its own.
    """
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        return False
    return not any(_reaches_tensors(content.get(name), 2) for name in (*WRAPPERS, *AVERAGED))


def _reaches_tensors(content: Any, levels: int) -> bool:
    if not isinstance(content, dict) or levels == 0:
        return False
    if any(isinstance(value, Tensor) for value in content.values()):
        return True
    names = (*WRAPPERS, *AVERAGED)
    return any(_reaches_tensors(content.get(name), levels - 1) for name in names)


def _listed(content: Any) -> str:
    if isinstance(content, dict):
        names = [repr(name) for name in content]
        return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"a {type(content).__name__}"


def _strip_prefixes(state: dict[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    notes = []
    stripped = True
    while stripped and state:
        stripped = False
        for prefix in PREFIXES:
            if all(isinstance(name, str) and name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
                notes.append(f"the prefix {prefix!r} of all names was stripped")
                stripped = True
    return state, notes


def _check(state: dict[Any, Any], path: Path) -> None:
    faults = []
    for name, value in state.items():
        if not isinstance(name, str) or not name:
            faults.append(f"the key {name!r} is no name (a {type(name).__name__})")
        elif not isinstance(value, Tensor):
            faults.append(f"{name} is a {type(value).__name__}, expected a tensor")
        elif value.is_quantized:
            faults.append(f"{name} is quantized ({value.dtype}), expected plain numbers")
        elif value.layout != torch.strided:
            faults.append(f"{name} is sparse ({value.layout}), expected a dense tensor")
        elif value.is_meta:
            faults.append(f"{name} is on the meta device: it has a shape but no values")
        elif value.is_complex():
            faults.append(f"{name} is complex ({value.dtype}), expected real numbers")
        elif value.is_floating_point() and not _finite(value):
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


def _finite(value: Tensor) -> bool:
    if value.element_size() < 2:
        value = value.float()
    return bool(torch.isfinite(value).all())


def _single_precision(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    counts: dict[str, int] = {}
    for name, value in state.items():
        if value.is_floating_point() and value.dtype != torch.float32:
            kind = str(value.dtype).removeprefix("torch.")
            counts[kind] = counts.get(kind, 0) + 1
            state[name] = value.float()
    return state, [f"{count} tensors of {kind} became float32" for kind, count in counts.items()]
