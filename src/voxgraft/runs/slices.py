"""One slice of each test case as a segmentation found it, for pictures of a report.

Which slice it is depends on the reference alone, so that every run of a comparison keeps the same
one: the axial slice with the most annotated structures in it, of several the one with the most
voxels of them. Only masks are kept, no image.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Shaped

from voxgraft.datasets import Masks
from voxgraft.errors import RunError
from voxgraft.files import atomic_path
from voxgraft.volumes import Affine

SLICES_FILE = "test_slices.npz"
"""In the folder of a segmentation's run."""

MOST_CASES = 100
"""Of so many test cases, the first of them, a slice is kept."""

_DAMAGE = (
    OSError, ValueError, KeyError, TypeError, IndexError, EOFError, NotImplementedError,
    RuntimeError, MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise on damaged files."""


@dataclass(frozen=True)
class SegmentedSlice:
    """A slice of a case on the scan's own grid, and what was found in it."""

    case_id: str
    axis: int
    """Of the volume (0 depth, 1 height, 2 width) that the slice stands across."""
    index: int
    """Of the slice along that axis, from 0."""
    masks: dict[str, Bool[np.ndarray, "h w"]] = field(default_factory=dict, repr=False)
    """Structure to its voxels, for structures that have some; axes in the volume's order."""

    def plane(self, volume: Shaped[np.ndarray, "d h w"]) -> Shaped[np.ndarray, "h w"]:
        """Return what of a volume lies in the slice."""
        plane: Shaped[np.ndarray, "h w"] = np.take(volume, self.index, self.axis)
        return plane

    def keep(self, name: str, mask: Bool[np.ndarray, "h w"]) -> None:
        """Keep the voxels of a structure, if there are any."""
        if mask.any():
            self.masks[name] = mask


def axial_axis(affine: Affine) -> int:
    """Return the axis of a volume that runs closest to feet and head."""
    return int(np.abs(affine.direction[2]).argmax())


def chosen_slice(masks: Masks) -> tuple[int, int] | None:
    """Return axis and index of the slice to keep; None where no structure has a voxel."""
    axis = axial_axis(masks.affine)
    present: Int[np.ndarray, " slices"] = np.zeros(masks.layers.shape[1 + axis], np.int64)
    filled = np.zeros_like(present)
    for layer, values in enumerate(masks.layers):
        wanted = [value for own, value in masks.places.values() if own == layer]
        if not wanted:
            continue
        for index, plane in enumerate(np.moveaxis(values, axis, 0)):
            counts = np.bincount(plane.ravel(), minlength=max(wanted) + 1)[wanted]
            present[index] += (counts > 0).sum()
            filled[index] += counts.sum()
    if not present.any():
        return None
    best = np.lexsort((filled, present))[-1]
    first = np.flatnonzero((present == present[best]) & (filled == filled[best]))[0]
    return axis, int(first)


def write_slices(slices: Sequence[SegmentedSlice], path: Path) -> None:
    """Write slices with their masks, as bits."""
    names = sorted({name for each in slices for name in each.masks})
    owners = [(row, name) for row, each in enumerate(slices) for name in each.masks]
    packed = [np.packbits(slices[row].masks[name]) for row, name in owners]
    shapes = [slices[row].masks[name].shape for row, name in owners]
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(
            handle,
            cases=np.array([each.case_id for each in slices], dtype=np.str_),
            places=np.array([(each.axis, each.index) for each in slices], np.int64).reshape(-1, 2),
            structures=np.array(names, dtype=np.str_),
            owners=np.array([(row, names.index(name)) for row, name in owners], np.int64).reshape(
                -1, 2
            ),
            shapes=np.array(shapes, np.int64).reshape(-1, 2),
            bits=np.concatenate([np.zeros(0, np.uint8), *packed]),
        )


def read_slices(path: Path) -> dict[str, SegmentedSlice]:
    """Read slices, by case.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as content:
            arrays = {name: np.asarray(content[name]) for name in content.files}
        places = arrays["places"].tolist()
        cases = [
            SegmentedSlice(str(case_id), int(axis), int(index))
            for case_id, (axis, index) in zip(arrays["cases"].tolist(), places, strict=True)
        ]
        begin = 0
        for (row, name), (height, width) in zip(
            arrays["owners"].tolist(), arrays["shapes"].tolist(), strict=True
        ):
            size = -(-height * width // 8)
            own = arrays["bits"][begin : begin + size]
            mask = np.unpackbits(own, count=height * width).astype(bool)
            cases[row].masks[str(arrays["structures"][name])] = mask.reshape(height, width)
            begin += size
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise RunError(
            f"{path} cannot be read ({str(e)[:80] or type(e).__name__}). It holds slices of the "
            "test cases; delete the run's folder and run it again to have them."
        ) from e
    return {each.case_id: each for each in cases}
