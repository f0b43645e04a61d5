"""NumPy archives (.npz): an array and, if known, its geometry.

The voxels are the array called ``voxels`` (channels first, or three axes), else ``image`` (three
axes), else the only array that is not geometry (three axes). Geometry is ``affine`` (4, 4), from
(depth, height, width) indices to mm RAS+, or ``spacing_mm`` (depth, height, width), or else 1 mm.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from voxgraft.errors import VolumeError
from voxgraft.types import Size3
from voxgraft.volumes.affine import Affine, check_spacing
from voxgraft.volumes.damage import (
    DAMAGE,
    DimensionsError,
    GeometryError,
    check_finite,
    check_room,
    damaged,
)
from voxgraft.volumes.volume import Header, Volume

_GEOMETRY = ("affine", "spacing_mm")
_NO_GEOMETRY = "the archive has neither 'affine' nor 'spacing_mm': 1 mm voxels in RAS+ are assumed"


def read_npz(path: Path) -> Volume:
    """Read a volume from an .npz archive.

    Raises:
        VolumeError: If the archive is damaged, has no voxels, or its geometry is impossible.
    """
    header, key = _parsed(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = archive[key]
    except DAMAGE as error:
        raise damaged(path, "an .npz archive", error) from error
    data = data.reshape(header.channels, *header.shape)
    voxels = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))
    check_finite(voxels, path)
    return Volume(voxels, header.affine, path, header.notes)


def read_npz_header(path: Path) -> Header:
    """Read shape and geometry of an .npz archive, not its voxels.

    Raises:
        VolumeError: As :func:`read_npz`, as far as the header shows it.
    """
    return _parsed(path)[0]


def write_npz(volume: Volume, path: Path) -> None:
    """Write ``voxels`` (channels, depth, height, width) and ``affine``, compressed."""
    np.savez_compressed(path, voxels=volume.voxels, affine=volume.affine.matrix)


def _parsed(path: Path) -> tuple[Header, str]:
    if path.stat().st_size == 0:
        raise VolumeError(
            f"{path}: the file is empty (0 bytes); expected an .npz scan. Copy it again."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            key = _voxel_key(path, names)
            shape, dtype = _array_header(archive, key)
        with np.load(path, allow_pickle=False) as arrays:
            geometry = {name: arrays[name] for name in _GEOMETRY if name in names}
    except DAMAGE as error:
        raise damaged(path, "an .npz archive", error) from error
    if dtype.kind not in "iufb":
        raise VolumeError(
            f"{path}: array {key!r} has dtype {dtype}; expected integers or real floats."
        )
    size, channels = _grid(path, key, shape)
    needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    check_room(path, needed, path.stat().st_size, packed=True)
    affine, notes = _affine(path, geometry)
    return Header(size, channels, affine, str(dtype), "npz", notes), key


def _voxel_key(path: Path, names: list[str]) -> str:
    candidates = [name for name in names if name not in _GEOMETRY]
    for key in ("voxels", "image"):
        if key in candidates:
            return key
    if len(candidates) == 1:
        return candidates[0]
    found = ", ".join(sorted(candidates)[:12]) or "none"
    raise VolumeError(
        f"{path}: expected one array of voxels called 'image' or 'voxels' (or a single array); "
        f"found {found}. Save it with np.savez_compressed(path, image=..., spacing_mm=...)."
    )


def _array_header(archive: zipfile.ZipFile, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(f"{key}.npy") as handle:
        version = np.lib.format.read_magic(handle)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(handle)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(handle)
    return shape, dtype


def _grid(path: Path, key: str, shape: tuple[int, ...]) -> tuple[Size3, int]:
    channels = 1
    grid = shape
    if len(shape) == 4 and (key == "voxels" or shape[0] == 1):
        channels, grid = shape[0], shape[1:]
    elif len(shape) == 4 and shape[3] == 1:
        grid = shape[:3]
    if len(grid) != 3 or any(n < 1 for n in shape):
        raise DimensionsError(
            f"{path}: array {key!r} has shape {shape}; expected a 3D volume (depth, height, "
            "width). Save one volume per file; several channels go first, under the key 'voxels'."
        )
    return (grid[0], grid[1], grid[2]), channels


def _affine(
    path: Path, geometry: dict[str, Shaped[np.ndarray, "*shape"]]
) -> tuple[Affine, tuple[str, ...]]:
    if not geometry:
        return Affine.from_spacing((1.0, 1.0, 1.0)), (_NO_GEOMETRY,)
    try:
        if "affine" in geometry:
            affine = Affine(geometry["affine"])
        else:
            spacing = np.broadcast_to(geometry["spacing_mm"].astype(np.float64), (3,))
            affine = Affine.from_spacing(spacing.tolist())
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    except (ValueError, TypeError) as error:
        raise GeometryError(
            f"{path}: 'spacing_mm' has shape {geometry['spacing_mm'].shape} and dtype "
            f"{geometry['spacing_mm'].dtype}; expected three numbers (depth, height, width) in mm."
        ) from error
    check_spacing(affine.spacing_mm, str(path))
    return affine, ()
