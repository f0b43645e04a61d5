"""Tables of positions and patch kernels between grids: what must stay, and what the report says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import resample_abs_pos_embed
from torch import Tensor
from torch.nn import functional

from voxgraft.errors import ConversionError, GraftError
from voxgraft.positions import cubic_grid, resize_table, square_grid
from voxgraft.weights.convert import (
    DeepenCoordinates,
    FlattenPositions,
    Inflate,
    ResizePatch,
    ResizePositions,
    ResizeRelativePositions,
    convert,
    resize_patch,
)

_SIDES = st.integers(1, 6)
_GRIDS = st.tuples(st.integers(1, 4), _SIDES, _SIDES)
_SEEDS = st.integers(0, 2**31)


def _noise(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def _places(grid: tuple[int, ...]) -> int:
    return int(torch.tensor(grid).prod())


@settings(max_examples=40, deadline=None)
@given(_GRIDS, _SEEDS)
def test_the_same_grid_keeps_every_bit(grid: tuple[int, int, int], seed: int) -> None:
    table = _noise(seed, _places(grid), 3)
    assert resize_table(table, grid, grid) is table
    # From an image, too: every plane has the table of the image.
    plane = table[: grid[1] * grid[2]]
    volume = resize_table(plane, grid[1:], grid)
    assert torch.equal(volume.view(grid[0], -1, 3), plane.expand(grid[0], -1, -1))


@settings(max_examples=40, deadline=None)
@given(_GRIDS, _GRIDS, st.floats(-3, 3), st.sampled_from(["bicubic", "bilinear"]))
def test_a_constant_stays_constant(
    old: tuple[int, int, int], new: tuple[int, int, int], value: float, how: str
) -> None:
    table = torch.full((_places(old), 2), value)
    found = resize_table(table, old, new, how)
    assert found.shape == (_places(new), 2)
    torch.testing.assert_close(found, torch.full_like(found, value))


@settings(max_examples=25, deadline=None)
@given(_GRIDS, _GRIDS, _SEEDS)
def test_planes_are_those_that_timm_resamples(
    old: tuple[int, int, int], new: tuple[int, int, int], seed: int
) -> None:
    table = _noise(seed, old[1] * old[2], 4)
    new = (new[0], new[1], max(new[2], 2))  # see test_one_column_is_one_row_turned
    expected = resample_abs_pos_embed(
        table.unsqueeze(0), list(new[1:]), list(old[1:]), num_prefix_tokens=0
    )[0]
    for plane in resize_table(table, old[1:], new).view(new[0], -1, 4):
        torch.testing.assert_close(plane, expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(_SIDES, _SIDES, _SIDES, _SEEDS)
def test_one_column_is_one_row_turned(height: int, width: int, new: int, seed: int) -> None:
    """PyTorch's own interpolation to one column repeats its first value."""
    table = _noise(seed, height * width, 4)
    turned = table.view(height, width, 4).transpose(0, 1).reshape(-1, 4)
    column = resize_table(table, (height, width), (1, new, 1))
    row = resize_table(turned, (width, height), (1, 1, new))
    torch.testing.assert_close(column, row)
    if (height, width) == (2, 1) and new > 1:
        assert not torch.equal(column[0], column[-1])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), _SEEDS)
