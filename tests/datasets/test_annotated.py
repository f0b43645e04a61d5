"""Classes that the training cases do not annotate are found before anything trains."""

import json

import pandas as pd
import pytest

from voxgraft.datasets import Table, cases_without, check_annotated, unannotated
from voxgraft.errors import TableError


@pytest.fixture
def table(tmp_path) -> Table:
    """Two data sets: the first never draws what its file also names, the second says it by row."""
    for name, structures in (("a", ["liver", "spleen"]), ("b", ["aorta", "liver", "tumor"])):
        plain = {"kind": "label_map", "structures": {n: k + 1 for k, n in enumerate(structures)}}
        if name == "a":
            plain["annotated"] = ["liver"]
        (tmp_path / f"{name}.json").write_text(json.dumps(plain))
    ids = ["a1", "a2", "b1", "b2"]
    frame = pd.DataFrame({"case_id": ids, "patient_id": ids, "image": ids, "masks": ids})
    frame["structures"] = ["a.json", "a.json", "b.json", "b.json"]
    frame["annotated"] = ["", "spleen", "aorta", "aorta tumor"]
    return Table(frame, tmp_path, tmp_path / "all.csv")


def test_each_class_counts_over_the_given_cases_alone(table):
    classes = ("liver", "aorta", "tumor", "spleen")
    assert unannotated(table, classes) == {}
    check_annotated(table, classes)
    first = table.where([True, False, True, False])
    found = unannotated(first, classes)
    assert list(found) == ["tumor", "spleen"]
    assert all("their data set has it" in why for why in found.values())
    assert "no structure" in unannotated(first, ["brain"])["brain"]


def test_the_refusal_names_class_table_and_remedy(table):
    with pytest.raises(TableError) as refused:
        check_annotated(
            table.where([True, False, True, False]),
            ("liver", "tumor", "brain"),
            where="2 training patients, subset seed 7",
        )
    said = str(refused.value)
    for words in (
        "all.csv (2 training patients, subset seed 7): 2 of 3 classes cannot be learnt",
        "'tumor' is annotated by none of 2 training cases",
        "'brain' is annotated by none of 2 training cases",
        "Leave them out of target.classes",
    ):
        assert words in said


def test_cases_that_teach_nothing(table):
    assert cases_without(table, ("liver", "tumor")) == ("a2", "b1")
    assert cases_without(table, ("aorta", "liver", "spleen")) == ()
