"""Abdominal challenges without a file that names their labels: BTCV and FLARE (2021, 2022)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from voxgraft.datasets.importers.segmentation_found import SegmentationFound
from voxgraft.datasets.importers.segmentation_table import (
    SegmentationOptions,
    checked_root,
    finish_segmentation,
    scan_stem,
)
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError

BTCV_LABELS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach",
    "aorta", "inferior vena cava", "portal vein and splenic vein", "pancreas",
    "right adrenal gland", "left adrenal gland",
)  # fmt: skip
"""Values 1 to 13 of BTCV's label maps.

Source: Landman et al., Multi-Atlas Labeling Beyond the Cranial Vault, 2015.
"""
FLARE_LABELS = {
    2021: ("liver", "kidney", "spleen", "pancreas"),
    2022: (
        "liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava",
        "right adrenal gland", "left adrenal gland", "gallbladder", "esophagus", "stomach",
        "duodenum", "left kidney",
    ),
}  # fmt: skip
"""Values from 1 of FLARE's label maps, a year; in 2021 both kidneys are one class.

Source: Ma et al., FLARE 2021 (Medical Image Analysis 2022) and FLARE 2022 (Lancet Digital Health
2024).
"""
_BTCV_IMAGE = re.compile(r"img(\d+)")
_CHANNEL = "_0000"


def import_btcv(
    root: Path | str, out_folder: Path | str, options: SegmentationOptions | None = None
) -> Table:
    """Make a table of BTCV's abdomen: ``img/img0001.nii.gz`` and ``label/label0001.nii.gz``.

    The two folders may lie at any depth; scans without a folder ``label`` beside theirs (the
    test set) are passed over. Nothing is copied.

    Args:
        root: Folder at or below which ``img`` and ``label`` lie.
        out_folder: Where ``table.csv`` and ``structures.json`` go.
        options: Names and patients.

    Returns:
        The table; a case is called ``img0001``.

    Raises:
        TableError: If there are no such folders, or scans have no mask or masks no scan.
    """
    root = checked_root(root, "img/img0001.nii.gz and label/label0001.nii.gz")
    found = _found(root, BTCV_LABELS)
    passed = 0
    for inside, files in _folders(root):
        if inside.name != "img":
            continue
        labels_folder = inside.with_name("label")
        scans = {match[1]: n for s, n in files.items() if (match := _BTCV_IMAGE.fullmatch(s))}
        if not (root / labels_folder).is_dir():
            passed += len(scans)
            continue
        labels = dict(_stems(root / labels_folder))
        masks = {stem[5:]: name for stem, name in labels.items() if re.match(r"label\d+$", stem)}
        _pair(found, inside, labels_folder, scans, masks, "img")
    if passed:
        found.notices.append(f"{passed} scan(s) without masks are passed over")
    if not found.cases and not found.faults:
        raise TableError(f"{root}: has no img/ with a label/ beside it. Check the folder.")
    return finish_segmentation(found, out_folder, options or SegmentationOptions())


def import_flare(
    root: Path | str,
    out_folder: Path | str,
    options: SegmentationOptions | None = None,
    *,
    year: int | None = None,
) -> Table:
    """Make a table of FLARE 2021 or 2022: ``..._0000.nii.gz`` and the mask of the same name.

    Scans end in ``_0000``, masks lack it; they may lie in any folders below the root
    (``images`` and ``labels``, ``TrainingImg`` and ``TrainingMask``). Scans without a mask are
    passed over. Nothing is copied.

    Args:
        root: The folder.
        out_folder: Where ``table.csv`` and ``structures.json`` go.
        options: Names and patients.
        year: Which labels there are; None goes by the names (``FLARE22_...``, ``train_000``).

    Returns:
        The table.

    Raises:
        TableError: If the year is not clear, there are no masks, or masks without a scan.
    """
    root = checked_root(root, "FLARE22_Tr_0001_0000.nii.gz and FLARE22_Tr_0001.nii.gz")
    scans: dict[str, list[str]] = {}
    masks: dict[str, list[str]] = {}
    for inside, files in _folders(root):
        for stem, name in files.items():
            path = (inside / name).as_posix()
            if stem.endswith(_CHANNEL):
                scans.setdefault(stem.removesuffix(_CHANNEL), []).append(path)
            else:
                masks.setdefault(stem, []).append(path)
    if not masks or not scans:
        raise TableError(
            f"{root}: has {len(scans)} scans (names that end in {_CHANNEL}) and {len(masks)} "
            "masks. Give the folder that holds both."
        )
    if year not in (None, *FLARE_LABELS):
        raise TableError(f"year is {year}; expected {' or '.join(map(str, FLARE_LABELS))}.")
    found = _found(root, FLARE_LABELS[year or _year(root, masks)])
    for case_id in sorted(masks):
        where = (*scans.get(case_id, ()), *masks[case_id])
        if case_id not in scans:
            found.faults.append((masks[case_id][0], f"has no scan {case_id}{_CHANNEL}"))
        elif len(where) > 2:
            found.faults.append((case_id, f"stands in several places: {', '.join(where)}"))
        else:
            found.cases.append({"case_id": case_id, "image": where[0], "masks": where[1]})
    without = len(set(scans) - set(masks))
    if without:
        found.notices.append(f"{without} scan(s) without masks are passed over")
    return finish_segmentation(found, out_folder, options or SegmentationOptions())


def _year(root: Path, case_ids: dict[str, list[str]]) -> int:
    if all(re.match(r"FLARE22", name, re.IGNORECASE) for name in case_ids):
        return 2022
    if all(re.fullmatch(r"train_\d+", name) for name in case_ids):
        return 2021
    shown = ", ".join(sorted(case_ids)[:3])
    raise TableError(
        f"{root}: which year's labels these are is not clear from the names ({shown}). Say it with "
        "--year (2021: 4 classes, 2022: 13); for other years, use `voxgraft data import masks`."
    )


def _found(root: Path, labels: tuple[str, ...]) -> SegmentationFound:
    return SegmentationFound(root, "label_map", {name: (n,) for n, name in enumerate(labels, 1)})


def _pair(
    found: SegmentationFound,
    images: Path,
    labels: Path,
    scans: dict[str, str],
    masks: dict[str, str],
    prefix: str,
) -> None:
    for key in sorted({*scans, *masks}):
        if key not in masks:
            found.faults.append((f"{images / scans[key]}", f"has no mask in {labels}"))
        elif key not in scans:
            found.faults.append((f"{labels / masks[key]}", f"has no scan in {images}"))
        else:
            found.cases.append(
                {
                    "case_id": f"{prefix}{key}",
                    "image": (images / scans[key]).as_posix(),
                    "masks": (labels / masks[key]).as_posix(),
                }
            )


def _folders(root: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield each folder at or below a root, as a path below it, with its scan files by stem."""
    for name, folders, _ in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        yield Path(name).relative_to(root), dict(_stems(Path(name)))


def _stems(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        stem = scan_stem(path.name)
        if stem is not None and path.is_file():
            yield stem, path.name
