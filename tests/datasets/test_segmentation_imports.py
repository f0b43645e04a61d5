"""Scans with masks in the layouts of published data sets become tables."""

import json

import numpy as np
import pytest

from voxgraft.datasets import (
    SegmentationOptions,
    check_table,
    import_abdomen_atlas,
    import_btcv,
    import_flare,
    import_masks,
    import_msd,
    import_nnunet,
    import_totalsegmentator,
    read_masks,
    read_structures,
    read_table,
    structure_names,
)
from voxgraft.datasets.importers.dataset_json import parse_labels
from voxgraft.errors import TableError
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

SHAPE = (3, 4, 5)
AFFINE = Affine.from_spacing((2.0, 1.0, 1.0))


def scan(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).normal(0, 100, (1, *SHAPE)).astype(np.float32)
    write_volume(Volume(voxels, AFFINE), path)


def mask(path, *places):
    """Write a map with one voxel of each value, (value, depth, height, width) each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.zeros(SHAPE, dtype=np.uint8)
    for value, *place in places:
        voxels[tuple(place)] = value
    write_volume(LabelMap(voxels, AFFINE), path)


def values(path, numbers):
    """Write a label map in which voxel n along the flat array has the n-th number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.zeros(SHAPE, dtype=np.uint8)
    voxels.reshape(-1)[: len(numbers)] = numbers
    write_volume(LabelMap(voxels, AFFINE), path)


def where(table, case_id):
    """Return structure to the flat positions of its voxels."""
    return {n: np.flatnonzero(m).tolist() for n, m in read_masks(table, case_id).masks()}


def faultless(table):
    assert [f for f in check_table(table) if f.severity == "fault"] == []


def atlas(root, case, classes):
    scan(root / case / "ct.nii.gz", sum(map(ord, case)))
    for n, name in enumerate(classes):
        mask(root / case / "segmentations" / f"{name}.nii.gz", (1, 0, 0, n))


def test_abdomen_atlas(tmp_path):
    root, said = tmp_path / "atlas", []
    atlas(root, "BDMAP_00000001", ["spleen", "postcava", "gall_bladder", "liver", "intestine"])
    atlas(root, "BDMAP_00000002", ["spleen", "postcava", "liver", "bladder"])
    (root / "notes").mkdir()
    table = import_abdomen_atlas(root, tmp_path / "out", SegmentationOptions(on_notice=said.append))
    assert table.case_ids == table.patients == ("BDMAP_00000001", "BDMAP_00000002")
    assert structure_names(table) == (
        "gallbladder", "liver", "inferior_vena_cava", "spleen", "urinary_bladder", "intestine"
    )  # fmt: skip
    assert table.frame["annotated"].tolist() == [
        "gallbladder liver inferior_vena_cava spleen intestine",
        "liver inferior_vena_cava spleen urinary_bladder",
    ]
    assert where(table, "BDMAP_00000001")["inferior_vena_cava"] == [1]
    with pytest.raises(TableError, match="'gallbladder' is not annotated"):
        read_masks(table, "BDMAP_00000002").mask("gallbladder")
    assert "ambiguous names are kept as they are: 'intestine' (the small bowel" in " ".join(said)
    assert "2 case(s) lack files of some classes" in " ".join(said)
    assert "each case counts as a patient of its own" in " ".join(said)
    faultless(read_table(tmp_path / "out" / "table.csv"))
    (root / "BDMAP_00000002" / "ct.nii.gz").unlink()
    (root / "BDMAP_00000003" / "segmentations").mkdir(parents=True)
    with pytest.raises(TableError, match=r"(?s)00002: has no ct.nii.gz.*00003: has no ct"):
        import_abdomen_atlas(root, tmp_path / "other")
    assert not (tmp_path / "other" / "table.csv").exists()
    assert not (tmp_path / "other" / "structures.json").exists()
    left = SegmentationOptions(leave_out_faulty=True)
    assert len(import_abdomen_atlas(root, tmp_path / "other", left)) == 1
    with pytest.raises(TableError, match=r"has no folders with ct.nii.gz"):
        import_abdomen_atlas(tmp_path / "out", tmp_path / "third")


