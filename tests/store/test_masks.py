"""Masks on the grids of stored volumes: where they lie, what is unknown, what is made again."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from voxgraft.datasets import Table
from voxgraft.errors import StoreError
from voxgraft.store import Prepared, PreparedMasks, VolumeStore, make_masks, masks, prepare_masks
from voxgraft.transforms import Keep, Preprocessing
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

SETTINGS = Preprocessing(intensity=Keep(), storage="float32", interpolation="nearest")
MaskedTable = Callable[..., Table]


def prepare(table: Table, settings: Preprocessing = SETTINGS) -> Prepared:
    return VolumeStore(table.root / "store").prepare(table, settings)


def ball(shape: tuple[int, int, int]) -> np.ndarray:
    """Return labels that look different from every side: 1 at the low corner, 2 beside it."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[: shape[0] // 2, : shape[1] // 3, : shape[2] // 4] = 1
    labels[shape[0] // 2 :, : shape[1] // 2, shape[2] // 2 :] = 2
    return labels


def turned(axes: tuple[int, int, int], signs: tuple[int, int, int], degrees: float) -> Affine:
    """Return voxels of 2.3, 0.7 and 1.1 mm along world axes in any order, then tilted."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, list(axes)] * np.array(signs) * (2.3, 0.7, 1.1)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    tilt = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, c, -s], [0, s, c]]
    )
    matrix[:3, :3] = tilt @ matrix[:3, :3]
    matrix[:3, 3] = (5, -80, 33)
    return Affine(matrix)


@pytest.mark.parametrize(
    "affine",
    [
        turned((2, 1, 0), (1, 1, 1), 0),
        turned((2, 1, 0), (-1, 1, -1), 0),
        turned((0, 2, 1), (1, -1, -1), 0),
        turned((2, 1, 0), (1, -1, -1), 14),
        turned((1, 0, 2), (-1, 1, 1), 23),
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"spacing_mm": (1.3, 1.7, 0.9)},
        {"spacing_mm": (1.3, None, None), "resize_voxels": (None, 17, None)},
        {"spacing_mm": (2.9, 0.6, 1.9), "size_voxels": (7, 40, None)},
    ],
)
def test_a_stored_label_is_that_of_the_voxel_at_its_place_in_the_body(
    masked_table: MaskedTable, affine: Affine, change: dict[str, object]
) -> None:
    labels = ball((9, 14, 11))
    table = masked_table([labels], [affine], {"one": 1, "two": 2})
    prepared = prepare(table, replace(SETTINGS, **change))
    stored = prepare_masks(table, ["one", "two"], prepared).read("c0")
    shape = prepared.shape("c0")[1:]
    assert stored.shape == (1, *shape)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
    there = affine.to_index(prepared.affine("c0").to_world(index.astype(np.float64)))
    near = np.rint(there).astype(int)
    inside = ((near >= 0) & (near < labels.shape)).all(axis=1)
    expected = np.zeros(len(index), dtype=np.int16)
    expected[inside] = labels[tuple(near[inside].T)]
    sure = (np.abs(there - near) < 0.499).all(axis=1)
    assert sure.mean() > 0.8  # the others lie halfway between two voxels
    np.testing.assert_array_equal(stored.reshape(-1)[sure], expected[sure])
    np.testing.assert_array_equal(prepared.read("c0"), 10.0 * stored)
    assert {1, 2} <= set(np.unique(stored))


def test_labels_by_hand_along_an_axis_that_runs_down(masked_table: MaskedTable) -> None:
    labels = np.array([0, 1, 2, 3, 4, 5], dtype=np.uint8).reshape(6, 1, 1)
    matrix = np.diag([2.0, 1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]
    matrix[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [-2, 0, 0]])
    table = masked_table([labels], [Affine(matrix)], {f"s{n}": n for n in range(1, 6)})
    grid = replace(SETTINGS, spacing_mm=(3, 1, 1), size_voxels=(6, 1, 2))
    prepared = prepare(table, grid)
    stored = prepare_masks(table, ["s5", "s4", "s3", "s2", "s1"], prepared)
    # From below: 5 4 3 2 1 0, centers at 1, 3, ... 11 mm; new ones at 1.5, 4.5, 7.5, 10.5 mm lie in
    # the voxels of 5, 3, 2 and 0, which are classes 0, 2, 3 and none; then a voxel at each end.
    assert stored.read("c0")[0, :, 0, 1].tolist() == [0, 1, 3, 4, 0, 0]
    assert stored.read("c0")[0, :, 0, 0].tolist() == [0] * 6
    assert stored.read_crop("c0", (1, 0, 1), (2, 2, 2))[0].tolist() == [
        [[1, 0], [0, 0]], [[3, 0], [0, 0]]
    ]  # fmt: skip


@pytest.fixture
def three(masked_table: MaskedTable) -> Table:
    """Return three cases: a tumor in a liver, unknown voxels, and what is not annotated."""
    maps = []
    for seed in range(3):
        labels = np.zeros((8, 9, 10), dtype=np.uint8)
        labels[2:6, 2:7, 2:8] = 1
        labels[3, 3, 3 : 5 + seed] = 2
        labels[7, 8, 9] = 9
        maps.append(labels)
    return masked_table(
        maps,
        [Affine.from_spacing((2, 1, 1))] * 3,
        {"liver": [1, 2], "tumor": 2, "spleen": 4},
        ["", "liver", "spleen"],
        ignored=(9,),
    )


CLASSES = ("tumor", "spleen", "liver")


def test_layers_unknown_classes_and_unknown_voxels(three: Table) -> None:
    prepared = prepare(three)
    steps: list[tuple[int, int]] = []
    stored = prepare_masks(three, CLASSES, prepared, on_progress=lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert stored.known.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0]]
    assert stored.known_of(("c2", "c0")).tolist() == [[0, 1, 0], [1, 1, 1]]
    assert [stored.layers(case) for case in stored.case_ids] == [2, 1, 1]
    labels = stored.read("c0")
    assert labels.dtype == np.int16
    assert [int((labels == value).sum()) for value in (-1, 1, 2, 3)] == [1, 2, 0, 120]
    assert labels[0, 7, 8, 9] == -1
    assert labels[1].min() == 0
    assert [int((stored.read("c1") == value).sum()) for value in (-1, 1, 3)] == [1, 0, 120]
    assert np.unique(stored.read("c2")).tolist() == [-1, 0]
    found = stored.foreground("c0")
    assert sorted(found) == [0, 2]
    assert found[0].tolist() == [[3, 3, 3], [3, 3, 4]]
    assert len(found[2]) == 120
    assert stored.foreground("c2") == {}
    again = pickle.loads(pickle.dumps(stored))
    np.testing.assert_array_equal(again.read("c0"), labels)
    only = prepare_masks(three, ["tumor"], prepared)
    assert only.known[:, 0].tolist() == [True, False, False]
    assert np.unique(only.read("c1")).tolist() == [0]
    assert only.foreground("c1") == {}


@given(
    stored=st_numpy.arrays(
        np.uint8,
        st_numpy.array_shapes(min_dims=4, max_dims=4, max_side=9),
        elements=st.integers(0, 4),
    ),
    most=st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_sampled_voxels_are_of_their_class_and_all_of_them_where_they_are_few(
    stored: np.ndarray, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_masks, "SAMPLED_VOXELS", most)
        voxels, counts = make_masks.sample_voxels(stored, 3, "seed")
        same, _ = make_masks.sample_voxels(stored, 3, "seed")
    np.testing.assert_array_equal(voxels, same)
    parts = np.split(voxels[: sum(counts)], np.cumsum(counts)[:-1])
    flat = stored.reshape(len(stored), -1)
    for number, part in enumerate(parts, 2):
        assert len(part) == min(most, int((flat == number).sum()))
        pairs = [(int(v), layer) for v in part for layer in np.flatnonzero(flat[:, v] == number)]
        assert {v for v, _ in pairs} == set(part.tolist())


def test_every_voxel_is_sampled_as_often() -> None:
    stored = np.full((1, 4, 5, 5), 2, dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_masks, "SAMPLED_VOXELS", 20)
        drawn = [make_masks.sample_voxels(stored, 1, str(seed))[0] for seed in range(500)]
    counts = np.bincount(np.concatenate(drawn), minlength=100)
    assert counts.sum() == 500 * 20
    assert ((counts > 60) & (counts < 140)).all()  # 100 expected, standard deviation 9


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cases whose masks are made, as they are made."""
    cases: list[str] = []

    def counted(order: make_masks.MaskOrder) -> str:
        cases.append(order.case_id)
        return make_masks.make_masks(order)

    monkeypatch.setattr(masks, "make_masks", counted)
    return cases


def flip(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 4]) + data[41:]


