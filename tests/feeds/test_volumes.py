import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from voxgraft.datasets import Table
from voxgraft.errors import StoreError
from voxgraft.feeds import VolumeFeed
from voxgraft.store import Prepared, VolumeStore
from voxgraft.transforms import Keep, Preprocessing, ZScore
from voxgraft.volumes import Affine, Volume, write_volume

TARGETS = np.arange(10, dtype=np.float64).reshape(5, 2)


def prepare(
    folder: Path, shapes: list[tuple[int, int, int]], settings: Preprocessing | None = None
) -> Prepared:
    ids = [f"c{i}" for i in range(len(shapes))]
    for i, shape in enumerate(shapes):
        voxels = np.random.default_rng(i).random((1, *shape)).astype(np.float32)
        write_volume(Volume(voxels, Affine.from_spacing((1, 1, 1))), folder / f"{i}.nii")
    frame = pd.DataFrame(
        {"case_id": ids, "patient_id": ids, "image": [f"{i}.nii" for i in range(len(shapes))]}
    )
    settings = settings or Preprocessing(intensity=Keep())
    return VolumeStore(folder / "store").prepare(Table(frame, folder), settings)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("feed"), [(6, 7, 8)] * 5)


SCHEDULE = [np.array([4, 0]), np.array([2]), np.array([1, 1, 3])] * 6


@pytest.mark.parametrize("budget_mib", [0, 2048])
@pytest.mark.parametrize("threads", [1, 4])
def test_batches_come_in_the_order_of_the_schedule(
    prepared: Prepared, budget_mib: float, threads: int
) -> None:
    ids = prepared.case_ids[::-1]
    feed = VolumeFeed(prepared, ids, TARGETS, memory_budget_mib=budget_mib, threads=threads)
    assert len(feed) == 5
    assert feed.image_shape == (1, 6, 7, 8)
    served = list(feed.batches(SCHEDULE))
    assert len(served) == len(SCHEDULE)
    for (images, targets, *_), positions in zip(served, SCHEDULE, strict=True):
        assert images.dtype == targets.dtype == torch.float32
        np.testing.assert_array_equal(images, np.stack([prepared.read(ids[p]) for p in positions]))
        np.testing.assert_array_equal(targets, TARGETS[positions])
    assert feed.waiting_s > 0


@pytest.mark.parametrize("storage", ["float16", "uint8", "uint16", "float32"])
def test_kept_volumes_mean_the_same_as_those_on_disk(tmp_path: Path, storage: str) -> None:
    settings = Preprocessing(intensity=ZScore(), storage=storage)  # type: ignore[arg-type]
    prepared = prepare(tmp_path, [(9, 5, 6), (4, 9, 9), (7, 7, 7)], settings)
    schedule = [np.array([0, 1, 2]), np.array([2, 0])]
    feeds = [
        VolumeFeed(
            prepared,
            prepared.case_ids,
            TARGETS[:3],
            crop_size_voxels=(6, 6, 6),
            seed=3,
            memory_budget_mib=budget,
        )
        for budget in (0, 100)
    ]
    for first, second in zip(*(feed.batches(schedule) for feed in feeds), strict=True):
        assert torch.equal(first[0], second[0])


