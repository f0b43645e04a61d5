"""The masks of a table on the grids of its stored volumes, ready to be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int16

from voxgraft.errors import StoreError
from voxgraft.store.encoding import Encoding
from voxgraft.store.entry import Entry, damaged, read_index
from voxgraft.store.make_masks import NOTHING, samples_path
from voxgraft.store.prepared import Shape4
from voxgraft.types import Size3


@dataclass(frozen=True)
class StoredMasks:
    """What is known of a case's masks without opening their file."""

    file: str
    shape: Shape4
    """(layers, depth, height, width)."""
    encoding: Encoding
    background: float = 0.0


@dataclass(frozen=True, eq=False)
class PreparedMasks:
    """Masks on disk. Holds no voxels: cheap to pickle, safe in threads.

    Labels are 0 for none of a layer's structures, k + 1 for class k, and, in the first layer, -1
    where nothing is known of any class. Structures that overlap lie in different layers.

    Attributes:
        folder: Where the files lie.
        classes: Structures in order, without background.
        cases: By case id, in the table's order.
        known: (cases, K): which classes each case annotates; of the others nothing is known.
    """

    folder: Path
    classes: tuple[str, ...]
    cases: dict[str, StoredMasks]
    known: Bool[np.ndarray, "n k"] = field(repr=False)
    _indices: dict[str, Entry] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_indices": {}}

    @property
    def case_ids(self) -> tuple[str, ...]:
        """All cases, in the table's order."""
        return tuple(self.cases)

    def known_of(self, case_ids: tuple[str, ...]) -> Bool[np.ndarray, "m k"]:
        """Return which classes some cases annotate, in their order.

        Raises:
            StoreError: If a case is unknown.
        """
        rows = {case_id: row for row, case_id in enumerate(self.cases)}
        for case_id in case_ids:
            self._case(case_id)
        known: Bool[np.ndarray, "m k"] = self.known[[rows[case_id] for case_id in case_ids]]
        return known

    def layers(self, case_id: str) -> int:
        """Return in how many layers a case's labels lie: 1 where no structures overlap."""
        return self._case(case_id).shape[0]

    def counts(self, case_id: str) -> Int[np.ndarray, " k"]:
        """Return of how many voxels each class is remembered: 0 where it has none, at most 4,096.

        A class that the case does not annotate has 0, and so has a structure that is smaller than
        a voxel of the stored grid.

        Raises:
            StoreError: If the case is unknown, or its file is gone or damaged.
        """
        return np.asarray(self._samples(case_id).source["counts"], dtype=np.int64)

    def foreground(self, case_id: str) -> dict[int, Int[np.ndarray, "m 3"]]:
        """Return voxels of each class that is present, at most 4,096 of it, chosen at random.

        Returns:
            Index of a class to (depth, height, width) indices in the stored volume, int64.

        Raises:
            StoreError: If the case is unknown, or its file is gone or damaged.
        """
        case = self._case(case_id)
        index = self._samples(case_id)
        flat = index.read((0, 0, 0), (1, 1, 1)).ravel().astype(np.int64)
        counts = index.source["counts"]
        ends = np.cumsum(counts)
        return {
            k: np.stack(np.unravel_index(flat[end - count : end], case.shape[1:]), axis=1)
            for k, (count, end) in enumerate(zip(counts, ends, strict=True))
            if count
        }

    def read(self, case_id: str) -> Int16[np.ndarray, "l d h w"]:
        """Read all labels of a case.

        Raises:
            StoreError: If the case is unknown, or its file is gone or damaged.
        """
        return self.read_crop(case_id, (0, 0, 0), self._case(case_id).shape[1:])

    def read_crop(self, case_id: str, start: Size3, size: Size3) -> Int16[np.ndarray, "l d h w"]:
        """Read the labels in a box; only the chunks that it touches are read.

        Args:
            case_id: The case.
            start: (depth, height, width) of its first voxel; may be negative or outside.
            size: (depth, height, width); outside of the volume, labels are 0.

        Raises:
            StoreError: If the case is unknown, the size is not positive, or the file is gone or
                damaged.
        """
        stored, inside = self.read_stored(case_id, start, size)
        box = np.zeros((self._case(case_id).shape[0], *size), dtype=np.int16)
        if stored.size:
            box[inside] = labels_of(stored)
        return box

    def read_stored(
        self, case_id: str, start: Size3, size: Size3
    ) -> tuple[Any, tuple[slice, slice, slice, slice]]:
        """Read the part of a box that lies in the volume, as it is stored, and its place.

        Stored numbers are labels plus 1: :func:`labels_of` takes it off.

        Raises:
            StoreError: As :meth:`read_crop`.
        """
        case = self._case(case_id)
        if min(size) < 1:
            raise StoreError(
                f"a crop of {tuple(size)} voxels was asked for. Expected at least 1 along "
                "(depth, height, width)."
            )
        low, extent, place = [], [], [slice(None)]
        for first, length, full in zip(start, size, case.shape[1:], strict=True):
            begin = min(max(0, int(first)), full)
            end = max(min(full, int(first) + int(length)), begin)
            low.append(begin)
            extent.append(end - begin)
            place.append(slice(begin - int(first), end - int(first)))
        if 0 in extent:
            stored = np.empty((case.shape[0], *extent), dtype=case.encoding.dtype)
        else:
            box = (extent[0], extent[1], extent[2])
            stored = self._index(case_id).read((low[0], low[1], low[2]), box)
        return stored, (place[0], place[1], place[2], place[3])

    def _case(self, case_id: str) -> StoredMasks:
        if case_id not in self.cases:
            raise StoreError(
                f"no case is called {case_id!r} among the {len(self.cases)} with prepared masks. "
                "Prepare the masks of the table that holds it."
            )
        return self.cases[case_id]

    def _samples(self, case_id: str) -> Entry:
        return read_index(samples_path(self.folder / self._case(case_id).file))

    def _index(self, case_id: str) -> Entry:
        index = self._indices.get(case_id)
        if index is None:
            case = self._case(case_id)
            index = read_index(self.folder / case.file)
            if index.shape != case.shape or index.encoding != case.encoding:
                raise damaged(index.path, "these are not the masks that were prepared")
            self._indices[case_id] = index
        return index


def labels_of(stored: Any) -> Int16[np.ndarray, "*size"]:
    """Return the labels that stored numbers mean."""
    labels: Int16[np.ndarray, "*size"] = stored.astype(np.int16)
    labels -= NOTHING
    return labels
