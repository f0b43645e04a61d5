"""What is wrong with a table's masks: missing, on another grid, with unknown values, empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from voxgraft.datasets.mask_classes import CaseMasks, case_masks
from voxgraft.datasets.mask_files import (
    Grid,
    count_beyond,
    count_values,
    grid_fault,
    read_inside,
    read_values,
    shown_counts,
)
from voxgraft.datasets.table import Table
from voxgraft.datasets.target import MASKS
from voxgraft.errors import TableError, VolumeError, listed
from voxgraft.volumes import SCAN_SUFFIXES, MissingScanError, read_header

Finding = tuple[str, str, str, bool]
"""(kind, where, message, is a notice only)."""
_RESAMPLE = "Resample it onto the scan's grid (nearest neighbor), or correct its header."


@dataclass
class _Look:
    """What was seen of one case; findings are (kind, file, message)."""

    case_id: str
    annotated: tuple[str, ...]
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    voxels: dict[str, int] = field(default_factory=dict)
    overlaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    unnamed: list[str] = field(default_factory=list)


def look_at_masks(table: Table, *, read_voxels: bool, jobs: int) -> Iterator[Finding]:
    """Yield what is wrong with the masks of a table; nothing where it has none.

    Args:
        table: Cases.
        read_voxels: Read each mask; otherwise only whether it is there, and its header.
        jobs: Cases looked at side by side; each holds one mask and one label map in memory.

    Yields:
        Faults: masks that are missing, cannot be read, lie on another grid than the scan, or hold
        values that nothing names. Notices: structures and cases without a voxel, structures that
        overlap, files that ``structures.json`` does not name.
    """
    if MASKS not in table.frame:
        return
    try:
        cases = case_masks(table)
    except TableError as error:
        yield (MASKS, "the table", str(error), False)
        cases = _good_rows(table)
    images = dict(zip(table.case_ids, table.frame["image"], strict=True))
    work = [(found, table.root / Path(images[case_id])) for case_id, found in cases.items()]
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            looks = list(pool.map(lambda item: _look(item[0], item[1], read_voxels), work))
        finally:
            pool.shutdown(cancel_futures=True)
    for look in looks:
        yield from _faults(look)
    yield from _unnamed(looks)
    if read_voxels:
        yield from _empty(looks)
        yield from _overlaps(looks)


def _good_rows(table: Table) -> dict[str, CaseMasks]:
    """Return the masks of the cases whose rows can be used."""
    found: dict[str, CaseMasks] = {}
    for position in range(len(table)):
        with suppress(TableError):  # all of them were told together
            found |= case_masks(replace(table, frame=table.frame.iloc[[position]]))
    return found


def _look(found: CaseMasks, image: Path, read_voxels: bool) -> _Look:
    look = _Look(found.case_id, found.annotated)
    scan = _grid(image)
    if found.structures.kind == "label_map":
        _look_at_label_map(look, found, scan, read_voxels)
    elif not found.path.is_dir():
        look.findings.append(
            ("missing_mask", str(found.path), "is no folder; expected one with a mask a structure.")
        )
    else:
        _look_at_folder(look, found, scan, read_voxels)
    return look


def _grid(path: Path) -> Grid | None:
    """Return the grid of a scan; None if it cannot be read, which the scan's own look says."""
    try:
        header = read_header(path)
    except VolumeError:
        return None
    return Grid(header.shape, header.affine)


def _look_at_label_map(look: _Look, found: CaseMasks, scan: Grid | None, read_voxels: bool) -> None:
    path, structures = found.path, found.structures
    values = grid = None
    try:
        if read_voxels:
            values, grid = read_values(path)
        else:
            header = read_header(path)
            grid = Grid(header.shape, header.affine)
    except VolumeError as error:
        look.findings.append((_kind(error), str(path), _bare(error, path)))
        return
    _compare(look, str(path), scan, grid, None if values is None else values != 0)
    if values is None:
        return
    counts = count_values(values)
    known = {value for name in structures.names for value in structures.values(name)}
    odd = {n: c for n, c in counts.items() if n not in {0, *known, *structures.ignored_values}}
    if odd:
        look.findings.append(
            (
                "mask_values",
                str(path),
                f"holds {shown_counts(odd)}, which structures.json does not name. Add the "
                "structure, or list the value in ignored_values.",
            )
        )
    for name in found.annotated:
        look.voxels[name] = sum(counts.get(value, 0) for value in structures.values(name))


