"""Any folder of scans with a labels file: whatever the rows call them."""

import shutil

import numpy as np
import pytest

from voxgraft.datasets import import_studies, read_table
from voxgraft.errors import TableError
from voxgraft.volumes import Affine, Volume, write_volume


def nifti(path, depth=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(depth).normal(0, 1, (1, depth, 4, 4)).astype(np.float32)
    write_volume(Volume(voxels, Affine.from_spacing((2.0, 1.0, 1.0))), path)


@pytest.fixture
def root(tmp_path, dicom_trees):
    """Return a folder: two series of one patient with a scout, one of another, and a file."""
    folder = tmp_path / "scans"
    rng = np.random.default_rng(0)

    def series(place, study, uid, patient, depth):
        dicom_trees.write_slices(
            folder / place,
            rng.integers(-900, 100, (depth, 8, 8)),
            study=study,
            series=uid,
            uids=[f"{uid}.{k}" for k in range(depth)],
            names=[f"I{k}" for k in range(depth)],
            patient=patient,
        )

    series("one/thin", "1.1", "1.1.1", "007", 6)
    series("one/thick", "1.1", "1.1.2", "007", 3)
    series("two/chest", "1.2", "1.2.1", "008", 4)
    nifti(folder / "three" / "P9.nii.gz")
    series("one/scout", "1.1", "1.1.9", "007", 2)
    dicom_trees.edit_headers(
        (folder / "one" / "scout").iterdir(), ImageType=["X", "Y", "LOCALIZER"]
    )
    (folder / "one" / "report.pdf").write_bytes(b"%PDF")
    (folder / "one" / ".hidden").write_bytes(b"")
    return folder


def labels(tmp_path, text, name="labels.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("cells", "kind", "cases"),
    [
        (("1.1.1", "1.2.1"), "SeriesInstanceUID", ["one/thin", "two/chest"]),
        (("1.2",), "StudyInstanceUID", ["two/chest"]),
        (("008",), "PatientID", ["two/chest"]),
        (("chest", "P9"), "name", ["two/chest", "three/P9.nii.gz"]),
        (("two/chest", "three/P9.nii.gz"), "path", ["two/chest", "three/P9.nii.gz"]),
        (("three/P9",), "path", ["three/P9.nii.gz"]),
    ],
)
def test_whatever_rows_call_scans(root, tmp_path, cells, kind, cases):
    text = "what,ill,age\n" + "".join(f"{c},{n % 2},6{n}.5\n" for n, c in enumerate(cells))
    said = []
    table = import_studies(
        root, labels(tmp_path, text), tmp_path / "t.csv", leave_out_faulty=True,
        on_notice=said.append,
    )  # fmt: skip
    assert said[0] == f"column 'what' names scans by {kind}"
    images = [table.image_path(case_id) for case_id in table.case_ids]
    assert [path.resolve() for path in images] == [(root / case).resolve() for case in cases]
    assert table.case_ids == cells
    assert table.frame["age"].tolist() == [60.5, 61.5][: len(cells)]
    left_out = (tmp_path / "t_left_out.csv").read_text()
    assert left_out.count("no row names this scan") == 4 - len(cells)
    assert read_table(tmp_path / "t.csv").sha256 == table.sha256


def test_ids_come_from_the_file_then_the_headers_then_the_key(root, tmp_path):
    path = labels(
        tmp_path,
        "image;case_id;patient_id;ill\none/thin;001;a;0,5\ntwo/chest;002;;1,5\n"
        "three/P9;003;;2\none/thick;004;b;3\n",
    )
    table = import_studies(root, path, tmp_path / "t.csv")
    assert table.case_ids == ("001", "002", "003", "004")
    assert table.frame["patient_id"].tolist() == ["a", "008", "three/P9", "b"]
    assert table.frame["ill"].tolist() == [0.5, 1.5, 2.0, 3.0]
    assert list(table.frame) == ["case_id", "patient_id", "image", "ill"]


def test_files_without_patients_count_as_their_own(tmp_path):
    nifti(tmp_path / "s" / "001.nii.gz")
    nifti(tmp_path / "s" / "002.mha", 5)
    said = []
    table = import_studies(
        tmp_path / "s",
        labels(tmp_path, "id,ill\n001,0\n002,1\n"),
        tmp_path / "t.csv",
        on_notice=said.append,
    )
    assert table.patients == table.case_ids == ("001", "002")
    assert table.frame["id"].tolist() == ["001", "002"]
    assert any("2 scan(s) without PatientID" in text for text in said)


def test_several_series_of_a_study(root, tmp_path):
    path = labels(tmp_path, "study,ill\n1.1,0\n1.2,1\nP9,1\n")
    with pytest.raises(TableError) as error:
        import_studies(root, path, tmp_path / "t.csv")
    words = "line 2 (study '1.1'): names 2 scans: one/thick (3 slices); one/thin (6 slices)"
    assert words in str(error.value)
    assert "line 4 (study 'P9'): no scan is called so" in str(error.value)
    assert "three/P9.nii.gz: no row names this scan" in str(error.value)
    assert "(3 faults)" in str(error.value)
    table = import_studies(root, path, tmp_path / "t.csv", series="largest", leave_out_faulty=True)
    assert table.frame["image"].tolist() == ["scans/one/thin", "scans/two/chest"]
    assert (
        "passed over,one/thick,one/thin of the same study has more"
        in (tmp_path / "t_left_out.csv").read_text()
    )


def test_series_that_cannot_be_chosen(root, tmp_path, dicom_trees):
    options = {"series": "largest", "key": "who"}
    path = labels(tmp_path, "who,ill\n007,0\n008,1\nx,0\n")
    shutil.rmtree(root / "three")
    (root / "two" / "chest" / "I2.dcm").unlink()
    for k in (4, 5):
        (root / "one" / "thin" / f"I{k}.dcm").unlink()
    (root / "one" / "thin" / "I3.dcm").unlink()
    with pytest.raises(TableError) as error:
        import_studies(root, path, tmp_path / "t.csv", **options)
    assert "two series have the most slices: one/thick (3 slices)" in str(error.value)
    assert "slices are unevenly spaced" in str(error.value)
    dicom_trees.edit_headers((root / "one" / "thin").iterdir(), StudyInstanceUID="1.7")
    with pytest.raises(TableError, match=r"names 2 scans of 2 studies: .*; use a finer key"):
        import_studies(root, path, tmp_path / "t.csv", **options)
    for folder in ("thin", "thick"):
        (root / "one" / folder / "I1.dcm").unlink()
        dicom_trees.edit_headers((root / "one" / folder).iterdir(), StudyInstanceUID="1.1")
        (root / "one" / folder / "I9.dcm").write_text("no DICOM")
    with pytest.raises(TableError, match="none of its scans is a volume"):
        import_studies(root, path, tmp_path / "t.csv", **options)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", {}, "no column names a scan. Scans are called, for example, Series"),
        ("a,b\n1,2\n", {"key": "b"}, r"column 'b' \('2'\) names a scan"),
        ("a,b\n1,2\n", {"key": "c"}, "has no column 'c'; found a, b"),
        ("a,b\n1.1.1,1.1.2\n", {}, r"several columns name scans for 1 rows.*'a' \(as Series"),
        ("a,b\n1.1.1,1.1.1,3\n", {}, "line 2: has 3 cells, the header has 2"),
        ("a,\n1.1.1,3\n", {}, "a column has no name"),
        ("a,a\n1.1.1,3\n", {}, "line 1: has the column 'a' twice"),
        ("a,b\n", {}, "there are no rows"),
        ("a,case_id\n1.1.1,x\n1.1.2,x\n", {}, "case_id 'x' stands in several rows"),
        ("a\n1.1.1\n1.1.1\n", {}, "line 3 .*: another row names the same scan"),
        ("a\n1.1.1\n", {"series": "all"}, "series is 'all'"),
    ],
)
def test_what_cannot_be_matched(root, tmp_path, text, options, message):
    with pytest.raises(TableError, match=message):
        import_studies(root, labels(tmp_path, text), tmp_path / "t.csv", **options)


def test_columns_that_name_the_same_scans_are_no_ambiguity(root, tmp_path):
    text = "study,uid,age\n1.2,1.2.1,7\n"
    table = import_studies(root, labels(tmp_path, text), tmp_path / "t.csv", leave_out_faulty=True)
    assert table.case_ids == ("1.2",)
    assert table.frame["uid"].tolist() == ["1.2.1"]


def test_folders_without_scans(tmp_path):
    path = labels(tmp_path, "a\n1\n")
    with pytest.raises(TableError, match="no such folder of scans"):
        import_studies(tmp_path / "gone", path, tmp_path / "t.csv")
    with pytest.raises(TableError, match="holds no scans"):
        import_studies(tmp_path, path, tmp_path / "t.csv")
