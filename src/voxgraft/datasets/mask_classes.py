"""What the values or files of a table's masks mean: ``structures.json``, beside the table.

::

    {"kind": "label_map", "structures": {"liver": 1, "kidney": [2, 3]}, "ignored_values": [255]}
    {"kind": "binary_masks", "structures": {"liver": "liver.nii.gz"}, "annotated": ["liver"]}

A structure with several values or files is their union; structures may overlap. The table's column
``masks`` has a case's label map, or its folder of binary masks; ``structures`` names this file (a
table without that column has ``structures.json`` beside it, and a table of several data sets names
one for each); ``annotated`` lists the structures that were annotated in a case, with blanks between
them; empty, all are. What a case does not annotate is unknown there, never background.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from voxgraft.datasets.structures import is_name
from voxgraft.datasets.table import Table
from voxgraft.datasets.target import MASKS
from voxgraft.errors import TableError, raise_faults
from voxgraft.files import read_json, write_json

STRUCTURES, ANNOTATED = "structures", "annotated"
"""Columns of a table of scans with masks."""
FILE = "structures.json"
"""What the file is called where the table has no column ``structures``."""
KINDS = ("label_map", "binary_masks")
_KEYS = ("kind", "structures", "ignored_values", "annotated")
_REMEDY = 'Expected {"kind": "label_map", "structures": {"liver": 1, ...}} or {"kind": '
_REMEDY += '"binary_masks", "structures": {"liver": "liver.nii.gz", ...}}. Correct the file.'


@dataclass(frozen=True)
class Structures:
    """What the values or files of masks mean.

    Attributes:
        kind: One label map a case, or a folder a case with a binary mask a structure.
        sources: Structure to the values (``label_map``) or file names (``binary_masks``) that it
            is the union of.
        ignored_values: Values of label maps where nothing is known of any structure.
        annotated: Structures that a case annotates if its row does not say; None for all.
        path: File that it was read from, if any.
    """

    kind: Literal["label_map", "binary_masks"]
    sources: Mapping[str, tuple[int, ...] | tuple[str, ...]] = field(repr=False)
    ignored_values: tuple[int, ...] = ()
    annotated: tuple[str, ...] | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            where = "structures" if self.path is None else str(self.path)
            raise_faults(TableError, f"{where}: cannot be used", faults, _REMEDY)

    @property
    def names(self) -> tuple[str, ...]:
        """All structures, in the order of the file."""
        return tuple(self.sources)

    def values(self, name: str) -> tuple[int, ...]:
        """Return the values of a structure in a label map."""
        return tuple(value for value in self.sources[name] if isinstance(value, int))

    def files(self, name: str) -> tuple[str, ...]:
        """Return the files of a structure in a case's folder."""
        return tuple(value for value in self.sources[name] if isinstance(value, str))


@dataclass(frozen=True)
class CaseMasks:
    """Where the masks of a case are, and what they say.

    Attributes:
        case_id: The case.
        path: Label map, or folder of binary masks.
        structures: What values or files mean.
        annotated: Structures that were annotated in this case, in the order of ``structures``.
    """

    case_id: str
    path: Path
    structures: Structures = field(repr=False)
    annotated: tuple[str, ...]


