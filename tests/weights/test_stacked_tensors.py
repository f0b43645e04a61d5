"""Tensors that lie in parts in a file, or with other axes of length 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from voxgraft.errors import ConversionError, GraftError
from voxgraft.weights.convert import Drop, FoldChannels, Fresh, Join, Rename, UnitAxes, convert
from voxgraft.weights.parity import changed_tensors

QKV = Join((r"(.*)\.q\.(\w+)", r"(.*)\.k\.(\w+)", r"(.*)\.v\.(\w+)"), r"\1.qkv.\2")


def _state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    # Out of order on purpose: the rule's order counts, not the file's.
    state = {f"old.{part}.weight": torch.randn(2, 4, generator=generator) for part in "vqk"}
    return {**state, "old.proj.weight": torch.randn(4, 2, generator=generator)}


TARGETS = {"new.qkv.weight": (6, 4), "new.proj.weight": (4, 2)}


def test_parts_are_stacked_in_the_rules_order_and_accounted_for() -> None:
    state = _state()
    result = convert(state, TARGETS, [QKV, Rename("^old", "new")])
    expected = torch.cat([state[f"old.{part}.weight"] for part in "qkv"])
    assert torch.equal(result.state["new.qkv.weight"], expected)
    (verdict,) = result.report.adapted
    assert verdict["from"] == "old.q.weight + old.k.weight + old.v.weight"
    assert verdict["how"] == "stacked of 3 tensors"
    assert result.report.coverage == 1.0
    assert not changed_tensors(result.state, state, result.report.adapted)
    result.state["new.qkv.weight"][5, 3] += 1
    assert changed_tensors(result.state, state, result.report.adapted) == ["new.qkv.weight"]


def test_a_missing_part_and_unequal_parts_are_named() -> None:
    state = _state()
    del state["old.k.weight"]
    with pytest.raises(GraftError) as caught:
        convert(state, TARGETS, [Rename("^old", "new"), QKV])
    assert "new.qkv.weight is stacked of 3 tensors, found old.q.weight (2, 4), " in str(
        caught.value
    )
    state = {**_state(), "old.k.weight": torch.ones(2, 5)}
    with pytest.raises(GraftError, match=r"found .*old\.k\.weight \(2, 5\)"):
        convert(state, TARGETS, [Rename("^old", "new"), QKV])


def test_a_whole_that_is_there_twice_is_a_fault() -> None:
    state = {**_state(), "old.qkv.weight": torch.ones(6, 4)}
    with pytest.raises(GraftError, match=r"of the source both become new\.qkv\.weight"):
        convert(state, TARGETS, [Rename("^old", "new"), QKV])
    state = {**_state(), "also.q.weight": torch.ones(2, 4)}
    with pytest.raises(GraftError, match=r"also\.q\.weight and old\.q\.weight .* both become"):
        convert(state, TARGETS, [Rename("^(old|also)", "new"), QKV])


def test_a_fresh_or_dropped_whole_accounts_for_every_part() -> None:
    state = _state()
    rules = [Rename("^old", "new"), QKV]
    result = convert(state, TARGETS, [*rules, Fresh(r"new\.qkv\.weight", "to be learned")])
    assert len(result.report.dropped) == 3
    assert "new.qkv.weight" not in result.state
    result = convert(state, {"new.proj.weight": (4, 2)}, [*rules, Drop(".*qkv.*", "not wanted")])
    assert len(result.report.dropped) == 3


def test_a_bad_pattern_is_said() -> None:
    with pytest.raises(ConversionError, match="is no regular expression"):
        convert(_state(), TARGETS, [Join(("(", "b"), "c")])


def test_axes_of_length_one() -> None:
    state = {"kernel": torch.randn(4, 3, 2, 2), "token": torch.randn(1, 1, 5)}
    rules = [FoldChannels({"kernel"}, "sum"), UnitAxes()]
    result = convert(state, {"kernel": (4, 3, 1, 2, 2), "token": (5,)}, rules)
    assert torch.equal(result.state["kernel"], state["kernel"].unsqueeze(2))
    assert torch.equal(result.state["token"], state["token"].flatten())
    assert result.report.adapted[1]["how"] == "axes of length 1: 1×1×5 to 5"
    assert not changed_tensors(result.state, state, result.report.adapted)
    folded = convert(state, {"kernel": (4, 1, 1, 2, 2), "token": (5,)}, rules)
    expected = state["kernel"].sum(1, keepdim=True).unsqueeze(2)
    torch.testing.assert_close(folded.state["kernel"], expected)
    with pytest.raises(GraftError, match=r"kernel expects \(4, 3, 2, 2, 2\)"):
        convert(state, {"kernel": (4, 3, 2, 2, 2), "token": (5,)}, rules)
