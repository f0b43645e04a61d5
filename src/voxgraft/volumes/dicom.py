"""A DICOM series folder as one volume: slices sorted by place, rescaled, checked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pydicom
from jaxtyping import Float, Shaped
from pydicom.errors import BytesLengthException, InvalidDicomError

from voxgraft.errors import VolumeError
from voxgraft.volumes.affine import Affine, check_spacing
from voxgraft.volumes.damage import DAMAGE, GeometryError, check_finite, damaged
from voxgraft.volumes.dicom_slices import Slice, check_one_grid, check_one_series, sort_slices
from voxgraft.volumes.volume import Header, Volume

_HEADER_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "Modality",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "Manufacturer",
    "InstanceNumber",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "RescaleSlope",
    "RescaleIntercept",
]
_DICOM_DAMAGE: tuple[type[Exception], ...] = (*DAMAGE, InvalidDicomError, BytesLengthException)
_DICOMDIR = "1.2.840.10008.1.3.10"
_WARNINGS = Lock()
"""Python's warning filters belong to the whole process: one reader changes them at a time."""


def read_dicom(folder: Path) -> Volume:
    """Read the one DICOM series of a folder (not of its subfolders).

    Slices are sorted by their position along the slice normal; slope and intercept are applied
    to each slice (HU for CT).

    Raises:
        VolumeError: If there is no or more than one series, slices are missing, doubled, unevenly
            spaced, tilted, or differ in size or orientation, or a file is damaged.
    """
    header, slices = stack_of(folder)
    voxels = np.empty((1, *header.shape), dtype=np.int16)
    for position, item in enumerate(slices):
        values = _rescaled(item)
        needed = np.promote_types(voxels.dtype, _needed_dtype(values))
        if needed != voxels.dtype:
            voxels = voxels.astype(needed)
        voxels[0, position] = values
    check_finite(voxels, folder)
    return Volume(voxels, header.affine, folder, header.notes)


def read_dicom_header(folder: Path) -> Header:
    """Read shape and geometry of the one DICOM series of a folder.

    Raises:
        VolumeError: As :func:`read_dicom`, as far as the headers show it.
    """
    return stack_of(folder)[0]


def series_uid(folder: Path) -> str | None:
    """Return the SeriesInstanceUID of the first DICOM image of a folder, or None without one."""
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            with _quiet():
                dataset = _dataset(path)
                if dataset is not None and _is_image(dataset):
                    return str(dataset.get("SeriesInstanceUID", ""))
        except _DICOM_DAMAGE:
            continue
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back pydicom's warnings on odd but readable values."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def stack_of(folder: Path) -> tuple[Header, list[Slice]]:
    """Return the geometry of the one series of a folder, and its slices in the volume's order.

    Raises:
        VolumeError: As :func:`read_dicom_header`.
    """
    slices = _read_slices(folder)
    check_one_series(folder, slices)
    check_one_grid(folder, slices)
    slices, normal = sort_slices(folder, slices)
    affine, notes = _affine(folder, slices, normal)
    check_spacing(affine.spacing_mm, str(folder))
    shape = (len(slices), slices[0].rows, slices[0].columns)
    dtype = f"uint{slices[0].bits}"
    return Header(shape, 1, affine, dtype, "dicom", notes), slices


def _read_slices(folder: Path) -> list[Slice]:
    slices, other, broken = [], [], []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if path.name.startswith("."):
            continue
        look = _look(path)
        if isinstance(look, Slice):
            slices.append(look)
        elif look is not None:
            other.append(look)
        elif path.suffix.lower() in (".dcm", ".ima"):
            broken.append(path.name)
    if broken:
        raise VolumeError(
            f"{folder}: {len(broken)} files are no readable DICOM: {', '.join(broken[:8])}"
            f"{' …' if len(broken) > 8 else ''}. Copy them again: without them slices are missing."
        )
    if slices:
        return slices
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = sum(path.is_file() for path in folder.iterdir())
    found = f"{files} files" + (f", subfolders {', '.join(inner[:8])}" if inner else "")
    if other:
        found += f"; DICOM objects without pixels: {', '.join(other[:8])}"
    raise VolumeError(
        f"{folder}: holds no DICOM image (found {found}). Expected the slices of one series "
        "directly in the folder. Give the folder of the series, or a scan file."
    )


def _look(path: Path) -> Slice | str | None:
    """Return a slice, the name of a DICOM object without pixels, or None if it is no DICOM."""
    with _quiet():
        try:
            dataset = _dataset(path)
            if dataset is None:
                return None
            if not _is_image(dataset):
                return f"{path.name} ({dataset.get('Modality', 'no modality')})"
        except PermissionError:
            raise
        except _DICOM_DAMAGE:
            return None
        try:
            return _slice(path, dataset)
        except _DICOM_DAMAGE as error:
            raise damaged(path, "a DICOM slice", error) from error


