"""MedMNIST3D archives (.npz): small volumes with labels and an official split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Integer, Shaped

from voxgraft.datasets.importers.folder import ImportFolder, Progress, run_jobs
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError, raise_faults
from voxgraft.files import file_sha256
from voxgraft.volumes import Affine, Volume, write_volume

CLASS_NAMES = {
    "organmnist3d": (
        "liver",
        "kidney-right",
        "kidney-left",
        "femur-right",
        "femur-left",
        "bladder",
        "heart",
        "lung-right",
        "lung-left",
        "spleen",
        "pancreas",
    ),
    "nodulemnist3d": ("benign", "malignant"),
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "fracturemnist3d": (
        "buckle rib fracture",
        "nondisplaced rib fracture",
        "displaced rib fracture",
    ),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "synapsemnist3d": ("inhibitory synapse", "excitatory synapse"),
}
"""Names of the labels 0, 1, … of the published archives, by the start of the file name."""
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_DAMAGE = (OSError, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError)


def import_medmnist(
    path: Path | str,
    out_folder: Path | str,
    *,
    spacing_mm: float = 1.0,
    classes: Sequence[str] | None = None,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> Table:
    """Make a table of a MedMNIST3D archive, at 28, 64 or any other size.

    Writes ``images/CASE.nii.gz`` and ``table.csv``. Columns: ``label`` (the number in the archive),
    ``label_name``, and ``split``, the official one (``val`` becomes ``validation``). MedMNIST has
    no patient ids, so each case is a patient of its own: where one patient gave several cases,
    intervals come out too narrow. It has no voxel sizes and orientations either: ``spacing_mm``
    and RAS+ are assumed.

    Args:
        path: The ``.npz`` file.
        out_folder: Folder for images and table.
        spacing_mm: Voxel size to write.
        classes: Names of the labels 0, 1, …; None takes the published ones by the file's name.
        jobs: Images written at the same time.
        on_progress: Called with (done, total).

    Returns:
        The table.

    Raises:
        TableError: If the archive is no MedMNIST3D one; all faults are named.

    Source:
        Yang et al., Scientific Data 2023, doi 10.1038/s41597-022-01721-8 (format, splits, labels).
    """
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path}: no such file. Expected a MedMNIST3D .npz archive.")
    affine = Affine.from_spacing((spacing_mm,) * 3)
    names = tuple(classes) if classes is not None else _published_names(path)
    settings = {
        "importer": "medmnist",
        "version": 1,
        "archive_sha256": file_sha256(path),
        "spacing_mm": float(spacing_mm),
        "classes": list(names),
    }
    folder = ImportFolder(out_folder, settings)
    table = folder.finished()
    if table is not None:
        return table
    arrays = _arrays(path)
    rows: list[dict[str, Any]] = []
    todo: list[tuple[Path, Shaped[np.ndarray, "d h w"]]] = []
    for split, written in _SPLITS.items():
        images, labels = arrays[split]
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            case_id = f"{split}_{number:05d}"
            name = f"images/{case_id}.nii.gz"
            rows.append(
                {
                    "case_id": case_id,
                    "patient_id": case_id,
                    "image": name,
                    "label": int(label),
                    "label_name": _name(path, names, int(label)),
                    "split": written,
                }
            )
            todo.append((folder.path / name, image))

    def work(item: tuple[Path, Shaped[np.ndarray, "d h w"]]) -> None:
        if not item[0].exists():
            write_volume(Volume(item[1][None], affine), item[0])

    run_jobs(work, todo, jobs, on_progress)
    summary = {"cases": len(rows), "patients": "unknown: each case counts as one"}
    return folder.finish(pd.DataFrame(rows), summary)


def _published_names(path: Path) -> tuple[str, ...]:
    stem = path.stem.lower()
    return next((names for start, names in CLASS_NAMES.items() if stem.startswith(start)), ())


def _name(path: Path, names: tuple[str, ...], label: int) -> str:
    if not names:
        return f"class {label}"
    if not 0 <= label < len(names):
        raise TableError(
            f"{path}: has the label {label}, but {len(names)} class names ({', '.join(names)}). "
            "Name all classes."
        )
    return names[label]


def _arrays(
    path: Path,
) -> dict[str, tuple[Shaped[np.ndarray, "n d h w"], Integer[np.ndarray, " n"]]]:
    wanted = [f"{split}_{what}" for split in _SPLITS for what in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds a single array")
            found = list(archive.files)
            arrays = {key: archive[key] for key in wanted if key in found}
    except _DAMAGE as error:
        raise TableError(
            f"{path}: cannot be read as an .npz archive: {error}. Download it again."
        ) from error
    missing = [key for key in wanted if key not in arrays]
    if missing:
        raise TableError(
            f"{path}: is no MedMNIST archive: arrays {', '.join(missing)} are missing; found "
            f"{', '.join(found) or 'none'}. Expected {', '.join(wanted)}."
        )
    faults = [
        fault
        for split in _SPLITS
        for fault in _faults(split, arrays[f"{split}_images"], arrays[f"{split}_labels"])
    ]
    if len({arrays[f"{split}_images"].shape[1:] for split in _SPLITS}) > 1:
        faults.append("the splits have images of different shapes")
    if faults:
        raise_faults(
            TableError,
            f"{path}: is no MedMNIST3D archive",
            faults,
            "Expected images (cases, depth, height, width) and one label a case.",
        )
    return {
        split: (
            arrays[f"{split}_images"],
            arrays[f"{split}_labels"].reshape(-1).astype(np.int64),
        )
        for split in _SPLITS
    }


def _faults(
    split: str, images: Shaped[np.ndarray, "*images"], labels: Shaped[np.ndarray, "*labels"]
) -> list[str]:
    faults = []
    if images.ndim != 4:
        what = " (a 2D archive)" if images.ndim == 3 else ""
        faults.append(f"{split}_images has shape {images.shape}{what}, expected four axes")
    if images.dtype.kind not in "iuf" or images.size == 0:
        faults.append(f"{split}_images has dtype {images.dtype} and {images.size} voxels")
    elif not np.isfinite(images).all():
        faults.append(f"{split}_images has NaN or infinite voxels")
    if labels.size != len(labels) or labels.dtype.kind not in "iu":
        faults.append(
            f"{split}_labels has shape {labels.shape} and dtype {labels.dtype}, expected one "
            "whole number a case"
        )
    if images.ndim and len(images) != len(labels):
        faults.append(f"{split} has {len(images)} images and {len(labels)} labels")
    return faults
