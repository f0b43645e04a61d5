import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voxgraft.datasets import Table, Windows, read_slice_labels, read_table, write_slice_labels
from voxgraft.errors import StoreError, TableError
from voxgraft.feeds import WindowFeed, cut_windows, stored_slice_labels
from voxgraft.store import Prepared, VolumeStore
from voxgraft.transforms import Keep, Preprocessing
from voxgraft.volumes import Affine, Volume, write_volume

DEPTHS = (20, 7, 16, 3)
PLANE = (10, 12)
WINDOWS = Windows(size_voxels=(8, 6, 6), min_positive_slices=2)
TARGETS = np.array([[1.0], [0.0], [1.0], [0.0]])
POSITIVE = {"c0": (9, 10, 11), "c2": (0, 8), "c3": ()}


def make_table(folder: Path, affine: Affine | None = None) -> Table:
    """Studies whose voxels hold their own depth index, so that a window tells where it lies."""
    rows = []
    for number, depth in enumerate(DEPTHS):
        voxels = np.broadcast_to(
            np.arange(depth, dtype=np.float32)[:, None, None] + 100 * (number + 1), (depth, *PLANE)
        )
        path = folder / f"{number}.nii"
        write_volume(Volume(voxels[None].copy(), affine or Affine(np.eye(4)[[2, 1, 0, 3]])), path)
        rows.append({"case_id": f"c{number}", "patient_id": f"p{number}", "image": path.name})
    frame = pd.DataFrame(rows).assign(pe=TARGETS[:, 0].astype(int), slice_labels="slices.csv")
    labels = {
        case: None if case == "c1" else np.isin(np.arange(depth), POSITIVE[case])[:, None]
        for case, depth in zip(frame["case_id"], DEPTHS, strict=True)
    }
    write_slice_labels(folder / "slices.csv", ("pe",), labels)
    frame.to_csv(folder / "table.csv", index=False)
    return read_table(folder / "table.csv")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return make_table(tmp_path_factory.mktemp("windows"))


@pytest.fixture(scope="module")
def prepared(table: Table) -> Prepared:
    store = VolumeStore(table.image_path("c0").parent / "store")
    return store.prepare(table, Preprocessing(intensity=Keep(), storage="float32"))


def feed_of(prepared: Prepared, table: Table, windows: Windows = WINDOWS, **options) -> WindowFeed:
    labels = read_slice_labels(table, ("pe",))
    return WindowFeed(prepared, prepared.case_ids, TARGETS, windows, slice_labels=labels, **options)


def depths_seen(image: np.ndarray) -> list[int]:
    """Return the depth index of each slice of a window; -1 for background."""
    slices = np.asarray(image)[0, :, 3, 3]
    return [int(value) % 100 if value >= 100 else -1 for value in slices]


@pytest.mark.parametrize("budget_mib", [0, 100])
def test_windows_cover_each_study(prepared, table, budget_mib):
    feed = feed_of(prepared, table, memory_budget_mib=budget_mib)
    assert feed.starts == ((0, 8, 12), (0,), (0, 8), (-2,))
    assert feed.image_shape == (1, 8, 6, 6)
    (batch,) = feed.batches([np.arange(len(feed))])
    assert depths_seen(batch.images[1]) == list(range(8, 16))
    assert depths_seen(batch.images[2]) == list(range(12, 20))
    background = prepared.cases["c3"].background
    short = batch.images[-1]
    assert short[0, :, 0, 0].tolist() == [background] * 2 + [400, 401, 402] + [background] * 3
    assert batch.bags is None


def test_labels_of_windows_come_from_slices(prepared, table):
    feed = feed_of(prepared, table)
    # c0 has positive slices 9, 10, 11; c1 is not annotated by slice, so takes its study's label;
    # of c2, no window has two of the slices 0 and 8
    assert feed.targets[:, 0].tolist() == [0, 1, 0, 0, 0, 0, 0]
    one = feed_of(prepared, table, dataclasses.replace(WINDOWS, min_positive_slices=1))
    assert one.targets[:, 0].tolist() == [0, 1, 0, 0, 1, 1, 0]
    study = feed_of(prepared, table, dataclasses.replace(WINDOWS, labels="study"))
    assert study.targets[:, 0].tolist() == [1, 1, 1, 0, 1, 1, 0]
    assert study.case_targets[:, 0].tolist() == TARGETS[:, 0].tolist()


def test_scores_are_pooled_by_study(prepared, table):
    feed = feed_of(prepared, table)
    scores = np.array([0.1, 0.7, 0.2, 0.3, 0.4, 0.6, 0.5])[:, None]
    assert feed.pool(scores)[:, 0].tolist() == [0.7, 0.3, 0.6, 0.5]


def test_bags_hold_the_windows_of_their_study(prepared, table):
    windows = dataclasses.replace(WINDOWS, aggregate="attention", per_study=2)
    feed = feed_of(prepared, table, windows, training=True, seed=3)
    assert len(feed) == 4
    first, second = feed.batches([np.array([0, 2]), np.array([0, 2])])
    assert first.bags.tolist() == [0, 0, 1, 1]
    assert first.targets[:, 0].tolist() == [1, 1]
    for batch in (first, second):
        for image, bag in zip(batch.images, batch.bags, strict=True):
            assert depths_seen(image)[0] in feed.starts[(0, 2)[bag]]
    drawn = {
        tuple(depths_seen(image)[0] for image in batch.images[:2])
        for batch in feed.batches([np.array([0])] * 30)
    }
    assert drawn == {(0, 8), (0, 12), (8, 12)}
    again = next(iter(feed.batches([np.array([0, 2])], first_step=1)))
    np.testing.assert_array_equal(again.images, second.images)
    scored = feed_of(prepared, table, windows)
    (batch,) = scored.batches([np.arange(4)])
    assert batch.bags.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert scored.pool(np.ones((4, 1))).shape == (4, 1)


