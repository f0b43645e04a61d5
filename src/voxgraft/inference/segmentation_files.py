"""A segmented scan as a folder of files that Voxgraft's importers and viewers read."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from voxgraft.datasets.mask_classes import Structures, write_structures
from voxgraft.errors import InferenceError
from voxgraft.inference.nifti_files import LABEL, slabs_of, write_on_scan
from voxgraft.inference.probabilities import BACKGROUND, Probabilities, write_probabilities
from voxgraft.inference.segmented import SegmentedScan
from voxgraft.sliding import PackedMasks

COMBINED, NAMES, MASKS = "combined_labels.nii.gz", "labels.json", "segmentations"
"""Files and folder that a segmented scan is written to."""
PROBABILITIES = "probabilities"
"""Folder of the probabilities."""


def write_segmented(
    scan: SegmentedScan,
    folder: Path,
    *,
    each: bool = False,
    probabilities: Probabilities | None = None,
    finish: Callable[[Path], Sequence[str]] | None = None,
    replace: bool = False,
) -> list[Path]:
    """Write ``combined_labels.nii.gz`` and ``labels.json``, the folder whole or not at all.

    ``labels.json`` says what the values mean, in the form of a ``structures.json``. Structures
    that may overlap have no common label map: then there is ``segmentations/<class>.nii.gz`` for
    each, and ``labels.json`` names those files.

    Args:
        scan: What was found.
        folder: A new or empty folder; its parents are made.
        each: Write ``segmentations/<class>.nii.gz`` in any case.
        probabilities: Kept while the scan was segmented: write ``probabilities/<class>.nii.gz``,
            and ``background.nii.gz`` where structures exclude each other.
        finish: Writes more files into the folder that is being made; returns their names.
        replace: Replace a folder that has something in it, once the new one is whole.

    Returns:
        The files.

    Raises:
        InferenceError: If the folder has something in it, or cannot be written, or the class
            names cannot be names of files.
        TableError: If the class names cannot be names of structures.
        VolumeError: If a file cannot be written.
    """
    overlapping = isinstance(scan.found, PackedMasks)
    files = {name: f"{name}.nii.gz" for name in scan.classes}
    if each or overlapping or probabilities is not None:
        _check_names(scan.classes, taken=probabilities is not None)
    if not replace and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InferenceError(
            f"{folder} is there already and not empty; expected a new folder. Give another, or "
            "remove it."
        )
    building = folder.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{folder.name}")
    old = building.with_name(f"{building.name}-old")
    try:
        building.mkdir(parents=True)
        written = [NAMES]
        if isinstance(scan.found, PackedMasks):
            meaning = Structures("binary_masks", {name: (files[name],) for name in scan.classes})
        else:
            values = {name: (index + 1,) for index, name in enumerate(scan.classes)}
            meaning = Structures("label_map", values)
            dtype = np.uint8 if len(scan.classes) < 256 else np.int16
            _write_labels(scan, scan.found, building / COMBINED, dtype, "labels")
            written.append(COMBINED)
        write_structures(meaning, building / NAMES)
        if each or overlapping:
            (building / MASKS).mkdir()
            for index, name in enumerate(scan.classes):
                _write_labels(
                    scan, scan.mask(index), building / MASKS / files[name], np.uint8, name
                )
                written.append(f"{MASKS}/{files[name]}")
        if probabilities is not None:
            (building / PROBABILITIES).mkdir()
            made = write_probabilities(
                probabilities,
                building / PROBABILITIES,
                scan.classes,
                scan.shape,
                scan.affine,
                like=scan.path,
            )
            written += [f"{PROBABILITIES}/{name}" for name in made]
        if finish is not None:
            written += finish(building)
        if replace and folder.exists():
            folder.replace(old)
        building.replace(folder)
    except OSError as error:
        raise InferenceError(
            f"{folder}: cannot be written: {error.strerror or error}. Check the folder, its "
            "permissions and the space left."
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return [folder / name for name in written]


def _write_labels(
    scan: SegmentedScan, labels: Shaped[np.ndarray, "d h w"], path: Path, dtype: Any, name: str
) -> None:
    write_on_scan(
        path,
        slabs_of(labels, dtype),
        scan.shape,
        dtype,
        scan.affine,
        like=scan.path,
        intent=LABEL,
        name=name,
    )


def _check_names(classes: tuple[str, ...], *, taken: bool) -> None:
    odd = [name for name in classes if not re.fullmatch(r"[\w+()-][\w.+()-]*", name)]
    odd += [name for name in classes if taken and name.casefold() == BACKGROUND]
    folded = [name.casefold() for name in classes]
    odd += [name for name in classes if folded.count(name.casefold()) > 1 and name not in odd]
    if odd:
        raise InferenceError(
            f"classes {', '.join(map(repr, odd))} cannot have a file each: expected names of "
            "letters, digits and _ . + - ( ), that differ in more than case, and none that is "
            "'background' beside probabilities. Write the combined label map alone, or rename the "
            "classes."
        )
