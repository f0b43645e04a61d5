"""Published checkpoints of video transformers: true of the networks that they were trained in."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torchvision.models import video

from voxgraft.grafting.plan import How, rules_for
from voxgraft.grafting.recognition import NETWORKS
from voxgraft.models import build_encoder
from voxgraft.weights import SOURCES, convert, recognize
from voxgraft.weights.catalog.video_transformers import SOURCES as OURS
from voxgraft.weights.layouts import key_layout
from voxgraft.weights.read import Checkpoint
from voxgraft.weights.source import HubFile, WebFile, source_from_dict

IDS = [source.id for source in OURS]


@pytest.mark.parametrize("name", IDS)
def test_each_entry_says_what_is_known(name: str) -> None:
    source = SOURCES.get(name)
    assert name.startswith(f"{source.architecture}.")
    assert (source.layout, source.verified, source.sha256) == ("video", False, None)
    assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", source.paper)
    assert source.input.size is not None
    assert len(source.input.size) == 3
    if source.licence == "unstated" and isinstance(source.file, WebFile):
        assert "licence is stated" in source.note
    if source.sha256_begins is not None:
        assert isinstance(source.file, WebFile)
        assert source.file.url.endswith(f"-{source.sha256_begins}.pth")
    assert source_from_dict(json.loads(json.dumps(source.to_dict()))) == source


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("mvit_v1_b.kinetics400_v1", video.MViT_V1_B_Weights.KINETICS400_V1),
        ("mvit_v2_s.kinetics400_v1", video.MViT_V2_S_Weights.KINETICS400_V1),
        ("swin3d_t.kinetics400_v1", video.Swin3D_T_Weights.KINETICS400_V1),
        ("swin3d_s.kinetics400_v1", video.Swin3D_S_Weights.KINETICS400_V1),
        ("swin3d_b.kinetics400_v1", video.Swin3D_B_Weights.KINETICS400_V1),
        (
            "swin3d_b.kinetics400_imagenet22k_v1",
            video.Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1,
        ),
    ],
)
def test_torchvisions_files_are_those_of_its_weights(name: str, weights: Any) -> None:
    source = SOURCES.get(name)
    assert source.file == WebFile(url=weights.url)
    assert source.parameters == weights.meta["num_params"]
    preset = weights.transforms()
    assert source.input.mean == tuple(preset.mean)
    assert source.input.sd == tuple(preset.std)
    assert source.input.size is not None
    assert source.input.size[1:] == tuple(preset.crop_size)


def test_pytorchvideos_files_are_those_of_its_hub() -> None:
    with warnings.catch_warnings():
        # The package, which nobody maintains, compiles a function while it is imported.
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        from pytorchvideo.models.hub import vision_transformers as hub
    for name in ("mvit_base_16x4", "mvit_base_32x3"):
        source = SOURCES.get(f"{name}.k400")
        assert source.file == WebFile(url=hub.checkpoint_paths[name])
        assert source.input.size is not None
        config = getattr(hub, "mvit_video_base_config" if name.endswith("16x4") else
                         "mvit_video_base_32x3_config")  # fmt: skip
        assert source.input.size[0] == config["temporal_size"]


def _videomae(**options: Any) -> Callable[[], Any]:
    # Its fixed table of positions is computed number by number: a small clip, the same tensors.
    options = {"image_size": 32, "num_frames": 2, **options}
    if "use_mean_pooling" in options:
        kind: Any = transformers.VideoMAEForPreTraining
    else:
        kind = transformers.VideoMAEForVideoClassification
        options = {"num_labels": 400, **options}
    return lambda: kind(transformers.VideoMAEConfig(**options))


def _timesformer(size: int, frames: int) -> Callable[[], Any]:
    config = transformers.TimesformerConfig(image_size=size, num_frames=frames, num_labels=400)
    return lambda: transformers.TimesformerForVideoClassification(config)


def _vjepa2(tuned: bool) -> Callable[[], Any]:
    config = transformers.VJEPA2Config(num_labels=174)
    return lambda: (
        transformers.VJEPA2ForVideoClassification(config)
        if tuned
        else transformers.VJEPA2Model(config)
    )


_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "decoder_num_hidden_layers": 12,
    "decoder_num_attention_heads": 8,
    "decoder_hidden_size": 512,
    "decoder_intermediate_size": 2048,
}
"""From transformers' script that converted the authors' files."""

PUBLISHED: dict[str, Callable[[], Any]] = {
    "videomae_base.k400": _videomae(use_mean_pooling=False),
    "videomae_large.k400": _videomae(use_mean_pooling=False, **_LARGE),
    "videomae_base_finetuned.k400": _videomae(),
    "videomae_small_finetuned.k400": _videomae(
        hidden_size=384, intermediate_size=1536, num_attention_heads=6
    ),
    "timesformer_base.k400": _timesformer(224, 8),
    "timesformer_hr.k400": _timesformer(448, 16),
    "vivit_b_16x2.k400": lambda: transformers.VivitForVideoClassification(
        transformers.VivitConfig(num_labels=400)
    ),
    "vjepa2_vitl.fpc64_256": _vjepa2(tuned=False),
    "vjepa2_vitl.fpc16_256_ssv2": _vjepa2(tuned=True),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_network_of_the_hub_fits_whole(name: str) -> None:
    """Names and shapes of transformers' network in its full size, without memory."""
    source = SOURCES.get(name)
    with torch.device("meta"):
        reference = PUBLISHED[name]()
        encoder = build_encoder(source.architecture, in_channels=1)
    state: dict[str, Tensor] = reference.state_dict()
    assert key_layout(state.keys()) == source.key_layout
    parameters = {key: p.numel() for key, p in reference.named_parameters()}
    assert source.parameters == sum(parameters.values())
    heads = ("classifier.", "pooler.")
    assert source.head_parameters == sum(n for k, n in parameters.items() if k.startswith(heads))
    how = How(source=source, method="average", stem="sum", rules=())
    shapes = {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}
    report = convert(state, shapes, rules_for(how, encoder)).report
    assert report.coverage == 1.0
    assert not report.fresh
    assert isinstance(source.file, HubFile)


def test_a_graft_resizes_no_table_of_published_size() -> None:
    for source in OURS:
        if not source.architecture.startswith(("timesformer", "vivit")):
            continue
        with torch.device("meta"):
            declared = build_encoder(source.architecture).declaration
        size, stride = source.input.size, declared.strides[0]
        assert size is not None
        assert declared.positions
        for table in declared.positions:
            for axis in table.axes:
                assert table.grid[axis] == size[axis] // stride[axis], source.id


@pytest.mark.parametrize("name", ["timesformer_base.k400", "timesformer_hr.k400"])
def test_a_file_is_recognised_by_its_own_grid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have the same tensors, but for tables of positions; and 2D kernels, as a ViT has."""
    with torch.device("meta"):
        state = PUBLISHED[name]().state_dict()
    monkeypatch.setattr(recognize, "read_checkpoint", lambda path, key=None: Checkpoint(state, ()))
    monkeypatch.setattr(recognize, "_published", lambda state, path: None)
    source = recognize.recognized_source(Path("unknown.bin"), NETWORKS)
    assert source.architecture == name.partition(".")[0]
    assert source.key_layout == "transformers-timesformer"