def _dataset(path: Path) -> pydicom.Dataset | None:
    """Return the header of a DICOM file, or None if it is none."""
    try:
        return pydicom.dcmread(path, specific_tags=_HEADER_TAGS, stop_before_pixels=True)
    except InvalidDicomError:
        if path.suffix.lower() not in ("", ".dcm", ".ima"):
            return None
    dataset = pydicom.dcmread(path, specific_tags=_HEADER_TAGS, stop_before_pixels=True, force=True)
    return dataset if "SeriesInstanceUID" in dataset else None


def _is_image(dataset: pydicom.Dataset) -> bool:
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and meta.get("MediaStorageSOPClassUID") == _DICOMDIR:
        return False
    return "Rows" in dataset and "Columns" in dataset


def _slice(path: Path, dataset: pydicom.Dataset) -> Slice:
    image_type = dataset.get("ImageType") or []
    return Slice(
        path=path,
        series=str(dataset.get("SeriesInstanceUID", "")),
        uid=str(dataset.get("SOPInstanceUID", "") or ""),
        study=str(dataset.get("StudyInstanceUID", "") or ""),
        patient=str(dataset.get("PatientID", "") or "").strip(),
        manufacturer=str(dataset.get("Manufacturer", "") or "").strip(),
        number=_integer(dataset.get("InstanceNumber")),
        description=str(dataset.get("SeriesDescription", "") or ""),
        modality=str(dataset.get("Modality", "") or ""),
        localizer="LOCALIZER" in [str(value).upper() for value in _values(image_type)],
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        frames=int(dataset.get("NumberOfFrames") or 1),
        samples=int(dataset.get("SamplesPerPixel") or 1),
        bits=int(dataset.get("BitsAllocated") or 16),
        position=_numbers(dataset.get("ImagePositionPatient"), 3),
        orientation=_numbers(dataset.get("ImageOrientationPatient"), 6),
        spacing=_numbers(dataset.get("PixelSpacing"), 2),
        thickness=_number(dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")),
        slope=_slope(dataset.get("RescaleSlope")),
        intercept=float(dataset.get("RescaleIntercept") or 0.0),
        inverted=dataset.get("PhotometricInterpretation") == "MONOCHROME1",
    )


def _values(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    if value is None or len(_values(value)) != count:
        return None
    numbers = tuple(float(item) for item in _values(value))
    return numbers if all(np.isfinite(numbers)) else None


def _number(value: Any) -> float | None:
    return None if value is None else abs(float(value))


def _integer(value: Any) -> int | None:
    return None if value is None or value == "" else int(value)


def _slope(value: Any) -> float:
    slope = 1.0 if value is None or value == "" else float(value)
    if slope == 0 or not np.isfinite(slope):
        raise ValueError(f"RescaleSlope is {slope}, expected a number other than 0")
    return slope


def _pixels(item: Slice) -> Shaped[np.ndarray, "h w"]:
    try:
        with _quiet():
            dataset = pydicom.dcmread(item.path, force=True)
        pixels: Shaped[np.ndarray, "h w"] = dataset.pixel_array
    except _DICOM_DAMAGE as error:
        raise damaged(item.path, "a DICOM slice", error) from error
    if pixels.shape != (item.rows, item.columns):
        raise VolumeError(
            f"{item.path}: its pixels have shape {pixels.shape}, its header promises "
            f"{(item.rows, item.columns)}. Export the series again."
        )
    return pixels


def _rescaled(item: Slice) -> Shaped[np.ndarray, "h w"]:
    """Return slope x pixel + intercept, in integers where all three are."""
    pixels = _pixels(item)
    if pixels.dtype.kind in "iu" and item.slope.is_integer() and item.intercept.is_integer():
        return pixels.astype(np.int64) * int(item.slope) + int(item.intercept)
    return pixels.astype(np.float64) * item.slope + item.intercept


def _needed_dtype(values: Shaped[np.ndarray, "h w"]) -> np.dtype[Any]:
    if values.dtype.kind == "f":
        return np.dtype(np.float32)
    low, high = int(values.min()), int(values.max())
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float64)


def _affine(
    folder: Path, slices: list[Slice], normal: Float[np.ndarray, " 3"]
) -> tuple[Affine, tuple[str, ...]]:
    first = slices[0]
    row_mm, column_mm = first.pixel_spacing
    cosines = first.cosines
    notes: list[str] = []
    if len(slices) > 1:
        step = (slices[-1].place - first.place) / (len(slices) - 1)
    else:
        if not first.thickness:
            raise GeometryError(
                f"{folder}: holds a single slice without SliceThickness, so its depth is unknown. "
                "Give the folder with all slices of the series."
            )
        step = normal * first.thickness
        notes.append(f"a single slice: its thickness of {first.thickness:g} mm is the spacing")
    if any(item.inverted for item in slices):
        notes.append("slices are MONOCHROME1 (shown inverted); stored values are kept as they are")
    matrix = np.eye(4)
    matrix[:3, 0] = step
    matrix[:3, 1] = cosines[3:] * row_mm
    matrix[:3, 2] = cosines[:3] * column_mm
    matrix[:3, 3] = first.place
    matrix[:2] *= -1.0
    try:
        return Affine(matrix), tuple(notes)
    except GeometryError as error:
        raise GeometryError(f"{folder}: {error}") from error
