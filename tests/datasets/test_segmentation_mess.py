"""Folders as they lie on disks: odd names, missing and stray files, odd values."""

import json

import numpy as np
import pytest

from voxgraft.datasets import (
    SegmentationOptions,
    check_table,
    import_abdomen_atlas,
    import_masks,
    import_msd,
    import_nnunet,
    import_totalsegmentator,
    read_masks,
    read_structures,
    structure_names,
)
from voxgraft.errors import TableError, VolumeError
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

SHAPE = (3, 4, 5)
AFFINE = Affine.from_spacing((2.0, 1.0, 1.0))


def write(path, voxels, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(np.asarray(voxels)[None], affine), path)


def scan(path):
    rng = np.random.default_rng(len(str(path)) + sum(map(ord, path.parent.name)))
    write(path, rng.normal(0, 100, SHAPE).astype(np.float32))


def binary(value=1, dtype=np.uint8):
    voxels = np.zeros(SHAPE, dtype=dtype)
    voxels[1, 1:3, 1:3] = value
    return voxels


def case(root, name, classes, image="ct.nii.gz"):
    scan(root / name / image)
    for each in classes:
        write(root / name / "segmentations" / f"{each}.nii.gz", binary())


def faults(table):
    return {(f.kind, f.where) for f in check_table(table) if f.severity == "fault"}


def test_files_that_computers_leave(tmp_path):
    root = tmp_path / "ä ö"
    case(root, "BDMAP.1", ["liver"])
    case(root, "Fälle 2", ["liver"])
    masks = root / "BDMAP.1" / "segmentations"
    for junk in (root / ".DS_Store", masks / "._liver.nii.gz", masks / ".DS_Store"):
        junk.write_bytes(b"junk")
    (root / "__MACOSX" / "BDMAP.1").mkdir(parents=True)
    (root / "linked").symlink_to(root / "BDMAP.1")
    table = import_abdomen_atlas(root, tmp_path / "out")
    assert table.case_ids == ("BDMAP.1", "Fälle 2", "linked")
    assert structure_names(table) == ("liver",)
    assert int(read_masks(table, "linked").mask("liver").sum()) == 4


def test_a_class_spelled_otherwise_in_some_cases(tmp_path):
    for name in ("a", "b", "c"):
        case(tmp_path / "d", name, ["Liver ", "spleen"] if name == "b" else ["liver", "spleen"])
    with pytest.raises(TableError, match=r"b: has 'Liver .nii.gz'; other cases have 'liver.nii.g"):
        import_abdomen_atlas(tmp_path / "d", tmp_path / "out")
    left = SegmentationOptions(leave_out_faulty=True)
    table = import_abdomen_atlas(tmp_path / "d", tmp_path / "out", left)
    assert table.case_ids == ("a", "c")
    assert structure_names(table) == ("liver", "spleen")
    assert "annotated" not in table.frame
    case(tmp_path / "d", "b", ["liver"])
    with pytest.raises(TableError, match=r"'Liver ', 'liver' would all be 'liver'"):
        import_abdomen_atlas(tmp_path / "d", tmp_path / "out")


def test_a_union_that_no_case_has(tmp_path):
    case(tmp_path / "d", "a", ["x", "spleen"])
    case(tmp_path / "d", "b", ["y", "spleen"])
    names = tmp_path / "names.yaml"
    names.write_text("x: liver\ny: liver\n")
    with pytest.raises(TableError, match=r"no case has together.*\n.*liver: x.nii.gz, y.nii.gz"):
        import_abdomen_atlas(tmp_path / "d", tmp_path / "out", SegmentationOptions(name_map=names))


def test_classes_of_cases_that_are_left_out_go(tmp_path):
    said = []
    case(tmp_path / "d", "a", ["spleen"])
    case(tmp_path / "d", "b", ["spleen", "colon"])
    patients = tmp_path / "p.csv"
    patients.write_text("case_id,patient_id\na,P\n")
    options = SegmentationOptions(patients=patients, leave_out_faulty=True, on_notice=said.append)
    table = import_abdomen_atlas(tmp_path / "d", tmp_path / "out", options)
    assert structure_names(table) == ("spleen",)
    assert "only cases that are left out annotate colon" in said


