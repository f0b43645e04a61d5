"""The slice of a test case that a segmentation's run keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.datasets import Masks
from voxgraft.errors import RunError
from voxgraft.runs.slices import (
    SLICES_FILE,
    SegmentedSlice,
    axial_axis,
    chosen_slice,
    read_slices,
    write_slices,
)
from voxgraft.volumes import Affine


def masks_of(*layers: np.ndarray, affine: Affine | None = None) -> Masks:
    values = {int(v) for layer in layers for v in np.unique(layer)} - {0}
    places = {
        f"s{v}": (next(k for k, layer in enumerate(layers) if (layer == v).any()), v)
        for v in sorted(values)
    }
    affine = affine or Affine.from_spacing((3.0, 1.0, 1.0))
    return Masks("case", tuple(places), np.stack(layers), places, None, affine)


def test_most_structures_come_before_most_voxels():
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1] = 1  # full of one structure
    labels[2, :2, :2], labels[2, 4, 4] = 1, 2
    labels[3, 0, 0], labels[3, 4, 4] = 1, 2
    assert chosen_slice(masks_of(labels)) == (0, 2)
    assert chosen_slice(masks_of(np.zeros((4, 6, 6), np.uint8))) is None


def test_overlapping_layers_count_together():
    first, second = np.zeros((2, 3, 5, 5), np.uint8)
    first[0, 0, 0] = first[2, 0, 0] = 1
    second[2, 0, 0] = 2
    assert chosen_slice(masks_of(first, second)) == (0, 2)


def test_slices_stand_across_the_axis_from_feet_to_head():
    """A sagittal scan: depth runs to the right, height to superior, width to anterior."""
    matrix = np.array([[2.0, 0, 0, 0], [0, 0, 2.0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1]])
    affine = Affine(matrix)
    labels = np.zeros((3, 7, 4), np.uint8)
    labels[:, 5] = 1
    assert axial_axis(affine) == 1
    assert chosen_slice(masks_of(labels, affine=affine)) == (1, 5)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_written_slices_are_read_again(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("slices")
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    slices = []
    for number in range(data.draw(st.integers(0, 4))):
        shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        own = SegmentedSlice(f"case é{number}", number % 3, 5 * number)
        for name in data.draw(st.sets(st.sampled_from(["liver", "spleen", "lung left"]))):
            own.keep(name, rng.random(shape) < 0.4)
        slices.append(own)
    write_slices(slices, folder / SLICES_FILE)
    again = read_slices(folder / SLICES_FILE)
    assert list(again) == [own.case_id for own in slices]
    for own in slices:
        found = again[own.case_id]
        assert (found.axis, found.index) == (own.axis, own.index)
        assert set(found.masks) == set(own.masks)
        for name, mask in own.masks.items():
            assert mask.any()
            np.testing.assert_array_equal(found.masks[name], mask)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / SLICES_FILE
    own = SegmentedSlice("a", 0, 1)
    own.keep("liver", np.ones((20, 20), bool))
    write_slices([own], path)
    whole = path.read_bytes()
    for damaged in (b"", b"PK", whole[: len(whole) // 2], whole[:60] + b"\0" * 40 + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=SLICES_FILE):
            read_slices(path)
    with pytest.raises(RunError, match="cannot be read"):
        read_slices(tmp_path / "missing.npz")


def test_a_run_keeps_what_its_network_found(segmentation, bodies):
    """Of the test cases alone; the whole masks' volumes in the scores are no smaller."""
    found = read_slices(segmentation.folder / SLICES_FILE)
    frame = bodies.frame
    assert sorted(found) == sorted(frame["case_id"][frame["split"] == "test"])
    for own in found.values():
        assert own.axis == 0
        assert set(own.masks) <= {"lung_left", "liver"}
        assert all(mask.shape == (32, 32) for mask in own.masks.values())
