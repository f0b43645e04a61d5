"""Video transformers without stages: as transformers computes them and writes their files."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from voxgraft.errors import GraftError
from voxgraft.grafting import graft
from voxgraft.models import MODELS, ModelEntry
from voxgraft.models.tokens.video_blocks import _rotated, rotation
from voxgraft.models.tokens.video_vit import VideoViTConfig, build_video_vit
from voxgraft.models.tokens.video_vit_configs import (
    TIMESFORMER_BASE,
    VIDEOMAE_BASE,
    VIVIT_BASE,
    VJEPA2_LARGE,
)
from voxgraft.weights import InputContract, LocalFile, Source
from voxgraft.weights.convert import convert
from voxgraft.weights.layouts import key_layout

TOLERANCE = 1e-4  # relative to the largest value; issue 3, "It must show" 1
WIDTH, HEADS, DEPTH = 48, 4, 2
SIZE = (4, 32, 48)  # voxels; not a cube, so that no axis can be taken for another


def _small(config: VideoViTConfig, grid: tuple[int, int, int]) -> VideoViTConfig:
    return replace(config, width=WIDTH, heads=HEADS, depth=DEPTH, hidden=96, grid=grid)


def _options(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": DEPTH,
        "image_size": 32,
        "layer_norm_eps": 1e-6,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        **more,
    }


def _drawn(network: nn.Module) -> Any:
    """Give every parameter values under which nothing is trivial: biases and positions too."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
            shift = 1.0 if parameter.ndim == 1 and float(parameter.detach().mean()) > 0.5 else 0.0
            parameter.copy_(shift + noise * scale)
    return network.eval()


@dataclass(frozen=True)
class Case:
    """A network in small, its reference, and how the reference's files name things."""

    config: VideoViTConfig
    reference: Callable[[], Any]
    """transformers' network with a classifier or decoder: what files are made of."""
    answer: Callable[[Any, Tensor], tuple[Tensor, Tensor]]
    """The reference's tokens and pooled vector, of a clip (batch, time, channels, h, w)."""
    layout: str
    head: tuple[str, ...] = ()
    decoder: tuple[str, ...] = ()
    published: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    """From the names of the installed transformers to those of the published files."""
    frames: int = 4


def _videomae(**more: Any) -> Any:
    return transformers.VideoMAEConfig(
        **_options(intermediate_size=96, num_frames=4, tubelet_size=2, **more),
        decoder_hidden_size=24, decoder_num_attention_heads=2, decoder_num_hidden_layers=1,
        decoder_intermediate_size=48,
    )  # fmt: skip


def _videomae_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published files were written before transformers 5, which calls the biases otherwise."""
    names = {
        "attention.attention.query.bias": "attention.attention.q_bias",
        "attention.attention.value.bias": "attention.attention.v_bias",
    }
    renamed = {}
    for name, tensor in state.items():
        for new, old in names.items():
            name = name.replace(new, old)
        renamed[name] = tensor
    assert any(name.endswith("q_bias") for name in renamed)
    return renamed


def _vivit_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of google/vivit-b-16x2-kinetics400, from before transformers renamed them."""
    names = {
        "vivit.layers.": "vivit.encoder.layer.",
        ".attention.q_proj.": ".attention.attention.query.",
        ".attention.k_proj.": ".attention.attention.key.",
        ".attention.v_proj.": ".attention.attention.value.",
        ".attention.o_proj.": ".attention.output.dense.",
        ".mlp.fc1.": ".intermediate.dense.",
        ".mlp.fc2.": ".output.dense.",
    }
    renamed = {}
    for name, tensor in state.items():
        for new, old in names.items():
            name = name.replace(new, old)
        renamed[name] = tensor
    return renamed


