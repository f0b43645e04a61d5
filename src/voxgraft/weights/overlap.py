"""Whether a start has seen the test data: declared training data against declared test data.

Names of data sets are compared, with what is publicly known of sets that contain one another
(``data/data_sets.json``, each line with its source). Scans are not: two sets that share patients
without anybody saying so are not found, and a data set that nobody names cannot be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from voxgraft.weights.source import Source

Kind = Literal["same", "contains", "contained", "shares"]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """A data set of a start's training that has scans in common with one of the test."""

    trained_on: str
    tested_on: str
    kind: Kind
    """The training data is the ``same``, ``contains`` the test data, is ``contained`` in it, or
    ``shares`` parts with it."""
    because: str
    """What both have in common, and where that is written."""


def overlaps(trained_on: Sequence[str], tested_on: Sequence[str]) -> list[Overlap]:
    """Return every pair of a training and a test data set with scans in common.

    Args:
        trained_on: Names of data sets, as a source declares them.
        tested_on: Names of the test data's.
    """
    found = []
    for ours in trained_on:
        for theirs in tested_on:
            relation = _relation(_name(ours), _name(theirs))
            if relation is not None:
                kind, because = relation
                found.append(Overlap(trained_on=ours, tested_on=theirs, kind=kind, because=because))
    return found


def overlap_text(source: Source, tested_on: Sequence[str]) -> tuple[bool, str]:
    """Say in a sentence what is known of a start's training data and the test data.

    Args:
        source: The start.
        tested_on: Names of the test data's sets; empty if nobody named them.

    Returns:
        Whether to be on guard, and the sentence.
    """
    named = ", ".join(source.trained_on)
    if not source.trained_on:
        return True, (
            f"{source.id}: nobody says what it was trained on; it may have seen the test cases"
        )
    if not tested_on:
        return True, (
            f"{source.id}: trained on {named}; not compared with the test cases, as nobody said "
            "which data set they are of"
        )
    found = overlaps(source.trained_on, tested_on)
    if not found:
        return False, (
            f"{source.id}: trained on {named}; no overlap with {', '.join(tested_on)} is known"
        )
    worst = "; ".join(dict.fromkeys(_clause(overlap) for overlap in found))
    return True, (
        f"{source.id}: {worst}. Its result here may be remembered rather than learned: leave those "
        "cases out of the test, or the start out of the conclusion"
    )


def _clause(overlap: Overlap) -> str:
    verbs = {
        "same": "was trained on {0}, the test data itself",
        "contains": "was trained on {0}, which contains the test data {1} ({2})",
        "contained": "was trained on {0}, which is part of the test data {1} ({2})",
        "shares": "was trained on {0}, which shares scans with the test data {1} ({2})",
    }
    text = verbs[overlap.kind]
    return text.format(overlap.trained_on, overlap.tested_on, overlap.because)


def known_data_sets() -> list[str]:
    """Return the names of the data sets of which relations are known, the usual name of each."""
    known = _known()
    names = set(known["same"])
    for entry in known["contains"]:
        names |= {entry["whole"], *entry["parts"]}
    for entry in known["made_from"]:
        names |= {entry["made"], entry["of"]}
    return sorted(names)


def _relation(ours: str, theirs: str) -> tuple[Kind, str] | None:
    if _key(ours) == _key(theirs):
        return "same", ""
    parts_of_ours, parts_of_theirs = _parts(ours), _parts(theirs)
    if theirs in parts_of_ours:
        return "contains", parts_of_ours[theirs]
    if ours in parts_of_theirs:
        return "contained", parts_of_theirs[ours]
    common = sorted(parts_of_ours.keys() & parts_of_theirs.keys())
    if common:
        sources = dict.fromkeys((parts_of_ours[common[0]], parts_of_theirs[common[0]]))
        return "shares", f"both have {', '.join(common)}: {'; '.join(sources)}"
    return None


@cache
def _parts(name: str) -> Mapping[str, str]:
    """Return all that a data set contains or was made from, and where that is written."""
    found: dict[str, str] = {}
    known = _known()
    waiting = [name]
    while waiting:
        whole = waiting.pop()
        for entry in known["contains"]:
            if entry["whole"] == whole:
                new = [part for part in entry["parts"] if part not in found and part != name]
                found |= dict.fromkeys(new, entry["source"])
                waiting += new
        for entry in known["made_from"]:
            if entry["made"] == whole and entry["of"] not in found:
                found[entry["of"]] = entry["source"]
                waiting.append(entry["of"])
    return found


def _name(written: str) -> str:
    """Return the usual name of a data set, whatever its spelling; as it is if it is not known."""
    return _spellings().get(_key(written), written)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


@cache
def _spellings() -> Mapping[str, str]:
    usual = {_key(name): name for name in known_data_sets()}
    for name, others in _known()["same"].items():
        usual |= {_key(other): name for other in others}
    return usual


@cache
def _known() -> Any:
    folder = resources.files("voxgraft.weights") / "data"
    return json.loads((folder / "data_sets.json").read_text("utf-8"))
