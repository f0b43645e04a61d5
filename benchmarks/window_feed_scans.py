"""CTs of the size of a chest CT, made for ``window_feed.py``: as .nii.gz and as DICOM series.

A body of fat and muscle with lungs, vessels, a spine and ribs, on a table in air. Noise of 18 HU
is correlated over two voxels in the plane as a reconstruction kernel leaves it, so that the files
compress about as scans do (to about half of their int16 voxels).
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid
from scipy import ndimage

SPACING_MM = (1.25, 0.7, 0.7)


def made_ct(seed: int, depth: int, edge: int = 512) -> np.ndarray:
    """Return HU, int16, of (depth, height, width); height runs to posterior, width to left."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*[np.linspace(-1, 1, edge, dtype=np.float32)] * 2, indexing="ij")
    spots = rng.uniform(-1, 1, (180, 3)).astype(np.float32)
    sizes = rng.uniform(0.01, 0.06, (180, 2)).astype(np.float32)
    bank = ndimage.gaussian_filter(
        rng.standard_normal((24, edge, edge)).astype(np.float32), (0, 0.8, 0.8)
    )
    bank *= 18 / bank.std()
    result = np.empty((depth, edge, edge), dtype=np.int16)
    for level in range(depth):
        z = 2 * level / max(1, depth - 1) - 1
        hu = np.full((edge, edge), -1000, dtype=np.float32)
        wide = 0.86 - 0.08 * z * z
        hu[(x / wide) ** 2 + (y / 0.62) ** 2 < 1] = -95
        hu[(x / (wide - 0.07)) ** 2 + (y / 0.55) ** 2 < 1] = 45
        for side in (-1, 1):
            reach = np.sqrt(max(0.0, 1 - (z / 0.95) ** 2))
            lung = ((x - side * 0.4) / 0.28) ** 2 + ((y + 0.03) / 0.42) ** 2 < reach
            hu[lung] = -850
        for (cz, cy, cx), (ry, rx) in zip(spots, sizes, strict=True):
            size = 1 - ((z - cz) / 0.3) ** 2
            if size > 0:
                near = np.abs(y[:, 0] - cy * 0.4) < ry, np.abs(x[0] - cx * 0.65) < rx
                hu[np.ix_(*near)] = 60 + 300 * size
        hu[(x / 0.09) ** 2 + ((y - 0.4) / 0.09) ** 2 < 1] = 420
        hu[(np.abs(y - 0.72) < 0.02) & (np.abs(x) < 0.7)] = -300
        noise = np.roll(bank[rng.integers(24)], tuple(rng.integers(0, edge, 2)), (0, 1))
        result[level] = np.clip(np.rint(ndimage.uniform_filter(hu, 3) + noise), -1024, 3071)
    return result


def write_nifti(hu: np.ndarray, path: Path) -> None:
    """Write (depth, height, width) as a .nii.gz that was made from DICOM: LPS turned to RAS."""
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine, dtype=np.int16)
    nibabel.save(image, path)


def write_dicom(hu: np.ndarray, folder: Path, *, compressed: bool = False) -> None:
    """Write (depth, height, width) as a series, a file a slice."""
    folder.mkdir(parents=True)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for level, plane in enumerate(hu):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        item = Dataset()
        item.file_meta = meta
        item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        item.SeriesInstanceUID, item.StudyInstanceUID = series, study
        item.FrameOfReferenceUID = frame
        item.Modality, item.PatientID, item.SeriesNumber = "CT", folder.name, 1
        item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        item.InstanceNumber = level + 1
        item.ImagePositionPatient = [-179.0, -179.0, level * SPACING_MM[0]]
        item.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        item.PixelSpacing, item.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
        item.Rows, item.Columns = plane.shape
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit = 16, 16, 15
        item.PixelRepresentation = 1
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = 1, -1024, "HU"
        stored = np.ascontiguousarray(plane + 1024, dtype="<i2")
        item.PixelData = stored.tobytes()
        if compressed:
            item.compress(JPEG2000Lossless, generate_instance_uid=False)
        pydicom.dcmwrite(folder / f"{level:04d}.dcm", item, enforce_file_format=True)