def test_depth_is_interpolated_linearly_and_planes_apart(old: int, new: int, seed: int) -> None:
    """A table that rises along depth, by another implementation of linear interpolation."""
    table = _noise(seed, old * 6, 2)
    found = resize_table(table, (old, 2, 3), (new, 2, 3)).view(new, 6, 2)
    lines = table.view(old, 6, 2).permute(1, 2, 0)
    if new >= old:
        expected = functional.interpolate(lines, new, mode="linear").permute(2, 0, 1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    else:
        rows = table.view(old, 6, 2)
        kernel = [
            functional.interpolate(
                rows[:, place].t()[None, :, None], (1, new), mode="bilinear", antialias=True
            )[0, :, 0].t()
            for place in range(6)
        ]
        torch.testing.assert_close(found, torch.stack(kernel, dim=1))
    assert found.min() >= table.min() - 1e-6
    assert found.max() <= table.max() + 1e-6


def test_half_precision_stays_half_precision() -> None:
    table = _noise(0, 16, 2).half()
    assert resize_table(table, (4, 4), (2, 3, 3)).dtype == torch.float16


def test_grids_are_told_from_numbers_of_places() -> None:
    assert [square_grid(n) for n in (0, 1, 196, 197)] == [None, (1, 1), (14, 14), None]
    assert [cubic_grid(n) for n in (0, 1, 343, 344)] == [None, (1, 1, 1), (7, 7, 7), None]


def _resized(rule, tensor: Tensor, shape: tuple[int, ...], name: str = "pos_embed"):
    converted = convert({name: tensor}, {name: shape}, [rule])
    report = converted.report
    how = report.adapted[0]["how"] if report.adapted else "loaded"
    return converted.state[name], how


def test_class_token_and_registers_keep_their_rows() -> None:
    table = _noise(1, 1, 5 + 196, 8)
    rule = ResizePositions(name="pos_embed", grid=(2, 7, 7), prefix=5, image=True)
    found, how = _resized(rule, table, (1, 5 + 98, 8))
    assert how == "positions 14×14 to 2×7×7 (interpolated)"
    assert torch.equal(found[:, :5], table[:, :5])
    expected = resize_table(table[0, 5:], (14, 14), (2, 7, 7))
    assert torch.equal(found[0, 5:], expected)


def test_an_image_in_every_plane() -> None:
    table = _noise(1, 1, 1 + 16, 8)
    rule = ResizePositions(name="pos_embed", grid=(3, 4, 4), prefix=1, image=True)
    found, how = _resized(rule, table, (1, 49, 8))
    assert how == "positions 4×4 to 3×4×4 (repeated along depth)"
    assert torch.equal(found[0, 1:].view(3, 16, 8), table[0, 1:].expand(3, -1, -1))


def test_one_plane_of_the_same_size_is_loaded() -> None:
    table = _noise(1, 1, 17, 8)
    rule = ResizePositions(name="pos_embed", grid=(1, 4, 4), prefix=1, image=True)
    assert _resized(rule, table, (1, 17, 8))[1] == "loaded"


def test_as_many_places_on_another_grid_are_not_taken_for_the_same() -> None:
    """An image of 6 by 6 has as many tokens as a plane of 4 by 9: they are not the same places."""
    table = _noise(1, 1, 36, 8)
    rule = ResizePositions(name="pos_embed", grid=(1, 4, 9), image=True)
    found, how = _resized(rule, table, (1, 36, 8))
    assert how == "positions 6×6 to 1×4×9 (interpolated)"
    assert not torch.equal(found, table)


def test_volumes_between_sizes() -> None:
    table = _noise(1, 1 + 343, 8)
    rule = ResizePositions(name="pos_embed", grid=(4, 5, 6), prefix=1)
    found, how = _resized(rule, table, (121, 8))
    assert how == "positions 7×7×7 to 4×5×6 (interpolated)"
    assert torch.equal(found[1:], resize_table(table[1:], (7, 7, 7), (4, 5, 6)))


def test_a_grid_that_is_not_known_must_be_said() -> None:
    table = _noise(1, 1, 1 + 12, 8)
    rule = ResizePositions(name="pos_embed", grid=(2, 3, 4), prefix=1, image=True)
    with pytest.raises(
        GraftError, match=r"12 positions after 1 of other tokens, .* no square grid"
    ):
        _resized(rule, table, (1, 25, 8))
    said = ResizePositions(
        name="pos_embed", grid=(2, 3, 4), prefix=1, image=True, source_grid=(3, 4)
    )
    found, how = _resized(said, table, (1, 25, 8))
    assert how == "positions 3×4 to 2×3×4 (repeated along depth)"
    assert torch.equal(found[0, 1:13], table[0, 1:])
    wrong = ResizePositions(
        name="pos_embed", grid=(2, 3, 4), prefix=1, image=True, source_grid=(5, 4)
    )
    with pytest.raises(GraftError, match=r"12 positions .* but source_grid is 5×4"):
        _resized(wrong, table, (1, 25, 8))


def test_other_channels_are_no_matter_of_positions() -> None:
    rule = ResizePositions(name="pos_embed", grid=(2, 4, 4), image=True)
    with pytest.raises(GraftError, match=r"pos_embed expects \(1, 32, 9\), found \(1, 16, 8\)"):
        _resized(rule, _noise(1, 1, 16, 8), (1, 32, 9))


def _bias(table: Tensor, window: tuple[int, ...]) -> Tensor:
    """Return the bias of each pair of tokens, looked up one by one."""
    places = [tuple(index) for index in torch.ones(window).nonzero().tolist()]
    sizes = [2 * size - 1 for size in window]
    grid = table.view(*sizes, -1)
    rows = [
        grid[tuple(a - b + size - 1 for a, b, size in zip(q, k, window, strict=True))]
        for q in places
        for k in places
    ]
    return torch.stack(rows).view(len(places), len(places), -1)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), _SEEDS)