def test_totalsegmentator_keeps_its_meta_file(tmp_path):
    root, said = tmp_path / "ts", []
    for case in ("s0000", "s0001"):
        atlas(root, case, ["rib_left_10", "rib_left_2", "urinary_bladder", "vertebrae_C1"])
    (root / "meta.csv").write_text(
        "\ufeffimage_id;age;gender;institute;study_type;split\ns0000;63;m;A;ct thorax;train\n"
        "s0001;;f;B;ct neck;val\ns0002;1;f;B;ct neck;test\n",
        encoding="utf-8",
    )
    options = SegmentationOptions(on_notice=said.append)
    table = import_totalsegmentator(root, tmp_path / "out", options)
    assert structure_names(table) == (
        "rib_left_2",
        "rib_left_10",
        "urinary_bladder",
        "vertebrae_C1",
    )
    assert table.frame["split"].tolist() == ["train", "validation"]
    assert table.frame["site"].tolist() == ["A", "B"]
    assert table.frame["age"].tolist()[0] == 63
    assert np.isnan(table.frame["age"].tolist()[1])
    assert "annotated" not in table.frame
    assert "1 row(s) of meta.csv are of no case" in said[0]
    (root / "meta.csv").write_text("image_id;split\ns0000;train\n")
    with pytest.raises(TableError, match=r"s0001: has no row in meta.csv"):
        import_totalsegmentator(root, tmp_path / "out2")


def raw(root, content, cases=("a_1", "b_2"), ending=".nii.gz"):
    (root).mkdir(parents=True)
    (root / "dataset.json").write_text(json.dumps(content))
    for n, case in enumerate(cases):
        scan(root / "imagesTr" / f"{case}_0000{ending}", n)
        values(root / "labelsTr" / f"{case}{ending}", [0, 1, 2, 3, 4])
    return root


def test_nnunet_version_2_with_regions_and_ignore(tmp_path):
    root = raw(
        tmp_path / "Dataset001_X",
        {
            "channel_names": {"0": "T1", "1": "T2"},
            "labels": {"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3], "et": 3,
                       "ignore": 4},
            "file_ending": ".mha",
        },
        ending=".mha",
    )  # fmt: skip
    with pytest.raises(TableError, match=r"has 2 channels: 0 \(T1\), 1 \(T2\)"):
        import_nnunet(root, tmp_path / "out")
    with pytest.raises(TableError, match="has no channel 'CT'"):
        import_nnunet(root, tmp_path / "out", channel="CT")
    with pytest.raises(TableError, match="a_1: has no channel _0001 in imagesTr"):
        import_nnunet(root, tmp_path / "out", channel="T2")
    scan(root / "imagesTs" / "c_0000.mha", 7)
    said = []
    options = SegmentationOptions(patient_pattern=r"Tr/(\w)_", on_notice=said.append)
    table = import_nnunet(root, tmp_path / "out", options, channel="0")
    assert table.frame["patient_id"].tolist() == ["a", "b"]
    assert where(table, "a_1") == {"whole_tumor": [1, 2, 3], "core": [2, 3], "et": [3]}
    assert np.flatnonzero(read_masks(table, "a_1").ignored).tolist() == [4]
    assert len(read_masks(table, "a_1").layers) == 3
    assert "1 test scan(s) without masks" in said[0]
    assert "names that no list has are kept as they are: 'whole tumor', 'core', 'et'" in said[1]
    values(root / "labelsTs" / "c.mha", [0, 1])
    table = import_nnunet(root, tmp_path / "out", channel="T1")
    assert table.frame["split"].tolist() == ["train", "train", "test"]
    (root / "labelsTr" / "b_2.mha").unlink()
    values(root / "labelsTr" / "d.mha", [1])
    with pytest.raises(TableError, match=r"(?s)b_2: has no mask in labelsTr.*d: has no channel"):
        import_nnunet(root, tmp_path / "out", channel="T1")


