"""NRRD and MetaImage files (.nrrd, .nhdr, .mha, .mhd), through SimpleITK."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from voxgraft.errors import VolumeError
from voxgraft.volumes.affine import Affine, check_spacing
from voxgraft.volumes.compressed import check_compressed
from voxgraft.volumes.damage import (
    DAMAGE,
    DimensionsError,
    GeometryError,
    check_finite,
    check_room,
    damaged,
)
from voxgraft.volumes.volume import Header, Volume

_FORMATS = {".nrrd": "nrrd", ".nhdr": "nrrd", ".mha": "mha", ".mhd": "mha"}
_READERS = {"nrrd": "NrrdImageIO", "mha": "MetaImageIO"}
_DETACHED = (".nhdr", ".mhd")


def read_itk(path: Path) -> Volume:
    """Read an NRRD or MetaImage file; vector or color voxels become channels.

    Raises:
        VolumeError: If the file is damaged, not three-dimensional, or its geometry is impossible.
    """
    reader, header = _information(path)
    check_compressed(path)
    try:
        image = reader.Execute()
    except DAMAGE as error:
        raise damaged(path, header.format.upper(), error) from error
    data = _sitk().GetArrayFromImage(image).reshape(*header.shape, header.channels)
    voxels = np.ascontiguousarray(data.transpose(3, 0, 1, 2))
    check_finite(voxels, path)
    return Volume(voxels, header.affine, path)


def read_itk_header(path: Path) -> Header:
    """Read an NRRD or MetaImage header only.

    Raises:
        VolumeError: As :func:`read_itk`, as far as the header shows it.
    """
    return _information(path)[1]


def write_itk(volume: Volume, path: Path) -> None:
    """Write a compressed .nrrd or .mha.

    Raises:
        VolumeError: If the axes are not at right angles, which .mha cannot hold.
    """
    voxels = volume.voxels
    if voxels.dtype == np.bool_:
        voxels = voxels.astype(np.uint8)
    if voxels.dtype.kind == "f" and voxels.dtype.itemsize not in (4, 8):
        voxels = voxels.astype(np.float32 if voxels.dtype.itemsize == 2 else np.float64)
    if not volume.affine.is_orthogonal:
        raise VolumeError(
            f"{path}: the volume's axes are not at right angles, which {path.suffix} cannot hold. "
            "Write .nii.gz or .npz instead, or resample the volume first."
        )
    spacing, origin, direction = volume.affine.to_lps()
    vector = volume.channels > 1
    data = voxels.transpose(1, 2, 3, 0) if vector else voxels[0]
    image = _sitk().GetImageFromArray(np.ascontiguousarray(data), isVector=vector)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel().tolist())
    try:
        _sitk().WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise VolumeError(f"{path}: cannot be written: {' '.join(str(error).split())}") from error


@functools.cache
def _sitk() -> Any:
    """Return SimpleITK, which takes long to import and has no types of its own."""
    import SimpleITK

    sitk: Any = SimpleITK
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def _information(path: Path) -> tuple[Any, Header]:
    kind = _FORMATS[path.suffix.lower()]
    stored = path.stat().st_size
    if stored == 0:
        raise VolumeError(
            f"{path}: the file is empty (0 bytes); expected a {kind.upper()} scan. Copy it again."
        )
    reader = _sitk().ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_READERS[kind])
    try:
        reader.ReadImageInformation()
        size = tuple(int(n) for n in reader.GetSize())
        channels = int(reader.GetNumberOfComponents())
        dtype = _sitk().GetPixelIDValueAsString(reader.GetPixelID())
    except DAMAGE as error:
        raise damaged(path, kind.upper(), error) from error
    if len(size) < 3 or any(n != 1 for n in size[3:]):
        raise DimensionsError(
            f"{path}: has {len(size)} axes with shape {size}; expected a 3D volume (x, y, z). "
            "Save one volume per file: split a time series, or choose one of its volumes."
        )
    if "complex" in dtype:
        raise VolumeError(
            f"{path}: voxels are {dtype}; expected integers or real floats. Save the magnitude."
        )
    if path.suffix.lower() not in _DETACHED:
        check_room(path, int(np.prod(size, dtype=object)) * channels, stored, packed=True)
    affine = _affine(path, reader, len(size))
    return reader, Header((size[2], size[1], size[0]), channels, affine, dtype, kind)


def _affine(path: Path, reader: Any, axes: int) -> Affine:
    direction = np.array(reader.GetDirection()).reshape(axes, axes)[:3, :3]
    spacing = tuple(float(value) for value in reader.GetSpacing()[:3])
    if not all(np.isfinite(value) and value > 0 for value in spacing):
        raise GeometryError(
            f"{path}: spacing (x, y, z) in the header is {spacing} mm; expected three positive "
            "numbers. Correct the voxel size in the file."
        )
    try:
        affine = Affine.from_lps(spacing, reader.GetOrigin()[:3], direction)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    check_spacing(affine.spacing_mm, str(path))
    return affine
