"""Sliding windows against MONAI's ``sliding_window_inference``."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from voxgraft.errors import InferenceError
from voxgraft.models import build_segmentation
from voxgraft.sliding.scan_labels import scores, segment_label_map, segment_multilabel
from voxgraft.sliding.sliding_window import Sliding, done_blocks, sliding_window
from voxgraft.sliding.window_buffer import WindowBuffer
from voxgraft.sliding.window_plan import plan_windows
from voxgraft.sliding.window_weights import window_weights


def small_network(outputs: int = 3, channels: int = 1) -> nn.Module:
    """A network that sees beyond a voxel, so that a window's ends and padding matter."""
    torch.manual_seed(0)
    layers = nn.Conv3d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, outputs, 3, padding=1)
    return nn.Sequential(*layers).eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def monai_scores(network: nn.Module, image: Tensor, sliding: Sliding) -> Tensor:
    with torch.inference_mode():
        found = sliding_window_inference(
            image[None],
            sliding.window_size,
            2,
            network,
            overlap=sliding.overlap,
            mode=sliding.weights,
            padding_mode=sliding.padding,
            cval=sliding.padding_value,
        )
    assert isinstance(found, Tensor)
    return found[0]


sizes = st.tuples(*[st.integers(1, 24)] * 3)
windows = st.tuples(*[st.integers(2, 10)] * 3)
overlaps = st.sampled_from([0.0, 0.25, 0.4, 0.5, 0.6, 0.75])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=sizes,
    window=windows,
    overlap=st.one_of(overlaps, st.tuples(overlaps, overlaps, overlaps)),
    weights=st.sampled_from(["gaussian", "constant"]),
    padding=st.sampled_from([("constant", 0.0), ("constant", -1.5), ("replicate", 0.0)]),
    batch_size=st.integers(1, 5),
    strips=st.booleans(),
)
def test_equals_monai(size, window, overlap, weights, padding, batch_size, strips):
    plan = plan_windows(size, window, overlap if isinstance(overlap, tuple) else (overlap,) * 3)
    room = None
    if strips:  # as little as one strip a window of the middle loop takes
        room = max(1, plan.buffer_voxels) * 16
        for _ in range(10):
            try:
                Sliding(window, overlap, max_buffer_bytes=room).plan(size, 3)
            except InferenceError:
                room = int(room * 1.1)
                break
            room = int(room * 0.9)
    sliding = Sliding(
        window,
        overlap,
        weights,
        batch_size=batch_size,
        padding=padding[0],
        padding_value=padding[1],
        max_buffer_bytes=room and room * 2,
    )
    network, image = small_network(), noise(1, *size)
    expected = monai_scores(network, image, sliding)
    torch.testing.assert_close(scores(network, image, sliding), expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(size=sizes, window=windows, overlap=overlaps, share=st.sampled_from([1.0, 0.8, 0.6, 0.5]))
def test_every_voxel_is_done_once_with_weight_and_the_plan_bounds_the_buffer(
    size, window, overlap, share
):
    free = plan_windows(size, window, (overlap,) * 3)
    try:
        room = int(free.buffer_voxels * share)
        plan = plan_windows(size, window, (overlap,) * 3, max_voxels=room)
    except InferenceError:
        return
    assert plan.buffer_voxels <= room
    weights = window_weights(window, "gaussian")
    buffer = WindowBuffer(1, weights, plan.buffer_voxels)
    seen, total, steps = torch.zeros(size), torch.zeros(size), list(plan.steps())
    for step in steps:
        for block in buffer.take(step, torch.ones(1, *window)):
            seen[block.place] += 1
            total[block.place] = block.weights
            torch.testing.assert_close(block.values[0], block.weights)
    assert (seen == 1).all()
    assert (total > 0).all()
    assert buffer.peak_voxels <= plan.buffer_voxels
    assert len(steps) == plan.windows
    assert {step.start for step in steps} == {step.start for step in free.steps()}
    assert free.windows == free.places


@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.75])
def test_a_whole_ct_of_118_classes_fits_in_three_gibibytes(overlap):
    sliding = Sliding((96, 96, 96), overlap)
    plan = sliding.plan((400, 512, 512), 118)
    assert plan.buffer_voxels * 119 * 4 <= 3 * 2**30
    assert plan.windows < 1.5 * plan.places
    if overlap == 0.25:
        assert plan.windows == plan.places == 6 * 7 * 7


