"""A DICOM folder as one volume: slices chosen, sorted by place, rescaled, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from voxgraft.errors import VolumeError, listed
from voxgraft.volumes.affine import Affine, check_spacing
from voxgraft.volumes.damage import GeometryError
from voxgraft.volumes.dicom_choose import choose_orientation, choose_series
from voxgraft.volumes.dicom_copies import drop_copies
from voxgraft.volumes.dicom_files import Broken, NoImage, look
from voxgraft.volumes.dicom_grid import check_one_grid, check_slices, sort_slices
from voxgraft.volumes.dicom_lost import check_none_lost
from voxgraft.volumes.dicom_pixels import check_decodable, read_voxels, same_values
from voxgraft.volumes.dicom_quiet import quiet
from voxgraft.volumes.dicom_slices import Slice, counted, files_of
from voxgraft.volumes.dicom_tilt import TILT_NOTE, Tilt, tilt_of, upright
from voxgraft.volumes.volume import Header, Volume


@dataclass(frozen=True)
class Stack:
    """The slices of a volume, in order, and how they become one."""

    header: Header
    slices: tuple[Slice, ...]
    tilt: Tilt | None


def read_dicom(folder: Path) -> Volume:
    """Read the one DICOM series of a folder (not of its subfolders).

    Slices are sorted by their position along the slice normal; slope and intercept are applied
    to each slice (HU for CT). What :func:`read_stack` left out or corrected is in the notes.

    Raises:
        VolumeError: As :func:`read_stack`, or if pixels are damaged.
    """
    stack = read_stack(folder)
    with np.errstate(all="ignore"):  # values beyond all bounds end as infinite, and are refused
        voxels, notes = read_voxels(folder, stack.slices)
    if stack.tilt is not None:
        voxels = upright(voxels, stack.tilt)
    return Volume(voxels[None], stack.header.affine, folder, (*stack.header.notes, *notes))


def read_dicom_header(folder: Path) -> Header:
    """Read shape and geometry of the one DICOM series of a folder.

    Raises:
        VolumeError: As :func:`read_stack`.
    """
    return read_stack(folder).header


def read_stack(folder: Path) -> Stack:
    """Read the headers of a folder, and find the one stack of slices that they make.

    Left out, with a note: localizers, screenshots, reports, series that are no volume, copies,
    single slices of another plane. Corrected, with a note: a tilted gantry.

    Raises:
        VolumeError: If there is no or more than one volume series, slices are missing, unevenly
            spaced, at one place with different pixels, or differ in size or orientation, a
            compression is unknown, or a file is damaged.
    """
    with quiet(), np.errstate(all="ignore"):
        images, others, notes = _look_at_all(folder)
        slices, left_out = choose_series(folder, images, others)
        check_slices(folder, slices)
        slices, odd = choose_orientation(folder, slices)
        check_one_grid(folder, slices)
        check_decodable(folder, slices)
        slices, copies = drop_copies(folder, slices, same_values)
        slices, normal = sort_slices(folder, slices)
        check_none_lost(folder, slices, images, normal)
        tilt = tilt_of(folder, slices, normal)
        affine = _affine(folder, slices, normal, tilt)
    check_spacing(affine.spacing_mm, str(folder))
    first = slices[0]
    rows, columns = (first.rows, first.columns) if tilt is None else tilt.size
    dtype = f"{'int' if first.signed else 'uint'}{first.bits}"
    notes = [*notes, *left_out, *odd, *copies, *_assumed(slices, tilt)]
    header = Header((len(slices), rows, columns), 1, affine, dtype, "dicom", tuple(notes))
    return Stack(header, tuple(slices), tilt)


def _look_at_all(folder: Path) -> tuple[list[Slice], list[NoImage], list[str]]:
    images: list[Slice] = []
    others: list[NoImage] = []
    broken, empty = [], []
    for path in files_of(folder):
        found = look(path)
        if isinstance(found, list):
            images += found
        elif isinstance(found, NoImage):
            others.append(found)
        elif isinstance(found, Broken):
            broken.append(path.name)
        elif path.stat().st_size == 0:
            empty.append(path.name)
    if broken:
        raise VolumeError(
            f"{folder}: {counted(len(broken), 'file')} cannot be read as DICOM: {listed(broken)}. "
            "Copy them again: without them slices are missing."
        )
    if images:
        return images, others, [f"left out empty files: {', '.join(empty[:5])}"] if empty else []
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = sum(path.is_file() for path in folder.iterdir())
    found_text = f"{files} files" + (f", subfolders {', '.join(inner[:8])}" if inner else "")
    if others:
        named = ", ".join(f"{item.name} ({item.kind})" for item in others[:8])
        found_text += f"; DICOM objects without pixels: {named}"
    raise VolumeError(
        f"{folder}: holds no DICOM image (found {found_text}). Expected the slices of one series "
        "directly in the folder. Give the folder of the series, or a scan file."
    )


def _affine(
    folder: Path, slices: list[Slice], normal: Float[np.ndarray, " 3"], tilt: Tilt | None
) -> Affine:
    first = slices[0]
    row_mm, column_mm = first.pixel_spacing
    rows, columns = first.cosines[3:] * row_mm, first.cosines[:3] * column_mm
    origin = first.place
    if len(slices) > 1:
        step = (slices[-1].place - first.place) / (len(slices) - 1)
    elif first.thickness:
        step = normal * first.thickness
    else:
        raise GeometryError(
            f"{folder}: holds a single slice without SliceThickness, so its depth is unknown. "
            "Give the folder with all slices of the series."
        )
    if tilt is not None:
        step = normal * (step @ normal)
        origin = origin + tilt.start[0] * rows + tilt.start[1] * columns
    matrix = np.eye(4)
    matrix[:3] = np.stack([step, rows, columns, origin], axis=1)
    matrix[:2] *= -1.0
    try:
        return Affine(matrix)
    except GeometryError as error:
        raise GeometryError(f"{folder}: {error}") from error


def _assumed(slices: list[Slice], tilt: Tilt | None) -> list[str]:
    first = slices[0]
    notes = []
    if len(slices) == 1:
        notes.append(f"a single slice: its thickness of {first.thickness:g} mm is the spacing")
    if tilt is not None:
        notes.append(
            f"{TILT_NOTE}{tilt.degrees:.1f} degrees: slices of {first.rows} x {first.columns} "
            f"pixels were shifted in their plane onto an upright grid of {tilt.size[0]} x "
            f"{tilt.size[1]}; outside them stands the smallest value"
        )
    if any(item.photometric == "MONOCHROME1" for item in slices):
        notes.append("slices are MONOCHROME1 (shown inverted); stored values are kept as they are")
    if first.modality == "CT" and not first.rescaled:
        notes.append("CT without RescaleSlope and RescaleIntercept: stored values are taken as HU")
    units = sorted({item.rescale_type for item in slices} - {"", "HU", "US"})
    if first.modality == "CT" and units:
        notes.append(f"RescaleType is {', '.join(units)}: values are not HU")
    return notes
