"""What is said of a comparison, and what is never said."""

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgraft.errors import StatisticsError
from voxgraft.statistics import Compared, Difference, answer, format_p, verdict

BASE = Difference(
    0.054, 0.012, 0.097, 0.95, 0.004, 0.003, 0.01, 0.8, 0.746, 151, 3, 3, True, "t", ""
)


def _item(size=100, **changes):
    return Compared("ImageNet", "scratch", size, dataclasses.replace(BASE, **changes))


def _one(item, **options):
    return verdict([item], metric_label="AUROC", **options)[0]


def test_a_shown_difference():
    assert _one(_item()) == (
        "ImageNet beats scratch at N = 100: AUROC +0.054 [0.012, 0.097], p = 0.010 (Holm), "
        "n = 151 patients, 3 seeds."
    )


def test_a_worse_start_and_a_metric_that_falls():
    worse = _item(estimate=-0.054, low=-0.097, high=-0.012)
    assert _one(worse).startswith("ImageNet is worse than scratch at N = 100: AUROC −0.054 [−0.097")
    falls = _item(estimate=-3.2, low=-5.1, high=-1.3, higher_is_better=False)
    text = verdict([falls], metric_label="MAE", unit="years")[0]
    assert text.startswith("ImageNet beats scratch at N = 100: MAE −3.2 years [−5.1, −1.3]")


def test_nothing_shown_says_what_is_still_possible():
    text = _one(_item(estimate=0.01, low=-0.03, high=0.05, p_holm=0.6))
    assert text == (
        "No difference shown between ImageNet and scratch at N = 100: AUROC +0.010 "
        "[−0.030, 0.050], p = 0.60 (Holm), n = 151 patients, 3 seeds; the interval still allows "
        "a gain of 0.050 and a loss of 0.030."
    )
    error = _item(estimate=0.01, low=-0.03, high=0.05, p_holm=0.6, higher_is_better=False)
    assert "a gain of 0.030 and a loss of 0.050" in _one(error)


def test_interval_and_corrected_p_must_agree():
    text = _one(_item(p_holm=0.2))
    assert text.startswith("No difference shown")
    assert "the corrected p-value does not support it" in text
    assert text.endswith("the interval still allows a gain of 0.097 and no loss.")
    assert _one(_item(low=-0.001)).startswith("No difference shown")


def test_one_seed_and_no_interval():
    assert _one(_item(n_seeds_a=1, n_seeds_b=1)).endswith(
        "1 seed. One training each: whether new trainings would agree is not tested."
    )
    undefined = _item(estimate=math.nan, low=math.nan, high=math.nan, p_holm=math.nan, note="x")
    assert _one(undefined).startswith("ImageNet and scratch cannot be compared at N = 100: x")
    none = _item(low=math.nan, high=math.nan, note="one patient: no difference can be tested")
    assert _one(none) == (
        "ImageNet and scratch cannot be compared at N = 100: one patient: no difference can be "
        "tested."
    )


def test_answer_over_sizes():
    items = [
        _item(50),
        _item(100, estimate=0.08, low=0.03, high=0.13),
        _item(200, estimate=0.01, low=-0.03, high=0.05, p_holm=0.6),
        _item(400, low=math.nan, high=math.nan, estimate=math.nan),
    ]
    text = answer(items, metric_label="AUROC")
    assert text.startswith("ImageNet beats scratch at N = 50 and 100 (most at N = 100: AUROC +0.08")
    assert "it shows no difference from scratch at N = 200" in text
    assert "it cannot be compared with scratch at N = 400" in text


def test_answer_where_nothing_is_shown():
    text = answer(
        [_item(s, estimate=0.0, low=-0.02 * s / 50, high=0.03, p_holm=1.0) for s in (50, 100)],
        metric_label="AUROC",
    )
    assert text == (
        "No difference from scratch was shown, in 2 comparisons; that is not proof of none: "
        "ImageNet at N = 100: the interval still allows a gain of 0.030 and a loss of 0.040 "
        "(AUROC)."
    )
    with pytest.raises(StatisticsError, match="no difference to answer from"):
        answer([], metric_label="AUROC")
    undefined = _item(low=math.nan, high=math.nan, note="too few patients")
    assert (
        answer([undefined], metric_label="AUROC") == "No start could be compared: too few patients."
    )


@given(
    estimate=st.floats(-1, 1),
    reach=st.floats(0.0, 1),
    p=st.floats(0, 1),
    higher=st.booleans(),
    seeds=st.integers(1, 5),
)
def test_never_claims_more_than_the_interval(estimate, reach, p, higher, seeds):
    item = _item(
        estimate=estimate,
        low=estimate - reach,
        high=estimate + reach,
        p_holm=p,
        higher_is_better=higher,
        n_seeds_a=seeds,
        n_seeds_b=seeds,
    )
    said = f"{_one(item)} {answer([item], metric_label='AUROC')}"
    claims = re.search(r"beats|is worse than", said) is not None
    allowed = p <= 0.05 + 1e-12 and (estimate - reach > 0 or estimate + reach < 0)
    assert claims == allowed
    if claims:
        assert ("beats" in said) == ((estimate > 0) == higher)
        assert ("One training each" in said) == (seeds == 1)


def test_p():
    assert format_p(0.0004) == "p < 0.001"
    assert format_p(0.0123) == "p = 0.012"
    assert format_p(0.5) == "p = 0.50"
    assert format_p(np.nan) == "p not defined"
