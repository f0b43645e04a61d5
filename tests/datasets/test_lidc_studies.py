"""LIDC-IDRI's scans as studies: which slices are positive, from XML files and from the database."""

import shutil

import numpy as np
import pytest

from voxgraft.datasets import Target, check_table, import_lidc_studies, read_slice_labels
from voxgraft.datasets.importers.lidc_agreement import agreed_slices
from voxgraft.datasets.importers.lidc_nodules import Annotation, Contour, Nodule, Scan
from voxgraft.datasets.importers.lidc_readers import reading_sessions
from voxgraft.datasets.importers.lidc_xml import find_readings, read_lidc_xml
from voxgraft.errors import TableError
from voxgraft.volumes import read_volume


@pytest.fixture(scope="module")
def published(tmp_path_factory, lidc_trees):
    """Return (root, scans, what readers marked, the same as a database), not to be changed."""
    root = tmp_path_factory.mktemp("lidc")
    scans, marked = lidc_trees.make_lidc_tree(
        root, scans=5, slices=12, pixels=32, two_of_last=True, radiograph=True
    )
    database = root.parent / f"{root.name}.sqlite"
    return root, scans, marked, lidc_trees.write_lidc_database(database, scans, marked)


@pytest.fixture
def tree(tmp_path, lidc_trees):
    root = tmp_path / "ct"
    scans, marked = lidc_trees.make_lidc_tree(root, scans=3, slices=8, pixels=24)
    return root, scans, marked


def test_xml_and_database_give_the_slices_with_the_nodule(published, tmp_path):
    root, scans, _, database = published
    said = []
    table = import_lidc_studies(root, tmp_path / "x", annotations=root, on_notice=said.append)
    same = import_lidc_studies(root, tmp_path / "d", annotations=database)
    assert table.frame.equals(same.frame)
    assert said == ["1 folder(s) with images that are no CT are passed over"]
    assert table.case_ids[:3] == ("LIDC-IDRI-0001", "LIDC-IDRI-0002", "LIDC-IDRI-0003")
    assert set(table.case_ids[3:]) == {"LIDC-IDRI-0004_1", "LIDC-IDRI-0004_2"}
    assert table.patients == tuple(f"LIDC-IDRI-{k:04d}" for k in range(1, 5))
    rows = table.frame.set_index("series_instance_uid")
    for one in (table, same):
        labels = read_slice_labels(one, ["nodule"])
        for scan in scans:
            row = rows.loc[scan.series]
            assert labels.of(row["case_id"]) == (scan.positive,)
            assert row["nodule"] == row["nodules"] == bool(scan.positive)
            assert row["study_instance_uid"] == scan.name
    voxels = read_volume(table.image_path("LIDC-IDRI-0001")).voxels[0]
    seen = np.flatnonzero((voxels > 200).sum(axis=(1, 2)) > 3)
    assert tuple(seen) == scans[0].positive
    faults = check_table(table, Target.infer(table.frame, "nodule"))
    assert {fault.kind for fault in faults} == {"few_patients"}


@pytest.mark.parametrize("min_readers", [1, 2, 4])
def test_other_numbers_of_readers(published, tmp_path, min_readers):
    root, scans, *_ = published
    table = import_lidc_studies(
        root, tmp_path / "o", annotations=root, min_readers=min_readers, limit_studies=1
    )
    (found,) = read_slice_labels(table, ["nodule"]).of(table.case_ids[0])
    expected = set(scans[0].positive)
    if min_readers <= 2:
        expected |= {1}  # two readers agree on something small there
    if min_readers == 4:
        expected = set(scans[0].positive[::2])
    assert set(found) == expected


def contour(z, uid="", inclusion=True):
    points = np.array([[4.0, 4.0], [4.0, 8.0], [8.0, 8.0], [8.0, 4.0]])
    return Contour(points, z, inclusion, uid)


