"""Grafts of transformers: tables of positions, windows and patches, checked against timm."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from voxgraft.errors import GraftError
from voxgraft.grafting import deflate, graft, save_graft
from voxgraft.models import build_encoder
from voxgraft.weights import GraftReport
from voxgraft.weights.convert import ResizePositions


def _saved(folder: Path, architecture: str, **options: object) -> Path:
    """Save a timm network with uneven gains and tables."""
    torch.manual_seed(7)
    network: nn.Module = timm.create_model(architecture, **options)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "token" in name or "pos" in name:
                parameter.normal_()
    path = folder / f"{architecture}-{len(list(folder.iterdir()))}.safetensors"
    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, path)
    return path


def _how(report: GraftReport, name: str) -> str:
    return next(verdict["how"] for verdict in report.adapted if verdict["name"] == name)


@pytest.mark.parametrize("architecture", ["test_vit", "test_vit3", "eva02_tiny_patch14_224"])
@pytest.mark.parametrize("method", ["average", "center"])
def test_plain_transformers_graft_wholly_and_with_parity(
    tmp_path: Path, architecture: str, method: str
) -> None:
    path = _saved(tmp_path, architecture)
    result = graft(f"timm:{architecture}@{path}", f"{architecture}_3d", method=method)
    report = result.report
    assert report.coverage == 1.0
    assert not report.fresh
    assert report.unexplained == ()
    assert {verdict["name"] for verdict in report.adapted} == {
        "pos_embed",
        "patch_embed.proj.weight",
    }
    assert "(repeated along depth)" in _how(report, "pos_embed")
    assert report.parity.relative_error is not None
    assert report.parity.relative_error < 1e-5
    assert result.encoder.training


def test_swin_grafts_wholly_and_with_parity(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    path = _saved(tmp_path, name)
    options = {"window_depth": 3, "depth_stride": 8}
    report = graft(f"timm:{name}@{path}", f"{name}_3d", model_options=options).report
    assert report.coverage == 1.0
    assert len(report.adapted) == 1 + 12
    table = "layers.3.blocks.1.attn.relative_position_bias_table"
    assert _how(report, table) == (
        "relative positions of windows 7×7 to 3×7×7 (repeated along depth)"
    )
    assert report.parity.relative_error is not None
    assert report.parity.relative_error < 1e-5


@pytest.mark.parametrize(
    ("size", "input_size", "how"),
    [
        (160, (32, 96, 64), "positions 10×10 to 2×6×4 (interpolated)"),
        (96, None, "positions 6×6 to 8×10×10 (interpolated)"),
        (96, (48, 128, 128), "positions 6×6 to 3×8×8 (interpolated)"),
        (96, (48, 96, 96), "positions 6×6 to 3×6×6 (repeated along depth)"),
        (160, (16, 160, 160), None),
    ],
)
def test_positions_of_another_grid(
    tmp_path: Path, size: int, input_size: tuple[int, ...] | None, how: str | None
) -> None:
    """A public mishap: weights of one image size in a network of another. Compared with timm."""
    path = _saved(tmp_path, "test_vit", img_size=size)
    options = {} if input_size is None else {"input_size": input_size}
    result = graft(f"timm:test_vit@{path}", "test_vit_3d", model_options=options)
    if how is None:
        assert "pos_embed" in {verdict["name"] for verdict in result.report.loaded}
        assert torch.equal(result.encoder.state_dict()["pos_embed"], load_file(path)["pos_embed"])
    else:
        assert _how(result.report, "pos_embed") == how
    assert result.report.parity.relative_error is not None
    assert result.report.parity.relative_error < 1e-5


def test_positions_of_a_grid_that_is_not_square_must_be_said(tmp_path: Path) -> None:
    path = _saved(tmp_path, "test_vit", img_size=(96, 64))
    source = f"timm:test_vit@{path}"
    with pytest.raises(GraftError, match=r"24 positions after 1 of other tokens, .* source_grid="):
        graft(source, "test_vit_3d")
    rule = ResizePositions(
        name="pos_embed", grid=(8, 10, 10), prefix=1, image=True, source_grid=(6, 4)
    )
    report = graft(source, "test_vit_3d", rules=[rule]).report
    assert _how(report, "pos_embed") == "positions 6×4 to 8×10×10 (interpolated)"
    assert report.parity.relative_error is not None
    assert report.parity.relative_error < 1e-5


def test_patches_of_another_size_are_resized_and_not_compared(tmp_path: Path) -> None:
    path = _saved(tmp_path, "test_vit")
    options = {"patch_size": 8, "patch_depth": 4, "input_size": (32, 80, 80)}
    result = graft(f"timm:test_vit@{path}", "test_vit_3d", model_options=options, in_channels=3)
    assert _how(result.report, "patch_embed.proj.weight") == (
        "patch kernel 16×16 to 8×8 (pseudo-inverse); inflated (average) to depth 4"
    )
    assert result.report.parity.where == "not checked: 1 tensors are resized, by a rule"
    assert "pos_embed" in {verdict["name"] for verdict in result.report.adapted}


def test_a_table_of_depth_starts_at_zero_and_is_named(tmp_path: Path) -> None:
    name = "vit_small_patch16_dinov3"
    path = _saved(tmp_path, name)
    result = graft(f"timm:{name}@{path}", f"{name}_3d", model_options={"depth_embed": True})
    assert [verdict["name"] for verdict in result.report.fresh] == ["depth_embed"]
    assert "starts at zero" in result.report.fresh[0]["because"]
    assert not result.encoder.state_dict()["depth_embed"].any()
    assert result.report.parity.relative_error is not None
    assert result.report.parity.relative_error < 1e-5


def test_a_saved_graft_is_a_start_of_the_same_network(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    path = _saved(tmp_path / "files", "test_vit")
    options = {"input_size": (32, 96, 64)}
    result = graft(f"timm:test_vit@{path}", "test_vit_3d", model_options=options)
    save_graft(result, tmp_path / "saved")
    again = graft(tmp_path / "saved", "test_vit_3d")
    assert again.report.parity.max_abs_error == 0.0
    for name, tensor in again.encoder.state_dict().items():
        assert torch.equal(tensor, result.encoder.state_dict()[name])


def test_a_transposed_projection_is_found(tmp_path: Path) -> None:
    path = _saved(tmp_path, "test_vit")
    encoder = build_encoder("test_vit_3d", seed=0)
    state = load_file(path)
    state["blocks.0.mlp.fc1.weight"] = state["blocks.0.mlp.fc1.weight"].t().contiguous()
    save_file(state, path)
    with pytest.raises(GraftError, match="it seems transposed"):
        graft(f"timm:test_vit@{path}", encoder)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_vit", {}),
        ("test_vit", {"input_size": (64, 96, 64), "patch_depth": 4}),
        ("test_vit3", {"patch_size": 8, "input_size": (32, 32, 48)}),
    ],
)
def test_a_trained_twin_becomes_timms_network_again(name: str, options: dict[str, object]) -> None:
    """What depth learned by itself is left out; for one plane the network gives the same."""
    encoder = build_encoder(f"{name}_3d", seed=0, **options)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    report = deflate(encoder).report
    assert report.coverage == 1.0
    assert "(those of one plane)" in _how(report, "pos_embed")
    assert report.parity.relative_error is not None
    assert report.parity.relative_error < 1e-5


def test_a_trained_swin_becomes_timms_network_again() -> None:
    encoder = build_encoder("swin_tiny_patch4_window7_224_3d", seed=0, window_depth=2)
    with torch.no_grad():
        for key, parameter in encoder.named_parameters():
            if "table" in key or "cpb" in key or parameter.ndim == 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
    report = deflate(encoder).report
    assert report.coverage == 1.0
    assert report.parity.relative_error is not None
    assert report.parity.relative_error < 1e-5
