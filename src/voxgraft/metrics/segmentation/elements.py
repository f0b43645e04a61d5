"""What the surface of a mask is made of: places in mm, each with an area.

Two conventions are in use, and the numbers of one do not equal those of the other.

``"area"``: the surface runs between voxels. It stands at the corners where voxels meet (one lattice
point for each group of 2x2x2 voxels that is neither all inside nor all outside), and each point
counts with the area in mm² of the marching-cubes surface in its group. This is what DeepMind's
``surface-distance`` does.

``"voxel"``: the surface is the voxels of the mask of which one of the six neighbors is outside, and
each counts 1. This is what MONAI does by default.

Outside the array is background in both, so a mask at the border has a surface there.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from voxgraft.errors import MetricError
from voxgraft.types import Spacing3

Convention = Literal["area", "voxel"]
"""How a surface is counted: by area (``surface-distance``) or by voxels (MONAI)."""

Corner = tuple[int, int, int]

CORNERS: tuple[Corner, ...] = tuple((d, h, w) for d in (0, 1) for h in (0, 1) for w in (0, 1))
"""Voxels of a 2x2x2 group in the order of their bits, lowest first."""

INSIDE = 255
"""Code of a group that is all inside."""


@dataclass(frozen=True)
class Elements:
    """The elements of one surface.

    Attributes:
        present: Where an element stands, on the lattice of its convention.
        weights: What each counts, in the order of ``np.flatnonzero(present)``: mm², or 1.
    """

    present: Bool[np.ndarray, "d h w"]
    weights: Float[np.ndarray, " n"]


def check_convention(convention: str) -> None:
    """Refuse a name that is no convention."""
    if convention not in get_args(Convention):
        raise MetricError(
            f"convention is {convention!r}; expected 'area' (as surface-distance) or 'voxel' "
            "(as MONAI)."
        )


def surface_elements(
    mask: Bool[np.ndarray, "d h w"], spacing_mm: Spacing3, convention: Convention
) -> Elements:
    """Find the elements of a mask's surface.

    Args:
        mask: A mask; what lies outside the array is background.
        spacing_mm: Spacing of its voxels.
        convention: See the module.

    Returns:
        The elements, on a lattice of ``(d + 1, h + 1, w + 1)`` corners for ``"area"`` (point
        ``i`` lies half a voxel below voxel ``i``), of ``(d, h, w)`` voxels for ``"voxel"``.
    """
    if convention == "voxel":
        edge = _edge_voxels(mask)
        return Elements(edge, np.ones(np.count_nonzero(edge)))
    codes = _codes(mask)
    present = (codes != 0) & (codes != INSIDE)
    return Elements(present, area_table(spacing_mm)[codes[present]])


def _edge_voxels(mask: Bool[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    inner = mask.copy()
    for axis in range(3):
        rows, kept = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        kept[1:] &= rows[:-1]
        kept[:-1] &= rows[1:]
        kept[0] = False
        kept[-1] = False
    edge: Bool[np.ndarray, "d h w"] = mask & ~inner
    return edge


def _codes(mask: Bool[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "d+1 h+1 w+1"]:
    """Return for each lattice corner the bits of the 2x2x2 voxels around it."""
    padded = np.pad(mask, 1).view(np.uint8)
    size = tuple(edge - 1 for edge in padded.shape)
    codes = np.zeros(size, np.uint8)
    for bit, corner in enumerate(CORNERS):
        window = tuple(slice(start, start + edge) for start, edge in zip(corner, size, strict=True))
        codes |= padded[window] << np.uint8(bit)
    return codes


@functools.lru_cache(maxsize=64)
def area_table(spacing_mm: Spacing3) -> Float[np.ndarray, " 256"]:
    """Return the surface's area in mm² for each of the 256 codes of a 2x2x2 group.

    Voxels of a group that touch by a face are one piece, and the surface of a group is that of its
    pieces; a group with more than four voxels inside has the surface of its complement. A piece's
    area follows from its form alone, by the triangles of marching cubes between the middles of the
    edges. Equal to the table of ``surface-distance`` for every code and spacing.

    Source:
        Lorensen and Cline (1987), Marching cubes; Nikolov et al. (2018), arXiv 1809.04430.
    """
    areas = np.zeros(256)
    for code in range(1, INSIDE):
        inside = [corner for bit, corner in enumerate(CORNERS) if code >> bit & 1]
        if len(inside) > 4:
            inside = [corner for corner in CORNERS if corner not in inside]
        areas[code] = sum(_piece_area(piece, spacing_mm) for piece in _pieces(inside))
    areas.setflags(write=False)
    return areas


def _step(one: Corner, other: Corner) -> int | None:
    """Return the axis along which two corners are neighbors, or None."""
    axes = [axis for axis in range(3) if one[axis] != other[axis]]
    return axes[0] if len(axes) == 1 else None


def _pieces(corners: list[Corner]) -> list[list[Corner]]:
    left, pieces = list(corners), []
    while left:
        piece = [left.pop()]
        for corner in piece:  # grows under way
            near = [other for other in left if _step(corner, other) is not None]
            piece += near
            left = [other for other in left if other not in near]
        pieces.append(piece)
    return pieces


def _piece_area(piece: list[Corner], spacing_mm: Spacing3) -> float:
    """Return the area in mm² of the surface around one to four corners joined by faces."""
    depth, height, width = spacing_mm
    face = np.array([height * width, depth * width, depth * height])  # by the axis across it
    diagonal = float(np.linalg.norm(face))
    steps = [
        (axis, one, other)
        for one, other in itertools.combinations(piece, 2)
        if (axis := _step(one, other)) is not None
    ]
    along = {axis for axis, _, _ in steps}
    if len(piece) == 1:
        return diagonal / 8
    if len(piece) == 2:
        return float(np.linalg.norm(np.delete(face, [*along]))) / 2
    if len(piece) == 3:
        (across,) = {0, 1, 2} - along
        return float(face[across]) / 2 + diagonal * 3 / 8
    if len(steps) == 4:  # a whole side of the group
        (across,) = {0, 1, 2} - along
        return float(face[across])
    ends = [corner for _, one, other in steps for corner in (one, other)]
    if max(ends.count(corner) for corner in piece) == 3:  # a corner and its three neighbors
        return diagonal * 3 / 4
    middle = next(a for a, one, other in steps if ends.count(one) == ends.count(other) == 2)
    bends = [float(np.hypot(face[middle], face[axis])) for axis in range(3) if axis != middle]
    return diagonal / 2 + sum(bends) / 4  # a chain around two bends


def offsets_mm(steps: Int[np.ndarray, "n 3"], spacing_mm: Spacing3) -> Float[np.ndarray, " n"]:
    """Return the lengths in mm of whole steps on a lattice: the same wherever the mask lies."""
    scaled = steps * np.asarray(spacing_mm)
    lengths: Float[np.ndarray, " n"] = np.sqrt(np.einsum("na,na->n", scaled, scaled))
    return lengths
