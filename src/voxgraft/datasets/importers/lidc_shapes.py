"""Nodules as voxels: outlines filled, readers averaged, resampled to a cube around the nodule."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, UInt8

from voxgraft.datasets.importers.lidc_nodules import Annotation, Contour, Nodule
from voxgraft.types import Size3

_MAX_GAP = 1.5
"""Beyond an end slice, the shape ends within this many typical slice spacings."""


@dataclass(frozen=True)
class Shape:
    """A nodule on the grid of its CT scan.

    Attributes:
        fraction: (slices, rows, columns), share of the readers who include a voxel, in [0, 1];
            zero in the outermost slices, rows and columns.
        z_mm: Position of each slice.
        first_pixel: (row, column) of ``fraction[:, 0, 0]`` in the CT scan.
        pixel_spacing_mm: Of rows and of columns.
        volume_mm3: Mean volume over the readers.
    """

    fraction: Float[np.ndarray, "d h w"]
    z_mm: Float[np.ndarray, " d"]
    first_pixel: tuple[int, int]
    pixel_spacing_mm: float
    volume_mm3: float

    @property
    def center(self) -> tuple[float, float, float]:
        """Center of mass: (z in mm, row in pixels, column in pixels)."""
        mass = self.fraction * _thickness(self.z_mm)[:, None, None]
        total = mass.sum()
        z = float((mass.sum(axis=(1, 2)) @ self.z_mm) / total)
        row = float((mass.sum(axis=(0, 2)) @ np.arange(mass.shape[1])) / total)
        column = float((mass.sum(axis=(0, 1)) @ np.arange(mass.shape[2])) / total)
        return z, row + self.first_pixel[0], column + self.first_pixel[1]


def nodule_shape(nodule: Nodule) -> Shape:
    """Fill the outlines of all readers of a nodule on the grid of its CT scan.

    An outline runs through the first pixels outside the nodule (LIDC's rule), so the pixels
    strictly inside belong to it; those strictly inside a hole's outline do not. An annotation
    without any pixel inside counts its outline's own pixels. A slice that a reader skipped between
    two outlined ones is blended from its neighbors by distance.
    """
    first, size = _bounds(nodule)
    z_mm = _slices(nodule)
    masks = np.stack([_reader_mask(item, z_mm, first, size) for item in nodule.annotations])
    thickness = _thickness(z_mm)
    pixel = nodule.scan.pixel_spacing_mm
    volume = float((masks.sum(axis=(2, 3)) @ thickness).mean()) * pixel**2
    return Shape(masks.mean(axis=0), z_mm, first, pixel, volume)


def shape_cube(
    shape: Shape, spacing_mm: float, size_voxels: Size3
) -> tuple[Float[np.ndarray, "d h w"], bool]:
    """Resample a shape to isotropic voxels, its center of mass in the middle of the cube.

    A voxel is the mean, over its own extent, of the shape interpolated linearly between pixels and
    slices: volume is kept at any spacing, finer or coarser than the scan.

    Args:
        shape: The nodule.
        spacing_mm: Edge of a voxel.
        size_voxels: (depth, height, width) of the cube.

    Returns:
        Fractions in [0, 1], in RAS+ order (depth to superior, height to anterior, width to right,
        for a patient on the back), and whether the cube cuts some of the shape off.
    """
    z, row, column = shape.center
    pixel = shape.pixel_spacing_mm
    rows = (np.arange(shape.fraction.shape[1]) + shape.first_pixel[0] - row) * pixel
    columns = (np.arange(shape.fraction.shape[2]) + shape.first_pixel[1] - column) * pixel
    depth, height, width = size_voxels
    along_z = averaging_weights(shape.z_mm - z, depth, spacing_mm)
    along_row = averaging_weights(rows, height, spacing_mm)[::-1]
    along_column = averaging_weights(columns, width, spacing_mm)[::-1]
    cube = separable(shape.fraction, along_z, along_row, along_column)
    whole = float(shape.fraction.sum(axis=(1, 2)) @ _thickness(shape.z_mm)) * pixel**2
    cut_off = float(cube.sum()) * spacing_mm**3 < 0.999 * whole
    return cube, cut_off


def averaging_weights(
    nodes_mm: Float[np.ndarray, " n"], count: int, spacing_mm: float
) -> Float[np.ndarray, "m n"]:
    """Return the weights that average a linear interpolant over each of a row of voxels.

    Args:
        nodes_mm: Where values are known, ascending; beyond the ends the interpolant falls to zero
            within the last gap.
        count: Number of voxels; they are centered on 0.
        spacing_mm: Extent of a voxel.

    Returns:
        (voxels, nodes); each row sums to 1 where nodes surround the voxel.
    """
    edges = (np.arange(count + 1) - count / 2) * spacing_mm
    gaps = np.diff(nodes_mm) if len(nodes_mm) > 1 else np.array([spacing_mm])
    left = np.concatenate([gaps[:1], gaps])[: len(nodes_mm)]
    right = np.concatenate([gaps, gaps[-1:]])[-len(nodes_mm) :]
    apart = edges[:, None] - nodes_mm[None]
    rise = np.clip(apart + left, 0.0, left) ** 2 / (2 * left)
    fall = (right**2 - np.clip(right - apart, 0.0, right) ** 2) / (2 * right)
    integral = rise + np.where(apart > 0, fall, 0.0)
    weights: Float[np.ndarray, "m n"] = np.diff(integral, axis=0) / spacing_mm
    return weights


def separable(
    values: Float[np.ndarray, "a b c"],
    along_z: Float[np.ndarray, "d a"],
    along_row: Float[np.ndarray, "h b"],
    along_column: Float[np.ndarray, "w c"],
) -> Float[np.ndarray, "d h w"]:
    """Apply one weight matrix along each axis.

    Plain loops of numpy, not BLAS: its threads cost more than these small products, and its sums
    differ between machines.
    """
    lines = np.einsum("abc,wc->abw", values, along_column)
    planes = np.einsum("abw,hb->ahw", lines, along_row)
    return np.asarray(np.einsum("ahw,da->dhw", planes, along_z))


def as_uint8(fraction: Float[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "d h w"]:
    """Return fractions in [0, 1] as 0 to 255."""
    scaled: UInt8[np.ndarray, "d h w"] = np.rint(np.clip(fraction, 0, 1) * 255).astype(np.uint8)
    return scaled


def fill_outlines(
    outlines: list[Float[np.ndarray, "n 2"]], first: tuple[int, int], size: tuple[int, int]
) -> tuple[Bool[np.ndarray, "k h w"], Bool[np.ndarray, "k h w"]]:
    """Fill outlines whose points are pixels: all in one go, by counting crossings along rows.

    Args:
        outlines: Each (n, 2), (row, column) in pixels; closed by themselves or not.
        first: Pixel that becomes index (0, 0).
        size: (rows, columns) of the result.

    Returns:
        The pixels strictly inside each outline (even-odd rule), and those on it.
    """
    count, (height, width) = len(outlines), size
    owner = np.repeat(np.arange(count), [len(points) for points in outlines])
    start = np.concatenate(outlines) - np.asarray(first)
    end = np.concatenate([np.roll(points, -1, axis=0) for points in outlines]) - np.asarray(first)
    low = np.minimum(start[:, 0], end[:, 0])
    crossed = np.abs(end[:, 0] - start[:, 0]).astype(np.int64)
    edge = np.repeat(np.arange(len(start)), crossed)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
    row = low[edge] + step
    slope = (end[edge, 1] - start[edge, 1]) / (end[edge, 0] - start[edge, 0])
    column = start[edge, 1] + (row - start[edge, 0]) * slope
    after = np.floor(column).astype(np.int64) + 1
    place = (owner[edge] * height + row.astype(np.int64)) * (width + 1) + after
    turns = np.bincount(place, minlength=count * height * (width + 1))
    inside = np.cumsum(turns.reshape(count, height, width + 1), axis=2)[:, :, :width] % 2 == 1
    on = _outline_pixels(owner, start, end, (count, height, width))
    return inside & ~on, on


def _outline_pixels(
    owner: np.ndarray, start: np.ndarray, end: np.ndarray, shape: tuple[int, int, int]
) -> Bool[np.ndarray, "k h w"]:
    """Mark the pixels of each outline, and those that its longer edges pass through."""
    steps = np.maximum(np.abs(end - start).max(axis=1), 1).astype(np.int64)
    edge = np.repeat(np.arange(len(start)), steps)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps)
    points = start[edge] + (end - start)[edge] * (step / steps[edge])[:, None]
    pixels = np.rint(points).astype(np.int64)
    on = np.zeros(shape, dtype=bool)
    on[owner[edge], pixels[:, 0], pixels[:, 1]] = True
    return on


def _bounds(nodule: Nodule) -> tuple[tuple[int, int], tuple[int, int]]:
    points = np.concatenate([c.points for item in nodule.annotations for c in item.contours])
    low = np.floor(points.min(axis=0)).astype(int) - 1
    high = np.ceil(points.max(axis=0)).astype(int) + 1
    return (int(low[0]), int(low[1])), (int(high[0] - low[0] + 1), int(high[1] - low[1] + 1))


def _slices(nodule: Nodule) -> Float[np.ndarray, " d"]:
    """Return the scan's slices from one below the lowest outline to one above the highest."""
    outlined = [c.z_mm for item in nodule.annotations for c in item.contours]
    low, high = min(outlined), max(outlined)
    typical = nodule.scan.slice_spacing_mm
    known = np.union1d(np.round(nodule.scan.slice_z_mm, 4), np.round(outlined, 4))
    within = known[(known >= low - 1e-3) & (known <= high + 1e-3)]
    below, above = known[known < low - 1e-3], known[known > high + 1e-3]
    first = low - min(low - below[-1], _MAX_GAP * typical) if below.size else low - typical
    last = high + min(above[0] - high, _MAX_GAP * typical) if above.size else high + typical
    nodes: Float[np.ndarray, " d"] = np.concatenate([[first], within, [last]])
    return nodes


def _thickness(z_mm: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """Return the extent that each slice stands for: half of the gaps on both sides."""
    gaps = np.diff(z_mm)
    extent: Float[np.ndarray, " d"] = (
        np.concatenate([gaps[:1], gaps[:-1] + gaps[1:], gaps[-1:]]) / 2
    )
    return extent


def _reader_mask(
    annotation: Annotation,
    z_mm: Float[np.ndarray, " d"],
    first: tuple[int, int],
    size: tuple[int, int],
) -> Float[np.ndarray, "d h w"]:
    contours = annotation.contours
    inside, on = fill_outlines([contour.points for contour in contours], first, size)
    mask = _stacked(contours, inside, z_mm, size)
    if not mask.any():
        mask = _stacked(contours, inside | on, z_mm, size)
    drawn = sorted({int(np.abs(z_mm - contour.z_mm).argmin()) for contour in contours})
    for low, high in pairwise(drawn):
        for skipped in range(low + 1, high):
            share = (z_mm[skipped] - z_mm[low]) / (z_mm[high] - z_mm[low])
            mask[skipped] = (1 - share) * mask[low] + share * mask[high]
    return mask


def _stacked(
    contours: tuple[Contour, ...],
    filled: Bool[np.ndarray, "k h w"],
    z_mm: Float[np.ndarray, " d"],
    size: tuple[int, int],
) -> Float[np.ndarray, "d h w"]:
    mask = np.zeros((len(z_mm), *size))
    order = sorted(range(len(contours)), key=lambda k: not contours[k].inclusion)
    for k in order:
        level = int(np.abs(z_mm - contours[k].z_mm).argmin())
        mask[level][filled[k]] = 1.0 if contours[k].inclusion else 0.0
    return mask
