"""Tables of scans with masks: what is read, what is unknown, and what the check says."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.datasets import (
    Structures,
    Table,
    check_table,
    read_masks,
    read_table,
    split_table,
    structure_names,
    write_structures,
    write_table,
)
from voxgraft.datasets.mask_files import Grid, count_beyond, count_values, grid_fault
from voxgraft.datasets.masks import _stack
from voxgraft.errors import TableError
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

SHAPE = (4, 5, 6)
AFFINE = Affine.from_spacing((2.0, 1.0, 1.5), (3.0, -7.0, 11.0))


def scan(path, seed=0, shape=SHAPE, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).normal(0, 100, (1, *shape)).astype(np.float32)
    write_volume(Volume(voxels, affine), path)


def mask(path, voxels, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(LabelMap(np.asarray(voxels), affine), path)


def block(*slices, shape=SHAPE, value=1, dtype=np.uint8):
    voxels = np.zeros(shape, dtype=dtype)
    voxels[slices] = value
    return voxels


def csv(folder, text):
    (folder / "table.csv").write_text(text)
    return read_table(folder / "table.csv")


@pytest.fixture
def maps(tmp_path):
    """Return a folder with two scans and label maps: 1 and 2 a liver with a tumor, 9 unknown."""
    labels = block(slice(0, 2))
    labels[0, 0, :3] = 2
    labels[3, 4, 5] = 9
    for n in (1, 2):
        scan(tmp_path / f"{n}.nii.gz", n)
        mask(tmp_path / f"{n}_seg.nii.gz", labels)
    (tmp_path / "structures.json").write_text(
        json.dumps(
            {
                "kind": "label_map",
                "structures": {"liver": [1, 2], "tumor": 2, "spleen": 5},
                "ignored_values": [9],
            }
        )
    )
    return tmp_path


def test_label_maps_with_regions_ignored_values_and_what_is_not_annotated(maps):
    table = csv(
        maps,
        "case_id,patient_id,image,masks,annotated\n"
        "a,p,1.nii.gz,1_seg.nii.gz,\nb,q,2.nii.gz,2_seg.nii.gz,tumor spleen\n",
    )
    masks = read_masks(table, "a")
    assert masks.annotated == structure_names(table) == ("liver", "tumor", "spleen")
    assert masks.overlapping
    assert masks.layers.shape == (2, *SHAPE)
    assert masks.layers.dtype == np.uint8
    assert {name: int(found.sum()) for name, found in masks.masks()} == {
        "liver": 60, "tumor": 3, "spleen": 0
    }  # fmt: skip
    assert masks.mask("liver")[0, 0, 0]
    assert np.argwhere(masks.ignored).tolist() == [[3, 4, 5]]
    assert masks.affine.isclose(AFFINE)
    with pytest.raises(TableError, match=r"structures overlap \(2 layers\)"):
        masks.label_map()
    other = read_masks(table, "b")
    assert other.annotated == ("tumor", "spleen")
    assert other.label_map().voxels[0, 0].tolist() == [1, 1, 1, 0, 0, 0]
    with pytest.raises(TableError, match="'liver' is not annotated, so its voxels are unknown"):
        other.mask("liver")
    with pytest.raises(TableError, match="liver is asked for; annotated are tumor, spleen"):
        read_masks(table, "b", ["liver"])
    assert read_masks(table, "a", ["spleen"]).annotated == ("spleen",)


def test_a_table_with_masks_moves_with_its_files(maps, tmp_path):
    table = csv(
        maps,
        "case_id,patient_id,image,masks\n001,1,1.nii.gz,1_seg.nii.gz\n002,2,2.nii.gz,2_seg.nii.gz\n",
    )
    away = write_table(table, tmp_path / "away" / "t.csv")
    assert away.frame["structures"].tolist() == ["../structures.json"] * 2
    again = read_table(tmp_path / "away" / "t.csv")
    assert int(read_masks(again, "001").mask("tumor").sum()) == 3
    parts = split_table(
        Table(table.frame.assign(patient_id=["1", "2"]), table.root),
        fractions=(0.5, 0, 0.5), seed=0,
    )  # fmt: skip
    moved = write_table(parts, tmp_path / "far" / "off" / "t.parquet")
    assert int(read_masks(moved, "002").mask("liver").sum()) == 60


def test_two_data_sets_in_one_table(maps):
    scan(maps / "x" / "ct.nii.gz", 3)
    mask(maps / "x" / "seg" / "liver.nii.gz", block(0, value=255))
    mask(maps / "x" / "seg" / "kidney_left.nii.gz", block(1))
    mask(maps / "x" / "seg" / "kidney_right.nii.gz", block(2))
    write_structures(
        Structures(
            "binary_masks",
            {"liver": ("liver.nii.gz",), "kidneys": ("kidney_left.nii.gz", "kidney_right.nii.gz")},
        ),
        maps / "x" / "s.json",
    )
    table = csv(
        maps,
        "case_id,patient_id,image,masks,structures\na,p,1.nii.gz,1_seg.nii.gz,structures.json\n"
        "b,q,x/ct.nii.gz,x/seg,x/s.json\n",
    )
    assert structure_names(table) == ("liver", "tumor", "spleen", "kidneys")
    masks = read_masks(table, "b")
    assert masks.annotated == ("liver", "kidneys")
    assert not masks.overlapping
    assert np.unique(masks.label_map().voxels, return_counts=True)[1].tolist() == [30, 30, 60]
    notices = [f for f in check_table(table) if f.kind == "empty_mask"]
    assert [f.where for f in notices] == ["spleen"]
    assert not [f for f in check_table(table) if f.severity == "fault"]


def shifted(mm):
    matrix = AFFINE.matrix.copy()
    matrix[:3, 3] += mm
    return Affine(matrix)


@pytest.mark.parametrize(
    ("mm", "fault"),
    [
        ((0.05, 0, 0), ""),
        ((0, 0.09, 0), ""),
        ((0.3, 0, 0), "lies up to 0.2 voxels away"),
        ((0, 0, 20.0), "lies up to 10 voxels away"),
    ],
)
def test_grids_agree_within_a_tenth_of_a_voxel(mm, fault):
    # Spacing is 2 (z), 1 (y), 1.5 (x) mm: 0.3 mm along x are 0.2 voxels, 20 mm along z are 10.
    said = grid_fault(Grid(SHAPE, AFFINE), Grid(SHAPE, shifted(np.array(mm))))
    assert said.startswith(fault)
    assert bool(said) == bool(fault)
    if fault:
        assert said.count("Affine(") == 2


def test_voxels_beyond_the_scan_are_counted():
    inside = block(slice(0, 4), 0, 0).astype(bool)
    away = Grid(SHAPE, shifted(np.array([0.0, 0.0, 3.2])))
    # 3.2 mm are 1.6 slices: the upper two of four slices have their center beyond.
    assert count_beyond(inside, away, Grid(SHAPE, AFFINE)) == 2
    assert count_beyond(inside, Grid(SHAPE, AFFINE), Grid(SHAPE, AFFINE)) == 0


@given(st.lists(st.integers(-3, 70000), min_size=8, max_size=8))
def test_counts_of_values(values):
    array = np.array(values).reshape(2, 2, 2)
    assert count_values(array) == {int(v): values.count(v) for v in sorted(set(values))}


@settings(max_examples=40)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=5))
def test_layers_hold_any_overlap(bits):
    masks = [np.unpackbits(np.uint8([n])).astype(bool).reshape(2, 2, 2) for n in bits]
    named = [(f"s{n}", mask) for n, mask in enumerate(masks)]
    layers, places = _stack(iter(named), len(named), Grid((2, 2, 2), AFFINE))
    for name, wanted in named:
        layer, value = places[name]
        assert np.array_equal(layers[layer] == value, wanted)
    depth = int(np.sum(masks, axis=0).max())
    assert max(depth, 1) <= len(layers) <= len(masks)


def test_check_names_all_faults_of_folders_at_once(tmp_path):
    for case in "abc":
        scan(tmp_path / case / "ct.nii.gz", ord(case))
        mask(tmp_path / case / "seg" / "liver.nii.gz", block(slice(0, 2)))
        mask(tmp_path / case / "seg" / "tumor.nii.gz", block(0, slice(0, 2)))
        mask(tmp_path / case / "seg" / "spleen.nii.gz", block(3, 0))
    mask(tmp_path / "a" / "seg" / "tumor.nii.gz", block(0, 0, value=3))
    mask(tmp_path / "a" / "seg" / "spleen.nii.gz", block(3, 0), shifted(np.array([0, 0, 4.0])))
    mask(tmp_path / "b" / "seg" / "liver.nii.gz", block(0, shape=(4, 5, 5)))
    (tmp_path / "b" / "seg" / "spleen.nii.gz").unlink()
    mask(tmp_path / "b" / "seg" / "extra.nii.gz", block(0))
    mask(tmp_path / "c" / "seg" / "spleen.nii.gz", block(value=0))
    scan(tmp_path / "d" / "ct.nii.gz", 9)
    files = {name: f"{name}.nii.gz" for name in ("liver", "tumor", "spleen")}
    text = json.dumps({"kind": "binary_masks", "structures": files})
    (tmp_path / "structures.json").write_text(text)
    rows = "".join(f"{c},{c},{c}/ct.nii.gz,{c}/seg\n" for c in "abcd")
    table = csv(tmp_path, "case_id,patient_id,image,masks\n" + rows)
    found = {(f.kind, f.where): f.message for f in check_table(table, jobs=2)}
    assert "tumor.nii.gz: holds value 3 in 6 voxels" in found["mask_values", "case a"]
    beyond = found["mask_beyond_scan", "case a"]
    assert "lies up to 2 voxels away from the scan: Affine(" in beyond
    assert "6 of its 6 voxels lie beyond the scan" in beyond
    shape = found["mask_geometry", "case b"]
    assert shape.startswith("liver.nii.gz: has shape (4, 5, 5) (depth, height, width), but the")
    assert "(4, 5, 6)" in shape
    assert found["missing_mask", "case b"].startswith("spleen.nii.gz: is not there")
    assert "is no folder" in found["missing_mask", "case d"]
    assert "extra.nii.gz (1 case(s))" in found["unnamed_mask", "folders of masks"]
    assert "liver and tumor in 12 voxels of c" in found["overlapping_masks", "1 pair of structures"]
    empty = found["empty_mask", "1 structure"]
    assert "spleen in 1 of 2 (c)" in empty
    with pytest.raises(TableError, match=r"tumor.nii.gz: holds value 3"):
        read_masks(table, "a")
    with pytest.raises(TableError, match=r"case 'b'.*has shape \(4, 5, 5\)"):
        read_masks(table, "b")
    headers = {f.kind for f in check_table(table, read_voxels=False)}
    assert {"mask_geometry", "missing_mask", "unnamed_mask"} <= headers
    assert not {"mask_values", "empty_mask", "overlapping_masks"} & headers


def test_check_of_label_maps(maps):
    mask(maps / "1_seg.nii.gz", block(0, value=7, dtype=np.int16))
    mask(maps / "2_seg.nii.gz", block(0, value=0.5, dtype=np.float32).astype(np.int8))
    rows = "a,p,1.nii.gz,1_seg.nii.gz\nb,q,2.nii.gz,2_seg.nii.gz\nc,r,2.nii.gz,gone.nii.gz\n"
    table = csv(maps, "case_id,patient_id,image,masks\n" + rows)
    found = [f for f in check_table(table, jobs=1) if "mask" in f.kind]
    assert [(f.kind, f.where, f.severity) for f in found[:2]] == [
        ("mask_values", "case a", "fault"),
        ("missing_mask", "case c", "fault"),
    ]
    assert "holds value 7 in 30 voxels, which structures.json does not name" in found[0].message
    assert found[2].where == "cases a, b"
    assert "have no voxel of any structure" in found[2].message
    with pytest.raises(TableError, match="holds value 7 in 30 voxels"):
        read_masks(table, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "cannot be read"),
        ('{"structures": 3}', "has no structures"),
        ('{"kind": "x", "structures": {"a": 1}}', "kind is 'x', expected label_map or binary_mask"),
        ('{"kind": "label_map", "structures": {"a": 0, "b": -1, "c": "1"}}', "3 faults"),
        ('{"kind": "label_map", "structures": {"a b": 1}}', "'a b' is no name of a structure"),
        ('{"kind": "binary_masks", "structures": {"a": 1}}', "a: 1; expected file names"),
        ('{"kind": "label_map", "structures": {"a": 1}, "x": 1}', "unknown keys x"),
        ('{"kind": "label_map", "structures": {"a": 1}, "ignored_values": [1]}', "1 cannot be ign"),
        ('{"kind": "label_map", "structures": {"a": 1}, "annotated": ["b"]}', "annotated has b"),
        ('{"kind": "label_map", "structures": {}}', "there are no structures"),
    ],
)
def test_structures_that_make_no_sense(maps, content, message):
    (maps / "structures.json").write_text(content)
    table = csv(maps, "case_id,patient_id,image,masks\na,p,1.nii.gz,1_seg.nii.gz\n")
    with pytest.raises(TableError, match=message):
        read_masks(table, "a")
    faults = [f for f in check_table(table, read_voxels=False) if f.kind == "masks"]
    assert len(faults) == 1


def test_rows_that_make_no_sense(maps):
    table = csv(
        maps,
        "case_id,patient_id,image,masks,annotated\na,p,1.nii.gz,,\n"
        "b,q,2.nii.gz,2_seg.nii.gz,liver heart\n",
    )
    with pytest.raises(TableError, match=r"case 'b': annotated has heart"):
        read_masks(table, "b")
    fault = next(f for f in check_table(table, read_voxels=False) if f.kind == "masks")
    assert "case 'a': masks is empty" in fault.message
    text = "case_id,patient_id,image,masks\na,p,1.nii.gz,\nb,q,2.nii.gz,none.nii.gz\n"
    kinds = [f.kind for f in check_table(csv(maps, text), read_voxels=False)]
    assert {"masks", "missing_mask"} <= set(kinds)  # the other rows are looked at, too
    with pytest.raises(TableError, match="has no column 'masks'"):
        read_masks(Table(table.frame.drop(columns="masks"), table.root), "a")