def nodule(*drawn):
    scan = Scan(1, "P", "1.2", 0.5, np.arange(0.0, 20.0, 2.0))
    made = [
        Annotation(number, scan, (1,) * 9, tuple(contours), reader)
        for number, (reader, contours) in enumerate(drawn)
    ]
    return Nodule("n", scan, tuple(made))


def test_agreement_by_hand():
    z_mm = np.array([0.0, 2.0, 4.0, 6.0])
    uids = ["a", "b", "c", "d"]
    drawn = nodule(
        (0, [contour(0), contour(2), contour(2), contour(4)]),
        (1, [contour(2), contour(4)]),
        (2, [contour(2), contour(4, inclusion=False)]),
        (2, [contour(0)]),
        (2, [contour(99.0, uid="d")]),
    )
    found, missing = agreed_slices(drawn, uids, z_mm, 3)
    assert found.tolist() == [False, True, False, False]
    assert missing == []
    two, _ = agreed_slices(drawn, uids, z_mm, 2)
    assert two.tolist() == [True, True, True, False]
    three_boxes_of_two_readers = nodule(
        (0, [contour(2)]), (0, [contour(2)]), (1, [contour(2), contour(2)])
    )
    assert not agreed_slices(three_boxes_of_two_readers, uids, z_mm, 3)[0].any()
    _, missing = agreed_slices(nodule((0, [contour(1.0, "gone"), contour(9.0)])), uids, z_mm, 1)
    assert missing == [
        "no slice at z = 1 mm, where one is outlined",
        "no slice at z = 9 mm, where one is outlined",
    ]


def test_readers_by_their_programs_numbers():
    ids = ["Nodule 004", "Nodule 001", "IL057_123928", "IL057_123924", "IL057_132685"]
    assert reading_sessions([*ids, "MI014_16238", "MI014_16242", "0", "3"]) == [
        *(0, 0, 1, 1, 2, 3, 3, 4, 4)
    ]
    assert reading_sessions(["3", "4", "6", "12321", "12325", "2046"]) == [0, 0, 0, 1, 1, 2]
    assert reading_sessions(["", "odd", "odd 7", "07"]) == [0, 1, 2, 3]
    assert reading_sessions([]) == []


def test_an_annotation_file_by_hand(tmp_path, lidc_trees):
    outline = lidc_trees.Outline(-7.5, "1.9", ((3, 30), (3, 31), (4, 30)))
    hole = lidc_trees.Outline(-7.5, "1.9", ((3, 30),), False)
    sessions = [
        [lidc_trees.Marked("Nodule 001", (outline, hole)), lidc_trees.Marked("2", (hole,), None)],
        [],
        [lidc_trees.Marked("0", (outline,), None)],
    ]
    path = tmp_path / "069.xml"
    path.write_text(lidc_trees.lidc_xml("1.2", "1.3", sessions))
    reading = read_lidc_xml(path)
    assert (reading.study_uid, reading.series_uid, reading.sessions) == ("1.2", "1.3", 3)
    (mark,) = reading.marks
    assert (mark.reader, mark.nodule_id, mark.ratings) == (0, "Nodule 001", lidc_trees.RATED)
    assert mark.contours[0].points.tolist() == [[3, 30], [3, 31], [4, 30]]
    assert [(c.z_mm, c.sop_uid, c.inclusion) for c in mark.contours] == [
        (-7.5, "1.9", True),
        (-7.5, "1.9", False),
    ]
    assert reading.unrated == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<LidcReadMessage", "cannot be read as XML"),
        ("<LidcReadMessage/>", "names no scan"),
        ("{header}<imageZposition>x</imageZposition>{footer}", "is damaged: could not convert"),
        ("{header}{footer}", "is damaged: an outline has no imageZposition"),
        ("{header}<imageZposition>1</imageZposition>{footer}", "at z = 1 has no points"),
    ],
)
def test_annotation_files_that_cannot_be_used(tmp_path, text, message):
    header = (
        "<LidcReadMessage><SeriesInstanceUid>1</SeriesInstanceUid><readingSession>"
        "<unblindedReadNodule><roi>"
    )
    footer = "</roi></unblindedReadNodule></readingSession></LidcReadMessage>"
    (tmp_path / "a.xml").write_text(text.format(header=header, footer=footer))
    (tmp_path / "b.xml").write_text("<other/>")
    with pytest.raises(TableError, match=message):
        find_readings(tmp_path)


