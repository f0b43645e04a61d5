"""Encoders and decoders give what MONAI's networks give with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.segresnet_ds import SegResNetDS
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from monai.networks.nets.unetr import UNETR
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models import Encoder, build_segmentation
from voxgraft.models.volumetric import entries_monai
from voxgraft.models.volumetric.residual_unet import build_residual_unet
from voxgraft.models.volumetric.segresnet import build_segresnet, build_segresnet_ds
from voxgraft.models.volumetric.swin_unetr import build_swin_unetr
from voxgraft.models.volumetric.unetr_vit import build_monai_vit
from voxgraft.weights.convert import Drop, Rename
from voxgraft.weights.layouts import KEY_LAYOUTS

ENTRIES = {entry.name: entry for entry in entries_monai.ENTRIES}
SHORT = (1, 1, 1, 1)


@dataclass
class Pair:
    """A small network of ours, and what builds MONAI's with the same tensors."""

    encoder: Callable[[], Encoder]
    original: Callable[[], nn.Module]
    head: str
    size: tuple[int, int, int]


PAIRS = {
    "segresnet": Pair(
        lambda: build_segresnet(16, (1, 2, 1), in_channels=2),
        lambda: SegResNet(
            init_filters=16, in_channels=2, out_channels=3, blocks_down=(1, 2, 1), blocks_up=(1, 1)
        ),
        "conv_final.2.conv",
        (8, 12, 16),
    ),
    "segresnet_ds": Pair(
        lambda: build_segresnet_ds(8, "batch", (1, 1, 2), in_channels=2),
        lambda: SegResNetDS(init_filters=8, in_channels=2, out_channels=3, blocks_down=(1, 1, 2)),
        "up_layers.1.head",
        (8, 12, 16),
    ),
    "vista3d": Pair(
        lambda: build_segresnet_ds(8, "instance", (1, 1, 2)),
        lambda: SegResNetDS(init_filters=8, out_channels=3, blocks_down=(1, 1, 2), norm="instance"),
        "up_layers.1.head",
        (8, 12, 16),
    ),
    "swin_unetr": Pair(
        lambda: build_swin_unetr(12, depths=(2, 1, 1, 1), in_channels=2),
        lambda: SwinUNETR(in_channels=2, out_channels=3, feature_size=12, depths=(2, 1, 1, 1)),
        "out.conv.conv",
        (32, 64, 32),
    ),
    "swin_unetr_v2": Pair(
        lambda: build_swin_unetr(12, True, SHORT),
        lambda: SwinUNETR(
            in_channels=1, out_channels=3, feature_size=12, depths=SHORT, use_v2=True
        ),
        "out.conv.conv",
        (32, 64, 32),
    ),
    "unetr": Pair(
        lambda: build_monai_vit((32, 48, 32), 16, 24, 12, 3),
        lambda: UNETR(1, 3, (32, 48, 32), hidden_size=24, mlp_dim=96, num_heads=3),
        "out.conv.conv",
        (32, 48, 32),
    ),
}


def _place(name: str, head: str, encoder: Encoder) -> str | None:
    """Return where a tensor of MONAI's lies in ours; None if nowhere."""
    own = encoder.state_dict()
    if name.startswith(f"{head}."):
        return "head." + name.removeprefix(f"{head}.")
    inner = name.removeprefix("encoder.").removeprefix("vit.")
    if inner in own and not (name in own and name != inner):
        return f"encoder.{inner}"
    return None if "norm_cross_attn" in name else f"decoder.{name}"


@pytest.fixture(params=PAIRS)
def pair(request, monai_runs, fill):
    case = PAIRS[request.param]
    original = fill(case.original())
    encoder = case.encoder()
    channels = encoder.in_channels
    network = build_segmentation(encoder, 3, decoder="native", input_mean=0.0, input_sd=1.0)
    placed = {
        _place(name, case.head, encoder): tensor for name, tensor in original.state_dict().items()
    }
    placed.pop(None, None)
    own = network.state_dict()
    contract = {name: own[name] for name in ("input_mean", "input_sd")}
    network.load_state_dict({**contract, **placed}, strict=True)
    generator = torch.Generator().manual_seed(1)
    batch = 1 if "swin" in request.param else 2
    volume = torch.randn(batch, channels, *case.size, generator=generator)
    return request.param, network.eval(), original, volume


def _assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_logits_and_maps_are_monais(pair) -> None:
    name, network, original, volume = pair
    with torch.no_grad():
        _assert_equal(network(volume), original(volume))
        stages = network.encoder.forward_stages(volume)
        if name == "segresnet":
            expected = original.encode(volume)[1]
        elif name.startswith("swin"):
            expected = original.swinViT(volume, True)
        elif name == "unetr":
            final, states = original.vit(volume)
            expected = [original.proj_feat(x) for x in (states[3], states[6], states[9], final)]
        else:
            expected = original.encoder(volume)
        assert len(stages) == len(expected)
        for found, wanted in zip(stages, expected, strict=True):
            _assert_equal(found, wanted)
        pooled = network.encoder(volume)
        _assert_equal(pooled, expected[-1].mean(dim=(2, 3, 4)))


