"""Grafts into networks that keep 2D kernels: ACS twins and 2D networks on slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from voxgraft.errors import FetchError, GraftError
from voxgraft.grafting import deflate, graft, save_graft
from voxgraft.models import build_encoder, exchange_norm
from voxgraft.models.slicewise import SlicewiseEncoder
from voxgraft.weights import SOURCES, fetch_source, read_state_dict
from voxgraft.weights.convert import Subset

LITE0 = "efficientnet_lite0.tf_in1k"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def checkpoint(folder: Path, architecture: str) -> str:
    """Write a timm network with uneven weights; return it as a start."""
    path = folder / f"{architecture}.safetensors"
    if not path.is_file():
        torch.manual_seed(7)
        with torch.device("meta"):
            network: nn.Module = timm.create_model(architecture, num_classes=5)
        state = {n: torch.zeros(t.shape, dtype=t.dtype) for n, t in network.state_dict().items()}
        for name, tensor in state.items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point() and tensor.ndim > 1:
                tensor.normal_(0.0, tensor[0].numel() ** -0.5)
            elif tensor.is_floating_point():
                tensor.normal_(1.0 if name.endswith(("weight", "gamma")) else 0.0, 0.2)
        save_file(state, path)
    return f"timm:{architecture}@{path}"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("architecture", ["resnet10t", "mobilenetv3_small_050", "regnety_002"])
def test_an_acs_twin_takes_every_kernel_as_it_is(folder, architecture, channels) -> None:
    start = checkpoint(folder, architecture)
    result = graft(start, f"{architecture}_3d", in_channels=channels,
                   model_options={"convolution": "acs"})  # fmt: skip
    report = result.report
    assert report.coverage == 1.0
    assert report.method == "acs"
    assert not report.fresh
    assert len(report.adapted) == (channels == 1)  # the stem
    assert report.parity.relative_error is not None
    assert report.parity.relative_error <= 1e-4
    assert "for this, all kernels lay in the axial plane" in report.parity.where
    given = read_state_dict(Path(start.partition("@")[2]))
    own = result.encoder.state_dict()
    assert all(torch.equal(own[v["name"]], given[v["from"]]) for v in report.loaded)


@pytest.mark.parametrize("method", ["gaussian", "shift"])
@pytest.mark.parametrize("architecture", ["mobilenetv3_small_050", "convnext_atto"])
def test_other_inflations_have_parity(folder, architecture, method) -> None:
    report = graft(checkpoint(folder, architecture), f"{architecture}_3d", method=method).report
    assert report.method == method
    assert report.parity.relative_error is not None
    assert report.parity.relative_error <= 1e-4
    assert "replicated depth padding" in report.parity.where


@dataclass(frozen=True)
class _Scale:
    target: str

    def adapt(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, str] | None:
        return (tensor * 1.02, "scaled") if name == self.target else None


def test_a_spoilt_acs_kernel_is_found(folder) -> None:
    with pytest.raises(GraftError, match=r"They part at blocks\.2\.0\.conv_dw"):
        graft(checkpoint(folder, "mobilenetv3_small_050"), "mobilenetv3_small_050_3d",
              model_options={"convolution": "acs"},
              rules=[_Scale("blocks.2.0.conv_dw.weight")])  # fmt: skip


SLICED = [
    ("resnet10t", {}),
    ("resnet10t", {"neighbors": 1}),
    ("resnet10t", {"neighbors": 2, "join": "attention"}),
    ("mobilenetv3_small_050", {"planes": "all", "join": "gru", "slice_stride": 2}),
    ("convnext_atto", {"join": "max"}),
    ("vit_tiny_patch16_224", {"planes": "all", "join": "attention"}),
    ("swin_s3_tiny_224", {}),
    ("edgenext_xx_small", {"neighbors": 1}),
]


@pytest.mark.parametrize(("architecture", "options"), SLICED)
def test_a_2d_network_on_slices_takes_every_tensor(folder, architecture, options) -> None:
    start = checkpoint(folder, architecture)
    result = graft(start, f"slicewise:{architecture}", model_options=options)
    report, encoder = result.report, result.encoder
    assert isinstance(encoder, SlicewiseEncoder)
    assert report.method == "slices"
    assert report.parity.relative_error is not None
    assert report.parity.relative_error <= 1e-4
    assert "maps and vector of each slice against timm's" in report.parity.where
    joining = [name for name in encoder.state_dict() if name.startswith("join.")]
    fresh = [verdict["name"] for verdict in report.fresh]
    assert fresh == joining
    assert bool(joining) == (options.get("join") in {"attention", "gru"})
    assert len(report.adapted) == (encoder.slice_channels != 3)
    assert all(v["name"] == f"network.{v['from']}" for v in report.loaded)
    assert result.report.stem == ("" if encoder.slice_channels == 3 else "sum")


def test_real_weights_go_into_slices_and_acs() -> None:
    try:
        fetch_source(SOURCES.get(LITE0))
    except FetchError as fault:
        pytest.skip(str(fault))
    for model, options in (
        ("slicewise_efficientnet_lite0", {"neighbors": 1, "join": "attention"}),
        ("efficientnet_lite0_3d", {"convolution": "acs"}),
    ):
        result = graft(LITE0, model, model_options=options)
        assert result.report.parity.relative_error is not None
        assert result.report.parity.relative_error <= 1e-5
        assert any("differs in details (padding" in note for note in result.report.notes)


def test_a_spoilt_tensor_and_another_network_are_found(folder) -> None:
    start = checkpoint(folder, "mobilenetv3_small_050")
    with pytest.raises(GraftError, match=r"They part at network\.blocks\.2\.0\.conv_dw"):
        graft(start, "slicewise:mobilenetv3_small_050",
              rules=[_Scale("network.blocks.2.0.conv_dw.weight")])  # fmt: skip
    with pytest.raises(GraftError, match=r"network\.layer1\.0"):
        graft(start, "slicewise:resnet10t")


@pytest.mark.parametrize("options", [{}, {"convolution": "acs"}, {"depth_stride": 4}])
def test_a_trained_twin_becomes_a_2d_network(folder, options) -> None:
    start = checkpoint(folder, "mobilenetv3_small_050")
    encoder = graft(start, "mobilenetv3_small_050_3d", method="gaussian", in_channels=3,
                    model_options=options).encoder  # fmt: skip
    back = deflate(encoder)
    given = read_state_dict(Path(start.partition("@")[2]))
    own = back.network.state_dict()
    torch.testing.assert_close(own, {name: given[name] for name in own}, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)  # as if trained
    trained = deflate(encoder)
    assert encoder.training
    assert trained.report.coverage == 1.0
    assert trained.report.parity.relative_error is not None
    assert trained.report.parity.relative_error <= 1e-4
    assert deflate(encoder, method="center").report.parity.relative_error is None or options
    with pytest.raises(GraftError, match="is no twin of a 2D network: it cannot be made flat"):
        deflate(build_encoder("plain_resnet10_3d", seed=0))
    exchange_norm(encoder)
    with pytest.raises(GraftError, match="running_mean expects"):
        deflate(encoder)


@pytest.mark.parametrize(
    ("larger", "smaller", "subset"),
    [
        ("mobilenetv3_small_075", "mobilenetv3_small_050", None),
        ("mobilenetv3_small_075", "mobilenetv3_small_050", Subset()),
        ("mobilenetv3_small_075", "mobilenetv3_small_050", Subset(channels="first")),
        ("resnet26t", "resnet14t", Subset(blocks="spread")),
        ("convnext_femto", "convnext_atto", Subset()),
    ],
)
def test_a_smaller_network_gets_a_subset(folder, larger, smaller, subset) -> None:
    start = checkpoint(folder, larger)
    if subset is None:
        with pytest.raises(GraftError, match="unexplained"):
            graft(start, f"{smaller}_3d")
        return
    for model, options in ((f"{smaller}_3d", {}), (f"slicewise:{smaller}", {"join": "attention"})):
        result = graft(start, model, subset=subset, model_options=options)
        report = result.report
        assert report.parity.where == "not checked: a subset of the source's network"
        assert all(v["name"].startswith("join.") for v in report.fresh)
        assert any(f"a subset of {larger}" in note for note in report.notes)
        encoder = result.encoder.eval()
        with torch.no_grad():
            assert encoder(torch.randn(1, 1, 32, 64, 64)).isfinite().all()
    if larger.startswith("mobilenet"):
        same = graft(start, f"{larger}_3d", subset=subset)
        assert same.report.parity.relative_error is not None


def test_saved_networks_on_slices_come_back_whole(folder, tmp_path) -> None:
    start = checkpoint(folder, "mobilenetv3_small_050")
    model = "slicewise:mobilenetv3_small_050"
    first = graft(start, model, model_options={"join": "attention", "seed": 3})
    save_graft(first, tmp_path / "saved")
    again = graft(tmp_path / "saved", model)
    assert again.model_options["join"] == "attention"
    assert not again.report.fresh
    own, given = again.encoder.state_dict(), first.encoder.state_dict()
    assert list(own) == list(given)
    assert all(torch.equal(own[name], given[name]) for name in own)
    acs = graft(start, "mobilenetv3_small_050_3d", model_options={"convolution": "acs"})
    save_graft(acs, tmp_path / "acs")
    back = graft(tmp_path / "acs", "mobilenetv3_small_050_3d")
    assert back.encoder.declaration.convolution == "acs"
    assert "bit by bit" in back.report.parity.where


def test_an_encoder_that_is_given_takes_the_weights(folder) -> None:
    encoder = build_encoder("slicewise:resnet10t", join="gru", seed=0)
    kept = encoder.get_parameter("join.gru.weight_ih_l0").detach().clone()
    result = graft(checkpoint(folder, "resnet10t"), encoder)
    assert result.encoder is encoder
    assert torch.equal(encoder.get_parameter("join.gru.weight_ih_l0"), kept)
    assert result.report.parity.relative_error is not None
