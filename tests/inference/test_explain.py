"""Explanations of studies: seen whole, through windows, with attention; and by occlusion."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from voxgraft.datasets import Target, Windows
from voxgraft.errors import InferenceError
from voxgraft.feeds import cut_windows
from voxgraft.inference import explain, find_output, likely_output, output_label, telling_planes
from voxgraft.inference.explain import Explanation, SeenWindow
from voxgraft.inference.grad_cam import GradCam
from voxgraft.inference.places import Axis, lay_out
from voxgraft.inference.predict import score_image
from voxgraft.models import Declaration, Encoder

WINDOWS = Windows(size_voxels=(8, 32, 32), stride_slices=4)
THREE = Target(kind="multiclass", columns=("organ",), classes=("a", "b", "c"))
LABELS = Target(kind="multilabel", columns=("left", "right"), classes=("0", "1"))
AGE = Target(kind="regression", columns=("age",), unit="years")


@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_heat_is_where_the_blob_is(finder, make_run, blobs, method) -> None:
    run = make_run(finder.encoder, network=finder)
    rng = np.random.default_rng(7)
    away = []
    for _ in range(12):
        place = np.array([rng.uniform(2, 6), rng.uniform(5, 27), rng.uniform(5, 27)])
        found = explain(run, blobs(rng, (8, 32, 32), place), method=method, boxes=(2, 8, 8))
        assert found.score > 0.5
        assert found.heat.max() == 1
        hot = np.argwhere(found.heat > 0.5)
        away.append(hot.mean(axis=0) - place)
        peak = np.unravel_index(found.heat.argmax(), found.heat.shape)
        assert np.abs(peak - place)[1:].max() < 6  # one and a half of the map's cells
    assert np.abs(np.mean(away, axis=0))[1:].max() < 2  # half a cell: no shift to one side


def test_windows_show_their_part_of_a_study(finder, make_run, blobs) -> None:
    run = make_run(finder.encoder, network=finder, windows=WINDOWS)
    place = np.array([21.0, 22.0, 14.0])
    image = blobs(np.random.default_rng(3), (30, 40, 36), place)
    found = explain(run, image)
    assert found.windowed
    assert [window.first_slice for window in found.windows] == [0, 4, 8, 12, 16, 20, 22]
    assert found.score == pytest.approx(score_image(run, image)[0])
    assert found.score == max(window.score for window in found.windows)
    holding = [w for w in found.windows if w.first_slice <= 18 and w.first_slice + 8 >= 24]
    assert min(window.score for window in holding) > 0.5
    assert found.slice_profile[21] == found.score
    assert found.slice_profile[2] < 0.5
    assert found.slice_attention is None
    peak = np.unravel_index(found.heat.argmax(), found.heat.shape)
    assert np.abs(peak - place).max() < 6
    assert not found.heat[:, :4].any()  # beyond the windows, which lie in the middle of the plane
    assert not found.heat[:, -4:].any()
    planes = telling_planes(found, image)
    assert [plane.plane for plane in planes] == ["axial"] * len(planes)
    assert abs(planes[0].at - 21) <= 4
    np.testing.assert_array_equal(planes[0].image, image[0, planes[0].at])
    np.testing.assert_array_equal(planes[0].heat, found.heat[planes[0].at])


def test_heat_of_windows_is_their_mean_where_they_overlap(small_encoder, make_run) -> None:
    """Against a sum over windows, voxel by voxel; also for a study smaller than a window."""
    torch.manual_seed(2)
    windows = Windows(size_voxels=(6, 10, 8), stride_slices=4)
    run = make_run(small_encoder(), windows=windows)
    for shape in ((13, 14, 8), (3, 7, 11)):
        image = np.random.default_rng(0).random((1, *shape), dtype=np.float32)
        parts = torch.from_numpy(cut_windows(image, windows, 0.0))
        cam = GradCam(run.network, (6, 10, 8))
        direction = run.network.head.weight[0].detach()
        # Each voxel's own number, cut like the image, says where a window's voxels come from.
        numbers = np.arange(image.size, dtype=np.float32).reshape(image.shape)
        places = cut_windows(numbers, windows, -1.0)[:, 0].astype(int)
        summed, seen = np.zeros(shape), np.zeros(shape)
        for part, own in zip(parts, places, strict=True):
            vector = run.network.forward_pooled(part[None])[0].detach()
            heat = cam.heat(part, direction, vector).numpy()
            np.add.at(summed.reshape(-1), own[own >= 0], heat[own >= 0])
            np.add.at(seen.reshape(-1), own[own >= 0], 1)
        expected = summed / np.maximum(seen, 1)
        assert expected.max() > 0
        found = explain(run, image)
        np.testing.assert_allclose(found.heat, expected / expected.max(), atol=1e-5)
        assert np.isfinite(found.slice_profile).all()


def test_with_attention_the_gradient_goes_through_the_bag(small_encoder, make_run) -> None:
    """Against one graph from all windows' maps to the study's logit."""
    torch.manual_seed(4)
    windows = Windows(size_voxels=(4, 8, 8), aggregate="attention")
    run = make_run(small_encoder(), windows=windows)
    network = run.network
    image = np.random.default_rng(1).random((1, 12, 8, 8), dtype=np.float32)
    parts = torch.from_numpy(cut_windows(image, windows, 0.0))
    maps = network.encoder.forward_features(network.prepare(parts))
    maps.retain_grad()
    vectors = network.encoder.pool(maps)
    network.head(network.windows(vectors[None]))[0, 0].backward()
    weights = maps.grad.sum((2, 3, 4), keepdim=True)
    cams = (weights * maps).sum(1).relu().detach()
    found = explain(run, image)
    assert [window.attention for window in found.windows] == pytest.approx(
        network.windows.weights(vectors[None])[0].tolist(), abs=1e-6
    )
    assert sum(window.attention for window in found.windows) == pytest.approx(1)
    assert found.score == pytest.approx(score_image(run, image)[0], abs=1e-6)
    largest = cams.max()
    for number, cam in enumerate(cams):
        own = found.heat[4 * number : 4 * number + 4]
        assert own.max() == pytest.approx(float(cam.max() / largest), abs=1e-4)
    alone = run.task.decode(network.head(vectors[:1]))[0, 0]
    assert found.windows[0].score == pytest.approx(alone, abs=1e-6)
    by_boxes = explain(run, image, method="occlusion", boxes=(1, 2, 2))
    assert by_boxes.heat.shape == found.heat.shape


class Weighing(Encoder):
    """Its vector is a weighted sum of the voxels: what a box is worth can be told by hand."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__(
            Declaration(
                family="weighing", stem="x", head="fc", feature_channels=(1,),
                strides=((1, 1, 1),), num_features=1, min_size=(1, 1, 1),
                preferred_size=(1, 1, 1), twin_of=None,
            ),
            in_channels=1,
        )  # fmt: skip
        self.weights = nn.Parameter(torch.from_numpy(weights))

    def forward(self, x):
        return (x[:, 0] * self.weights).sum((1, 2, 3))[:, None]