def test_ct_and_mr(tmp_path):
    said = []
    case(tmp_path / "d", "s0", ["liver"])
    case(tmp_path / "d", "s1", ["liver"], image="mri.nii.gz")
    options = SegmentationOptions(on_notice=said.append)
    import_totalsegmentator(tmp_path / "d", tmp_path / "out", options)
    assert "CT and MR are in one table: 1 ct.nii.gz, 1 mri.nii.gz" in said
    scan(tmp_path / "e" / "s0" / "mri.nii.gz")
    case(tmp_path / "e", "s0", ["liver"])
    with pytest.raises(TableError, match=r"s0: has ct.nii.gz and mri.nii.gz; expected one scan"):
        import_totalsegmentator(tmp_path / "e", tmp_path / "out")


def test_values_of_binary_masks(tmp_path):
    root = tmp_path / "d"
    rng = np.random.default_rng(0)
    kinds = {
        "floats": binary(1.0, np.float32),
        "nearly": binary(0.9999, np.float32),
        "of_255": binary(255),
        "two": binary(2),
        "shares": rng.random(SHAPE).astype(np.float32),
        "below": binary(-1, np.int16),
        "empty": binary(0),
    }
    for name, voxels in kinds.items():
        case(root, name, ["spleen"])
        write(root / name / "segmentations" / "liver.nii.gz", voxels)
    table = import_abdomen_atlas(root, tmp_path / "out")
    assert faults(table) == {
        ("mask_values", "case two"),
        ("unreadable_mask", "case shares"),
        ("mask_values", "case below"),
    }
    for name in ("floats", "nearly", "of_255"):
        assert int(read_masks(table, name).mask("liver").sum()) == 4
    with pytest.raises(VolumeError, match=r"fractions.*save where they are above a threshold"):
        read_masks(table, "shares")


def test_grids(tmp_path):
    root = tmp_path / "d"
    grids = {
        "same": AFFINE,
        "rounded": Affine.from_spacing((2.001, 1.001, 1.0), (0.001, 0.0, 0.001)),
        "moved": Affine.from_spacing((2.0, 1.0, 1.0), (5.0, 0.0, 0.0)),
        "coarser": Affine.from_spacing((2.5, 1.0, 1.0)),
    }
    for name, affine in grids.items():
        scan(root / name / "ct.nii.gz")
        write(root / name / "segmentations" / "liver.nii.gz", binary(), affine)
    scan(root / "shorter" / "ct.nii.gz")
    write(root / "shorter" / "segmentations" / "liver.nii.gz", binary()[:2])
    table = import_abdomen_atlas(root, tmp_path / "out")
    wanted = {"case moved", "case coarser", "case shorter"}
    for voxels in (True, False):
        found = [f for f in check_table(table, read_voxels=voxels) if f.severity == "fault"]
        assert {fault.where for fault in found} == wanted
        moved = next(fault.message for fault in found if fault.where == "case moved")
        assert "lies up to 5 voxels away from the scan" in moved
        assert "origin (5, 0, 0) mm" in moved


def raw(root, labels, label_map, name="a_0000"):
    root.mkdir(parents=True)
    content = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))
    scan(root / "imagesTr" / f"{name}.nii.gz")
    write(root / "labelsTr" / "a.nii.gz", label_map)
    return root


def test_label_maps_with_gaps_and_values_that_nobody_named(tmp_path):
    voxels = binary()
    voxels[2, 0, 0] = 7
    root = raw(tmp_path / "d", {"background": 0, "liver": 1, "spleen": 7}, voxels)
    table = import_nnunet(root, tmp_path / "out")
    assert int(read_masks(table, "a").mask("spleen").sum()) == 1
    assert faults(table) == set()
    root = raw(tmp_path / "e", {"background": 0, "liver": 1}, voxels)
    table = import_nnunet(root, tmp_path / "out2")
    assert faults(table) == {("mask_values", "case a")}


