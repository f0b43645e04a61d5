"""Every entry of the catalogue is complete, true of its network, and grafts with nothing left.

Networks are built without memory for their weights; a source's file is stood in for by tensors of
the same names and shapes. timm's network says them for an image; for video and volumes, the
registry's own network says those of the encoder (which its room holds against the original
implementation), and one tensor a module of the source's head and decoder stands for theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest
import timm
import torch
from torch import Tensor

from voxgraft.grafting.plan import How, rules_for
from voxgraft.models import MODELS, build_encoder
from voxgraft.packages import PackageFile
from voxgraft.weights import SOURCES, Source, naming_rules
from voxgraft.weights.convert import Drop, Rename, convert
from voxgraft.weights.layouts import KEY_LAYOUTS
from voxgraft.weights.source import UNSTATED, BroughtFile, HubFile, WebFile
from voxgraft.weights.timm_entries import timm_source

NAMES = SOURCES.names()
IMAGES = [source.id for source in SOURCES if source.layout == "image"]
OTHERS = [source.id for source in SOURCES if source.layout != "image"]
Shapes = dict[str, tuple[int, ...]]


def _one_each(names: list[str]) -> list[str]:
    """Return one source of each kind of file of each architecture: only that decides a graft."""
    kinds = {}
    for name in names:
        source = SOURCES.get(name)
        parts = (source.head, source.decoder, source.key_layout, source.key, source.prefix)
        kinds.setdefault((source.architecture, source.input.channels, *parts), name)
    return list(kinds.values())


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_drawn() -> Iterator[None]:
    """Skip what draws weights: without memory there is nothing to draw, and it takes a minute."""
    with pytest.MonkeyPatch.context() as patch:
        for draw in ("normal_", "uniform_", "clamp_", "erfinv_"):
            patch.setattr(Tensor, draw, lambda tensor, *_, **__: tensor)
        yield


def test_there_are_many() -> None:
    assert len(NAMES) >= 120
    assert {source.layout for source in SOURCES} == {"image", "video", "volume"}


@pytest.mark.parametrize("name", NAMES)
def test_each_entry_is_complete(name: str) -> None:
    source = SOURCES.get(name)
    assert source.id == name
    assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name)
    assert source.licence == source.licence.strip() != ""
    assert source.paper == UNSTATED or re.match(
        r"arXiv:\d{4}\.\d{4,5}|doi:10\.|https://", source.paper
    )
    assert source.trained_on
    assert all(data == data.strip() != "" for data in source.trained_on)
    assert source.key_layout in KEY_LAYOUTS
    assert source.stem
    if source.parameters is None:  # nobody says what else the file holds
        assert source.layout != "image"
        assert not source.verified
        assert source.head_parameters == 0
    else:
        assert source.parameters > source.head_parameters >= 0
        assert bool(source.head_parameters) <= bool(source.head)
    assert source.input.channels >= 1
    assert source.verified == bool(source.tensor_digests)
    assert source.where
    file = source.file
    if isinstance(file, HubFile):
        assert file.repository.count("/") == 1
        assert file.filename
        assert file.revision
    elif isinstance(file, WebFile):
        assert file.url.startswith("https://")
    elif isinstance(file, BroughtFile):
        assert file.where
        assert file.filename
    else:
        assert isinstance(file, PackageFile)
        assert source.tensor_digests
    for digest, length in ((source.sha256, 64), (source.sha256_begins, 8)):
        assert digest is None or re.fullmatch(rf"[0-9a-f]{{{length}}}", digest)


@pytest.mark.parametrize("name", NAMES)
def test_its_network_is_known(name: str) -> None:
    source = SOURCES.get(name)
    for architecture in (source.architecture, *source.also_fits):
        if source.layout == "image":
            assert timm.is_model(architecture)
        else:
            assert MODELS.get(architecture).native in ("video", "volume")


@cache
def _timm_network(architecture: str, classes: int) -> tuple[Shapes, int]:
    """Return the tensors of timm's network, and how many values it learns."""
    with torch.device("meta"):
        network = timm.create_model(architecture, num_classes=classes)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    return shapes, sum(parameter.numel() for parameter in network.parameters())