def test_the_residual_unet_is_monais(fill) -> None:
    original = fill(
        UNet(
            spatial_dims=3,
            in_channels=2,
            out_channels=3,
            channels=(16, 32, 64, 128, 256),
            strides=(2, 2, 2, 2),
            num_res_units=2,
            norm="batch",
        )
    )
    encoder = build_residual_unet((16, 32, 64, 128, 256), 2, in_channels=2)
    state: dict[str, Tensor] = {}
    left = []
    for name, tensor in original.state_dict().items():
        for rule in KEY_LAYOUTS["monai-unet"]("residual_unet_256"):
            assert isinstance(rule, Rename)
            name = rule.rename(name)
        if name.startswith("up."):
            left.append(name)
        else:
            state[name] = tensor
    encoder.load_state_dict(state, strict=True)
    assert len(left) > 20
    volume = torch.randn(2, 2, 32, 16, 32, generator=torch.Generator().manual_seed(1))
    expected: list[Tensor] = []
    part: nn.Module = original.model
    x = volume
    with torch.no_grad():
        for _ in range(4):
            x = part[0](x)
            expected.append(x)
            part = part[1].submodule
        expected.append(part(x))
        for found, wanted in zip(encoder.eval().forward_stages(volume), expected, strict=True):
            _assert_equal(found, wanted)


@pytest.mark.parametrize("name", ENTRIES)
def test_what_is_declared_is_built(name: str) -> None:
    entry = ENTRIES[name]
    with torch.device("meta"):
        encoder = entry.build(in_channels=3, seed=1).eval()
        facts = encoder.declaration
        volume = torch.empty(1, 3, *facts.preferred_size)
        stages = encoder.forward_stages(volume)
        features = encoder.forward_features(volume)
        smallest = encoder(torch.empty(2, 3, *facts.min_size))
        odd = encoder(torch.empty(1, 3, 33, 18, 47))
    assert (facts.family, facts.native, facts.reference) == (
        entry.family,
        entry.native,
        entry.reference,
    )
    assert "seed" in entry.options
    assert tuple(stage.shape[1] for stage in stages) == facts.feature_channels
    assert (
        tuple(
            tuple(facts.preferred_size[axis] // stage.shape[axis + 2] for axis in range(3))
            for stage in stages
        )
        == facts.strides
    )
    assert tuple(features.shape[2:]) == (3, 3, 3)
    assert smallest.shape == (2, facts.num_features)
    assert odd.shape == (1, facts.num_features)
    own = encoder.state_dict()
    for stem in facts.stems:
        assert own[stem].shape[1] == 3
    assert not any(key.startswith(f"{facts.head}.") for key in own)
    for table in facts.positions:
        expected = (
            (2 * table.grid[0] - 1) * (2 * table.grid[1] - 1) * (2 * table.grid[2] - 1)
            if table.kind == "relative"
            else table.prefix + table.grid[0] * table.grid[1] * table.grid[2]
        )
        assert expected in own[table.name].shape


def test_the_seed_makes_the_weights() -> None:
    for name in ("segresnet_8", "swin_unetr_12", "genesis_unet"):
        first, again = (ENTRIES[name].build(seed=4).state_dict() for _ in range(2))
        other = ENTRIES[name].build(seed=5).state_dict()
        assert all(torch.equal(first[key], again[key]) for key in first)
        stem = ENTRIES[name].build(seed=4).declaration.stem
        assert not torch.equal(first[stem], other[stem])


def test_options_that_make_no_network_are_refused() -> None:
    with pytest.raises(ModelError, match="in_channels is 0; expected a whole number"):
        build_segresnet(16, in_channels=0)
    with pytest.raises(ModelError, match=r"drop_path is 1\.5; expected a probability"):
        build_swin_unetr(12, drop_path=1.5)


def test_a_single_voxel_that_cannot_be_normalized_is_named() -> None:
    encoder = build_segresnet_ds(8, "batch", (1, 1))
    with pytest.raises(ModelError, match="single voxel"):
        encoder.train()(torch.zeros(1, 1, 1, 1, 1))
    encoder = build_segresnet_ds(8, "instance", (1, 1))
    with pytest.raises(ModelError, match=r"needs at least \(3, 3, 3\)"):
        encoder(torch.zeros(1, 1, 2, 2, 2))


def test_stochastic_depth_grows_with_depth() -> None:
    encoder = build_swin_unetr(12, depths=(2, 1, 1, 1), drop_path=0.2)
    chances = [
        getattr(block.drop_path, "drop_prob", 0.0)
        for stage in range(1, 5)
        for block in encoder.get_submodule(f"swinViT.layers{stage}.0.blocks")
    ]
    assert chances == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])


