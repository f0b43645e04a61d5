"""Small real DICOM trees: RSNA-STR Pulmonary Embolism and LIDC-IDRI as they are published.

A bright ball (a clot, a nodule) stands in known slices of positive studies, so that labels and
pixels can be held against each other, and a network has something to learn.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

RSNA_STUDY_COLUMNS = (
    "negative_exam_for_pe", "qa_motion", "qa_contrast", "flow_artifact", "rv_lv_ratio_gte_1",
    "rv_lv_ratio_lt_1", "leftsided_pe", "chronic_pe", "true_filling_defect_not_pe",
    "rightsided_pe", "acute_and_chronic_pe", "central_pe", "indeterminate",
)  # fmt: skip
RSNA_COLUMNS = (
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "pe_present_on_image",
    *RSNA_STUDY_COLUMNS,
)  # fmt: skip
SPACING_MM = (2.5, 1.4, 1.4)
"""Slices, rows, columns."""


class Ball(NamedTuple):
    """A bright ball: slices that it stands in, its center and its radius in pixels."""

    slices: tuple[int, ...]
    row: float
    column: float
    radius: float


class Study(NamedTuple):
    """What was written of a study, in the order of the volume (feet to head)."""

    name: str
    series: str
    patient: str
    folder: Path
    uids: tuple[str, ...]
    z_mm: tuple[float, ...]
    ball: Ball | None

    @property
    def positive(self) -> tuple[int, ...]:
        return self.ball.slices if self.ball else ()


def hex_id(*parts: object) -> str:
    """A name of 12 hex digits, as the competition has instead of DICOM's UIDs."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def dotted_uid(*parts: object) -> str:
    return "1.3.6.1.4.1.14519.5.2.1." + str(
        int(hashlib.sha256(repr(parts).encode()).hexdigest()[:20], 16)
    )


def chest(
    rng: np.random.Generator, slices: int, pixels: int, ball: Ball | None, bright_hu: float
) -> np.ndarray:
    """HU of a chest-like scan: air, a body, two lungs, noise, and perhaps a bright ball."""
    down, across = np.meshgrid(np.arange(pixels), np.arange(pixels), indexing="ij")
    y, x = (down - pixels / 2) / pixels, (across - pixels / 2) / pixels
    plane = np.where((x / 0.46) ** 2 + (y / 0.38) ** 2 < 1, 40.0, -1000.0)
    for side in (-0.2, 0.2):
        plane[((x - side) / 0.15) ** 2 + (y / 0.25) ** 2 < 1] = -850.0
    hu = np.repeat(plane[None], slices, axis=0) + rng.normal(0, 15, (slices, pixels, pixels))
    if ball is not None:
        disk = (down - ball.row) ** 2 + (across - ball.column) ** 2 <= ball.radius**2
        hu[list(ball.slices)] = np.where(disk, bright_hu, hu[list(ball.slices)])
    return np.rint(np.clip(hu, -1024, 3000)).astype(np.int32)


