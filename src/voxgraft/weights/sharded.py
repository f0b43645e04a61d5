"""Weights that are spread over several files, with an index of which tensor is where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from voxgraft.errors import SourceError, raise_faults
from voxgraft.files import read_json

INDEX_SUFFIX = ".index.json"


def shard_names(index: Path) -> dict[str, list[str]]:
    """Return the files that an index names, and the tensors in each.

    Raises:
        SourceError: If it is no such index, or a file is not to lie beside it.
    """
    if not index.is_file():
        raise SourceError(f"{index} does not exist. Give the path of a checkpoint file.")
    try:
        content = read_json(index)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, OSError) as fault:
        raise SourceError(f"{index} is no JSON: {fault}. Download it again.") from fault
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise SourceError(
            f"{index} is no index of weights: expected 'weight_map', from names of tensors to "
            "files. Give the checkpoint itself."
        )
    wrong = [
        f"{name}: {file!r} is no name of a file beside the index"
        for name, file in places.items()
        if not isinstance(file, str) or PurePosixPath(file).name != file or "\\" in file
    ]
    if wrong:
        raise_faults(SourceError, f"{index} is damaged", wrong, "Download it again.")
    files: dict[str, list[str]] = {}
    for name, file in places.items():
        files.setdefault(file, []).append(name)
    return files


def load_shards(index: Path, load: Callable[[Path], Any]) -> dict[str, Any]:
    """Read all files of an index.

    Args:
        index: The index; its files lie beside it.
        load: Reads one of them.

    Raises:
        SourceError: If a file is missing or cannot be read, or a tensor is not where it should be.
    """
    files = shard_names(index)
    absent = [f"{file} is missing" for file in files if not (index.parent / file).is_file()]
    if absent:
        raise_faults(
            SourceError, f"{index} names files that are not beside it", absent, "Fetch them too."
        )
    state: dict[str, Any] = {}
    faults: list[str] = []
    for file, names in files.items():
        part = load(index.parent / file)
        if not isinstance(part, dict):
            faults.append(f"{file} holds no mapping of names to tensors")
            continue
        faults += [f"{name} is not in {file}" for name in names if name not in part]
        faults += [f"{name} in {file} is not in the index" for name in part if name not in names]
        state |= part
    if faults:
        raise_faults(SourceError, f"{index} does not fit its files", faults, "Fetch all again.")
    return state
