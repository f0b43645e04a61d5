"""What a DICOM image is, by its own words: a slice of a scan, or something beside it."""

from __future__ import annotations

from collections.abc import Sequence

from voxgraft.volumes.dicom_slices import Slice

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NO_SCANS = {
    f"{_STORAGE}66.4": "segmentation",
    f"{_STORAGE}66.7": "segmentation",
    f"{_STORAGE}30": "parametric map",
    f"{_STORAGE}481.1": "radiotherapy image",
    f"{_STORAGE}481.2": "radiotherapy dose grid",
}
"""SOP classes with rows and columns that are no scans."""
_SECONDARY_CAPTURE = f"{_STORAGE}7"
_PAGES = {"CSA REPORT", "CT_SOM5 PROT"}
_PAGE_STARTS = ("SCREEN", "DOSE")


def kind_beside(item: Slice) -> str:
    """Return what an image is if it is no slice of a scan (``"localizer"``), else nothing.

    Screenshots and pages of text (dose reports, protocols) are known by the words that scanners
    write into ImageType; secondary captures count as slices if they have a place.
    """
    if item.sop_class in _NO_SCANS:
        return _NO_SCANS[item.sop_class]
    if "LOCALIZER" in item.image_type:
        return "localizer"
    if any(word in _PAGES or word.startswith(_PAGE_STARTS) for word in item.image_type):
        return "screenshot"
    placed = item.has_geometry or item.frames > 1
    return "secondary capture" if _is_captured(item) and not placed else ""


def is_secondary(group: Sequence[Slice]) -> bool:
    """Whether all slices were made out of others (DERIVED and SECONDARY) or off a screen."""
    return all(
        _is_captured(item) or {"DERIVED", "SECONDARY"} <= set(item.image_type[:2]) for item in group
    )


def _is_captured(item: Slice) -> bool:
    found = item.sop_class
    return found == _SECONDARY_CAPTURE or found.startswith(f"{_SECONDARY_CAPTURE}.")
