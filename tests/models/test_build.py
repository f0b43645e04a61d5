"""Building encoders: options, seeds, initialization, and what is refused."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from voxgraft.errors import ModelError, RegistryError
from voxgraft.models import MODELS, build_encoder, build_reference_2d
from voxgraft.models.depth import DepthGeometry


def kernels(encoder: nn.Module) -> dict[str, tuple]:
    return {
        name: (module.kernel_size, module.stride, module.padding)
        for name, module in encoder.named_modules()
        if hasattr(module, "kernel_size")
    }


def test_a_seed_decides_the_weights_and_leaves_the_global_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again = (build_encoder("mobilenetv3_small_3d", seed=3) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    other = build_encoder("mobilenetv3_small_3d", seed=4)
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.conv_stem.weight, other.conv_stem.weight)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("efficientnet_lite0_3d", 0.3, 3.0),
        ("mobilenetv3_small_3d", 0.03, 3.0),
        ("plain_resnet10_3d", 0.3, 3.0),
        ("convnext_atto_3d", 0.1, 3.0),
    ],
)
def test_activations_of_a_new_network_have_a_sane_scale(name, low, high) -> None:
    encoder = build_encoder(name, seed=0).train()
    volume = torch.randn(4, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stages = encoder.forward_stages(volume)
    for stage in stages:
        assert low < stage.std().item() < high


def test_initialization_follows_each_family_in_three_dimensions() -> None:
    lite = build_encoder("efficientnet_lite0_3d", seed=0).conv_head.weight  # (1280, 320, 1, 1, 1)
    assert lite.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.01)
    dense = build_encoder("densenet121_3d", seed=0).features.conv0.weight  # fan-in 7^3
    assert dense.std().item() == pytest.approx((2 / 343) ** 0.5, rel=0.02)
    resnet = build_encoder("resnet18_3d", seed=0)
    conv = resnet.layer4[1].conv2.weight  # (512, 512, 3, 3, 3)
    assert conv.std().item() == pytest.approx((2 / (512 * 27)) ** 0.5, rel=0.01)
    assert resnet.layer1[0].bn2.weight.abs().max() == 0  # residual blocks begin as the identity
    convnext = build_encoder("convnext_atto_3d", seed=0).stages[0].blocks[0].conv_dw.weight
    assert convnext.std().item() == pytest.approx(0.02 / 7**0.5, rel=0.05)


def test_flat_kernels_are_one_slice_deep() -> None:
    for name in ("resnet18d_3d", "convnext_atto_3d", "plain_resnet10_3d"):
        flat = kernels(build_encoder(name, depth_kernel="flat"))
        assert {kernel[0] for kernel, _, _ in flat.values() if kernel[1] > 2} == {1}


def test_depth_stride_spares_the_depth_near_the_input() -> None:
    encoder = build_encoder("resnet18_3d", depth_stride=4)
    assert encoder.declaration.strides == (
        (1, 2, 2),
        (1, 4, 4),
        (1, 8, 8),
        (2, 16, 16),
        (4, 32, 32),
    )
    layers = kernels(encoder)
    assert layers["conv1"] == ((7, 7, 7), (1, 2, 2), (3, 3, 3))
    assert layers["maxpool"][1] == (1, 2, 2)
    assert layers["layer2.0.downsample.0"][1] == (1, 2, 2)
    assert layers["layer3.0.conv1"][1] == (2, 2, 2)
    with torch.no_grad():
        assert encoder.eval().forward_features(torch.zeros(1, 1, 8, 32, 32)).shape[2:] == (2, 1, 1)


def test_patches_stay_patches_along_depth() -> None:
    layers = kernels(build_encoder("convnext_atto_3d", depth_stride=8))
    assert layers["stem.0"] == ((1, 4, 4), (1, 4, 4), (0, 0, 0))
    assert layers["stages.1.downsample.1"] == ((2, 2, 2), (2, 2, 2), (0, 0, 0))


def test_depth_padding_can_be_switched_and_taken_back() -> None:
    encoder = build_encoder("efficientnet_lite0_3d", seed=0).eval()
    volume = torch.rand(1, 1, 9, 32, 32)
    with torch.no_grad():
        zeros = encoder(volume)
        assert encoder.depth_padding == "zeros"
        with encoder.set_depth_padding("replicate"):
            assert encoder.depth_padding == "replicate"
            assert not torch.allclose(encoder(volume), zeros)
        assert encoder.depth_padding == "zeros"
        with pytest.raises(ModelError), encoder.set_depth_padding("replicate"):
            encoder(volume[0])
        assert encoder.depth_padding == "zeros"
        assert torch.equal(encoder(volume), zeros)
        encoder.set_depth_padding("replicate")
        built = build_encoder("efficientnet_lite0_3d", seed=0, depth_padding="replicate").eval()
        assert torch.equal(encoder(volume), built(volume))


def test_drop_path_is_random_in_training_only() -> None:
    encoder = build_encoder("convnext_atto_3d", drop_path=0.5, seed=0)
    assert any(type(m).__name__ == "DropPath" for m in encoder.modules())
    assert encoder.state_dict().keys() == build_encoder("convnext_atto_3d").state_dict().keys()


def test_an_encoder_can_be_copied_and_pickled() -> None:
    encoder = build_encoder("mobilenetv3_small_3d", seed=0).eval()
    volume = torch.rand(1, 1, 8, 32, 32)
    with torch.no_grad():
        expected = encoder(volume)
        for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
            assert torch.equal(twin(volume), expected)


@pytest.mark.parametrize("name", ["timm3d:test_resnet", "test_resnet_3d", "timm3d:resnetblur50"])
def test_any_covered_network_of_timm_can_be_named(name) -> None:
    with torch.device("meta"):
        encoder = build_encoder(name)
        reference = build_reference_2d(name)
    assert encoder.declaration.twin_of == name.removeprefix("timm3d:").removesuffix("_3d")
    assert list(encoder.state_dict()) == list(reference.state_dict())


def test_unknown_names_are_refused_with_suggestions() -> None:
    with pytest.raises(RegistryError, match=r"no model is called 'resnet5_3d'.*'resnet50_3d'"):
        build_encoder("resnet5_3d")
    with pytest.raises(ModelError, match=r"timm .* has no network called 'resnet5'"):
        build_encoder("timm3d:resnet5")
    with pytest.raises(RegistryError, match="no model is called 'nothing'"):
        build_reference_2d("nothing")


def test_every_module_without_a_rule_is_named() -> None:
    with pytest.raises(ModelError) as caught:
        build_encoder("timm3d:tf_mixnet_s")
    text = str(caught.value)
    assert "tf_mixnet_s has no 3D twin" in text
    assert "(34 faults)" in text
    assert "blocks.1.0.conv_pw: timm.layers.mixed_conv2d.MixedConv2d" in text
    assert "Choose a network of the registry" in text


def test_a_network_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(ModelError, match=r"poolformer_s12 has no 3D twin: its class is timm"):
        build_encoder("poolformer_s12_3d")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels is 0; expected a whole number of at least 1"),
        ({"in_channels": 1.5}, "in_channels is 1.5; expected a whole number"),
        ({"in_channels": True}, "in_channels is True; expected a whole number"),
        ({"depth_padding": "same"}, "depth_padding is 'same'; expected 'zeros' or 'replicate'"),
        ({"depth_kernel": "deep"}, "depth_kernel is 'deep'; expected 'full' or 'flat'"),
        ({"depth_stride": 3}, r"depth_stride is 3; .* one of \[1, 2, 4, 8, 16, 32\]"),
        ({"depth_stride": 64}, "depth_stride is 64; this network reduces the plane by 32"),
        ({"depth_stride": True}, "depth_stride is True"),
        ({"drop_path": 1.0}, r"drop_path is 1.0; expected a probability in \[0, 1\)"),
        ({"drop_path": float("nan")}, "drop_path is nan; expected a probability"),
        ({"drop_path": 0.1}, "densenet121 has no stochastic depth"),
    ],
)
def test_impossible_options_are_refused(options, message) -> None:
    with pytest.raises(ModelError, match=message):
        build_encoder("densenet121_3d", **options)


def test_a_plain_resnet_refuses_likewise() -> None:
    with pytest.raises(ModelError, match="a plain ResNet has no stochastic depth"):
        build_encoder("plain_resnet10_3d", drop_path=0.1)
    with pytest.raises(ModelError, match=r"depth_stride is 32; .* plane by 16"):
        build_encoder("plain_resnet10_3d", depth_stride=32)
    plain = build_encoder("plain_resnet10_3d")
    with pytest.raises(ModelError, match="no twin of a 2D network"):
        plain.build_reference()
    with pytest.raises(ModelError, match="plain_resnet10_3d is no twin of a 2D network"):
        build_reference_2d("plain_resnet10_3d")


def test_even_kernels_cannot_keep_their_place_under_another_stride() -> None:
    depth = DepthGeometry.resolve("full", "zeros", 4, 32)
    with pytest.raises(ModelError, match=r"stem has an even kernel \(4\) with stride 2"):
        depth.layer("stem", 4, 2, 1, 1, 1)
    assert depth.layer("stem", 3, 2, 1, 1, 1).stride == 1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 9, 32, 32), r"given a tensor of shape \(1, 9, 32, 32\); expected \(batch, 1, depth"),
        ((1, 3, 32, 32, 32), r"shape \(1, 3, 32, 32, 32\); expected \(batch, 1,"),
        ((1, 1, 8, 64, 64), r"volumes of \(8, 64, 64\) voxels .* at least \(32, 32, 32\)"),
    ],
)
def test_volumes_that_do_not_fit_are_refused(shape, message) -> None:
    encoder = build_encoder("convnext_atto_3d", seed=0)
    for run in (encoder, encoder.forward_stages):
        with pytest.raises(ModelError, match=message):
            run(torch.zeros(shape))


@pytest.mark.parametrize("name", ["efficientnet_lite0_3d", "mobilenetv3_small_3d"])
def test_batch_normalization_of_a_single_value_is_refused(name) -> None:
    encoder = build_encoder(name, seed=0)
    with pytest.raises(ModelError, match=r"one value a channel.*at least two volumes"):
        encoder.train()(torch.rand(1, 1, 16, 16, 16))
    encoder.eval()(torch.rand(1, 1, 16, 16, 16))


def test_registry_entries_are_complete() -> None:
    for name in MODELS.names():
        entry = MODELS.get(name)
        assert entry.name == name
        assert entry.description
        assert name.endswith("_3d") or not entry.twin_of
