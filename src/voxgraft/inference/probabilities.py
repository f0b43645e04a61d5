"""Probabilities of every class over a whole scan: kept on disk, in memory one class at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import blosc2
import numpy as np
import torch
from jaxtyping import Float, Integer, UInt16
from torch import Tensor

from voxgraft.errors import InferenceError
from voxgraft.inference.nifti_files import write_on_scan
from voxgraft.models import SegmentationNetwork
from voxgraft.sliding import PackedMasks, Sliding, sliding_window
from voxgraft.sliding.grid_map import grid_map
from voxgraft.types import Size3
from voxgraft.volumes import Affine

FULL = 32768
"""What stands for a probability of 1: a power of two, so that 0, 1/2 and 1 are exact in a file."""
BACKGROUND = "background"
"""What the softmax's first output is called in a file's name."""

_blosc: Any = blosc2
_Place = tuple[slice, slice, slice]
_NOTHING = (0, 0)
"""Where a part stands of which nothing is kept, as it is 0 all over."""


class Probabilities:
    """Probabilities of a scan's voxels on the grid that a network saw, in a file without a name.

    Parts are kept as they come, each class compressed by itself (of most classes most parts are
    0), so that a class is read without the others. The file goes with the object, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        """Make an empty one.

        Args:
            folder: Where its file is, on the disk with the room for it.
        """
        self._file = cast(BinaryIO, tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
        self._parts: list[tuple[_Place, list[tuple[int, int]]]] = []
        self.outputs = 0
        """Outputs of the network: where classes exclude each other, the first is background."""
        self.shape: Size3 = (0, 0, 0)
        """(depth, height, width) of the grid that the network saw."""
        self.affine: Affine | None = None
        """Where that lies."""

    def __enter__(self) -> Probabilities:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Remove the file."""
        self._file.close()

    def begin(self, shape: Size3, affine: Affine) -> None:
        """Forget what was kept, and make ready for a grid."""
        self._file.seek(0)
        self._file.truncate()
        self._parts = []
        self.outputs, self.shape, self.affine = 0, shape, affine

    def keep(self, values: UInt16[np.ndarray, "k d h w"], place: _Place) -> None:
        """Keep a part.

        Args:
            values: From 0 to ``FULL``.
            place: Where they stand.
        """
        self.outputs = len(values)
        found = []
        for one in values:
            if not one.any():
                found.append(_NOTHING)
                continue
            packed = _blosc.compress2(
                np.ascontiguousarray(one), codec=_blosc.Codec.LZ4, typesize=2, nthreads=1
            )
            found.append((self._file.tell(), len(packed)))
            self._file.write(packed)
        self._parts.append((place, found))

    def read(self, output: int) -> UInt16[np.ndarray, "d h w"]:
        """Return one output's probabilities, from 0 to ``FULL``."""
        whole = np.zeros(self.shape, np.uint16)
        for place, parts in self._parts:
            first, length = parts[output]
            if length:
                self._file.seek(first)
                sizes = [part.stop - part.start for part in place]
                values = np.frombuffer(_blosc.decompress2(self._file.read(length)), np.uint16)
                whole[place] = values.reshape(sizes)
        self._file.seek(0, 2)
        return whole

    def slabs(
        self, output: int, shape: Size3, affine: Affine, *, outside: float = 0.0
    ) -> Iterator[UInt16[np.ndarray, "n h w"]]:
        """Yield one output's probabilities on another grid, slab after slab along its depth.

        They are interpolated linearly, and averaged over a voxel's extent where the other grid is
        coarser; where voxels lie on voxels, they are copied.

        Args:
            output: Which.
            shape: (depth, height, width) of the other grid.
            affine: Where that lies.
            outside: The probability where the network was shown nothing.
        """
        if self.affine is None:
            raise AssertionError("there is a grid once a scan was segmented")
        onto = grid_map(self.shape, self.affine, shape, affine)
        values = self.read(output)
        if onto.whole_steps:
            found = np.full(shape, round(outside * FULL), np.uint16)
            onto.copy(values, found)
            yield found
            return
        for _, slab in onto.values(values, outside=outside * FULL):
            yield np.rint(slab, out=slab).clip(0, FULL).astype(np.uint16)


def segment_with_probabilities(
    network: SegmentationNetwork,
    image: Float[np.ndarray, "c d h w"],
    sliding: Sliding,
    *,
    overlapping: bool,
    into: Probabilities,
) -> Integer[Tensor, "d h w"] | PackedMasks:
    """Segment a preprocessed scan, and keep the probabilities of all outputs.

    Scores of windows are averaged first, as logits; softmax (or each class's sigmoid) is taken of
    the mean. Probabilities are rounded to 1/32768 so that the class found in a voxel has more than
    any other, also where rounding would make two alike; and of structures that may overlap, what
    is inside more than a half.

    Args:
        network: In evaluation mode.
        image: As it was preprocessed.
        sliding: How windows go over it; all windows must be shown.
        overlapping: Whether each class has a sigmoid of its own.
        into: Begun with the image's grid; gets the probabilities.

    Returns:
        What :func:`~voxgraft.training.segment_stored` returns.

    Raises:
        InferenceError: If the network's scores are NaN.
    """
    size = image.shape[1:]
    found: list[Tensor] = []

    def take(scores: Tensor, place: _Place) -> None:
        if bool(torch.isnan(scores).any()):
            where = ", ".join(f"{part.start}:{part.stop}" for part in place)
            raise InferenceError(
                f"the network's scores are NaN in the voxels [{where}] of the scan, so no class "
                "can be told there. See whether the scan has NaN or values beyond what the "
                "network was made for."
            )
        rounded, told = _overlapping(scores) if overlapping else _exclusive(scores)
        if not found:
            with torch.inference_mode(False):
                found.append(torch.zeros((*told.shape[:-3], *size), dtype=told.dtype))
        found[0][(..., *place)] = told.cpu()
        into.keep(rounded.cpu().numpy().astype(np.uint16), place)

    given = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    sliding_window(network, given, sliding, on_block=take)
    return PackedMasks(found[0], into.outputs) if overlapping else found[0]


def write_probabilities(
    kept: Probabilities,
    folder: Path,
    names: Sequence[str],
    shape: Size3,
    affine: Affine,
    *,
    like: Path | None = None,
) -> list[str]:
    """Write ``<name>.nii.gz`` for each output, on the scan's own grid; return the files' names.

    Files hold 16-bit steps of 1/32768, with the slope in the header that readers apply
    (nibabel, SimpleITK, ITK-SNAP, 3D Slicer). NIfTI has no half precision, and single precision
    takes twice the room and hardly compresses.

    Args:
        kept: Of a segmented scan.
        folder: An existing folder.
        names: Of the classes. One output more is the background, with the name ``background``.
        shape: (depth, height, width) of the scan.
        affine: Where it lies.
        like: The scan's file.
    """
    exclusive = kept.outputs == len(names) + 1
    files = []
    for output, name in enumerate((BACKGROUND, *names) if exclusive else names):
        outside = 1.0 if exclusive and output == 0 else 0.0
        slabs = kept.slabs(output, shape, affine, outside=outside)
        files.append(f"{name}.nii.gz")
        path = folder / files[-1]
        write_on_scan(path, slabs, shape, np.uint16, affine, like=like, slope=1 / FULL, name=name)
    return files


def _exclusive(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return rounded probabilities, and the classes of the largest."""
    winner = logits.max(0).indices
    rounded = torch.softmax(logits, 0).mul_(FULL).round_().to(torch.int32)
    own = rounded.gather(0, winner[None])
    others = rounded.scatter(0, winner[None], -1).amax(0, keepdim=True)
    rounded.scatter_(0, winner[None], torch.maximum(own, others + 1))
    return rounded, winner.to(torch.uint8 if len(logits) <= 256 else torch.int16)


def _overlapping(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return rounded probabilities, and masks, eight a byte."""
    half = FULL // 2
    inside = logits > 0
    rounded = torch.sigmoid(logits).mul_(FULL).round_().to(torch.int32)
    rounded = torch.where(inside, rounded.clamp(min=half + 1), rounded.clamp(max=half))
    bits = torch.zeros((-(-len(logits) // 8), *logits.shape[1:]), dtype=torch.uint8)
    bits = bits.to(logits.device)
    for index, one in enumerate(inside):
        bits[index // 8] |= one.to(torch.uint8) << (index % 8)
    return rounded, bits