def test_neighbors_become_channels(prepared, table):
    windows = dataclasses.replace(WINDOWS, neighbors=1)
    feed = feed_of(prepared, table, windows)
    assert feed.image_shape == (3, 8, 6, 6)
    (batch,) = feed.batches([np.array([1])])
    found = [depths_seen(batch.images[0, channel : channel + 1]) for channel in range(3)]
    assert found == [list(range(7, 15)), list(range(8, 16)), list(range(9, 17))]


@pytest.mark.parametrize("neighbors", [0, 2])
def test_a_volume_is_cut_as_the_feed_cuts_it(prepared, table, neighbors):
    windows = dataclasses.replace(WINDOWS, neighbors=neighbors)
    feed = feed_of(prepared, table, windows)
    (batch,) = feed.batches([np.arange(len(feed))])
    parts = [
        cut_windows(prepared.read(case), windows, prepared.cases[case].background)
        for case in prepared.case_ids
    ]
    np.testing.assert_array_equal(np.concatenate(parts), batch.images)


def test_places_in_the_plane_are_drawn_in_training(prepared, table):
    feed = feed_of(prepared, table, training=True, seed=1)
    wide = feed_of(prepared, table, dataclasses.replace(WINDOWS, size_voxels=(8, 10, 12)))
    assert wide.image_shape == (1, 8, 10, 12)
    batches = list(feed.batches([np.array([0])] * 3))
    assert all(batch.images.shape == (1, 1, 8, 6, 6) for batch in batches)


def labels_at(folder: Path, spacing_mm: float | None, affine: Affine | None = None) -> list[int]:
    table = make_table(folder, affine)
    spacing = None if spacing_mm is None else (spacing_mm, 1.0, 1.0)
    settings = Preprocessing(intensity=Keep(), spacing_mm=spacing, storage="float32")
    prepared = VolumeStore(folder / "store").prepare(table, settings)
    found = stored_slice_labels(prepared, "c0", read_slice_labels(table, ("pe",)))
    return np.flatnonzero(found[:, 0]).tolist()


def test_slice_labels_follow_resampling_and_flips(tmp_path):
    upright = Affine(np.eye(4)[[2, 1, 0, 3]])
    (tmp_path / "a").mkdir()
    assert labels_at(tmp_path / "a", None, upright) == [9, 10, 11]
    flipped = np.eye(4)[[2, 1, 0, 3]]
    flipped[2, 0] = -1.0
    (tmp_path / "b").mkdir()
    assert labels_at(tmp_path / "b", None, Affine(flipped)) == [8, 9, 10]
    (tmp_path / "c").mkdir()
    half = labels_at(tmp_path / "c", 2.0, upright)  # stored slices twice as thick
    assert all(abs(2 * place + 0.5 - 10) <= 2.0 for place in half)
    assert len(half) in (2, 3)
    (tmp_path / "d").mkdir()
    fine = labels_at(tmp_path / "d", 0.5, upright)  # stored slices half as thick
    assert len(fine) in (5, 6, 7)
    assert fine == list(range(fine[0], fine[-1] + 1))


def test_sagittal_slices_are_refused_by_name(tmp_path):
    sagittal = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]])
    with pytest.raises(TableError, match=r"'c0'.*along width"):
        labels_at(tmp_path, None, Affine(sagittal))


def test_odd_requests_are_refused(prepared, table):
    with pytest.raises(StoreError, match="shape"):
        WindowFeed(prepared, prepared.case_ids, TARGETS[:2], WINDOWS)
    with pytest.raises(StoreError, match="no cases"):
        WindowFeed(prepared, (), TARGETS[:0], WINDOWS)


@pytest.mark.parametrize("budget_mib", [0, 64])
def test_float16_is_served_as_numpy_decodes_it(tmp_path, budget_mib):
    """Planes of more values than one block has, in a window that reaches over the edge."""
    voxels = np.random.default_rng(0).random((1, 5, 190, 200)).astype(np.float32)
    write_volume(Volume(voxels, Affine.from_spacing((1, 1, 1))), tmp_path / "a.nii.gz")
    frame = pd.DataFrame({"case_id": ["a"], "patient_id": ["a"], "image": ["a.nii.gz"]})
    settings = Preprocessing(intensity=Keep(), background=0.25, storage="float16")
    stored = VolumeStore(tmp_path / "store").prepare(Table(frame, tmp_path), settings)
    for size in ((4, 180, 190), (8, 200, 196)):
        windows = Windows(size_voxels=size)
        options = {"slice_labels": None, "memory_budget_mib": budget_mib}
        feed = WindowFeed(stored, ["a"], np.zeros((1, 1)), windows, **options)
        batch = next(feed.batches([np.arange(len(feed))]))
        expected = cut_windows(stored.read("a"), windows, 0.25)
        np.testing.assert_array_equal(batch.images.numpy(), expected)
