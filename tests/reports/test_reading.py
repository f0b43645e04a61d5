from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxgraft.errors import ReportError
from voxgraft.reports import parse_comparison, plain_text_summary, read_comparison, write_report

LEAST = {"format": 1, "task": {"kind": "binary", "metric": "auroc"}}


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"nowhere is not a folder; expected.*voxgraft compare"):
        write_report(tmp_path / "nowhere")


def test_a_missing_file_is_named_with_what_to_run(tmp_path):
    with pytest.raises(ReportError, match=r"comparison\.json does not exist.*`voxgraft compare"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe{}", b'{"format": 1', b"[" * 100_000, b'{"a": ' + b"9" * 5000]
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "comparison.json").write_bytes(content)
    with pytest.raises(ReportError, match=r"comparison\.json is damaged: .*Expected UTF-8 JSON"):
        read_comparison(tmp_path)


def test_a_folder_in_the_file_s_place_is_named(tmp_path):
    (tmp_path / "comparison.json").mkdir()
    with pytest.raises(ReportError, match=r"comparison\.json cannot be read: Is a directory"):
        read_comparison(tmp_path)


@pytest.mark.parametrize("value", [[], None, 3, "x"])
def test_what_is_no_object_is_refused(tmp_path, value):
    (tmp_path / "comparison.json").write_text(json.dumps(value))
    with pytest.raises(ReportError, match="expected an object with the keys of a comparison"):
        read_comparison(tmp_path)


def test_another_format_is_refused():
    with pytest.raises(ReportError, match=r"here has format 2, this version .* reads format 1"):
        parse_comparison(LEAST | {"format": 2, "voxgraft": "9.0"}, "here")


def test_all_faults_are_named_together():
    bad = LEAST | {
        "sizes": [0, "many"],
        "curves": [{"start": "a", "points": [{"train_size": 5, "estimate": "high"}]}],
        "runs": [
            {"id": "r", "start": "a", "model": "m", "train_size": 1, "seed": 0, "status": "?"}
        ],
    }
    with pytest.raises(ReportError) as caught:
        parse_comparison(bad, "here")
    text = str(caught.value)
    for key in (
        "sizes.0",
        "sizes.1",
        "curves.0.model",
        "curves.0.points.0.estimate",
        "runs.0.status",
    ):
        assert f"- {key}: " in text
    assert "(5 faults)" in text
    assert "found 'high'" in text
    assert "Run `voxgraft compare` again" in text


def test_null_and_nan_are_read_as_absent():
    made = LEAST | {"answer": None, "runs": None, "curves": [
        {"start": "a", "model": "m", "points": [{"train_size": 5, "estimate": float("nan")}]}
    ]}  # fmt: skip
    parsed = parse_comparison(made, "here")
    assert parsed.answer == ""
    assert parsed.runs == []
    assert parsed.curves[0].points[0].estimate is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
PLACES = [
    ("task", "unit"), ("runs", 0), ("runs", 0, "metrics"), ("runs", 0, "train_size"), ("sizes",),
    ("curves", 0, "points"), ("curves", 0, "points", 0, "values"), ("data",), ("data", "sites"),
    ("data", "splits"), ("starts", 0, "graft"), ("starts", 0, "graft", "fresh"), ("differences", 0),
    ("starts", 0, "graft", "parity"), ("trials", 0, "grid"), ("examples", 0), ("cost", 0),
    ("baselines", 0, "estimate"), ("environment",), ("seeds",), ("label_savings", 0, "needed"),
]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(PLACES), value=json_values)
def test_any_value_anywhere_is_summarized_or_refused(place, value, reported):
    _, made = reported("binary")
    changed = json.loads(json.dumps(made))
    changed["starts"][0]["graft"] = {"source": "s", "fresh": [], "parity": {}}
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    try:
        assert plain_text_summary(changed).endswith("\n")
    except ReportError as error:
        refusal = str(error)
        assert str(place[0]) in refusal


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(PLACES), value=json_values)
def test_any_value_anywhere_gives_a_page_or_is_refused(place, value, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    changed = LEAST | {
        "runs": [{"id": "r", "start": "a", "model": "m", "train_size": 5, "seed": 0,
                  "status": "finished", "metrics": {"auroc": 0.5}}],
        "curves": [{"start": "a", "model": "m", "points": [
            {"train_size": 5, "estimate": 0.5, "low": 0.4, "high": 0.6, "values": [0.5]}]}],
        "differences": [{"model": "m", "train_size": 5, "start": "a", "against": "b",
                         "estimate": 0.1, "low": 0.0, "high": 0.2}],
        "data": {"splits": {"test": {"patients": 3}}}, "sizes": [5], "seeds": [0],
        "starts": [{"name": "a", "graft": {"source": "s", "fresh": [], "parity": {}}}],
        "trials": [{"start": "a", "model": "m", "grid": [0.1], "values": [0.5]}],
        "examples": [{"case_id": "c"}], "cost": [{"start": "a", "model": "m"}],
        "baselines": [{"name": "b", "estimate": 0.5}],
        "label_savings": [{"model": "m", "start": "a", "against": "b", "needed": 3}],
    }  # fmt: skip
    changed = json.loads(json.dumps(changed))
    inner = changed
    for step in place[:-1]:
        inner = inner.setdefault(step, {}) if isinstance(step, str) else inner[step]
    inner[place[-1]] = value
    (folder / "comparison.json").write_text(json.dumps(changed))
    try:
        assert write_report(folder).stat().st_size > 1000
    except ReportError as error:
        refusal = str(error)
        assert str(place[0]) in refusal