def test_relative_positions_of_a_plane_hold_between_all_planes(
    depth: int, side: int, seed: int
) -> None:
    table = _noise(seed, (2 * side - 1) ** 2, 2)
    rule = ResizeRelativePositions(name="table", window=(depth, side, side), image=True)
    shape = ((2 * depth - 1) * (2 * side - 1) ** 2, 2)
    found, how = _resized(rule, table, shape, "table")
    same = f"relative positions of windows {side}×{side} to {depth}×{side}×{side}"
    assert how == ("loaded" if depth == 1 else f"{same} (repeated along depth)")
    flat = _bias(table, (side, side))
    deep = _bias(found, (depth, side, side)).view(depth, side**2, depth, side**2, 2)
    for query in range(depth):
        for key in range(depth):
            assert torch.equal(deep[query, :, key], flat)


def test_another_window_keeps_the_middle_and_says_so() -> None:
    table = _noise(2, 13 * 13, 3)
    rule = ResizeRelativePositions(name="table", window=(2, 5, 5), image=True)
    found, how = _resized(rule, table, (3 * 81, 3), "table")
    assert how == "relative positions of windows 7×7 to 2×5×5 (interpolated)"
    assert found.view(3, 9, 9, 3)[0].equal(found.view(3, 9, 9, 3)[2])
    with pytest.raises(GraftError, match="160 offsets, which are those of no square window"):
        _resized(rule, table[:160], (3 * 81, 3), "table")
    said = ResizeRelativePositions(name="table", window=(1, 3, 2), image=True, source_window=(2, 2))
    with pytest.raises(GraftError, match=r"160 offsets, which are not those of a window of 2×2"):
        _resized(said, table[:160], (15, 3), "table")


def test_depth_enters_a_network_of_offsets_with_zeros() -> None:
    weight = _noise(0, 7, 2)
    found, how = _resized(DeepenCoordinates(name="w"), weight, (7, 3), "w")
    assert how == "offsets (h, w) to (d, h, w), depth at zero"
    offsets = _noise(1, 5, 3)
    torch.testing.assert_close(offsets @ found.t(), offsets[:, 1:] @ weight.t())


