"""NIfTI files on a scan's own grid, written slab by slab, that lie on the scan in every viewer."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from jaxtyping import Shaped

from voxgraft.types import Size3
from voxgraft.volumes import Affine

LABEL = "label"
"""The intent of label maps and masks, in NIfTI's own words."""

_nib: Any = nibabel  # without types of its own
_PLACE = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)
"""Fields that say where the voxels lie, besides the first four of pixdim."""
_SCANNER = 1
_MILLIMETERS = {"meter": 1000.0, "micron": 0.001}
_SLAB_BYTES = 1 << 24


def write_on_scan(
    path: Path,
    slabs: Iterable[Shaped[np.ndarray, "n h w"]],
    shape: Size3,
    dtype: Any,
    affine: Affine,
    *,
    like: Path | None = None,
    slope: float = 1.0,
    intent: str = "none",
    name: str = "",
) -> None:
    """Write a NIfTI file (.nii or .nii.gz), whose values come in slabs along the depth.

    Of a scan that is NIfTI itself, all fields that say where it lies are taken as they are (sform
    and qform with their codes, voxel sizes, unit): programs disagree on which of them counts, and
    so each sees both files at one place. Else sform and, where axes stand at right angles, qform
    have the code of scanner coordinates. Of a NIfTI-2 scan the file is NIfTI-2, in its precision.

    Args:
        path: File to write; it is not written atomically.
        slabs: All slices, in order.
        shape: (depth, height, width) of all of them.
        dtype: That is stored.
        affine: Where the grid lies.
        like: The scan on whose grid the values are; other formats than NIfTI are passed over.
        slope: What a step of 1 in the file stands for.
        intent: NIfTI's intent, as nibabel names it.
        name: Name of the intent; 15 characters are kept.
    """
    matrix = affine.to_xyz()
    own = None if like is None else _place_of(like, shape, affine)
    second = max(shape) > np.iinfo(np.int16).max or isinstance(own, _nib.Nifti2Header)
    empty = np.broadcast_to(np.zeros((), dtype), shape[::-1])
    header = (_nib.Nifti2Image if second else _nib.Nifti1Image)(empty, matrix, dtype=dtype).header
    if own is None:
        header.set_xyzt_units("mm")
        header.set_sform(matrix, code=_SCANNER)
        if affine.is_orthogonal:
            header.set_qform(matrix, code=_SCANNER)
    else:
        for field in _PLACE:
            header[field] = own[field]
        header["pixdim"][:4] = own["pixdim"][:4]
    header.set_slope_inter(slope, 0.0)
    header.set_intent(intent, name=name.encode("ascii", "replace")[:15].decode())
    header.set_data_offset(header.single_vox_offset)
    with path.open("wb") as handle:
        if path.name.endswith(".gz"):
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=handle, mtime=0) as packed:
                _write(packed, header, slabs)
        else:
            _write(handle, header, slabs)


def slabs_of(voxels: Shaped[np.ndarray, "d h w"], dtype: Any) -> Iterable[Any]:
    """Yield an array slab by slab as another dtype."""
    thick = max(1, _SLAB_BYTES // max(1, voxels[0].size * np.dtype(dtype).itemsize))
    for first in range(0, len(voxels), thick):
        yield voxels[first : first + thick].astype(dtype, copy=False)


def _write(handle: BinaryIO | gzip.GzipFile, header: Any, slabs: Iterable[Any]) -> None:
    handle.write(header.binaryblock)
    handle.write(b"\0" * (header.single_vox_offset - len(header.binaryblock)))
    dtype = header.get_data_dtype()
    for slab in slabs:
        handle.write(np.ascontiguousarray(slab, dtype=dtype).data)


def _place_of(path: Path, shape: Sequence[int], affine: Affine) -> Any:
    """Return the header of a NIfTI scan if it says of this grid what the affine says."""
    if not path.is_file():
        return None
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
        handle.seek(0)
        stream = gzip.GzipFile(fileobj=handle, mode="rb") if packed else handle
        start = stream.read(540)
    kind = _nib.Nifti2Header if start[4:8] == b"n+2\0" else _nib.Nifti1Header
    if kind is _nib.Nifti1Header and start[344:348] != b"n+1\0":
        return None
    header = kind(start[: kind.template_dtype.itemsize], check=False)
    if tuple(header.get_data_shape())[:3] != tuple(shape[::-1]):
        return None
    matrix = np.array(header.get_best_affine(), dtype=np.float64)
    matrix[:3] *= _MILLIMETERS.get(header.get_xyzt_units()[0], 1.0)
    return header if np.allclose(matrix, affine.to_xyz(), rtol=1e-6, atol=1e-6) else None
