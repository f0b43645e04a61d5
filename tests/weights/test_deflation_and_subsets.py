"""The way back from 3D kernels to 2D ones, and parts of larger networks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from voxgraft.errors import ConversionError
from voxgraft.weights.convert import (
    INFLATIONS,
    Deflate,
    Subset,
    TakeChannels,
    block_rules,
    convert,
    deflate_kernel,
    inflate_kernel,
)
from voxgraft.weights.convert.subset import kept

_SEEDS = st.integers(0, 2**31)


def _random(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(INFLATIONS), st.sampled_from([1, 3, 5]), st.integers(1, 17), _SEEDS)
def test_the_sum_undoes_every_inflation(method, depth, channels, seed) -> None:
    kernel = _random(seed, 4, channels, 3, 2)
    torch.testing.assert_close(deflate_kernel(inflate_kernel(kernel, depth, method), "sum"), kernel)
    back = deflate_kernel(inflate_kernel(kernel, depth, "center"), "center")
    assert torch.equal(back, kernel)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), _SEEDS)
def test_a_flat_kernel_responds_as_the_3d_kernel_does(depth, seed) -> None:
    kernel, image = _random(seed, 3, 2, depth, 3, 3), _random(seed + 1, 1, 2, 6, 6)
    volume = image.unsqueeze(2).expand(-1, -1, depth, -1, -1)
    expected = functional.conv3d(volume, kernel).squeeze(2)
    torch.testing.assert_close(functional.conv2d(image, deflate_kernel(kernel, "sum")), expected)
    alone = torch.zeros(1, 2, depth, 6, 6, dtype=torch.float64)
    alone[:, :, depth // 2] = image
    expected = functional.conv3d(alone, kernel).squeeze(2)
    torch.testing.assert_close(functional.conv2d(image, deflate_kernel(kernel, "center")), expected)


def test_deflation_in_a_conversion() -> None:
    state = {"a.weight": torch.ones(2, 1, 3, 5, 5), "a.bias": torch.zeros(2)}
    converted = convert(state, {"a.weight": (2, 1, 5, 5), "a.bias": (2,)}, [Deflate("sum")])
    assert converted.state["a.weight"].unique().tolist() == [3.0]
    assert converted.report.adapted[0]["how"] == "deflated (sum) from depth 3"
    with pytest.raises(ConversionError, match="expected a 3D kernel"):
        deflate_kernel(torch.ones(2, 1, 5, 5), "sum")
    with pytest.raises(ConversionError, match="no deflation is called 'mean'"):
        deflate_kernel(torch.ones(2, 1, 1, 5, 5), "mean")


@settings(deadline=None)
@given(st.integers(1, 60), st.data(), st.sampled_from(["first", "uniform", "spread"]))
def test_what_is_kept(count, data, choice) -> None:
    wanted = data.draw(st.integers(1, count))
    chosen = kept(count, wanted, choice)
    assert len(set(chosen)) == wanted
    assert chosen == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < count
    if choice == "spread" and wanted > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
    if count == wanted:
        assert chosen == list(range(count))


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_uniform_channels_of_concatenated_parts_are_those_of_each_part(parts, wanted, data) -> None:
    """As query, key and value in one matrix, or the heads in each."""
    count = data.draw(st.integers(wanted, 12))
    each = kept(count, wanted, "uniform")
    together = kept(parts * count, parts * wanted, "uniform")
    assert together == [part * count + index for part in range(parts) for index in each]


def test_kept_by_hand() -> None:
    assert kept(6, 2, "first") == [0, 1]
    assert kept(6, 3, "uniform") == [0, 2, 4]
    assert kept(6, 3, "spread") == [0, 2, 5]
    assert kept(5, 1, "spread") == [0]
    with pytest.raises(ConversionError, match="7 of 6 cannot be kept"):
        kept(6, 7, "first")
    with pytest.raises(ConversionError, match="takes blocks 'last'"):
        Subset(blocks="last")


def test_channels_of_every_tensor_go_together() -> None:
    state = {
        "conv.weight": _random(0, 8, 6, 3, 3),
        "bn.weight": _random(1, 8),
        "bn.running_var": _random(2, 8),
        "fc.weight": _random(3, 5, 8),
        "token": _random(4, 1, 7, 8),
    }
    targets = {"conv.weight": (4, 6, 3, 3), "bn.weight": (4,), "bn.running_var": (4,),
               "fc.weight": (5, 4), "token": (1, 7, 4)}  # fmt: skip
    for choice, index in (("uniform", [0, 2, 4, 6]), ("first", [0, 1, 2, 3])):
        found = convert(state, targets, [TakeChannels(choice)])
        assert torch.equal(found.state["conv.weight"], state["conv.weight"][index])
        assert torch.equal(found.state["bn.running_var"], state["bn.running_var"][index])
        assert torch.equal(found.state["fc.weight"], state["fc.weight"][:, index])
        assert torch.equal(found.state["token"], state["token"][..., index])
        hows = {verdict["name"]: verdict["how"] for verdict in found.report.adapted}
        assert hows["fc.weight"] == f"{choice} 4 of 8 along axis 1"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 13), st.data(), st.sampled_from(["first", "spread"]))
def test_blocks_keep_their_order_and_all_else_is_accounted_for(count, data, choice) -> None:
    wanted = data.draw(st.integers(1, count))
    state = {f"net.blocks.{i}.{n}": torch.tensor([float(i)]) for i in range(count) for n in "ab"}
    state["net.other.0.a"] = torch.tensor([-1.0])
    targets = {f"net.blocks.{i}.{n}": (1,) for i in range(wanted) for n in "ab"}
    targets["net.other.0.a"] = (1,)
    found = convert(state, targets, block_rules(state, targets, choice))
    chosen = [int(found.state[f"net.blocks.{i}.b"]) for i in range(wanted)]
    assert chosen == kept(count, wanted, choice)
    assert len(found.report.dropped) == 2 * (count - wanted)
    assert not found.report.fresh


def test_blocks_that_are_missing_are_refused() -> None:
    with pytest.raises(ConversionError, match="layer1 has 2 blocks in the model and 1 in the"):
        block_rules({"layer1.0.a"}, {"layer1.0.a", "layer1.1.a"}, "first")