def test_tables_of_one_plane_are_taken_out_of_those_of_a_volume() -> None:
    offsets = _noise(1, 3 * 5 * 5, 2)
    rule = FlattenPositions(name="t", kind="relative", grid=(2, 3, 3))
    found, how = _resized(rule, offsets, (25, 2), "t")
    assert how == "relative positions of windows 2×3×3 to 3×3 (those of one plane)"
    assert torch.equal(found, offsets.view(3, 25, 2)[1])
    weight = _noise(2, 7, 3)
    layer = FlattenPositions(name="t", kind="coordinates", grid=(2, 3, 3))
    assert torch.equal(_resized(layer, weight, (7, 2), "t")[0], weight[:, 1:])
    table = _noise(3, 1, 2 + 4 * 9, 5)
    rule = FlattenPositions(name="t", kind="absolute", grid=(4, 3, 3), prefix=2)
    found, how = _resized(rule, table, (1, 11, 5), "t")
    assert how == "positions 4×3×3 to 3×3 (those of one plane)"
    assert torch.equal(found[:, :2], table[:, :2])
    planes = table[0, 2:].view(4, 9, 5)
    # One plane of four: 1 - distance / 4 from the middle, at 1.5 and 0.5 planes.
    weights = torch.tensor([0.625, 0.875, 0.875, 0.625]).view(4, 1, 1)
    torch.testing.assert_close(found[0, 2:], (planes * weights / weights.sum()).sum(0))


def _response(kernel: Tensor, patch: Tensor) -> Tensor:
    return (kernel * patch).flatten(1).sum(1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(_SIDES, _SIDES), min_size=2, max_size=3), _SEEDS)
def test_larger_patches_answer_as_the_patches_did(sizes: list[tuple[int, int]], seed: int) -> None:
    """The property that the pseudo-inverse is for: the response to a resized patch is the old."""
    old = [min(pair) for pair in sizes]
    new = [max(pair) for pair in sizes]
    kernel = _noise(seed, 4, 2, *old).double()
    patch = _noise(seed + 1, 1, 2, *old).double()
    mode = "bilinear" if len(old) == 2 else "trilinear"
    larger = functional.interpolate(patch, new, mode=mode)
    found = _response(resize_patch(kernel, new), larger)
    torch.testing.assert_close(found, _response(kernel, patch), rtol=1e-6, atol=1e-8)


def test_smaller_patches_answer_with_the_least_error_over_noise() -> None:
    """Against the normal equations, solved over the resizing of every patch at once."""
    kernel = _noise(3, 2, 1, 6, 4).double()
    basis = torch.eye(24).double().view(24, 1, 6, 4)
    resized = functional.interpolate(basis, (4, 3), mode="bilinear", antialias=True).view(24, 12)
    expected = torch.linalg.lstsq(resized, kernel.view(2, 24).t()).solution.t()
    torch.testing.assert_close(resize_patch(kernel, (4, 3)).view(2, 12), expected)


def test_the_same_patch_keeps_every_bit_and_a_wrong_one_is_refused() -> None:
    kernel = _noise(4, 3, 1, 4, 4)
    assert torch.equal(resize_patch(kernel, (4, 4)), kernel)
    for size in [(4, 4, 4), (4, 0)]:
        with pytest.raises(ConversionError, match="expected a positive size for each axis"):
            resize_patch(kernel, size)


def test_a_patch_is_resized_in_the_plane_and_then_inflated() -> None:
    kernel = _noise(5, 3, 1, 4, 4)
    rules = [ResizePatch({"proj"}), Inflate("average", {"proj"})]
    converted = convert({"proj": kernel}, {"proj": (3, 1, 2, 6, 6)}, rules)
    assert converted.report.adapted[0]["how"] == (
        "patch kernel 4×4 to 6×6 (pseudo-inverse); inflated (average) to depth 2"
    )
    expected = resize_patch(kernel, (6, 6)).unsqueeze(2).expand(-1, -1, 2, -1, -1) / 2
    torch.testing.assert_close(converted.state["proj"], expected)


def test_kernels_that_cut_no_patches_are_not_resized() -> None:
    rules = [ResizePatch({"proj"})]
    with pytest.raises(GraftError, match=r"conv expects \(3, 1, 6, 6\), found \(3, 1, 4, 4\)"):
        convert({"conv": _noise(5, 3, 1, 4, 4)}, {"conv": (3, 1, 6, 6)}, rules)
