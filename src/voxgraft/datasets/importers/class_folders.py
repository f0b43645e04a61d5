"""Trees with a folder per class, and perhaps per split above; ids out of paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from voxgraft.errors import TableError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What splits are called elsewhere, in lower case, and here."""


def class_folders(root: Path) -> Iterator[tuple[str | None, Path]]:
    """Yield (split, folder of a class); split is None unless all folders are named after splits."""
    folders = _folders(root)
    if folders and all(folder.name.lower() in SPLIT_NAMES for folder in folders):
        for folder in folders:
            for inner in _folders(folder):
                yield SPLIT_NAMES[folder.name.lower()], inner
    else:
        for folder in folders:
            yield None, folder


def compiled_pattern(pattern: str | None, what: str, example: str) -> re.Pattern[str] | None:
    """Compile the pattern that finds an id in a path.

    Raises:
        TableError: If it is no regular expression.
    """
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise TableError(
            f"{what} pattern {pattern!r} is no regular expression: {error}. For example {example}."
        ) from error


def found_id(pattern: re.Pattern[str], inside: str) -> str:
    """Return the pattern's first group, or its whole match, in a path; empty without a match."""
    match = pattern.search(inside)
    if match is None:
        return ""
    return (match.group(1) if pattern.groups else match.group(0)) or ""


def shared_case_ids(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the images of each ``case_id`` that several rows would share."""
    seen: dict[str, list[str]] = {}
    for row in rows:
        seen.setdefault(row["case_id"], []).append(row["image"])
    return {case_id: images for case_id, images in seen.items() if len(images) > 1}


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
