"""The header of one DICOM file: what it is, and the slices that it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from voxgraft.volumes.damage import DAMAGE, damaged
from voxgraft.volumes.dicom_frames import FUNCTIONAL_GROUPS, frames_of
from voxgraft.volumes.dicom_kinds import kind_beside
from voxgraft.volumes.dicom_quiet import quiet
from voxgraft.volumes.dicom_slices import Slice
from voxgraft.volumes.dicom_values import (
    finite_of,
    integer_of,
    is_empty,
    length_of,
    numbers_of,
    text_of,
    values_of,
)

DICOM_DAMAGE: tuple[type[Exception], ...] = (*DAMAGE, InvalidDicomError, BytesLengthException)
"""What pydicom and its decoders raise on damaged files."""

_MOMENT_TAGS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "AcquisitionNumber",
    "AcquisitionTime",
    "EchoTime",
    "ConvolutionKernel",
    "KVP",
)
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
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    *_MOMENT_TAGS,
    *FUNCTIONAL_GROUPS,
]
_DICOMDIR = "1.2.840.10008.1.3.10"
_SUFFIXES = (".dcm", ".ima", ".dicom")


@dataclass(frozen=True)
class NoImage:
    """A DICOM object without rows and columns, such as a report; ``kind`` is its modality."""

    name: str
    kind: str


@dataclass(frozen=True)
class Broken:
    """A file that should be DICOM and cannot be read."""

    name: str


def look(path: Path) -> list[Slice] | NoImage | Broken | None:
    """Return what a file holds, by its header; None if it is nothing to be read.

    Raises:
        VolumeError: If it is a DICOM image with an unreadable header.
        OSError: If the file may not be opened.
    """
    with quiet():
        try:
            dataset = _dataset(path)
            if dataset is None:
                return Broken(path.name) if path.suffix.lower() in _SUFFIXES else None
            if _is_index(dataset):
                return None
            if "Rows" not in dataset or "Columns" not in dataset:
                return NoImage(path.name, text_of(dataset.get("Modality")) or "no modality")
        except PermissionError:
            raise
        except DICOM_DAMAGE:
            promised = path.suffix.lower() in _SUFFIXES or _has_preamble(path)
            return Broken(path.name) if promised else None
        try:
            with np.errstate(all="ignore"):
                whole = _slice(path, dataset)
                return [whole] if kind_beside(whole) else frames_of(dataset, whole)
        except DICOM_DAMAGE as error:
            raise damaged(path, "a DICOM slice", error) from error


def transfer_syntax(dataset: pydicom.Dataset) -> str:
    """Return the UID of the transfer syntax; files without one are not compressed."""
    meta = getattr(dataset, "file_meta", None)
    named = None if meta is None else meta.get("TransferSyntaxUID")
    if named:
        return str(named)
    implicit, little = dataset.original_encoding
    if little is False:
        return str(ExplicitVRBigEndian)
    return str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)


def _dataset(path: Path) -> pydicom.Dataset | None:
    """Return the header; without the preamble only where the content names a series."""
    options: dict[str, Any] = {"specific_tags": _HEADER_TAGS, "stop_before_pixels": True}
    if _has_preamble(path):
        return pydicom.dcmread(path, **options)
    number = path.suffix[1:].isdigit()  # file names that end with a UID
    if path.suffix.lower() not in ("", *_SUFFIXES) and not number:
        return None
    dataset = pydicom.dcmread(path, force=True, **options)
    return dataset if "SeriesInstanceUID" in dataset else None


def _has_preamble(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _is_index(dataset: pydicom.Dataset) -> bool:
    meta = getattr(dataset, "file_meta", None)
    return meta is not None and meta.get("MediaStorageSOPClassUID") == _DICOMDIR


def _slice(path: Path, dataset: pydicom.Dataset) -> Slice:
    """Return the file's own header; position and the like may stand in its frames instead."""
    meta = getattr(dataset, "file_meta", None) or pydicom.Dataset()
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    found = {name: text_of(dataset.get(name)) for name in _MOMENT_TAGS}
    return Slice(
        path=path,
        frame=None,
        frames=int(dataset.get("NumberOfFrames") or 1),
        uid=text_of(dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID")),
        series=text_of(dataset.get("SeriesInstanceUID")),
        study=text_of(dataset.get("StudyInstanceUID")),
        patient=text_of(dataset.get("PatientID")),
        manufacturer=text_of(dataset.get("Manufacturer")),
        number=integer_of(dataset.get("InstanceNumber")),
        description=text_of(dataset.get("SeriesDescription")),
        modality=text_of(dataset.get("Modality")),
        sop_class=text_of(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")),
        image_type=tuple(text_of(value).upper() for value in values_of(dataset.get("ImageType"))),
        syntax=transfer_syntax(dataset),
        moment=tuple((name, value) for name, value in found.items() if value),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        samples=int(dataset.get("SamplesPerPixel") or 1),
        bits=int(dataset.get("BitsAllocated") or 16),
        signed=bool(dataset.get("PixelRepresentation") or 0),
        photometric=text_of(dataset.get("PhotometricInterpretation")),
        position=numbers_of(dataset.get("ImagePositionPatient"), 3),
        orientation=numbers_of(dataset.get("ImageOrientationPatient"), 6),
        spacing=numbers_of(dataset.get("PixelSpacing"), 2),
        thickness=length_of(dataset.get("SpacingBetweenSlices"), dataset.get("SliceThickness")),
        slope=finite_of("RescaleSlope", slope, 1.0, zero=False),
        intercept=finite_of("RescaleIntercept", intercept, 0.0),
        rescaled=not (is_empty(slope) and is_empty(intercept)),
        rescale_type=text_of(dataset.get("RescaleType")).upper(),
    )