def test_a_smaller_scan_of_many_classes_takes_a_share_of_its_scores():
    size, whole = (256, 256, 256), 256**3 * 118 * 4
    for overlap, more in [(0.25, 1), (0.5, 1.4)]:
        sliding = Sliding((96, 96, 96), overlap)
        plan = sliding.plan(size, 118)
        assert plan.buffer_voxels * 119 * 4 < 0.158 * whole
        assert plan.windows == more * plan.places
        assert sliding.plan(size, 32).windows == plan.places  # never for less than 1 GiB
        large = Sliding((96, 96, 96), overlap, max_buffer_bytes=2**40)
        assert large.plan(size, 118).windows == plan.places


def test_the_bound_is_the_peak_where_windows_are_evenly_spaced():
    plan = plan_windows((24, 32, 20), (8, 8, 8), (0.5, 0.5, 0.5))
    buffer = WindowBuffer(1, window_weights((8, 8, 8), "constant"), plan.buffer_voxels)
    for step in plan.steps():
        list(buffer.take(step, torch.ones(1, 8, 8, 8)))
    assert buffer.peak_voxels == plan.buffer_voxels
    # 4 of 8 slices stay over 24 × 20 voxels; of the others 4 rows over 20; of the rest what the
    # next window sees too. What is done never waits.
    assert plan.buffer_voxels == 4 * 24 * 20 + 4 * 4 * 20 + 4 * 4 * 4


def test_batch_size_changes_nothing():
    network, image = small_network(), noise(1, 20, 17, 23)
    one, many = (scores(network, image, Sliding((8, 8, 8), batch_size=n)) for n in (1, 7))
    torch.testing.assert_close(one, many, atol=1e-6, rtol=0)


def test_a_segmentation_network_runs_its_head_once_a_voxel(monkeypatch):
    network = build_segmentation("plain_resnet10_3d", 20, decoder_width=4, seed=0).eval()
    nn.init.normal_(network.head.bias)
    image, sliding = noise(1, 40, 33, 20), Sliding((32, 16, 32), 0.5)
    features: list[int] = []
    original = WindowBuffer.take

    def take(self, step, values):
        features.append(len(values))
        return original(self, step, values)

    monkeypatch.setattr(WindowBuffer, "take", take)
    found = scores(network, image, sliding)
    assert set(features) == {4}  # 20 outputs are made of 4 channels
    expected = monai_scores(network, image, sliding)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(segment_label_map(network, image, sliding), found.argmax(0).byte())


def test_label_map_and_masks_are_those_of_the_scores():
    network, image, sliding = small_network(11), noise(1, 12, 19, 14), Sliding((8, 8, 8), 0.25)
    expected = monai_scores(network, image, sliding)
    labels = segment_label_map(network, image, sliding)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), expected.argmax(0))
    masks = segment_multilabel(network, image, sliding)
    assert masks.bits.shape == (2, 12, 19, 14)
    for index in range(11):
        assert torch.equal(masks.mask(index), expected[index] > 0)
    limits = [0.01 * index for index in range(11)]
    strict = segment_multilabel(network, image, sliding, threshold=limits)
    assert torch.equal(strict.mask(10), expected[10] > 0.1)
    with pytest.raises(InferenceError, match="no class 11"):
        masks.mask(11)
    with pytest.raises(InferenceError, match="2 thresholds"):
        segment_multilabel(network, image, sliding, threshold=[0, 1])
    labels += 1  # ordinary tensors, not of inference mode


def test_more_than_256_classes_take_16_bits():
    network = nn.Conv3d(1, 300, 1).eval()
    image, sliding = noise(1, 6, 6, 6), Sliding((4, 4, 4))
    labels = segment_label_map(network, image, sliding)
    assert labels.dtype == torch.int16
    assert torch.equal(labels.long(), monai_scores(network, image, sliding).argmax(0))