def test_nnunet_version_1_and_a_name_map(tmp_path):
    labels = {"0": "bg", "1": "liver", "2": "cancer", "3": "Left Kidney", "4": "kidney (R)"}
    root = raw(tmp_path / "Task003", {"modality": {"0": "CT"}, "labels": labels})
    names = tmp_path / "names.yaml"
    names.write_text("cancer: [liver_tumor, liver]\nliver: liver\n")
    patients = tmp_path / "p.csv"
    patients.write_text("case_id,patient_id\na_1,007\nb_2,007\nx,8\n")
    options = SegmentationOptions(name_map=names, patients=patients)
    table = import_nnunet(root, tmp_path / "out", options)
    assert where(table, "b_2") == {
        "liver": [1, 2], "liver_tumor": [2], "kidney_left": [3], "kidney_right": [4]
    }  # fmt: skip
    assert read_structures(tmp_path / "out" / "structures.json").sources["liver"] == (1, 2)
    assert table.patients == ("007",)
    faultless(read_table(tmp_path / "out" / "table.csv"))
    names.write_text("name,structure\n")
    with pytest.raises(TableError, match="holds no names"):
        import_nnunet(root, tmp_path / "out", SegmentationOptions(name_map=names))
    patients.write_text("case_id,patient_id\na_1,007\n")
    with pytest.raises(TableError, match=r"b_2: .*has no patient for it"):
        import_nnunet(root, tmp_path / "out", SegmentationOptions(patients=patients))


def test_nnunet_lists_its_files_anywhere(tmp_path):
    root = raw(tmp_path / "D", {"labels": {"background": 0, "liver": 1}})
    scan(tmp_path / "elsewhere" / "x.nii.gz")
    values(tmp_path / "elsewhere" / "y.nii.gz", [0, 1])
    content = json.loads((root / "dataset.json").read_text())
    content["dataset"] = {
        "q": {"images": ["../elsewhere/x.nii.gz"], "label": "../elsewhere/y.nii.gz"},
        "r": {"images": ["imagesTr/gone.nii.gz"], "label": "./labelsTr/a_1.nii.gz"},
    }
    (root / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(TableError, match=r"r: imagesTr/gone.nii.gz not there"):
        import_nnunet(root, tmp_path / "out")
    table = import_nnunet(root, tmp_path / "out", SegmentationOptions(leave_out_faulty=True))
    assert where(table, "q") == {"liver": [1]}


def test_msd(tmp_path):
    root, said = tmp_path / "Task09_Spleen", []
    content = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen"},
        "training": [
            {"image": "./imagesTr/spleen_2.nii.gz", "label": "./labelsTr/spleen_2.nii.gz"}
        ],
        "test": ["./imagesTs/spleen_1.nii.gz"],
    }
    scan(root / "imagesTr" / "spleen_2.nii.gz")
    (root / "imagesTr" / "._spleen_2.nii.gz").write_bytes(b"junk of an archive")
    values(root / "labelsTr" / "spleen_2.nii.gz", [0, 0, 1])
    (root / "dataset.json").write_text(json.dumps(content))
    table = import_msd(root, tmp_path / "out", SegmentationOptions(on_notice=said.append))
    assert where(table, "spleen_2") == {"spleen": [2]}
    assert "1 test scan(s) without masks are passed over" in said
    (root / "dataset.json").write_text(json.dumps(content | {"training": [3]}))
    with pytest.raises(TableError, match=r"training\[0\]: is 3"):
        import_msd(root, tmp_path / "out")
    (root / "dataset.json").write_text(json.dumps(content | {"modality": {"0": "T2", "1": "ADC"}}))
    with pytest.raises(TableError, match=r"2 channels \(T2, ADC\) in one 4D file"):
        import_msd(root, tmp_path / "out")


def test_btcv(tmp_path):
    root = tmp_path / "RawData"
    for n in ("0001", "0002"):
        scan(root / "Training" / "img" / f"img{n}.nii.gz", int(n))
        values(root / "Training" / "label" / f"label{n}.nii.gz", range(14))
    scan(root / "Testing" / "img" / "img0061.nii.gz")
    said = []
    table = import_btcv(root, tmp_path / "out", SegmentationOptions(on_notice=said.append))
    assert table.case_ids == ("img0001", "img0002")
    assert where(table, "img0002") == {name: [n] for n, name in enumerate((
        "spleen", "kidney_right", "kidney_left", "gallbladder", "esophagus", "liver", "stomach",
        "aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein", "pancreas",
        "adrenal_gland_right", "adrenal_gland_left",
    ), 1)}  # fmt: skip
    assert "1 scan(s) without masks are passed over" in said
    faultless(table)
    (root / "Training" / "label" / "label0001.nii.gz").unlink()
    with pytest.raises(TableError, match=r"img0001.nii.gz: has no mask in Training/label"):
        import_btcv(root, tmp_path / "out")


