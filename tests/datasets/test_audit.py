import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from voxgraft.datasets import Table, Target, check_table
from voxgraft.errors import TableError
from voxgraft.volumes import Affine, Volume, write_volume

TARGET = Target(kind="binary", columns=("y",), classes=("no", "yes"))


def scan(path, seed, spacing=(2.0, 1.0, 1.0)):
    voxels = np.random.default_rng(seed).integers(0, 99, (1, 4, 4, 4)).astype(np.int16)
    write_volume(Volume(voxels, Affine.from_spacing(spacing)), path)


@pytest.fixture
def clean(tmp_path):
    rows = []
    for number in range(24):
        scan(tmp_path / f"{number}.nii.gz", number)
        rows.append(
            {
                "case_id": f"c{number}",
                "patient_id": f"p{number}",
                "image": f"{number}.nii.gz",
                "y": "yes" if number % 2 else "no",
                "site": "A",
                "split": "train" if number < 14 else "test",
            }
        )
    return Table(pd.DataFrame(rows), tmp_path)


def changed(table, **cells):
    frame = table.frame.copy()
    for column, values in cells.items():
        for row, value in values.items():
            frame.loc[row, column] = value
    return Table(frame, table.root)


def kinds(faults, severity="fault"):
    return sorted(fault.kind for fault in faults if fault.severity == severity)


def test_a_clean_table_has_no_faults(clean):
    found = check_table(clean, TARGET, jobs=2)
    assert kinds(found) == []
    assert [(f.kind, f.where) for f in found] == [("empty_split", "split 'validation'")]


def test_all_faults_are_found_at_once(clean, tmp_path):
    root = clean.root
    (root / "0.nii.gz").unlink()
    (root / "1.nii.gz").write_bytes((root / "1.nii.gz").read_bytes()[:60])
    series = nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), np.eye(4))
    nib.save(series, root / "2.nii.gz")
    content = bytearray(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).to_bytes())
    content[80:84] = np.float32(0).tobytes()
    (root / "3.nii").write_bytes(content)
    (root / "5.nii.gz").write_bytes((root / "4.nii.gz").read_bytes())
    table = changed(
        clean,
        image={3: "3.nii"},
        case_id={7: "c6"},
        patient_id={8: "p23", 9: "p10"},
        split={11: "val"},
        site={10: "B"},
        y={12: "maybe", 13: None},
    )
    found = check_table(table, TARGET)
    text = "\n".join(map(str, found))
    assert kinds(found) == [
        "duplicate_case_id",
        "geometry",
        "missing_file",
        "missing_target",
        "not_3d",
        "patient_in_two_splits",
        "same_voxels_two_labels",
        "same_voxels_two_patients",
        "unknown_class",
        "unknown_split",
        "unreadable_file",
    ]
    assert f"[missing_file] case c0: {root}/0.nii.gz: no such file or folder" in text
    assert "[unreadable_file] case c1:" in text
    assert "[not_3d] case c2:" in text
    assert "4 axes with shape (4, 4, 4, 3); expected a 3D" in text
    assert "[geometry] case c3:" in text
    assert "(0.0, 1.0, 1.0) mm; expected three positive" in text
    assert "case c6: stands in 2 rows" in text
    assert "patient p23: has cases in 'train' (c8), 'test' (c23)" in text
    assert "are in split 'val'; expected train, validation, test. Rename it" in text
    assert "case c12: y is 'maybe', no class; expected 'no', 'yes'" in text
    assert "case c13: y is missing. Correct the cell" in text
    assert "cases c4, c5: have the same voxels, but are of patients p4, p5" in text
    notices = kinds(found, "notice")
    assert "patient_at_two_sites" in notices


