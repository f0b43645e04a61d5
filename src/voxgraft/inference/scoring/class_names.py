"""What the values and files of predictions mean, and which structures of a table they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from voxgraft.datasets import canonical_name, read_structures
from voxgraft.datasets.importers.dataset_json import parse_labels, read_dataset_json
from voxgraft.datasets.structures import read_name_map
from voxgraft.errors import InferenceError, TableError, raise_faults
from voxgraft.files import read_json

CLASS_FILES = ("dataset.json", "labels.json", "structures.json")
"""Files beside predictions that say what their values mean; the first that is there counts."""
_FILES = (".json", ".yaml", ".yml", ".csv")
_FORMS = (
    "Expected liver=1,spleen=2 for the values of label maps, liver,spleen for a choice, or a file: "
    "nnU-Net's dataset.json, a structures.json, or a name map (YAML or CSV)."
)


@dataclass(frozen=True)
class PredictedClasses:
    """What predictions call their classes.

    Attributes:
        values: Name to the values that it is the union of; None where values were not told.
        structures: Name (of a class or of a file without its suffix) to the table's structures;
            names that are not listed are matched by themselves, see :func:`match_names`.
        only: Names to score; None for all.
    """

    values: Mapping[str, tuple[int, ...]] | None = None
    structures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only: tuple[str, ...] | None = None


def parse_classes(text: str, folder: Path) -> PredictedClasses:
    """Read what ``--classes`` says; where it names no values, a file beside the predictions may.

    Args:
        text: Empty; ``NAME=VALUE,...`` (``NAME=1+2`` is a union); ``NAME,...``; or a file.
        folder: Of the predictions.

    Raises:
        InferenceError: If a text is of no such form.
        TableError: If a file cannot be used.
    """
    path = Path(text)
    if text and path.suffix.lower() in _FILES:
        said = _read_file(path)
        return said if said.values is not None else _with_values(said, folder)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = [part.partition("=") for part in parts]
    odd = [
        part
        for part, (name, sign, value) in zip(parts, pairs, strict=True)
        if not name.strip() or (sign and not re.fullmatch(r"[1-9]\d*(\+[1-9]\d*)*", value.strip()))
    ]
    if odd or len({bool(sign) for _, sign, _ in pairs}) > 1:
        raise InferenceError(f"--classes {text}: {', '.join(odd) or 'mixed forms'}. {_FORMS}")
    names = [name.strip() for name, _, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InferenceError(f"--classes {text}: names {', '.join(twice)} twice. {_FORMS}")
    if pairs and pairs[0][1]:
        values = {
            name.strip(): tuple(int(number) for number in value.split("+"))
            for name, _, value in pairs
        }
        return PredictedClasses(values=values)
    return _with_values(PredictedClasses(only=tuple(names) if names else None), folder)


def match_names(names: Sequence[str], drawn: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the structure of a table that each predicted name is, by name alone.

    A name is the structure of the same name, else the one of the same canonical name
    (``"Left Kidney"`` is ``kidney_left``). Names without such a structure are left out.

    Args:
        names: As predictions say.
        drawn: The table's structures.

    Raises:
        InferenceError: If two names would be one structure.
    """
    canonical = {canonical_name(name) or name: name for name in drawn}
    found: dict[str, tuple[str, ...]] = {}
    owners: dict[str, list[str]] = {}
    for name in names:
        same = name if name in drawn else canonical.get(canonical_name(name) or name)
        if same is not None:
            found[name] = (same,)
            owners.setdefault(same, []).append(name)
    double = [
        f"{', '.join(map(repr, several))} would all be {structure!r}"
        for structure, several in owners.items()
        if len(several) > 1
    ]
    if double:
        raise_faults(
            InferenceError,
            "predicted classes would share a structure",
            double,
            "Say which is which in a name map (--classes names.yaml, with a line `name: structure` "
            "each).",
        )
    return found


def structures_of(
    names: Iterable[str], said: PredictedClasses, drawn: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the predicted names that each structure of a table is the union of.

    Args:
        names: All names that the predictions have.
        said: What was said about them.
        drawn: The table's structures.

    Returns:
        Structure to names, in the table's order, of those that are to be scored.

    Raises:
        InferenceError: If a name that was said is not there, or nothing can be scored.
    """
    listed = list(dict.fromkeys(names))
    strangers = [repr(name) for name in said.structures if name not in listed]
    free = [name for name in listed if name not in said.structures]
    matched = match_names(free, drawn)
    matched |= {name: said.structures[name] for name in listed if name in said.structures}
    of: dict[str, list[str]] = {}
    for name, structures in matched.items():
        for structure in structures:
            of.setdefault(structure, []).append(name)
    if said.only is not None:
        known = {*listed, *of}
        strangers += [repr(name) for name in said.only if name not in known]
        of = {
            structure: names
            for structure, names in of.items()
            if structure in said.only or any(name in said.only for name in names)
        }
    absent = [repr(structure) for structure in of if structure not in drawn]
    if strangers or absent:
        faults = []
        if strangers:
            faults.append(f"the predictions have no {', '.join(strangers)}")
        if absent:
            faults.append(f"the table has no {', '.join(absent)}")
        raise_faults(
            InferenceError,
            "these classes cannot be scored",
            faults,
            f"Predicted are {', '.join(listed)}; drawn are {', '.join(drawn)}.",
        )
    if not of:
        raise InferenceError(
            f"predicted are {', '.join(listed) or 'no classes'}; drawn in the table are "
            f"{', '.join(drawn)}: nothing is in both. Say with --classes which predicted class "
            "is which structure (a name map, with a line `name: structure` each)."
        )
    return {name: tuple(of[name]) for name in drawn if name in of}


def _with_values(said: PredictedClasses, folder: Path) -> PredictedClasses:
    """Add the values that a file beside the predictions tells."""
    for name in CLASS_FILES:
        if (folder / name).is_file():
            return PredictedClasses(_read_file(folder / name).values, said.structures, said.only)
    return said


def _read_file(path: Path) -> PredictedClasses:
    if not path.is_file():
        raise InferenceError(f"--classes {path}: no such file. {_FORMS}")
    content: Any = None
    if path.suffix.lower() == ".json":
        try:
            content = read_json(path)
        except ValueError as error:
            raise TableError(f"{path}: cannot be read: {error}. {_FORMS}") from error
    elif path.suffix.lower() != ".csv":
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise TableError(f"{path}: cannot be read as YAML: {error}. {_FORMS}") from error
    if isinstance(content, dict):
        if isinstance(content.get("labels"), dict):
            return PredictedClasses(values=read_dataset_json(path).labels)
        if isinstance(content.get("structures"), dict):
            said = read_structures(path)
            if said.kind == "label_map":
                return PredictedClasses(values={name: said.values(name) for name in said.names})
            files = {
                file.split(".")[0]: (name,) for name in said.names for file in said.files(name)
            }
            return PredictedClasses(structures=files)
        leaves = [n for value in content.values() for n in _listed(value)]
        if leaves and all(isinstance(n, int) and not isinstance(n, bool) for n in leaves):
            return PredictedClasses(values=parse_labels(content, str(path))[0])
    return PredictedClasses(structures=read_name_map(path))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
