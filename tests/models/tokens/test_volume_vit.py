"""Transformers that were trained on volumes, against second implementations of the originals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import RotaryEmbeddingCat
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from voxgraft.errors import ModelError
from voxgraft.grafting.plan import How, rules_for
from voxgraft.models import MODELS, build_encoder
from voxgraft.models.tokens.rotary import AxialRotation
from voxgraft.models.tokens.volume_vit import PRIMUS_SIZES, build_3dino, build_primus
from voxgraft.weights import SOURCES, naming_rules
from voxgraft.weights.convert import Drop, Rename, convert
from voxgraft.weights.layouts import key_layout

TOLERANCE = 1e-4
NAMES = [*(f"primus_{size}" for size in PRIMUS_SIZES), "vit_large_3dino"]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uneven(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim in (2, 5):
                parameter.copy_(values * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.1 * values)
    return network.eval()


def close(found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max()
    assert scale > 1e-2
    assert ((found - expected).abs().max() / scale).item() < TOLERANCE


class Primus(nn.Module):
    """The published layout: a convolution, EVA-02's blocks, timm's rotations on a 3D grid."""

    def __init__(self, width: int, blocks: int, heads: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        places = grid[0] * grid[1] * grid[2]
        self.down_projection = nn.Module()
        self.down_projection.proj = nn.Conv3d(1, width, 8, stride=8)
        self.eva = nn.Module()
        self.eva.pos_embed = nn.Parameter(torch.zeros(1, places, width))
        self.eva.blocks = nn.ModuleList(
            EvaBlock(
                width,
                heads,
                qkv_fused=False,
                mlp_ratio=4 * 2 / 3,
                swiglu_mlp=True,
                scale_mlp=True,
                scale_attn_inner=True,
                num_prefix_tokens=0,
                init_values=0.1,
                norm_layer=nn.LayerNorm,
            )
            for _ in range(blocks)
        )
        self.eva.norm = nn.LayerNorm(width)
        self.up_projection = nn.Sequential(nn.ConvTranspose3d(width, 2, 8, stride=8))
        self.register_buffer("mask_token", torch.zeros(1, 1, width))
        self.angles = RotaryEmbeddingCat(width // heads * 2 // 3, in_pixels=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down_projection.proj(x)
        batch, width, *grid = x.shape
        x = x.permute(0, 2, 3, 4, 1).reshape(batch, -1, width) + self.eva.pos_embed
        for block in self.eva.blocks:
            x = block(x, rope=self.angles.get_embed(grid))
        return self.eva.norm(x).transpose(1, 2).reshape(batch, width, *grid)


class Dino3d(nn.Module):
    """DINOv2's transformer on volumes, its blocks in chunks as the training code saves them."""

    def __init__(self, width: int, blocks: int, heads: int, grid: int) -> None:
        super().__init__()
        norm = nn.LayerNorm
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**3, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(1, width, 16, stride=16)

        def make(index: int) -> nn.Module:
            block = Block(width, heads, qkv_bias=True, init_values=1e-5, norm_layer=norm)
            block.norm1.eps = block.norm2.eps = 1e-6
            return block

        half = blocks // 2
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Identity()] * start + [make(n) for n in range(start, start + half)])
            for start in (0, half)
        )
        self.norm = norm(width, eps=1e-6)
        self.grid = grid

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patch_embed.proj(x)
        batch, width, *grid = x.shape
        x = x.flatten(2).transpose(1, 2)
        table = self.pos_embed[:, 1:]
        if tuple(grid) != (self.grid,) * 3:
            table = table.transpose(1, 2).reshape(1, width, *(self.grid,) * 3)
            table = functional.interpolate(table, grid, mode="trilinear")
            table = table.flatten(2).transpose(1, 2)
        token = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        x = torch.cat([token, x + table], dim=1)
        for chunk in self.blocks:
            for block in chunk:
                x = block(x)
        x = self.norm(x)
        return x[:, 1:].transpose(1, 2).reshape(batch, width, *grid), x[:, 0]


