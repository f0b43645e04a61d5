"""The masks of one case on the grid of its stored volume, with samples of each class's voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Integer

from voxgraft.datasets import Masks, Table, read_masks
from voxgraft.errors import PreprocessingError, StoreError, TableError, VolumeError
from voxgraft.files import content_key
from voxgraft.store.encoding import Encoding
from voxgraft.store.entry import write_entry
from voxgraft.transforms.geometry import crop_or_pad, orient
from voxgraft.transforms.preprocess import Preprocessing
from voxgraft.transforms.resampling import resample
from voxgraft.types import Size3
from voxgraft.volumes import Affine, Volume

MASKS_VERSION = 1
"""Goes into the key of stored masks: raised whenever they would come out differently."""

SAMPLED_VOXELS = 4096
"""Voxels of a class that are remembered, at most, to lay crops around."""

UNKNOWN, NOTHING = 0, 1
"""Stored numbers: nothing is known of any class; none of the layer's. Class k is k + 2."""

_SAME_PLACE_MM = 1e-3


@dataclass(frozen=True)
class MaskOrder:
    """Masks to make; what they must fit is the stored volume."""

    case_id: str
    image: Path
    table: Table
    """The row of the case."""
    classes: tuple[str, ...]
    annotated: tuple[str, ...]
    """Those of the classes that the case annotates."""
    target: Path
    preprocessing: Preprocessing
    shape: Size3
    affine: Affine


def encoding_of(classes: int) -> Encoding:
    """Return how labels from -1 to the number of classes are stored."""
    return Encoding("uint8" if classes + NOTHING <= 255 else "uint16", 1.0, float(-NOTHING))


def samples_path(entry: Path) -> Path:
    """Return the file of the sampled voxels that belongs to a file of masks."""
    return entry.with_suffix(".voxels")


def make_masks(order: MaskOrder) -> str:
    """Read and store the masks of one case.

    Returns:
        What is wrong with them, or an empty text.

    Raises:
        OSError: If the store cannot be written.
    """
    try:
        stored = _stored(order)
    except (TableError, VolumeError, PreprocessingError, StoreError) as error:
        return str(error).removeprefix(f"case {order.case_id!r}: ")
    except MemoryError:
        return f"{order.image} does not fit into memory. Prepare with fewer jobs."
    voxels, counts = sample_voxels(stored, len(order.classes), order.target.name)
    identity = np.eye(4)
    write_entry(
        samples_path(order.target),
        voxels.reshape(-1, 1, 1, 1),
        Encoding("uint32"),
        background=0.0,
        affine=identity,
        source={"counts": counts},
    )
    # Last: where this file is whole, the samples are.
    write_entry(
        order.target,
        stored,
        encoding_of(len(order.classes)),
        background=0.0,
        affine=order.affine.matrix,
        source={"masks": str(order.image), "classes": list(order.classes)},
    )
    return ""


def _stored(order: MaskOrder) -> Integer[np.ndarray, "layers d h w"]:
    """Return the numbers to store."""
    dtype = encoding_of(len(order.classes)).dtype
    if not order.annotated:
        return np.full((1, *order.shape), NOTHING, dtype=dtype)
    masks = read_masks(order.table, order.case_id, order.annotated)
    layers = on_stored_grid(Volume(masks.layers, masks.affine), order.preprocessing)
    if layers.shape != order.shape or not np.allclose(
        layers.affine.matrix, order.affine.matrix, atol=_SAME_PLACE_MM
    ):
        raise StoreError(
            f"{order.image}: the masks come out as {layers.shape} voxels at {layers.affine!r}, but "
            f"the stored volume has {order.shape} at {order.affine!r}. Delete the stored volume "
            "and prepare again."
        )
    stored = np.empty(layers.voxels.shape, dtype=dtype)
    for layer in range(len(stored)):
        np.take(_meanings(order, masks, layer, dtype), layers.voxels[layer], out=stored[layer])
    if masks.ignored is not None:
        ignored = Volume(masks.ignored[None].astype(np.uint8), masks.affine)
        stored[0][on_stored_grid(ignored, order.preprocessing).voxels[0] != 0] = UNKNOWN
    return stored


def on_stored_grid(volume: Volume, preprocessing: Preprocessing) -> Volume:
    """Bring categories onto the grid that ``preprocess`` brings a scan to; 0 is around them.

    The very same steps, but that each new voxel takes the old one that its center lies in.
    """
    turned = resample(
        orient(volume),
        preprocessing.spacing_mm,
        "nearest",
        size_voxels=preprocessing.resize_voxels,
    )
    if preprocessing.size_voxels is None:
        return turned
    depth, height, width = (
        own if wanted is None else wanted
        for wanted, own in zip(preprocessing.size_voxels, turned.shape, strict=True)
    )
    return crop_or_pad(turned, (depth, height, width))


def _meanings(
    order: MaskOrder, masks: Masks, layer: int, dtype: str
) -> Integer[np.ndarray, " values"]:
    """Return the number to store for each value of a layer."""
    numbers = np.full(len(order.annotated) + 1, NOTHING, dtype=dtype)
    for name, (place, value) in masks.places.items():
        if place == layer:
            numbers[value] = order.classes.index(name) + 1 + NOTHING
    return numbers


def sample_voxels(
    stored: Integer[np.ndarray, "layers d h w"], classes: int, seed: str
) -> tuple[Int[np.ndarray, " m"], list[int]]:
    """Choose voxels of each class at random, all alike, at most ``SAMPLED_VOXELS``.

    Args:
        stored: Numbers as they are stored.
        classes: How many there are.
        seed: A text that decides what is chosen.

    Returns:
        Positions in the flattened (depth, height, width), class by class and ascending, with at
        least one entry (uint32); and how many there are of each class.
    """
    length = classes + 1 + NOTHING
    planes = stored.reshape(len(stored) * stored.shape[1], -1)
    counts = np.zeros((len(planes), length), dtype=np.int64)
    for row, plane in enumerate(planes):
        counts[row] = np.bincount(plane, minlength=length)
    before = np.cumsum(counts, axis=0) - counts
    chosen: list[np.ndarray] = []
    for number in range(1 + NOTHING, length):
        total = int(counts[:, number].sum())
        rng = np.random.default_rng((int(content_key(seed), 16), number))
        ranks = np.arange(total)
        if total > SAMPLED_VOXELS:
            ranks = np.sort(rng.choice(total, SAMPLED_VOXELS, replace=False))
        rows = np.searchsorted(before[:, number] + counts[:, number], ranks, side="right")
        found = [np.empty(0, dtype=np.int64)]
        for row in np.unique(rows):
            here = np.flatnonzero(planes[row] == number)
            level = row % stored.shape[1]
            found.append(level * planes.shape[1] + here[ranks[rows == row] - before[row, number]])
        chosen.append(np.concatenate(found))
    voxels = np.concatenate(chosen).astype(np.uint32)
    return voxels if voxels.size else np.zeros(1, dtype=np.uint32), [len(own) for own in chosen]
