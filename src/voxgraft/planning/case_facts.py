"""What one scan with masks is like: grid, values, and the sizes of its structures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, Real
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from scipy import ndimage

from voxgraft.datasets import Masks, Table, read_masks
from voxgraft.errors import TableError
from voxgraft.store.fingerprint import scan_files
from voxgraft.transforms.geometry import orient
from voxgraft.types import Json, Size3, Spacing3
from voxgraft.volumes import Volume, read_header, read_volume

SAMPLE = 5000
"""Most voxels of a case's structures whose values are kept."""
_LOOKED_AT = 50_000
"""Most voxels of a whole scan whose values are looked at."""


@dataclass(frozen=True, kw_only=True)
class StructureFacts:
    """One structure of one case; lengths are those of the scan's grid, turned to RAS+.

    Attributes:
        voxels: On the scan's own grid; 0 where it is annotated and absent.
        volume_ml: In milliliters.
        extent_mm: Edges of its bounding box, (depth, height, width).
        chord_mm: Mean length of the straight runs of voxels through it along (depth, height,
            width): the edges of a box, two thirds of the diameter of a ball, the thickness of a
            plate.
        value: Median of its values in the first channel.
    """

    voxels: int
    volume_ml: float = 0.0
    extent_mm: Spacing3 = (0.0, 0.0, 0.0)
    chord_mm: Spacing3 = (0.0, 0.0, 0.0)
    value: float = math.nan


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """One case.

    Attributes:
        shape: (depth, height, width) after turning to RAS+, in voxels.
        spacing_mm: Likewise.
        channels: Of the scan.
        modality: As a DICOM header says it (``"CT"``); empty where there is none.
        whole: Whether all values that were looked at are whole numbers.
        lowest: 0.1 percentile of the first channel.
        highest: 99.9 percentile of the first channel.
        layers: Label maps that the structures need; more than one where they overlap.
        values: For each channel, values within the structures, evenly drawn, ascending.
        mean: For each channel, mean within the structures; exact.
        mean_square: For each channel, mean of the squares; exact.
        structures: Structures that the case annotates.
    """

    shape: Size3
    spacing_mm: Spacing3
    channels: int
    modality: str
    whole: bool
    lowest: float
    highest: float
    layers: int
    values: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...]
    mean_square: tuple[float, ...]
    structures: Mapping[str, StructureFacts]

    def to_dict(self) -> Json:
        """Return the facts as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Json) -> CaseFacts:
        """Read what :meth:`to_dict` gave."""
        plain = dict(data)
        for name in ("shape", "spacing_mm"):
            plain[name] = tuple(plain[name])
        for name in ("mean", "mean_square"):
            plain[name] = tuple(math.nan if value is None else value for value in plain[name])
        plain["values"] = tuple(tuple(channel) for channel in plain["values"])
        plain["structures"] = {
            name: StructureFacts(
                voxels=facts["voxels"],
                volume_ml=facts["volume_ml"],
                extent_mm=tuple(facts["extent_mm"]),
                chord_mm=tuple(facts["chord_mm"]),
                value=math.nan if facts["value"] is None else facts["value"],
            )
            for name, facts in plain["structures"].items()
        }
        return cls(**plain)


def look_at_case(table: Table, case_id: str, names: Sequence[str]) -> CaseFacts:
    """Read one case and measure it.

    One scan and its masks are in memory, and little beside them.

    Args:
        table: Scans with masks.
        case_id: A case.
        names: Structures to measure, of those that the case annotates.

    Raises:
        TableError: If the masks cannot be used, or a value of the scan is NaN or infinite.
        VolumeError: If a file cannot be read.
    """
    path = table.image_path(case_id)
    scan = orient(read_volume(path))
    if scan.voxels.dtype.kind == "f" and not np.isfinite(scan.voxels).all():
        raise TableError(
            f"case {case_id!r}: {path}: holds values that are NaN or infinite. Mend the file, or "
            "leave the case out."
        )
    if names:
        masks = read_masks(table, case_id, names)
        layers = orient(Volume(masks.layers, masks.affine)).voxels
        structures = _structures(masks, layers, scan)
    else:
        layers, structures = np.zeros((1, *scan.shape), dtype=np.uint8), {}
    values, mean, mean_square = _values(scan, layers)
    step = max(1, scan.voxels[0].size // _LOOKED_AT)
    seen = np.asarray(scan.voxels[0].reshape(-1)[::step], dtype=np.float64)
    lowest, highest = np.percentile(seen, [0.1, 99.9])
    return CaseFacts(
        shape=scan.shape,
        spacing_mm=scan.spacing_mm,
        channels=scan.channels,
        modality=_modality(path),
        whole=bool((seen == np.round(seen)).all()),
        lowest=float(lowest),
        highest=float(highest),
        layers=len(layers),
        values=values,
        mean=mean,
        mean_square=mean_square,
        structures=structures,
    )


def mean_chords(mask: Bool[np.ndarray, "d h w"]) -> Spacing3:
    """Return the mean length of the runs of voxels through a mask along each axis, in voxels.

    Args:
        mask: Not empty.
    """
    count = int(mask.sum())
    chords = []
    for axis in range(3):
        along = np.moveaxis(mask, axis, 0)
        runs = int(along[0].sum()) + int((along[1:] & ~along[:-1]).sum())
        chords.append(count / runs)
    return chords[0], chords[1], chords[2]


def _structures(
    masks: Masks, layers: Integer[np.ndarray, "layers d h w"], scan: Volume
) -> dict[str, StructureFacts]:
    spacing = scan.spacing_mm
    boxes = [ndimage.find_objects(np.ascontiguousarray(layer)) for layer in layers]
    found: dict[str, StructureFacts] = {}
    for name in masks.annotated:
        layer, value = masks.places[name]
        box = boxes[layer][value - 1] if value <= len(boxes[layer]) else None
        if box is None:
            found[name] = StructureFacts(voxels=0)
            continue
        mask = layers[layer][box] == value
        count = int(mask.sum())
        inside = scan.voxels[0][box][mask]
        edges = [(part.stop - part.start) * mm for part, mm in zip(box, spacing, strict=True)]
        chords = [n * mm for n, mm in zip(mean_chords(mask), spacing, strict=True)]
        found[name] = StructureFacts(
            voxels=count,
            volume_ml=count * math.prod(spacing) / 1000,
            extent_mm=(edges[0], edges[1], edges[2]),
            chord_mm=(chords[0], chords[1], chords[2]),
            value=float(np.median(inside[:: -(-count // SAMPLE)])),
        )
    return found


def _values(
    scan: Volume, layers: Integer[np.ndarray, "layers d h w"]
) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...], tuple[float, ...]]:
    """Return an even sample, the mean and the mean square within the structures, by channel."""
    total = sum(int(layers[:, plane].any(axis=0).sum()) for plane in range(scan.shape[0]))
    if not total:
        return ((),) * scan.channels, (math.nan,) * scan.channels, (math.nan,) * scan.channels
    step = -(-total // SAMPLE)
    drawn: list[Real[np.ndarray, "c n"]] = []
    sums = np.zeros((2, scan.channels))
    before = 0
    for plane in range(scan.shape[0]):
        inside = scan.voxels[:, plane][:, layers[:, plane].any(axis=0)].astype(np.float64)
        sums += inside.sum(axis=1), np.square(inside).sum(axis=1)
        drawn.append(inside[:, -before % step :: step])
        before += inside.shape[1]
    sample = np.sort(np.concatenate(drawn, axis=1), axis=1)
    means = (sums / total).tolist()
    return tuple(tuple(channel) for channel in sample.tolist()), tuple(means[0]), tuple(means[1])


def _modality(path: Path) -> str:
    if read_header(path).format != "dicom":
        return ""
    for file in scan_files(path):
        try:
            read: Any = dcmread(file, stop_before_pixels=True, specific_tags=["Modality"])
        except InvalidDicomError:
            continue  # a file beside the series
        said = str(read.get("Modality", ""))
        if said:
            return said
    return ""