def test_flare(tmp_path):
    root = tmp_path / "22"
    scan(root / "images" / "FLARE22_Tr_0001_0000.nii.gz")
    scan(root / "unlabeled" / "Case_00001_0000.nii.gz", 3)
    values(root / "labels" / "FLARE22_Tr_0001.nii.gz", range(14))
    table = import_flare(root, tmp_path / "out")
    found = where(table, "FLARE22_Tr_0001")
    assert [found[n] for n in ("liver", "kidney_right", "inferior_vena_cava", "kidney_left")] == [
        [1], [2], [6], [13]
    ]  # fmt: skip
    old, said = tmp_path / "21", []
    scan(old / "TrainingImg" / "train_000_0000.nii.gz")
    values(old / "TrainingMask" / "train_000.nii.gz", range(5))
    table = import_flare(old, tmp_path / "o", SegmentationOptions(on_notice=said.append))
    assert where(table, "train_000") == {
        "liver": [1],
        "kidney": [2],
        "spleen": [3],
        "pancreas": [4],
    }
    assert "'kidney' (both sides in one, or the side is not said)" in said[1]
    values(old / "TrainingMask" / "other.nii.gz", [1])
    with pytest.raises(TableError, match="which year's labels these are is not clear"):
        import_flare(old, tmp_path / "o")
    with pytest.raises(TableError, match=r"other.nii.gz: has no scan other_0000"):
        import_flare(old, tmp_path / "o", year=2021)


def test_any_layout_by_two_patterns(tmp_path):
    root = tmp_path / "any"
    for n, case in enumerate("xy"):
        scan(root / "scans" / f"{case}.nii.gz", n)
        values(root / "labels" / f"{case}_seg_v2.nii.gz", [0, 5, 6])
        mask(root / "parts" / case / "m" / "Right Kidney.nii.gz", (1, 0, 0, 4))
    patterns = {"images": "scans/{case}.nii.gz", "masks": "labels/{case}_seg*.nii.gz"}
    for labels in ("liver=5,spleen=6", {"liver": 5, "spleen": 6}, {"5": "liver", "6": "spleen"}):
        table = import_masks(root, tmp_path / "out", **patterns, labels=labels)
        assert where(table, "y") == {"liver": [1], "spleen": [2]}
    patterns["masks"] = "parts/{case}/m"
    table = import_masks(root, tmp_path / "out2", **patterns)
    assert where(table, "x") == {"kidney_right": [4]}
    faultless(table)
    (root / "scans" / "y.nii.gz").unlink()
    with pytest.raises(TableError, match="parts/y/m: has no scan"):
        import_masks(root, tmp_path / "out2", **patterns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": "a/*.nii.gz"}, "masks pattern .* has no {case}"),
        ({"masks": "b/{case}.nii.gz"}, "matches nothing. There is, for example, a/x.nii.gz"),
        ({"masks": "a/{case}.nii.gz"}, "masks are label maps. Say what values mean"),
        ({"masks": "a/{case}.nii.gz", "labels": "liver=one"}, "labels cannot be used"),
        ({"masks": "a/{case}.nii.gz", "labels": "gone.yaml"}, "gone.yaml: cannot be read"),
    ],
)
def test_patterns_that_cannot_be_used(tmp_path, options, message):
    scan(tmp_path / "d" / "a" / "x.nii.gz")
    with pytest.raises(TableError, match=message):
        import_masks(tmp_path / "d", tmp_path / "out", images="a/{case}.nii.gz", **options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "there is no class but the background"),
        ({"background": 0}, "there is no class but the background"),
        ({"liver": [0, 1]}, "holds the background"),
        ({"liver": 1.5}, "'liver': 1.5"),
        ({"1": 2}, "'1': 2"),
    ],
)
def test_labels_that_make_no_sense(labels, message):
    with pytest.raises(TableError, match=message):
        parse_labels(labels, "here")