def files(stored: PreparedMasks, case: str) -> list[Path]:
    path = stored.folder / stored.cases[case].file
    return [path, make_masks.samples_path(path)]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", [flip, lambda data: data[:-3], None])
def test_damaged_masks_are_named_when_read_and_made_again(
    three: Table, made: list[str], which: int, damage: Callable[[bytes], bytes] | None
) -> None:
    prepared = prepare(three)
    stored = prepare_masks(three, CLASSES, prepared)
    assert made == ["c0", "c1", "c2"]
    before = stored.read("c1"), stored.foreground("c1")
    path = files(stored, "c1")[which]
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    reader = pickle.loads(pickle.dumps(stored))
    with pytest.raises(StoreError, match=rf"{path.name}.*Prepare the table again"):
        (reader.read, reader.foreground)[which]("c1")
    again = prepare_masks(three, CLASSES, prepared)
    assert made[3:] == ["c1"]
    np.testing.assert_array_equal(again.read("c1"), before[0])
    np.testing.assert_array_equal(again.foreground("c1")[2], before[1][2])
    prepare_masks(three, CLASSES, prepared)
    assert len(made) == 4


def test_whatever_changes_is_another_entry(three: Table, made: list[str]) -> None:
    prepared = prepare(three)
    old = prepare_masks(three, CLASSES, prepared)
    other = prepare(three, Preprocessing(intensity=Keep(), storage="uint16"))
    assert other.folder != prepared.folder
    assert prepare_masks(three, CLASSES, other).folder == old.folder  # the grid is the same
    assert len(made) == 3
    assert prepare_masks(three, CLASSES[::-1], prepared).read("c0").max() == 3
    assert len(made) == 6
    meaning = json.loads((three.root / "structures.json").read_text())
    meaning["structures"]["tumor"] = [2, 9]
    meaning["ignored_values"] = []
    meaning["structures"]["liver"] = [1, 2]
    (three.root / "structures.json").write_text(json.dumps(meaning))
    new = prepare_masks(three, CLASSES, prepared)
    assert made[6:] == ["c0", "c1", "c2"]
    assert int((new.read("c0") == 1).sum()) == 3
    path = three.root / "1_seg.nii.gz"
    times = path.stat()
    write_volume(LabelMap(np.ones((8, 9, 10), np.uint8), Affine.from_spacing((2, 1, 1))), path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert prepare_masks(three, CLASSES, prepared).read("c1").min() == 3
    assert made[9:] == ["c1"]
    coarse = prepare(three, Preprocessing(spacing_mm=(2, 2, 2), intensity=Keep()))
    assert prepare_masks(three, CLASSES, coarse).folder != old.folder


def test_a_killed_preparation_leaves_nothing_that_is_half(
    three: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    prepared = prepare(three)
    write, written = make_masks.write_entry, []

    def killing(path: Path, *args: object, **kwargs: object) -> None:
        written.append(path)
        if len(written) == 4:  # the samples of the second case are there, its masks are not
            raise Killed
        write(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(make_masks, "write_entry", killing)
    with pytest.raises(Killed):
        prepare_masks(three, CLASSES, prepared)
    monkeypatch.undo()
    assert not written[3].exists()
    stored = prepare_masks(three, CLASSES, prepared)
    assert [int((stored.read(case) == 3).sum()) for case in ("c0", "c1")] == [120, 120]


def test_processes_make_what_this_one_makes(three: Table) -> None:
    prepared = prepare(three)
    one = prepare_masks(three, CLASSES, prepared, folder=three.root / "here")
    two = prepare_masks(three, CLASSES, prepared, folder=three.root / "there", jobs=2)
    for case in one.case_ids:
        for first, second in zip(files(one, case), files(two, case), strict=True):
            assert first.read_bytes() == second.read_bytes()


def test_folders_of_binary_masks(tmp_path: Path) -> None:
    affine = Affine.from_spacing((1, 1, 1))
    write_volume(Volume(np.random.default_rng(0).random((1, 4, 4, 4)), affine), tmp_path / "a.nii")
    (tmp_path / "a").mkdir()
    for name, value in (("liver", 2), ("spleen", 3)):
        inside = np.zeros((4, 4, 4), np.uint8)
        inside[value] = 1
        write_volume(LabelMap(inside, affine), tmp_path / "a" / f"{name}.nii")
    sources = {name: f"{name}.nii" for name in ("liver", "spleen", "heart")}
    meaning = {"kind": "binary_masks", "structures": sources, "annotated": ["liver", "spleen"]}
    (tmp_path / "structures.json").write_text(json.dumps(meaning))
    row = {"case_id": "a", "patient_id": "p", "image": "a.nii", "masks": "a"}
    frame = pd.DataFrame([row])
    table = Table(frame, tmp_path)
    prepared = prepare(table)
    stored = prepare_masks(table, ["spleen", "heart", "liver"], prepared)
    assert stored.read("a")[0, :, 0, 0].tolist() == [0, 0, 3, 1]
    assert stored.known.tolist() == [[True, False, True]]
    (tmp_path / "a" / "spleen.nii").unlink()
    assert prepare_masks(table, ["liver"], prepared).read("a").max() == 1
    with pytest.raises(StoreError, match=r"case 'a': .*spleen\.nii does not exist"):
        prepare_masks(table, ["spleen", "liver"], prepared)


def test_all_that_cannot_be_prepared_is_named(three: Table) -> None:
    prepared = prepare(three)
    (three.root / "0_seg.nii.gz").write_bytes(b"no masks")
    shifted = Affine.from_spacing((2, 1, 1), (9, 9, 9))
    write_volume(LabelMap(np.ones((8, 9, 10), np.uint8), shifted), three.root / "1_seg.nii.gz")
    with pytest.raises(StoreError, match=r"masks of 2 of 3 cases cannot be prepared") as error:
        prepare_masks(three, CLASSES, prepared)
    assert "case 'c0': " in str(error.value)
    assert "case 'c1': case 'c1'" not in str(error.value)
    assert "the other 1 are ready" in str(error.value)
    with pytest.raises(StoreError, match=r"'heart' is no structure of the table"):
        prepare_masks(three, ["liver", "heart"], prepared)
    with pytest.raises(StoreError, match=r"'liver' is named twice"):
        prepare_masks(three, ["liver", "liver"], prepared)
    fewer = Prepared(prepared.folder, prepared.preprocessing, {"c0": prepared.cases["c0"]})
    with pytest.raises(StoreError, match=r"case 'c2' has no stored volume"):
        prepare_masks(three, ["liver"], fewer)
    stored = prepare_masks(three.where([False, False, True]), ["liver"], prepared)
    with pytest.raises(StoreError, match="no case is called 'c0'"):
        stored.read("c0")
    with pytest.raises(StoreError, match=r"a crop of \(0, 1, 1\) voxels"):
        stored.read_crop("c2", (0, 0, 0), (0, 1, 1))
