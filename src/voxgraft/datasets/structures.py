"""What structures in a scan are called, so that data sets with different words train together.

Each structure has one canonical name. Names of a data set are mapped to it by a list of synonyms;
a name that is unknown, or means different things in different data sets, is kept as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from voxgraft.datasets.csv_rows import read_rows
from voxgraft.errors import TableError, raise_faults

_NAMES = Path(__file__).with_name("structure_names.yaml")
_SIDES = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
_REMEDY = "Expected a line `name: structure` for each name, or a CSV file with these two columns."

ABDOMEN_ATLAS_1_0 = (
    "aorta", "gallbladder", "kidney_left", "kidney_right", "liver", "pancreas",
    "inferior_vena_cava", "spleen", "stomach",
)  # fmt: skip
"""Canonical names of AbdomenAtlas 1.0's classes, in its order.

Source: Li et al., ICLR 2024 (arXiv 2501.11253), and its published training code.
"""
ABDOMEN_ATLAS_1_1 = (
    *ABDOMEN_ATLAS_1_0, "adrenal_gland_left", "adrenal_gland_right", "urinary_bladder",
    "celiac_trunk", "colon", "duodenum", "esophagus", "femur_left", "femur_right",
    "hepatic_vessel", "intestine", "lung_left", "lung_right", "portal_vein_and_splenic_vein",
    "prostate", "rectum",
)  # fmt: skip
"""Canonical names of AbdomenAtlas 1.1's 25 anatomical classes, in its order; source as above."""
SUPREM_HEAD = (
    "spleen", "kidney_right", "kidney_left", "gallbladder", "esophagus", "liver", "stomach",
    "aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein", "pancreas",
    "adrenal_gland_right", "adrenal_gland_left", "duodenum", "hepatic_vessel", "lung_right",
    "lung_left", "colon", "intestine", "rectum", "urinary_bladder", "prostate", "femur_left",
    "femur_right", "celiac_trunk", "kidney_tumor", "liver_tumor", "pancreas_tumor",
    "hepatic_vessel_tumor", "lung_tumor", "colon_tumor", "kidney_cyst",
)  # fmt: skip
"""Canonical name of each of the 32 channels that SuPreM's published networks end in.

It is another order than AbdomenAtlas's own: channels are mapped by name, never by position.
Source: the inference code published with Li et al., ICLR 2024 (arXiv 2501.11253).
"""


@dataclass(frozen=True)
class NamedClasses:
    """Canonical names of a data set's classes.

    Attributes:
        names: Name in the data set to the structures that its voxels belong to (as a rule one).
        unknown: Names that no list has.
        ambiguous: Names that mean different things in different data sets, with the reason.
    """

    names: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]
    ambiguous: Mapping[str, str]


def canonical_name(name: str) -> str | None:
    """Return the canonical name of a structure; None if it is unknown or ambiguous.

    Case, blanks, punctuation and the place of the side do not count: ``"Left Kidney"`` and
    ``"kidney (L)"`` are ``"kidney_left"``.
    """
    return _known()[0].get(_key(name))


def name_classes(
    names: Iterable[str], chosen: Mapping[str, tuple[str, ...]] | None = None
) -> NamedClasses:
    """Give the classes of a data set their canonical names.

    Args:
        names: As the data set calls them.
        chosen: Names that a person chose (see :func:`read_name_map`), before any list.

    Returns:
        Names; one that is unknown or ambiguous stays as it is, with ``_`` for blanks.

    Raises:
        TableError: If a chosen name is of no class, or two classes would have one name without
            being chosen so.
    """
    names, chosen = list(dict.fromkeys(names)), dict(chosen or {})
    absent = [repr(name) for name in chosen if name not in names]
    if absent:
        raise TableError(
            f"the name map has {', '.join(absent)}, but the data set's classes are "
            f"{', '.join(map(repr, names))}. Correct the name map."
        )
    found: dict[str, tuple[str, ...]] = {}
    unknown, ambiguous = [], {}
    for name in names:
        if name in chosen:
            found[name] = chosen[name]
            continue
        canonical = canonical_name(name)
        reason = _known()[1].get(_key(name))
        if reason is not None:
            ambiguous[name] = reason
        elif canonical is None:
            unknown.append(name)
        found[name] = (canonical or "_".join(name.split()),)
    owners: dict[str, list[str]] = {}
    for name, structures in found.items():
        for structure in structures:
            owners.setdefault(structure, []).append(name)
    double = [
        f"{', '.join(map(repr, sources))} would all be {structure!r}"
        for structure, sources in owners.items()
        if len(sources) > 1 and not all(source in chosen for source in sources)
    ]
    if double:
        raise_faults(
            TableError,
            "classes would share a name",
            double,
            "Name each of them in a name map (a structure may be the union of several classes, "
            "if the map says so for each).",
        )
    return NamedClasses(found, tuple(unknown), ambiguous)


