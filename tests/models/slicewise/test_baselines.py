"""The 2D baselines: timm's network on each slice, at depth 1 timm's network itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from voxgraft.grafting import graft
from voxgraft.models import Encoder, build_encoder

DINO = ("vit_small_patch14_dinov2", "vit_small_patch16_dinov3")


def with_weights(name: str, weights: dict[str, Tensor], **options: Any) -> Encoder:
    """Build a network on slices around the tensors of timm's network."""
    with torch.device("meta"):
        encoder = build_encoder(f"slicewise_{name}", **options)
    encoder.load_state_dict({f"network.{n}": t for n, t in weights.items()}, assign=True)
    return encoder.eval()


def volume(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(5))


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    scale = float(expected.abs().max())
    assert scale > 1e-2
    assert float((found - expected).abs().max()) / scale < 1e-5


@pytest.fixture(scope="module", params=["resnet18", "resnext101_32x8d"])
def network(request, original) -> tuple[str, nn.Module]:
    return request.param, original(request.param, 3)


@pytest.mark.parametrize("join", ["max", "mean"])
def test_one_slice_is_timms_image(network, join) -> None:
    name, timms = network
    encoder = with_weights(name, timms.state_dict(), in_channels=3, join=join)
    x = volume(2, 3, 1, 40, 36)
    with torch.no_grad():
        assert_close(encoder(x), timms(x[:, :, 0]))
        features = timms.forward_features(x[:, :, 0])
        assert_close(encoder.forward_features(x)[:, :, 0], features)


def test_a_grey_slice_is_timms_grey_image(original) -> None:
    timms = original("resnet18", 3).double()
    weights = timms.state_dict()
    weights["conv1.weight"] = weights["conv1.weight"].sum(1, keepdim=True)
    encoder = with_weights("resnet18", weights, join="max")
    x = volume(1, 1, 1, 40, 36).double()
    with torch.no_grad():
        assert_close(encoder(x), timms(x[:, :, 0].expand(-1, 3, -1, -1)))


def test_neighbors_are_the_three_channels(network) -> None:
    name, timms = network
    encoder = with_weights(name, timms.state_dict(), neighbors=1, join="max")
    x = volume(1, 1, 4, 33, 36)
    images = [x[0, 0, [max(i - 1, 0), i, min(i + 1, 3)]] for i in range(4)]
    with torch.no_grad():
        expected = timms(torch.stack(images))
        assert_close(encoder(x), expected.amax(0, keepdim=True))
        assert_close(encoder(x[:, :, :1]), timms(x[:, 0, [0, 0, 0]]))


@pytest.mark.parametrize("name", DINO)
def test_dino_with_attention_takes_slices_of_any_size(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        encoder = build_encoder(f"slicewise_{name}", join="attention").eval()
        stride = int(name.partition("patch")[2][:2])
        for size in ((24, 224, 224), (32, 224, 224), (5, 518, 300), (1, 1, 33)):
            x = torch.empty(1, 1, *size)
            assert encoder(x).shape == (1, 384)
            maps = encoder.forward_features(x)
            assert maps.shape == (1, 384, size[0], -(-size[1] // stride), -(-size[2] // stride))
        assert "join.gate.weight" in encoder.state_dict()


def drawn(name: str, **options: Any) -> Any:
    """Build a vision transformer no part of which is trivial: positions, layer scales, biases."""
    network = timm.create_model(name, in_chans=1, num_classes=0, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            one = key.endswith(("norm.weight", "norm1.weight", "norm2.weight", "gamma"))
            fan = parameter[0].numel() if parameter.ndim > 1 and "embed" not in key else 16
            parameter.normal_(1.0 if one else 0.0, 0.2 if one else fan**-0.5, generator=generator)
    return network.eval()


@pytest.fixture(scope="module", params=DINO)
def dino(request) -> tuple[str, Any]:
    size = int(request.param.partition("patch")[2][:2])
    return request.param, drawn(request.param, img_size=(4 * size, 3 * size))


@pytest.mark.parametrize("join", ["max", "attention"])
def test_dino_sees_what_timms_network_of_that_size_does(dino, join: str) -> None:
    """timm's is built for the slices' size: its grid of positions is fixed, ours is computed."""
    name, timms = dino
    with torch.device("meta"):
        side = timm.create_model(name, num_classes=0).patch_embed.grid_size[0]
    weights = timms.state_dict()
    size = timms.patch_embed.img_size
    if "pos_embed" in weights:  # DINOv2's; ours are of its native grid, timm's of this one
        native = torch.randn(1, 1 + side**2, 384, generator=torch.Generator().manual_seed(4))
        given = timm.layers.resample_abs_pos_embed(native, list(timms.patch_embed.grid_size))
        timms.load_state_dict({**weights, "pos_embed": given})
        weights = {**weights, "pos_embed": native}
    encoder: Any = build_encoder(f"slicewise_{name}", join=join, seed=0)
    encoder.load_state_dict(
        {f"network.{n}": t for n, t in weights.items()}
        | {n: t for n, t in encoder.state_dict().items() if n.startswith("join.")}
    )
    x = volume(2, 1, 3, *size)
    with torch.no_grad():
        vectors = torch.stack([timms(x[:, :, i]) for i in range(3)], dim=1)
        shares = vectors
        if join == "attention":
            shares = encoder.join.weights(vectors).unsqueeze(-1) * vectors
        expected = shares.sum(1) if join == "attention" else vectors.amax(1)
        assert_close(encoder.eval()(x), expected)


@pytest.mark.parametrize("name", DINO)
def test_dinos_file_grafts_with_the_join_as_only_new_part(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = timm.create_model(name, num_classes=0).state_dict()
    generator = torch.Generator().manual_seed(1)
    state = {n: 0.05 * torch.randn(t.shape, generator=generator) for n, t in shapes.items()}
    path = tmp_path / f"{name}.safetensors"
    save_file(state, path)
    result = graft(f"timm:{name}@{path}", f"slicewise_{name}", model_options={"join": "attention"})
    path.unlink()
    report = result.report
    assert not report.unexplained
    assert not report.dropped
    assert all(verdict["name"].startswith("join.") for verdict in report.fresh)
    assert [v["name"] for v in report.adapted] == ["network.patch_embed.proj.weight"]
    assert report.parity.relative_error is not None
    assert report.parity.relative_error <= 1e-4
