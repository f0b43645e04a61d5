"""V-JEPA 2's own files against transformers' network of the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from voxgraft.errors import SourceError
from voxgraft.grafting import graft
from voxgraft.grafting.plan import How, rules_for
from voxgraft.models import MODELS, build_encoder
from voxgraft.models.entry import ModelEntry
from voxgraft.models.tokens.video_vit import build_video_vit
from voxgraft.models.tokens.video_vit_configs import VJEPA2_LARGE
from voxgraft.weights import SOURCES, convert
from voxgraft.weights.layouts import key_layout
from voxgraft.weights.source import LocalFile, Source

NAME = "small_own_vjepa2"


def _theirs() -> transformers.VJEPA2Model:
    config = transformers.VJEPA2Config(
        hidden_size=48, num_attention_heads=4, num_hidden_layers=2, mlp_ratio=2.0,
        crop_size=32, image_size=32, frames_per_clip=4, tubelet_size=2, layer_norm_eps=1e-6,
        pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = transformers.VJEPA2Model(config).eval()
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return model


def _own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name transformers' tensors as app/vjepa/train.py saves them."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not name.startswith("encoder."):
            continue
        own = name.removeprefix("encoder.").replace("embeddings.patch_embeddings.", "patch_embed.")
        own = own.replace("layernorm.", "norm.").replace("layer.", "blocks.")
        own = own.replace(".attention.", ".attn.")
        part = next((p for p in ("query", "key", "value") if f".{p}." in own), None)
        if part is None:
            named[f"module.backbone.{own}"] = tensor
        elif part == "query":
            parts = [state[name.replace("query", each)] for each in ("query", "key", "value")]
            named[f"module.backbone.{own.replace('query', 'qkv')}"] = torch.cat(parts)
    return named


@pytest.fixture
def model() -> Iterator[str]:
    config = replace(
        VJEPA2_LARGE, width=48, heads=4, depth=2, hidden=96, grid=(2, 2, 2), family="vjepa2"
    )
    entry = ModelEntry(
        name=NAME, description="in small", family="vjepa2",
        build=partial(build_video_vit, config), native="video",
        options=frozenset({"seed", "drop_path"}),
    )  # fmt: skip
    MODELS.register(NAME, entry)
    yield NAME
    del MODELS._items[NAME]


def _source(path: Path) -> Source:
    published = SOURCES.get("vjepa2_vitl.own_64_256")
    return replace(published, id="own", architecture=NAME, file=LocalFile(path=str(path)))


def test_the_averaged_network_of_a_whole_file(tmp_path: Path, model: str) -> None:
    theirs = _theirs()
    averaged = _own_names(theirs.state_dict())
    trained = {name: tensor + 1.0 for name, tensor in averaged.items()}
    path = tmp_path / "vitl.pt"
    whole = {"encoder": trained, "target_encoder": averaged, "opt": {"state": {}}, "epoch": 3}
    torch.save({**whole, "predictor": {"module.backbone.mask": torch.ones(2)}}, path)
    result = graft(_source(path), model, in_channels=3)
    report = result.report
    assert report.coverage == 1.0
    assert (len(report.fresh), len(report.dropped)) == (0, 0)
    clip = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        tokens = theirs(clip.transpose(1, 2), skip_predictor=True).last_hidden_state
        found = result.encoder.eval().forward_features(clip).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, tokens, rtol=1e-4, atol=1e-4)
    with pytest.raises(SourceError, match="several networks, under the keys"):
        graft(replace(_source(path), key=None), model)


def test_the_table_that_rotary_positions_replace_is_named(tmp_path: Path, model: str) -> None:
    state = _own_names(_theirs().state_dict())
    path = tmp_path / "vitl.pt"
    torch.save(
        {"target_encoder": {**state, "module.backbone.pos_embed": torch.ones(1, 8, 48)}}, path
    )
    report = graft(_source(path), model, in_channels=3).report
    assert [verdict["name"] for verdict in report.dropped] == ["backbone.pos_embed"]


@pytest.mark.parametrize("prefix", ["module.backbone.", "backbone."])
def test_names_speak_for_the_layout(prefix: str) -> None:
    names = [n.replace("module.backbone.", prefix) for n in _own_names(_theirs().state_dict())]
    assert key_layout(names) == "vjepa2"
    # V-JEPA's first version, and a ViT for images.
    assert key_layout([*names, f"{prefix}pos_embed"]) != "vjepa2"
    assert key_layout([*names, f"{prefix}cls_token"]) != "vjepa2"


@pytest.mark.parametrize("size", ["vitl", "vith", "vitg"])
def test_full_size_files_fit_whole(size: str) -> None:
    source = SOURCES.get(f"vjepa2_{size}.own_64_256")
    width, heads, depth, hidden = {
        "vitl": (1024, 16, 24, 4096),
        "vith": (1280, 16, 32, 5120),
        "vitg": (1408, 22, 40, 6144),
    }[size]
    config = transformers.VJEPA2Config(
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=depth,
        mlp_ratio=hidden / width,
    )
    with torch.device("meta"):
        state = _own_names(transformers.VJEPA2Model(config).state_dict())
        encoder = build_encoder(source.architecture, in_channels=3)
    assert source.parameters == sum(tensor.numel() for tensor in state.values())
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    how = How(source=source, method="average", stem="sum", rules=())
    report = convert(state, shapes, rules_for(how, encoder)).report
    assert report.coverage == 1.0
    assert (len(report.fresh), len(report.dropped)) == (0, 0)
