"""LIDC-IDRI's annotation files, as TCIA publishes them beside the DICOM slices of each scan."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from voxgraft.datasets.importers.lidc_nodules import Annotation, Contour, Scan
from voxgraft.errors import TableError, raise_faults

_ROOT = "LidcReadMessage"
_RATINGS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
"""Element names, in the order of ``lidc_nodules.RATINGS``."""


@dataclass(frozen=True)
class Mark:
    """What one reader drew of one nodule of 3 mm or more.

    Attributes:
        reader: Number of the reading session in the file, from 0.
        nodule_id: The reader's own name for it.
        ratings: In the order of ``lidc_nodules.RATINGS``; 0 where one is missing.
        contours: One or more outlines.
    """

    reader: int
    nodule_id: str
    ratings: tuple[int, ...]
    contours: tuple[Contour, ...]


@dataclass(frozen=True)
class Reading:
    """The annotation file of one scan.

    Attributes:
        path: The file.
        series_uid: SeriesInstanceUID of the scan.
        study_uid: StudyInstanceUID, empty if the file has none.
        sessions: Number of reading sessions: one a radiologist.
        marks: Nodules of 3 mm or more, of all readers.
        unrated: Nodules with an outline of several points, but without ratings. They are not
            among ``marks``: who rates a nodule says that it is one of 3 mm or more.
    """

    path: Path
    series_uid: str
    study_uid: str
    sessions: int
    marks: tuple[Mark, ...]
    unrated: int

    def annotations(self, scan: Scan) -> list[Annotation]:
        """Return the marks as annotations of a scan, numbered from 1."""
        return [
            Annotation(number, scan, mark.ratings, mark.contours, mark.reader)
            for number, mark in enumerate(self.marks, 1)
        ]


def find_readings(root: Path) -> dict[str, Reading]:
    """Read all LIDC annotation files below a folder; other XML files are passed over.

    Returns:
        SeriesInstanceUID to reading. A copy of a file counts once.

    Raises:
        TableError: If the folder is not there, a file cannot be read, or two files disagree on a
            series; all are named.
    """
    if not root.is_dir():
        raise TableError(f"{root}: no such folder of annotation files. Check the path.")
    found: dict[str, Reading] = {}
    faults: list[str] = []
    for path in _xml_files(root):
        try:
            reading = read_lidc_xml(path)
        except TableError as error:
            faults.append(str(error))
            continue
        if reading is None:
            continue
        before = found.setdefault(reading.series_uid, reading)
        if before is not reading and before.path.read_bytes() != path.read_bytes():
            faults.append(f"{path} and {before.path} are both of series {reading.series_uid}")
    if faults:
        raise_faults(
            TableError,
            f"{root}: annotation files that cannot be used",
            faults,
            "Download these files again, or move them away.",
        )
    return found


def read_lidc_xml(path: Path) -> Reading | None:
    """Read one annotation file of a CT scan.

    Returns:
        Its content; None for XML of another kind, such as the readings of chest radiographs that
        come with some patients.

    Raises:
        TableError: If it is no well-formed XML, or lacks what every such file has.

    Source:
        The structure is that of the published files (Armato et al., Med Phys 2011,
        doi 10.1118/1.3528204): reading sessions with ``unblindedReadNodule``, ``roi`` and
        ``edgeMap``; nodules below 3 mm have one point and no ratings.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise TableError(f"{path}: cannot be read as XML: {error}") from error
    if _name(root) != _ROOT:
        return None
    series_uid = _text(root, "SeriesInstanceUid")
    if not series_uid:
        raise TableError(f"{path}: names no scan (ResponseHeader has no SeriesInstanceUid)")
    marks: list[Mark] = []
    unrated = 0
    sessions = list(_all(root, "readingSession"))
    try:
        for reader, session in enumerate(sessions):
            for nodule in _all(session, "unblindedReadNodule"):
                contours = tuple(_contour(roi) for roi in _all(nodule, "roi"))
                ratings = _rated(nodule)
                if any(ratings) and contours:
                    marks.append(Mark(reader, _text(nodule, "noduleID"), ratings, contours))
                else:
                    unrated += any(len(contour.points) > 1 for contour in contours)
    except ValueError as error:
        raise TableError(f"{path}: is damaged: {error}") from error
    study_uid = _text(root, "StudyInstanceUID")
    return Reading(path, series_uid, study_uid, len(sessions), tuple(marks), unrated)


def _xml_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(".xml") and not name.startswith("."):
                yield Path(folder) / name


def _rated(nodule: Element) -> tuple[int, ...]:
    block = next(_all(nodule, "characteristics"), None)
    if block is None:
        return (0,) * len(_RATINGS)
    return tuple(int(_text(block, name) or 0) for name in _RATINGS)


def _contour(roi: Element) -> Contour:
    z_mm = float(_text(roi, "imageZposition") or "nan")
    if not math.isfinite(z_mm):
        raise ValueError("an outline has no imageZposition")
    points = [(float(_text(e, "yCoord")), float(_text(e, "xCoord"))) for e in _all(roi, "edgeMap")]
    if not points:
        raise ValueError(f"the outline at z = {z_mm:g} has no points")
    inclusion = _text(roi, "inclusion").upper() != "FALSE"
    return Contour(np.array(points), z_mm, inclusion, _text(roi, "imageSOP_UID"))


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element.iter() if _name(child) == name and child is not element)


def _text(element: Element, name: str) -> str:
    found = next(_all(element, name), None)
    return "" if found is None else (found.text or "").strip()