def test_positions_are_interpolated_to_other_grids() -> None:
    encoder = build_monai_vit((32, 32, 32), 16, 12, 6, 2, seed=1).eval()
    with torch.no_grad():
        encoder.patch_embedding.position_embeddings.fill_(0.5)
        for size in ((16, 16, 16), (48, 32, 17)):
            tokens, grid = encoder._embed(torch.zeros(1, 1, *size))
            assert grid == tuple(-(-edge // 16) for edge in size)
            bias = encoder.patch_embedding.patch_embeddings.bias
            torch.testing.assert_close(tokens, (bias + 0.5).expand_as(tokens))


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_segresnet(16, (1, 1)),
        lambda: build_swin_unetr(12, depths=(2, 1)),
        lambda: build_monai_vit((32, 32, 32), 16, 12, 6, 2),
    ],
)
def test_checkpointing_changes_no_gradient(build) -> None:
    torch.manual_seed(0)
    encoder = build().train()
    volume = torch.randn(2, 1, 8, 16, 17)
    gradients = []
    for on in (False, True):
        encoder.set_gradient_checkpointing(on)
        encoder.zero_grad()
        encoder(volume).square().mean().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-4, atol=1e-6)


def test_layouts_never_rename_the_networks_own_tensors() -> None:
    layouts = {
        "segresnet_8": "segresnet",
        "segresnet_ds_batch_32": "segresnet-ds",
        "segresnet_ds_instance_48": "vista3d",
        "swin_unetr_v2_48": "swin-unetr",
        "monai_vit_b16": "brainiac",
        "genesis_unet": "genesis-unet",
        "residual_unet_512": "monai-unet",
    }
    for model, layout in layouts.items():
        with torch.device("meta"):
            names = list(ENTRIES[model].build().state_dict())
        for name in names:
            for rule in KEY_LAYOUTS[layout](model):
                if isinstance(rule, Rename):
                    assert rule.rename(name) == name
                elif isinstance(rule, Drop):
                    assert not rule.chooses(name)


@pytest.mark.parametrize("axes", ["RAS", "SPL", "LPS", "ASR"])
@pytest.mark.parametrize("name", ["segresnet", "swin_unetr", "unetr"])
def test_a_body_is_turned_as_it_was_in_training(name, axes, monai_runs, fill) -> None:
    """A network with ``axes`` gives for a volume what MONAI's gives for the volume turned."""
    case = PAIRS[name]
    original = fill(case.original())
    encoder = case.encoder()
    encoder.set_axes(axes)
    network = build_segmentation(encoder, 3, decoder="native", input_mean=0.0, input_sd=1.0)
    placed = {
        _place(key, case.head, encoder): tensor for key, tensor in original.state_dict().items()
    }
    own = network.state_dict()
    placed |= {key: own[key] for key in ("input_mean", "input_sd")}
    placed.pop(None, None)
    network.load_state_dict(placed, strict=True)
    edge = 64 if name == "swin_unetr" else 32
    size = {"S": 32, "A": 32, "R": edge}
    if name == "unetr":
        # The grid of its positions is 2, 3, 2 along the axes of the training.
        size = dict(zip("SAR", (32, 32, 32), strict=True))
        size[{"P": "A", "L": "R"}.get(axes[1], axes[1])] = 48
    volume = torch.randn(
        1, encoder.in_channels, *size.values(), generator=torch.Generator().manual_seed(2)
    )
    order = {"S": (2, False), "A": (3, False), "R": (4, False)}
    order |= {"I": (2, True), "P": (3, True), "L": (4, True)}
    turned = volume.permute(0, 1, *(order[letter][0] for letter in axes))
    turned = turned.flip([place + 2 for place, letter in enumerate(axes) if order[letter][1]])
    back = [sorted(range(3), key=lambda place: order[axes[place]][0])[axis] for axis in range(3)]
    with torch.no_grad():
        expected = original(turned.contiguous())
        expected = expected.flip(
            [place + 2 for place, letter in enumerate(axes) if order[letter][1]]
        ).permute(0, 1, *(place + 2 for place in back))
        _assert_equal(network.eval()(volume), expected)


def test_axes_that_are_none_are_refused() -> None:
    for axes in ("RAR", "RA", "XYZ", "", "RASS", "ras"):
        with pytest.raises(ModelError, match=rf"axes is '{axes}'; expected three letters"):
            build_segresnet(16, axes=axes)
