"""A finished segmentation as a start: its encoder, its decoder, and its head by class names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from voxgraft.datasets.structures import SUPREM_HEAD, canonical_name
from voxgraft.errors import GraftError, SourceError
from voxgraft.grafting import (
    decoder_kind,
    decoder_options,
    from_pretrained,
    graft,
    graft_segmentation,
    inspect_file,
)
from voxgraft.models import (
    SegmentationNetwork,
    build_encoder,
    build_segmentation,
    exchange_norm,
)
from voxgraft.weights import SOURCES, Card, card_source, load_card, save_weights
from voxgraft.weights.convert import TakeRows

MODEL = "segresnet_8"
TRAINED = ("background", "liver", "spleen", "kidney_left")


def _network(outputs: int = 4, **options: object) -> SegmentationNetwork:
    network = build_segmentation(MODEL, outputs, seed=3, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(8)
    for head in (network.head, *getattr(network, "deep_heads", ())):
        nn.init.normal_(head.bias, generator=generator)
    return network


def _save(
    network: SegmentationNetwork, folder: Path, classes: Sequence[str] = TRAINED, **facts: object
) -> Path:
    rooms = ("encoder.", "decoder.", "head.", "deep_heads.")
    state = {n: t for n, t in network.state_dict().items() if n.startswith(rooms)}
    card = Card(
        model=MODEL,
        in_channels=network.encoder.in_channels,
        input_mean=(0.3,),
        input_sd=(0.2,),
        stem=network.encoder.declaration.stem,
        outputs=network.outputs,
        decoder=decoder_kind(network),
        decoder_options=decoder_options(network),
        classes=tuple(classes),
    )
    save_weights(folder, state, replace(card, **facts))  # type: ignore[arg-type]
    return folder


def _reasons(fresh: Sequence[object]) -> set[str]:
    return {verdict["because"] for verdict in fresh}  # type: ignore[index]


@pytest.mark.parametrize("kind", ["native", "unet"])
def test_a_finished_segmentation_starts_another_whole(kind: str, tmp_path: Path) -> None:
    options = {"decoder_norm": "batch", "decoder_width": 6} if kind == "unet" else {}
    network = _network(decoder=kind, deep_supervision=True, **options)
    volume = torch.rand(1, 1, 16, 16, 16)
    network(volume)  # running statistics of the decoder's batch normalization
    _save(network, tmp_path / "run")
    source = card_source(tmp_path / "run")
    assert source.decoder == ("decoder",)
    assert source.head == ("head", "deep_heads")
    assert source.classes == TRAINED
    result = graft_segmentation(
        source, MODEL, parts="all", classes=TRAINED, deep_supervision=True, seed=9
    )
    assert result.decoder == kind
    assert result.decoder_options == {**options, "deep_supervision": True}
    assert result.report.coverage == 1.0
    assert not result.report.fresh
    assert not result.report.adapted
    assert not result.report.dropped
    assert result.filled == TRAINED
    network.input_mean.fill_(0.3)
    network.input_sd.fill_(0.2)
    with torch.no_grad():
        found = result.network.eval().forward_levels(volume)
        expected = network.eval().forward_levels(volume)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))

    fresh = graft_segmentation(source, MODEL, 2, seed=9).report
    assert _reasons(fresh.fresh) == {"the task's own head"}
    assert {v["name"].partition(".")[0] for v in fresh.dropped} == {"head", "deep_heads"}
    assert fresh.coverage_by_stage["head"] == 0.0

    bare = graft_segmentation(source, MODEL, 2, parts="encoder", decoder=kind).report
    assert "the encoder alone was asked for (parts='encoder')" in _reasons(bare.fresh)
    assert {v["name"].partition(".")[0] for v in bare.loaded} == {"encoder"}
    assert "part of the source's decoder (decoder)" in _reasons(bare.dropped)


def test_outputs_go_by_name_never_by_position(tmp_path: Path) -> None:
    network = _network(decoder="unet", decoder_width=4, deep_supervision=True)
    _save(network, tmp_path)
    classes = ("background", "kidney_left", "pancreas", "liver")
    result = graft_segmentation(
        str(tmp_path), MODEL, 4, parts="all", classes=classes, deep_supervision=True, seed=5
    )
    own = build_segmentation(
        build_encoder(MODEL), 4, decoder_width=4, deep_supervision=True, seed=5
    ).state_dict()
    state, before = result.network.state_dict(), network.state_dict()
    heads = [name for name in before if name.startswith(("head.", "deep_heads."))]
    assert len(heads) == 4
    for name in heads:
        for row, channel in ((0, 0), (1, 3), (3, 1)):
            assert torch.equal(state[name][row], before[name][channel])
        assert torch.equal(state[name][2], own[name][2])
    how = {v["name"]: v["how"] for v in result.report.adapted}
    assert set(how) == set(heads)
    assert set(how.values()) == {
        "by class name: background from channel 0, kidney_left from channel 3, liver from "
        "channel 1; fresh: pancreas; channels left out: spleen"
    }
    assert f"the head's outputs {how['head.weight']}" in result.report.notes
    assert result.filled == ("background", "kidney_left", "liver")
    report = result.report
    values = sum(before[name].numel() for name in heads)
    assert report.parameters["adapted"] == values * 3 // 4
    assert report.parameters["fresh"] == values // 4
    assert report.parameters["dropped"] == values // 4
    assert report.coverage == pytest.approx(1 - values / 4 / report.parameters["model"])
    assert report.coverage_by_stage["head"] == report.coverage_by_stage["deep_heads"] == 0.75
    assert "the head's output by output" in report.parity.where


def test_a_background_is_nothing_but_a_background(tmp_path: Path) -> None:
    network = _network(decoder="unet", decoder_width=4)
    _save(network, tmp_path)
    result = graft_segmentation(tmp_path, MODEL, parts="all", classes=("spleen", "tumor"))
    assert result.filled == ("spleen",)
    assert torch.equal(result.network.head.weight[0], network.head.weight[2])
    assert any("the network's go through a sigmoid" in note for note in result.report.notes)
    with pytest.raises(GraftError, match=r"background, tumor, the source's background, liver"):
        graft_segmentation(tmp_path, MODEL, parts="all", classes=("background", "tumor"))


def test_other_decoders_stay_fresh_and_say_why(tmp_path: Path) -> None:
    _save(_network(decoder="unet", decoder_width=4), tmp_path / "unet")
    _save(_network(decoder="native"), tmp_path / "native")
    for folder, options, reason in (
        ("unet", {"decoder_width": 8}, "the source's decoder has decoder_width 4, this one 8"),
        (
            "unet",
            {"decoder_norm": "batch", "decoder_width": 8},
            "the source's decoder has decoder_norm 'instance', this one 'batch'; decoder_width 4, "
            "this one 8",
        ),
        ("unet", {"decoder": "native"}, "the source's decoder is another ('unet'); this one is "
         "'native'"),
        ("native", {"decoder": "unet"}, "the source's decoder is another ('native'); this one is "
         "'unet'"),
    ):  # fmt: skip
        report = graft_segmentation(tmp_path / folder, MODEL, 2, **options).report
        fresh = [v for v in report.fresh if v["name"].startswith("decoder.")]
        assert _reasons(fresh) == {reason}
        with pytest.raises(GraftError, match="a head belongs to its decoder, which is fresh here"):
            graft_segmentation(tmp_path / folder, MODEL, parts="all", classes=TRAINED, **options)


def test_a_segmentation_starts_a_classification(tmp_path: Path) -> None:
    network = _network(decoder="native")
    _save(network, tmp_path)
    result = graft(tmp_path, MODEL)
    assert result.report.coverage == 1.0
    own = result.encoder.state_dict()
    assert all(torch.equal(own[n], t) for n, t in network.encoder.state_dict().items())
    assert _reasons(result.report.dropped) == {
        "the source's own head (head); the task brings its own",
        "part of the source's decoder (decoder)",
    }
    with pytest.raises(GraftError, match="belongs to a decoder"):
        graft(tmp_path, MODEL, keep_head=True)
    with pytest.raises(GraftError, match="holds a segmentation network"):
        from_pretrained(tmp_path)
    small = from_pretrained(tmp_path, outputs=3, seed=1)
    assert small(torch.rand(1, 1, 16, 16, 16)).shape == (1, 3)
    found = inspect_file(tmp_path / "model.safetensors")
    assert found["card"] == {
        "model": MODEL,
        "in_channels": 1,
        "decoder": "native",
        "deep_supervision": False,
        "classes": list(TRAINED),
    }


def test_a_saved_encoder_has_no_decoder_to_give(tmp_path: Path) -> None:
    network = _network()
    state = {f"encoder.{n}": t for n, t in network.encoder.state_dict().items()}
    card = Card(model=MODEL, in_channels=1, input_mean=(0.0,), input_sd=(1.0,),
                stem=network.encoder.declaration.stem)  # fmt: skip
    save_weights(tmp_path, state, card)
    report = graft_segmentation(tmp_path, MODEL, 2).report
    assert _reasons(report.fresh) == {"the source has no decoder", "the task's own head"}
    for classes, message in (
        (None, "the network's classes are not named"),
        (("liver", "liver"), "'liver' stands 2 times"),
        (("liver", "background"), "'background' is channel 1, expected channel 0"),
        (("liver",), "1 names are given for 2 outputs"),
        (("liver", "spleen"), "the source has no decoder"),
    ):
        with pytest.raises(GraftError, match=message):
            graft_segmentation(tmp_path, MODEL, 2, parts="all", classes=classes)


def test_damaged_cards_say_what_is_wrong(tmp_path: Path) -> None:
    network = _network(decoder="unet", decoder_width=4)
    _save(network, tmp_path)
    path = tmp_path / "card.json"
    whole = json.loads(path.read_text())
    assert load_card(tmp_path).classes == TRAINED
    for changes, message in (
        ({"classes": ["background", "liver"]}, "2 classes are named, but the head has 4 outputs"),
        ({"classes": ["a", "b", "b", "c"]}, "'b' stands 2 times"),
        ({"classes": "liver"}, r"classes \(a str\)"),
        ({"classes": ["a", 1, "", "c"]}, "a name is empty"),
        ({"decoder": None}, r"decoder is None, but there is decoder\.\* among the tensors"),
        ({"decoder": "other"}, "decoder is 'other', expected one of native, unet"),
        ({"decoder_options": []}, r"decoder_options \(a list\)"),
    ):
        path.write_text(json.dumps({**whole, **changes}))
        with pytest.raises(SourceError, match=message):
            card_source(tmp_path)
    path.write_text(json.dumps({**whole, "outputs": 3, "classes": ["a", "b", "c"]}))
    with pytest.raises(GraftError, match="head has 4 channels, but 3 classes are named"):
        graft_segmentation(tmp_path, MODEL, parts="all", classes=("a", "b"))
    with pytest.raises(SourceError, match="their card does not fit them"):
        _save(network, tmp_path / "again", classes=("a",))
    state = load_file(tmp_path / "model.safetensors")
    with pytest.raises(SourceError, match=r"found other\.x"):
        save_weights(tmp_path, {**state, "other.x": torch.ones(1)}, load_card(tmp_path))


def test_the_catalogue_names_channels_as_the_data_sets_do() -> None:
    for name in ("segresnet_16.suprem", "swin_unetr_48.suprem", "genesis_unet.suprem"):
        assert SOURCES.get(name).classes == SUPREM_HEAD
    named = [SOURCES.get(name) for name in SOURCES.names() if SOURCES.get(name).classes]
    for source in named:
        structures = [name for name in source.classes if name != "background"]
        assert all(canonical_name(name) in (name, None) for name in structures)  # or ambiguous
    assert SOURCES.get("swin_unetr_12.btcv_scratch").classes[:3] == (
        *("background", "spleen", "kidney_right"),
    )
    with pytest.raises(SourceError, match="'spleen' stands 2 times"):
        replace(named[0], classes=("spleen", "spleen"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1).map(tuple),
    st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1).map(tuple),
)
def test_each_output_is_its_own_channel_or_as_it_was(
    classes: tuple[str, ...], channels: tuple[str, ...]
) -> None:
    own = -torch.arange(1.0, 1 + len(classes))[:, None].expand(-1, 2).clone()
    given = torch.tensor([[float(ord(name))] * 2 for name in channels])
    rule = TakeRows(classes, channels, {"head.weight": own})
    adapted = rule.adapt("head.weight", given, (len(classes), 2))
    filled: Tensor = given if adapted is None else adapted[0]
    for row, name in enumerate(classes):
        expected = float(ord(name)) if name in channels else -1.0 - row
        assert filled[row].tolist() == [expected] * 2
    assert rule.wrong_rows("head.weight", filled, given) == []
    filled = filled.clone()
    filled[0, 1] += 1
    assert rule.wrong_rows("head.weight", filled, given) == [classes[0]]
    assert rule.adapt("decoder.x", given, (1, 2)) is None


def test_a_text_driven_head_goes_whole_to_any_classes(tmp_path: Path) -> None:
    embeddings = torch.randn(4, 512, generator=torch.Generator().manual_seed(2))
    network = build_segmentation(
        MODEL, 4, decoder="native", head="text", embeddings=embeddings, seed=3
    )
    _save(network, tmp_path)
    with pytest.raises(GraftError, match="no head that is a convolution"):
        graft_segmentation(tmp_path, MODEL, parts="all", classes=TRAINED)
    classes = ("spleen", "tumor")
    result = graft_segmentation(
        tmp_path, MODEL, parts="all", classes=classes, embeddings=embeddings[[2, 0]]
    )
    assert result.report.coverage == 1.0
    assert result.filled == ("spleen",)
    assert [v["name"] for v in result.report.fresh] == ["head.organ_embedding"]
    assert any("was not trained on tumor" in note for note in result.report.notes)
    assert not any("other embeddings" in note for note in result.report.notes)
    volume = torch.rand(1, 1, 16, 16, 16)
    network.input_mean.fill_(0.3)
    network.input_sd.fill_(0.2)
    with torch.no_grad():
        expected = network.eval()(volume)[:, [2, 0]]
        torch.testing.assert_close(result.network.eval()(volume), expected)
    turned = graft_segmentation(
        tmp_path, MODEL, parts="all", classes=classes, embeddings=embeddings[[0, 2]]
    )
    assert "the source knew other embeddings of spleen" in turned.report.notes
    _save(_network(decoder="native"), tmp_path / "plain")
    with pytest.raises(GraftError, match="no text-driven head"):
        graft_segmentation(
            tmp_path / "plain", MODEL, parts="all", classes=TRAINED, embeddings=embeddings
        )


def test_a_run_that_exchanged_its_normalization_is_a_start(tmp_path: Path) -> None:
    encoder = build_encoder("r3d_18", seed=1)
    exchange_norm(encoder, "group")
    state = {f"encoder.{n}": t for n, t in encoder.state_dict().items()}
    card = Card(model="r3d_18", in_channels=1, input_mean=(0.0,), input_sd=(1.0,),
                stem=encoder.declaration.stem,
                training={"recipe": {"start": {"norm": "group"}}})  # fmt: skip
    save_weights(tmp_path, state, card)
    result = graft(tmp_path, "r3d_18")
    assert result.report.coverage == 1.0
    assert result.report.norm == "group"