def read_name_map(path: Path | str) -> dict[str, tuple[str, ...]]:
    """Read what a person calls the classes of a data set.

    YAML: ``name: structure``, or a list of structures; CSV: columns ``name`` and ``structure``,
    with a row for each pair. A structure that several names lead to is the union of their voxels.

    Raises:
        TableError: If the file cannot be read, or a structure has no name or one with blanks.
    """
    path = Path(path)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        try:
            content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise TableError(f"{path}: cannot be read as YAML: {error}. {_REMEDY}") from error
        if not isinstance(content, dict):
            raise TableError(f"{path}: holds no names. {_REMEDY}")
        pairs = [
            (str(name), structure)
            for name, value in content.items()
            for structure in (value if isinstance(value, list) else [value])
        ]
    else:
        rows = read_rows(path, _REMEDY)
        if not {"name", "structure"} <= set(rows.header):
            raise TableError(f"{path}: has columns {', '.join(rows.header)}. {_REMEDY}")
        places = [rows.header.index(name) for name in ("name", "structure")]
        short = [line for line, row in rows.rows if len(row) != len(rows.header)]
        if short:
            raise TableError(f"{path}, line {short[0]}: has missing cells. {_REMEDY}")
        pairs = [(row[places[0]].strip(), row[places[1]].strip()) for _, row in rows.rows]
    odd = [
        f"{name!r}: {structure!r}"
        for name, structure in pairs
        if not isinstance(structure, str) or not is_name(structure)
    ]
    if odd or not pairs:
        raise_faults(
            TableError,
            f"{path}: structures need a name, without blanks",
            odd or ["there are no names"],
            _REMEDY,
        )
    found: dict[str, tuple[str, ...]] = {}
    for name, structure in pairs:
        found[name] = tuple(dict.fromkeys((*found.get(name, ()), structure)))
    return found


def is_name(text: str) -> bool:
    """Return whether a text can be a structure's name: something, without blanks."""
    return bool(text) and not re.search(r"\s", text)


def _key(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    sides = [_SIDES[word] for word in words if word in _SIDES]
    rest = [word for word in words if word not in _SIDES]
    return "_".join(rest + sides) if len(sides) == 1 and rest else "_".join(words)


@cache
def _known() -> tuple[dict[str, str], dict[str, str]]:
    """Return key to canonical name, and key to why a name is ambiguous."""
    content = yaml.safe_load(_NAMES.read_text(encoding="utf-8"))
    spelled: list[tuple[str, str]] = []
    for name, others in content["single"].items():
        spelled += [(other, name) for other in (name, *others)]
    for group, sides in (("sided", ("left", "right")), ("right_only", ("right",))):
        for name, others in content[group].items():
            spelled += [
                (f"{other}_{side}", f"{name}_{side}") for side in sides for other in (name, *others)
            ]
    ribs = [f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)]
    spelled += [(name, name) for name in ribs]
    spine = (("C", 7), ("T", 12), ("L", 5), ("S", 1))
    for level in (f"{part}{n}" for part, last in spine for n in range(1, last + 1)):
        name = f"vertebrae_{level}"
        spelled += [(name, name), (f"vertebra_{level}", name)]
    spelled += list(content["short"].items())
    known: dict[str, str] = {}
    for other, name in spelled:
        known.setdefault(_key(other), name)
    ambiguous = {_key(name): reason for name, reason in content["ambiguous"].items()}
    return {key: name for key, name in known.items() if key not in ambiguous}, ambiguous
