"""Losses reckoned tile by tile: value, gradient and zeros of the plain ones, less memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.planning.live_memory import LiveMemory
from voxgraft.tasks.segmentation import tiles
from voxgraft.tasks.segmentation.loss import crop_loss
from voxgraft.tasks.segmentation.sigmoid_loss import SigmoidLoss
from voxgraft.tasks.segmentation.softmax_loss import SoftmaxLoss

FORMS = pytest.mark.parametrize("overlapping", [False, True])


def apply(logits, labels, known, focus, overlapping):
    return (SigmoidLoss if overlapping else SoftmaxLoss).apply(logits, labels, known, focus)


def value_and_gradient(function, logits):
    logits = logits.detach().clone().requires_grad_()
    value = function(logits)
    (3.0 * value).backward()
    return value.detach(), logits.grad


def example(seed, size, classes, layers, overlapping, *, unknown=0.4, ignored=0.2, batch=3):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes + (not overlapping), *size, generator=generator)
    shape = (batch, layers, *size)
    labels = torch.randint(0, classes + 1, shape, generator=generator).to(torch.int16)
    here = torch.rand((batch, *size), generator=generator) < ignored
    labels[:, 0][here] = -1
    labels[:, 1:][here[:, None].expand(-1, layers - 1, -1, -1, -1)] = 0
    known = torch.rand(batch, classes, generator=generator) >= unknown
    return logits, labels, known


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(*[st.integers(1, 6)] * 3),
    classes=st.integers(1, 9),
    layers=st.integers(1, 3),
    focus=st.sampled_from([0.0, 2.0]),
    overlapping=st.booleans(),
    unknown=st.sampled_from([0.0, 0.5, 1.0]),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    values=st.sampled_from([1, 7, 40, 2**17]),
)
def test_value_and_gradient_are_autograds(
    plain, seed, size, classes, layers, focus, overlapping, unknown, ignored, values
):
    logits, labels, known = example(
        seed, size, classes, layers, overlapping, unknown=unknown, ignored=ignored
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "CPU_VALUES", values)
        found = value_and_gradient(lambda x: apply(x, labels, known, focus, overlapping), logits)
    written = plain.sigmoids if overlapping else plain.softmax
    expected = value_and_gradient(lambda x: written(x, labels, known, focus), logits)
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=1e-5)
    assert (found[1][expected[1] == 0] == 0).all()
    first = 0 if overlapping else 1
    assert (found[1][:, first:][~known] == 0).all()


@FORMS
@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_the_gradient_is_that_of_differences(overlapping, focus):
    logits, labels, known = example(0, (2, 2, 3), 3, 2, overlapping, batch=2, unknown=0.0)
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: apply(x, labels, known, focus, overlapping), (logits,), eps=1e-6, atol=1e-6
    )


@FORMS
@pytest.mark.parametrize("layout", ["channels_last", "cut", "expanded"])
def test_logits_may_lie_in_memory_as_they_like(plain, overlapping, layout):
    logits, labels, known = example(1, (4, 5, 6), 3, 1, overlapping)
    written = plain.sigmoids if overlapping else plain.softmax
    if layout == "expanded":
        logits = logits[:1].expand(3, -1, -1, -1, -1)
    other = logits
    if layout == "channels_last":
        other = logits.contiguous(memory_format=torch.channels_last_3d)
    if layout == "cut":
        other = torch.nn.functional.pad(logits, (0, 2, 0, 1, 0, 3))[..., :4, :5, :6]
        assert not other.is_contiguous()
    leaf = other.detach().requires_grad_()
    apply(leaf, labels, known, 0.0, overlapping).backward()
    expected = value_and_gradient(lambda x: written(x, labels, known, 0.0) / 3, logits)
    torch.testing.assert_close(leaf.grad, expected[1], atol=1e-6, rtol=1e-5)


@FORMS
def test_half_precision_gets_a_half_precise_gradient(plain, overlapping):
    logits, labels, known = example(2, (4, 5, 6), 3, 1, overlapping)
    half = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(
            lambda x: apply(x, labels, known, 0.0, overlapping), half
        )
    written = plain.sigmoids if overlapping else plain.softmax
    expected = value_and_gradient(lambda x: written(x.float(), labels, known, 0.0), half)
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1])


@FORMS
@pytest.mark.parametrize("kind", ["dice_ce", "dice_focal"])
def test_beside_the_logits_memory_holds_little_more_than_their_gradient(
    plain, overlapping, kind, monkeypatch
):
    """Twice the logits, these included, and some 20 tiles, which are small beside real crops."""
    monkeypatch.setattr(tiles, "CPU_VALUES", 2**12)
    logits, labels, known = example(3, (24, 24, 24), 7, 1, overlapping, batch=2)
    logits.requires_grad_()
    whole = 4 * logits.numel()

    def taken(function) -> float:
        with LiveMemory() as live:
            live.count(logits)
            torch.autograd.grad(function(), logits)
        return live.peak_bytes / whole

    ours = taken(lambda: crop_loss(logits, labels, known, kind=kind, overlapping=overlapping))
    assert ours < 2 + 25 * 4 * 2**12 / whole < 2.6
    written = plain.sigmoids if overlapping else plain.softmax
    assert taken(lambda: written(logits, labels, known, 2.0 * (kind == "dice_focal"))) > 3 * ours


def test_tiles_are_a_partition():
    for size in [(1, 1, 1), (5, 7, 3), (2, 300, 5)]:
        like = torch.zeros(1, 1, 1, 1, 1).expand(1, 1, *size)
        for channels in (1, 50, 10**6):
            seen = torch.zeros(size, dtype=torch.long)
            for depth, height in tiles.tiles(like, channels):
                seen[depth, height] += 1
            assert (seen == 1).all()


def test_channels_are_grouped_with_their_neighbors_alone():
    like = torch.zeros(1, 1, 1, 1, 1).expand(1, 5, 2, 2, 2**15 // 4)  # four fit
    groups = list(tiles.channel_groups([True, True, False, *[True] * 6, False], like))
    assert [(group.start, group.stop) for group in groups] == [(0, 2), (3, 7), (7, 9)]
    assert list(tiles.channel_groups([False, False], like)) == []