def _of(attribute: str, classes: Any, config: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: _drawn(classes(config()))


def _tokens(model: Any, clip: Tensor) -> Tensor:
    out: Tensor = model(clip).last_hidden_state
    return out


def _mean_normed(model: Any, clip: Tensor) -> tuple[Tensor, Tensor]:
    tokens = _tokens(model.videomae, clip)
    return tokens, model.fc_norm(tokens.mean(1))


def _mean(model: Any, clip: Tensor) -> tuple[Tensor, Tensor]:
    tokens = _tokens(model.videomae, clip)
    return tokens, tokens.mean(1)


def _timesformer(model: Any, clip: Tensor) -> tuple[Tensor, Tensor]:
    tokens = _tokens(model.timesformer, clip)
    # transformers lets time run fastest; here it is depth, which runs slowest.
    grid = tokens[:, 1:].unflatten(1, (-1, clip.shape[1])).transpose(1, 2).flatten(1, 2)
    return grid, tokens[:, 0]


def _vivit(model: Any, clip: Tensor) -> tuple[Tensor, Tensor]:
    tokens = _tokens(model.vivit, clip)
    return tokens[:, 1:], tokens[:, 0]


def _vjepa(model: Any, clip: Tensor) -> tuple[Tensor, Tensor]:
    tokens = model(clip, skip_predictor=True).last_hidden_state
    return tokens, tokens.mean(1)


def _vjepa_config(crop: int = 32) -> Any:
    return transformers.VJEPA2Config(
        **{**_options(), "image_size": crop}, crop_size=crop, frames_per_clip=4, mlp_ratio=2.0,
        pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1, num_labels=5,
    )  # fmt: skip


CASES = {
    "videomae, pre-trained": Case(
        config=_small(VIDEOMAE_BASE, (2, 2, 2)),
        reference=lambda: _drawn(
            transformers.VideoMAEForPreTraining(_videomae(use_mean_pooling=False))
        ),
        answer=_mean,
        layout="transformers-videomae",
        decoder=("decoder", "encoder_to_decoder"),
        published=_videomae_names,
    ),
    "videomae, fine-tuned": Case(
        config=_small(replace(VIDEOMAE_BASE, norm="pooled"), (2, 2, 2)),
        reference=lambda: _drawn(
            transformers.VideoMAEForVideoClassification(
                _videomae(use_mean_pooling=True, num_labels=5)
            )
        ),
        answer=_mean_normed,
        layout="transformers-videomae",
        head=("head",),
        published=_videomae_names,
    ),
    "timesformer": Case(
        config=_small(TIMESFORMER_BASE, (4, 2, 2)),
        reference=lambda: _drawn(
            transformers.TimesformerForVideoClassification(
                transformers.TimesformerConfig(
                    **_options(intermediate_size=96, num_frames=4, patch_size=16, num_labels=5)
                )
            )
        ),
        answer=_timesformer,
        layout="transformers-timesformer",
        head=("head",),
    ),
    "vivit": Case(
        config=_small(VIVIT_BASE, (2, 2, 2)),
        reference=lambda: _drawn(
            transformers.VivitForVideoClassification(
                transformers.VivitConfig(
                    **_options(intermediate_size=96, num_frames=4, num_labels=5)
                )
            )
        ),
        answer=_vivit,
        layout="transformers-vivit",
        head=("head",),
        published=_vivit_names,
    ),
    "v-jepa 2": Case(
        config=_small(VJEPA2_LARGE, (2, 2, 2)),
        reference=lambda: _drawn(transformers.VJEPA2Model(_vjepa_config())),
        answer=_vjepa,
        layout="transformers-vjepa2",
        decoder=("predictor",),
    ),
    "v-jepa 2, fine-tuned": Case(
        config=_small(VJEPA2_LARGE, (2, 2, 2)),
        reference=lambda: _drawn(transformers.VJEPA2ForVideoClassification(_vjepa_config())),
        answer=lambda model, clip: _vjepa(model.vjepa2, clip),
        layout="transformers-vjepa2",
        head=("pooler", "classifier"),
        decoder=("predictor",),
    ),
}


@dataclass(frozen=True)
class Prepared:
    case: Case
    reference: Any
    source: Source
    state: dict[str, Tensor]


@pytest.fixture(params=CASES, scope="module")
def prepared(request: Any, tmp_path_factory: Any) -> Iterator[Prepared]:
    case = CASES[request.param]
    reference = case.reference()
    state = case.published({n: t.clone() for n, t in reference.state_dict().items()})
    path = tmp_path_factory.mktemp("file") / "model.safetensors"
    save_file(state, path)
    name = f"small_{case.config.family}"
    entry = ModelEntry(
        name=name, description="in small", family=case.config.family,
        build=partial(build_video_vit, case.config), native="video",
        options=frozenset({"seed", "drop_path"}),
    )  # fmt: skip
    MODELS.register(name, entry)
    yield Prepared(case, reference, _source(name, path, case), state)
    del MODELS._items[name]


def _source(architecture: str, path: Path, case: Case) -> Source:
    return Source(
        id="video.small", file=LocalFile(path=str(path)), sha256=None, layout="video",
        input=InputContract(channels=3, mean=(0.5,) * 3, sd=(0.5,) * 3),
        architecture=architecture, stem=("patch_embed.proj",), head=case.head,
        decoder=case.decoder, parameters=None, key_layout=case.layout,
    )  # fmt: skip


def _assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    scale = float(expected.abs().max())
    assert scale > 1e-2
    assert float((found - expected).abs().max()) / scale < TOLERANCE


def _clip(size: tuple[int, int, int], channels: int = 3) -> Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(5))


