"""The scans of a table, looked at one by one: what is wrong with each, and a hash of its voxels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Shaped

from voxgraft.datasets.table import Table
from voxgraft.errors import TableError, VolumeError
from voxgraft.volumes import (
    Affine,
    DimensionsError,
    GeometryError,
    MissingScanError,
    VoxelValuesError,
    read_header,
    read_volume,
)

_nib: Any = nibabel  # without types of its own
_KINDS: tuple[tuple[type[VolumeError], str], ...] = (
    (MissingScanError, "missing_file"),
    (DimensionsError, "not_3d"),
    (GeometryError, "geometry"),
    (VoxelValuesError, "voxel_values"),
    (VolumeError, "unreadable_file"),
)


@dataclass(frozen=True)
class Look:
    """What was seen of one scan.

    Attributes:
        case_id: Its case.
        findings: (kind, message, is a notice only), in the order found.
        channels: Number of channels; 0 if the scan cannot be read.
        sha256: Hash of voxels in RAS+ order; without voxels, of the resolved path; empty if the
            scan cannot be read.
        depth: Slices along the first axis; 0 if the scan cannot be read.
    """

    case_id: str
    findings: tuple[tuple[str, str, bool], ...]
    channels: int = 0
    sha256: str = ""
    depth: int = 0


def look_at_images(
    table: Table,
    *,
    read_voxels: bool,
    jobs: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Look]:
    """Look at the scan of each row, ``jobs`` at a time.

    Returns:
        One look a row, in the order of the rows.

    Raises:
        TableError: If ``jobs`` is below 1.
    """
    if jobs < 1:
        raise TableError(f"jobs is {jobs}; expected 1 or more.")
    rows = list(zip(table.case_ids, table.frame["image"], strict=True))
    looks: list[Look] = []
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures: list[Future[Look]] = [
            pool.submit(_look, case_id, table.root, image, read_voxels) for case_id, image in rows
        ]
        try:
            for future in futures:
                looks.append(future.result())
                if on_progress is not None:
                    on_progress(len(looks), len(rows))
        finally:
            pool.shutdown(cancel_futures=True)
    return looks


def voxel_sha256(voxels: Shaped[np.ndarray, "c d h w"], affine: Affine) -> str:
    """Return a hash of voxels that is the same in any file format.

    Axes are permuted and flipped to RAS+ and values taken as float32, so the copy of a scan in
    another format, dtype or storage order has the same hash. Spacing and origin do not count.
    """
    towards = _nib.orientations.io_orientation(affine.to_xyz())
    view = voxels.transpose(0, 3, 2, 1)
    canonical = [_nib.orientations.apply_orientation(channel, towards) for channel in view]
    digest = hashlib.sha256(str([channel.shape for channel in canonical]).encode())
    for channel in canonical:
        for plane in np.moveaxis(channel, 2, 0):
            with np.errstate(over="ignore"):
                values = np.ascontiguousarray(plane, dtype="<f4")
            digest.update((values + np.float32(0.0)).tobytes())
    return digest.hexdigest()


def _look(case_id: str, root: Path, image: str, read_voxels: bool) -> Look:
    if not image:
        return Look(case_id, ())
    path = root / Path(image)
    try:
        if not read_voxels:
            header = read_header(path)
            notes = tuple(("geometry", _sentence(note), True) for note in header.notes)
            place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
            return Look(case_id, notes, header.channels, place, header.shape[0])
        volume = read_volume(path)
    except VolumeError as error:
        kind = next(name for cls, name in _KINDS if isinstance(error, cls))
        return Look(case_id, ((kind, str(error), False),))
    findings = [("geometry", _sentence(note), True) for note in volume.notes]
    low, high = volume.voxels.min(), volume.voxels.max()
    if low == high:
        message = f"All voxels are {float(low):g}: the scan is empty. Check the export."
        findings.append(("constant_voxels", message, True))
    digest = voxel_sha256(volume.voxels, volume.affine)
    return Look(case_id, tuple(findings), volume.channels, digest, volume.shape[0])


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + "."
