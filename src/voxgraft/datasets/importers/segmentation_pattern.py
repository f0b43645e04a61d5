"""Any scans with masks, found by two patterns of paths."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from voxgraft.datasets.importers.dataset_json import parse_labels
from voxgraft.datasets.importers.segmentation_found import SegmentationFound
from voxgraft.datasets.importers.segmentation_table import (
    SegmentationOptions,
    checked_root,
    finish_segmentation,
    scan_stem,
)
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError

_CASE = "{case}"
_LABELS = "Say what values mean: --labels liver=1,spleen=2, or a YAML or JSON file (name: value)."


def import_masks(
    root: Path | str,
    out_folder: Path | str,
    options: SegmentationOptions | None = None,
    *,
    images: str,
    masks: str,
    labels: Mapping[str, Any] | str | None = None,
) -> Table:
    """Make a table of any scans with masks; nothing is copied.

    In both patterns ``{case}`` is the case's name and ``*`` is anything without ``/``. If masks
    are files, they are label maps; if they are folders, each holds a binary mask a class.

    Args:
        root: Folder at which paths start.
        out_folder: Where ``table.csv`` and ``structures.json`` go.
        options: Names and patients.
        images: Such as ``"scans/{case}.nii.gz"``, or a folder with a DICOM series a case.
        masks: Such as ``"labels/{case}_seg.nii.gz"`` or ``"{case}/segmentations"``.
        labels: Class to value or values, ``"liver=1,spleen=2"``, or a YAML or JSON file; for label
            maps.

    Returns:
        The table.

    Raises:
        TableError: If patterns match nothing, or one thing twice, masks have no scan, or it is not
            said what their values mean.
    """
    root = checked_root(root, "a folder with scans and masks")
    images, masks = (_below(root, pattern) for pattern in (images, masks))
    paths = sorted(_paths(root))
    scans = _matches(paths, images, "images", root)
    marks = _matches(paths, masks, "masks", root)
    folders = {case for case, where in marks.items() if (root / where[0]).is_dir()}
    if folders and len(folders) < len(marks):
        file = next(where[0] for case, where in marks.items() if case not in folders)
        raise TableError(
            f"{root}: masks pattern {masks!r} matches folders and files ({file}). Make it narrower."
        )
    found = SegmentationFound(root, "binary_masks" if folders else "label_map")
    if not folders:
        found.sources, found.ignored_values = _parsed(labels, root)
    elif labels is not None:
        raise TableError("labels are of label maps; in folders of masks, files name the classes.")
    for case_id in sorted(marks):
        where = (*scans.get(case_id, ()), *marks[case_id])
        if case_id not in scans:
            found.faults.append((marks[case_id][0], f"has no scan {images} for {case_id!r}"))
        elif where[0] == where[-1]:
            found.faults.append((where[0], "is scan and mask at once; the patterns are too wide"))
        elif len(where) > 2:
            why = f"matches several paths: {', '.join(where)}"
            if len(marks[case_id]) > 1:
                why += ". If each is a class, name the folder that they are in"
            found.faults.append((case_id, why))
        elif _add_classes(found, case_id, where[1]):
            found.cases.append({"case_id": case_id, "image": where[0], "masks": where[1]})
    without = len(set(scans) - set(marks))
    if without:
        found.notices.append(f"{without} scan(s) without masks are passed over")
    return finish_segmentation(found, out_folder, options or SegmentationOptions())


def _add_classes(found: SegmentationFound, case_id: str, folder: str) -> bool:
    """Note the classes of a case's folder; False if it cannot be used."""
    if found.kind == "label_map":
        return True
    names = sorted(path.name for path in (found.root / folder).iterdir())
    files = {stem: name for name in names if (stem := scan_stem(name)) is not None}
    other = [
        f"{name} (other cases have {found.sources[stem][0]})"
        for stem, name in files.items()
        if found.sources.setdefault(stem, (name,)) != (name,)
    ]
    if other or not files:
        found.faults.append((case_id, f"has {', '.join(other)}" if other else "has no masks"))
        return False
    found.present[case_id] = frozenset(files)
    return True


def _paths(root: Path) -> list[str]:
    """Return all visible files and folders below a root, with ``/``."""
    found = []
    for name, folders, files in os.walk(root):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        here = Path(name).relative_to(root)
        seen = [*folders, *(file for file in files if not file.startswith("."))]
        found += [(here / item).as_posix() for item in seen]
    return found


def _matches(paths: list[str], pattern: str, what: str, root: Path) -> dict[str, list[str]]:
    if _CASE not in pattern:
        raise TableError(f"{what} pattern {pattern!r} has no {_CASE}, the place of a case's name.")
    parts = re.split(r"(\{case\}|\*)", pattern.strip("/"))
    seen = False
    text = ""
    for part in parts:
        if part == _CASE:
            text += "(?P=case)" if seen else "(?P<case>[^/]+?)"
            seen = True
        else:
            text += "[^/]*" if part == "*" else re.escape(part)
    found: dict[str, list[str]] = {}
    for path in paths:
        match = re.fullmatch(text, path)
        if match is not None:
            found.setdefault(match["case"], []).append(path)
    if not found:
        files = [path for path in paths if scan_stem(path.rsplit("/", 1)[-1]) is not None]
        near = difflib.get_close_matches(pattern, files, n=1, cutoff=0.0)
        there = f"There is, for example, {near[0]}." if near else "No scan files lie below it."
        raise TableError(f"{root}: {what} pattern {pattern!r} matches nothing. {there}")
    return found


def _below(root: Path, pattern: str) -> str:
    """Return a pattern as it is below the root, if it was given from the file system's."""
    for start in (f"{root.as_posix()}/", f"{root.resolve().as_posix()}/"):
        if pattern.startswith("/") and pattern.startswith(start):
            return pattern.removeprefix(start)
    return pattern


def _parsed(
    labels: Mapping[str, Any] | str | None, root: Path
) -> tuple[dict[str, tuple[int, ...] | tuple[str, ...]], tuple[int, ...]]:
    if labels is None:
        raise TableError(f"{root}: masks are label maps. {_LABELS}")
    where = "labels"
    if isinstance(labels, str):
        path = Path(labels)
        if "=" in labels and not path.is_file():
            pairs = [part.partition("=") for part in labels.split(",")]
            content: Any = {name.strip(): value.strip() for name, _, value in pairs}
        else:
            where = labels
            try:
                content = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise TableError(f"{path}: cannot be read: {error}. {_LABELS}") from error
    else:
        content = dict(labels)
    if isinstance(content, dict) and isinstance(content.get("labels"), dict):
        content = content["labels"]
    if not isinstance(content, dict):
        raise TableError(f"{where}: holds no names and values. {_LABELS}")
    found, ignored = parse_labels(content, where)
    return dict(found), ignored
