"""RSNA-STR Pulmonary Embolism: labels against pixels, and everything that can be wrong named."""

import csv
import shutil

import numpy as np
import pytest

from voxgraft.datasets import Target, check_table, import_rsna_pe, read_slice_labels, read_table
from voxgraft.errors import TableError
from voxgraft.files import cache_folder
from voxgraft.volumes import read_header, read_volume


@pytest.fixture
def tree(tmp_path, dicom_trees):
    """Return a maker of small trees: (root, studies)."""

    def make(**options):
        root = tmp_path / "rsna"
        root.mkdir()
        options = {"studies": 4, "slices": 8, "pixels": 32, **options}
        return root, dicom_trees.make_rsna_tree(root, **options)

    return make


def bright(table, case_id):
    voxels = read_volume(table.image_path(case_id)).voxels[0]
    return tuple(np.flatnonzero((voxels > 400).sum(axis=(1, 2)) > 3).tolist())


def edit_rows(root, dicom_trees, change):
    rows = dicom_trees.read_rsna_rows(root / "train.csv")
    kept = [row for row in rows if change(row) is not False]
    dicom_trees.write_rsna_rows(root / "train.csv", kept)


def test_slice_labels_stand_where_the_clots_are(tree, tmp_path):
    root, studies = tree(formats=True, indeterminate=1)
    steps = []
    table = import_rsna_pe(
        root, tmp_path / "out", jobs=2, on_progress=lambda done, total: steps.append((done, total))
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    labels = read_slice_labels(read_table(tmp_path / "out" / "table.csv"), ["pe"])
    assert sorted(table.case_ids) == sorted(study.name for study in studies[:4])
    for study in studies[:4]:
        row = table.frame.set_index("case_id").loc[study.name]
        assert labels.of(study.name)[0] == study.positive == bright(table, study.name)
        assert row["pe"] == bool(study.positive) == 1 - row["negative_exam_for_pe"]
        assert (row["slices"], row["positive_slices"]) == (len(study.uids), len(study.positive))
    faults = check_table(table, Target.infer(table.frame, "pe"))
    assert {fault.kind for fault in faults} == {"few_patients"}


def test_slices_are_matched_by_uid_whatever_their_order(tree, tmp_path, dicom_trees):
    root, studies = tree(studies=2)
    feet = [-1, 0, 0, 0, 1, 0]  # the normal points to the feet
    dicom_trees.edit_headers(studies[1].folder.glob("*.dcm"), ImageOrientationPatient=feet)
    table = import_rsna_pe(root, tmp_path / "out")
    found = read_slice_labels(table, ["pe"]).of(studies[1].name)[0]
    assert found == bright(table, studies[1].name)
    assert found == tuple(sorted(7 - place for place in studies[1].positive))


def test_headers_without_the_uids_of_the_csv_go_by_file_name(tree, tmp_path, dicom_trees):
    root, studies = tree(studies=2)
    for study in studies:
        dicom_trees.edit_headers(
            study.folder.glob("*.dcm"), SOPInstanceUID="1.2.{}".format, StudyInstanceUID="1.2"
        )
    table = import_rsna_pe(root, tmp_path / "out")
    assert read_slice_labels(table, ["pe"]).of(studies[1].name)[0] == studies[1].positive


@pytest.mark.parametrize(
    ("rule", "labels"), [("leave_out", []), ("positive", [1]), ("negative", [0])]
)
def test_indeterminate_studies(tree, tmp_path, rule, labels):
    root, studies = tree(studies=1, indeterminate=1)
    said = []
    table = import_rsna_pe(root, tmp_path / "out", indeterminate=rule, on_notice=said.append)
    frame = table.frame.set_index("case_id")
    assert frame.loc[frame["indeterminate"] == 1, "pe"].tolist() == labels
    left_out = tmp_path / "out" / "left_out.csv"
    if rule == "leave_out":
        assert "left out as indeterminate: 1 of 2 studies" in said
        assert f"passed over,{studies[1].name},indeterminate" in left_out.read_text()
    else:
        assert not left_out.exists()
        assert any("none of its slices is" in text for text in said) == (rule == "positive")


def test_all_faults_at_once_and_the_table_without_them(tree, tmp_path, dicom_trees):
    root, studies = tree(studies=10, pixels=16)
    names = [study.name for study in studies]
    studies[0].folder.joinpath(f"{studies[0].uids[3]}.dcm").unlink()
    shutil.rmtree(studies[1].folder.parent)
    (studies[2].folder / f"{studies[2].uids[0]}.dcm").write_bytes(b"no DICOM")
    shutil.copytree(studies[3].folder, root / "train" / "stranger" / "series")
    shutil.copytree(studies[3].folder, studies[3].folder.with_name("other"))

    def change(row):
        study, uid = row["StudyInstanceUID"], row["SOPInstanceUID"]
        if study == names[4] and uid == studies[4].uids[2]:
            return False
        if study == names[6] and uid == studies[6].uids[1]:
            row["pe_present_on_image"] = 1
        if study == names[5] and uid == studies[5].uids[0]:
            row["central_pe"] = 1
        if study == names[7]:
            row["pe_present_on_image"] = 0
        if study == names[8] and uid == studies[8].uids[0]:
            row["SeriesInstanceUID"] = "elsewhere"
        return True

    edit_rows(root, dicom_trees, change)
    with pytest.raises(TableError) as error:
        import_rsna_pe(root, tmp_path / "out")
    message = str(error.value)
    for study, words in (
        (names[0], "1 rows of train.csv have no file"),
        (names[1], "has 8 rows in train.csv, but no folder"),
        (names[2], "cannot be read as DICOM"),
        (names[3], "has folders without rows in train.csv: other"),
        (names[4], f"1 slices have no row in train.csv: {studies[4].uids[2]}"),
        (names[5], "its rows do not agree on central_pe"),
        (names[6], "is a negative exam, but 1 of its slices show an embolism"),
        (names[8], "its rows are of 2 series"),
        ("train/stranger", "has no row in train.csv"),
    ):
        assert any(study in line and words in line for line in message.splitlines()), words
    assert not (tmp_path / "out" / "table.csv").exists()
    said = []
    table = import_rsna_pe(root, tmp_path / "out", leave_out_faulty=True, on_notice=said.append)
    assert sorted(table.case_ids) == sorted([names[7], names[9]])
    assert f"study {names[7]} is positive, but none of its slices is" in said
    with (tmp_path / "out" / "left_out.csv").open() as handle:
        reasons = list(csv.DictReader(handle))
    assert {row["what"] for row in reasons} >= {names[k] for k in (0, 1, 2, 3, 4, 5, 6, 8)}


def test_a_localizer_and_a_copy_beside_the_slices(tree, tmp_path, dicom_trees):
    root, studies = tree(studies=2)
    study = studies[1]
    path = dicom_trees.add_localizer(study)
    rows = dicom_trees.read_rsna_rows(root / "train.csv")
    like = next(row for row in rows if row["StudyInstanceUID"] == study.name)
    rows.append({**like, "SOPInstanceUID": path.stem, "pe_present_on_image": 0})
    dicom_trees.write_rsna_rows(root / "train.csv", rows)
    said = []
    table = import_rsna_pe(root, tmp_path / "out", on_notice=said.append)
    assert "1 labelled file(s) are no slices of their volume (copies, localizers)" in said
    assert read_slice_labels(table, ["pe"]).of(study.name)[0] == study.positive
    rows[-1]["pe_present_on_image"] = 1
    dicom_trees.write_rsna_rows(root / "train.csv", rows)
    with pytest.raises(TableError, match="are not part of the volume as it is read: localizer"):
        import_rsna_pe(root, tmp_path / "out")


def test_patients(tree, tmp_path):
    root, studies = tree(patients=True)
    table = import_rsna_pe(root, tmp_path / "out")
    said = table.frame.set_index("case_id")["patient_id"]
    assert [said[study.name] for study in studies] == ["P000", "P000", "P001", "P001"]


def test_one_patient_id_for_all_is_none(tree, tmp_path, dicom_trees):
    root, _ = tree(studies=10, slices=4, pixels=8)
    dicom_trees.edit_headers(root.glob("train/*/*/*.dcm"), PatientID="ANON")
    said = []
    table = import_rsna_pe(root, tmp_path / "out", on_notice=said.append)
    assert len(table.patients) == 10
    assert "all studies have the PatientID 'ANON'" in said[0]
    few = import_rsna_pe(root, tmp_path / "few", limit_studies=3)
    assert few.patients == ("ANON",)


def test_limit_takes_what_is_there_first(tree, tmp_path):
    root, studies = tree()
    first, *others = sorted(studies)
    shutil.rmtree(first.folder.parent)
    table = import_rsna_pe(root, tmp_path / "out", limit_studies=2)
    assert table.case_ids == tuple(study.name for study in others[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(pe_present_on_image="2"), "image is '2' in lines 2, 3, 4, 5, 6"),
        (lambda row: row.update(StudyInstanceUID=""), "StudyInstanceUID is empty in lines 2, 3"),
        (lambda row: False, "has no rows"),
        (lambda row: row.update(indeterminate="1"), "is both negative_exam_for_pe and indeterm"),
        (lambda row: row.update(SOPInstanceUID="x"), "7 SOPInstanceUIDs stand in two rows"),
    ],
)
def test_csv_that_cannot_be_used(tree, tmp_path, dicom_trees, change, message):
    root, _ = tree(studies=1)
    edit_rows(root, dicom_trees, change)
    with pytest.raises(TableError, match=message):
        import_rsna_pe(root, tmp_path / "out", indeterminate="positive")


