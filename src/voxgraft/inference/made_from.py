"""What a segmented scan's folder was made from, so that an interrupted call can be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voxgraft.files import file_sha256, read_json, scan_sha256, write_json
from voxgraft.inference.post_processing import Cleaning
from voxgraft.runs import RunFolder, TrainedSegmentation
from voxgraft.types import Json

RECORD = "made_from.json"
"""In a segmented scan's folder: the scan, the run and the settings, with digests of all files."""


def record_of(
    run: TrainedSegmentation,
    scan: Path,
    *,
    cleaning: Cleaning | Mapping[str, Cleaning] | None,
    each: bool,
    dicom: bool,
    probabilities: bool,
) -> Json:
    """Return what a scan's folder is made from, as JSON.

    Args:
        run: A trained segmentation.
        scan: File or DICOM folder; its bytes are read.
        cleaning: Of the structures.
        each: Whether each structure has a file.
        dicom: Whether there is a DICOM SEG.
        probabilities: Whether there are probabilities.

    Raises:
        OSError: If the scan cannot be read.
    """
    classes = run.recipe.target.classes
    rules = cleaning if isinstance(cleaning, Mapping) else dict.fromkeys(classes, cleaning)
    return {
        "scan": str(scan),
        "scan_sha256": scan_sha256(scan),
        "run": str(run.folder),
        "weights_sha256": _weights(run),
        "structures": list(classes),
        "cleaning": {name: vars(rule) for name, rule in rules.items() if rule is not None},
        "each": each,
        "dicom_seg": dicom,
        "probabilities": probabilities,
    }


def write_record(made: Json, volumes_ml: Mapping[str, float], folder: Path) -> None:
    """Write the record beside a scan's files, with their digests.

    Args:
        made: As :func:`record_of` gives it.
        volumes_ml: Of the structures.
        folder: With all its files.
    """
    digests = {name: file_sha256(folder / name) for name in _files(folder)}
    write_json(folder / RECORD, made | {"volumes_ml": dict(volumes_ml), "files": digests})


def kept_volumes(made: Json, folder: Path) -> dict[str, float] | str:
    """Return the volumes of a folder that is whole and made from just this.

    Args:
        made: As :func:`record_of` gives it.
        folder: That is there already.

    Returns:
        ml by structure; or in words why the folder cannot be kept.
    """
    try:
        found = read_json(folder / RECORD)
    except (OSError, ValueError):
        return f"holds something that was not segmented here (no {RECORD})"
    digests = found.get("files") if isinstance(found, dict) else None
    if not isinstance(digests, dict) or "volumes_ml" not in found:
        return f"has a damaged {RECORD}"
    names = ("scan_sha256", "weights_sha256", *(key for key in made if "sha256" not in key))
    places = ("scan", "run")  # where they lay, not what they are
    other = [name for name in names if name not in places and found.get(name) != made[name]]
    if other:
        return f"was made from another {' and '.join(_said(name) for name in other)}"
    if sorted(digests) != _files(folder):
        return "has other files than it was made with"
    damaged = [name for name, digest in digests.items() if file_sha256(folder / name) != digest]
    if damaged:
        return f"has changed files: {', '.join(damaged[:3])}"
    return {str(name): float(ml) for name, ml in found["volumes_ml"].items()}


def _said(name: str) -> str:
    words = {"scan_sha256": "scan", "weights_sha256": "run", "structures": "list of structures"}
    return words.get(name, f"setting of {name}")


def _files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found if path.name != RECORD)


def _weights(run: TrainedSegmentation) -> str:
    path = RunFolder(run.folder).weights_path
    return file_sha256(path) if path.is_file() else ""
