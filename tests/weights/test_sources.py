"""The catalogue, and what a person may write for a start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from voxgraft.errors import FetchError, SourceError
from voxgraft.weights import (
    SOURCES,
    Card,
    InputContract,
    LocalFile,
    Source,
    fetch_source,
    inspect_file,
    load_card,
    naming_rules,
    read_source,
    resolve_source,
    save_weights,
)
from voxgraft.weights.source import HubFile, source_from_dict
from voxgraft.weights.timm_entries import architecture_shapes

PACKAGED = [s.id for s in SOURCES if s.tensor_digests and s.layout == "image"]


def _timm_file(path: Path, architecture: str, seed: int = 0, **options: int) -> Path:
    torch.manual_seed(seed)
    save_file(timm.create_model(architecture, **options).state_dict(), path)
    return path


@pytest.mark.parametrize("name", PACKAGED)
def test_names_in_packages_are_those_of_timm_after_renaming(name: str) -> None:
    source = SOURCES.get(name)
    found = set()
    for tensor in source.tensor_digests:
        for rule in naming_rules(replace(source, head=())):
            tensor = rule.rename(tensor)  # type: ignore[union-attr]
        found.add(tensor)
    expected = set(architecture_shapes(source.architecture))
    heads = {name for name in expected if name.startswith("classifier.")}
    assert found == (expected if source.head else expected - heads)


def test_entries_travel_through_json() -> None:
    for source in SOURCES:
        plain = json.loads(json.dumps(source.to_dict()))
        assert source_from_dict(plain) == source
    with pytest.raises(SourceError, match=r"entry of source 'x' cannot be read: KeyError\('file'"):
        source_from_dict({"id": "x"})


def test_ids_and_the_other_forms(tmp_path: Path) -> None:
    assert resolve_source("resnet18.a1_in1k") is SOURCES.get("resnet18.a1_in1k")
    assert resolve_source("timm:resnet18.a1_in1k") is SOURCES.get("resnet18.a1_in1k")
    source = resolve_source("timm:resnet26t")
    assert (source.id, source.verified) == ("resnet26t.ra2_in1k", False)
    assert isinstance(source.file, HubFile)
    path = _timm_file(tmp_path / "mine.safetensors", "resnet10t", num_classes=3)
    for text in (f"resnet10t.c3_in1k@{path}", f"timm:resnet10t.c3_in1k@{path}"):
        source = resolve_source(text)
        assert source.id == "resnet10t.c3_in1k"
        assert source.file == LocalFile(path=str(path))
    source = resolve_source(f"timm:resnet10t@{path}")
    assert source.id == "timm:resnet10t@mine.safetensors"
    assert (source.licence, source.trained_on) == ("unstated", ())
    assert (source.stem, source.head) == (("conv1.0",), ("fc",))
    assert resolve_source(path, architecture="resnet10t") == source
    recognised = resolve_source(str(path))
    assert recognised.architecture == "resnet10t"
    assert "by the names and shapes of its tensors" in recognised.note
    tensors = read_source(recognised)
    assert "origin unverified" in tensors.origin
    assert "transposed" in tensors.origin


def test_a_stem_of_other_channels_makes_the_input_contract(tmp_path: Path) -> None:
    path = _timm_file(tmp_path / "grey.safetensors", "resnet10t", in_chans=1)
    contract = resolve_source(f"timm:resnet10t@{path}").input
    assert contract.channels == 1
    assert contract.mean == pytest.approx((0.449,), abs=1e-3)
    assert contract.sd == pytest.approx((0.226,), abs=1e-3)
    assert contract.carried_to(1) == (contract.mean, contract.sd)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "resnet18.a1_in1",
            "no start is called 'resnet18.a1_in1'. Did you mean 'resnet18.a1_in1k'",
        ),
        ("resnet18.a1_in1", "timm:NAME[.TAG]@FILE"),
        ("weights/none.pth", "weights/none.pth does not exist."),
        ("timm:resnet18@/none.pth", "/none.pth does not exist"),
        ("timm:", "'timm:' has no name after it"),
        ("timm:resnet81", "timm has no architecture 'resnet81'. Did you mean"),
        (
            "timm:resnet18.nope",
            "timm has no weights 'resnet18.nope'. Of 'resnet18' it has: a1_in1k",
        ),
        ("", "the start is empty. Give a start as a catalogue id"),
    ],
)
def test_what_means_nothing_is_answered_with_near_names(text: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        resolve_source(text)
    assert message in str(caught.value)


def test_files_that_fit_no_architecture_are_not_guessed(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    with pytest.raises(SourceError, match=r"not recognised: no architecture.*timm:ARCHITECTURE@a"):
        resolve_source(tmp_path / "a.safetensors")
    state = timm.create_model("resnet10t").state_dict()
    state["layer1.0.extra"] = torch.ones(3)
    save_file(state, tmp_path / "b.safetensors")
    with pytest.raises(SourceError, match=r"nearest architecture is resnet10t.*layer1\.0\.extra"):
        resolve_source(tmp_path / "b.safetensors")


def test_a_hub_file_that_cannot_be_had_says_what_to_bring() -> None:
    with pytest.raises(FetchError) as caught:
        fetch_source(SOURCES.get("resnet50.a1_in1k"))
    text = str(caught.value)
    assert "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors" in text
    assert "resnet50.a1_in1k@/path/to/model.safetensors" in text


def test_a_file_hash_is_held(tmp_path: Path) -> None:
    path = _timm_file(tmp_path / "a.safetensors", "resnet10t")
    source = replace(resolve_source(f"timm:resnet10t@{path}"), sha256="0" * 64)
    with pytest.raises(SourceError, match=r"has SHA-256 [0-9a-f]{64}, expected 0000"):
        read_source(source)


def test_input_contracts_are_checked() -> None:
    with pytest.raises(SourceError, match="3 channels has 1 means and 3 standard deviations"):
        InputContract(channels=3, mean=(0.5,), sd=(1.0, 1.0, 1.0))
    with pytest.raises(SourceError, match="above 0"):
        InputContract(channels=1, mean=(0.5,), sd=(0.0,))
    contract = InputContract(channels=3, mean=(0.1, 0.2, 0.6), sd=(0.2, 0.3, 0.4))
    mean, sd = contract.carried_to(2)
    assert mean == pytest.approx((0.3, 0.3))
    assert sd == pytest.approx((0.3, 0.3))


def _card(**changes: object) -> Card:
    plain = {
        "model": "resnet18_3d",
        "in_channels": 1,
        "input_mean": (0.45,),
        "input_sd": (0.23,),
        "stem": "conv1.weight",
    }
    return Card(**{**plain, **changes})  # type: ignore[arg-type]


def test_saved_weights_are_a_source_again(tmp_path: Path) -> None:
    shared = torch.randn(4, 4)
    state = {"encoder.a": shared, "encoder.b": shared.T, "head.weight": shared[:2]}
    card = save_weights(tmp_path / "run", state, _card(licence="mit", trained_on=("X",)))
    assert load_card(tmp_path / "run") == card
    assert load_card(tmp_path / "run" / "model.safetensors") == card
    for text in (tmp_path / "run", tmp_path / "run/card.json", tmp_path / "run/model.safetensors"):
        source = resolve_source(text)
        assert (source.id, source.layout) == ("run:run", "volume")
        assert (source.architecture, source.head) == ("resnet18_3d", ("head",))
        assert (source.licence, source.trained_on) == ("mit", ("X",))
        assert torch.equal(read_source(source).state["encoder.b"], shared.T)
    report = inspect_file(tmp_path / "run" / "model.safetensors")
    assert report["card"] == {"model": "resnet18_3d", "in_channels": 1}
    state["encoder.a"] = shared + 1
    save_file({n: t.contiguous().clone() for n, t in state.items()},
              tmp_path / "run" / "model.safetensors")  # fmt: skip
    with pytest.raises(SourceError, match=r"encoder\.a \[4, 4\] has other values"):
        read_source(resolve_source(tmp_path / "run"))


def test_cards_that_are_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"card\.json does not exist. Expected the folder of a run"
    ):
        resolve_source(tmp_path)
    with pytest.raises(SourceError, match=r"expected tensors named encoder\.\*, decoder\.\*"):
        save_weights(tmp_path, {"conv.weight": torch.ones(1)}, _card())
    save_weights(tmp_path, {"encoder.a": torch.ones(1)}, _card())
    path = tmp_path / "card.json"
    whole = json.loads(path.read_text())
    for content, message in (
        ("{", "is no JSON"),
        ("[]", "format 'list', expected 'voxgraft-card/1'"),
        (json.dumps({**whole, "format": "x/9"}), "format 'x/9'"),
        (json.dumps({**whole, "colour": 1}), "unknown or of another kind: 'colour'"),
        (json.dumps({**whole, "in_channels": "1"}), r"in_channels \(a str\)"),
        (json.dumps({k: v for k, v in whole.items() if k != "stem"}), "missing: stem"),
        (json.dumps({**whole, "input_mean": [1, 2]}), "1 channels has 2 means"),
    ):
        path.write_text(content)
        with pytest.raises(SourceError, match=message):
            resolve_source(tmp_path)


def test_inspect_names_layout_and_likely_architecture(tmp_path: Path) -> None:
    path = _timm_file(tmp_path / "a.safetensors", "mobilenetv3_small_050")
    found = inspect_file(path)
    assert found["layout"] == "timm"
    assert found["origin"] == "unstated"
    assert found["likely"][0]["architecture"] == "mobilenetv3_small_050"
    assert found["likely"][0]["exact"]
    assert found["likely"][0]["coverage"] == 1.0
    assert found["likely"][0]["sources"] == ["mobilenetv3_small_050.lamb_in1k"]
    assert found["parameters"] == SOURCES.get("mobilenetv3_small_050.lamb_in1k").parameters
    expected = {
        (name, tuple(tensor.shape), str(tensor.dtype))
        for name, tensor in timm.create_model("mobilenetv3_small_050").state_dict().items()
    }
    entries = {(e["name"], tuple(e["shape"]), f"torch.{e['dtype']}") for e in found["entries"]}
    assert entries == expected
    json.dumps(found)


def test_unknown_layout_and_video_are_refused() -> None:
    source = SOURCES.get("resnet18.a1_in1k")
    with pytest.raises(SourceError, match="key layout 'odd', expected one of timm"):
        naming_rules(replace(source, key_layout="odd"))
    with pytest.raises(SourceError, match="names tensors of EfficientNet-Lite0 to"):
        naming_rules(replace(source, key_layout="efficientnet-lite-pytorch"))
    assert isinstance(source, Source)


def test_places_that_are_no_files_are_named() -> None:
    with pytest.raises(SourceError, match=r"is an address\. Download the file"):
        resolve_source("https://example.org/a.pth")
    for text in ("a" * 5000, f"timm:resnet18@{'a' * 5000}"):
        with pytest.raises(SourceError, match="cannot be looked for: File name too long"):
            resolve_source(text)