def _look_at_folder(look: _Look, found: CaseMasks, scan: Grid | None, read_voxels: bool) -> None:
    structures = found.structures
    here = {path.name for path in found.path.iterdir() if not path.name.startswith(".")}
    named = {file for name in structures.names for file in structures.files(name)}
    look.unnamed = sorted(n for n in here - named if n.lower().endswith(SCAN_SUFFIXES))
    owners: Integer[np.ndarray, "d h w"] | None = None
    for place, name in enumerate(found.annotated):
        missing = [file for file in structures.files(name) if file not in here]
        if missing:
            message = "is not there, but its structure is annotated. Add it, or leave the "
            message += "structure out of this case's `annotated`: it is then unknown."
            look.findings += [("missing_mask", file, message) for file in missing]
            continue
        whole: Bool[np.ndarray, "d h w"] | None = None
        for file in structures.files(name):
            try:
                if not read_voxels:
                    header = read_header(found.path / file)
                    grid = Grid(header.shape, header.affine)
                    _compare(look, file, scan, grid, None)
                    scan = scan or grid
                    continue
                inside, grid = read_inside(found.path / file)
            except VolumeError as error:
                look.findings.append((_kind(error), file, _bare(error, found.path / file)))
                continue
            except TableError as error:
                look.findings.append(("mask_values", file, _bare(error, found.path / file)))
                continue
            _compare(look, file, scan, grid, inside)
            scan = scan or grid
            if inside.shape == scan.shape:
                whole = inside if whole is None else whole | inside
        if whole is None:
            continue
        look.voxels[name] = int(whole.sum())
        if owners is None:
            owners = np.zeros(whole.shape, dtype=np.uint16)
        for owner, count in count_values(owners[whole][None, None]).items() if whole.any() else ():
            if owner:
                look.overlaps[found.annotated[owner - 1], name] += count
        owners[whole & (owners == 0)] = place + 1


def _compare(
    look: _Look, file: str, scan: Grid | None, grid: Grid, inside: Bool[np.ndarray, "d h w"] | None
) -> None:
    if scan is None:
        return
    fault = grid_fault(scan, grid)
    if not fault:
        return
    beyond = 0 if inside is None else count_beyond(inside, grid, scan)
    if inside is not None and beyond:
        fault += f"; {beyond:,} of its {int(inside.sum()):,} voxels lie beyond the scan"
    kind = "mask_beyond_scan" if beyond else "mask_geometry"
    look.findings.append((kind, file, f"{fault}. {_RESAMPLE}"))


def _faults(look: _Look) -> Iterator[Finding]:
    """Yield each fault of a case once, with all the files that it is of."""
    files: dict[tuple[str, str], list[str]] = {}
    for kind, file, message in look.findings:
        files.setdefault((kind, message), []).append(file)
    for (kind, message), names in files.items():
        yield (kind, f"case {look.case_id}", f"{listed(names)}: {message}", False)


def _unnamed(looks: Sequence[_Look]) -> Iterator[Finding]:
    cases: dict[str, list[str]] = {}
    for look in looks:
        for file in look.unnamed:
            cases.setdefault(file, []).append(look.case_id)
    if cases:
        shown = [f"{file} ({len(ids)} case(s))" for file, ids in cases.items()]
        yield (
            "unnamed_mask",
            "folders of masks",
            f"have files that structures.json does not name: {listed(shown)}. They are not read.",
            True,
        )


def _empty(looks: Sequence[_Look]) -> Iterator[Finding]:
    bare = [look.case_id for look in looks if look.voxels and not any(look.voxels.values())]
    if bare:
        yield (
            "empty_mask",
            f"case{'s' * (len(bare) > 1)} {listed(bare)}",
            f"{'have' if len(bare) > 1 else 'has'} no voxel of any structure. Right only if there "
            "is none in the scan.",
            True,
        )
    seen = Counter(name for look in looks for name in look.voxels)
    empty: dict[str, list[str]] = {}
    for look in looks:
        for name, count in look.voxels.items():
            if count == 0:
                empty.setdefault(name, []).append(look.case_id)
    never = [name for name, cases in empty.items() if len(cases) == seen[name]]
    if never:
        yield (
            "empty_mask",
            listed(never),
            "has no voxel in any case that annotates it, so it cannot be learned. Leave it out, or "
            "correct structures.json.",
            True,
        )
    some = sorted((len(cases) / seen[n], n) for n, cases in empty.items() if n not in never)
    if some:
        shown = [
            f"{name} in {len(empty[name])} of {seen[name]} ({listed(empty[name], 2)})"
            for _, name in some
        ]
        yield (
            "empty_mask",
            f"{len(some)} structure{'s' * (len(some) > 1)}",
            f"without a voxel in some cases that annotate them: {listed(shown)}. Right where the "
            "structure is not in the scan; where it was not annotated, leave it out of the case's "
            "`annotated`.",
            True,
        )


def _overlaps(looks: Sequence[_Look]) -> Iterator[Finding]:
    voxels: Counter[tuple[str, str]] = Counter()
    cases: dict[tuple[str, str], list[str]] = {}
    for look in looks:
        for pair, count in look.overlaps.items():
            voxels[pair] += count
            cases.setdefault(pair, []).append(look.case_id)
    if voxels:
        shown = [
            f"{one} and {other} in {count:,} voxels of {listed(cases[one, other], 2)}"
            for (one, other), count in voxels.most_common()
        ]
        yield (
            "overlapping_masks",
            f"{len(voxels)} pair{'s' * (len(voxels) > 1)} of structures",
            f"overlap: {listed(shown)}. Right for parts of a whole (a tumor in its organ): train "
            "on it with an output for each structure. (A voxel of three counts with the first.)",
            True,
        )


def _bare(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _kind(error: VolumeError) -> str:
    return "missing_mask" if isinstance(error, MissingScanError) else "unreadable_mask"
