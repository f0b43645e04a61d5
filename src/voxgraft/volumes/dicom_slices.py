"""What the header of one DICOM slice says, and how slices are spoken of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

SAME_ORIENTATION = 2e-3
"""Direction cosines that differ by no more are one orientation."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What the header of one DICOM image, or of one frame of a file, says; mm, LPS+.

    Attributes:
        frame: Index of the frame in its file, from 0; None if the file says nothing of frames.
        frames: Number of frames in the file.
        syntax: UID of the transfer syntax.
        moment: Names and values of what tells images at one place apart (time, echo, kernel).
        position: (x, y, z) of the center of the first pixel.
        orientation: Direction of increasing column index (3) and of increasing row index (3).
        spacing: Distance of neighboring rows and of neighboring columns.
        thickness: Distance of slices, or their thickness.
        rescaled: Whether the header has RescaleSlope or RescaleIntercept.
    """

    path: Path
    frame: int | None
    frames: int
    uid: str
    series: str
    study: str
    patient: str
    manufacturer: str
    number: int | None
    description: str
    modality: str
    sop_class: str
    image_type: tuple[str, ...]
    syntax: str
    moment: tuple[tuple[str, str], ...]
    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool
    photometric: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float
    intercept: float
    rescaled: bool
    rescale_type: str

    @property
    def name(self) -> str:
        """Name of the file, with the frame if there are several."""
        if self.frame is None or self.frames == 1:
            return self.path.name
        return f"{self.path.name}[{self.frame + 1}]"

    @property
    def place(self) -> Float[np.ndarray, " 3"]:
        """Center of the first pixel, (x, y, z), LPS+, in mm."""
        return np.asarray(self.position, dtype=np.float64)

    @property
    def cosines(self) -> Float[np.ndarray, " 6"]:
        """Direction of increasing column index (3) and of increasing row index (3), LPS+."""
        return np.asarray(self.orientation, dtype=np.float64)

    @property
    def normal(self) -> Float[np.ndarray, " 3"]:
        """Cross product of both directions; of length 1 if they are what they should be."""
        normal: Float[np.ndarray, " 3"] = np.cross(self.cosines[:3], self.cosines[3:])
        return normal

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Distance of neighboring rows and of neighboring columns, in mm."""
        row, column = self.spacing or (0.0, 0.0)
        return row, column

    @property
    def has_geometry(self) -> bool:
        """Whether position, orientation and pixel spacing are all there."""
        return None not in (self.position, self.orientation, self.spacing)

    @property
    def is_gray(self) -> bool:
        """Whether a pixel is one brightness."""
        return self.samples == 1 and self.photometric != "PALETTE COLOR"

    @property
    def is_one_slice(self) -> bool:
        """Whether it is one slice: a file with one frame, or one frame with its own place."""
        return self.frame is not None or self.frames == 1

    def same_orientation(self, other: Slice) -> bool:
        """Whether both slices have the same axes, to ``SAME_ORIENTATION``."""
        return bool(np.allclose(self.cosines, other.cosines, rtol=0.0, atol=SAME_ORIENTATION))


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder that may be slices, by name."""
    return sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )


def counted(count: int, noun: str) -> str:
    """Return ``"1 slice"``, ``"2 slices"``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def shown_orientation(item: Slice) -> str:
    """Return the plane and the direction cosines of a slice."""
    normal = np.abs(item.normal)
    plane = ("sagittal", "coronal", "axial")[int(normal.argmax())]
    if normal.max() < 0.999:
        plane = f"oblique, nearly {plane}"
    return f"{plane} (" + ", ".join(f"{value:.3g}" for value in item.cosines) + ")"
