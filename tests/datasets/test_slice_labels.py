"""Labels slice by slice: written, read back, every fault named; and the audit of it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.datasets import (
    Table,
    Target,
    check_table,
    read_slice_labels,
    read_table,
    write_slice_labels,
    write_table,
)
from voxgraft.errors import TableError
from voxgraft.volumes import Affine, Volume, write_volume


def table_of(folder, ids, sidecar="slice_labels.csv"):
    frame = pd.DataFrame(
        {"case_id": ids, "patient_id": ids, "image": "x.nii", "slice_labels": sidecar}
    )
    return Table(frame, folder)


def read_text(folder, text, columns=("pe",), ids=("a", "b"), **options):
    (folder / "slice_labels.csv").write_text(text, encoding="utf-8")
    return read_slice_labels(table_of(folder, list(ids)), columns, **options)


CASES = st.dictionaries(
    st.sampled_from(["001", "b,c", 'd"', "é"]),
    st.none() | st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6),
    min_size=1,
)


@settings(max_examples=40, deadline=None)
@given(cases=CASES)
def test_what_is_written_is_read(tmp_path_factory, cases):
    folder = tmp_path_factory.mktemp("s")
    arrays = {k: None if v is None else np.array(v, dtype=bool) for k, v in cases.items()}
    write_slice_labels(folder / "slice_labels.csv", ["pe", "left pe"], arrays)
    table = table_of(folder, list(cases))
    labels = read_slice_labels(table, ["pe", "left pe"])
    swapped = read_slice_labels(table, ["left pe"])
    for case_id, found in arrays.items():
        if found is None:
            assert labels.of(case_id) is None
            assert labels.positive(case_id, 6) is None
            continue
        np.testing.assert_array_equal(labels.positive(case_id, len(found)), found)
        np.testing.assert_array_equal(swapped.positive(case_id, len(found)), found[:, 1:])
        assert labels.of(case_id) == tuple(tuple(np.flatnonzero(c)) for c in found.T)


def test_a_case_without_rows_has_no_positive_slice(tmp_path):
    labels = read_text(tmp_path, "case_id;slice;pe\na;2.0;1.0\na;3;0\n")
    assert labels.of("a") == ((2,),)
    assert labels.of("b") == ((),)
    assert labels.positive("b", 4).shape == (4, 1)
    with pytest.raises(TableError, match=r"case a: has rows for slice 3, but its scan has 3 sl"):
        labels.positive("a", 3)
    with pytest.raises(TableError, match="without case 'z'"):
        labels.of("z")


def test_all_faults_at_once(tmp_path):
    text = (
        "case_id,slice,pe\nz,1,1\na,-1,1\na,1.5,1\na,2,yes\na,3,1\na,3,1\nb,,\nb,4,1\nb,,\na,1\n"
        ",1,1\n"
    )
    with pytest.raises(TableError) as error:
        read_text(tmp_path, text)
    for words in (
        "(9 faults)",
        "line 2: case 'z' is not in the table",
        "line 3: slice is '-1', expected a whole number",
        "line 4: slice is '1.5'",
        "line 5: pe is 'yes', expected 0 or 1",
        "line 7: case 'a', slice 3 stands in line 6 already",
        "line 8: case 'b' is said not to be annotated slice by slice (empty slice), but has rows",
        "line 10: case 'b', slice (empty) stands in line 8",
        "line 11: has 2 cells, the header has 3",
        "line 12: case '' is not",
    ):
        assert words in str(error.value)


def test_a_part_of_the_table_passes_over_the_rest(tmp_path):
    text = "case_id,slice,pe\na,1,1\nz,what,1\n"
    assert read_text(tmp_path, text, ids=("a",), subset=True).of("a") == ((1,),)


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("case_id,slice,pe\n", ("pe", "left"), "line 1: has no column 'left'; found case_id, sl"),
        ("case,slice,pe\n", ("pe",), "has no column 'case_id'"),
        ("case_id,slice,pe,pe\n", ("pe",), "has the column 'pe' twice"),
        ("case_id,slice,pe\n", (), "is asked for no target column"),
        ("", ("pe",), "is empty"),
        ('case_id,slice,pe\n"a,1,1', ("pe",), "cannot be read as CSV"),
    ],
)
def test_files_that_are_no_sidecar(tmp_path, text, columns, message):
    with pytest.raises(TableError, match=message):
        read_text(tmp_path, text, columns)


def test_the_column_names_one_file(tmp_path):
    assert (
        read_slice_labels(
            Table(
                pd.DataFrame({"case_id": ["a"], "patient_id": ["a"], "image": ["x.nii"]}), tmp_path
            ),
            ["pe"],
        )
        is None
    )
    with pytest.raises(TableError, match=r"slice_labels\.csv: no such file\. Correct"):
        read_slice_labels(table_of(tmp_path, ["a"]), ["pe"])
    with pytest.raises(TableError, match="is empty for b"):
        read_slice_labels(table_of(tmp_path, ["a", "b"], ["s.csv", ""]), ["pe"])
    with pytest.raises(TableError, match=r"names s\.csv, t\.csv"):
        read_slice_labels(table_of(tmp_path, ["a", "b"], ["s.csv", "t.csv"]), ["pe"])


def test_a_table_written_elsewhere_still_leads_to_it(tmp_path):
    write_slice_labels(tmp_path / "slice_labels.csv", ["pe"], {"001": np.array([[0], [1]]) > 0})
    write_table(table_of(tmp_path, ["001"]), tmp_path / "deep" / "er" / "table.csv")
    moved = read_table(tmp_path / "deep" / "er" / "table.csv")
    assert moved.frame["slice_labels"].tolist() == ["../../slice_labels.csv"]
    assert read_slice_labels(moved, ["pe"]).of("001") == ((1,),)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(TableError, match=r"case a: labels have shape \(4, 2\)"):
        write_slice_labels(tmp_path / "s.csv", ["pe"], {"a": np.zeros((4, 2), bool)})
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match="cannot be written"):
        write_slice_labels(tmp_path / "file" / "s.csv", ["pe"], {})


@pytest.fixture
def audited(tmp_path):
    """Return an audit of three studies of four slices, with the sidecar of a test."""
    for number in range(3):
        voxels = np.random.default_rng(number).normal(0, 1, (1, 4, 5, 5)).astype(np.float32)
        write_volume(Volume(voxels, Affine.from_spacing((1, 1, 1))), tmp_path / f"{number}.nii.gz")
    frame = pd.DataFrame(
        {
            "case_id": ["a", "b", "c"],
            "patient_id": ["a", "b", "c"],
            "image": ["0.nii.gz", "1.nii.gz", "2.nii.gz"],
            "pe": ["no", "yes", "yes"],
            "left": ["yes", "no", "no"],
            "slice_labels": "slice_labels.csv",
        }
    )
    table = Table(frame, tmp_path)

    def audit(text, target="pe", **options):
        (tmp_path / "slice_labels.csv").write_text("case_id,slice,pe\n" + text)
        chosen = Target.infer(frame, target) if target else None
        found = check_table(table, chosen, **options)
        return [fault for fault in found if fault.kind == "slice_labels"]

    return audit


def test_the_audit_holds_slice_labels_against_scans_and_studies(audited):
    assert audited("b,1,1\nc,,\n") == []
    beyond, negative, positive = audited("a,2,1\nb,4,1\nb,9,1\n")
    assert (beyond.where, negative.where, positive.where) == ("case b", "case a", "case c")
    assert "has rows for slices 4, 9, but its scan has 4 slices (0 to 3)" in beyond.message
    assert "pe says 'no', but 1 of its slices are labelled positive" in negative.message
    assert "pe says 'yes', but no slice is labelled positive" in positive.message
    assert [fault.severity for fault in (beyond, negative, positive)] == [
        "fault",
        "fault",
        "notice",
    ]


def test_the_audit_without_target_without_voxels_and_of_another_target(audited):
    (beyond,) = audited("b,7,1\nc,0,1\n", target=None, read_voxels=False)
    assert "its scan has 4 slices" in beyond.message
    (other,) = audited("b,1,1\n", target="left")
    assert other.severity == "notice"
    assert "label pe slice by slice, not left" in other.message
    (unknown,) = audited("z,1,1\n")
    assert unknown.severity == "fault"
    assert "line 2: case 'z' is not in the table" in unknown.message
