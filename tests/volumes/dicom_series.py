"""Small DICOM series, written slice by slice."""

from __future__ import annotations

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
    item.PixelRepresentation = 0
    item.PixelData = pixels.astype("<u2").tobytes()
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
