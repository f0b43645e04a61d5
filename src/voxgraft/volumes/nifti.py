"""NIfTI-1 and NIfTI-2 files (.nii, .nii.gz), through nibabel."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

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

_MILLIMETERS = {"meter": 1000.0, "micron": 0.001}
_VECTOR_INTENT = 1007
_SCANNER = 1
"""Code for scanner coordinates; with it ITK takes the sform, whose rounding is the smaller one."""
_RGB = ("R", "G", "B", "A")


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file; a compressed one is read to its end, so that its checksum is tested.

    Raises:
        VolumeError: If the file is damaged, not three-dimensional, or its geometry is impossible.
    """
    with _opened(path) as (stream, packed):
        image, header = _parsed(path, stream, packed)
        try:
            raw = np.asanyarray(image.dataobj)
            while stream.read(1 << 20):
                pass
        except DAMAGE as error:
            raise damaged(path, "NIfTI", error) from error
    voxels = _channels_first(raw, header)
    scaled = image.dataobj.slope != 1 or image.dataobj.inter != 0
    if scaled and voxels.dtype == np.float64:
        voxels = voxels.astype(np.float32)
    check_finite(voxels, path)
    return Volume(voxels, header.affine, path, header.notes)


def read_nifti_header(path: Path) -> Header:
    """Read a NIfTI file's header only.

    Raises:
        VolumeError: As :func:`read_nifti`, as far as the header shows it.
    """
    with _opened(path) as (stream, packed):
        return _parsed(path, stream, packed)[1]


def write_nifti(volume: Volume, path: Path) -> None:
    """Write NIfTI-1; several channels become the fifth axis, as ITK stores vectors."""
    voxels = _storable(volume.voxels)
    data = voxels[0].T if volume.channels == 1 else voxels.transpose(3, 2, 1, 0)[:, :, :, None, :]
    matrix = volume.affine.to_xyz()
    nib = _nibabel()
    build = nib.Nifti1Image if max(data.shape) <= np.iinfo(np.int16).max else nib.Nifti2Image
    image = build(data, matrix, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    if volume.channels > 1:
        image.header.set_intent(_VECTOR_INTENT)
    image.set_sform(matrix, code=_SCANNER)
    if volume.affine.is_orthogonal:
        image.set_qform(matrix, code=_SCANNER)
    with path.open("wb") as handle:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=handle, mtime=0) as packed:
                packed.write(image.to_bytes())
        else:
            handle.write(image.to_bytes())


def _nibabel() -> Any:
    """Return nibabel, which takes long to import and has no types of its own."""
    import nibabel

    return nibabel


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a file by its first bytes, not by its suffix: people rename .nii and .nii.gz."""
    with path.open("rb") as handle:
        start = handle.read(4)
        handle.seek(0)
        if not start:
            raise VolumeError(
                f"{path}: the file is empty (0 bytes); expected a NIfTI scan. Copy it again."
            )
        if start[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=handle, mode="rb") as stream:
                yield cast(BinaryIO, stream), True
        else:
            yield cast(BinaryIO, handle), False


def _parsed(path: Path, stream: BinaryIO, packed: bool) -> tuple[Any, Header]:
    nib = _nibabel()
    try:
        start = stream.read(348)
        stream.seek(0)
        if start[344:348] in (b"ni1\0", b"ni2\0"):
            raise VolumeError(
                f"{path}: is the header of a NIfTI pair (.hdr/.img); expected one .nii file. "
                "Convert the pair to .nii.gz."
            )
        second = start[4:8] == b"n+2\0"
        if not second and start[344:348] != b"n+1\0":
            raise VolumeError(
                f"{path}: is not NIfTI: neither 'n+1' nor 'n+2' stands where the format has it "
                f"({len(start)} bytes of header read). The file is truncated or of another format."
            )
        kind = nib.Nifti2Image if second else nib.Nifti1Image
        spacing = _stated_spacing(path, kind.header_class.from_fileobj(stream, check=False))
        stream.seek(0)
        image = kind.from_stream(stream)
        needed = int(np.prod([int(n) for n in image.shape], dtype=object))
        check_room(path, needed * image.get_data_dtype().itemsize, path.stat().st_size, packed)
        return image, _header(path, image, spacing)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise damaged(path, "NIfTI", error) from error
    except DAMAGE as error:
        raise damaged(path, "NIfTI", error) from error


def _stated_spacing(path: Path, header: Any) -> list[float]:
    """Return pixdim x, y, z as written: nibabel's own check would turn -1 into 1."""
    spacing = [float(value) for value in header["pixdim"][1:4]]
    axes = min(3, int(header["dim"][0]))
    if not all(np.isfinite(value) and value > 0 for value in spacing[:axes]):
        raise GeometryError(
            f"{path}: spacing in the header (pixdim x, y, z) is {tuple(spacing)} mm; expected "
            "three positive numbers. Correct the voxel size in the file."
        )
    return spacing


