import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgraft.datasets import Target
from voxgraft.errors import TableError


def frame(**columns):
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"case_id": [f"c{k}" for k in range(n)], **columns})


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (["yes", "no", "yes"], "binary", ("no", "yes")),
        (["Malignant", "Benign"], "binary", ("Benign", "Malignant")),
        ([True, False], "binary", ("False", "True")),
        ([1, 0, 1], "binary", ("0", "1")),
        ([0.0, 1.0], "binary", ("0", "1")),
        ([1.0, np.nan, 0.0], "binary", ("0", "1")),
        (["b", "a"], "binary", ("a", "b")),
        ([3, 1, 10], "multiclass", ("1", "3", "10")),
        (["c", "B", "a"], "multiclass", ("a", "B", "c")),
        ([0.5, 1.5, 2.0], "regression", ()),
        ([60.0, 70.0, 65.0], "regression", ()),
    ],
)
def test_inference(values, kind, classes):
    target = Target.infer(frame(y=values), "y")
    assert (target.kind, target.classes) == (kind, classes)


def test_multilabel():
    target = Target.infer(frame(a=[0, 1, 0], b=[0, 0, 0]), ["a", "b"])
    assert (target.kind, target.classes) == ("multilabel", ("0", "1"))
    encoded = target.encode(frame(a=[0, 1, 0], b=[0, 0, 0]))
    np.testing.assert_array_equal(encoded, [[0, 0], [1, 0], [0, 0]])
    with pytest.raises(TableError, match=r"found 3 values \(0, 1, 2\)"):
        Target.infer(frame(a=[0, 1], b=[1, 2]), ["a", "b"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (list(range(21)), r"21 different whole numbers, so its kind is ambiguous.*'regression' or"),
        ([f"t{k}" for k in range(21)], r"21 different texts.*Set kind to 'multiclass'"),
        ([1, 1, 1], r"column 'y' is '1' in all cases, so there is nothing to learn"),
        ([None, None], r"column 'y' is empty in all 2 cases"),
        (["Yes", "yes", "no"], r"writes one class in several ways: 'Yes' / 'yes'"),
    ],
)
def test_ambiguous_columns(values, message):
    with pytest.raises(TableError, match=message):
        Target.infer(frame(y=values), "y")


def test_the_user_decides():
    ages = frame(y=list(range(30, 60)))
    assert Target.infer(ages, "y", kind="regression", unit="years").unit == "years"
    turned = Target.infer(frame(y=["yes", "no"]), "y", classes=["yes", "no"])
    assert turned.positive == "no"
    assert turned.describe() == "binary y: 'no' (positive) against 'yes'"
    with pytest.raises(TableError, match=r"expected one of binary, multiclass, multilabel"):
        Target.infer(ages, "y", kind="ordinal")
    with pytest.raises(TableError, match=r"a binary target over y has 30 classes"):
        Target.infer(ages, "y", kind="binary")
    with pytest.raises(TableError, match=r"no column 'yy'; found case_id, y. Did you mean 'y'"):
        Target.infer(ages, "yy")


def test_encode_by_hand():
    target = Target(kind="multiclass", columns=("y",), classes=("a", "b", "c"))
    encoded = target.encode(frame(y=["c", "a", "b"]))
    np.testing.assert_array_equal(encoded, [[2.0], [0.0], [1.0]])
    assert encoded.dtype == np.float64
    assert target.decode(encoded) == [["c"], ["a"], ["b"]]


def test_encode_names_every_bad_cell():
    target = Target(kind="binary", columns=("y",), classes=("no", "yes"))
    with pytest.raises(TableError) as error:
        target.encode(frame(y=["no", "maybe", None, "yes"]))
    assert "2 faults" in str(error.value)
    assert "case c1: y is 'maybe', no class; expected 'no', 'yes'" in str(error.value)
    assert "case c2: y is missing" in str(error.value)
    regression = Target(kind="regression", columns=("y",))
    with pytest.raises(TableError, match=r"case c1: y is 'inf', expected a finite number"):
        regression.encode(frame(y=[1.0, np.inf]))
    with pytest.raises(TableError, match=r"case c0: y is 'old', expected a finite number"):
        regression.encode(frame(y=["old", "3"]))


@given(
    st.lists(st.sampled_from(["a", "B", "c d", "4"]), min_size=4).filter(lambda v: len(set(v)) > 2)
)
def test_decode_undoes_encode(values):
    target = Target.infer(frame(y=values), "y")
    assert [row[0] for row in target.decode(target.encode(frame(y=values)))] == values
    assert Target.from_dict(target.to_dict()) == target


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "binary", "columns": ("y",), "classes": ("a",)}, "has 1 classes"),
        ({"kind": "binary", "columns": ("y", "z"), "classes": ("a", "b")}, "has one column"),
        ({"kind": "binary", "columns": ("y",), "classes": ("a", "a")}, "each name once"),
        ({"kind": "regression", "columns": ("y",), "classes": ("a", "b")}, "expected none"),
        ({"kind": "binary", "columns": ()}, "expected one or more"),
    ],
)
def test_impossible_targets(options, message):
    with pytest.raises(TableError, match=message):
        Target(**options)
