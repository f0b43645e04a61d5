"""AbdomenAtlas and TotalSegmentator: a folder a case, with a binary mask for each class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from voxgraft.datasets.csv_rows import read_rows
from voxgraft.datasets.importers.class_folders import SPLIT_NAMES
from voxgraft.datasets.importers.segmentation_found import SegmentationFound
from voxgraft.datasets.importers.segmentation_table import (
    SegmentationOptions,
    checked_root,
    finish_segmentation,
    scan_stem,
)
from voxgraft.datasets.structures import ABDOMEN_ATLAS_1_1, SUPREM_HEAD, canonical_name
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError

MASK_FOLDER = "segmentations"
"""Where both keep a case's masks."""
_ATLAS_ORDER = tuple(dict.fromkeys((*ABDOMEN_ATLAS_1_1, *SUPREM_HEAD)))


def import_abdomen_atlas(
    root: Path | str, out_folder: Path | str, options: SegmentationOptions | None = None
) -> Table:
    """Make a table of AbdomenAtlas 1.0 or 1.1: ``BDMAP_.../ct.nii.gz`` and ``segmentations/``.

    Classes are those whose files are there, in the data set's own order; a case without the file
    of a class does not annotate it. Nothing is copied.

    Args:
        root: Folder with a folder a case.
        out_folder: Where ``table.csv`` and ``structures.json`` go.
        options: Names and patients.

    Returns:
        The table.

    Raises:
        TableError: If there are no cases, or cases without a scan or without masks.
    """
    root = checked_root(root, f"BDMAP_xxxxxxxx/ct.nii.gz and BDMAP_xxxxxxxx/{MASK_FOLDER}/")
    found = _case_folders(root, ("ct.nii.gz",))

    def place(name: str) -> tuple[int, str]:
        canonical = canonical_name(name) or name
        known = canonical in _ATLAS_ORDER
        return (_ATLAS_ORDER.index(canonical) if known else len(_ATLAS_ORDER), name)

    found.sources = {name: found.sources[name] for name in sorted(found.sources, key=place)}
    return finish_segmentation(found, out_folder, options or SegmentationOptions())


def import_totalsegmentator(
    root: Path | str, out_folder: Path | str, options: SegmentationOptions | None = None
) -> Table:
    """Make a table of TotalSegmentator's data (v1, v2, CT or MR): ``s0000/ct.nii.gz`` and masks.

    If ``meta.csv`` is there, its columns are kept: ``split`` becomes train, validation or test,
    ``institute`` becomes ``site``. Nothing is copied.

    Args:
        root: Folder with a folder a subject.
        out_folder: Where ``table.csv`` and ``structures.json`` go.
        options: Names and patients.

    Returns:
        The table.

    Raises:
        TableError: If there are no cases, or cases without a scan, without masks, or without a
            row in ``meta.csv``.
    """
    root = checked_root(root, f"s0000/ct.nii.gz and s0000/{MASK_FOLDER}/")
    found = _case_folders(root, ("ct.nii.gz", "mri.nii.gz", "mr.nii.gz"))
    found.sources = {name: found.sources[name] for name in sorted(found.sources, key=_natural)}
    scans = Counter(case["image"].rsplit("/", 1)[-1] for case in found.cases)
    if len(scans) > 1:
        shown = ", ".join(f"{count} {name}" for name, count in scans.most_common())
        found.notices.append(f"CT and MR are in one table: {shown}")
    if (root / "meta.csv").is_file():
        _add_meta(root / "meta.csv", found)
    return finish_segmentation(found, out_folder, options or SegmentationOptions())


def _case_folders(root: Path, image_names: Sequence[str]) -> SegmentationFound:
    found = SegmentationFound(root, "binary_masks")
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        images = [name for name in image_names if (folder / name).is_file()]
        masks = folder / MASK_FOLDER
        if folder.name.startswith(".") or (not images and not masks.is_dir()):
            continue
        classes = _classes(masks) if masks.is_dir() else {}
        if len(images) != 1:
            lack = f"has no {' or '.join(image_names)}"
            if images:
                lack = f"has {' and '.join(images)}; expected one scan"
            found.faults.append((folder.name, lack))
        elif not classes:
            found.faults.append((folder.name, f"has no masks in {MASK_FOLDER}/"))
        else:
            for name, file in classes.items():
                before = found.sources.setdefault(name, (file,))
                if before != (file,):
                    found.faults.append((folder.name, f"has {file}; other cases have {before[0]}"))
            found.present[folder.name] = frozenset(classes)
            found.cases.append(
                {
                    "case_id": folder.name,
                    "image": f"{folder.name}/{images[0]}",
                    "masks": f"{folder.name}/{MASK_FOLDER}",
                }
            )
    if not found.cases and not found.faults:
        raise TableError(
            f"{root}: has no folders with {' or '.join(image_names)} and {MASK_FOLDER}/. Give the "
            "folder that the cases lie in."
        )
    bad = {what for what, _ in found.faults}
    found.cases = [case for case in found.cases if case["case_id"] not in bad]
    return found


def _classes(folder: Path) -> dict[str, str]:
    names = sorted(path.name for path in folder.iterdir())
    return {stem: name for name in names if (stem := scan_stem(name)) is not None}


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(n or 0)) for text, n in re.findall(r"(\D+)(\d*)", name)]


def _add_meta(path: Path, found: SegmentationFound) -> None:
    rows = read_rows(path, "Expected TotalSegmentator's meta.csv with a column image_id.")
    if "image_id" not in rows.header:
        raise TableError(
            f"{path}: has no column image_id; found {', '.join(rows.header)}. Move the file away "
            "to import without it."
        )
    odd = [str(line) for line, row in rows.rows if len(row) != len(rows.header)]
    if odd:
        raise TableError(
            f"{path}: line {', '.join(odd[:5])} has another number of cells than the header "
            f"({len(rows.header)}). Correct the file."
        )
    known = {
        row[rows.header.index("image_id")].strip(): dict(zip(rows.header, row, strict=True))
        for _, row in rows.rows
    }
    absent = [case["case_id"] for case in found.cases if case["case_id"] not in known]
    found.faults += [(case_id, "has no row in meta.csv") for case_id in absent]
    found.cases = [case for case in found.cases if case["case_id"] in known]
    folders = {case["case_id"] for case in found.cases}
    gone = len([case_id for case_id in known if case_id not in folders])
    if gone:
        found.notices.append(f"{gone} row(s) of meta.csv are of no case that is there")
    for case in found.cases:
        for name, cell in known[case["case_id"]].items():
            text = cell.strip()
            if name == "split":
                case["split"] = SPLIT_NAMES.get(text.lower(), text)
            elif name == "institute":
                case["site"] = text
            elif name not in ("image_id", *case):
                case[name] = text
