"""What a comparison must say before its numbers: seen test data, input unlike the training's."""

from __future__ import annotations

from voxgraft.comparison.matrix import Study
from voxgraft.datasets import Table
from voxgraft.grafting import find_source
from voxgraft.runs.input_contract import NOTE
from voxgraft.types import Json
from voxgraft.weights.overlap import overlap_text

COLUMN = "dataset"
"""Column of the table that names the data set of each case."""


def declared_data_sets(study: Study, table: Table) -> tuple[str, ...]:
    """Return the data sets that the test cases are of, by the plan and the table's column."""
    named = list(study.plan.dataset)
    if COLUMN in table.frame:
        column = table.split("test").frame[COLUMN].dropna().astype(str).str.strip()
        named += sorted(name for name in column.unique() if name)
    return tuple(dict.fromkeys(named))


def overlap_audit(study: Study, table: Table) -> list[Json]:
    """Say of each pre-trained start what is known of its training data and the test cases.

    Returns:
        ``start, flag, text`` of each; ``flag`` is set where the start has seen the test data, or
        where nobody can know.
    """
    tested_on = declared_data_sets(study, table)
    rows = []
    for start in study.plan.starts:
        said: dict[str, bool] = {}
        for source in sources_used(study, start.name):
            flag, text = overlap_text(find_source(source), tested_on)
            said.setdefault(f"{start.name}: {text}", flag)
        rows += [{"start": start.name, "flag": flag, "text": text} for text, flag in said.items()]
    return rows


def sources_used(study: Study, name: str) -> tuple[str, ...]:
    """Return the sources of a start, over the networks that it is tried on.

    A start that went through a stage has the runs of that stage; they know what came before.
    """
    found = (start.source for _, start in study.pairs() if start.name == name)
    return tuple(dict.fromkeys(source for source in found if source is not None))


def input_audit(grafts: Json) -> list[str]:
    """Return where the volumes are not what the weights of starts were trained on.

    Args:
        grafts: GraftReports by ``model__start``, None from scratch.

    Returns:
        One sentence for each finding, with all starts and networks that it is of.
    """
    wheres: dict[str, dict[str, list[str]]] = {}
    for key, report in grafts.items():
        model, _, start = key.partition("__")
        start = start.replace("__before_", ", before ")
        for note in () if report is None else report.get("notes", ()):
            if str(note).startswith(NOTE):
                starts = wheres.setdefault(str(note), {}).setdefault(model, [])
                starts += [start] if start not in starts else []
    return [
        f"{'; '.join(f'{_listed(starts)} on {model}' for model, starts in found.items())}: {note}"
        for note, found in wheres.items()
    ]


def _listed(starts: list[str]) -> str:
    return " and ".join(starts)