def test_occlusion_is_the_drop_of_the_output(make_run) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 6, 4)).astype(np.float32)
    run = make_run(Weighing(weights))
    with torch.no_grad():
        run.network.head.weight.fill_(1.0)
        run.network.input_sd.fill_(1.0)
    image = rng.random((1, 4, 6, 4), dtype=np.float32)
    worth = image[0] * weights  # what is lost where a voxel becomes background, which is 0
    by_voxel = explain(run, image, method="occlusion", boxes=(9, 9, 9))
    expected = np.maximum(worth, 0) / worth.max()
    np.testing.assert_allclose(by_voxel.heat, expected, atol=1e-5)
    boxes = np.maximum(worth.reshape(2, 2, 3, 2, 2, 2).sum(axis=(1, 3, 5)), 0)
    between = lay_out(torch.from_numpy(boxes), (4, 6, 4), [Axis(0.5, 2.0)] * 3).numpy()
    by_box = explain(run, image, method="occlusion", boxes=(2, 3, 2))
    np.testing.assert_allclose(by_box.heat, between / between.max(), atol=1e-5)


def test_slices_that_tell_are_apart() -> None:
    heat = np.zeros((40, 2, 2), np.float32)
    heat[10:14] = 0.9
    heat[11] = 1
    heat[30] = 0.5
    found = Explanation(heat, (SeenWindow(0, 0.5, None),), 40, False, 0.5, 0, "grad_cam")
    assert found.telling_slices() == (11, 30)
    heat[15] = 0.7
    assert found.telling_slices() == (11, 15, 30)
    windows = tuple(SeenWindow(first, score, None) for first, score in ((0, 0.2), (20, 0.9)))
    seen = dataclasses.replace(found, windowed=True, window_slices=20, windows=windows)
    assert seen.telling_slices() == (30, 11, 15)  # first in the window with the larger score
    weighed = tuple(window._replace(attention=0.5) for window in windows)
    assert dataclasses.replace(seen, windows=weighed).telling_slices() == (11, 15, 30)
    none = dataclasses.replace(found, heat=np.zeros_like(heat))
    assert none.telling_slices() == (20,)
    assert [plane.at for plane in telling_planes(none, np.zeros((1, 40, 2, 2)))] == [20, 1, 1]
    assert found.slice_profile.tolist() == [0.5] * 40


