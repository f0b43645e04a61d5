"""The catalogue's medical convolutional networks: every entry is true of its file's tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from types import ModuleType

import pytest
import torch
from torch import Tensor

from voxgraft.models import MODELS
from voxgraft.weights import SOURCES, naming_rules
from voxgraft.weights.catalog import volume_convolutional, volume_nnunet
from voxgraft.weights.convert import FoldChannels, convert
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout
from voxgraft.weights.source import source_from_dict

NAMES = [source.id for room in (volume_convolutional, volume_nnunet) for source in room.SOURCES]
every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def published(files: ModuleType) -> Callable[[str], dict[str, Tensor]]:
    """Return what makes the tensors of a source's file, without memory, once."""

    @cache
    def make(name: str) -> dict[str, Tensor]:
        with torch.device("meta"):
            state: dict[str, Tensor] = files.published(SOURCES.get(name))
        return state

    return make


@every
def test_each_entry_is_complete_and_true_of_its_file(
    name: str, files: ModuleType, published: Callable[[str], dict[str, Tensor]]
) -> None:
    source, state = SOURCES.get(name), published(name)
    assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name)
    assert source.licence
    assert source.paper.startswith(("arXiv:", "doi:"))
    assert source.trained_on
    assert not source.verified
    assert source.sha256 is None
    assert source.key_layout in KEY_LAYOUTS
    assert source.where
    assert source_from_dict(json.loads(json.dumps(source.to_dict()))) == source
    entry = MODELS.get(source.architecture)
    assert source.layout == "volume" or entry.native == source.layout
    with torch.device("meta"):
        encoder = entry.build(in_channels=source.input.channels)
    assert key_layout(state) in (source.key_layout, "timm", "voxgraft")
    image = {n: t for n, t in state.items() if "encode_text" not in n and n != "logit_scale"}
    stems = {f"{stem}.weight" for stem in source.stem}
    assert stems == encoder.declaration.stems
    heads = tuple(f"{head}." for head in source.head)
    bare = re.compile(r"^(?:module|encode_image\.i3_resnet)\.")
    of_head = {n: t for n, t in image.items() if heads and bare.sub("", n).startswith(heads)}
    if source.parameters is not None:
        assert source.parameters == files.distinct(image)
        assert source.head_parameters == files.distinct(of_head)
    assert all(any(bare.sub("", n).startswith(head) for n in image) for head in heads)


@every
@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_of_a_published_file_is_unexplained(
    name: str, channels: int, published: Callable[[str], dict[str, Tensor]]
) -> None:
    source, state = SOURCES.get(name), published(name)
    with torch.device("meta"):
        encoder = MODELS.get(source.architecture).build(in_channels=channels)
    # Files are read without the prefix that all names share.
    if all(old.startswith("module.") for old in state):
        state = {old.removeprefix("module."): tensor for old, tensor in state.items()}
    result = convert(
        state,
        {new: tuple(tensor.shape) for new, tensor in encoder.state_dict().items()},
        [*naming_rules(source), FoldChannels(encoder.declaration.stems, "sum")],
        buffers=[new for new, _ in encoder.named_buffers()],
    )
    report = result.report
    assert report.coverage == 1.0
    assert not [verdict for verdict in report.fresh if "num_batches" not in verdict["name"]]
    folded = {verdict["name"] for verdict in report.adapted}
    assert folded == (set() if channels == source.input.channels else encoder.declaration.stems)
    dropped = {verdict["name"] for verdict in report.dropped}
    assert dropped == set(state) - {
        verdict["from"] for verdict in (*report.loaded, *report.adapted)
    }
    assert all(verdict["because"] for verdict in report.dropped)
