"""2D transformers made 3D: equal planes give the features of timm's own network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models import MODELS, build_encoder, build_reference_2d, model_options
from voxgraft.models.tokens.build_plain import build_vit
from voxgraft.models.tokens.build_windowed import build_swin
from voxgraft.models.tokens.timm_network import build_image_reference
from voxgraft.weights.convert import (
    DeepenCoordinates,
    Inflate,
    ResizePositions,
    ResizeRelativePositions,
    convert,
)

TOLERANCE = 1e-4  # relative to the largest feature
FAMILIES = ("vit", "eva", "swin", "swinv2")
NAMES = [entry.name for entry in MODELS if entry.twin_of and entry.family in FAMILIES]


def uneven(network: nn.Module) -> nn.Module:
    """Give a network weights under which no layer, table or gain is trivial."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.1 * noise)
            elif parameter.ndim in (2, 4, 5):
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(noise)
    return network.eval()


def grafted(encoder: Any, reference: nn.Module, method: str = "average") -> Any:
    """Load the 2D network's tensors by the rules of a graft."""
    stem = encoder.declaration.stem
    rules: list[Any] = [Inflate(method, {stem})]
    for table in encoder.declaration.positions:
        if table.kind == "absolute":
            rule: Any = ResizePositions(
                name=table.name, grid=table.grid, prefix=table.prefix, image=True
            )
        elif table.kind == "relative":
            rule = ResizeRelativePositions(name=table.name, window=table.grid, image=True)
        else:
            rule = DeepenCoordinates(name=table.name)
        rules.append(rule)
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    assert list(shapes) == list(reference.state_dict()), "the names of timm, in their order"
    converted = convert(reference.state_dict(), shapes, rules)
    encoder.load_state_dict(converted.state)
    return encoder.eval()


def assert_equal_in_every_plane(found: Tensor, expected: Tensor, what: str) -> None:
    scale = expected.abs().max()
    assert scale > 1e-3, f"{what} is trivial"
    if found.ndim == 5:
        expected = expected.unsqueeze(2)
    error = ((found - expected).abs().max() / scale).item()
    assert error < TOLERANCE, f"{what} differs by {error:.1e}"


def assert_twin_of(encoder: Any, reference: nn.Module, image: Tensor, depth: int) -> None:
    volume = image.unsqueeze(2).expand(-1, -1, depth, -1, -1)
    with torch.no_grad():
        features, vector = reference.forward_features(image), reference(image)
        found = encoder.forward_features(volume)
        assert_equal_in_every_plane(found, features, "the feature map")
        assert_equal_in_every_plane(encoder(volume), vector, "the vector")


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PLAIN = [
    "test_vit",  # class token
    "test_vit2",  # mean
    "test_vit3",  # registers, attention over all tokens
    "test_vit4",  # registers, RMS norm
    "vit_tiny_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "deit3_small_patch16_224",
    "vit_xsmall_patch16_clip_224",  # a norm before the blocks
    "vit_base_patch32_siglip_256",  # no class token, attention pooling
    "vit_small_patch16_dinov3",  # rotary positions alone
    "eva02_tiny_patch14_224",  # rotary positions and a table
    "vit_small_patch16_rope_mixed_224",  # learned rotations
    "vit_small_patch16_18x2_224",  # two attentions side by side
    "vit_dpwee_patch16_reg1_gap_256",  # differential attention beside the MLP
    "vit_pe_core_tiny_patch16_384",  # attention over all tokens, class token included
]


@pytest.mark.parametrize("name", PLAIN)
def test_plain_transformers_equal_timms_on_equal_planes(name: str) -> None:
    """One token deep, and three planes with a fill of the last: all with the class token."""
    small = {"depth": 2, "embed_dim": 96, "num_heads": 3}
    reference = uneven(build_image_reference(name, **small))
    encoder = grafted(build_vit(name, seed=0, timm_options=small), reference)
    patch = encoder.declaration.strides[0][0]
    image = noise(2, 1, 3 * patch, 2 * patch + 3)
    assert_twin_of(encoder, reference, image, patch)
    assert_twin_of(encoder, reference, image, 2 * patch + 1)


