"""A source's encoder, decoder and head in a segmentation network, each tensor accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from monai.networks.nets.segresnet import SegResNet
from safetensors.torch import save_file
from torch import Tensor, nn

from voxgraft.errors import GraftError, SourceError
from voxgraft.grafting import graft, graft_segmentation, save_graft
from voxgraft.models import build_encoder, build_segmentation
from voxgraft.weights import SOURCES, LocalFile, Source

State = dict[str, Tensor]


def _drawn(shapes: Mapping[str, Tensor]) -> State:
    """Return numbers for tensors that have none; whole numbers are kept."""
    pool = torch.randn(10_007, generator=torch.Generator().manual_seed(5))
    state: State = {}
    for place, (name, tensor) in enumerate(shapes.items()):
        if not tensor.is_floating_point():
            state[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
            continue
        count = max(tensor.numel(), 1)
        values = pool.roll(131 * place).repeat(-(-count // len(pool)))[:count]
        values = values * (tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1)
        if tensor.ndim == 1 and name.endswith(("weight", "running_var")):
            values = 1 + values.abs()
        state[name] = values.reshape(tensor.shape)
    return state


def _segresnet(filters: int) -> SegResNet:
    return SegResNet(
        init_filters=filters, out_channels=32, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)
    )


def _prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.fixture
def suprem(tmp_path: Path) -> Source:
    """SuPreM's SegResNet as its authors keep it, with other numbers."""
    path = tmp_path / "supervised_suprem_segresnet_2100.pth"
    state = _prefixed("module.", _drawn(_segresnet(16).state_dict()))
    torch.save({"net": state, "optimizer": {}, "scheduler": {}, "epoch": 2100}, path)
    return replace(SOURCES.get("segresnet_16.suprem"), file=LocalFile(path=str(path)))


def test_logits_of_a_grafted_segresnet_are_monais(suprem: Source) -> None:
    source = suprem
    original = _segresnet(16)
    original.load_state_dict(_drawn(original.state_dict()))
    result = graft_segmentation(source, "segresnet_16", parts="all", classes=source.classes)
    assert result.report.coverage == 1.0
    assert result.network.input_mean.tolist() == [0.0]
    assert result.network.input_sd.tolist() == [1.0]
    volume = torch.rand(1, 1, 16, 24, 8)
    turned = volume.permute(0, 1, 4, 3, 2)  # MONAI's axes: right, anterior, superior
    with torch.no_grad():
        expected = original.eval()(turned).permute(0, 1, 4, 3, 2)
        torch.testing.assert_close(result.network.eval()(volume), expected, rtol=1e-4, atol=1e-4)


def test_the_axes_of_the_training_travel_with_the_weights(suprem: Source, tmp_path: Path) -> None:
    source = suprem
    result = graft(source, "segresnet_16")
    assert result.model_options["axes"] == "RAS"
    assert any("turned to the axes of the training, RAS" in n for n in result.report.notes)
    save_graft(result, tmp_path / "saved")
    again = graft(tmp_path / "saved", "segresnet_16")
    volume = torch.rand(1, 1, 8, 16, 24)
    with torch.no_grad():
        expected = result.encoder.eval()(volume)
        assert torch.equal(again.encoder.eval()(volume), expected)
        straight = graft(source, build_encoder("segresnet_16"))
        assert not torch.allclose(straight.encoder.eval()(volume), expected)
        asked = graft(source, "segresnet_16", model_options={"axes": "SAR"})
        assert torch.equal(asked.encoder.eval()(volume), straight.encoder(volume))
    for other in (straight, asked):
        assert any(
            "of the axes RAS; this network sees them as SAR" in n for n in other.report.notes
        )
    with pytest.raises(SourceError, match=r"axes 'RAX'\. Expected three letters"):
        replace(source.input, axes="RAX")


def test_another_head_and_a_unets_decoder_are_fresh_with_reasons(
    suprem: Source, tmp_path: Path
) -> None:
    source = suprem
    result = graft_segmentation(source, "segresnet_16", 3, seed=7, deep_supervision=True)
    fresh = {v["name"]: v["because"] for v in result.report.fresh}
    assert set(fresh) == {
        "head.weight",
        "head.bias",
        "deep_heads.0.weight",
        "deep_heads.0.bias",
    }
    assert set(fresh.values()) == {"the task's own head"}
    assert [v["name"] for v in result.report.dropped] == [
        "conv_final.2.conv.weight",
        "conv_final.2.conv.bias",
    ]
    stages = result.report.coverage_by_stage
    assert stages["head"] == stages["deep_heads"] == 0.0
    assert stages["encoder.down_layers.0"] == stages["decoder.up_layers.0"] == 1.0
    again = graft_segmentation(source, "segresnet_16", 3, seed=7, deep_supervision=True)
    assert torch.equal(again.network.head.weight, result.network.head.weight)

    plain = graft_segmentation(source, "segresnet_16", 3, decoder="unet", in_channels=3)
    report = plain.report
    assert plain.decoder == "unet"
    reasons = {v["because"] for v in report.fresh if v["name"].startswith("decoder.")}
    assert reasons == {"the source's decoder is another; this one is a U-Net's"}
    assert any("part of the source's decoder (up_layers)" in v["because"] for v in report.dropped)
    assert 0.5 < report.coverage < 1.0
    every = {v["name"] for v in (*report.loaded, *report.adapted, *report.fresh)}
    own = set(plain.network.state_dict()) - {"input_mean", "input_sd"}
    assert every == own
    assert report.parity.where.startswith("encoder: features and pooled vector")
    assert "0 tensors from the file" in report.parity.where


