"""What a path is that is no checkpoint: a run, a comparison, a scan, a table, a recipe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from shlex import quote

from voxgraft.cli.inspect_run import Found, inspect_comparison, inspect_run
from voxgraft.errors import TableError, UsageError, VolumeError, VoxgraftError
from voxgraft.files import read_json

_TABLES = (".csv", ".tsv", ".parquet")
_WANTED = (
    "Give a checkpoint, the folder of a training or a comparison, a scan, a DICOM folder or a "
    "table of cases."
)


def inspect_path(path: Path) -> Found | None:
    """Say what a path is; None if it may be a checkpoint.

    Raises:
        VoxgraftError: If it is damaged, or nothing that Voxgraft reads.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise UsageError(f"{path} does not exist. {_WANTED}")
    name = path.name.lower()
    if name.endswith(_TABLES):
        return _table(path)
    if name.endswith((".yaml", ".yml")):
        return _settings(path)
    if name.endswith(".json"):
        raise UsageError(f"{path} is a JSON file; give the folder that it stands in. {_WANTED}")
    if name.endswith(_scan_suffixes()):
        return _scan(path, "a scan")
    if name.endswith((".dcm", ".ima")):
        raise UsageError(f"{path} is one DICOM file; give the folder of its series, {path.parent}.")
    return None


def checkpoint_in(folder: Path) -> Path | None:
    """Return the weights in the folder of a network that was saved beside its card."""
    beside = (folder / "model.safetensors", folder / "card.json")
    return beside[0] if all(path.is_file() for path in beside) else None


def _folder(folder: Path) -> Found | None:
    if (folder / "recipe.yaml").is_file():
        return inspect_run(folder)
    if (folder / "comparison.json").is_file() or (
        (folder / "plan.yaml").is_file() and (folder / "runs").is_dir()
    ):
        return inspect_comparison(folder)
    if checkpoint_in(folder) is not None:
        return None
    if (folder / "made_from.json").is_file():
        return _segmented(folder)
    entries = sorted(path.name for path in folder.iterdir())
    inside = [path for path in sorted(folder.iterdir()) if (path / "recipe.yaml").is_file()]
    if inside:
        rows = [[path.name, (path / "result.json").is_file()] for path in inside]
        facts = {"kind": "a folder of trainings", "trainings": len(inside)}
        return Found(facts, [("runs", ["folder", "finished"], rows)], "inspect one of them")
    reason = ""
    if any((folder / name).is_file() for name in entries):
        try:
            return _scan(folder, "a DICOM series")
        except VolumeError as error:
            if "no DICOM image" not in str(error):
                reason = f" What DICOM there is cannot be read: {error}"
    more = ", ..." if len(entries) > 6 else ""
    what = f"a folder with {', '.join(entries[:6])}{more}" if entries else "an empty folder"
    data_set = " `voxgraft data import` makes a table of a data set's folder." if entries else ""
    raise UsageError(f"{folder} is {what}: no run, comparison or scan.{reason} {_WANTED}{data_set}")


def _segmented(folder: Path) -> Found:
    try:
        made = read_json(folder / "made_from.json")
    except ValueError as error:
        raise VoxgraftError(f"{folder}/made_from.json is no JSON ({error}).") from error
    facts = {"kind": "a segmented scan", "scan": made.get("scan"), "run": made.get("run")}
    facts |= {"files": sorted(made.get("files", {}))}
    rows = [[name, round(ml, 3)] for name, ml in made.get("volumes_ml", {}).items()]
    return Found(facts, [("structures", ["structure", "volume_ml"], rows)])


def _scan(path: Path, kind: str) -> Found:
    from voxgraft.volumes import read_header

    header = read_header(path)
    facts = {
        "kind": kind,
        "format": header.format,
        "voxels": " × ".join(map(str, header.shape)) + " (depth × height × width)",
        "channels": header.channels,
        "spacing_mm": " × ".join(f"{value:.4g}" for value in header.affine.spacing_mm),
        "orientation": header.affine.orientation,
        "dtype": header.dtype,
        "notes": list(header.notes),
    }
    return Found(facts, hint=f"`voxgraft predict RUN {quote(str(path))}` predicts it")


def _table(path: Path) -> Found:
    from voxgraft.datasets import case_masks, read_table
    from voxgraft.datasets.target import MASKS

    try:
        table = read_table(path)
    except TableError as error:
        raise UsageError(
            f"{path} is no table of cases: {error} A table of cases has the columns case_id, "
            "patient_id and image (docs/data.md)."
        ) from error
    splits = [[name, len(table.split(name)), len(table.split(name).patients)]
              for name in table.splits]  # fmt: skip
    facts = {
        "kind": "a table of cases",
        "cases": len(table),
        "patients": len(table.patients),
        "columns": [str(column) for column in table.frame.columns],
    }
    tables = [("splits", ["split", "cases", "patients"], splits)] if splits else []
    if MASKS in table.frame:
        drawn = Counter(name for found in case_masks(table).values() for name in found.annotated)
        rows = [[name, count] for name, count in drawn.items()]
        tables.append(("structures", ["structure", "cases that annotate it"], rows))
    return Found(facts, tables, f"`voxgraft data check {quote(str(path))}` examines it")


def _settings(path: Path) -> Found:
    from voxgraft.recipes import read_yaml

    found, named = read_yaml(path), quote(str(path))
    if "starts" in found:
        facts = {"kind": "the plan of a comparison", "settings": list(found)}
        return Found(facts, hint=f"`voxgraft compare {named} --dry-run` says what it would do")
    if "target" in found:
        facts = {"kind": "the recipe of a training", "settings": list(found)}
        return Found(facts, hint=f"`voxgraft finetune {named} --dry-run` says what it would do")
    raise UsageError(f"{path} is neither recipe nor plan: it has {', '.join(map(str, found))}.")


def _scan_suffixes() -> tuple[str, ...]:
    from voxgraft.volumes import SCAN_SUFFIXES

    return tuple(suffix for suffix in SCAN_SUFFIXES if suffix != ".npz")
