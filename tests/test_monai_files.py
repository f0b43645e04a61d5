"""Published files of MONAI's networks, with random weights: each layout, explained both ways.

Each file is laid out as its authors' code writes and reads it. Two mishaps that people report are
here: the keys of self-supervised Swin UNETR, and the cross-attention that MONAI's ViT never uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.segresnet_ds import SegResNetDS, SegResNetDS2
from monai.networks.nets.swin_unetr import filter_swinunetr
from monai.networks.nets.unet import UNet
from torch import Tensor

from voxgraft.grafting import graft, graft_segmentation
from voxgraft.grafting.plan import How, rules_for
from voxgraft.models import SegmentationNetwork, build_encoder, build_segmentation
from voxgraft.models.volumetric.swin_unetr import SwinUNETREncoder
from voxgraft.weights import SOURCES, LocalFile, Source, naming_rules
from voxgraft.weights.convert import convert
from voxgraft.weights.layouts import key_layout

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


def _native(model: str, outputs: int, **options: object) -> SegmentationNetwork:
    with torch.device("meta"):
        return build_segmentation(model, outputs, decoder="native", **options)


def _as_original(network: SegmentationNetwork, head: str = "") -> State:
    """Return a network's tensors under the original's names, with a head if it is named."""
    state: State = {}
    for name, tensor in network.state_dict().items():
        room, _, rest = name.partition(".")
        if room in ("encoder", "decoder"):
            state[rest] = tensor
        elif room == "head" and head:
            state[f"{head}.{rest}"] = tensor
    return state


def _universal(prefix: str, state: State, channels: int, width: int) -> State:
    """Return what SuPreM's and the Universal Model's class keeps, with its head."""
    head = {
        "organ_embedding": torch.empty(32, 512),
        "precls_conv.0.weight": torch.empty(channels),
        "precls_conv.0.bias": torch.empty(channels),
        "precls_conv.2.weight": torch.empty(8, channels, 1, 1, 1),
        "precls_conv.2.bias": torch.empty(8),
        "GAP.0.weight": torch.empty(width),
        "GAP.0.bias": torch.empty(width),
        "GAP.3.weight": torch.empty(256, width, 1, 1, 1),
        "GAP.3.bias": torch.empty(256),
        "controller.weight": torch.empty(153, 512, 1, 1, 1),
        "controller.bias": torch.empty(153),
        "text_to_vision.weight": torch.empty(256, 512),
        "text_to_vision.bias": torch.empty(256),
    }
    whole = {f"{prefix}backbone.{name}": tensor for name, tensor in state.items()}
    return {**{f"{prefix}{name}": tensor for name, tensor in head.items()}, **whole}


def _prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def _swin_self_supervised() -> State:
    """``model_swinvit.pt``: the transformer alone, with the first names of its layers."""
    state = {}
    for name, tensor in _native("swin_unetr_48", 2).encoder.state_dict().items():
        name = name.removeprefix("swinViT.").replace("mlp.linear", "mlp.fc")
        state[f"module.{name}"] = tensor
    return state


def _swin_pretrained_head() -> State:
    """What ``SSLHead`` keeps: the transformer and the heads of its three tasks."""
    state = _prefixed("module.", dict(_native("swin_unetr_48", 2).encoder.state_dict()))
    for head in ("rotation_pre", "rotation_head", "contrastive_pre", "contrastive_head"):
        state[f"module.{head}.weight"] = torch.empty(4, 768)
        state[f"module.{head}.bias"] = torch.empty(4)
    state["module.conv.0.weight"] = torch.empty(384, 768, 3, 3, 3)
    return state


def _swin_50k() -> State:
    """``ssl_pretrained_weights.pth``: another name, stages nested once more, a mask token."""
    state: State = {
        "encoder.mask_token": torch.empty(1, 48, 1, 1, 1),
        "encoder.norm.weight": torch.empty(768),
        "encoder.norm.bias": torch.empty(768),
    }
    for name, tensor in _as_original(_native("swin_unetr_48", 1), "out.conv.conv").items():
        if name.startswith("swinViT.layers"):
            stage, rest = name.removeprefix("swinViT.").split(".0.", 1)
            name = f"encoder.{stage}.0.0.{rest}"
        state[name.replace("swinViT.", "encoder.")] = tensor
    return state


def _voco_self_supervised() -> State:
    state = _as_original(_native("swin_unetr_v2_48", 2))
    return {name: tensor for name, tensor in state.items() if not name.startswith("decoder")}


def _vista3d() -> State:
    with torch.device("meta"):
        network = SegResNetDS2(
            blocks_down=(1, 2, 2, 4, 4), norm="instance", out_channels=48, init_filters=48
        )
    state = _prefixed("image_encoder.", dict(network.state_dict()))
    state["class_head.class_embeddings.weight"] = torch.empty(512, 48)
    state["point_head.pe_layer.positional_encoding_gaussian_matrix"] = torch.empty(3, 24)
    return state


def _whole_body() -> State:
    with torch.device("meta"):
        network = SegResNetDS(
            init_filters=32, out_channels=118, blocks_down=(1, 2, 2, 4, 4), dsdepth=4
        )
    return dict(network.state_dict())


def _segresnet(filters: int, channels: int, outputs: int, **options: object) -> State:
    with torch.device("meta"):
        network = SegResNet(
            init_filters=filters,
            in_channels=channels,
            out_channels=outputs,
            blocks_down=(1, 2, 2, 4),
            blocks_up=(1, 1, 1),
            **options,
        )
    return dict(network.state_dict())


def _unet(channels: tuple[int, ...], units: int, outputs: int) -> State:
    with torch.device("meta"):
        network = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=outputs,
            channels=channels,
            strides=(2,) * (len(channels) - 1),
            num_res_units=units,
            norm="batch",
        )
    return dict(network.state_dict())


def _brainiac() -> State:
    state = _prefixed("backbone.", dict(_native("monai_vit_b16", 2).encoder.state_dict()))
    return {**state, "projection_head.0.weight": torch.empty(128, 768)}


Wrapped = Callable[[State], object]
FILES: dict[str, tuple[Callable[[], State], Wrapped]] = {
    "segresnet_16.suprem": (
        lambda: _prefixed("module.", _segresnet(16, 1, 32)),
        lambda state: {"net": state, "optimizer": {}, "scheduler": {}, "epoch": 2100},
    ),
    "swin_unetr_48.suprem": (
        lambda: _universal("module.", _as_original(_native("swin_unetr_48", 2)), 48, 768),
        lambda state: {"net": state, "epoch": 2100},
    ),
    "genesis_unet.suprem": (
        lambda: _universal("module.", _as_original(_native("genesis_unet", 2)), 64, 512),
        lambda state: {"net": state, "epoch": 2100},
    ),
    "genesis_unet.universal": (
        lambda: _universal("module.", _as_original(_native("genesis_unet", 2)), 64, 512),
        lambda state: {"net": state},
    ),
    "genesis_unet.chest_ct": (
        lambda: _prefixed("module.", _as_original(_native("genesis_unet", 1), "out_tr.final_conv")),
        lambda state: {"state_dict": state, "epoch": 1},
    ),
    "swin_unetr_48.ssl_5050": (_swin_self_supervised, lambda state: {"state_dict": state}),
    "swin_unetr_48.ssl_50k": (_swin_50k, lambda state: {"model": state, "epoch": 1}),
    "swin_unetr_48.btcv": (
        lambda: _as_original(_native("swin_unetr_48", 14), "out.conv.conv"),
        lambda state: state,
    ),
    "swin_unetr_12.btcv_scratch": (
        lambda: _as_original(_native("swin_unetr_12", 14), "out.conv.conv"),
        lambda state: {"state_dict": state},
    ),
    "swin_unetr_48.brats21_fold0": (
        lambda: _as_original(_native("swin_unetr_48", 3, in_channels=4), "out.conv.conv"),
        lambda state: {"state_dict": state, "epoch": 300, "best_acc": 0.88},
    ),
    "swin_unetr_v2_48.voco_ssl": (_voco_self_supervised, lambda state: state),
    "swin_unetr_v2_48.voco_omni": (
        lambda: _as_original(_native("swin_unetr_v2_48", 21), "out.conv.conv"),
        lambda state: {"state_dict": state},
    ),
    "segresnet_ds_batch_32.ct_fm": (
        lambda: dict(_native("segresnet_ds_batch_32", 2).encoder.state_dict()),
        lambda state: state,
    ),
    "segresnet_ds_batch_32.ct_fm_whole_body": (_whole_body, lambda state: state),
    "segresnet_ds_instance_48.vista3d": (_vista3d, lambda state: state),
    "segresnet_32.whole_body": (lambda: _segresnet(32, 1, 105), lambda state: {"model": state}),
    "segresnet_16.brats18": (lambda: _segresnet(16, 4, 3), lambda state: state),
    "segresnet_32.renal_ct": (
        lambda: _segresnet(32, 3, 6, upsample_mode="deconv"),
        lambda state: state,
    ),
    "residual_unet_256.spleen_ct": (
        lambda: _unet((16, 32, 64, 128, 256), 2, 2),
        lambda state: {"model": state},
    ),
    "residual_unet_512.prostate_mri": (
        lambda: _unet((16, 32, 64, 128, 256, 512), 4, 3),
        lambda state: state,
    ),
    "monai_vit_b16.brainiac": (_brainiac, lambda state: {"state_dict": state, "epoch": 18}),
}
SMALL = [
    "segresnet_16.suprem",
    "swin_unetr_12.btcv_scratch",
    "segresnet_16.brats18",
    "residual_unet_256.spleen_ct",
    "genesis_unet.chest_ct",
]


def _source(name: str, folder: Path) -> Source:
    make, wrap = FILES[name]
    path = folder / f"{name}.pt"
    torch.save(wrap(_drawn(make())), path)
    return replace(SOURCES.get(name), file=LocalFile(path=str(path)), sha256=None)


@pytest.mark.parametrize("name", FILES)
def test_each_layout_is_explained_in_both_directions(name: str) -> None:
    """Names and shapes alone: the large networks get no memory."""
    source = SOURCES.get(name)
    state = {key.removeprefix("module."): tensor for key, tensor in FILES[name][0]().items()}
    assert key_layout(state) == (
        "monai-vit" if source.key_layout == "brainiac" else source.key_layout
    )
    for channels in {1, 3, source.input.channels}:
        with torch.device("meta"):
            encoder = build_encoder(source.architecture, in_channels=channels)
        how = How(source=source, method="average", stem="sum", rules=())
        report = convert(
            {key: tensor.to("meta") for key, tensor in state.items()},
            {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()},
            rules_for(how, encoder),
        ).report
        assert report.coverage == 1.0
        assert not [v for v in report.fresh if "num_batches_tracked" not in v["name"]]
        stems = encoder.declaration.stems if channels != source.input.channels else set()
        assert {verdict["name"] for verdict in report.adapted} == stems
        named = {v["from"] for v in (*report.loaded, *report.adapted)}
        assert named | {v["name"] for v in report.dropped} == set(state)
        assert all(verdict["because"] for verdict in report.dropped)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_files_graft_and_run(name: str, channels: int, tmp_path: Path) -> None:
    source = _source(name, tmp_path)
    result = graft(source, source.architecture, in_channels=channels)
    assert result.report.coverage == 1.0
    assert result.report.parity.relative_error is not None
    assert result.report.parity.relative_error < 1e-4
    facts = result.encoder.declaration
    volume = torch.randn(1, channels, *(max(edge, 8) for edge in facts.min_size))
    with torch.no_grad():
        assert result.encoder.eval()(volume).shape == (1, facts.num_features)


WHOLE = {
    "segresnet_16.suprem": "conv_final.2.conv",
    "swin_unetr_12.btcv_scratch": "out.conv.conv",
    "segresnet_16.brats18": "conv_final.2.conv",
    "genesis_unet.chest_ct": "out_tr.final_conv",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_fills_encoder_decoder_and_head(name: str, tmp_path: Path) -> None:
    source = _source(name, tmp_path)
    outputs = source.head_parameters // (_native(source.architecture, 1).decoder.channels[0] + 1)
    names = tuple(f"structure {place}" for place in range(outputs))
    result = graft_segmentation(
        replace(source, classes=names),
        source.architecture,
        outputs,
        in_channels=source.input.channels,
        parts="all",
        classes=names,
    )
    report = result.report
    assert result.decoder == "native"
    assert report.coverage == 1.0
    assert not report.adapted
    assert not [v for v in report.fresh if "num_batches_tracked" not in v["name"]]
    learned = sum(parameter.numel() for parameter in result.network.parameters())
    assert report.parameters["model"] == report.parameters["loaded"] == learned
    assert learned == source.parameters
    state = {
        key.removeprefix("module."): tensor for key, tensor in _drawn(FILES[name][0]()).items()
    }
    own = result.network.state_dict()
    for verdict in report.loaded:
        torch.testing.assert_close(own[verdict["name"]], state[verdict["from"]], rtol=0, atol=0)
    assert len({verdict["from"] for verdict in report.loaded}) == len(report.loaded) == len(state)


def test_mishap_keys_of_the_self_supervised_swin_unetr(tmp_path: Path) -> None:
    """With and without ``swinViT.``, ``module.``, heads, nested stages: the same network."""
    expected = _drawn(_native("swin_unetr_12", 2).encoder.state_dict())
    bare = {name.removeprefix("swinViT."): tensor for name, tensor in expected.items()}
    nested = {}
    for name, tensor in bare.items():
        if name.startswith("layers"):
            name = name[:9] + ".0" + name[9:]
        nested[f"encoder.{name}"] = tensor
    for name, tensor in nested.items():  # MONAI's own filter agrees
        key, value = filter_swinunetr(name, tensor)
        assert torch.equal(expected[key], value)
    nested["encoder.mask_token"] = torch.zeros(1, 12, 1, 1, 1)
    heads = {
        name.removeprefix("module."): torch.zeros(tensor.shape)
        for name, tensor in _swin_pretrained_head().items()
        if "swinViT" not in name
    }
    olden = {name.replace("mlp.linear", "mlp.fc"): tensor for name, tensor in bare.items()}
    swin = {name.replace("swinViT", "swin_vit"): tensor for name, tensor in expected.items()}
    for number, state in enumerate((expected, bare, olden, nested, swin, {**expected, **heads})):
        for prefix in ("", "module."):
            path = tmp_path / f"{number}{prefix}.pt"
            torch.save({"state_dict": _prefixed(prefix, state)}, path)
            source = replace(
                SOURCES.get("swin_unetr_48.ssl_5050"),
                architecture="swin_unetr_12",
                file=LocalFile(path=str(path)),
            )
            result = graft(source, "swin_unetr_12")
            assert isinstance(result.encoder, SwinUNETREncoder)
            assert result.report.coverage == 1.0
            own = result.encoder.state_dict()
            assert all(torch.equal(own[name], tensor) for name, tensor in expected.items())
            dropped = {v["name"] for v in result.report.dropped}
            assert len(dropped) == len(state) - len(expected)


def test_mishap_cross_attention_that_monais_vit_never_uses() -> None:
    """Files of MONAI 1.3 lack what 1.4 expects, and the other way round: both are the same."""
    source = replace(SOURCES.get("monai_vit_b16.brainiac"), key_layout="monai-vit")
    own = dict(_native("monai_vit_b16", 2).encoder.state_dict())
    newer = dict(own)
    for block in range(12):
        for part in ("norm_cross_attn.weight", "norm_cross_attn.bias"):
            newer[f"blocks.{block}.{part}"] = torch.empty(768, device="meta")
        for part in ("to_q", "to_k", "to_v", "out_proj"):
            newer[f"blocks.{block}.cross_attn.{part}.weight"] = torch.empty(768, 768, device="meta")
    targets = {name: tuple(tensor.shape) for name, tensor in own.items()}
    for state, gone in ((own, 0), (newer, 72)):
        report = convert(state, targets, naming_rules(source)).report
        assert report.coverage == 1.0
        assert not report.fresh
        assert len(report.dropped) == gone
        assert all("never uses" in verdict["because"] for verdict in report.dropped)
