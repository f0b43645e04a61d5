"""A segmented scan as a folder of files that Voxgraft's importers and viewers read."""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path

import numpy as np

from voxgraft.datasets.mask_classes import Structures, write_structures
from voxgraft.errors import InferenceError
from voxgraft.inference.segmented import SegmentedScan
from voxgraft.sliding import PackedMasks
from voxgraft.volumes import LabelMap, write_volume

COMBINED, NAMES, MASKS = "combined_labels.nii.gz", "labels.json", "segmentations"
"""Files and folder that a segmented scan is written to."""


def write_segmented(scan: SegmentedScan, folder: Path, *, each: bool = False) -> list[Path]:
    """Write ``combined_labels.nii.gz`` and ``labels.json``, the folder whole or not at all.

    ``labels.json`` says what the values mean, in the form of a ``structures.json``. Structures
    that may overlap have no common label map: then there is ``segmentations/<class>.nii.gz`` for
    each, and ``labels.json`` names those files.

    Args:
        scan: What was found.
        folder: A new or empty folder; its parents are made.
        each: Write ``segmentations/<class>.nii.gz`` in any case.

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
    if each or overlapping:
        _check_names(scan.classes)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InferenceError(
            f"{folder} is there already and not empty; expected a new folder. Give another, or "
            "remove it."
        )
    building = folder.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{folder.name}")
    try:
        building.mkdir(parents=True)
        written = [NAMES]
        if isinstance(scan.found, PackedMasks):
            meaning = Structures("binary_masks", {name: (files[name],) for name in scan.classes})
        else:
            values = {name: (index + 1,) for index, name in enumerate(scan.classes)}
            meaning = Structures("label_map", values)
            dtype = np.uint8 if len(scan.classes) < 256 else np.int16
            labels = LabelMap(scan.found.astype(dtype, copy=False), scan.affine)
            write_volume(labels, building / COMBINED)
            written.append(COMBINED)
        write_structures(meaning, building / NAMES)
        if each or overlapping:
            (building / MASKS).mkdir()
            for index, name in enumerate(scan.classes):
                mask = LabelMap(scan.mask(index).astype(np.uint8), scan.affine)
                write_volume(mask, building / MASKS / files[name])
                written.append(f"{MASKS}/{files[name]}")
        building.replace(folder)
    except OSError as error:
        raise InferenceError(
            f"{folder}: cannot be written: {error.strerror or error}. Check the folder, its "
            "permissions and the space left."
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return [folder / name for name in written]


def _check_names(classes: tuple[str, ...]) -> None:
    odd = [name for name in classes if not re.fullmatch(r"[\w+()-][\w.+()-]*", name)]
    folded = [name.casefold() for name in classes]
    odd += [name for name in classes if folded.count(name.casefold()) > 1 and name not in odd]
    if odd:
        raise InferenceError(
            f"classes {', '.join(map(repr, odd))} cannot have a file each: expected names of "
            "letters, digits and _ . + - ( ), that differ in more than case. Write the combined "
            "label map alone, or rename the classes."
        )
