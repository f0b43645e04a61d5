"""Cleaning a segmented scan by rules: largest component, smallest volume, holes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from voxgraft.errors import InferenceError, raise_faults
from voxgraft.inference.segmented import SegmentedScan, pack_masks
from voxgraft.sliding import PackedMasks

_ALL = np.ones((3, 3, 3), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is done to one structure, in the order of the attributes.

    Voxels of a structure belong together if they share a face, an edge or a corner; voxels of a
    hole only if they share a face. (With both alike, a hole could leak through its own wall.)

    Attributes:
        largest_component: Keep the component of most voxels only; of equals the one that comes
            first by depth, then height, then width.
        minimal_volume_ml: Drop components that are smaller; 0 drops none.
        fill_holes: Fill what the structure encloses on all sides; what is open towards the
            scan's border is no hole.

    Raises:
        InferenceError: If the volume is negative or not finite.
    """

    largest_component: bool = False
    minimal_volume_ml: float = 0.0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.minimal_volume_ml < np.inf:
            raise InferenceError(
                f"minimal_volume_ml is {self.minimal_volume_ml!r}; expected ml, 0 or more."
            )


def clean(scan: SegmentedScan, cleaning: Cleaning | Mapping[str, Cleaning]) -> SegmentedScan:
    """Clean the structures of a scan.

    In a label map, dropped voxels become background, and holes are filled where there is
    background: no structure takes voxels of another. All components are told before any hole is
    filled; where two structures enclose the same hole, the first class has it.

    Args:
        scan: What was found; it stays as it is.
        cleaning: For all structures, or by name; others stay as they are.

    Raises:
        InferenceError: If a name is none of the scan's classes; all such are named.
    """
    rules = (
        dict(cleaning) if isinstance(cleaning, Mapping) else dict.fromkeys(scan.classes, cleaning)
    )
    unknown = [f"{name!r} is no structure here" for name in rules if name not in scan.classes]
    if unknown:
        known = ", ".join(scan.classes)
        raise_faults(InferenceError, "cleaning fails", unknown, f"There are: {known}.")
    chosen = [(index, rules[name]) for index, name in enumerate(scan.classes) if name in rules]
    if isinstance(scan.found, PackedMasks):
        packed = pack_masks(_cleaned(scan, dict(chosen)), len(scan.classes), scan.shape)
        return replace(scan, found=packed)
    labels = scan.found.copy()
    boxes = dict(enumerate(ndimage.find_objects(labels)))
    # A structure is worked on where it is: the others' number and the scan's size cost nothing.
    parts = [(labels[boxes[index]], index + 1, rule) for index, rule in chosen if boxes.get(index)]
    for part, value, rule in parts:
        mask = part == value
        part[mask & ~keep_components(mask, rule, scan.voxel_ml)] = 0
    for part, value, rule in parts:
        if rule.fill_holes:
            part[enclosed(part == value) & (part == 0)] = value
    return replace(scan, found=labels)


def keep_components(
    mask: Bool[np.ndarray, "d h w"], cleaning: Cleaning, voxel_ml: float
) -> Bool[np.ndarray, "d h w"]:
    """Return a mask without the components that the cleaning drops.

    Args:
        mask: Of one structure.
        cleaning: What to do; holes stay.
        voxel_ml: Volume of a voxel, in ml.
    """
    box = _box(mask)
    if box is None or not (cleaning.largest_component or cleaning.minimal_volume_ml):
        return mask.copy()
    components, count = ndimage.label(mask[box], structure=_ALL)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    kept = sizes * voxel_ml >= cleaning.minimal_volume_ml * (1 - 1e-9)
    if cleaning.largest_component:
        kept &= np.arange(count + 1) == 1 + int(sizes[1:].argmax())
    kept[0] = False
    found = np.zeros_like(mask)
    found[box] = kept[components]
    return found


def enclosed(mask: Bool[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    """Return the voxels outside of a mask from which no way by faces leads out of it."""
    found = np.zeros_like(mask)
    box = _box(mask)
    if box is not None:
        parts, _ = ndimage.label(np.pad(~mask[box], 1, constant_values=True))
        inner = parts[1:-1, 1:-1, 1:-1]
        found[box] = (inner != 0) & (inner != parts[0, 0, 0])
    return found


def _cleaned(
    scan: SegmentedScan, rules: Mapping[int, Cleaning]
) -> Iterator[tuple[int, Bool[np.ndarray, "d h w"]]]:
    for index in range(len(scan.classes)):
        mask = scan.mask(index)
        rule = rules.get(index)
        if rule is not None:
            mask = keep_components(mask, rule, scan.voxel_ml)
            if rule.fill_holes:
                mask |= enclosed(mask)
        yield index, mask


def _box(mask: Bool[np.ndarray, "d h w"]) -> tuple[slice, ...] | None:
    found = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else None