def test_an_output_that_nothing_speaks_for_has_no_heat(small_encoder, make_run) -> None:
    run = make_run(small_encoder())
    with torch.no_grad():
        run.network.head.weight.copy_(-run.network.head.weight.abs())
    found = explain(run, np.ones((1, 8, 8, 8), np.float32))
    assert found.heat.max() == 0
    assert math.isfinite(found.score)


@pytest.mark.parametrize("target", [THREE, LABELS, AGE])
def test_each_output_has_its_own_explanation(small_encoder, make_run, target) -> None:
    run = make_run(small_encoder(), target=target)
    image = np.random.default_rng(0).random((1, 12, 12, 12), dtype=np.float32)
    scores = score_image(run, image)
    found = [explain(run, image, output=output) for output in range(run.network.outputs)]
    assert [one.score for one in found] == pytest.approx(scores.tolist())
    for one, other in itertools.pairwise(found):
        assert np.abs(one.heat - other.heat).max() > 0.01


def test_impossible_wishes_are_named(small_encoder, make_run) -> None:
    run = make_run(small_encoder())
    image = np.zeros((1, 8, 8, 8), np.float32)
    for wish, words in (
        ({"output": 1}, "output is 1; .* from 0 to 0"),
        ({"method": "guess"}, "method is 'guess'; expected 'grad_cam' or 'occlusion'"),
        ({"boxes": (0, 1, 1)}, "at least 1"),
    ):
        with pytest.raises(InferenceError, match=words):
            explain(run, image, **wish)
    with pytest.raises(InferenceError, match=r"shape \(2, 8, 8, 8\); expected \(1, depth"):
        explain(run, np.zeros((2, 8, 8, 8), np.float32))
    with pytest.raises(InferenceError, match="not finite"):
        explain(run, np.full((1, 8, 8, 8), 1e38, np.float32))


def test_outputs_have_names() -> None:
    binary = Target(kind="binary", columns=("pe",), classes=("no", "yes"))
    assert output_label(binary, 0) == "P(yes)"
    assert output_label(LABELS, 1) == "P(right)"
    assert output_label(AGE, 0) == "age (years)"
    assert find_output(THREE, "b") == 1
    with pytest.raises(InferenceError, match="'no'; this run has 'yes'"):
        find_output(binary, "no")
    assert likely_output(THREE, np.array([0.2, 0.1, 0.7])) == 2
    assert likely_output(AGE, np.array([50.0])) == 0
