"""Crops of scans with their labels as training batches, augmented; whole scans for validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int16
from torch import Tensor

from voxgraft.errors import StoreError
from voxgraft.feeds.kept import KeptVolumes
from voxgraft.feeds.prefetch import Batch, Feed
from voxgraft.feeds.volumes import check_channels, crop_start
from voxgraft.store import Prepared, PreparedMasks
from voxgraft.store.make_masks import NOTHING
from voxgraft.store.prepared_masks import labels_of
from voxgraft.transforms.augmentation import Augmentation
from voxgraft.transforms.batch import change_values
from voxgraft.transforms.draws import Drawn, draw
from voxgraft.transforms.joint import CropMap, crop_matrix, sample_image, sample_labels
from voxgraft.types import Size3

_PLACE = 0x706C6163
_CHANGE = 0x6368616E
"""Set the random streams of places, and of augmentation, apart."""

_AROUND = 0.5
"""Share of each edge of a crop, in its middle, in which the voxel that it lies around is."""


class CropFeed(Feed):
    """Serves crops of cases with labels, augmented already: training must not augment again.

    A share of the crops lies around a random voxel of a random class that the case annotates and
    has; the others lie anywhere. Geometry is drawn first and only the box is read that the
    turned crop needs, so that no corner of it is empty where the scan has voxels. Image and labels
    are sampled once, by the same map. All of it depends on (seed, step, place in the batch) alone.
    """

    def __init__(
        self,
        prepared: Prepared,
        masks: PreparedMasks,
        case_ids: Sequence[str],
        crop_size_voxels: Size3,
        *,
        foreground: float = 2 / 3,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        threads: int = 2,
        memory_budget_mib: float = 2048,
    ) -> None:
        """Check that the cases can be served; nothing is read yet.

        Args:
            prepared: Where the volumes are.
            masks: Their masks, prepared with the same volumes.
            case_ids: The cases; a schedule names them by position in here.
            crop_size_voxels: (depth, height, width). A smaller volume lies in its middle, with
                background and label 0 around it.
            foreground: Share of the crops that lie around a voxel of a class.
            augmentation: What happens to crops; None is nothing.
            seed: Of all that is random.
            threads: That make batches; as many more batches wait finished.
            memory_budget_mib: For volumes and masks that are kept, in MiB; 0 keeps none.

        Raises:
            StoreError: If a case is unknown or has masks on another grid, channels differ, or a
                setting is impossible.
        """
        self.case_ids = tuple(case_ids)
        known = _known(prepared, masks, self.case_ids)
        super().__init__(known, threads=threads)
        if len(crop_size_voxels) != 3 or min(crop_size_voxels) < 1:
            raise StoreError(
                f"crop_size_voxels is {crop_size_voxels}. Expected at least 1 along (depth, "
                "height, width)."
            )
        if not 0.0 <= foreground <= 1.0:
            raise StoreError(f"foreground is {foreground}. Expected a share from 0 to 1.")
        self.prepared = prepared
        self.masks = masks
        self._size = crop_size_voxels
        self._foreground = foreground
        self._augmentation = augmentation or Augmentation()
        self._seed = int(seed) % 2**64
        self._images = KeptVolumes(prepared, self.case_ids, memory_budget_mib)
        left = memory_budget_mib - self._images.needed_mib * self._images.keeps
        self._labels = KeptVolumes(masks, self.case_ids, left)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(channels, depth, height, width) of a crop."""
        return (self.prepared.shape(self.case_ids[0])[0], *self._size)

    def _batch(self, step: int, positions: Int[np.ndarray, " b"]) -> Batch:
        entropy = (self._seed, step, _CHANGE)
        seed = int(np.random.default_rng(entropy).integers(2**63))
        drawn = draw(self._augmentation, seed, range(len(positions)))
        layers = max(self.masks.layers(self.case_ids[position]) for position in positions)
        images = torch.empty((len(positions), *self.image_shape))
        labels = torch.zeros((len(positions), layers, *self._size), dtype=torch.int16)
        for place, position in enumerate(positions):
            crop = self._map(step, place, int(position), drawn)
            self._fill(images[place], labels[place], int(position), crop)
            own = images[place : place + 1]
            spacing = self._spacing(int(position))
            one = drawn.only(place)
            own.copy_(change_values(own, one, self._augmentation, spacing))
        return Batch(images, self._targets_at(positions), labels=labels)

    def _spacing(self, position: int) -> Float[np.ndarray, " 3"]:
        return np.asarray(self.prepared.cases[self.case_ids[position]].spacing_mm)

    def _map(self, step: int, place: int, position: int, drawn: Drawn) -> CropMap:
        """Return where a crop comes from."""
        case_id = self.case_ids[position]
        matrix, moved = crop_matrix(drawn, place, self._spacing(position))
        rng = np.random.default_rng((self._seed, step, place, _PLACE))
        around, which, one, *jitter = rng.random(6)
        shape = self.prepared.shape(case_id)[1:]
        anywhere = crop_start(shape, self._size, (self._seed, step, place, _PLACE, 1))
        half = (np.asarray(self._size, dtype=np.float64) - 1) / 2
        voxel = self._voxel(case_id, position, which, one) if around < self._foreground else None
        if voxel is None:
            return CropMap(self._size, matrix, anywhere + half + moved)
        # Where in the crop the voxel is to be: a whole voxel of its middle part.
        reach = np.floor(half * _AROUND)
        wanted = np.floor(half) + np.floor(np.asarray(jitter) * (2 * reach + 1)) - reach
        free = CropMap(self._size, matrix, voxel - matrix @ (wanted - half))
        room = np.asarray(shape) - self._size
        start = np.rint(free.center - moved - half)
        start = np.where(room > 0, np.clip(start, 0, np.maximum(room, 0)), np.floor_divide(room, 2))
        held = CropMap(self._size, matrix, start + half + moved)
        there = np.rint(held.voxels(voxel[None].astype(np.float64))[0])
        inside = bool(((there >= 0) & (there < np.asarray(self._size))).all())
        return held if inside else free

    def _voxel(
        self, case_id: str, position: int, which: float, one: float
    ) -> Int[np.ndarray, " 3"] | None:
        """Return a random voxel of a random class; None if the case has none."""
        voxels = self.masks.foreground(case_id)
        classes = [k for k in voxels if self.targets[position, k] > 0]
        if not classes:
            return None
        chosen = voxels[classes[int(which * len(classes))]]
        found: Int[np.ndarray, " 3"] = chosen[int(one * len(chosen))]
        return found

    def _fill(self, image: Tensor, labels: Tensor, position: int, crop: CropMap) -> None:
        """Write the crop of a case, its labels in the first layers."""
        start, size = crop.block()
        flips = crop.flips
        case_id = self.case_ids[position]
        stored, inside = self._labels.read(position, start, size)
        if flips is not None:
            box = np.empty(tuple(image.shape), dtype=np.float32)
            self._images.fill(box, position, start)
            axes = tuple(axis + 1 for axis in flips)
            image.copy_(torch.from_numpy(np.flip(box, axes).copy()))
            whole = np.zeros((len(stored), *size), dtype=np.int16)
            if stored.size:
                whole[inside] = labels_of(stored)
            labels[: len(whole)] = torch.from_numpy(np.flip(whole, axes).copy())
            return
        background = self.prepared.cases[case_id].background
        if not stored.size:
            image.fill_(background)
            return
        first, extent = _clipped(start, inside)
        block = np.empty((len(image), *extent), dtype=np.float32)
        self._images.fill(block, position, first)
        image.copy_(sample_image(block, first, crop, background))
        own = labels_of(sample_labels(stored, first, crop, outside=NOTHING))
        labels[: len(own)] = torch.from_numpy(own)


