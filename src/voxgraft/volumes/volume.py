"""What a scan is: voxels with their place in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from voxgraft.errors import VolumeError
from voxgraft.types import Size3, Spacing3
from voxgraft.volumes.affine import Affine


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan.

    Attributes:
        voxels: (channels, depth, height, width), of a real dtype (integers or floats).
        affine: From (depth, height, width) indices to mm, RAS+.
        path: The file or folder that it was read from, if any.
        notes: What the reader assumed, left out or corrected, one sentence each; empty for a
            clean file.
    """

    voxels: Shaped[np.ndarray, "c d h w"] = field(repr=False)
    affine: Affine
    path: Path | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_voxels(self.voxels, 4, "(channels, depth, height, width)", self.path)

    @property
    def shape(self) -> Size3:
        """(depth, height, width), in voxels."""
        depth, height, width = self.voxels.shape[1:]
        return depth, height, width

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.voxels.shape[0])

    @property
    def spacing_mm(self) -> Spacing3:
        """(depth, height, width), in mm."""
        return self.affine.spacing_mm


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A class index for each voxel.

    Attributes:
        voxels: (depth, height, width), integers.
        affine: From (depth, height, width) indices to mm, RAS+.
        path: The file that it was read from, if any.
    """

    voxels: Integer[np.ndarray, "d h w"] = field(repr=False)
    affine: Affine
    path: Path | None = None

    def __post_init__(self) -> None:
        _check_voxels(self.voxels, 3, "(depth, height, width)", self.path)
        if self.voxels.dtype.kind not in "iu":
            raise VolumeError(
                f"{_name(self.path)}: a label map holds integers, found dtype {self.voxels.dtype}. "
                "Round and convert it first."
            )

    @property
    def shape(self) -> Size3:
        """(depth, height, width), in voxels."""
        depth, height, width = self.voxels.shape
        return depth, height, width

    @property
    def spacing_mm(self) -> Spacing3:
        """(depth, height, width), in mm."""
        return self.affine.spacing_mm


@dataclass(frozen=True)
class Header:
    """What is known of a scan without its voxels.

    Attributes:
        shape: (depth, height, width), in voxels.
        channels: Number of channels.
        affine: From (depth, height, width) indices to mm, RAS+.
        dtype: As stored on disk, before any rescaling (``"int16"``).
        format: ``"nifti"``, ``"nrrd"``, ``"mha"``, ``"npz"`` or ``"dicom"``.
        notes: What the reader assumed, left out or corrected, one sentence each.
    """

    shape: Size3
    channels: int
    affine: Affine
    dtype: str
    format: str
    notes: tuple[str, ...] = ()


def _name(path: Path | None) -> str:
    return "a volume" if path is None else str(path)


def _check_voxels(voxels: object, ndim: int, axes: str, path: Path | None) -> None:
    if not isinstance(voxels, np.ndarray):
        raise VolumeError(
            f"{_name(path)}: voxels must be a numpy array, found {type(voxels).__name__}."
        )
    if voxels.ndim != ndim:
        raise VolumeError(
            f"{_name(path)}: voxels have shape {voxels.shape}; expected {ndim} axes {axes}."
        )
    if voxels.size == 0:
        raise VolumeError(f"{_name(path)}: voxels have shape {voxels.shape}, so there are none.")
    if voxels.dtype.kind not in "iufb":
        raise VolumeError(
            f"{_name(path)}: voxels have dtype {voxels.dtype}; expected integers or real floats."
        )