def some_ball(rng: np.random.Generator, slices: int, pixels: int) -> Ball:
    """A ball in one of the lungs, through about a quarter of the slices."""
    thick = max(4, slices // 4)
    first = int(rng.integers(1, max(2, slices - thick)))
    side = rng.choice([-0.2, 0.2])
    row = float(round(pixels * (0.5 + rng.uniform(-0.12, 0.12))))
    column = float(round(pixels * (0.5 + side + rng.uniform(-0.04, 0.04))))
    last = min(slices, first + thick)
    return Ball(tuple(range(first, last)), row, column, max(2.0, pixels / 12))


def write_slices(
    folder: Path,
    hu: np.ndarray,
    *,
    study: str,
    series: str,
    uids: list[str],
    names: list[str],
    patient: str = "",
    signed: bool = False,
    syntax: str = "",
    origin: tuple[float, float, float] = (-20.0, -30.0, -110.0),
    **tags: Any,
) -> tuple[float, ...]:
    """Write one series; ``hu[0]`` is nearest to the feet. Return each slice's position in mm."""
    folder.mkdir(parents=True, exist_ok=True)
    z_mm = tuple(origin[2] + SPACING_MM[0] * level for level in range(len(hu)))
    for level, (plane, uid, name) in enumerate(zip(hu, uids, names, strict=True)):
        item = Dataset()
        item.file_meta = FileMetaDataset()
        item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID = CTImageStorage
        item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID = uid
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.Modality = "CT"
        item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        item.StudyInstanceUID, item.SeriesInstanceUID = study, series
        item.PatientID = patient
        item.InstanceNumber = len(hu) - level
        item.ImagePositionPatient = [origin[0], origin[1], z_mm[level]]
        item.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        item.PixelSpacing = list(SPACING_MM[1:])
        item.SliceThickness = SPACING_MM[0]
        item.RescaleSlope, item.RescaleIntercept = 1, 0 if signed else -1024
        item.Rows, item.Columns = plane.shape
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit = 16, 16, 15
        item.PixelRepresentation = int(signed)
        stored = plane if signed else plane + 1024
        item.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        for tag, value in tags.items():
            setattr(item, tag, value)
        if syntax:
            item.compress(syntax)
        item.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return z_mm


def edit_headers(paths: Iterable[Path], **values: Any) -> None:
    """Change elements of files; a callable gets the file's number."""
    with pydicom.config.disable_value_validation():
        for number, path in enumerate(sorted(paths)):
            item = pydicom.dcmread(path)
            for name, value in values.items():
                setattr(item, name, value(number) if callable(value) else value)
            item.save_as(path)


def add_localizer(study: Study, name: str = "localizer") -> Path:
    """Put one coronal localizer of another series among the slices of a study."""
    path = study.folder / f"{name}.dcm"
    shutil.copyfile(next(study.folder.glob("*.dcm")), path)
    edit_headers(
        [path],
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
        SeriesInstanceUID=dotted_uid(study.series, name),
        SOPInstanceUID=dotted_uid(name, study.name),
    )
    return path


def make_rsna_tree(
    root: Path,
    *,
    studies: int = 6,
    slices: int = 24,
    pixels: int = 32,
    seed: int = 0,
    indeterminate: int = 0,
    bright_hu: float = 600.0,
    patients: bool = False,
    formats: bool = False,
    real_slices: Path | None = None,
) -> list[Study]:
    """Write ``train.csv`` and ``train/STUDY/SERIES/SLICE.dcm``; every other study is positive.

    Args:
        root: Folder of the competition.
        studies: How many, without ``indeterminate`` and the real one.
        slices: Of each study; the third one of three has a quarter more.
        pixels: Rows and columns.
        seed: Of noise and places.
        indeterminate: Further studies that are neither positive nor negative.
        bright_hu: Of the ball, in lungs of -850.
        patients: Write PatientIDs, two studies a patient; otherwise they are empty.
        formats: Studies by turns with signed pixels, RLE and JPEG 2000 (32 pixels or more).
        real_slices: A DICOM series; it is written as one more, negative study.

    Returns:
        The studies, as they are in ``train.csv``.
    """
    rng = np.random.default_rng(seed)
    made: list[Study] = []
    rows: list[dict[str, Any]] = []
    with pydicom.config.disable_value_validation():
        for number in range(studies + indeterminate):
            unclear = number >= studies
            depth = slices + slices // 4 if number % 3 == 2 else slices
            ball = some_ball(rng, depth, pixels) if number % 2 and not unclear else None
            name, series = hex_id(seed, number, "study"), hex_id(seed, number, "series")
            uids = [hex_id(seed, number, level) for level in range(depth)]
            patient = f"P{number // 2:03d}" if patients else ""
            folder = root / "train" / name / series
            syntax = ("", "", RLELossless, JPEG2000Lossless)[number % 4] if formats else ""
            z_mm = write_slices(
                folder,
                chest(rng, depth, pixels, ball, bright_hu),
                study=name,
                series=series,
                uids=uids,
                names=uids,
                patient=patient,
                signed=formats and number % 2 == 1,
                syntax=syntax,
            )
            made.append(Study(name, series, patient, folder, tuple(uids), z_mm, ball))
            rows += _rsna_rows(made[-1], unclear)
        if real_slices is not None:
            made.append(_real_study(root, real_slices))
            rows += _rsna_rows(made[-1], False)
    order = rng.permutation(len(rows))
    write_rsna_rows(root / "train.csv", [rows[k] for k in order])
    return made


def write_rsna_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as handle:
        out = csv.DictWriter(handle, RSNA_COLUMNS)
        out.writeheader()
        out.writerows(rows)


def read_rsna_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def _rsna_rows(study: Study, unclear: bool) -> list[dict[str, Any]]:
    whole = dict.fromkeys(RSNA_STUDY_COLUMNS, 0)
    whole["indeterminate"] = int(unclear)
    whole["negative_exam_for_pe"] = int(study.ball is None and not unclear)
    if study.ball is not None:
        whole["rightsided_pe"] = whole["rv_lv_ratio_lt_1"] = 1
    return [
        {
            "StudyInstanceUID": study.name,
            "SeriesInstanceUID": study.series,
            "SOPInstanceUID": uid,
            "pe_present_on_image": int(level in study.positive),
            **whole,
        }
        for level, uid in enumerate(study.uids)
    ]


def _real_study(root: Path, real_slices: Path) -> Study:
    """Copy a real series under new names."""
    name, series = hex_id("real", "study"), hex_id("real", "series")
    folder = root / "train" / name / series
    folder.mkdir(parents=True)
    items = [pydicom.dcmread(path) for path in sorted(real_slices.iterdir())]
    items.sort(key=lambda item: float(item.ImagePositionPatient[2]))
    uids = [hex_id("real", level) for level in range(len(items))]
    for item, uid in zip(items, uids, strict=True):
        item.StudyInstanceUID, item.SeriesInstanceUID, item.SOPInstanceUID = name, series, uid
        item.file_meta.MediaStorageSOPInstanceUID = uid
        item.PatientID = ""
        item.save_as(folder / f"{uid}.dcm")
    z_mm = tuple(float(item.ImagePositionPatient[2]) for item in items)
    return Study(name, series, "", folder, tuple(uids), z_mm, None)
