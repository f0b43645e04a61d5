"""A segmented scan as a DICOM segmentation (SEG) of the series that it was found in."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from voxgraft import __version__
from voxgraft.errors import InferenceError
from voxgraft.files import atomic_path
from voxgraft.inference.segmented import SegmentedScan
from voxgraft.sliding import PackedMasks
from voxgraft.volumes import read_header, read_series

_hd: Any = highdicom  # its types are not exported
_codes: Any = codes
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SIDES = {"left": _codes.SCT.Left, "right": _codes.SCT.Right}
_LESIONS = ("tumor", "lesion", "cyst")
_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Tags that DICOM wants in a file, but lets be empty."""


def write_dicom_seg(
    scan: SegmentedScan,
    series: Path,
    path: Path,
    *,
    algorithm: str = "voxgraft",
    series_number: int = 900,
) -> None:
    """Write a binary DICOM SEG, a segment a class, in the study and place of a series.

    Where the gantry was tilted, the segments lie on the corrected, upright grid. Labels take as
    much memory as they have; overlapping masks a byte a class and voxel. Structures whose name is
    a name in SNOMED CT (such as ``liver`` or ``kidney_left``) have its code, others one of the
    scheme ``99VOXGRAFT``.

    Args:
        scan: What was found, on the series' own grid.
        series: DICOM folder that was segmented.
        path: File to write, whole or not at all.
        algorithm: Name of what found it; at most 64 characters are kept.
        series_number: Of the new series.

    Raises:
        VolumeError: If the folder cannot be read as one scan.
        InferenceError: If the scan is not on the series' grid, or the series has not what a SEG
            must refer to.
    """
    header, info = read_header(series), read_series(series)
    if header.shape != scan.shape or not header.affine.isclose(scan.affine, 1e-2):
        raise InferenceError(
            f"the segmentation of shape {scan.shape} at {scan.affine!r} is not on the grid of "
            f"{series}, {header.shape} at {header.affine!r}. Give the folder that was segmented."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd but readable values of the series
        sources = [
            pydicom.dcmread(source, stop_before_pixels=True)
            for source in dict.fromkeys(item.path for item in info.slices)
        ]
        for source in sources:
            for tag in _EMPTY:
                if tag not in source:
                    setattr(source, tag, "")
            if "NumberOfFrames" not in source and source.get("SliceThickness") is None:
                source.SliceThickness = header.affine.spacing_mm[0]  # may be empty in a series
        missing = [
            tag
            for tag in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
            if not all(source.get(tag) for source in sources)
        ]
        if missing:
            raise InferenceError(
                f"{series}: its files have no {' and no '.join(missing)}, which a DICOM SEG must "
                "refer to. Write NIfTI instead, or add what was lost to the files."
            )
        try:
            made = _segmentation(scan, sources, algorithm[:64], series_number)
            with atomic_path(path) as temporary:
                made.save_as(temporary)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise InferenceError(
                f"{series}: no DICOM SEG can refer to it: {error}. Write NIfTI instead."
            ) from error
        except OSError as error:
            raise InferenceError(
                f"{path}: cannot be written: {error.strerror or error}. Check the folder, its "
                "permissions and the space left."
            ) from error


def _segmentation(
    scan: SegmentedScan, sources: Sequence[pydicom.Dataset], algorithm: str, series_number: int
) -> Any:
    version = __version__
    if isinstance(scan.found, PackedMasks):
        voxels = np.zeros((*scan.shape, len(scan.classes)), np.uint8)
        for index in range(len(scan.classes)):
            voxels[..., index] = scan.mask(index)
    else:
        voxels = scan.found.astype(np.uint8 if len(scan.classes) < 256 else np.uint16)
    numbers = list(range(1, len(scan.classes) + 1))
    volume = _hd.Volume(
        voxels,
        affine=_TO_LPS @ scan.affine.matrix,
        coordinate_system="PATIENT",
        frame_of_reference_uid=sources[0].FrameOfReferenceUID,
        channels={"SegmentNumber": numbers} if voxels.ndim == 4 else None,
    )
    made_by = _hd.AlgorithmIdentificationSequence(
        name=algorithm, family=_codes.DCM.ArtificialIntelligence, version=version
    )
    return _hd.seg.Segmentation(
        source_images=sources,
        pixel_array=volume,
        segmentation_type="BINARY",
        segment_descriptions=[
            _described(number, name, made_by)
            for number, name in zip(numbers, scan.classes, strict=True)
        ],
        series_instance_uid=generate_uid(),
        series_number=series_number,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Voxgraft",
        manufacturer_model_name=algorithm,
        software_versions=version,
        device_serial_number="0",
        series_description=f"Segmentation, {algorithm}"[:64],
        omit_empty_frames=bool(voxels.any()),
    )


def _described(number: int, name: str, made_by: Any) -> Any:
    words = [word for word in name.lower().split("_") if word]
    side = _SIDES.get(words[-1]) if len(words) > 1 else None
    kind = _code("".join(word.capitalize() for word in words))
    if kind is None and side is not None:
        kind = _code("".join(word.capitalize() for word in words[:-1]))
    else:
        side = None
    lesion = any(word in _LESIONS for word in words)
    if kind is None:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        kind = _hd.sr.CodedConcept(digest, "99VOXGRAFT", name[:64])
    category = (
        _hd.sr.CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure")
        if lesion
        else _hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
    )
    found = _hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=made_by,
    )
    if side is not None:
        modifier = _hd.sr.CodedConcept.from_code(side)
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            modifier
        ]
    return found


def _code(name: str) -> Any:
    try:
        return _hd.sr.CodedConcept.from_code(getattr(_codes.SCT, name))
    except (AttributeError, ValueError):
        return None
