"""Predictions of a table's cases from the files of any tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Bool, Integer

from voxgraft.datasets import Table
from voxgraft.datasets.mask_files import Grid, count_values, grid_fault, read_inside, read_values
from voxgraft.errors import InferenceError, VoxgraftError, raise_faults
from voxgraft.files import content_key, file_sha256
from voxgraft.inference.scoring.class_names import PredictedClasses, structures_of
from voxgraft.inference.scoring.predicted import Predicted, left_out
from voxgraft.inference.scoring.predicted_files import (
    CaseFiles,
    PredictedFolder,
    UntoldClassesError,
    describe_files,
)
from voxgraft.inference.segmented import SegmentedScan, pack_masks
from voxgraft.sliding import labels_on_scan
from voxgraft.volumes import read_header

_LOST_BELOW = 0.5
"""A prediction of the scan's shape that covers less of it has lost its place."""
_ALONG = 9
"""Places along each axis of a scan at which it is asked whether a prediction reaches there."""


class FilePredictions:
    """Predictions that some tool has written.

    Args:
        folder: A label map or a folder a case, see :class:`PredictedFolder`.
        table: The cases.
        needed: Case to the structures that it annotates; cases that annotate none are not looked
            for.
        drawn: Structures that the table has.
        said: What the predictions call their classes.

    Raises:
        InferenceError: If predictions are missing (all are named), or nothing can be scored.
    """

    def __init__(
        self,
        folder: PredictedFolder,
        table: Table,
        needed: Mapping[str, Sequence[str]],
        drawn: Sequence[str],
        said: PredictedClasses,
    ) -> None:
        self._table = table
        self._files, lost = _find_all(folder, table, said)
        if not self._files:
            _raise_lost(folder, lost)
        names = dict.fromkeys(name for files in self._files.values() for name in files.names)
        self._names = structures_of(names, said, drawn)
        self.classes = tuple(self._names)
        lost = {
            case_id: fault
            for case_id, fault in lost.items()
            if set(needed[case_id]) & set(self.classes)
        }
        if lost:
            _raise_lost(folder, lost)
        used = {name for several in self._names.values() for name in several}
        self.notes = left_out(
            [] if said.only else [name for name in names if name not in used],
            [name for name in drawn if name not in self._names],
            by="the tool",
        )
        faults = [
            f"case {case_id!r}: no file of {', '.join(lacking)}"
            for case_id, files in self._files.items()
            if (lacking := self._lacking(files, needed[case_id]))
        ]
        if faults:
            raise_faults(
                InferenceError,
                f"{folder.folder}: predicted classes are missing",
                faults,
                "Each case needs a file for each class that it annotates, an empty mask where the "
                "tool found nothing; or score fewer classes (--classes NAME,NAME).",
            )

    def digest(self, case_id: str) -> str:
        """Return a digest of the files, what they mean, and the scan's grid."""
        files = self._files[case_id]
        header = read_header(self._table.image_path(case_id))
        said = [
            {name: list(values) for name, values in files.values.items()},
            [[name, list(several)] for name, several in self._names.items()],
            [file_sha256(path) for path in files.all_files],
            [list(header.shape), header.affine.matrix.tolist()],
        ]
        return content_key(said)

    def read(self, case_id: str) -> Predicted:
        """Read a case's files, and bring them onto the scan's own grid if they lie on another.

        Raises:
            VolumeError: If a file cannot be read.
            TableError: If a mask holds other values than 0, 1 and 255.
            InferenceError: If a file lies nowhere on the scan, or has negative values.
        """
        files = self._files[case_id]
        header = read_header(self._table.image_path(case_id))
        scan = Grid(header.shape, header.affine)
        notes: dict[str, None] = {}
        if files.path is not None:
            values, grid = read_values(files.path)
            own, moved = _on_scan(values, grid, scan, files.path)
            notes |= dict.fromkeys(moved)
            found, odd = _from_labels(own, files, self._names, scan)
            notes |= dict.fromkeys(odd)
            return Predicted(found, None, tuple(notes))

        def masks() -> Iterator[tuple[int, Bool[np.ndarray, "d h w"]]]:
            for index, names in enumerate(self._names.values()):
                for name in names:
                    if name not in files.files:
                        continue
                    inside, grid = read_inside(files.files[name])
                    mask, moved = _on_scan(inside.view(np.uint8), grid, scan, files.files[name])
                    notes.update(dict.fromkeys(moved))
                    yield index, mask != 0

        packed = pack_masks(masks(), len(self.classes), scan.shape)
        return Predicted(SegmentedScan(self.classes, scan.affine, packed), None, tuple(notes))

    def _lacking(self, files: CaseFiles, annotated: Sequence[str]) -> list[str]:
        wanted = [name for structure in annotated for name in self._names.get(structure, ())]
        return [name for name in dict.fromkeys(wanted) if name not in files.names]


