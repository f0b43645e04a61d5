from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.datasets import Table, Target, nested_subsets, split_table
from voxgraft.errors import TableError

PINNED = "93667c42480fa4718abed50369ed24a75e67d542186449e296b17593916bc8d7"
BINARY = Target(kind="binary", columns=("y",), classes=("no", "yes"))


def cohort(patients=100, per_patient=2, positive=5, y=None):
    n = patients * per_patient
    rows = pd.DataFrame(
        {
            "case_id": [f"c{k}" for k in range(n)],
            "patient_id": [f"p{k // per_patient}" for k in range(n)],
            "image": [f"{k}.nii" for k in range(n)],
            "y": ["yes" if (k // per_patient) % positive == 0 else "no" for k in range(n)],
        }
    )
    return Table(rows if y is None else rows.assign(y=y), ".")


@settings(max_examples=40, deadline=None)
@given(
    patients=st.integers(12, 90),
    per_patient=st.integers(1, 3),
    positive=st.integers(2, 4),
    seed=st.integers(0, 10**6),
    order=st.randoms(use_true_random=False),
)
def test_split_keeps_patients_and_shares_whatever_the_order(
    patients, per_patient, positive, seed, order
):
    table = cohort(patients, per_patient, positive)
    split = split_table(table, seed=seed, target=BINARY)
    sides = split.frame.groupby("patient_id")["split"].nunique()
    assert (sides == 1).all()
    people = split.frame.drop_duplicates("patient_id")
    for name, share in zip(("train", "validation", "test"), (0.7, 0.15, 0.15), strict=True):
        for label in ("yes", "no"):
            total = (people["y"] == label).sum()
            got = ((people["y"] == label) & (people["split"] == name)).sum()
            assert abs(got - share * total) <= 2
            assert got >= 1
    rows = list(range(len(table)))
    order.shuffle(rows)
    shuffled = split_table(Table(table.frame.iloc[rows], "."), seed=seed, target=BINARY)
    assert shuffled.split_sha256 == split.split_sha256


def test_the_split_of_a_seed_is_fixed_for_all_time():
    split = split_table(cohort(20), seed=7, target=BINARY)
    assert split.frame.drop_duplicates("patient_id")["split"].value_counts().to_dict() == {
        "train": 14,
        "validation": 3,
        "test": 3,
    }
    assert split.split_sha256 == PINNED
    assert split_table(cohort(20), seed=8, target=BINARY).split_sha256 != split.split_sha256


def test_mixed_patients_count_as_their_rarer_class():
    y = ["no", "yes"] * 6 + ["no"] * 188
    split = split_table(cohort(100, 2, y=y), seed=0, target=BINARY)
    positive = split.frame[split.frame["y"] == "yes"]["split"].value_counts()
    assert positive.to_dict() == {"train": 4, "validation": 1, "test": 1}


def test_regression_is_balanced_by_quantiles():
    values = np.repeat(np.linspace(20, 80, 100), 2)
    target = Target(kind="regression", columns=("y",))
    split = split_table(cohort(100, 2, y=values), seed=3, target=target)
    means = split.frame.groupby("split")["y"].mean()
    assert means.max() - means.min() < 6
    alone = split_table(cohort(100, 2, y=values), seed=3)
    assert set(alone.splits) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.5, 0.5)}, r"expected three shares"),
        ({"fractions": (0.5, 0.2, 0.2)}, r"that sum to 1"),
        ({"fractions": (0.0, 0.5, 0.5)}, r"train above 0"),
        ({"fractions": (float("nan"), 0.5, 0.5)}, r"expected three shares"),
    ],
)
def test_impossible_fractions(options, message):
    with pytest.raises(TableError, match=message):
        split_table(cohort(), seed=0, **options)


def test_impossible_splits():
    with pytest.raises(TableError, match=r"too few patients for 3 splits: 'yes' has 2"):
        split_table(cohort(10, 2, positive=5), seed=0, target=BINARY)
    with pytest.raises(TableError, match=r"has 2 patients for 3 splits"):
        split_table(cohort(2), seed=0)
    split = split_table(cohort(), seed=0)
    with pytest.raises(TableError, match=r"has a column 'split' already"):
        split_table(split, seed=1)
    assert split_table(split, seed=1, replace=True).split_sha256 != split.split_sha256
    nameless = cohort().with_column("patient_id", ["", *["p"] * 199])
    with pytest.raises(TableError, match=r"1 cases have no patient_id"):
        split_table(nameless, seed=0)
    two = split_table(cohort(), seed=0, fractions=(0.8, 0.2, 0))
    assert set(two.splits) == {"train", "validation"}


@settings(max_examples=40, deadline=None)
@given(
    patients=st.integers(20, 90),
    positive=st.integers(2, 5),
    seed=st.integers(0, 10**6),
    sizes=st.sets(st.integers(2, 14), min_size=1, max_size=4),
)
def test_subsets_are_nested_stratified_and_from_train(patients, positive, seed, sizes):
    table = split_table(cohort(patients, 1, positive), seed=1, target=BINARY)
    subsets = nested_subsets(table, sorted(sizes), seed=seed, target=BINARY)
    train = table.split("train").frame.set_index("patient_id")["y"]
    share = (train == "yes").mean()
    drawn = list(subsets.values())
    for size, subset in subsets.items():
        assert len(set(subset)) == len(subset) == size
        assert set(subset) <= set(train.index)
        count = (train[list(subset)] == "yes").sum()
        assert 1 <= count <= size - 1
        assert abs(count - share * size) <= 1.5
    for small, large in pairwise(drawn):
        assert large[: len(small)] == small


def test_sizes_in_all_their_forms():
    table = split_table(cohort(), seed=0, target=BINARY)
    subsets = nested_subsets(table, ["all", 0.5, 10, 1.0], seed=0, target=BINARY)
    assert list(subsets) == [10, 35, 70]
    assert set(subsets[70]) == set(table.split("train").patients)
    rows = table.frame.sample(frac=1, random_state=0)
    assert nested_subsets(Table(rows, "."), [10], seed=0, target=BINARY)[10] == subsets[10]
    assert nested_subsets(table, [10], seed=1, target=BINARY)[10] != subsets[10]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (71, r"training size is 71, but the training side has 70 patients"),
        (0, r"training size is 0; expected a whole number from 1 to 70"),
        (-3, r"training size is -3"),
        (2.5, r"training size is 2.5"),
        (float("nan"), r"training size is nan"),
        ("half", r"training size is 'half'"),
        (True, r"training size is True"),
        (1, r"1 patients cannot hold all 2 classes: '(no|yes)' would be absent"),
    ],
)
def test_impossible_sizes(size, message):
    table = split_table(cohort(), seed=0, target=BINARY)
    with pytest.raises(TableError, match=message):
        nested_subsets(table, [size], seed=0, target=BINARY)


def test_subsets_need_a_split():
    with pytest.raises(TableError, match=r"has no column 'split'"):
        nested_subsets(cohort(), [5], seed=0, target=BINARY)
    table = split_table(cohort(), seed=0)
    with pytest.raises(TableError, match=r"no training sizes are given"):
        nested_subsets(table, [], seed=0, target=None)
