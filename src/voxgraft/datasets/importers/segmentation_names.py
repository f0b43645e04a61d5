"""Which structures the classes of a data set are, and which of them each case annotates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voxgraft.datasets.importers.segmentation_found import SegmentationFound
from voxgraft.datasets.mask_classes import Structures
from voxgraft.datasets.structures import NamedClasses, canonical_name, name_classes
from voxgraft.errors import TableError, raise_faults


def name_structures(found: SegmentationFound, chosen: Mapping[str, tuple[str, ...]]) -> Structures:
    """Give a data set's classes their names; what should be read of that becomes notices.

    Args:
        found: The data set; cases in which a class's file is spelled otherwise than in the others
            become faults, and their classes go.
        chosen: Names that a person chose, before any list.

    Raises:
        TableError: If names cannot be given, or a structure's files lie together in no case.
    """
    _one_spelling(found, chosen)
    named = name_classes(found.sources, chosen)
    sources: dict[str, tuple[Any, ...]] = {}
    for name, values in found.sources.items():
        for structure in named.names[name]:
            sources[structure] = (*sources.get(structure, ()), *values)
    ordered = {name: tuple(dict.fromkeys(values)) for name, values in sources.items()}
    _tell_names(named, found.notices)
    if found.kind == "binary_masks":
        ordered = _complete_somewhere(found, ordered)
    return Structures(found.kind, ordered, found.ignored_values)


def annotated_cell(case_id: str, found: SegmentationFound, structures: Structures) -> str:
    """Return a case's cell of the column ``annotated``; empty if it has all structures."""
    if found.kind == "label_map":
        return ""
    files = _files(case_id, found)
    names = [name for name in structures.names if set(structures.files(name)) <= files]
    return "" if len(names) == len(structures.names) else " ".join(names)


def _files(case_id: str, found: SegmentationFound) -> set[int | str]:
    return {
        file
        for name in found.present[case_id]
        if name in found.sources
        for file in found.sources[name]
    }


def _one_spelling(found: SegmentationFound, chosen: Mapping[str, tuple[str, ...]]) -> None:
    """Make faults of cases whose file of a class has another name than in most cases."""
    if found.kind != "binary_masks":
        return
    spellings: dict[str, list[str]] = {}
    for name in found.sources:
        if name not in chosen:
            key = canonical_name(name) or "_".join(name.split())
            spellings.setdefault(key.casefold(), []).append(name)
    for names in (names for names in spellings.values() if len(names) > 1):
        owners = {n: [case for case, own in found.present.items() if n in own] for n in names}
        everywhere = [case for cases in owners.values() for case in cases]
        if len(set(everywhere)) < len(everywhere):
            continue  # one case has both: they are different classes, or name_classes refuses them
        usual = max(names, key=lambda name: len(owners[name]))
        for name in (name for name in names if name != usual):
            (mine,), (theirs,) = found.sources.pop(name), found.sources[usual]
            for case in owners[name]:
                found.faults.append(
                    (case, f"has {mine!r}; other cases have {theirs!r}. Rename the file")
                )
    bad = {what for what, _ in found.faults}
    found.cases = [case for case in found.cases if case["case_id"] not in bad]


def _complete_somewhere(
    found: SegmentationFound, sources: dict[str, tuple[Any, ...]]
) -> dict[str, tuple[Any, ...]]:
    """Return the structures that a case that is left annotates; unions of files must be one."""
    cases = [_files(case["case_id"], found) for case in found.cases]
    if not cases:
        return sources
    lost = [name for name, files in sources.items() if not any(set(files) <= own for own in cases)]
    parts = [f"{name}: {', '.join(sources[name])}" for name in lost if len(sources[name]) > 1]
    if parts:
        raise_faults(
            TableError,
            f"{found.root}: structures of several files, which no case has together",
            parts,
            "A case annotates a structure if it has all its files. Correct the name map, or give "
            "files of one class one name.",
        )
    if lost:
        found.notices.append(f"only cases that are left out annotate {', '.join(lost)}")
    return {name: files for name, files in sources.items() if name not in lost}


def _tell_names(named: NamedClasses, notices: list[str]) -> None:
    if named.ambiguous:
        shown = ", ".join(f"{name!r} ({reason})" for name, reason in named.ambiguous.items())
        notices.append(
            f"ambiguous names are kept as they are: {shown}. A name map (--name-map) can say more"
        )
    if named.unknown:
        notices.append(f"names that no list has are kept as they are: {_quoted(named.unknown)}")


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