class WholeCases:
    """Stored volumes of some cases with their labels, one at a time, for validation."""

    def __init__(self, prepared: Prepared, masks: PreparedMasks, case_ids: Sequence[str]) -> None:
        """Check that the cases fit; nothing is read yet.

        Raises:
            StoreError: If a case is unknown or has masks on another grid, or channels differ.
        """
        self.prepared = prepared
        self.masks = masks
        self.case_ids = tuple(case_ids)
        known = _known(prepared, masks, self.case_ids)
        self.targets = torch.from_numpy(known.astype(np.float32))
        """(n, K): 1 for the classes that a case annotates, else 0: unknown."""

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.case_ids)

    def read(
        self, position: int
    ) -> tuple[Float32[np.ndarray, "c d h w"], Int16[np.ndarray, "l d h w"]]:
        """Read a whole volume and its labels: 0 none, k + 1 class k, -1 (first layer) unknown.

        Raises:
            StoreError: If a file is gone or damaged.
        """
        case_id = self.case_ids[position]
        return self.prepared.read(case_id), self.masks.read(case_id)


def _known(prepared: Prepared, masks: PreparedMasks, case_ids: tuple[str, ...]) -> Any:
    if not case_ids:
        raise StoreError("a feed got no cases. Expected at least one.")
    known = masks.known_of(case_ids)
    for case_id in case_ids:
        shape, own = prepared.shape(case_id)[1:], masks.cases[case_id].shape[1:]
        if shape != own:
            raise StoreError(
                f"case {case_id!r}: its masks have {own} voxels (depth, height, width), but its "
                f"stored volume has {shape}. Prepare the masks with these volumes."
            )
    check_channels(prepared, case_ids)
    return known


def _clipped(start: Size3, inside: tuple[slice, ...]) -> tuple[Size3, Size3]:
    """Return start and size of the part of a box that lies in the volume."""
    parts = inside[1:]
    first = [begin + part.start for begin, part in zip(start, parts, strict=True)]
    extent = [part.stop - part.start for part in parts]
    return (first[0], first[1], first[2]), (extent[0], extent[1], extent[2])
