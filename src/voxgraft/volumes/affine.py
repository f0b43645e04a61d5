"""Where the voxels of a scan lie in the patient: index to millimeters, RAS+."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from voxgraft.types import Spacing3
from voxgraft.volumes.damage import GeometryError

MIN_SPACING_MM = 0.01
"""Voxels smaller than this, read from a file, are taken for a damaged header."""
MAX_SPACING_MM = 100.0
"""Voxels larger than this, read from a file, are taken for a damaged header."""
_MIN_VOLUME = 1e-3
"""Smallest |determinant| of the unit axes: below it two axes are parallel for all purposes."""
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Affine:
    """A map from (depth, height, width) indices to (x, y, z) in mm, RAS+.

    The center of the voxel with index ``(d, h, w)`` lies at ``matrix @ (d, h, w, 1)``. Objects
    never change and compare by value.
    """

    def __init__(self, matrix: Shaped[np.ndarray, "4 4"]) -> None:
        """Check and keep a matrix.

        Args:
            matrix: (4, 4); columns are the steps along depth, height and width and the center of
                voxel (0, 0, 0); rows are x, y, z in mm (RAS+) and ``0 0 0 1``.

        Raises:
            GeometryError: If it is no finite, invertible affine matrix.
        """
        try:
            values = np.array(matrix, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise GeometryError(
                f"an affine must be a matrix of 4 x 4 numbers, found {type(matrix).__name__}."
            ) from error
        _check_matrix(values)
        values.setflags(write=False)
        self._matrix = values

    @classmethod
    def from_spacing(
        cls, spacing_mm: Iterable[float], origin_mm: Iterable[float] = (0.0, 0.0, 0.0)
    ) -> Affine:
        """Return the affine of an upright RAS+ grid.

        Args:
            spacing_mm: (depth, height, width), in mm.
            origin_mm: (x, y, z) of the center of voxel (0, 0, 0), in mm.

        Raises:
            GeometryError: If a spacing is not positive and finite.
        """
        depth, height, width = (float(value) for value in spacing_mm)
        if not all(np.isfinite(value) and value > 0 for value in (depth, height, width)):
            raise GeometryError(
                f"spacing (depth, height, width) is {(depth, height, width)} mm; expected three "
                "positive numbers. Give the voxel size in mm."
            )
        matrix = np.zeros((4, 4))
        matrix[2, 0], matrix[1, 1], matrix[0, 2], matrix[3, 3] = depth, height, width, 1.0
        matrix[:3, 3] = tuple(origin_mm)
        return cls(matrix)

    @classmethod
    def from_xyz(cls, matrix: Shaped[np.ndarray, "4 4"]) -> Affine:
        """Return the affine of an (x, y, z)-ordered one, as nibabel gives it (RAS+)."""
        return cls(np.asarray(matrix)[:, [2, 1, 0, 3]])

    @classmethod
    def from_lps(
        cls,
        spacing_mm: Iterable[float],
        origin_mm: Iterable[float],
        direction: Shaped[np.ndarray, "3 3"],
    ) -> Affine:
        """Return the affine of ITK's geometry.

        Args:
            spacing_mm: Along the first, second and third ITK axis (width, height, depth).
            origin_mm: (x, y, z), LPS+.
            direction: Columns are the unit vectors of the ITK axes, LPS+.
        """
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(direction) * np.asarray(tuple(spacing_mm))
        matrix[:3, 3] = tuple(origin_mm)
        return cls.from_xyz(_TO_LPS @ matrix)

    @property
    def matrix(self) -> Float[np.ndarray, "4 4"]:
        """The (4, 4) matrix, float64, not writable."""
        return self._matrix

    @cached_property
    def inverse(self) -> Float[np.ndarray, "4 4"]:
        """The (4, 4) matrix from (x, y, z, 1) in mm to the (depth, height, width, 1) index."""
        inverse: Float[np.ndarray, "4 4"] = np.linalg.inv(self._matrix)
        inverse.setflags(write=False)
        return inverse

    @property
    def spacing_mm(self) -> Spacing3:
        """Distance of neighboring voxel centers along (depth, height, width), in mm."""
        depth, height, width = np.linalg.norm(self._matrix[:3, :3], axis=0)
        return float(depth), float(height), float(width)

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """(x, y, z) of the center of voxel (0, 0, 0), in mm, RAS+."""
        x, y, z = self._matrix[:3, 3]
        return float(x), float(y), float(z)

    @property
    def direction(self) -> Float[np.ndarray, "3 3"]:
        """Unit vectors of depth, height and width as columns; rows are x, y, z (RAS+)."""
        unit: Float[np.ndarray, "3 3"] = self._matrix[:3, :3] / np.asarray(self.spacing_mm)
        return unit

    @property
    def is_orthogonal(self) -> bool:
        """Whether the three axes stand at right angles (to 1e-4)."""
        unit = self.direction
        return bool(np.allclose(unit.T @ unit, np.eye(3), atol=1e-4))

    @property
    def orientation(self) -> str:
        """Three letters such as ``"RAS"``, the axis that varies fastest (width) first.

        The letter says towards which side of the patient the index grows, as in nibabel.
        """
        import nibabel  # takes long to import

        nib: Any = nibabel  # without types of its own
        return "".join(str(letter) for letter in nib.aff2axcodes(self.to_xyz()))

    def to_world(self, index: Shaped[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Return (x, y, z) in mm of (depth, height, width) indices; both of shape (..., 3)."""
        points = np.asarray(index, dtype=np.float64)
        world: Float[np.ndarray, "*n 3"] = points @ self._matrix[:3, :3].T + self._matrix[:3, 3]
        return world

    def to_index(self, world: Shaped[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Return the (depth, height, width) indices, with fractions, of points in mm (RAS+)."""
        points = np.asarray(world, dtype=np.float64)
        index: Float[np.ndarray, "*n 3"] = points @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        return index

    def compose(self, index_matrix: Shaped[np.ndarray, "4 4"]) -> Affine:
        """Return the affine of a grid given in this grid's indices.

        Args:
            index_matrix: (4, 4); maps a new (depth, height, width, 1) index to this grid's index.
                A crop from ``start`` is a shift by ``start``; a flip of an axis of ``n`` voxels
                is ``-1`` on the diagonal and ``n - 1`` in the last column.
        """
        return Affine(self._matrix @ np.asarray(index_matrix, dtype=np.float64))

    def shifted(self, start: Iterable[float]) -> Affine:
        """Return the affine of the grid whose voxel (0, 0, 0) is this grid's voxel ``start``."""
        shift = np.eye(4)
        shift[:3, 3] = tuple(start)
        return self.compose(shift)

    def to_xyz(self) -> Float[np.ndarray, "4 4"]:
        """Return the matrix for (x, y, z)-ordered indices, as nibabel wants it (RAS+)."""
        return self._matrix[:, [2, 1, 0, 3]].copy()

    def to_lps(
        self,
    ) -> tuple[tuple[float, ...], tuple[float, ...], Float[np.ndarray, "3 3"]]:
        """Return ITK's spacing (width, height, depth), origin (LPS+) and direction (LPS+)."""
        matrix = _TO_LPS @ self.to_xyz()
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        direction: Float[np.ndarray, "3 3"] = matrix[:3, :3] / spacing
        return tuple(spacing.tolist()), tuple(matrix[:3, 3].tolist()), direction

    def isclose(self, other: Affine, tolerance_mm: float = 1e-3) -> bool:
        """Return whether all entries of both matrices agree to ``tolerance_mm``."""
        return bool(np.allclose(self._matrix, other._matrix, rtol=0.0, atol=tolerance_mm))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and np.array_equal(self._matrix, other._matrix)

    def __hash__(self) -> int:
        return hash((self._matrix + 0.0).tobytes())

    def __repr__(self) -> str:
        spacing = " x ".join(f"{value:.4g}" for value in self.spacing_mm)
        origin = ", ".join(f"{value:.4g}" for value in self.origin_mm)
        return f"Affine({spacing} mm, {self.orientation}, origin ({origin}) mm)"


def check_spacing(spacing_mm: Iterable[float], where: str) -> None:
    """Refuse voxel sizes that no scanner makes.

    Raises:
        GeometryError: If a spacing is below ``MIN_SPACING_MM`` or above ``MAX_SPACING_MM``.
    """
    values = tuple(spacing_mm)
    if all(MIN_SPACING_MM <= value <= MAX_SPACING_MM for value in values):
        return
    shown = ", ".join(f"{value:.6g}" for value in values)
    raise GeometryError(
        f"{where}: spacing (depth, height, width) is ({shown}) mm; expected each between "
        f"{MIN_SPACING_MM:g} and {MAX_SPACING_MM:g} mm. The header is damaged or in another unit: "
        "correct the voxel size (in mm) in the file."
    )


def _check_matrix(matrix: Float[np.ndarray, "4 4"]) -> None:
    if matrix.shape != (4, 4):
        raise GeometryError(f"an affine must have shape (4, 4), found {matrix.shape}.")
    shown = np.array2string(matrix, precision=6, separator=", ").replace("\n", "")
    remedy = "Correct the geometry in the file's header, or convert the scan again."
    if not np.isfinite(matrix).all():
        raise GeometryError(f"the affine has NaN or infinite entries: {shown}. {remedy}")
    if not np.array_equal(matrix[3], [0.0, 0.0, 0.0, 1.0]):
        raise GeometryError(f"the last row of an affine must be 0 0 0 1, found {shown}. {remedy}")
    with np.errstate(over="ignore"):
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(spacing).all() or (spacing < 1e-12).any():
        raise GeometryError(
            f"the affine cannot be inverted: a spacing is zero or without bound in {shown}; "
            f"expected three axes of positive length. {remedy}"
        )
    if abs(np.linalg.det(matrix[:3, :3] / spacing)) < _MIN_VOLUME:
        raise GeometryError(
            f"the affine cannot be inverted: two of its axes are parallel in {shown}. {remedy}"
        )