def _classes(source: Source) -> int:
    """Return the outputs of a source's classifier; timm's own entries say how many."""
    if not source.head:
        return 0
    if source.key_layout == "timm" and isinstance(source.file, HubFile):
        return timm.get_pretrained_cfg(source.id).num_classes
    return 1000


@cache
def _encoder(model: str, channels: int):
    with torch.device("meta"):
        return build_encoder(model, in_channels=channels)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_entry_is_true_of_its_network(name: str) -> None:
    source = SOURCES.get(name)
    shapes, learned = _timm_network(source.architecture, _classes(source))
    for stem in source.stem:
        assert shapes[f"{stem}.weight"][1] == source.input.channels
    heads = tuple(f"{head}." for head in source.head)
    values = {key: torch.Size(shape).numel() for key, shape in shapes.items() if heads}
    assert source.head_parameters == sum(n for key, n in values.items() if key.startswith(heads))
    assert source.parameters == learned
    for other in source.also_fits:
        assert _timm_network(other, _classes(source))[0] == shapes


@pytest.mark.parametrize("name", _one_each(IMAGES))
def test_an_image_entry_grafts_with_nothing_unexplained(name: str) -> None:
    source = SOURCES.get(name)
    shapes, _ = _timm_network(source.architecture, _classes(source))
    encoder = _encoder(f"{source.architecture}_3d", 1)
    _graft(
        source, {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, encoder
    )


@pytest.mark.parametrize("name", _one_each(OTHERS))
def test_a_native_entry_grafts_with_nothing_unexplained(name: str) -> None:
    source = SOURCES.get(name)
    own = _encoder(source.architecture, source.input.channels)
    facts = own.declaration
    assert {f"{stem}.weight" for stem in source.stem} <= facts.stems
    state = dict(own.state_dict())
    assert not [key for key in state if key.startswith(tuple(f"{h}." for h in source.head))]
    left = {
        f"{part}.weight": torch.empty(2, device="meta") for part in (*source.head, *source.decoder)
    }
    _graft(source, {**state, **left}, _encoder(source.architecture, 1), named=True)


@pytest.mark.parametrize("name", OTHERS)
def test_a_native_entry_counts_its_networks_values(name: str) -> None:
    source = SOURCES.get(name)
    own = _encoder(source.architecture, source.input.channels)
    learned = sum(parameter.numel() for parameter in own.parameters())
    if source.parameters is not None:
        rest = source.parameters - source.head_parameters
        assert learned <= rest if source.decoder else learned == rest


def _graft(source: Source, state: dict[str, Tensor], encoder, *, named: bool = False) -> None:
    """Convert as a graft does; the names are the network's own where ``named``."""
    how = How(source=source, method="average", stem="sum", rules=())
    rules = rules_for(how, encoder)
    if named or source.key_layout != "timm":
        # The names of the file need the layout, which has tests of its own.
        naming = [rule for rule in naming_rules(source) if isinstance(rule, Drop)]
        rules = [rule for rule in rules if not isinstance(rule, Rename)]
        assert all(rule in rules for rule in naming)
    targets = {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}
    report = convert(state, targets, rules, source=source.id).report
    assert report.coverage == 1.0
    assert not report.unexplained
    assert not [v for v in report.fresh if not v["name"].endswith("num_batches_tracked")]
    gone = (*source.head, *source.decoder)
    assert all(v["name"].startswith(gone) for v in report.dropped if gone)
    named_once = {v["from"] for v in (*report.loaded, *report.adapted)} | {
        v["name"] for v in report.dropped
    }
    assert named_once == set(state)


@pytest.mark.parametrize(
    "name", ["resnet18.a1_in1k", "convnextv2_atto.fcmae_ft_in1k", "vit_small_patch16_224.dino"]
)
def test_entries_of_timm_are_what_timm_says(name: str) -> None:
    assert timm_source(name) == SOURCES.get(name), "run benchmarks/make_timm_catalog.py"
