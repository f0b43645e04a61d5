"""Cleaning: by hand, and what must hold of any mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from voxgraft.errors import InferenceError
from voxgraft.inference import Cleaning, SegmentedScan, clean, pack_masks
from voxgraft.volumes import Affine

UNIT = Affine.from_spacing((10.0, 10.0, 10.0))  # a voxel is 1 ml
CLASSES = ("liver", "spleen")


def plane(text: str) -> np.ndarray:
    """Return a label map of one slice; a row a word."""
    return np.array([[list(map(int, row)) for row in text.split()]], np.uint8)


def cleaned(labels: np.ndarray, rules) -> list:
    before = labels.copy()
    found = clean(SegmentedScan(CLASSES, UNIT, labels), rules).found
    assert np.array_equal(labels, before)
    return found.tolist()


def test_components_share_corners() -> None:
    labels = plane("1100020 0010002 0000100 2200000")
    largest = plane("1100020 0010002 0000000 0000000")
    assert cleaned(labels, Cleaning(largest_component=True)) == largest.tolist()
    only = plane("1100020 0010002 0000000 2200000")
    assert cleaned(labels, {"liver": Cleaning(minimal_volume_ml=2.0)}) == only.tolist()
    tie = plane("2200200 0000002")  # two of two voxels: the first stays
    assert cleaned(tie, Cleaning(largest_component=True)) == plane("2200000 0000000").tolist()
    gone = Cleaning(largest_component=True, minimal_volume_ml=4.0)
    assert not np.any(cleaned(labels, gone))


def test_holes_are_filled_where_nothing_else_is() -> None:
    ring = np.ones((3, 5, 5), np.uint8)
    ring[1, 1:4, 1:4] = [[0, 0, 0], [0, 2, 0], [0, 0, 0]]
    full = np.ones((3, 5, 5), np.uint8)
    full[1, 2, 2] = 2
    assert cleaned(ring, {"liver": Cleaning(fill_holes=True)}) == full.tolist()
    everything = Cleaning(minimal_volume_ml=2.0, fill_holes=True)
    assert np.all(np.array(cleaned(ring, everything)) == 1)
    # Open by a face towards the border of the scan; a corner is no way out.
    ring[1, 2, 4] = 0
    ring[1, 2, 3] = 0
    assert cleaned(ring, {"liver": Cleaning(fill_holes=True)}) == ring.tolist()


def test_overlapping_masks_are_cleaned_each_by_itself() -> None:
    masks = np.zeros((2, 1, 3, 9), bool)
    masks[0, :, :, :3] = True
    masks[0, 0, 1, 8] = True
    masks[1] = True
    packed = pack_masks(enumerate(masks), 2, masks.shape[1:])
    found = clean(SegmentedScan(CLASSES, UNIT, packed), {"liver": Cleaning(largest_component=True)})
    masks[0, 0, 1, 8] = False
    assert np.array_equal([found.mask(0), found.mask(1)], masks)
    assert found.volumes_ml() == pytest.approx({"liver": 9.0, "spleen": 27.0})


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (4, 5, 6), elements=st.booleans()), st.integers(0, 6))
def test_what_holds_of_any_mask(mask, least) -> None:
    rule = Cleaning(minimal_volume_ml=float(least), fill_holes=True)
    scan = SegmentedScan(("a",), UNIT, mask.astype(np.uint8))
    once = clean(scan, rule)
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    kept = np.zeros_like(mask)
    for part in range(1, count + 1):
        kept |= (parts == part) & ((parts == part).sum() >= least)
    assert np.array_equal(once.mask(0), ndimage.binary_fill_holes(kept))
    assert np.array_equal(clean(once, rule).mask(0), once.mask(0))
    one = clean(scan, Cleaning(largest_component=True)).mask(0)
    sizes = [(parts == part).sum() for part in range(1, count + 1)]
    assert one.sum() == max(sizes, default=0)


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, (4, 6, 5), elements=st.integers(0, 3)), st.integers(0, 4), st.booleans())
def test_structures_of_a_label_map_are_cleaned_as_if_each_had_a_scan(labels, least, one) -> None:
    rule = Cleaning(largest_component=one, minimal_volume_ml=float(least), fill_holes=True)
    found = clean(SegmentedScan(("a", "b", "c"), UNIT, labels), {"a": rule, "c": rule}).found
    kept = labels.copy()
    for value in (1, 3):
        parts, count = ndimage.label(labels == value, np.ones((3, 3, 3)))
        sizes = [(parts == part + 1).sum() for part in range(count)]
        for part, size in enumerate(sizes):
            if size < least or (one and part != int(np.argmax(sizes))):
                kept[parts == part + 1] = 0
    for value in (1, 3):
        kept[(kept == 0) & ndimage.binary_fill_holes(kept == value)] = value
    assert np.array_equal(found, kept)


def test_refusals() -> None:
    scan = SegmentedScan(CLASSES, UNIT, np.zeros((1, 1, 1), np.uint8))
    with pytest.raises(InferenceError, match="'kidney' is no structure"):
        clean(scan, {"kidney": Cleaning()})
    with pytest.raises(InferenceError, match="-1"):
        Cleaning(minimal_volume_ml=-1.0)
    with pytest.raises(InferenceError, match="0 to 3"):
        SegmentedScan(CLASSES, UNIT, np.array([[[0, 3]]]))
    with pytest.raises(InferenceError, match="1 classes and 2 names"):
        SegmentedScan(CLASSES, UNIT, pack_masks([], 1, (1, 1, 1)))
