"""Labels from the grid a network saw onto the scan's own grid, smooth, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Integer
from torch import Tensor

from voxgraft.errors import InferenceError
from voxgraft.sliding.grid_map import FULL_SHARE, Box, GridMap, box_of, grid_map
from voxgraft.sliding.scan_labels import PackedMasks
from voxgraft.types import Size3
from voxgraft.volumes import Affine

_DIRECT = 1 << 16
"""Labels from 0 to below this are counted as they are; others get numbers first."""


def labels_on_scan(
    labels: Integer[np.ndarray, "d h w"] | Integer[Tensor, "d h w"],
    affine: Affine,
    scan_shape: Sequence[int],
    scan_affine: Affine,
) -> Integer[np.ndarray, "D H W"]:
    """Bring a label map onto another grid by world position, each class interpolated linearly.

    The class with the largest share of a voxel of the scan wins, the background counting as one.
    Along an axis where the scan is finer than the labels, a class's share is its mask interpolated
    linearly at the voxel's center; where the scan is coarser, the share of the voxel's extent that
    the class covers (if the grids stand oblique, of evenly spread points in it). At equal spacing
    both are the same.

    Halves are common: a scan twice as coarse has them along every face. Where shares are equal, the
    nearest voxel of the labels decides; of several equally near, the one to the body's right, then
    front, then head. So of two opposite faces one is kept and one is not, and volumes are neither
    eaten nor blown up; and arrays that are turned or mirrored together with their affines give
    the same. What is equal even so (to 1/32768) is background, or else the lowest class. A
    ball whose radius is ``n`` voxels of a coarser scan still loses about 1/(4 n²) of its volume, as
    its curved rim covers less than half of more voxels than it covers more than half of.

    A voxel beyond the labels' outermost centers, but within half a voxel of them, has what lies at
    the edge. Where voxels of the scan lie on voxels of the labels (turned, mirrored, cropped or
    padded by whole voxels), labels are copied. One class is worked on at a time, where it is, and
    some slices at a time, so that memory does not grow with the number of either.

    Args:
        labels: 0 is the background; any integers.
        affine: Where the labels' grid lies.
        scan_shape: (depth, height, width) of the scan's own grid.
        scan_affine: Where that lies; any orientation, also oblique to ``affine``.

    Returns:
        Labels of the same dtype on the scan's grid; 0 where the labels do not reach.

    Raises:
        InferenceError: If the labels are no integers with three axes, or the shape is none.
    """
    values = np.asarray(labels)
    if values.ndim != 3 or values.dtype.kind not in "iu" or not values.size:
        raise InferenceError(
            f"labels have shape {values.shape} and dtype {values.dtype}; expected integers of "
            "shape (depth, height, width), none of them 0. Give a label map."
        )
    onto = grid_map(values.shape, affine, _checked(scan_shape), scan_affine)
    found = np.zeros(onto.target, values.dtype)
    if onto.whole_steps:
        onto.copy(values, found)
        return found
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high < _DIRECT:
        _fill(values, 0, onto, found)
        return found
    known = np.unique(np.append(values.ravel(), values.dtype.type(0)))
    numbers = np.searchsorted(known, values).astype(np.int32) + 1
    background = int(np.searchsorted(known, 0)) + 1
    numbered = np.full(onto.target, background, np.int32)
    _fill(numbers, background, onto, numbered)
    result: Integer[np.ndarray, "D H W"] = known[numbered - 1]
    return result


def masks_on_scan(
    packed: PackedMasks,
    affine: Affine,
    scan_shape: Sequence[int],
    scan_affine: Affine,
) -> Iterator[tuple[int, Bool[np.ndarray, "D H W"]]]:
    """Yield each class's index and mask on another grid; masks may overlap.

    As :func:`labels_on_scan`, but each class by itself: a voxel is inside where the class's share
    is more than half, and where it is half by the same rule.

    Args:
        packed: Masks, of any number of classes.
        affine: Where their grid lies.
        scan_shape: (depth, height, width) of the scan's own grid.
        scan_affine: Where that lies.

    Raises:
        InferenceError: If the shape is none.
    """
    depth, height, width = packed.bits.shape[1:]
    onto = grid_map((depth, height, width), affine, _checked(scan_shape), scan_affine)
    for index in range(packed.classes):
        mask = packed.mask(index).numpy()
        found = np.zeros(onto.target, np.bool_)
        if onto.whole_steps:
            onto.copy(mask, found)
        else:
            box = box_of(mask)
            if box is not None:
                for place, share in onto.shares(mask, box):
                    found[place] = share > FULL_SHARE // 2
        yield index, found


def _fill(
    labels: Integer[np.ndarray, "d h w"],
    background: int,
    onto: GridMap,
    found: Integer[np.ndarray, "D H W"],
) -> None:
    """Write the winners into ``found``, which holds the background."""
    boxes = _boxes(labels, background)
    if not boxes:
        return
    reached = {value: onto.reach(box) for value, box in boxes.items()}
    starts = np.array([[part.start for part in box] for box in reached.values()]).min(0)
    stops = np.array([[part.stop for part in box] for box in reached.values()]).max(0)
    for slab in onto.slabs(_box(starts, stops)):
        best = np.zeros([part.stop - part.start for part in slab], np.uint16)
        total = np.zeros_like(best)
        for value, box in sorted(boxes.items()):
            for place, share in onto.shares(labels, box, value, within=slab):
                inner = tuple(
                    slice(part.start - whole.start, part.stop - whole.start)
                    for part, whole in zip(place, slab, strict=True)
                )
                total[inner] += share
                np.copyto(found[place], value, where=share > best[inner])
                np.maximum(best[inner], share, out=best[inner])
        left = np.subtract(FULL_SHARE, total, dtype=np.int32)
        np.copyto(found[slab], background, where=left >= best)


def _boxes(labels: Integer[np.ndarray, "d h w"], background: int) -> dict[int, Box]:
    """Return where each label is, but the background."""
    from scipy import ndimage  # takes long to import

    found = ndimage.find_objects(labels)
    return {
        value: (box[0], box[1], box[2])
        for value, box in enumerate(found, start=1)
        if box is not None and value != background
    }


def _box(starts: Sequence[int], stops: Sequence[int]) -> Box:
    depth, height, width = (
        slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)
    )
    return depth, height, width


def _checked(shape: Sequence[int]) -> Size3:
    if len(shape) != 3 or any(int(size) < 1 for size in shape):
        raise InferenceError(
            f"the scan's shape is {tuple(shape)}; expected three positive numbers (depth, height, "
            "width). Give the shape of its voxels without channels."
        )
    depth, height, width = (int(size) for size in shape)
    return depth, height, width