def test_mirroring_is_the_mean_over_all_flips():
    network, image = small_network(), noise(1, 12, 11, 13)
    found = scores(network, image, Sliding((8, 8, 8), mirror=(0, 2)))

    class Mirrored(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return sum(network(x.flip(a)).flip(a) for a in ((), (2,), (4,), (2, 4))) / 4

    expected = monai_scores(Mirrored(), image, Sliding((8, 8, 8)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_background_is_skipped_only_when_asked():
    image = torch.full((1, 8, 8, 24), -1.0)
    image[..., :6] = noise(1, 8, 8, 6)
    shown: list[int] = []

    def predict(x: Tensor) -> Tensor:
        shown.append(len(x))
        return torch.cat([x, x + 1], 1)  # class 1 everywhere

    everything = segment_label_map(predict, image, Sliding((8, 8, 8)))
    assert sum(shown) == 5
    assert (everything == 1).all()
    shown.clear()
    sliding = Sliding((8, 8, 8), batch_size=2, skip_below=-1)
    labels = segment_label_map(predict, image, sliding)
    assert sum(shown) == 2
    assert (labels[..., :12] == 1).all()
    assert (labels[..., 12:] == 0).all()
    values = scores(predict, image, sliding)
    torch.testing.assert_close(values[:1, ..., :12], image[..., :12])
    assert values[..., 12:].isnan().all()
    assert not segment_multilabel(predict, image, sliding, threshold=-9).bits[..., 12:].any()
    nothing = segment_label_map(predict, image, Sliding((8, 8, 8), skip_below=9))
    assert not nothing.any()


def test_blocks_are_small_and_outputs_are_not_kept():
    alive: list[int] = []
    network, image = small_network(), noise(1, 16, 16, 40)

    def predict(x: Tensor) -> Tensor:
        alive.append(len(x))
        return network(x)

    sliding = Sliding((8, 8, 8), 0.5)
    begun = [len(alive) for _ in done_blocks(predict, image, sliding)]
    assert begun[0] < len(alive) / 2  # parts are given before the scan is through
    sliding_window(
        predict, image, sliding, on_block=lambda values, _: alive.append(values.shape[0])
    )
    assert alive[-1] == 3


def test_integers_and_double_precision():
    network, sliding = small_network(), Sliding((8, 8, 8))
    image = torch.arange(9 * 8 * 10).reshape(1, 9, 8, 10) % 7
    assert torch.equal(scores(network, image, sliding), scores(network, image.float(), sliding))
    assert scores(network.double(), image.double(), sliding).dtype == torch.float64


def test_faults():
    image, sliding = noise(1, 8, 8, 8), Sliding((8, 8, 8))
    with pytest.raises(InferenceError, match="9 faults"):
        Sliding(
            (0, 8, 8), 1.0, "flat", 0, 0, (0, 0), "mirror", max_buffer_bytes=0, skip_below=1e999
        )
    with pytest.raises(InferenceError, match=r"shape \(8, 8, 8\)"):
        scores(small_network(), image[0], sliding)
    with pytest.raises(InferenceError, match=r"eval\(\)"):
        scores(small_network().train(), image, sliding)
    with pytest.raises(InferenceError, match=r"a tensor of shape \(1, 1, 4, 4, 4\)"):
        scores(nn.MaxPool3d(2).eval(), image, sliding)
    with pytest.raises(InferenceError, match="gave tuple"):
        scores(lambda x: (x, x), image, sliding)
    with pytest.raises(InferenceError, match="are allowed"):
        scores(small_network(), noise(1, 8, 8, 12), Sliding((8, 8, 8), max_buffer_bytes=100))
    broken = image.clone()
    broken[0, 3, 3, 3] = torch.nan
    for segment in (segment_label_map, segment_multilabel):
        with pytest.raises(InferenceError, match="NaN in the voxels"):
            segment(small_network(), broken, sliding)


def test_weights_are_monais():
    from monai.data.utils import compute_importance_map

    for window, scale in itertools.product([(8, 8, 8), (5, 9, 30)], [0.125, 0.4]):
        theirs = compute_importance_map(window, "gaussian", scale)
        ours = window_weights(window, "gaussian", sigma_scale=scale)
        torch.testing.assert_close(ours, theirs)
