import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxgraft.datasets import Table, read_table, write_table
from voxgraft.errors import TableError


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def small(**columns):
    base = {"case_id": ["a", "b"], "patient_id": ["1", "2"], "image": ["a.nii", "b.nii"]}
    return pd.DataFrame({**base, **columns})


def test_ids_are_text_and_other_columns_typed(tmp_path):
    path = write(
        tmp_path / "t.csv",
        "case_id,patient_id,image,age,grade,code,drug,flag,site\n"
        "001,010,a.nii,61.5,2,007,None,true,01\n"
        "002,NA,b.nii,NA,3,008,,FALSE,02\n",
    )
    frame = read_table(path).frame
    assert frame["case_id"].tolist() == ["001", "002"]
    assert frame["patient_id"].tolist() == ["010", "NA"]
    assert frame["age"].iloc[0] == 61.5
    assert np.isnan(frame["age"].iloc[1])
    assert frame["grade"].dtype == np.int64
    assert frame["code"].tolist() == ["007", "008"]
    assert frame["drug"].tolist() == ["None", None]
    assert frame["flag"].tolist() == [True, False]
    assert frame["site"].tolist() == ["01", "02"]


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("t.csv", "case_id,patient_id,image,age\r\n1,2,a b.nii,1.5\r\n\r\n", "utf-8-sig"),
        ("t.csv", "case_id;patient_id;image;age\n1;2;a b.nii;1,5\n", "utf-8"),
        ("t.csv", "case_id\tpatient_id\timage\tage\n1\t2\ta b.nii\t1.5\n", "utf-8"),
        ("t.tsv", "case_id\tpatient_id\timage\tage\n1\t2\ta b.nii\t1.5\n", "utf-8"),
        ("t.csv", 'case_id, patient_id ,image,age\n1,2,"a b.nii",1.5\n', "utf-8"),
    ],
)
def test_dialects(tmp_path, name, text, encoding):
    table = read_table(write(tmp_path / name, text, encoding))
    assert table.case_ids == ("1",)
    assert table.frame["age"].tolist() == [1.5]
    assert table.image_path("1") == tmp_path.resolve() / "a b.nii"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the file is empty; expected a header line with case_id, patient_id, image"),
        ("case_id,patient_id,image\n", r"has no cases \(columns: case_id, patient_id, image\)"),
        ("a,b\n1,2\n", r"columns are missing: case_id, patient_id, image. Found: a, b"),
        (
            "case_id,image\n1,2\n",
            r"missing: patient_id.*If each case is a patient of its own, copy",
        ),
        ("case_id,subject_id,image\n1,2,3\n", r"Rename 'subject_id' to 'patient_id'"),
        ("case_id,PatientID,path\n1,2,3\n", r"Rename 'PatientID' .* Rename 'path' to 'image'"),
        ("case_id,patient_id,image\n1,2\n", r"3 columns in the header, but row 2 \('1'\) has 2"),
        ("case_id,patient_id,image\n1,2,3,4\n", r"row 2 \('1'\) has 4"),
        (",case_id,patient_id,image\n0,1,2,3\n", r"column 1 has no name.*to_csv\(index=False\)"),
        ("case_id,image,patient_id,image\n1,2,3,4\n", r"columns stand twice: image"),
        ('case_id,patient_id,image\n1,2,"a\n', r"is no well-formed CSV"),
    ],
)
def test_malformed_tables(tmp_path, text, message):
    with pytest.raises(TableError, match=message):
        read_table(write(tmp_path / "t.csv", text))


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(TableError, match=r"gone.csv: no such table file"):
        read_table(tmp_path / "gone.csv")
    with pytest.raises(TableError, match=r"unknown suffix '.xlsx'; expected one of .csv, .tsv"):
        read_table(tmp_path / "t.xlsx")
    path = write(tmp_path / "t.csv", "case_id,patient_id,image\nä,1,b\n", "latin-1")
    with pytest.raises(TableError, match=r"is not UTF-8 text \(byte 25 is 0xe4\)"):
        read_table(path)
    write(tmp_path / "t.parquet", "nothing")
    with pytest.raises(TableError, match=r"cannot be read as Parquet"):
        read_table(tmp_path / "t.parquet")


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(texts, texts, texts, st.floats(allow_nan=False, allow_infinity=False)),
        min_size=1,
        max_size=5,
    ),
    suffix=st.sampled_from([".csv", ".tsv", ".parquet"]),
)
def test_written_tables_read_back_the_same(tmp_path, rows, suffix):
    frame = pd.DataFrame(rows, columns=["case_id", "patient_id", "image", "age"])
    written = write_table(Table(frame, tmp_path), tmp_path / f"t{suffix}")
    read = read_table(tmp_path / f"t{suffix}")
    assert read.case_ids == tuple(frame["case_id"])
    np.testing.assert_array_equal(read.frame["age"].astype(float), frame["age"])
    assert read.sha256 == written.sha256


def test_images_are_found_from_the_new_place(tmp_path):
    frame = small(image=["sub/a.nii", "/data/b.nii"])
    (tmp_path / "in").mkdir()
    written = write_table(Table(frame, tmp_path / "in"), tmp_path / "out" / "deep" / "t.csv")
    assert written.frame["image"].tolist() == ["../../in/sub/a.nii", "/data/b.nii"]
    found = read_table(tmp_path / "out" / "deep" / "t.csv").image_path("a").resolve()
    assert found == (tmp_path / "in" / "sub" / "a.nii").resolve()


def test_hash_is_of_the_content(tmp_path):
    table = Table(small(y=[1, 2]), tmp_path)
    assert table.sha256 == Table(small(y=[1.0, 2.0]), tmp_path / "other").sha256
    assert table.sha256 != Table(small(y=[1, 3]), tmp_path).sha256
    assert table.sha256 != Table(small(z=[1, 2]), tmp_path).sha256


def test_looking_up(tmp_path):
    table = Table(small(split=["train", "test"]), tmp_path)
    assert table.patients == ("1", "2")
    assert table.split("test").case_ids == ("b",)
    with pytest.raises(TableError, match=r"no case in split 'val'; found 'train', 'test'"):
        table.split("val")
    with pytest.raises(TableError, match=r"has no column 'split'. Make one with"):
        Table(small(), tmp_path).split("train")
    with pytest.raises(TableError, match=r"has no case 'aa' among its 2 cases. Did you mean 'a'"):
        table.image_path("aa")
    with pytest.raises(TableError, match=r"case_id 'a' stands in 2 rows"):
        Table(small(case_id=["a", "a"]), tmp_path).image_path("a")
    with pytest.raises(TableError, match=r"case 'a' has no image"):
        Table(small(image=["", "b"]), tmp_path).image_path("a")


def test_numbers_as_ids_become_text(tmp_path):
    table = Table(small(case_id=[1, 2], patient_id=[7.0, 8.0]), tmp_path)
    assert (table.case_ids, table.patients) == (("1", "2"), ("7", "8"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_random_damage_never_ends_in_a_raw_error(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    write_table(Table(small(y=["ä", "ö"]), tmp_path), path)
    content = path.read_bytes()
    random = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        broken = bytearray(content)
        for place in random.integers(0, len(broken), 5):
            broken[place] = random.integers(256)
        path.write_bytes(broken)
        try:
            read_table(path)
        except TableError as error:
            refused += str(path) in str(error)
    assert refused > 20