def _header(path: Path, image: Any, spacing: list[float]) -> Header:
    dtype = image.get_data_dtype()
    shape, channels = _grid(path, image.shape, dtype)
    affine, stated, notes = _geometry(path, image, spacing)
    check_spacing(affine.spacing_mm, str(path))
    check_spacing(stated[::-1], f"{path} (pixdim)")
    return Header(shape, channels, affine, str(dtype), "nifti", notes)


def _geometry(
    path: Path, image: Any, spacing: list[float]
) -> tuple[Affine, list[float], tuple[str, ...]]:
    """Follow nibabel's rule: sform if its code is set, else qform, else pixdim alone."""
    notes = []
    matrix = np.array(image.header.get_best_affine(), dtype=np.float64)
    if int(image.header["sform_code"]) == 0 and int(image.header["qform_code"]) == 0:
        notes.append(
            "the header has no orientation (sform and qform codes are 0): voxel sizes are pixdim, "
            "and the axes are taken as left, anterior, superior, as nibabel does"
        )
    unit = image.header.get_xyzt_units()[0]
    if unit in _MILLIMETERS:
        matrix[:3] *= _MILLIMETERS[unit]
        spacing = [value * _MILLIMETERS[unit] for value in spacing]
        notes.append(f"the header's unit is {unit}: converted to mm")
    try:
        affine = Affine.from_xyz(matrix)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    if not np.allclose(affine.spacing_mm, spacing[::-1], rtol=0.05):
        found = ", ".join(f"{value:.4g}" for value in affine.spacing_mm[::-1])
        stated = ", ".join(f"{value:.4g}" for value in spacing)
        notes.append(
            f"the header contradicts itself: its affine gives spacing ({found}) mm along x, y, z, "
            f"its pixdim ({stated}) mm; the affine is used"
        )
    return affine, spacing, tuple(notes)


def _grid(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Size3, int]:
    """Return (depth, height, width) and channels of an (x, y, z[, 1[, channels]]) shape."""
    colors = _colors(dtype)
    if colors == 0 and dtype.kind not in "iuf":
        raise VolumeError(
            f"{path}: voxels have dtype {dtype}; expected integers, real floats or RGB. "
            "Save the real part or the magnitude."
        )
    if any(n < 1 for n in shape):
        raise VolumeError(f"{path}: has shape {shape}, so no voxels. Copy or export it again.")
    vector = len(shape) == 5 and shape[3] == 1
    if len(shape) < 3 or (not vector and any(n != 1 for n in shape[3:])):
        raise DimensionsError(
            f"{path}: has {len(shape)} axes with shape {shape}; expected a 3D volume (x, y, z). "
            "Save one volume per file: split a time series, or choose one of its volumes."
        )
    channels = int(shape[4]) if vector else 1
    if colors and channels > 1:
        raise VolumeError(f"{path}: holds vectors of colors (shape {shape}); expected one of both.")
    return (int(shape[2]), int(shape[1]), int(shape[0])), max(colors, channels)


def _colors(dtype: np.dtype[Any]) -> int:
    names = dtype.names or ()
    return len(names) if names in (_RGB[:3], _RGB) else 0


def _channels_first(raw: Shaped[np.ndarray, "x y z *more"], header: Header) -> Any:
    if raw.dtype.names:
        raw = np.stack([raw[name] for name in raw.dtype.names], axis=-1)
    depth, height, width = header.shape
    data = raw.reshape(width, height, depth, header.channels).transpose(3, 2, 1, 0)
    return np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))


def _storable(voxels: Shaped[np.ndarray, "c d h w"]) -> Shaped[np.ndarray, "c d h w"]:
    if voxels.dtype == np.bool_:
        return voxels.astype(np.uint8)
    if voxels.dtype == np.float16:
        return voxels.astype(np.float32)
    if voxels.dtype.kind == "f" and voxels.dtype.itemsize > 8:
        return voxels.astype(np.float64)
    return voxels