def test_a_source_without_decoder_says_so(tmp_path: Path) -> None:
    encoder = build_encoder("segresnet_ds_batch_32").state_dict()
    path = tmp_path / "model.safetensors"
    save_file(encoder, path)
    source = replace(SOURCES.get("segresnet_ds_batch_32.ct_fm"), file=LocalFile(path=str(path)))
    for kind in ("unet", "native"):
        report = graft_segmentation(source, source.architecture, 2, decoder=kind).report
        reasons = {v["because"] for v in report.fresh if v["name"].startswith("decoder.")}
        assert reasons == {"the source has no decoder"}
        assert not report.dropped


def test_a_decoder_that_is_there_in_part(tmp_path: Path) -> None:
    """VoCo's own files have the blocks before the decoder, and none of its levels."""
    network = build_segmentation("swin_unetr_12", 2, decoder="native")
    state = {
        name.partition(".")[2]: tensor
        for name, tensor in network.state_dict().items()
        if re.match(r"encoder\.|decoder\.encoder", name)
    }
    path = tmp_path / "part.safetensors"
    save_file(state, path)
    source = replace(
        SOURCES.get("swin_unetr_12.btcv_scratch"),
        file=LocalFile(path=str(path)),
        head=(),
        decoder=("encoder1", "encoder2", "encoder3", "encoder4", "encoder10"),
    )
    report = graft_segmentation(
        source, "swin_unetr_12", 2, in_channels=2, check_parity=False
    ).report
    assert {v["name"] for v in report.adapted} == {
        "encoder.swinViT.patch_embed.proj.weight",
        "decoder.encoder1.layer.conv1.conv.weight",
        "decoder.encoder1.layer.conv3.conv.weight",
    }
    fresh = {v["name"].split(".")[1] for v in report.fresh if v["name"].startswith("decoder.")}
    assert fresh == {"decoder1", "decoder2", "decoder3", "decoder4", "decoder5"}
    assert {v["because"] for v in report.fresh} == {
        "the source has nothing of this part",
        "the task's own head",
    }


def test_weights_of_images_become_an_encoder_with_a_fresh_decoder(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_file(timm.create_model("mobilenetv3_small_050").state_dict(), path)
    result = graft_segmentation(
        f"timm:mobilenetv3_small_050@{path}", "mobilenetv3_small_050_3d", 2, seed=1
    )
    assert result.decoder == "unet"
    assert result.report.method == "average"
    assert result.report.parity.relative_error < 1e-4
    assert {v["name"].partition(".")[0] for v in result.report.fresh} == {"decoder", "head"}
    assert result.network.input_mean.item() == pytest.approx(0.449, abs=1e-3)
    volume = torch.rand(1, 1, 20, 33, 17)
    with torch.no_grad():
        assert result.network.eval()(volume).shape == (1, 2, 20, 33, 17)


def test_a_given_network_keeps_its_outputs(suprem: Source) -> None:
    source = suprem
    network = build_segmentation("segresnet_16", 4, decoder="native", input_mean=0.3)
    head = network.head.weight.detach().clone()
    result = graft_segmentation(source, network)
    assert result.network is network
    assert torch.equal(network.head.weight, head)
    assert network.input_mean.tolist() == [0.0]
    assert result.report.coverage > 0.99
    with pytest.raises(GraftError, match="has its own outputs"):
        graft_segmentation(source, network, 4)
    with pytest.raises(GraftError, match="deep_supervision build a network"):
        graft_segmentation(source, network, decoder="unet")
    with pytest.raises(GraftError, match="outputs is None"):
        graft_segmentation(source, "segresnet_16")


def test_a_damaged_decoder_is_unexplained(suprem: Source) -> None:
    whole = torch.load(suprem.file.path, weights_only=True)
    whole["net"].pop("module.up_layers.1.0.conv1.conv.weight")
    torch.save(whole, suprem.file.path)
    assert graft(suprem, "segresnet_16").report.coverage == 1.0
    message = r"decoder\.up_layers\.1\.0\.conv1\.conv\.weight expects"
    with pytest.raises(GraftError, match=message):
        graft_segmentation(suprem, "segresnet_16", 2)
    network = build_segmentation("segresnet_16", 2, decoder="native", seed=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(GraftError, match=message):
        graft_segmentation(suprem, network)
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"net": state, "optimizer": {"lr": 1.0}, "epoch": 3},
        lambda state: {"state_dict": state},
        lambda state: {"model": {"state_dict": state}, "best": torch.tensor(0.5)},
        lambda state: {"state_dict": _prefixed("module.", _prefixed("module.", state))},
    ],
)
def test_mishap_a_network_inside_of_another_dict(
    wrap: Callable[[State], object], tmp_path: Path
) -> None:
    state = _drawn(_segresnet(8).state_dict())
    path = tmp_path / "wrapped.pth"
    torch.save(wrap(state), path)
    source = replace(
        SOURCES.get("segresnet_16.suprem"),
        architecture="segresnet_8",
        file=LocalFile(path=str(path)),
    )
    result = graft_segmentation(source, "segresnet_8", parts="all", classes=source.classes)
    assert result.report.coverage == 1.0
    own = result.network.state_dict()
    assert torch.equal(own["head.weight"], state["conv_final.2.conv.weight"])
    assert isinstance(result.network.encoder, nn.Module)
