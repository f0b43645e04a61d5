"""The convolutional networks of the medical field against other implementations of them.

MedicalNet and Merlin against MONAI's ResNet, nnU-Net's against dynamic_network_architectures. For
PENet and STU-Net there is no package: the references below are written from their descriptions,
as functions of a state dict. (All of them also equal the code that was published, bit by bit.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck, resnet50
from torch import Tensor, nn
from torch.nn import functional

from voxgraft.errors import ModelError
from voxgraft.models import Encoder, build_encoder
from voxgraft.models.volumetric.medical_resnet import build_fmcib, build_medicalnet, build_merlin
from voxgraft.models.volumetric.nnunet import build_nnunet
from voxgraft.models.volumetric.nnunet_plan import PLAIN_6, RESIDUAL_6
from voxgraft.models.volumetric.penet import build_penet
from voxgraft.models.volumetric.stunet import build_stunet

TOLERANCE = 1e-4


def fill(network: nn.Module) -> nn.Module:
    """Give a network weights under which no layer is trivial."""
    generator = torch.Generator().manual_seed(3)
    draw = partial(torch.randn, generator=generator)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.copy_(0.75 + 0.5 * torch.rand(tensor.shape, generator=generator))
            elif tensor.ndim > 1:
                tensor.copy_(draw(tensor.shape) * (2 / tensor[0].numel()) ** 0.5)
            else:
                tensor.copy_(0.1 * draw(tensor.shape) + float(name.endswith("weight")))
    return network.eval()


def volume(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    scale = float(expected.abs().max())
    assert scale > 1e-3, "the reference is trivial"
    assert float((found - expected).abs().max()) <= TOLERANCE * scale


def outputs(network: nn.Module, names: tuple[str, ...], x: Tensor) -> list[Tensor]:
    """Run a network and return what some of its modules gave."""
    found: dict[str, Tensor] = {}
    for name in names:
        module = network.get_submodule(name)
        module.register_forward_hook(lambda m, i, o, name=name: found.update({name: o.clone()}))
    with torch.no_grad():
        network(x)
    return [found[name] for name in names]


def monai_resnet(
    block: type, blocks: list[int], *, channels: int = 1, shortcut: str = "B", **stem: object
) -> ResNet:
    return ResNet(
        block, blocks, [64, 128, 256, 512], n_input_channels=channels, shortcut_type=shortcut,
        feed_forward=False, bias_downsample=False, **stem,
    )  # fmt: skip


def dilate(network: ResNet) -> ResNet:
    """Turn the strides of MONAI's last two stages into dilation, as MedicalNet has it."""
    for stage, dilation in ((network.layer3, 2), (network.layer4, 4)):
        for module in stage.modules():
            if isinstance(module, nn.Conv3d):
                module.stride = (1, 1, 1)
                if module.kernel_size == (3, 3, 3):
                    module.dilation = module.padding = (dilation,) * 3
            elif isinstance(getattr(module, "downsample", None), partial):
                module.downsample.keywords["stride"] = 1
    return network


RESNET_STAGES = ("bn1", "layer1", "layer2", "layer3", "layer4")


@pytest.mark.parametrize("dilated", [True, False])
@pytest.mark.parametrize("kind", ["basic A", "basic B", "bottleneck B"])
def test_medicalnet_is_monais_resnet(kind: str, dilated: bool) -> None:
    block, shortcut = kind.split()
    reference = monai_resnet(
        ResNetBlock if block == "basic" else ResNetBottleneck,
        [1, 2, 1, 1], shortcut=shortcut, conv1_t_stride=2,
    )  # fmt: skip
    fill(dilate(reference) if dilated else reference)
    ours = build_medicalnet(block, (1, 2, 1, 1), shortcut=shortcut, dilated=dilated).eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    x = volume(2, 1, 21, 34, 27)
    expected = outputs(reference, RESNET_STAGES, x)
    expected[0] = expected[0].relu()
    with torch.no_grad():
        for found, wanted in zip(ours.forward_stages(x), expected, strict=True):
            assert_close(found, wanted)
        assert_close(ours(x), reference(x))
    assert ours.declaration.strides[-1] == ((8, 8, 8) if dilated else (32, 32, 32))


def test_gradients_pass_through_a_shortcut_of_type_a() -> None:
    network = build_medicalnet("basic", (1, 1, 1, 1), shortcut="A", seed=0).eval()
    with torch.no_grad():
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            layer[0].bn2.weight.zero_()
    x = volume(1, 1, 17, 17, 17).requires_grad_()
    network(x).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0


def test_merlin_is_monais_resnet_with_an_inflated_stem() -> None:
    stem = {"conv1_t_size": (3, 7, 7), "conv1_t_stride": (1, 2, 2)}
    reference = fill(monai_resnet(ResNetBottleneck, [1, 2, 1, 1], channels=3, **stem))
    ours = build_merlin((1, 2, 1, 1), in_channels=3).eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    x = volume(2, 3, 13, 45, 39)
    expected = outputs(reference, RESNET_STAGES, x)
    expected[0] = expected[0].relu()
    with torch.no_grad():
        for found, wanted in zip(ours.forward_stages(x), expected, strict=True):
            assert_close(found, wanted)
        assert_close(ours(x), reference(x))