def _find_all(
    folder: PredictedFolder, table: Table, said: PredictedClasses
) -> tuple[dict[str, CaseFiles], dict[str, str]]:
    """Return what was predicted for each case; and why there is nothing for others."""
    found: dict[str, CaseFiles] = {}
    lost: dict[str, str] = {}
    for case_id in table.case_ids:
        try:
            path = folder.find(case_id, table.image_path(case_id))
            if path is None:
                lost[case_id] = "has no prediction"
            else:
                found[case_id] = describe_files(path, said)
        except UntoldClassesError:
            raise
        except VoxgraftError as error:
            lost[case_id] = str(error)
    return found, lost


def _raise_lost(folder: PredictedFolder, lost: Mapping[str, str]) -> NoReturn:
    raise_faults(
        InferenceError,
        f"{folder.folder}: predictions cannot be used",
        [f"case {case_id!r}: {fault}" for case_id, fault in lost.items()],
        "Each case needs a label map or a folder named as the case, or as its scan's file. There "
        f"are: {folder.entries()}. Leave out cases with --split, or predict them.",
    )


def _on_scan(
    values: Integer[np.ndarray, "d h w"], grid: Grid, scan: Grid, path: Path
) -> tuple[Integer[np.ndarray, "d h w"], tuple[str, ...]]:
    """Return labels on the scan's grid, with a note if they lay on another."""
    fault = grid_fault(scan, grid)
    if not fault:
        return values, ()
    places = [np.linspace(0, size - 1, _ALONG) if size > 1 else np.zeros(1) for size in scan.shape]
    there = grid.affine.to_index(scan.affine.to_world(np.array(list(product(*places)))))
    inside = (there >= -0.5 - 1e-3) & (there <= np.asarray(grid.shape) - 0.5 + 1e-3)
    share = float(inside.all(axis=1).mean())
    if share == 0:
        raise InferenceError(
            f"{path}: {fault}; it lies nowhere on the scan. Its header is wrong: write predictions "
            "with the affine of their scan."
        )
    if share < _LOST_BELOW and grid.shape == scan.shape:
        raise InferenceError(
            f"{path}: {fault}; it has as many voxels as the scan but covers only "
            f"{100 * share:.0f}% of it. Its header is wrong: write predictions with the affine of "
            "their scan."
        )
    moved = labels_on_scan(values, grid.affine, scan.shape, scan.affine)
    part = "" if share == 1 else f", of which it covers {100 * share:.0f}%"
    text = f"predicted on another grid than the scan's; brought there by world position{part}"
    return moved, (text,)


def _from_labels(
    values: Integer[np.ndarray, "d h w"],
    files: CaseFiles,
    names: Mapping[str, Sequence[str]],
    scan: Grid,
) -> tuple[SegmentedScan, tuple[str, ...]]:
    """Return the structures of a label map, and a note of values that are of no class."""
    counts = count_values(values)
    if min(counts) < 0:
        raise InferenceError(f"{files.path}: has the value {min(counts)}; expected 0 or more.")
    known = {value for several in files.values.values() for value in several}
    strange = [value for value in counts if value and value not in known]
    notes: tuple[str, ...] = ()
    if strange:
        text = ", ".join(map(str, strange[:8])) + (", …" if len(strange) > 8 else "")
        notes = (f"values that are of no class, taken for background: {text}",)
    wanted = [
        {value for name in several for value in files.values.get(name, ())}
        for several in names.values()
    ]
    classes = tuple(names)
    if sum(map(len, wanted)) > len(set().union(*wanted)):
        masks = ((k, np.isin(values, list(several))) for k, several in enumerate(wanted))
        packed = pack_masks(masks, len(classes), scan.shape)
        return SegmentedScan(classes, scan.affine, packed), notes
    lookup = np.zeros(max(counts) + 1, np.uint8 if len(classes) < 256 else np.int16)
    for k, several in enumerate(wanted):
        for value in several:
            if value < len(lookup):
                lookup[value] = k + 1
    return SegmentedScan(classes, scan.affine, lookup[values]), notes
