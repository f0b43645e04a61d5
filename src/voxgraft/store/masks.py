"""The masks of a table, brought once onto the grids of its stored volumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxgraft.datasets import CaseMasks, Table, case_masks, structure_names
from voxgraft.errors import StoreError, VolumeError, raise_faults
from voxgraft.files import content_key, write_json
from voxgraft.store.entry import Entry
from voxgraft.store.fingerprint import Fingerprints
from voxgraft.store.make import make_all
from voxgraft.store.make_masks import MASKS_VERSION, MaskOrder, make_masks, samples_path
from voxgraft.store.prepared import Prepared
from voxgraft.store.prepared_masks import PreparedMasks, StoredMasks
from voxgraft.store.volume_store import (
    FORMAT_VERSION,
    Count,
    Progress,
    in_order,
    remove_abandoned,
    whole_entry,
)
from voxgraft.transforms.preprocess import PREPROCESSING_VERSION, Preprocessing

_GEOMETRY = ("spacing_mm", "resize_voxels", "size_voxels")
_MAX_CLASSES = 2**15 - 2


@dataclass
class _Case:
    """A case on its way into the store."""

    found: CaseMasks
    annotated: tuple[str, ...]
    file: str = ""
    entry: Entry | None = None
    fault: str = ""


def prepare_masks(
    table: Table,
    classes: Sequence[str],
    prepared: Prepared,
    *,
    folder: Path | str | None = None,
    jobs: int = 1,
    verify: bool = True,
    on_progress: Progress | None = None,
) -> PreparedMasks:
    """Bring masks onto the grids of stored volumes, where they are not in the store yet.

    A file of masks is named by the content of the scan and of its masks, the meaning of their
    values and the classes; its folder by what decides the grid. So whatever changes, nothing stale
    is read. Several processes may prepare into one folder at once; what is damaged is made again.

    Args:
        table: Scans with masks.
        classes: Structures, in the order of their labels.
        prepared: The stored volumes of (at least) the table's cases.
        folder: For the masks; None is beside the stored volumes.
        jobs: Processes that work side by side; 1 works in this one.
        verify: Whether stored masks are read and checked now.
        on_progress: Told (done, total) as masks are checked or made, from this thread.

    Returns:
        The stored masks.

    Raises:
        StoreError: If masks cannot be read or do not fit their scans: all of them are named,
            after the others were made. Or if the folder cannot be written.
        TableError: If the table has no masks, or a class is no structure of it.
    """
    names = _checked(table, classes, prepared, jobs)
    found = case_masks(table)
    cases = [
        _Case(each, tuple(name for name in names if name in each.annotated))
        for each in found.values()
    ]
    settings = _settings(prepared.preprocessing)
    place = prepared.folder.parent if folder is None else Path(folder)
    place = place / f"masks-{content_key(settings)}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "masks.json").exists():
            write_json(place / "masks.json", settings)
        remove_abandoned(place)
        fingerprints = Fingerprints(place / "files.json")
        done = Count(len(cases), on_progress)

        def look_up(case: _Case) -> _Case:
            _look_up(case, names, prepared, place, fingerprints, verify)
            return case

        with ThreadPoolExecutor(max_workers=min(jobs, 8)) as threads:
            for case in in_order(threads, look_up, cases):
                done.add(int(bool(case.entry or case.fault)))
        fingerprints.save()
        _make_missing(cases, table, names, prepared, place, jobs, done)
    except OSError as error:
        raise StoreError(
            f"the store {place} cannot be used: {error.strerror or error}. Check its permissions "
            "and the space on its disk, or choose another folder."
        ) from error
    faulty = [case for case in cases if case.fault]
    if faulty:
        raise_faults(
            StoreError,
            f"the masks of {len(faulty)} of {len(cases)} cases cannot be prepared",
            [f"case {case.found.case_id!r}: {case.fault}" for case in faulty],
            "Mend these masks or take the cases out of the table, and prepare again; the other "
            f"{len(cases) - len(faulty)} are ready and are not made again.",
        )
    return PreparedMasks(
        place,
        names,
        {case.found.case_id: _stored(case) for case in cases},
        np.array([[name in case.annotated for name in names] for case in cases], dtype=bool),
    )


def _checked(
    table: Table, classes: Sequence[str], prepared: Prepared, jobs: int
) -> tuple[str, ...]:
    if jobs < 1:
        raise StoreError(f"jobs is {jobs}. Expected the number of processes, at least 1.")
    names = tuple(classes)
    twice = [name for name, count in Counter(names).items() if count > 1]
    faults = [f"class {name!r} is named twice" for name in twice]
    known = structure_names(table)
    absent = [name for name in names if name not in known]
    faults += [f"class {name!r} is no structure of the table" for name in absent]
    if not 1 <= len(names) <= _MAX_CLASSES:
        faults.append(f"there are {len(names)} classes, expected 1 to {_MAX_CLASSES}")
    faults += [
        f"case {case_id!r} has no stored volume"
        for case_id in table.case_ids
        if case_id not in prepared.cases
    ]
    if faults:
        raise_faults(
            StoreError,
            "these masks cannot be prepared",
            faults,
            f"Structures of the table are {', '.join(known)}; its volumes are prepared first.",
        )
    return names


def _settings(preprocessing: Preprocessing) -> dict[str, object]:
    """Return what decides the grids."""
    every = preprocessing.to_dict()
    return {
        "format": FORMAT_VERSION,
        "version": MASKS_VERSION,
        "preprocessing_version": PREPROCESSING_VERSION,
        **{name: every[name] for name in _GEOMETRY},
    }


def _look_up(
    case: _Case,
    names: tuple[str, ...],
    prepared: Prepared,
    folder: Path,
    fingerprints: Fingerprints,
    verify: bool,
) -> None:
    """Find out a case's file in the store, and whether a whole one is there."""
    structures = case.found.structures
    sources = {name: structures.sources[name] for name in case.annotated}
    files = [case.found.path] if case.annotated else []
    if structures.kind == "binary_masks":
        files = [case.found.path / file for name in sources for file in structures.files(name)]
    absent = [str(path) for path in files if not path.is_file()]
    if absent:
        case.fault = f"{', '.join(absent)} does not exist. Expected a file of masks."
        return
    try:
        content = [fingerprints.of(path) for path in files]
    except VolumeError as error:
        case.fault = str(error)
        return
    meaning = {
        "scan": prepared.cases[case.found.case_id].file,
        "kind": structures.kind,
        "classes": list(names),
        "sources": {name: list(found) for name, found in sources.items()},
        "others": sorted(value for found in structures.sources.values() for value in found)
        if structures.kind == "label_map"
        else [],
        "ignored": list(structures.ignored_values),
        "files": content,
    }
    case.file = f"{content_key(meaning)}{content_key([meaning, 2])}.masks"
    if whole_entry(samples_path(folder / case.file), verify) is not None:
        case.entry = whole_entry(folder / case.file, verify)