def test_fmcib_is_monais_resnet_of_twice_the_width() -> None:
    reference = fill(
        resnet50(n_input_channels=1, widen_factor=2, conv1_t_stride=2, feed_forward=False)
    )
    ours = build_fmcib().eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    x = volume(1, 1, 19, 25, 33)
    with torch.no_grad():
        assert_close(ours(x), reference(x))


FEATURES, BLOCKS = [4, 8, 8, 12], [1, 2, 2, 1]
KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 1, 2]]


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_nnunets_encoders_are_those_of_dynamic_network_architectures(kind: str) -> None:
    made, blocks, default = (
        (PlainConvUNet, {"n_conv_per_stage": BLOCKS}, PLAIN_6)
        if kind == "plain"
        else (ResidualEncoderUNet, {"n_blocks_per_stage": BLOCKS}, RESIDUAL_6)
    )
    reference = made(
        1, 4, FEATURES, kernel_sizes=KERNELS, strides=STRIDES, num_classes=3,
        n_conv_per_stage_decoder=1, conv_op=nn.Conv3d, conv_bias=True, norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True}, **blocks,
    ).encoder  # fmt: skip
    fill(reference)
    own = {n: t for n, t in reference.state_dict().items() if ".all_modules." not in n}
    lists = {"features": FEATURES, "blocks": BLOCKS, "kernels": KERNELS, "strides": STRIDES}
    ours = build_nnunet(kind, default, **lists).eval()
    assert list(ours.state_dict()) == list(own)
    ours.load_state_dict(own, strict=True)
    x = volume(2, 1, 8, 16, 24)
    with torch.no_grad():
        for found, wanted in zip(ours.forward_stages(x), reference(x), strict=True):
            assert_close(found, wanted)
        assert_close(ours(x), reference(x)[-1].mean((2, 3, 4)))
    assert ours.declaration.strides == ((1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 4, 8))


@st.composite
def plans(draw: st.DrawFn) -> dict[str, list[object]]:
    stages = draw(st.integers(2, 6))
    sizes = st.lists(st.sampled_from([1, 3, 5]), min_size=3, max_size=3)
    steps = st.lists(st.integers(1, 3), min_size=3, max_size=3)
    every = {"min_size": stages, "max_size": stages}
    return {
        "features": draw(st.lists(st.integers(1, 6), **every)),
        "blocks": draw(st.lists(st.integers(1, 3), **every)),
        "kernels": draw(st.lists(sizes, **every)),
        "strides": draw(st.lists(steps, **every)),
    }