def test_folders_and_settings_that_cannot_be_used(tree, tmp_path):
    root, _ = tree(studies=1)
    with pytest.raises(TableError, match=r"no such file. Expected the folder of the competition"):
        import_rsna_pe(tmp_path, tmp_path / "out")
    with pytest.raises(TableError, match="limit_studies is 0"):
        import_rsna_pe(root, tmp_path / "out", limit_studies=0)
    with pytest.raises(TableError, match="indeterminate is 'maybe'; expected one of leave_out"):
        import_rsna_pe(root, tmp_path / "out", indeterminate="maybe")
    with pytest.raises(TableError, match="jobs is 0"):
        import_rsna_pe(root, tmp_path / "out", jobs=0)
    (root / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="lacks the columns StudyInstanceUID, Ser"):
        import_rsna_pe(root, tmp_path / "out")
    (root / "train").rename(root / "elsewhere")
    (root / "train.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="cannot be read as CSV"):
        import_rsna_pe(root, tmp_path / "out")


def test_real_slices_in_such_a_tree(tree, tmp_path):
    folder = cache_folder() / "packages" / "totalsegmentator-2.18.0" / "unpacked"
    real = next(folder.glob("*/tests/reference_files/example_ct_dicom"), None)
    if real is None:
        pytest.skip("TotalSegmentator's reference files are not on this machine")
    root, studies = tree(studies=1, real_slices=real)
    table = import_rsna_pe(root, tmp_path / "out")
    row = table.frame.set_index("case_id").loc[studies[-1].name]
    assert (row["slices"], row["pe"]) == (20, 0)
    assert read_header(table.image_path(studies[-1].name)).shape == (20, 512, 512)