def test_two_files_of_one_scan(tree, tmp_path):
    root, scans, _ = tree
    path = scans[0].folder / "069.xml"
    shutil.copyfile(path, scans[0].folder / "copy.xml")
    assert len(find_readings(root)) == 3
    (scans[0].folder / "copy.xml").write_text(path.read_text().replace("Nodule", "Knoten"))
    with pytest.raises(TableError, match=r"069\.xml are both of series"):
        find_readings(root)


def test_all_faults_at_once_and_the_table_without_them(tree, tmp_path, lidc_trees):
    root, scans, marked = tree
    database = lidc_trees.write_lidc_database(tmp_path / "d.sqlite", scans, marked)
    (scans[0].folder / "1-001.dcm").unlink()  # the last slice: spacing does not tell
    shutil.copytree(scans[1].folder, root / "copy")
    lidc_trees.trees.edit_headers(scans[2].folder.glob("*.dcm"), SeriesInstanceUID="1.9.9")
    with pytest.raises(TableError) as error:
        import_lidc_studies(root, tmp_path / "o", annotations=database)
    message = str(error.value)
    for words in (
        "(3 faults)",
        "lacks 1 of 8 slices, such as the one at z = -92.5 mm",
        "holds the same series as",
        "CT series 1.9.9 is not in the annotation database",
    ):
        assert words in message
    said = []
    table = import_lidc_studies(
        root, tmp_path / "o", annotations=database, leave_out_faulty=True, on_notice=said.append
    )
    assert table.case_ids == ("LIDC-IDRI-0002",)
    assert f"1 of 3 annotated scans have no folder below {root}" in said
    left_out = (tmp_path / "o" / "left_out.csv").read_text()
    assert f"passed over,series {scans[2].series},has no CT folder" in left_out
    for scan in scans[:2]:
        (scan.folder / "069.xml").unlink()
    (root / "copy" / "069.xml").unlink()
    with pytest.raises(TableError, match="is not in the XML files below") as error:
        import_lidc_studies(root, tmp_path / "o", annotations=root)


def test_outlines_beside_all_slices(tree, tmp_path):
    root, scans, _ = tree
    path = scans[0].folder / "069.xml"
    moved = path.read_text().replace(f"<imageSOP_UID>{scans[0].uids[1]}", "<imageSOP_UID>1.1")
    path.write_text(moved.replace(f"{scans[0].z_mm[1]}<", "-1.25<"))
    with pytest.raises(TableError, match=r"no slice at z = -1\.25 mm, where one is outlined"):
        import_lidc_studies(root, tmp_path / "o", annotations=root)


def test_settings_that_cannot_be_used(tree, tmp_path):
    root, *_ = tree
    (tmp_path / "empty").mkdir()
    for options, message in (
        ({"min_readers": 5}, "min_readers is 5; expected 1 to 4"),
        ({"limit_studies": 0}, "limit_studies is 0"),
        ({"annotations": tmp_path / "gone"}, "no such folder of XML files and no such annotation"),
        ({"annotations": tmp_path / "empty"}, "holds no annotation file of LIDC-IDRI"),
    ):
        with pytest.raises(TableError, match=message):
            import_lidc_studies(root, tmp_path / "o", **options)
    with pytest.raises(TableError, match="no such folder of CT scans"):
        import_lidc_studies(tmp_path / "none", tmp_path / "o")
