"""The frames of a multi-frame DICOM file (Enhanced CT, MR, PET) as slices of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydicom import Dataset

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

_SHARED, _EACH = FUNCTIONAL_GROUPS = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
"""Elements that hold what all frames of a file share, and what each frame has of its own."""
_TYPES = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")
_MOMENT = ("TemporalPositionIndex", "FrameAcquisitionNumber", "FrameAcquisitionDateTime")


def frames_of(dataset: Dataset, whole: Slice) -> list[Slice]:
    """Return a slice for each frame; the file's own slice if it names no frames.

    Args:
        dataset: Header of the file.
        whole: What stands in the file's header outside the frames; it holds for frames that do
            not say otherwise.

    Returns:
        Slices in the order of the file. Files of several frames without functional groups come
        back as one ``Slice`` whose ``frames`` is more than 1.

    Raises:
        ValueError: If the file describes more or fewer frames than it has.

    Source:
        DICOM PS3.3, C.7.6.16 (functional groups; each group is in one of the two sequences).
    """
    each = dataset.get(_EACH)
    if each is None:
        return [whole]
    if len(each) != whole.frames:
        raise ValueError(f"{_EACH} describes {len(each)} frames, NumberOfFrames is {whole.frames}")
    shared = dataset.get(_SHARED) or []
    return [_frame(index, [own, *shared], whole) for index, own in enumerate(each)]


def _frame(index: int, groups: Sequence[Dataset], whole: Slice) -> Slice:
    measures = _group(groups, "PixelMeasuresSequence")
    transform = _group(groups, "PixelValueTransformationSequence")
    content = _group(groups, "FrameContentSequence")
    slope, intercept = transform.get("RescaleSlope"), transform.get("RescaleIntercept")
    position = _group(groups, "PlanePositionSequence").get("ImagePositionPatient")
    orientation = _group(groups, "PlaneOrientationSequence").get("ImageOrientationPatient")
    moment = {name: text_of(content.get(name)) for name in _MOMENT}
    kinds = [value for name in _TYPES for value in values_of(_group(groups, name).get("FrameType"))]
    return replace(
        whole,
        frame=index,
        number=integer_of(content.get("InStackPositionNumber")),
        image_type=tuple(text_of(value).upper() for value in kinds) or whole.image_type,
        moment=(*whole.moment, *((name, value) for name, value in moment.items() if value)),
        position=numbers_of(position, 3) or whole.position,
        orientation=numbers_of(orientation, 6) or whole.orientation,
        spacing=numbers_of(measures.get("PixelSpacing"), 2) or whole.spacing,
        thickness=length_of(
            measures.get("SpacingBetweenSlices"), measures.get("SliceThickness"), whole.thickness
        ),
        slope=finite_of("RescaleSlope", slope, whole.slope, zero=False),
        intercept=finite_of("RescaleIntercept", intercept, whole.intercept),
        rescaled=whole.rescaled or not (is_empty(slope) and is_empty(intercept)),
        rescale_type=text_of(transform.get("RescaleType")).upper() or whole.rescale_type,
    )


def _group(groups: Sequence[Dataset], name: str) -> Any:
    """Return the one item of a functional group, or nothing known of it."""
    for item in groups:
        found = item.get(name)
        if found:
            return found[0]
    return Dataset()