def test_random_crops_depend_on_seed_step_and_place_alone(prepared: Prepared) -> None:
    def crops(seed: int, first_step: int = 0, budget: float = 100) -> list[torch.Tensor]:
        feed = VolumeFeed(
            prepared,
            prepared.case_ids,
            TARGETS,
            crop_size_voxels=(3, 3, 3),
            seed=seed,
            memory_budget_mib=budget,
        )
        schedule = [np.array([0, 0, 0, 0])] * (20 - first_step)
        return [images for images, *_ in feed.batches(schedule, first_step=first_step)]

    whole = prepared.read("c0")
    windows = np.lib.stride_tricks.sliding_window_view(whole[0], (3, 3, 3))
    first = crops(1)
    seen = set()
    for images in first:
        for image in images.numpy():
            match = (windows == image[0]).all(axis=(3, 4, 5))
            assert match.sum() == 1
            seen.add(tuple(int(i) for i in np.argwhere(match)[0]))
    assert len(seen) > 40  # of 120 places; 80 crops
    assert {place[0] for place in seen} == set(range(4))
    assert {place[2] for place in seen} == set(range(6))
    for a, b in zip(first[7:], crops(1, first_step=7), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(first, crops(1, budget=0), strict=True):
        assert torch.equal(a, b)
    assert not all(torch.equal(a, b) for a, b in zip(first, crops(2), strict=True))


def test_center_crops_and_padding(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, [(6, 4, 9)], Preprocessing(intensity=Keep(), background=-1))
    feed = VolumeFeed(prepared, ["c0"], TARGETS[:1], crop_size_voxels=(2, 8, 9), crop="center")
    (images, *_), *_ = feed.batches([np.array([0])])
    expected = np.full((1, 1, 2, 8, 9), -1, dtype=np.float32)
    expected[0, 0, :, 2:6] = prepared.read("c0")[0, 2:4]
    np.testing.assert_array_equal(images, expected)


def feed_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("voxgraft-feed")]


def test_an_abandoned_iterator_leaves_no_thread(prepared: Prepared) -> None:
    feed = VolumeFeed(prepared, prepared.case_ids, TARGETS)

    def endless() -> Iterator[np.ndarray]:
        while True:
            yield np.array([0, 1])

    batches = feed.batches(endless())
    next(batches)
    assert feed_threads()
    batches.close()  # type: ignore[attr-defined]
    assert not feed_threads()
    batches = feed.batches(endless())
    next(batches)
    del batches
    gc.collect()
    assert not feed_threads()


def test_a_damaged_volume_and_a_failing_schedule_reach_the_consumer(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, [(5, 5, 5)] * 3)
    path = prepared.folder / prepared.cases["c2"].file
    path.write_bytes(path.read_bytes()[:-1])
    feed = VolumeFeed(prepared, prepared.case_ids, TARGETS[:3], memory_budget_mib=0)
    batches = feed.batches([np.array([0]), np.array([1]), np.array([2])])
    next(batches)
    next(batches)
    with pytest.raises(StoreError, match=rf"{path.name} is damaged"):
        next(batches)
    assert not feed_threads()

    def failing() -> Iterator[np.ndarray]:
        yield np.array([0])
        raise RuntimeError("the schedule broke")

    with pytest.raises(RuntimeError, match="the schedule broke"):
        list(feed.batches(failing()))
    assert not feed_threads()


@pytest.mark.parametrize("positions", [[5], [-1], [], [0.5], [[0]], ["a"], [True]])
def test_positions_that_are_no_cases_are_refused(prepared: Prepared, positions: list) -> None:
    feed = VolumeFeed(prepared, prepared.case_ids, TARGETS)
    with pytest.raises(StoreError, match="Expected positions from 0 to 4, at least one"):
        list(feed.batches([np.array(positions)]))


def test_cases_that_cannot_form_batches_are_refused(tmp_path: Path, prepared: Prepared) -> None:
    mixed = prepare(tmp_path, [(5, 5, 5), (6, 5, 5)])
    with pytest.raises(
        StoreError, match=r"\(1, 5, 5, 5\) in 'c0', \(1, 6, 5, 5\) in 'c1'.*Set size"
    ):
        VolumeFeed(mixed, mixed.case_ids, TARGETS[:2])
    with pytest.raises(StoreError, match=r"targets have shape \(5, 2\).* for 2 cases"):
        VolumeFeed(mixed, mixed.case_ids, TARGETS, crop_size_voxels=(4, 4, 4))
    with pytest.raises(StoreError, match="no case is called 'z'"):
        VolumeFeed(prepared, ["z"], TARGETS[:1])
    with pytest.raises(StoreError, match="a feed got no cases"):
        VolumeFeed(prepared, [], TARGETS[:0])
    with pytest.raises(StoreError, match=r"crop_size_voxels is \(0, 1, 1\)"):
        VolumeFeed(prepared, prepared.case_ids, TARGETS, crop_size_voxels=(0, 1, 1))
