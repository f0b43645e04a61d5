"""Grad-CAM against CAM, against whole graphs, and on every kind of network."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional as F

from voxgraft.errors import InferenceError
from voxgraft.inference.explain import explain
from voxgraft.inference.grad_cam import GradCam
from voxgraft.inference.places import Axis, cell_axes, lay_out
from voxgraft.models import MODELS, Encoder, Network, build_encoder
from voxgraft.models.slicewise import SlicewiseEncoder
from voxgraft.models.tokens import mvit, video_vit, video_vit_configs
from voxgraft.models.tokens.mvit import MViT
from voxgraft.models.tokens.plain import ViT3D
from voxgraft.models.tokens.video_vit import VideoViT
from voxgraft.models.video.slowfast import SlowFast, SlowFastPlan, build_slowfast

TINY_VIT = replace(
    video_vit_configs.VIVIT_BASE, width=24, depth=3, heads=2, hidden=48, grid=(2, 2, 2)
)
SMALL = {
    "class token of a twin": partial(build_encoder, "vit_tiny_patch16_224_3d"),
    "class token of a video network": partial(video_vit.VideoViT, TINY_VIT, in_channels=1),
    "divided attention": partial(
        video_vit.VideoViT,
        replace(TINY_VIT, divided=True, positions="separate", tubelet=(1, 16, 16)),
        in_channels=1,
    ),
    "mean of tokens": partial(
        video_vit.VideoViT,
        replace(TINY_VIT, class_token=False, positions="sinusoidal", norm="pooled"),
        in_channels=1,
    ),
    "multiscale": partial(
        mvit.build_mvit,
        mvit.MViTConfig(
            version=2, reference="small", width=8, blocks=5, starts=(1, 3), input_size=(4, 64, 64)
        ),
    ),
    "two pathways": partial(build_slowfast, SlowFastPlan(reference="small", blocks=(1, 1, 1, 1))),
    "slices, convolutions": partial(build_encoder, "slicewise:test_resnet"),
    "slices, tokens": partial(build_encoder, "slicewise:test_vit"),
    "three planes": partial(build_encoder, "slicewise:test_convnext", planes="all", join="gru"),
    "a row of modules": partial(build_encoder, "medicalnet_resnet10_3d"),
}
FORWARD_OF_THEIR_OWN = (SlicewiseEncoder, ViT3D, VideoViT, MViT, SlowFast)


def heats(encoder: Encoder, size: tuple[int, int, int]) -> list[torch.Tensor]:
    """Return the heat for a direction and for its opposite."""
    with torch.no_grad():
        for parameter in encoder.parameters():  # norms and zero-initialized layers too
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.manual_seed(3)))
    network = Network(encoder, 1, seed=0).eval()
    image = torch.rand(1, *size, generator=torch.manual_seed(1))
    with torch.no_grad():
        vector = network.forward_pooled(image[None])[0]
    direction = network.head.weight[0].detach()
    cam = GradCam(network, size)
    found = [cam.heat(image, sign * direction, vector) for sign in (1, -1)]
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in network.modules()
    )
    return found


@pytest.mark.parametrize("kind", SMALL)
def test_every_kind_of_network_has_heat(kind) -> None:
    encoder = SMALL[kind]()
    step, least = encoder.declaration.strides[-1], encoder.declaration.min_size
    size = tuple(max(3 * n if n > 1 else 3, m) for n, m in zip(step, least, strict=True))
    there, against = heats(encoder, size)
    for heat in (there, against):
        assert heat.shape == size
        assert torch.isfinite(heat).all()
        assert heat.min() >= 0
    # A direction or its opposite is spoken for somewhere, and not everywhere alike.
    both = torch.stack([there, against]).amax(0)
    assert both.max() > 0
    assert both.max() > 1.01 * both.min()


def test_other_networks_pool_their_final_map() -> None:
    chosen = {entry.family: entry for entry in MODELS}
    for entry in chosen.values():
        with torch.device("meta"):
            encoder = entry.build()
        pools = type(encoder).forward is Encoder.forward
        assert pools or isinstance(encoder, FORWARD_OF_THEIR_OWN), entry.name


def test_with_mean_and_linear_head_it_is_cam(make_run) -> None:
    encoder = build_encoder("plain_resnet10_3d", seed=0)
    run = make_run(encoder)
    image = np.random.default_rng(0).random((1, 16, 48, 32), dtype=np.float32)
    found = explain(run, image)
    with torch.no_grad():
        x = run.network.prepare(torch.from_numpy(image)[None])
        maps = encoder.forward_features(x)[0]
        cam = torch.einsum("c,cijk->ijk", run.network.head.weight[0], maps).relu()
    assert cam.shape == (2, 3, 2)
    axes = cell_axes(
        encoder, encoder.forward_features, channels=1, size=(16, 48, 32), cells=cam.shape,
        strides=(8, 16, 16), smallest=(1, 1, 1),
    )  # fmt: skip
    expected = lay_out(cam, (16, 48, 32), axes).numpy()
    assert expected.max() > 0
    np.testing.assert_allclose(found.heat, expected / expected.max(), atol=1e-5)
    assert found.heat.dtype == np.float32
    assert found.heat.max() == 1


def test_slices_have_weights_of_their_own() -> None:
    """Against the gradient through the whole graph, of a join that weighs slices."""
    encoder = build_encoder("slicewise:test_resnet", join="attention", seed=0)
    network = Network(encoder, 1, seed=0).eval()
    with torch.no_grad():
        network.head.weight.abs_()  # activations are positive: so is what speaks for the output
    image = torch.rand(1, 4, 96, 64, generator=torch.manual_seed(0))
    kept = []

    def keep(_module, _given, found) -> None:
        found.retain_grad()
        kept.append(found)

    last = encoder.network.get_submodule(encoder.planar.trunk[-1])
    handle = last.register_forward_hook(keep)
    logit = network(image[None])[0, 0]
    handle.remove()
    logit.backward()
    (maps,) = kept
    weights = maps.grad.sum((2, 3), keepdim=True) * len(maps)
    cam = (weights * maps).sum(1).relu()
    found = GradCam(network, (4, 96, 64))
    direction = network.head.weight[0].detach()
    heat = found.heat(image, direction, network.forward_pooled(image[None])[0].detach())
    expected = lay_out(cam.detach(), (4, 96, 64), found._axes["axial"])
    assert expected.max() > 0
    torch.testing.assert_close(heat, expected)


def test_a_vector_from_elsewhere_is_refused_and_occlusion_is_named(small_encoder, make_run) -> None:
    class Shortcut(small_encoder):
        def forward(self, x):
            return x.mean((1, 2, 3, 4), keepdim=False)[:, None].expand(-1, 16)

    run = make_run(Shortcut())
    image = np.random.default_rng(0).random((1, 8, 8, 8), dtype=np.float32)
    with pytest.raises(InferenceError, match=r"no function of its final map.*occlusion"):
        explain(run, image)
    assert explain(run, image, method="occlusion", boxes=(2, 2, 2)).heat.shape == (8, 8, 8)


def test_without_any_known_map_occlusion_is_named(small_encoder, make_run) -> None:
    class Token(small_encoder):
        def pool(self, features):
            raise NotImplementedError

        def forward(self, x):
            return self.pool_module(self.forward_features(x))

    with pytest.raises(InferenceError, match=r"none that is known.*occlusion"):
        explain(make_run(Token()), np.zeros((1, 8, 8, 8), np.float32))


sizes = st.tuples(*[st.integers(1, 4)] * 3)


@settings(max_examples=25, deadline=None)
@given(sizes, st.tuples(*[st.integers(1, 12)] * 3), st.integers(0, 99))
def test_maps_are_interpolated_between_the_centers_of_cells(cells, size, seed) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random(cells)
    axes = [Axis(rng.uniform(-2, 5), rng.uniform(0.5, 6)) for _ in range(3)]
    found = lay_out(torch.from_numpy(values), size, axes).numpy()
    places = [
        np.clip((np.arange(n) - axis.first) / axis.step, 0, count - 1)
        for n, axis, count in zip(size, axes, cells, strict=True)
    ]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    expected = ndimage.map_coordinates(values, grid, order=1, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_patches_are_laid_out_as_by_trilinear_interpolation() -> None:
    cells = torch.rand(2, 3, 4, generator=torch.manual_seed(0))
    axes = [Axis((step - 1) / 2, step) for step in (4, 3, 5)]
    expected = F.interpolate(cells[None, None], size=(8, 9, 20), mode="trilinear")[0, 0]
    torch.testing.assert_close(lay_out(cells, (8, 9, 20), axes), expected)


@pytest.mark.parametrize(("kernel", "expected"), [(3, 0.0), (2, 1.5)])
def test_where_cells_look_is_measured(small_encoder, kernel, expected) -> None:
    """Convolutions of 3 with padding 1 look at the first voxel, those of 2 at the middle."""
    torch.manual_seed(0)
    encoder = small_encoder((32, 32), kernel=kernel).eval().requires_grad_(False)
    axes = cell_axes(
        encoder, encoder.forward_features, channels=1, size=(16, 17, 4), cells=(4, 5, 1),
        strides=(4, 4, 4), smallest=(1, 1, 1),
    )  # fmt: skip
    assert axes[0].step == 4
    if kernel == 3:
        assert axes[0].first == pytest.approx(expected, abs=0.6)
        assert axes[1].first == pytest.approx(expected, abs=0.6)
    else:
        assert axes[0].first == expected
    assert axes[2] == Axis(1.5, 4.0)