@pytest.mark.parametrize("method", ["average", "center"])
def test_at_the_original_size_nothing_is_interpolated(method: str) -> None:
    reference = uneven(build_image_reference("test_vit"))
    encoder = grafted(build_vit("test_vit", patch_depth=4), reference, method)
    image = noise(1, 1, 160, 160)
    assert_twin_of(encoder, reference, image, 9)
    with torch.no_grad():
        volume = image.unsqueeze(2).expand(-1, -1, 8, -1, -1)
        stages = encoder.forward_stages(volume)
        expected = reference.forward_intermediates(image, intermediates_only=True)
    assert len(stages) == 4
    taken = [len(expected) * (stage + 1) // 4 - 1 for stage in range(4)]
    for found, index in zip(stages, taken, strict=True):
        assert_equal_in_every_plane(found, expected[index], f"block {index}")


def test_a_class_token_counted_once_against_all_planes_is_not_the_2d_network() -> None:
    """What the balance is for: without it, deep volumes give other features."""
    reference = uneven(build_image_reference("test_vit"))
    encoder = grafted(build_vit("test_vit", balance_prefix=False), reference)
    image = noise(1, 1, 64, 48)
    assert_twin_of(encoder, reference, image, 16)
    with pytest.raises(AssertionError, match="differs by"):
        assert_twin_of(encoder, reference, image, 48)


def test_the_balance_is_that_of_repeated_tokens() -> None:
    """Attention with a bias of log n on the class token is attention with n class tokens."""
    encoder = uneven(build_vit("test_vit", seed=0))
    attention = encoder.blocks[0].attn
    tokens = noise(1, 1 + 12, 64)
    bias = encoder._bias(tokens, (3, 2, 2))
    with torch.no_grad():
        found = attention(tokens, attn_mask=bias)
        repeated = torch.cat([tokens[:, :1], tokens[:, :1], tokens], dim=1)
        expected = attention(repeated)[:, 2:]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_depth_matters_where_planes_differ() -> None:
    """A table tells planes apart; rotations of the plane alone do not, until depth is embedded."""
    volume = noise(1, 1, 48, 32, 32)
    turned = volume.unflatten(2, (3, 16)).flip(2).flatten(2, 3)

    def apart(encoder: Any) -> float:
        with torch.no_grad():
            found = encoder.forward_features(turned).flip(2)
            return (encoder.forward_features(volume) - found).abs().max().item()

    assert apart(uneven(build_vit("test_vit", seed=0))) > 1e-2
    name, options = "vit_small_patch16_dinov3", {"depth": 2}
    assert apart(uneven(build_vit(name, seed=0, timm_options=options))) < 1e-4
    seeing = build_vit(name, seed=0, depth_embed=True, timm_options=options)
    assert not seeing.depth_embed.any()
    assert apart(uneven(seeing)) > 1e-2


@pytest.mark.parametrize(
    ("name", "options", "depths"),
    [
        ("swin_tiny_patch4_window7_224", {}, (1, 9)),
        ("swin_tiny_patch4_window7_224", {"window_depth": 3, "depth_stride": 4}, (7,)),
        ("swin_tiny_patch4_window7_224", {"window_depth": 2, "depth_stride": 32}, (70,)),
        ("swinv2_tiny_window8_256", {}, (1,)),
        ("swinv2_tiny_window8_256", {"window_depth": 2, "depth_stride": 8}, (5,)),
    ],
)
def test_swin_equals_timms_on_equal_planes(name: str, options: Any, depths: Any) -> None:
    small = {"depths": (2, 2, 2, 2), "embed_dim": 24}
    reference = uneven(build_image_reference(name, **small))
    encoder = grafted(build_swin(name, seed=0, timm_options=small, **options), reference)
    image = noise(1, 1, 72, 44)
    for depth in depths:
        assert_twin_of(encoder, reference, image, depth)
        volume = image.unsqueeze(2).expand(-1, -1, depth, -1, -1)
        with torch.no_grad():
            stages = encoder.forward_stages(volume)
            expected = reference.forward_intermediates(image, intermediates_only=True)
        for index, (found, plane) in enumerate(zip(stages, expected, strict=True)):
            assert_equal_in_every_plane(found, plane, f"stage {index}")


def test_swin_at_the_original_size_is_timms_usual_network() -> None:
    """Against the network as timm builds it, with masks made beforehand."""
    import timm

    name, small = "swin_tiny_patch4_window7_224", {"depths": (2, 2, 2, 2), "embed_dim": 24}
    usual = timm.create_model(name, in_chans=1, num_classes=0, **small).eval()
    uneven(usual)
    encoder = grafted(build_swin(name, timm_options=small, depth_stride=1), usual)
    image = noise(1, 1, 224, 224)
    with torch.no_grad():
        found = encoder(image.unsqueeze(2).expand(-1, -1, 2, -1, -1))
        assert_equal_in_every_plane(found, usual(image), "the vector")


def test_swin_sees_across_windows_along_depth() -> None:
    """What happens in one plane reaches planes of the next window, through shifted windows."""
    options = {"depths": (2, 2, 2, 2), "embed_dim": 24}
    encoder = uneven(
        build_swin(
            "swin_tiny_patch4_window7_224",
            seed=0,
            window_depth=4,
            depth_stride=1,
            timm_options=options,
        )
    )
    volume = noise(1, 1, 8, 32, 32)
    other = volume.clone()
    other[:, :, 3] += noise(32, 32, seed=2)
    with torch.no_grad():
        first, second = (encoder.forward_stages(x)[0] for x in (volume, other))
    apart = (first - second).abs().amax(dim=(0, 1, 3, 4))
    assert (apart[:6] > 1e-4).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_declaration_is_true(name: str) -> None:
    with torch.device("meta"):
        encoder, entry = build_encoder(name).eval(), MODELS.get(name)
        facts = encoder.declaration
    assert (facts.family, facts.twin_of) == (entry.family, entry.twin_of)
    assert model_options(name) == entry.options
    state = encoder.state_dict()
    assert state[facts.stem].shape[1] == 1
    assert tuple(state[facts.stem].shape[2:]) == facts.strides[0]
    assert not any(key.startswith(f"{facts.head}.") for key in state)
    assert state[facts.stem].shape[0] == facts.feature_channels[0]
    assert facts.feature_channels[-1] == facts.num_features
    for table in facts.positions:
        rows = {
            "absolute": (1, table.prefix + int(torch.tensor(table.grid).prod())),
            "relative": (int(torch.tensor([2 * n - 1 for n in table.grid]).prod()),),
            "coordinates": (512, 3),
        }[table.kind]
        assert tuple(state[table.name].shape)[: len(rows)] == rows


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224_3d",
        "vit_small_patch14_reg4_dinov2_3d",
        "eva02_small_patch14_224_3d",
        "swin_tiny_patch4_window7_224_3d",
        "swinv2_tiny_window8_256_3d",
    ],
)
def test_stages_have_the_declared_channels_and_strides(name: str) -> None:
    """One of each kind: the others differ in width and depth alone."""
    with torch.device("meta"), torch.no_grad():
        encoder = build_encoder(name).eval()
        facts = encoder.declaration
        stages = encoder.forward_stages(torch.empty(2, 1, *facts.preferred_size))
        vector = encoder(torch.empty(1, 1, *facts.min_size))
    assert tuple(stage.shape[1] for stage in stages) == facts.feature_channels
    sizes = [
        tuple(n // found for n, found in zip(facts.preferred_size, stage.shape[2:], strict=True))
        for stage in stages
    ]
    assert tuple(sizes) == facts.strides
    assert tuple(stages[-1].shape[2:]) == (3, 3, 3)
    assert tuple(vector.shape) == (1, facts.num_features)


def test_any_of_timms_transformers_by_name() -> None:
    for name in ("timm3d:test_vit", "test_vit_3d", "timm3d:swin_tiny_patch4_window7_224"):
        with torch.device("meta"):
            encoder = build_encoder(name, in_channels=2)
            reference = build_reference_2d(name, in_channels=2)
        assert encoder.in_channels == 2
        assert list(encoder.state_dict()) == list(reference.state_dict())
    assert "patch_depth" in model_options("timm3d:test_vit")
    assert "window_depth" in model_options("timm3d:swin_tiny_patch4_window7_224")


def test_a_seed_gives_the_same_weights_and_leaves_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (build_encoder("test_vit_3d", seed=3).state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = build_encoder("test_vit_3d", seed=4).state_dict()
    assert not torch.equal(first["pos_embed"], other["pos_embed"])


@pytest.mark.parametrize("build", ["vit", "swin"])
def test_gradients_reach_every_parameter_with_and_without_checkpointing(build: str) -> None:
    gradients = []
    for on in (False, True):
        if build == "vit":
            encoder: Any = build_vit("test_vit3", seed=0)
        else:
            options = {"depths": (2, 2), "embed_dim": 24, "num_heads": (1, 2)}
            encoder = build_swin("swin_tiny_patch4_window7_224", seed=0, timm_options=options)
        encoder.train().set_gradient_checkpointing(on)
        encoder(noise(1, 1, 20, 33, 40)).square().sum().backward()
        found = {name: p.grad for name, p in encoder.named_parameters()}
        assert not [name for name, gradient in found.items() if gradient is None]
        gradients.append(found)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("vit_base_r50_s16_224", {}, "has no 3D twin"),
        ("deit_tiny_distilled_patch16_224", {}, "VisionTransformerDistilled"),
        ("test_vit", {"patch_size": 0}, "patch_size is 0; expected a whole number"),
        ("test_vit", {"patch_depth": 2.5}, r"patch_depth is 2\.5; expected a whole number"),
        ("test_vit", {"input_size": (96, 96)}, r"input_size is \(96, 96\); expected three"),
        ("test_vit", {"depth_embed": True}, "learns depth as well"),
        ("test_vit", {"drop_path": 1.0}, "expected a probability"),
        ("test_vit", {"window_depth": 2}, "has no option 'window_depth'"),
        ("swin_tiny_patch4_window7_224", {"window_depth": 0}, "window_depth is 0; expected"),
        ("swin_tiny_patch4_window7_224", {"depth_stride": 3}, "depth may be reduced by one of"),
        ("swin_tiny_patch4_window7_224", {"in_channels": 0}, "in_channels is 0"),
    ],
)
def test_what_cannot_be_built_is_said(name: str, options: Any, words: str) -> None:
    with torch.device("meta"), pytest.raises(ModelError, match=words):
        build_encoder(f"timm3d:{name}", **options)


def test_inputs_that_do_not_fit_are_refused() -> None:
    encoder = build_vit("test_vit", seed=0)
    with pytest.raises(ModelError, match=r"expected \(batch, 1, depth, height, width\)"):
        encoder(noise(1, 2, 16, 16, 16))
    with pytest.raises(ModelError, match="pools its class token"):
        encoder.pool(noise(1, 64, 1, 1, 1))
    pooled = build_vit("test_vit2", seed=0).eval()
    volume = noise(1, 1, 16, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(pooled.pool(pooled.forward_features(volume)), pooled(volume))
