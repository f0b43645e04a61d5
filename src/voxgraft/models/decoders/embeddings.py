"""Embeddings of the names of classes, out of a file."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from voxgraft.errors import ModelError, raise_faults
from voxgraft.models.decoders.text_head import EMBEDDING_CHANNELS

_SUFFIXES = (".npy", ".safetensors", ".pth", ".pt")


def read_embeddings(path: str | Path, classes: Sequence[str]) -> Float[Tensor, "k 512"]:
    """Read the embedding of each class from a file with one row a class.

    The file is ``.npy``, ``.safetensors`` or ``.pth``/``.pt`` with one array of shape
    (rows, 512); in the last two it may also have one vector for each name. Rows are matched by
    name where the file says their names: in the metadata of a ``.safetensors`` file under
    ``classes``, as a JSON list, or in a file beside it with the same name and the suffix ``.json``
    (a list) or ``.txt`` (one a line). Then there may be more rows than classes, in any order.
    Without names there must be one row a class, in the order of ``classes``.

    The embeddings are made elsewhere, once: CLIP's text encoder is not run here.

    Args:
        path: The file.
        classes: Names of the head's outputs in order, with ``background`` if it has one.

    Raises:
        ModelError: If the file is missing, damaged or of another kind, has another shape, or
            lacks a class.
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise ModelError(
            f"{path} has the suffix {path.suffix!r}; embeddings are read from "
            f"{', '.join(_SUFFIXES)}. Save them as one array of shape (classes, "
            f"{EMBEDDING_CHANNELS})."
        )
    if not path.is_file():
        raise ModelError(f"there is no file {path}, expected one with an embedding of each class.")
    rows, names = _read(path)
    if not np.issubdtype(rows.dtype, np.floating):
        raise ModelError(f"{path} holds {rows.dtype}, expected floating-point numbers.")
    if rows.ndim != 2 or rows.shape[1] != EMBEDDING_CHANNELS:
        raise ModelError(
            f"{path} holds an array of shape {rows.shape}, expected (rows, {EMBEDDING_CHANNELS}): "
            "the embedding of a class in each row, as CLIP's text encoder gives it."
        )
    names = names or _names_beside(path)
    if names is None:
        if len(rows) != len(classes):
            raise ModelError(
                f"{path} has {len(rows)} embeddings without names, expected {len(classes)}, in the "
                f"order {', '.join(classes)}. Or name the rows in {path.with_suffix('.json').name}."
            )
        return torch.from_numpy(rows.astype(np.float32))
    if len(names) != len(rows) or len(set(names)) != len(names):
        raise ModelError(
            f"{path} has {len(rows)} embeddings and {len(names)} names, of which "
            f"{len(set(names))} differ; expected one name for each row, each once."
        )
    missing = [f"{name!r} is not among its names" for name in classes if name not in names]
    if missing:
        raise_faults(
            ModelError,
            f"{path} lacks embeddings of classes",
            missing,
            f"Its names are {', '.join(names)}. Add embeddings, or call the classes as it does.",
            shown=len(missing),
        )
    places = [names.index(name) for name in classes]
    return torch.from_numpy(rows[places].astype(np.float32))


def _read(path: Path) -> tuple[Any, list[str] | None]:
    """Return the rows, and their names if the file itself has them."""
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False), None
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                listed = (file.metadata() or {}).get("classes")
            return _rows(path, found, None if listed is None else _names(path, listed))
        return _rows(path, torch.load(path, map_location="cpu", weights_only=True), None)
    except (OSError, ValueError, EOFError, RuntimeError, SafetensorError) as fault:
        raise _unreadable(path, fault) from fault
    except pickle.UnpicklingError as fault:
        raise _unreadable(path, fault) from fault


def _rows(path: Path, found: Any, names: list[str] | None) -> tuple[Any, list[str] | None]:
    if isinstance(found, Tensor):
        return _plain(found), names
    if isinstance(found, dict) and found and all(isinstance(v, Tensor) for v in found.values()):
        if len(found) == 1 and next(iter(found.values())).ndim == 2:
            return _plain(next(iter(found.values()))), names
        vectors = [tensor.reshape(-1) for tensor in found.values()]
        if {len(vector) for vector in vectors} == {EMBEDDING_CHANNELS}:
            return _plain(torch.stack(vectors)), [str(name) for name in found]
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in list(found.items())[:5])
        raise ModelError(
            f"{path} holds {len(found)} tensors ({shapes}), expected one of shape (rows, "
            f"{EMBEDDING_CHANNELS}), or one of length {EMBEDDING_CHANNELS} for each class."
        )
    raise ModelError(
        f"{path} holds a {type(found).__name__}, expected a tensor of shape (rows, "
        f"{EMBEDDING_CHANNELS})."
    )


def _plain(tensor: Tensor) -> Any:
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _names_beside(path: Path) -> list[str] | None:
    listed = path.with_suffix(".json")
    if listed.is_file():
        return _names(listed, listed.read_text(encoding="utf-8"))
    lines = path.with_suffix(".txt")
    if lines.is_file():
        return [line.strip() for line in lines.read_text("utf-8").splitlines() if line.strip()]
    return None


def _names(path: Path, text: str) -> list[str]:
    try:
        names = json.loads(text)
    except json.JSONDecodeError as fault:
        raise ModelError(f"the names in {path} are no JSON: {fault}") from fault
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"the names in {path} are {text:.80}, expected a JSON list of names.")
    return names


def _unreadable(path: Path, fault: Exception) -> ModelError:
    first = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
    return ModelError(
        f"{path} cannot be read: {first} The file is damaged, of another kind, or holds objects "
        f"instead of numbers. Save one array of shape (classes, {EMBEDDING_CHANNELS}) again."
    )
