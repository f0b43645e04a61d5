"""A conversion accounts for every tensor, or raises one error that names all that it cannot."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.errors import ConversionError, GraftError
from voxgraft.weights import (
    Cast,
    Drop,
    FoldChannels,
    Fresh,
    GraftReport,
    Inflate,
    ReconcileKernel,
    Rename,
    convert,
)
from voxgraft.weights.convert import stage_of


def _source() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv1.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "bn1.weight": torch.randn(4, generator=generator),
        "bn1.running_mean": torch.randn(4, generator=generator),
        "bn1.num_batches_tracked": torch.tensor(5),
        "fc.weight": torch.randn(10, 4, generator=generator),
    }


_TARGETS = {
    "conv1.weight": (4, 1, 3, 3, 3),
    "bn1.weight": (4,),
    "bn1.running_mean": (4,),
    "bn1.num_batches_tracked": (),
}
_RULES = (
    Drop(r"fc\..*", "classifier"),
    FoldChannels({"conv1.weight"}, "sum"),
    Inflate("average"),
)


def test_every_tensor_has_one_verdict_and_coverage_counts_parameters() -> None:
    source = _source()
    result = convert(source, _TARGETS, _RULES, source="s", model="m", method="average")
    report = result.report
    assert report.coverage == 1.0
    assert [verdict["name"] for verdict in report.loaded] == [
        "bn1.weight",
        "bn1.running_mean",
        "bn1.num_batches_tracked",
    ]
    assert report.adapted == (
        {
            "name": "conv1.weight",
            "from": "conv1.weight",
            "how": "3 channels to 1 (sum); inflated (average) to depth 3",
        },
    )
    assert report.dropped == ({"name": "fc.weight", "because": "classifier"},)
    assert report.parameters == {
        "model": 112, "loaded": 4, "adapted": 108, "fresh": 0, "dropped": 40,
    }  # fmt: skip
    assert report.buffers == {"model": 2, "loaded": 2, "adapted": 0, "fresh": 0}
    assert report.coverage_by_stage == {"conv1": 1.0, "bn1": 1.0}
    expected = source["conv1.weight"].sum(1, keepdim=True).unsqueeze(2).expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(result.state["conv1.weight"], expected / 3)


def test_the_result_shares_no_memory_and_the_source_is_untouched() -> None:
    source = _source()
    before = {name: tensor.clone() for name, tensor in source.items()}
    result = convert(source, _TARGETS, _RULES)
    for tensor in result.state.values():
        assert tensor.is_contiguous()
        if tensor.ndim:
            tensor.zero_()
    assert all(torch.equal(source[name], before[name]) for name in before)


def test_all_faults_come_in_one_error_with_shapes_and_near_names() -> None:
    source = _source()
    source["bn1.wieght"] = source.pop("bn1.weight")
    source["bn1.running_mean"] = torch.ones(5)
    source["extra"] = torch.ones(2)
    targets = {**_TARGETS, "conv2.weight": (3, 2)}
    source["conv2.weight"] = torch.ones(2, 3)
    with pytest.raises(GraftError) as caught:
        convert(source, targets, _RULES, source="a.b", model="net_3d")
    text = str(caught.value)
    assert text.startswith("tensors of 'a.b' and 'net_3d' are unexplained (5 faults):")
    for line in (
        "bn1.weight expects (4,), found nothing of that name in the source; "
        "the nearest that is not used is bn1.wieght (4,)",
        "bn1.running_mean expects (4,), found (5,)",
        "conv2.weight expects (3, 2), found (2, 3); it seems transposed",
        "bn1.wieght (4,) has no place in the model; the nearest that has no source is bn1.weight",
        "extra (2,) has no place in the model",
        "Nothing was loaded.",
        "Drop(reason), Fresh(reason)",
    ):
        assert line in text, line


def test_a_missing_rule_is_named_by_the_shapes() -> None:
    with pytest.raises(GraftError, match=r"conv1.weight expects \(4, 1, 3, 3, 3\), found \(4, 3,"):
        convert(_source(), _TARGETS, (Drop(r"fc\..*", "classifier"),))
    with pytest.raises(GraftError, match=r"found \(4, 3, 3, 3\) after: inflated \(average\)"):
        convert(_source(), _TARGETS, (Drop(r"fc\..*", "classifier"), Inflate("average")))


def test_a_rule_that_cannot_be_applied_is_a_fault_of_its_tensor() -> None:
    targets = {**_TARGETS, "conv1.weight": (4, 1, 4, 3, 3)}
    with pytest.raises(
        GraftError, match=r"conv1.weight: a 2D kernel cannot be inflated to a depth"
    ):
        convert(_source(), targets, _RULES)
    rules = (*_RULES[:2], Inflate("center", patches={"conv1.weight"}))
    assert convert(_source(), targets, rules).report.coverage == 1.0


def test_rename_and_drop_act_in_their_order_and_collisions_are_faults() -> None:
    source = {"a.x": torch.ones(1), "b.x": torch.zeros(1)}
    with pytest.raises(GraftError, match=r"b.x and a.x of the source both become c.x"):
        convert(source, {"c.x": (1,)}, (Rename(r"^[ab]\.", "c."),))
    rules = (Drop(r"a\..*", "not this"), Rename(r"^[ab]\.", "c."))
    result = convert(source, {"c.x": (1,)}, rules)
    assert result.report.loaded == ({"name": "c.x", "from": "b.x"},)
    with pytest.raises(GraftError, match=r"c.x \(a.x in the source\) \(1,\) has no place"):
        convert(source, {"d": (1,)}, (Drop("b.x", "no"), Rename("^a", "c")))


def test_fresh_is_reported_and_the_unused_source_tensor_too() -> None:
    rules = (*_RULES, Fresh("bn1.weight", "another normalization"))
    report = convert(_source(), _TARGETS, rules).report
    assert report.fresh == ({"name": "bn1.weight", "because": "another normalization"},)
    assert {"name": "bn1.weight", "because": "the model's bn1.weight is fresh: another "
            "normalization"} in report.dropped  # fmt: skip
    assert report.coverage == pytest.approx(108 / 112)
    assert report.coverage_by_stage["bn1"] == 0.0


def test_counters_may_be_absent_on_either_side() -> None:
    source, targets = _source(), dict(_TARGETS)
    del source["bn1.num_batches_tracked"]
    fresh = convert(source, targets, _RULES).report.fresh
    assert fresh[0]["name"] == "bn1.num_batches_tracked"
    del targets["bn1.num_batches_tracked"]
    dropped = convert(_source(), targets, _RULES).report.dropped
    assert "bn1.num_batches_tracked" in {verdict["name"] for verdict in dropped}


def test_kernels_of_other_sizes_are_cut_padded_or_resampled() -> None:
    kernel = torch.arange(25.0).view(1, 1, 5, 5)
    cut = convert({"w": kernel}, {"w": (1, 1, 3, 3)}, (ReconcileKernel("w"),))
    assert torch.equal(cut.state["w"], kernel[..., 1:4, 1:4])
    assert cut.report.adapted[0]["how"] == "kernel 5×5 to 3×3 (center)"
    padded = convert({"w": kernel}, {"w": (1, 1, 7, 7)}, (ReconcileKernel(".*"),)).state["w"]
    assert torch.equal(padded[..., 1:6, 1:6], kernel)
    assert padded.sum() == kernel.sum()
    resampled = convert({"w": kernel}, {"w": (1, 1, 4, 2)}, (ReconcileKernel("w", "resample"),))
    torch.testing.assert_close(resampled.state["w"].sum(), kernel.sum())
    with pytest.raises(GraftError, match="a kernel of 5×5 has no middle of 4×4"):
        convert({"w": kernel}, {"w": (1, 1, 4, 4)}, (ReconcileKernel("w"),))


def test_cast_is_recorded() -> None:
    state = {"w": torch.ones(2, dtype=torch.float64)}
    result = convert(state, {"w": (2,)}, (Cast(),))
    assert result.state["w"].dtype == torch.float32
    assert result.report.adapted[0]["how"] == "float64 to float32"


def test_rules_that_make_no_sense_raise() -> None:
    with pytest.raises(ConversionError, match=r"a Drop rule for 'x' has no reason"):
        Drop("x", " ")
    with pytest.raises(ConversionError, match="no regular expression"):
        convert({"a": torch.ones(1)}, {}, (Drop("(", "because"),))
    with pytest.raises(ConversionError, match=r"cannot replace"):
        convert({"a": torch.ones(1)}, {}, (Rename("a", r"\3"),))


def test_stages() -> None:
    names = ("conv_stem.weight", "blocks.3.0.bn1.weight", "layer1.0.conv1.weight", "weight")
    assert [stage_of(name) for name in names] == ["conv_stem", "blocks.3", "layer1.0", "weight"]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_verdicts_partition_both_sides(data: st.DataObject) -> None:
    names = [f"n{i}.weight" for i in range(8)]
    have = data.draw(st.sets(st.sampled_from(names)))
    want = data.draw(st.sets(st.sampled_from(names)))
    dropped = data.draw(st.sets(st.sampled_from(names)))
    fresh = data.draw(st.sets(st.sampled_from(names)))
    rules = [Drop(name, "d") for name in dropped] + [Fresh(name, "f") for name in fresh]
    state = {name: torch.ones(2) for name in names if name in have}
    targets = {name: (2,) for name in names if name in want}
    explained = (have - dropped) <= want and (want - fresh) <= (have - dropped)
    if not explained:
        with pytest.raises(GraftError) as caught:
            convert(state, targets, rules)
        for name in (have - dropped - want) | (want - fresh - (have - dropped)):
            assert name in str(caught.value)
        return
    result = convert(state, targets, rules)
    report = result.report
    used = {v["from"] for v in (*report.loaded, *report.adapted)}
    left = {v["name"] for v in report.dropped}
    assert used | left == have
    assert not used & left
    held = [v["name"] for v in (*report.loaded, *report.adapted, *report.fresh)]
    assert sorted(held) == sorted(want)
    assert set(result.state) == want - fresh
    assert report.coverage == (len(want - fresh) / len(want) if want else 0.0)


def test_report_travels_through_json() -> None:
    report = convert(_source(), _TARGETS, _RULES, source="s", model="m", method="average").report
    plain = json.loads(json.dumps(report.to_dict()))
    keys = ("source", "model", "method", "coverage", "loaded", "adapted", "fresh", "dropped")
    assert set(plain) >= {*keys, "unexplained", "parity"}
    assert set(plain["parity"]) >= {"max_abs_error", "tolerance", "where"}
    assert plain["unexplained"] == []
    assert GraftReport.from_dict(plain) == report
    summary = report.summary()
    assert "coverage   100.0% of 112 parameters" in summary
    assert "because    classifier" in summary
    with pytest.raises(GraftError, match="a graft report cannot be read"):
        GraftReport.from_dict({**plain, "unknown": 1})
    changed = dataclasses.replace(report, coverage=0.5)
    assert GraftReport.from_dict(changed.to_dict()).coverage == 0.5


@pytest.mark.parametrize("kind", [torch.int64, torch.int8, torch.bool])
def test_whole_numbers_are_no_weights(kind: torch.dtype) -> None:
    state = {"a": torch.ones(2).to(kind), "b.running_mean": torch.ones(2).to(kind)}
    targets = dict.fromkeys(state, (2,)) | {"index": (3,)}
    with pytest.raises(GraftError, match=r"2 faults(.|\n)*a holds \w+, expected floating point"):
        convert({**state, "index": torch.arange(3)}, targets, buffers=["index", "b.running_mean"])