def read_structures(path: Path | str) -> Structures:
    """Read a ``structures.json``.

    Raises:
        TableError: If it cannot be read, or says what makes no sense; all faults are named.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TableError(
            f"{path}: cannot be read: {error}. It says what values or files of the masks mean. "
            f"{_REMEDY}"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("structures"), dict):
        raise TableError(f"{path}: has no structures. {_REMEDY}")
    unknown = [name for name in content if name not in _KEYS]
    if unknown:
        raise TableError(f"{path}: has unknown keys {', '.join(unknown)}. {_REMEDY}")
    ignored, annotated = content.get("ignored_values") or [], content.get("annotated")
    if not isinstance(ignored, list) or not isinstance(annotated, list | None):
        raise TableError(f"{path}: ignored_values and annotated are lists. {_REMEDY}")
    return Structures(
        kind=content.get("kind", ""),
        sources={name: _listed(value) for name, value in content["structures"].items()},
        ignored_values=tuple(ignored),
        annotated=None if annotated is None else tuple(annotated),
        path=path,
    )


def write_structures(structures: Structures, path: Path) -> None:
    """Write a ``structures.json``, whole or not at all.

    Raises:
        TableError: If it cannot be written.
    """
    content: dict[str, Any] = {
        "kind": structures.kind,
        "structures": {
            name: found[0] if len(found) == 1 else list(found)
            for name, found in structures.sources.items()
        },
    }
    if structures.ignored_values:
        content["ignored_values"] = list(structures.ignored_values)
    if structures.annotated is not None:
        content["annotated"] = list(structures.annotated)
    try:
        write_json(path, content)
    except OSError as error:
        raise TableError(f"{path}: cannot be written: {error}") from error


def structure_names(table: Table) -> tuple[str, ...]:
    """Return all structures of a table, of all its ``structures.json`` files, each once.

    Raises:
        TableError: If a file cannot be used.
    """
    names = [
        name for path in structure_files(table).values() for name in read_structures(path).names
    ]
    return tuple(dict.fromkeys(names))


def case_masks(table: Table) -> dict[str, CaseMasks]:
    """Return the masks of each case of a table.

    Raises:
        TableError: If the table has no masks, rows without, structures that are not in the file,
            or a file that cannot be used; all faults of the rows are named.
    """
    where = "the table" if table.path is None else str(table.path)
    if MASKS not in table.frame:
        raise TableError(
            f"{where}: has no column {MASKS!r}. Add the path of each case's label map, or of its "
            f"folder of binary masks, and {FILE} beside the table."
        )
    files = structure_files(table)
    known = {path: read_structures(path) for path in dict.fromkeys(files.values())}
    cells = table.frame[ANNOTATED] if ANNOTATED in table.frame else [""] * len(table)
    found: dict[str, CaseMasks] = {}
    faults = []
    for case_id, masks, cell in zip(table.case_ids, table.frame[MASKS], cells, strict=True):
        structures = known[files[case_id]]
        said = tuple(cell.split()) or structures.annotated or structures.names
        odd = [name for name in said if name not in structures.sources]
        if not masks:
            faults.append(f"case {case_id!r}: {MASKS} is empty")
        elif odd:
            faults.append(f"case {case_id!r}: {ANNOTATED} has {', '.join(odd)}")
        else:
            names = tuple(name for name in structures.names if name in said)
            found[case_id] = CaseMasks(case_id, table.root / Path(masks), structures, names)
    if faults:
        shown = ", ".join(structure_names(table))
        raise_faults(
            TableError,
            f"{where}: masks cannot be used",
            faults,
            f"Each case needs masks; {ANNOTATED} has names of its {FILE}, with blanks between "
            f"them ({shown}).",
        )
    return found


def known_structures(table: Table, names: Sequence[str]) -> Bool[np.ndarray, "n k"]:
    """Return which of some structures each case of a table annotates.

    Args:
        table: Scans with masks.
        names: Structures.

    Raises:
        TableError: If the masks cannot be used, or a structure is annotated nowhere.
    """
    found = case_masks(table)
    known = np.array([[name in found[case].annotated for name in names] for case in table.case_ids])
    absent = [repr(name) for place, name in enumerate(names) if not known[:, place].any()]
    if absent:
        where = "the table" if table.path is None else str(table.path)
        raise TableError(
            f"{where}: no case annotates {', '.join(absent)}; annotated are "
            f"{', '.join(structure_names(table))}. Name structures of the table."
        )
    return known


def structure_files(table: Table) -> dict[str, Path]:
    """Return the ``structures.json`` of each case.

    Raises:
        TableError: If a row names none.
    """
    where = "the table" if table.path is None else str(table.path)
    if STRUCTURES not in table.frame:
        return dict.fromkeys(table.case_ids, table.root / FILE)
    cells = dict(zip(table.case_ids, table.frame[STRUCTURES], strict=True))
    empty = [f"case {case_id!r}" for case_id, cell in cells.items() if not cell]
    if empty:
        raise_faults(
            TableError,
            f"{where}: column {STRUCTURES} is empty",
            empty,
            f"Expected the path of a {FILE} in each row, or no such column.",
        )
    return {case_id: table.root / Path(cell) for case_id, cell in cells.items()}


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _faults(structures: Structures) -> list[str]:
    if structures.kind not in KINDS:
        return [f"kind is {structures.kind!r}, expected {' or '.join(KINDS)}"]
    wanted, what = (int, "whole numbers from 1") if structures.kind == "label_map" else (
        str, "file names"
    )  # fmt: skip
    faults = [] if structures.sources else ["there are no structures"]
    for name, found in structures.sources.items():
        if not isinstance(name, str) or not is_name(name):
            faults.append(f"{name!r} is no name of a structure (something without blanks)")
        good = [
            isinstance(value, wanted) and not isinstance(value, bool) and value not in (0, "")
            for value in found
        ]
        if not found or not all(good) or any(isinstance(v, int) and v < 0 for v in found):
            faults.append(f"{name}: {', '.join(map(repr, found)) or 'nothing'}; expected {what}")
    odd = [value for value in structures.ignored_values if type(value) is not int or value < 1]
    if structures.ignored_values and structures.kind != "label_map":
        faults.append("ignored_values are of label maps")
    elif odd:
        faults.append(f"ignored_values {odd}; expected whole numbers from 1")
    used = {value for found in structures.sources.values() for value in found}
    both = sorted(str(value) for value in used & set(structures.ignored_values))
    if not odd and both:
        faults.append(f"{', '.join(both)} cannot be ignored and a structure")
    unknown = [str(name) for name in structures.annotated or () if name not in structures.sources]
    if unknown:
        faults.append(f"annotated has {', '.join(unknown)}, which is no structure here")
    if structures.annotated == ():
        faults.append("annotated is empty; leave it out if all structures are annotated")
    return faults
