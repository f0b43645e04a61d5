"""The preprocessed volumes of a table, ready to be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Float

from voxgraft.errors import StoreError
from voxgraft.store.encoding import Encoding
from voxgraft.store.entry import Entry, damaged, read_index
from voxgraft.transforms.preprocess import Preprocessing
from voxgraft.types import Size3, Spacing3
from voxgraft.volumes import Affine

Shape4 = tuple[int, int, int, int]
"""(channels, depth, height, width)."""


@dataclass(frozen=True)
class StoredCase:
    """What is known of a case without opening its file."""

    file: str
    shape: Shape4
    encoding: Encoding
    background: float
    spacing_mm: Spacing3


@dataclass(frozen=True)
class ScanGeometry:
    """Where the voxels of a scan lie, as it was read."""

    shape: Size3
    """(depth, height, width), in the order of the file."""
    affine: Affine


@dataclass(frozen=True, eq=False)
class Prepared:
    """Preprocessed volumes on disk. Holds no voxels: cheap to pickle, safe in threads.

    Attributes:
        folder: Where the files lie.
        preprocessing: How they were made.
        cases: By case id, in the table's order.
    """

    folder: Path
    preprocessing: Preprocessing
    cases: dict[str, StoredCase]
    _indices: dict[str, Entry] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_indices": {}}

    @property
    def case_ids(self) -> tuple[str, ...]:
        """All cases, in the table's order."""
        return tuple(self.cases)

    def shape(self, case_id: str) -> Shape4:
        """Return (channels, depth, height, width) of a case."""
        return self._case(case_id).shape

    @property
    def common_shape(self) -> Shape4 | None:
        """(channels, depth, height, width) of all cases, or None if they differ."""
        shapes = {case.shape for case in self.cases.values()}
        return shapes.pop() if len(shapes) == 1 else None

    @property
    def background(self) -> float:
        """Value around the volumes: the preprocessing's, or the median of the cases' own."""
        fixed = self.preprocessing.fixed_background
        if fixed is not None:
            return fixed
        return float(median(case.background for case in self.cases.values()))

    def background_of(self, case_id: str) -> float:
        """Return the value around one volume, as crops that reach beyond it have it.

        Raises:
            StoreError: If the case is unknown.
        """
        return self._case(case_id).background

    @property
    def spacing_mm(self) -> Spacing3:
        """(depth, height, width): for each axis the preprocessing's, or the cases' median."""
        fixed = self.preprocessing.fixed_spacing_mm
        if fixed is not None:
            return fixed
        wanted = self.preprocessing.spacing_mm or (None, None, None)
        triples = zip(*(case.spacing_mm for case in self.cases.values()), strict=True)
        depth, height, width = (
            float(median(own)) if mm is None else mm
            for mm, own in zip(wanted, triples, strict=True)
        )
        return depth, height, width

    def affine(self, case_id: str) -> Affine:
        """Return where the stored voxels of a case lie in the patient."""
        return Affine(np.array(self._index(case_id).affine))

    def scan(self, case_id: str) -> ScanGeometry:
        """Return the geometry of the scan that a stored volume was made from.

        Raises:
            StoreError: If the case is unknown, or its file is gone or damaged.
        """
        source = self._index(case_id).source
        depth, height, width = source["shape"][1:]
        return ScanGeometry((depth, height, width), Affine(np.array(source["affine"])))

    def read(self, case_id: str) -> Float[np.ndarray, "c d h w"]:
        """Read a whole volume, float32.

        Raises:
            StoreError: If the case is unknown, or its file is gone or damaged.
        """
        return self.read_crop(case_id, (0, 0, 0), self._case(case_id).shape[1:])

    def read_crop(self, case_id: str, start: Size3, size: Size3) -> Float[np.ndarray, "c d h w"]:
        """Read a box out of a volume, float32; only the chunks that it touches are read.

        Args:
            case_id: The case.
            start: (depth, height, width) of its first voxel; may be negative or outside.
            size: (depth, height, width); what lies outside of the volume is background.

        Raises:
            StoreError: If the case is unknown, the size is not positive, or the file is gone or
                damaged.
        """
        case = self._case(case_id)
        stored, inside = self.read_stored(case_id, start, size)
        if stored.shape[1:] == tuple(size):
            return case.encoding.decode(stored)
        box = np.full((case.shape[0], *size), case.background, dtype=np.float32)
        if stored.size:
            box[inside] = case.encoding.decode(stored)
        return box

    def read_stored(
        self, case_id: str, start: Size3, size: Size3
    ) -> tuple[Any, tuple[slice, slice, slice, slice]]:
        """Read the part of a box that lies in the volume, in the stored dtype, and its place.

        Raises:
            StoreError: As :meth:`read_crop`.
        """
        case = self._case(case_id)
        if min(size) < 1:
            raise StoreError(
                f"a crop of {tuple(size)} voxels was asked for. Expected at least 1 along "
                "(depth, height, width)."
            )
        low = [min(max(0, int(s)), full) for s, full in zip(start, case.shape[1:], strict=True)]
        ends = zip(start, size, case.shape[1:], low, strict=True)
        high = [max(min(full, int(s) + int(n)), begin) for s, n, full, begin in ends]
        extent = (high[0] - low[0], high[1] - low[1], high[2] - low[2])
        depth, height, width = (
            slice(begin - int(first), begin - int(first) + length)
            for begin, first, length in zip(low, start, extent, strict=True)
        )
        if 0 in extent:
            stored = np.empty((case.shape[0], *extent), dtype=case.encoding.dtype)
        else:
            stored = self._index(case_id).read((low[0], low[1], low[2]), extent)
        return stored, (slice(None), depth, height, width)

    def _case(self, case_id: str) -> StoredCase:
        if case_id not in self.cases:
            raise StoreError(
                f"no case is called {case_id!r} among the {len(self.cases)} prepared ones. "
                "Prepare the table that holds it."
            )
        return self.cases[case_id]

    def _index(self, case_id: str) -> Entry:
        index = self._indices.get(case_id)
        if index is None:
            case = self._case(case_id)
            index = read_index(self.folder / case.file)
            if index.shape != case.shape or index.encoding != case.encoding:
                raise damaged(index.path, "it is not the volume that was prepared")
            self._indices[case_id] = index
        return index