def test_features_are_those_of_transformers(prepared: Prepared) -> None:
    result = graft(prepared.source, prepared.source.architecture, in_channels=3)
    report = result.report
    assert key_layout(prepared.state.keys()) == prepared.case.layout
    assert report.coverage == 1.0
    assert report.parity.max_abs_error == 0.0
    explained = " + ".join(v["from"] for v in (*report.loaded, *report.adapted)).split(" + ")
    dropped = {verdict["name"] for verdict in report.dropped}
    assert sorted(explained + list(dropped)) == sorted(prepared.state)
    assert bool(dropped) == bool(prepared.case.head or prepared.case.decoder)
    encoder = result.encoder.eval()
    volume = _clip((4, 32, 32))
    with torch.no_grad():
        tokens, pooled = prepared.case.answer(prepared.reference, volume.transpose(1, 2))
        features = encoder.forward_features(volume)
        _assert_close(features.flatten(2).transpose(1, 2), tokens)
        _assert_close(encoder(volume), pooled)
        stages = encoder.forward_stages(volume)
        last = stages[-1].flatten(2).transpose(1, 2)
        norm = getattr(encoder, "norm", nn.Identity())
        torch.testing.assert_close(norm(last), features.flatten(2).transpose(1, 2))
    if not prepared.case.config.class_token:
        with torch.no_grad():
            _assert_close(encoder.pool(features), pooled)


def test_one_channel_answers_as_three_equal_ones(prepared: Prepared) -> None:
    result = graft(prepared.source, prepared.source.architecture, in_channels=1)
    assert result.report.coverage == 1.0
    assert result.report.parity.relative_error is not None
    assert result.report.parity.relative_error < TOLERANCE
    volume = _clip((4, 32, 32), channels=1)
    with torch.no_grad():
        clip = volume.expand(-1, 3, -1, -1, -1).transpose(1, 2)
        expected = prepared.case.answer(prepared.reference, clip)[1]
        _assert_close(result.encoder.eval()(volume), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_query_key_and_value_in_another_order_are_found(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    """Where a file has them apart, stacking them wrongly would fit just as well."""
    module = importlib.import_module("voxgraft.grafting.graft")

    def spoilt(*given: Any, **more: Any) -> Any:
        converted = convert(*given, **more)
        name = "blocks.1.attn.qkv.weight"
        converted.state[name] = converted.state[name].roll(WIDTH, 0)
        return converted

    monkeypatch.setattr(module, "convert", spoilt)
    with pytest.raises(GraftError, match=r"the first blocks\.1\.attn\.qkv\.weight"):
        graft(prepared.source, prepared.source.architecture, in_channels=channels)


def test_rotary_positions_are_those_of_v_jepa_2() -> None:
    from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

    layer = VJEPA2RopeAttention(_vjepa_config(crop=80), 80, HEADS)
    query = torch.randn(1, HEADS, 3 * 5 * 5, 20)
    expected = layer.apply_rotary_embeddings(query, layer.get_position_ids(query[0]))
    found = _rotated(query, rotation((3, 5, 5), 20, query))
    torch.testing.assert_close(found, expected)
