"""One door for all scan formats, in and out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from voxgraft.errors import VolumeError
from voxgraft.files import atomic_path
from voxgraft.volumes.affine import check_spacing
from voxgraft.volumes.damage import MissingScanError, no_bare_os_error
from voxgraft.volumes.itk import read_itk, read_itk_header, write_itk
from voxgraft.volumes.nifti import read_nifti, read_nifti_header, write_nifti
from voxgraft.volumes.npz import read_npz, read_npz_header, write_npz
from voxgraft.volumes.volume import Header, LabelMap, Volume

_ROUNDING = 1e-3
"""Most that a label may differ from a whole number, where a file holds scaled values."""
_READ: dict[str, tuple[Callable[[Path], Volume], Callable[[Path], Header]]] = {
    ".nii": (read_nifti, read_nifti_header),
    ".nii.gz": (read_nifti, read_nifti_header),
    ".nrrd": (read_itk, read_itk_header),
    ".nhdr": (read_itk, read_itk_header),
    ".mha": (read_itk, read_itk_header),
    ".mhd": (read_itk, read_itk_header),
    ".npz": (read_npz, read_npz_header),
}
_WRITE: dict[str, Callable[[Volume, Path], None]] = {
    ".nii": write_nifti,
    ".nii.gz": write_nifti,
    ".nrrd": write_itk,
    ".mha": write_itk,
    ".npz": write_npz,
}
SCAN_SUFFIXES = tuple(_READ)
"""Suffixes that :func:`read_volume` knows; a folder is read as a DICOM series."""


def read_volume(path: Path | str) -> Volume:
    """Read a scan: .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .npz, or a DICOM series folder.

    Args:
        path: A file, or a folder with the slices of one DICOM series.

    Returns:
        Voxels (channels, depth, height, width) in the order of the file (not reoriented) with
        their affine. Values are rescaled as the header says (HU for CT); color and vector voxels
        become channels. What was assumed, left out or corrected stands in ``notes``.

    Raises:
        VolumeError: If there is nothing to read, the file is damaged, is not three-dimensional,
            has an impossible geometry, or NaN voxels.
    """
    path = Path(path)
    with no_bare_os_error(path):
        if _is_folder(path):
            from voxgraft.volumes.dicom import read_dicom  # takes long to import

            return read_dicom(path)
        return _READ[_suffix(path, tuple(_READ))][0](path)


def read_header(path: Path | str) -> Header:
    """Read the shape and geometry of a scan without its voxels.

    Raises:
        VolumeError: As :func:`read_volume`, as far as the header shows it.
    """
    path = Path(path)
    with no_bare_os_error(path):
        if _is_folder(path):
            from voxgraft.volumes.dicom import read_dicom_header  # takes long to import

            return read_dicom_header(path)
        return _READ[_suffix(path, tuple(_READ))][1](path)


def read_label_map(path: Path | str) -> LabelMap:
    """Read a map of class indices; floats are taken if all are whole numbers (to a thousandth).

    Raises:
        VolumeError: As :func:`read_volume`, or if there are several channels or fractions.
    """
    volume = read_volume(path)
    if volume.channels != 1:
        raise VolumeError(
            f"{path}: has {volume.channels} channels; a label map has one. "
            "Save the class index of each voxel as one integer."
        )
    voxels = volume.voxels[0]
    if voxels.dtype.kind == "f":
        whole = np.rint(voxels)
        odd = voxels[np.abs(whole - voxels) > _ROUNDING]
        if odd.size:
            raise VolumeError(
                f"{path}: {odd.size:,} voxels hold fractions (the first is {float(odd[0]):g}); "
                "labels are whole numbers. Resample label maps with nearest neighbors; of "
                "probabilities, save where they are above a threshold."
            )
        largest = float(np.abs(whole).max())
        if largest > np.iinfo(np.int32).max:
            raise VolumeError(
                f"{path}: holds a value of size {largest:g}; a label map holds class indices. "
                "Is this an image?"
            )
        voxels = whole.astype(np.int32)
    elif voxels.dtype == np.bool_:
        voxels = voxels.astype(np.uint8)
    return LabelMap(voxels, volume.affine, volume.path)


def write_volume(volume: Volume | LabelMap, path: Path | str) -> None:
    """Write a scan by the suffix of ``path``: .nii, .nii.gz, .nrrd, .mha or .npz.

    The file is whole or absent. NIfTI keeps geometry in single precision.

    Raises:
        VolumeError: If the suffix is unknown, or the format cannot hold the volume.
    """
    path = Path(path)
    suffix = _known_suffix(path, tuple(_WRITE))
    if isinstance(volume, LabelMap):
        volume = Volume(volume.voxels[None], volume.affine, volume.path)
    check_spacing(volume.affine.spacing_mm, str(path))
    try:
        with atomic_path(path) as temporary:
            _WRITE[suffix](volume, temporary)
    except OSError as error:
        raise VolumeError(
            f"{path}: cannot be written: {error.strerror or error}. "
            "Check the folder, its permissions and the space left."
        ) from error


def _is_folder(path: Path) -> bool:
    if path.is_dir():
        return True
    if not path.exists():
        raise MissingScanError(
            f"{path}: no such file or folder. Check the path; a table's relative paths start at "
            "the table's own folder."
        )
    return False


def _suffix(path: Path, known: tuple[str, ...]) -> str:
    if path.suffix.lower() in (".dcm", ".ima"):
        raise VolumeError(
            f"{path}: is one DICOM file; expected the folder with all slices of its series (or "
            f"with its one multi-frame file). Give {path.parent}."
        )
    return _known_suffix(path, known)


def _known_suffix(path: Path, known: tuple[str, ...]) -> str:
    name = path.name.lower()
    for suffix in sorted(known, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise VolumeError(
        f"{path}: unknown suffix {path.suffix!r}; expected one of {', '.join(known)}"
        f"{' or a folder with a DICOM series' if '.nhdr' in known else ''}. "
        "Convert the scan, or correct the path."
    )
