"""Where a training stands, as a folder of safetensors and JSON that is whole or absent."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voxgraft.errors import TrainingError
from voxgraft.files import read_json, write_json
from voxgraft.types import Json

_PREFIX = "step-"
_REMEDY = "Delete that folder to train from the beginning again."


def save_checkpoint(
    folder: Path, step: int, state: Json, tensors: dict[str, dict[str, Tensor]]
) -> None:
    """Write a checkpoint beside the older ones, then delete those.

    It is written under a temporary name and renamed: at any moment of a kill there is a whole
    checkpoint, the new one or the one before.

    Args:
        folder: Folder of checkpoints.
        step: Steps done.
        state: Everything that is no tensor; finite numbers only.
        tensors: Groups of tensors, one file each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".tmp-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    sizes = {}
    for group, named in tensors.items():
        path = temporary / f"{group}.safetensors"
        save_file({name: _plain(tensor) for name, tensor in named.items()}, path)
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        sizes[group] = path.stat().st_size
    write_json(temporary / "state.json", {"step": step, "bytes": sizes, **state})
    final = folder / f"{_PREFIX}{step:08d}"
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    _sync_folder(folder)
    for other in folder.iterdir():
        if other != final and other.name.startswith((_PREFIX, ".tmp-")):
            shutil.rmtree(other)


def load_checkpoint(
    folder: Path, groups: Sequence[str]
) -> tuple[Json, dict[str, dict[str, Tensor]]] | None:
    """Read the newest checkpoint of a folder.

    Args:
        folder: Folder of checkpoints.
        groups: Groups of tensors that it must have.

    Returns:
        State and groups of tensors (on the CPU), or None if there is no checkpoint.

    Raises:
        TrainingError: If something of the checkpoint is missing or damaged.
    """
    if not folder.is_dir():
        return None
    whole = sorted(path for path in folder.iterdir() if path.name.startswith(_PREFIX))
    if not whole:
        return None
    newest = whole[-1]
    try:
        state: Json = read_json(newest / "state.json")
        tensors = {}
        for group in groups:
            size = state["bytes"][group]
            path = newest / f"{group}.safetensors"
            if path.stat().st_size != size:
                raise TrainingError(
                    f"{path} has {path.stat().st_size} bytes, expected {size}: the checkpoint is "
                    f"damaged. {_REMEDY}"
                )
            tensors[group] = load_file(path)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        raise TrainingError(
            f"the checkpoint {newest} cannot be read ({type(error).__name__}: {error}). {_REMEDY}"
        ) from error
    return state, tensors


def check_settings(folder: Path, found: Json, expected: Json) -> None:
    """Refuse a checkpoint of a training with other settings.

    Args:
        folder: Folder of checkpoints, for the message.
        found: Settings in the checkpoint.
        expected: Settings of the training that wants to go on.

    Raises:
        TrainingError: If they differ; every difference is named.
    """
    before, now = _flat(found), _flat(expected)
    differences = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if differences:
        raise TrainingError(
            f"{folder} holds the checkpoint of another training: {'; '.join(differences)}. "
            "Train in another folder, or delete this one to train from the beginning."
        )


def load_tensors(module: nn.Module, named: dict[str, Tensor], where: str) -> None:
    """Copy every tensor into a network of exactly these names and shapes.

    Raises:
        TrainingError: If names or shapes differ.
    """
    own = module.state_dict()
    faults = [f"{name} is missing" for name in own if name not in named]
    faults += [f"{name} is not the network's" for name in named if name not in own]
    faults += [
        f"{name} has shape {tuple(named[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in named and named[name].shape != own[name].shape
    ]
    if faults:
        raise TrainingError(
            f"{where} does not fit the network: {'; '.join(faults[:10])}"
            f"{' …' if len(faults) > 10 else ''}. {_REMEDY}"
        )
    module.load_state_dict(named)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's tensors on the CPU, in the contiguous layout."""
    return {name: _plain(tensor, copy=True) for name, tensor in module.state_dict().items()}


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: dict[Tensor, str]
) -> dict[str, Tensor]:
    """Return an optimizer's state as ``kind/parameter`` tensors.

    Args:
        optimizer: The optimizer.
        names: Name of each of its parameters.
    """
    return {
        f"{kind}/{names[parameter]}": value
        for parameter, state in optimizer.state.items()
        for kind, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], named: dict[str, Tensor]
) -> None:
    """Put back what :func:`optimizer_tensors` returned, in each parameter's own layout."""
    optimizer.state.clear()
    for key, value in named.items():
        kind, name = key.split("/", 1)
        parameter = parameters[name]
        if kind != "step":
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        optimizer.state[parameter][kind] = value


def _flat(value: Any, path: str = "") -> Json:
    if not isinstance(value, dict):
        return {path: value}
    parts = [_flat(item, f"{path}.{key}" if path else key) for key, item in value.items()]
    return {key: item for part in parts for key, item in part.items()}


def _plain(tensor: Tensor, *, copy: bool = False) -> Tensor:
    plain = tensor.detach().to("cpu").contiguous()
    return plain.clone() if copy and plain.data_ptr() == tensor.data_ptr() else plain


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