def _make_missing(
    cases: list[_Case],
    table: Table,
    names: tuple[str, ...],
    prepared: Prepared,
    folder: Path,
    jobs: int,
    done: Count,
) -> None:
    """Make what is not there; cases with the same scan and masks share a file."""
    by_file: dict[str, list[_Case]] = {}
    for case in cases:
        if case.entry is None and not case.fault:
            by_file.setdefault(case.file, []).append(case)
    orders = []
    for file, sharing in by_file.items():
        case_id = sharing[0].found.case_id
        orders.append(
            MaskOrder(
                case_id=case_id,
                image=sharing[0].found.path,
                table=table.where(table.frame["case_id"] == case_id),
                classes=names,
                annotated=sharing[0].annotated,
                target=folder / file,
                preprocessing=prepared.preprocessing,
                shape=prepared.shape(case_id)[1:],
                affine=prepared.affine(case_id),
            )
        )
    for order, fault in make_all(orders, jobs, make_masks):
        sharing = by_file[order.target.name]
        for case in sharing:
            case.fault = fault
            if not fault:
                case.entry = whole_entry(order.target, verify=False)
        done.add(len(sharing))


def _stored(case: _Case) -> StoredMasks:
    entry = case.entry
    assert entry is not None
    return StoredMasks(case.file, entry.shape, entry.encoding)