def test_copies_are_found_in_other_formats_and_orders(clean):
    original = clean.root / "4.nii.gz"
    data = nib.load(original)
    flipped = nib.Nifti1Image(
        np.asarray(data.dataobj)[::-1].astype(np.float32), data.affine @ np.diag([-1.0, 1, 1, 1])
    )
    nib.save(flipped, clean.root / "20.nii.gz")
    voxels = np.asarray(data.dataobj).T
    np.savez(clean.root / "22.npz", image=voxels, spacing_mm=[2, 1, 1])
    table = changed(clean, image={22: "22.npz"}, patient_id={22: "p20"})
    found = [f for f in check_table(table, TARGET) if f.kind.startswith("same")]
    assert [(f.kind, f.where) for f in found] == [
        ("same_voxels_two_patients", "cases c4, c20, c22")
    ]
    same_patient = changed(clean, image={22: "20.nii.gz"}, patient_id={22: "p20"})
    found = [f for f in check_table(same_patient) if f.where == "cases c20, c22"]
    assert found == []
    pair = same_patient.where(np.arange(24) >= 20)
    assert [(f.kind, f.severity) for f in check_table(pair) if f.kind == "same_voxels"] == [
        ("same_voxels", "notice")
    ]


def test_classes_with_too_few_patients(clean):
    y = dict.fromkeys(range(24), "no")
    some = changed(clean, y={**y, 0: "yes", 2: "yes", 14: "yes"})
    found = [f for f in check_table(some, TARGET, read_voxels=False) if f.kind == "few_patients"]
    assert [(f.where, f.severity) for f in found] == [
        ("class 'yes' in split 'train'", "notice"),
        ("class 'yes' in split 'test'", "notice"),
    ]
    none = changed(clean, y={**y, 0: "yes", 2: "yes"})
    found = [f for f in check_table(none, TARGET, read_voxels=False) if f.kind == "few_patients"]
    assert (found[0].where, found[0].severity) == ("class 'yes' in split 'test'", "fault")
    assert "has 0 patients; expected 1 or more" in found[0].message
    unsplit = Table(none.frame.drop(columns="split"), none.root)
    found = [f for f in check_table(unsplit, TARGET, read_voxels=False) if f.severity == "fault"]
    assert found[0].where == "class 'yes' in the table"
    assert "has 2 patients; expected 3 or more" in found[0].message


def test_regression_targets(clean):
    target = Target(kind="regression", columns=("age",))
    table = clean.with_column("age", [1.5, np.nan, np.inf] + [2.0] * 21)
    found = [f for f in check_table(table, target, read_voxels=False) if f.severity == "fault"]
    assert [(f.kind, f.where) for f in found] == [
        ("missing_target", "case c1"),
        ("bad_target", "case c2"),
    ]
    with pytest.raises(TableError, match="no column 'agee'"):
        check_table(table, Target(kind="regression", columns=("agee",)))


def test_what_is_odd_but_no_fault(clean):
    write_volume(
        Volume(np.zeros((1, 3, 3, 3)), Affine.from_spacing((1, 1, 1))), clean.root / "z.npz"
    )
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5)), None), clean.root / "n.nii")
    table = changed(clean, image={0: "z.npz", 1: "n.nii"}, patient_id={2: "P3"})
    found = check_table(table, TARGET)
    assert kinds(found) == []
    text = "\n".join(map(str, found))
    assert "notice [constant_voxels] case c0: All voxels are 0" in text
    assert "notice [geometry] case c1: The header has no orientation" in text
    assert "notice [patient_spelling] patient P3, p3: ids differ in case only" in text


def test_empty_cells_and_mixed_channels(clean):
    rgb = Volume(np.random.default_rng(0).random((3, 4, 4, 4)), Affine.from_spacing((1, 1, 1)))
    write_volume(rgb, clean.root / "rgb.nrrd")
    table = changed(clean, image={0: "", 1: "rgb.nrrd"}, patient_id={3: ""})
    text = "\n".join(map(str, check_table(table, TARGET)))
    assert "fault [missing_value] patient_id: empty in row 5" in text
    assert "fault [missing_value] image: empty in row 2" in text
    assert (
        "fault [channels] cases c1: have another number of channels than the 22 others (1)" in text
    )


def test_progress_and_jobs(clean):
    seen = []
    check_table(clean, jobs=3, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 24) for k in range(1, 25)]
    with pytest.raises(TableError, match="jobs is 0; expected 1 or more"):
        check_table(clean, jobs=0)