def renamed(state: dict[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """Apply a source's naming rules one by one; also return what they drop."""
    kept, dropped = {}, []
    for old, tensor in state.items():
        name = old
        for rule in naming_rules(SOURCES.get(source)):
            if isinstance(rule, Rename):
                name = rule.rename(name)
            elif isinstance(rule, Drop) and rule.chooses(name):
                dropped.append(old)
                break
        else:
            kept[name] = tensor
    return kept, dropped


@pytest.mark.parametrize("size", [(16, 24, 32), (24, 24, 24)])
def test_primus_is_its_published_layout(size: tuple[int, int, int]) -> None:
    grid = (size[0] // 8, size[1] // 8, size[2] // 8)
    original = uneven(Primus(72, 2, 3, grid))
    encoder: Any = build_primus(72, 2, 3, input_size=size)
    state, dropped = renamed(original.state_dict(), "primus_m.openmind_mae")
    assert set(dropped) == {"mask_token", "up_projection.0.weight", "up_projection.0.bias"}
    encoder.load_state_dict(state, strict=True)
    x = noise(2, 1, *size)
    with torch.no_grad():
        expected = original(x)
        close(encoder.eval().forward_features(x), expected)
        close(encoder(x), expected.mean(dim=(2, 3, 4)))
        close(encoder.pool(expected), expected.mean(dim=(2, 3, 4)))


def test_3dino_is_its_published_layout() -> None:
    original = uneven(small_dino())
    encoder = small_3dino()
    state, dropped = renamed(
        {f"backbone.{name}": tensor for name, tensor in original.state_dict().items()}
        | {"dino_head.mlp.0.weight": torch.ones(2), "ibot_head.mlp.0.weight": torch.ones(2)},
        "vit_large_3dino.3dino",
    )
    assert set(dropped) == {
        "backbone.mask_token",
        "dino_head.mlp.0.weight",
        "ibot_head.mlp.0.weight",
    }
    encoder.load_state_dict(state, strict=True)
    for size in [(32, 32, 32), (48, 64, 32)]:
        x = noise(1, 1, *size)
        with torch.no_grad():
            features, token = original(x)
            close(encoder.forward_features(x), features)
            close(encoder(x), token)


def small_dino() -> Dino3d:
    return Dino3d(1024, 2, 16, 2)


def small_3dino() -> Any:
    """The network of two of its 24 blocks."""
    with torch.device("meta"):
        encoder: Any = build_3dino(input_size=(32, 32, 32))
    encoder.blocks = encoder.blocks[:2]
    return encoder.to_empty(device="cpu").eval()


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 5)])
def test_rotations_are_timms(shape: tuple[int, int, int]) -> None:
    expected = RotaryEmbeddingCat(44, in_pixels=False).get_embed(shape)
    torch.testing.assert_close(AxialRotation(66).get_embed(shape), expected)
    with pytest.raises(ModelError, match="expected a multiple of six"):
        AxialRotation(64)


@pytest.mark.parametrize("name", NAMES)
def test_the_declaration_is_true(name: str) -> None:
    with torch.device("meta"):
        encoder, entry = build_encoder(name, in_channels=2).eval(), MODELS.get(name)
        facts = encoder.declaration
    assert (facts.family, facts.native, facts.reference) == (
        entry.family,
        entry.native,
        entry.reference,
    )
    assert (facts.twin_of, entry.twin_of) == (None, None)
    state = encoder.state_dict()
    assert tuple(state[facts.stem].shape[1:]) == (2, *facts.strides[0])
    assert facts.feature_channels == (state[facts.stem].shape[0],) * 4
    assert facts.num_features == facts.feature_channels[-1]
    table = facts.positions[0]
    assert state[table.name].shape[1] == table.prefix + int(torch.tensor(table.grid).prod())
    with pytest.raises(ModelError, match="no twin of a 2D network"):
        encoder.build_reference()


def test_stages_have_the_declared_channels_and_strides() -> None:
    """Of Primus-S: the others differ in width and depth alone."""
    with torch.device("meta"), torch.no_grad():
        encoder = build_encoder("primus_s").eval()
        facts = encoder.declaration
        stages = encoder.forward_stages(torch.empty(1, 1, *facts.preferred_size))
        vector = encoder(torch.empty(1, 1, *facts.min_size))
    assert tuple(stage.shape[1] for stage in stages) == facts.feature_channels
    assert all(tuple(stage.shape[2:]) == (3, 3, 3) for stage in stages)
    assert tuple(vector.shape) == (1, facts.num_features)


def test_files_are_recognised_by_their_names() -> None:
    primus = Primus(36, 1, 1, (1, 1, 1)).state_dict()
    assert key_layout(primus.keys()) == "primus"
    contrastive = [*(f"encoder.{name}" for name in primus), "projector.layer1.0.weight"]
    assert key_layout(contrastive) == "primus"
    dino = Dino3d(32, 2, 1, 1).state_dict()
    assert key_layout([f"teacher.backbone.{name}" for name in dino]) == "dinov2-chunked"


def test_contrastive_files_have_the_encoder_one_level_down() -> None:
    primus = Primus(36, 1, 1, (1, 1, 1)).state_dict()
    state = {f"encoder.{name}": t for name, t in primus.items() if "up_proj" not in name}
    state["projector.layer1.0.weight"] = torch.ones(2)
    kept, dropped = renamed(state, "primus_m.openmind_simclr")
    assert set(dropped) == {"encoder.mask_token", "projector.layer1.0.weight"}
    encoder = build_primus(36, 1, 1, input_size=(8, 8, 8))
    assert set(kept) == set(encoder.state_dict())


def test_positions_of_another_size_are_resized() -> None:
    """A file of a small cube in a network for other sizes."""
    file = uneven(Primus(36, 1, 1, (2, 2, 2))).state_dict()
    source = SOURCES.get("primus_m.openmind_simclr")
    encoder = build_primus(36, 1, 1, input_size=(24, 32, 16))
    rules = rules_for(How(source=source, method="average", stem="sum", rules=()), encoder)
    del file["up_projection.0.weight"], file["up_projection.0.bias"]
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    report = convert(file, shapes, rules).report
    assert [verdict["how"] for verdict in report.adapted] == [
        "positions 2×2×2 to 3×4×2 (interpolated)"
    ]
