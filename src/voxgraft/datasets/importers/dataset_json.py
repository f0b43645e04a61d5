"""``dataset.json`` of nnU-Net (versions 1 and 2) and of the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxgraft.errors import TableError, raise_faults
from voxgraft.files import read_json
from voxgraft.types import Json

_NUMBER = re.compile(r"\d+")
_IGNORE = "ignore"


@dataclass(frozen=True)
class DatasetJson:
    """What a ``dataset.json`` says.

    Attributes:
        path: The file.
        labels: Class to the values that it is the union of; without the background.
        ignored_values: Values where nothing is known.
        channels: Names of the channels, in their order.
        file_ending: Such as ``".nii.gz"``.
        content: All of it.
    """

    path: Path
    labels: dict[str, tuple[int, ...]]
    ignored_values: tuple[int, ...]
    channels: tuple[str, ...]
    file_ending: str
    content: Json


def read_dataset_json(path: Path) -> DatasetJson:
    """Read a ``dataset.json``.

    Raises:
        TableError: If it cannot be read, or its labels make no sense.
    """
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file. Give the folder that holds it.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TableError(f"{path}: cannot be read: {error}. Correct the file.") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise TableError(f'{path}: has no labels. Expected "labels": {{"background": 0, ...}}.')
    labels, ignored = parse_labels(content["labels"], str(path))
    channels = content.get("channel_names") or content.get("modality") or {"0": "image"}
    if not isinstance(channels, dict) or not all(_NUMBER.fullmatch(str(key)) for key in channels):
        raise TableError(
            f"{path}: channel_names (or modality) is {channels!r}; expected a name for each "
            'number, as {"0": "CT"}.'
        )
    names = tuple(str(channels[key]) for key in sorted(channels, key=int))
    return DatasetJson(
        path, labels, ignored, names, str(content.get("file_ending") or ".nii.gz"), content
    )


def parse_labels(
    labels: Mapping[Any, Any], where: str
) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    """Return classes with their values, and the values where nothing is known.

    Args:
        labels: Name to value or list of values (a region), or value to name. The value 0 is the
            background, whatever its name; a class called ``ignore`` is no class.
        where: The file, for messages.

    Raises:
        TableError: If values are no whole numbers from 0, or there is no class.
    """
    by_value = bool(labels) and all(_NUMBER.fullmatch(str(key)) for key in labels)
    found: dict[str, list[int]] = {}
    ignored: list[int] = []
    faults = []
    for key, value in labels.items():
        name, said = (value, key) if by_value else (key, value)
        values = said if isinstance(said, list) else [said]
        numbers = [int(str(n)) for n in values if _NUMBER.fullmatch(str(n))]
        if not isinstance(name, str) or not name.strip() or len(numbers) != len(values):
            faults.append(f"{key!r}: {value!r}")
        elif name.strip().lower() == _IGNORE:
            ignored += numbers
        elif numbers and numbers != [0]:
            if 0 in numbers:
                faults.append(f"{key!r}: {value!r} (holds the background)")
            found.setdefault(name.strip(), []).extend(numbers)
    faults += _same_values(found)
    if faults or not found:
        raise_faults(
            TableError,
            f"{where}: labels cannot be used",
            faults or ["there is no class but the background"],
            "Expected a whole number of its own for each name (or several, of a region), or a name "
            "for each whole number; 0 is the background.",
        )
    return {name: tuple(dict.fromkeys(values)) for name, values in found.items()}, tuple(ignored)


def _same_values(labels: Mapping[str, list[int]]) -> list[str]:
    """Return which classes have the same values, and so the same voxels."""
    owners: dict[frozenset[int], list[str]] = {}
    for name, values in labels.items():
        owners.setdefault(frozenset(values), []).append(name)
    return [
        f"{' and '.join(map(repr, names))} are all {', '.join(map(str, sorted(values)))}"
        for values, names in owners.items()
        if len(names) > 1
    ]


def chosen_channel(said: DatasetJson, channel: str | None) -> int:
    """Return the number of the channel to use.

    Args:
        said: The data set.
        channel: Name or number; None where there is one only.

    Raises:
        TableError: If there are several and none is chosen, or the chosen one is not there.
    """
    shown = ", ".join(f"{n} ({name})" for n, name in enumerate(said.channels))
    if channel is None:
        if len(said.channels) > 1:
            raise TableError(
                f"{said.path}: has {len(said.channels)} channels: {shown}; a case has one scan. "
                "Choose one with --channel (channel=)."
            )
        return 0
    for number, name in enumerate(said.channels):
        if channel in (str(number), name):
            return number
    raise TableError(f"{said.path}: has no channel {channel!r}; found {shown}.")
