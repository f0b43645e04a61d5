"""Small DICOM series, written slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write_slice(
    path: Path,
    pixels: np.ndarray,
    *,
    position: tuple[float, float, float],
    series: str,
    orientation: tuple[float, ...] = AXIAL,
    spacing: tuple[float, float] = (0.8, 0.6),
    slope: float = 1.0,
    intercept: float = -1024.0,
    number: int = 1,
    **tags: object,
) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item = Dataset()
    item.file_meta = meta
    item.SOPClassUID = CTImageStorage
    item.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    item.Modality = "CT"
    item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    item.SeriesInstanceUID = series
    item.SeriesDescription = "thin"
    item.InstanceNumber = number
    item.ImagePositionPatient = [f"{value:.6g}" for value in position]
    item.ImageOrientationPatient = [f"{value:.8g}" for value in orientation]
    item.PixelSpacing = list(spacing)
    item.SliceThickness = 2.0
    item.RescaleSlope = slope
    item.RescaleIntercept = intercept
    item.Rows, item.Columns = pixels.shape
    item.SamplesPerPixel = 1
    item.PhotometricInterpretation = "MONOCHROME2"
    item.BitsAllocated = item.BitsStored = 16
    item.HighBit = 15
    item.PixelRepresentation = int(pixels.dtype.kind == "i")
    item.PixelData = pixels.astype("<i2" if item.PixelRepresentation else "<u2").tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(item, name)
        else:
            setattr(item, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    item.save_as(path, enforce_file_format=True)


def write_series(
    folder: Path,
    voxels: np.ndarray,
    *,
    step_mm: float = 2.0,
    origin: tuple[float, float, float] = (-10.0, -20.0, 30.0),
    series: str = "1.2.3.4",
    **options: object,
) -> list[Path]:
    """Write slices in scrambled file and instance order; ``voxels`` are stored values."""
    paths = []
    for level, pixels in enumerate(voxels):
        path = folder / f"{(level * 7) % len(voxels):03d}.dcm"
        position = (origin[0], origin[1], origin[2] + level * step_mm)
        number = len(voxels) - level
        write_slice(path, pixels, position=position, series=series, number=number, **options)  # type: ignore[arg-type]
        paths.append(path)
    return paths


def write_world(
    folder: Path,
    value: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    *,
    orientation: tuple[float, ...] = AXIAL,
    step: tuple[float, float, float] = (0.0, 0.0, 2.0),
    origin: tuple[float, float, float] = (-11.0, -7.0, 30.0),
    shape: tuple[int, int, int] = (5, 6, 8),
    spacing: tuple[float, float] = (0.8, 0.6),
    **options: object,
) -> None:
    """Write a series of HU that are a function of (x, y, z) in mm, LPS+."""
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    rows, columns = np.mgrid[: shape[1], : shape[2]][..., None]
    for level in range(shape[0]):
        place = np.array(origin) + level * np.array(step)
        points = place + rows * spacing[0] * down + columns * spacing[1] * across
        pixels = np.rint(value(*np.moveaxis(points, -1, 0)) + 1024).astype(np.uint16)
        write_slice(
            folder / f"{(level * 7) % shape[0]:03d}.dcm", pixels, position=tuple(place),
            orientation=orientation, spacing=spacing, number=level + 1,
            **{"series": "1.2.3.4", **options},
        )  # fmt: skip
