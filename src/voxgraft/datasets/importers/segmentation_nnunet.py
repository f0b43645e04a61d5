"""nnU-Net's raw folders and the Medical Segmentation Decathlon: ``dataset.json`` and label maps."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from voxgraft.datasets.importers.dataset_json import (
    DatasetJson,
    chosen_channel,
    read_dataset_json,
)
from voxgraft.datasets.importers.segmentation_found import SegmentationFound
from voxgraft.datasets.importers.segmentation_table import (
    SegmentationOptions,
    checked_root,
    finish_segmentation,
    scan_stem,
)
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError

_FOLDERS = (("imagesTr", "labelsTr", "train"), ("imagesTs", "labelsTs", "test"))


def import_nnunet(
    root: Path | str,
    out_folder: Path | str,
    options: SegmentationOptions | None = None,
    *,
    channel: str | None = None,
) -> Table:
    """Make a table of an nnU-Net raw folder, version 1 or 2; nothing is copied.

    Regions (a class that is a list of values) may overlap; a class called ``ignore`` becomes the
    values where nothing is known. Scans in ``imagesTs`` are taken if ``labelsTs`` has their masks;
    then there is a column ``split`` with train and test.

    Args:
        root: Folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``.
        out_folder: Where ``table.csv`` and ``structures.json`` go.
        options: Names and patients.
        channel: Name or number of the channel; needed if there are several.

    Returns:
        The table.

    Raises:
        TableError: If ``dataset.json`` cannot be used, or scans have no mask or masks no scan.
    """
    root = checked_root(root, "dataset.json, imagesTr/ and labelsTr/")
    said = read_dataset_json(root / "dataset.json")
    number = chosen_channel(said, channel)
    if scan_stem(f"case{said.file_ending}") is None:
        raise TableError(
            f"{said.path}: file_ending is {said.file_ending!r}, which is no format of volumes. "
            "Convert the images to .nii.gz."
        )
    found = _found(root, said)
    listed = said.content.get("dataset")
    if isinstance(listed, dict) and listed:
        _add_listed(found, listed, number)
    else:
        _add_folders(found, said.file_ending, number)
    return finish_segmentation(found, out_folder, options or SegmentationOptions())


def import_msd(
    root: Path | str, out_folder: Path | str, options: SegmentationOptions | None = None
) -> Table:
    """Make a table of a task of the Medical Segmentation Decathlon; nothing is copied.

    Cases are those that ``dataset.json`` lists under ``training``; its test scans have no masks.

    Args:
        root: Folder such as ``Task03_Liver``, with ``dataset.json``.
        out_folder: Where ``table.csv`` and ``structures.json`` go.
        options: Names and patients.

    Returns:
        The table.

    Raises:
        TableError: If ``dataset.json`` cannot be used, scans have several channels, or files are
            not there.
    """
    root = checked_root(root, "dataset.json, imagesTr/ and labelsTr/")
    said = read_dataset_json(root / "dataset.json")
    if len(said.channels) > 1:
        raise TableError(
            f"{said.path}: scans have {len(said.channels)} channels ({', '.join(said.channels)}) "
            "in one 4D file; a case has one 3D scan. Save a file a channel (nnU-Net's converter "
            "does), then import it as nnunet with --channel."
        )
    training = said.content.get("training")
    if not isinstance(training, list) or not training:
        raise TableError(
            f'{said.path}: lists no cases under "training". If the scans are called '
            "..._0000.nii.gz, it is nnU-Net's: `voxgraft data import nnunet`."
        )
    found = _found(root, said)
    for n, item in enumerate(training):
        paths = [_inside(item.get(key)) for key in ("image", "label")] if _is_pair(item) else []
        if not paths or "" in paths:
            found.faults.append((f"training[{n}]", f"is {item!r}; expected an image and a label"))
            continue
        stem = scan_stem(PurePosixPath(paths[0]).name)
        _add(found, stem or PurePosixPath(paths[0]).name, *paths)
    tests = said.content.get("test")
    if isinstance(tests, list) and tests:
        found.notices.append(f"{len(tests)} test scan(s) without masks are passed over")
    return finish_segmentation(found, out_folder, options or SegmentationOptions())


def _found(root: Path, said: DatasetJson) -> SegmentationFound:
    return SegmentationFound(root, "label_map", dict(said.labels), said.ignored_values)


def _is_pair(item: Any) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(k), str) for k in ("image", "label"))


def _inside(text: str) -> str:
    return text.replace("\\", "/").removeprefix("./")


def _add(found: SegmentationFound, case_id: str, image: str, masks: str, split: str = "") -> None:
    gone = [path for path in (image, masks) if not (found.root / path).exists()]
    if gone:
        found.faults.append((case_id, f"{' and '.join(gone)} not there"))
        return
    case = {"case_id": case_id, "image": image, "masks": masks}
    found.cases.append({**case, "split": split} if split else case)


def _add_listed(found: SegmentationFound, listed: dict[str, Any], number: int) -> None:
    for case_id, item in listed.items():
        images = item.get("images") if isinstance(item, dict) else None
        label = item.get("label") if isinstance(item, dict) else None
        if not isinstance(images, list) or len(images) <= number or not isinstance(label, str):
            found.faults.append((case_id, f"is {item!r}; expected images and a label"))
            continue
        _add(found, case_id, _inside(str(images[number])), _inside(label))


def _add_folders(found: SegmentationFound, ending: str, number: int) -> None:
    kept = [part for part in _FOLDERS if any(_stems(found.root / part[1], ending))]
    if not kept or kept[0][2] != "train":
        raise TableError(
            f"{found.root}: labelsTr has no files with the ending {ending}; expected a label map a "
            "case. Check file_ending in dataset.json."
        )
    scans = [stem for part in kept for stem in _stems(found.root / part[0], ending)]
    if scans and not any(re.search(r"_\d{4}$", stem) for stem in scans):
        raise TableError(
            f"{found.root}: no scan's name ends in a channel, as case_0000{ending}; the first is "
            f"{scans[0]}{ending}. A task of the Medical Segmentation Decathlon is imported with "
            "`voxgraft data import msd`."
        )
    for image_folder, label_folder, split in kept:
        channels: dict[str, dict[int, str]] = {}
        for stem in _stems(found.root / image_folder, ending):
            match = re.fullmatch(r"(.+)_(\d{4})", stem)
            if match is None:
                found.faults.append((f"{image_folder}/{stem}{ending}", "has no _0000 in its name"))
            else:
                channels.setdefault(match[1], {})[int(match[2])] = f"{image_folder}/{stem}{ending}"
        labels = set(_stems(found.root / label_folder, ending))
        for case_id in sorted(labels | set(channels)):
            image = channels.get(case_id, {}).get(number)
            if case_id not in labels:
                found.faults.append((case_id, f"has no mask in {label_folder}"))
            elif image is None:
                found.faults.append((case_id, f"has no channel _{number:04d} in {image_folder}"))
            else:
                side = split if len(kept) > 1 else ""
                _add(found, case_id, image, f"{label_folder}/{case_id}{ending}", side)
    if len(kept) == 1:
        count = len({stem[:-5] for stem in _stems(found.root / "imagesTs", ending)})
        if count:
            found.notices.append(f"{count} test scan(s) without masks are passed over")


def _stems(folder: Path, ending: str) -> list[str]:
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.iterdir())
    return [n[: -len(ending)] for n in names if n.endswith(ending) and not n.startswith(".")]