def test_two_classes_of_one_value(tmp_path):
    root = raw(tmp_path / "d", {"background": 0, "liver": 1, "spleen": 1}, binary())
    with pytest.raises(TableError, match="'liver' and 'spleen' are all 1"):
        import_nnunet(root, tmp_path / "out")


def test_another_data_set_in_the_same_folder(tmp_path):
    """Tables that lean on structures.json would take one organ for another, without a word."""
    raw(tmp_path / "one", {"background": 0, "liver": 1}, binary())
    raw(tmp_path / "two", {"background": 0, "spleen": 1}, binary())
    out = tmp_path / "out"
    first = import_nnunet(tmp_path / "one", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(TableError, match=r"structures\.json: is there already and names other"):
        import_nnunet(tmp_path / "two", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert import_nnunet(tmp_path / "one", out).sha256 == first.sha256  # the same again


def test_each_others_folders(tmp_path):
    root = raw(tmp_path / "d", {"background": 0, "liver": 1}, binary())
    with pytest.raises(TableError, match=r"lists no cases.*data import nnunet"):
        import_msd(root, tmp_path / "out")
    root = raw(tmp_path / "e", {"0": "background", "1": "liver"}, binary(), name="a")
    with pytest.raises(TableError, match=r"ends in a channel.*a.nii.gz.*data import msd"):
        import_nnunet(root, tmp_path / "out")
    (root / "dataset.json").write_text("{oh")
    with pytest.raises(TableError, match=r"dataset.json: cannot be read: .* Correct the file"):
        import_nnunet(root, tmp_path / "out")


def test_patterns(tmp_path):
    root = tmp_path / "d"
    for name in ("A 1", "B.2", "Ç3"):
        scan(root / "ct" / f"{name}.nii.gz")
        write(root / "seg" / f"{name}_mask.nii.gz", binary(255))
        write(root / "parts" / name / "tumor.nii.gz", binary())
        write(root / "parts" / name / "Left kidney.nii.gz", binary())
    images, out = "ct/{case}.nii.gz", tmp_path / "out"
    whole = {"images": str(root / images), "masks": str(root / "seg/{case}_mask.nii.gz")}
    table = import_masks(root, out, **whole, labels="liver=255")
    assert table.case_ids == ("A 1", "B.2", "Ç3")
    assert read_structures(out / "structures.json").sources == {"liver": (255,)}
    for masks, message in (
        ("seg/{case}_maks.nii.gz", r"There is, for example, seg/.*_mask.nii.gz"),
        (images, "is scan and mask at once"),
        ("parts/{case}/*.nii.gz", "If each is a class, name the folder"),
    ):
        with pytest.raises(TableError, match=message):
            import_masks(root, out, images=images, masks=masks, labels="liver=255")
    (tmp_path / "none").mkdir()
    with pytest.raises(TableError, match="No scan files lie below it"):
        import_masks(tmp_path / "none", out, images=images, masks=images)


def test_no_case_is_left(tmp_path):
    (tmp_path / "d" / "s0" / "segmentations").mkdir(parents=True)
    with pytest.raises(TableError, match=r"s0: has no ct.nii.gz"):
        import_totalsegmentator(tmp_path / "d", tmp_path / "out")
    left = SegmentationOptions(leave_out_faulty=True)
    with pytest.raises(TableError, match="no cases are left"):
        import_totalsegmentator(tmp_path / "d", tmp_path / "out", left)
    assert not (tmp_path / "out" / "structures.json").exists()


def test_a_label_map_that_was_scaled(tmp_path):
    voxels = binary(dtype=np.float32)
    voxels[0, 0, 0] = np.float32(2.9999998)
    write(tmp_path / "scaled.nii.gz", voxels)
    from voxgraft.volumes import read_label_map

    found = read_label_map(tmp_path / "scaled.nii.gz")
    assert isinstance(found, LabelMap)
    assert np.unique(found.voxels).tolist() == [0, 1, 3]
