"""Video transformers without stages: sizes, options, the authors' files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.grafting import graft
from voxgraft.models import MODELS, ModelEntry, build_encoder
from voxgraft.models.tokens.video_vit import VideoViT, VideoViTConfig, build_video_vit
from voxgraft.models.tokens.video_vit_configs import (
    TIMESFORMER_BASE,
    VIDEOMAE_BASE,
    VIVIT_BASE,
    VJEPA2_LARGE,
)
from voxgraft.weights import InputContract, LocalFile, Source

WIDTH = 48
SMALL = {
    name: replace(config, width=WIDTH, heads=4, depth=3, hidden=96, grid=(2, 2, 3))
    for name, config in {
        "videomae": VIDEOMAE_BASE,
        "videomae, fine-tuned": replace(VIDEOMAE_BASE, norm="pooled"),
        "timesformer": TIMESFORMER_BASE,
        "vivit": VIVIT_BASE,
        "v-jepa 2": VJEPA2_LARGE,
    }.items()
}
every_kind = pytest.mark.parametrize("config", SMALL.values(), ids=list(SMALL))


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    for name in ("timesformer", "vivit"):
        entry = ModelEntry(
            name=f"tiny_{name}", description="in small", family=name, native="video",
            build=partial(build_video_vit, SMALL[name]),
            options=frozenset({"seed", "input_size"}),
        )  # fmt: skip
        MODELS.register(entry.name, entry)
    yield
    for name in ("timesformer", "vivit"):
        del MODELS._items[f"tiny_{name}"]


def _encoder(config: VideoViTConfig) -> VideoViT:
    """Return a network in which positions and biases count."""
    network = build_video_vit(config, in_channels=3, seed=0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.2 if parameter.ndim == 1 else 0.1))
    return network.eval()


def _clip(size: tuple[int, int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(5))


def _source(path: Path, architecture: str, layout: str, **more: Any) -> Source:
    facts: dict[str, Any] = {"head": ("head",), "decoder": ("decoder",), **more}
    return Source(
        id="video.small", file=LocalFile(path=str(path)), sha256=None, layout="video",
        input=InputContract(channels=3, mean=(0.5,) * 3, sd=(0.5,) * 3, size=(4, 32, 48)),
        architecture=architecture, stem=("patch_embed.proj",), parameters=None,
        key_layout=layout, **facts,
    )  # fmt: skip


@every_kind
def test_any_size_runs(config: VideoViTConfig) -> None:
    encoder, tubelet = _encoder(config), config.tubelet
    with torch.no_grad():
        for size in ((1, 1, 1), (5, 33, 50), (8, 64, 32)):
            grid = tuple(-(-n // block) for n, block in zip(size, tubelet, strict=True))
            assert encoder.forward_features(_clip(size)).shape == (2, WIDTH, *grid)
            assert encoder(_clip(size)).isfinite().all()
        # What lies beyond the last voxel is that voxel again.
        odd = _clip((3, 31, 30))
        deep = -odd.shape[2] % tubelet[0]
        whole = F.pad(odd, (0, 2, 0, 1, 0, deep), mode="replicate")
        torch.testing.assert_close(encoder(odd), encoder(whole))


@every_kind
def test_stages_end_after_each_quarter(config: VideoViTConfig) -> None:
    encoder = _encoder(config)
    outputs: list[Tensor] = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda *call: outputs.append(call[2]))
    with torch.no_grad():
        stages = encoder.forward_stages(_clip((4, 32, 48)))
    # Of three blocks, a quarter is the first, a half the second, three quarters the third.
    assert len(stages) == len(encoder.declaration.feature_channels) == 3
    prefix = 1 if config.class_token else 0
    for stage, output in zip(stages, outputs, strict=True):
        torch.testing.assert_close(stage.flatten(2).transpose(1, 2), output[:, prefix:])


@every_kind
def test_gradient_checkpointing_gives_the_same_gradients(config: VideoViTConfig) -> None:
    encoder = _encoder(config).train()
    gradients: list[list[Tensor]] = []
    for on in (False, True):
        encoder.set_gradient_checkpointing(on)
        encoder.zero_grad()
        encoder(_clip((3, 32, 33))).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(encoder.parameters()))
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@every_kind
def test_the_same_seed_gives_the_same_weights(config: VideoViTConfig) -> None:
    first, second = (build_video_vit(config, seed=4).state_dict() for _ in range(2))
    other = build_video_vit(config, seed=5)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["patch_embed.proj.weight"], other.patch_embed.proj.weight)


@every_kind
def test_half_precision_runs(config: VideoViTConfig) -> None:
    encoder = _encoder(config)
    volume = _clip((4, 32, 40))
    with torch.no_grad():
        expected = encoder(volume)
        found = encoder.to(torch.bfloat16)(volume.to(torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert float((found.float() - expected).abs().max() / expected.abs().max()) < 0.1


@pytest.mark.parametrize(
    ("name", "prefix", "layout"),
    [
        ("videomae", "encoder.", "videomae"),
        ("videomae, fine-tuned", "model.", "videomae"),
        ("videomae, fine-tuned", "", "videomae"),
        ("timesformer", "model.", "timesformer"),
    ],
)
def test_the_authors_files(tmp_path: Path, name: str, prefix: str, layout: str) -> None:
    """Files of the original code name the tensors as this package does, behind a prefix."""
    encoder = _encoder(SMALL[name])
    state = {f"{prefix}{key}": tensor.clone() for key, tensor in encoder.state_dict().items()}
    if layout == "timesformer":  # a 2D kernel, applied slice by slice
        kernel = state["model.patch_embed.proj.weight"]
        state["model.patch_embed.proj.weight"] = kernel.squeeze(2).clone()
    else:
        state[f"{prefix}pos_embed"] = torch.ones(1, 12, WIDTH)
    if prefix == "encoder.":
        state["mask_token"] = torch.ones(1, 1, 24)
        state["decoder.norm.weight"] = torch.ones(3)
    else:
        state[f"{prefix}head.weight"] = torch.ones(5, WIDTH)
    path = tmp_path / "file.safetensors"
    save_file(state, path)
    target = build_video_vit(SMALL[name], in_channels=3, seed=1)
    result = graft(_source(path, "any", layout), target)
    assert result.report.parity.max_abs_error == 0.0
    with torch.no_grad():
        assert torch.equal(target.eval()(_clip((4, 32, 48))), encoder(_clip((4, 32, 48))))


def _linear(table: Tensor, size: int) -> Tensor:
    """Interpolate rows by hand: centers of equal parts, nothing beyond the ends."""
    old = len(table)
    places = ((torch.arange(size) + 0.5) * old / size - 0.5).clamp(0, old - 1)
    low = places.floor().long().clamp(max=old - 2)
    share = (places - low).unsqueeze(1)
    return table[low] * (1 - share) + table[low + 1] * share


def test_a_deeper_grid_interpolates_times_table(tmp_path: Path) -> None:
    config = SMALL["timesformer"]
    encoder = _encoder(config)
    path = tmp_path / "file.safetensors"
    save_file(encoder.state_dict(), path)
    options = {"input_size": (5, 64, 48)}
    result = graft(
        _source(path, "tiny_timesformer", "timesformer"), "tiny_timesformer",
        in_channels=3, model_options=options,
    )  # fmt: skip
    table = result.encoder.state_dict()["time_embed"][0]
    torch.testing.assert_close(table, _linear(encoder.time_embed.detach()[0], 5))
    assert result.encoder.state_dict()["pos_embed"].shape == (1, 1 + 4 * 3, WIDTH)
    assert torch.equal(result.encoder.state_dict()["pos_embed"][:, 0], encoder.pos_embed[:, 0])
    # A table resized once computes what a table resized at every pass does.
    volume = _clip((5, 64, 48))
    with torch.no_grad():
        torch.testing.assert_close(result.encoder.eval()(volume), encoder(volume))


def test_one_table_of_the_volume_is_resized_from_the_grid_of_the_source(tmp_path: Path) -> None:
    encoder = _encoder(SMALL["vivit"])
    path = tmp_path / "file.safetensors"
    save_file(encoder.state_dict(), path)
    result = graft(
        _source(path, "tiny_vivit", "timm"), "tiny_vivit",
        in_channels=3, model_options={"input_size": (8, 32, 64)},
    )  # fmt: skip
    assert "positions 2×2×3 to 4×2×4 (interpolated)" in str(result.report.adapted)
    volume = _clip((8, 32, 64))
    with torch.no_grad():
        torch.testing.assert_close(result.encoder.eval()(volume), encoder(volume))


def test_impossible_wishes() -> None:
    encoder = _encoder(SMALL["vivit"])
    with pytest.raises(ModelError, match="its class token, which the feature map does not hold"):
        encoder.pool(torch.ones(1, WIDTH, 2, 2, 2))
    with pytest.raises(ModelError, match="drop_path is 1"):
        build_video_vit(SMALL["vivit"], drop_path=1.0)
    with pytest.raises(ModelError, match=r"expected \(batch, 3, depth, height, width\)"):
        encoder(torch.ones(1, 1, 4, 32, 32))
    with pytest.raises(ModelError, match="input_size is 'big'; expected three whole numbers"):
        build_video_vit(SMALL["vivit"], input_size="big")
    with pytest.raises(ModelError, match="has sinusoidal ones, which are no table to learn"):
        build_video_vit(SMALL["videomae"], input_size=(4, 32, 32))
    with pytest.raises(ModelError, match="vjepa2_vitl has no option 'input_size'"):
        build_encoder("vjepa2_vitl", input_size=(4, 32, 32))


def test_stochastic_depth_acts_in_training_alone() -> None:
    encoder = build_video_vit(SMALL["timesformer"], in_channels=3, seed=0, drop_path=0.9)
    assert isinstance(encoder.blocks[0].drop_path, nn.Identity)
    volume = _clip((2, 16, 16))
    torch.manual_seed(0)
    with torch.no_grad():
        first, second = encoder(volume), encoder(volume)
        assert not torch.equal(first, second)
        encoder.eval()
        assert torch.equal(encoder(volume), encoder(volume))
