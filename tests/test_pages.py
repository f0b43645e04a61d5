"""The generated pages are those of the registries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from voxgraft.models import MODELS, build_encoder
from voxgraft.models.table import GROUPS, group_of, table_row
from voxgraft.weights.table import sources_page

DOCS = Path(__file__).parents[1] / "docs"
REMEDY = "run `make pages`"


def test_the_page_of_sources_is_current() -> None:
    assert (DOCS / "sources.md").read_text(encoding="utf-8") == sources_page(), REMEDY


def _model_rows() -> list[str]:
    text = (DOCS / "models.md").read_text(encoding="utf-8").partition("## The registry")[2]
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_the_page_of_models_names_all_networks_and_no_other() -> None:
    expected = [e.name for group in GROUPS for e in MODELS if group_of(e) == group]
    assert [row.split("`")[1] for row in _model_rows()] == expected, REMEDY
    described = {row.split("`")[1]: row.split(" | ")[1] for row in _model_rows()}
    assert described == {entry.name: entry.description for entry in MODELS}, REMEDY


# One network of every third family: building all takes a minute.
FAMILIES = {entry.family: entry.name for entry in reversed(list(MODELS))}


@pytest.mark.parametrize("name", list(FAMILIES.values())[::3])
def test_the_page_has_the_networks_row(name: str) -> None:
    with torch.device("meta"):
        row = table_row(MODELS.get(name), build_encoder(name))
    assert row in _model_rows(), REMEDY