@settings(max_examples=15, deadline=None)
@given(lists=plans(), name=st.sampled_from(["nnunet_3d", "nnunet_resenc_3d"]))
def test_a_network_of_any_plan_is_what_it_declares(
    lists: dict[str, list[object]], name: str
) -> None:
    with torch.device("meta"):
        network = build_encoder(name, **lists).eval()
    facts = network.declaration
    for size in (facts.min_size, facts.preferred_size, [n + 3 for n in facts.min_size]):
        stages = network.forward_stages(torch.empty(1, 1, *size, device="meta"))
        assert [stage.shape[1] for stage in stages] == lists["features"]
        rounded = [
            tuple(-(-edge // step) for edge, step in zip(size, stride, strict=True))
            for stride in facts.strides
        ]
        assert [tuple(stage.shape[2:]) for stage in stages] == rounded


def penet_reference(state: Mapping[str, Tensor], x: Tensor) -> list[Tensor]:
    """PENet's stages, of its tensors alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return functional.group_norm(x, len(weight) // 16, weight, state[f"{name}.bias"])

    def conv(x: Tensor, name: str, **how: object) -> Tensor:
        return functional.conv3d(x, state[f"{name}.weight"], **how)

    x = conv(x, "in_conv.0", stride=(1, 2, 2), padding=3)
    stages = [functional.leaky_relu(norm(x, "in_conv.1"))]
    x = functional.max_pool3d(stages[0], 3, 2, 1)
    for stage in range(4):
        for block in count():
            name = f"encoders.{stage}.penet_blocks.{block}."
            if f"{name}conv1.weight" not in state:
                break
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = x
            if f"{name}down_sample.0.weight" in state:
                shortcut = norm(conv(x, f"{name}down_sample.0", stride=stride),
                                f"{name}down_sample.1")  # fmt: skip
            x = functional.leaky_relu(norm(conv(x, f"{name}conv1"), f"{name}norm1"))
            x = conv(x, f"{name}conv2", stride=stride, padding=1, groups=32)
            x = functional.leaky_relu(norm(x, f"{name}norm2"))
            x = norm(conv(x, f"{name}conv3"), f"{name}norm3")
            gate = x.mean((2, 3, 4))
            for layer, activation in ((0, functional.leaky_relu), (2, torch.sigmoid)):
                excite = f"{name}se_block.excite.{layer}"
                gate = functional.linear(gate, state[f"{excite}.weight"], state[f"{excite}.bias"])
                gate = activation(gate)
            x = functional.leaky_relu(x * gate[:, :, None, None, None] + shortcut)
        stages.append(x)
    return stages


def stunet_reference(state: Mapping[str, Tensor], x: Tensor) -> list[Tensor]:
    """STU-Net's encoder stages, of their tensors alone."""

    def layer(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return functional.conv3d(x, weight, state[f"{name}.bias"], stride, padding)

    def norm(x: Tensor, name: str) -> Tensor:
        centered = x - x.mean((2, 3, 4), keepdim=True)
        x = centered / (centered.square().mean((2, 3, 4), keepdim=True) + 1e-5).sqrt()
        shape = (1, -1, 1, 1, 1)
        return x * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)

    stages = []
    for stage in range(6):
        for block in count():
            name = f"conv_blocks_context.{stage}.{block}."
            if f"{name}conv1.weight" not in state:
                break
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = layer(x, f"{name}conv3", stride) if block == 0 else x
            x = functional.leaky_relu(norm(layer(x, f"{name}conv1", stride), f"{name}norm1"), 0.01)
            x = functional.leaky_relu(norm(layer(x, f"{name}conv2"), f"{name}norm2") + shortcut)
        stages.append(x)
    return stages


@pytest.mark.parametrize(
    ("build", "reference", "shape"),
    [
        (partial(build_penet, (1, 2, 1, 1), in_channels=3), penet_reference, (2, 3, 9, 40, 33)),
        (partial(build_penet, in_channels=3), penet_reference, (1, 3, 24, 96, 96)),
        (partial(build_stunet, (4, 8, 8, 12, 12, 12), 2), stunet_reference, (2, 1, 33, 20, 64)),
    ],
    ids=["penet", "whole penet", "stunet"],
)
def test_penet_and_stunet_are_what_is_described(
    build: Callable[[], Encoder],
    reference: Callable[[Mapping[str, Tensor], Tensor], list[Tensor]],
    shape: tuple[int, ...],
) -> None:
    network = fill(build())
    x = volume(*shape)
    with torch.no_grad():
        expected = reference(network.state_dict(), x)
        for found, wanted in zip(network.forward_stages(x), expected, strict=True):
            assert_close(found, wanted)
        assert_close(network(x), expected[-1].mean((2, 3, 4)))


def test_penet_leaves_blocks_out_in_training_only() -> None:
    network = fill(build_penet((2, 1, 1, 1), drop_path=0.9))
    blocks = [m for m in network.modules() if type(m).__name__ == "PENetBottleneck"]
    assert [block.drop_path for block in blocks] == pytest.approx([0, 0.225, 0.45, 0.675, 0.9])
    x = volume(2, 1, 4, 32, 32)
    with torch.no_grad():
        always = network(x)
        torch.testing.assert_close(network(x), always)
        torch.manual_seed(0)
        values = {float(network.train()(x).sum()) for _ in range(6)}
    assert len(values) > 1
    with pytest.raises(ModelError, match=r"drop_path is 1\.5"):
        build_encoder("penet_3d", drop_path=1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": []}, r"features is \[\], expected a list"),
        ({"features": "32"}, "features is '32', expected a list with an entry for each stage"),
        ({"features": [8, 0] * 3}, r"features\[1\] is 0, expected a whole number"),
        ({"blocks": [1, True] * 3}, r"blocks\[1\] is True"),
        ({"blocks": [1]}, "blocks has 1 entries, but features has 6"),
        ({"kernels": [[2, 3, 3]] * 6}, r"kernels\[0\] is \(2, 3, 3\), expected three odd"),
        ({"strides": [[2, 2]] * 6}, r"strides\[5\] is \(2, 2\), expected three whole numbers"),
        ({"strides": 2}, "strides is 2, expected a list"),
        ({"features": [10**12] * 6}, r"features\[0\] is 1000000000000, .* from 1 to 4096"),
    ],
)
def test_impossible_plans_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build_encoder("nnunet_3d", **options)
    assert "plans.json" in str(caught.value)


def test_other_impossible_options_are_named() -> None:
    with pytest.raises(ModelError, match="shortcut is 'C'; expected 'A' or 'B'"):
        build_encoder("medicalnet_resnet10_3d", shortcut="C")
    with pytest.raises(ModelError, match="dilated is 2; expected true"):
        build_encoder("medicalnet_resnet10_3d", dilated=2)
    with pytest.raises(ModelError, match="in_channels is 0"):
        build_encoder("stunet_s_3d", in_channels=0)
