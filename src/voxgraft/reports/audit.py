"""The audit of each graft, for the page: what became of every tensor, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from voxgraft.reports.comparison import Comparison, Start
from voxgraft.reports.details import flat_numbers
from voxgraft.reports.tables import Table, cells
from voxgraft.reports.wording import ABSENT, count, number, percent, with_minus

MAX_NAMES = 500
"""More tensors than this in one group are counted, not named."""

VERDICTS = ("loaded", "adapted", "fresh", "dropped")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tensors that share a verdict and its reason."""

    verdict: str
    reason: str
    names: list[str]
    more: int = 0

    @property
    def size(self) -> int:
        """Return how many tensors the group holds."""
        return len(self.names) + self.more


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The account of one graft, in words.

    Attributes:
        start: Name of the start.
        model: Network that was grafted onto.
        source: Where the weights come from.
        coverage: Share of the network's parameters that come from the source.
        facts: Name and text of each fact.
        groups: The tensors.
        notes: Further sentences.
    """

    start: str
    model: str
    source: str
    coverage: float | None
    facts: list[tuple[str, str]]
    groups: list[Group]
    notes: list[str] = field(default_factory=list)


def audits(comparison: Comparison) -> list[Audit]:
    """Return the audit of every graft, in the order of the starts."""
    found = []
    for start in comparison.starts:
        reports = start.grafts or ([start.graft] if start.graft else [])
        found += [_audit(comparison, start, report) for report in reports]
    return found


def _audit(comparison: Comparison, start: Start, report: Mapping[str, Any]) -> Audit:
    model = str(report.get("model", ABSENT))
    coverage = _finite(report.get("coverage"))
    facts = [(verdict, _counted(report, verdict)) for verdict in VERDICTS]
    facts.append(("parity", parity_text(report.get("parity"))))
    named = ("method", "stem", "norm", "depth_padding", "origin")
    facts += [(key.replace("_", " "), str(report[key])) for key in named if report.get(key)]
    stages = report.get("coverage_by_stage")
    if isinstance(stages, dict) and stages:
        shown = [f"{name} {percent(_finite(value))}" for name, value in stages.items()]
        facts.append(("coverage by stage", ", ".join(shown)))
    batchnorm = batchnorm_text(comparison, start.name, model)
    if batchnorm:
        facts.append(("batch normalization", batchnorm))
    notes = report.get("notes")
    unexplained = report.get("unexplained")
    groups = [group for verdict in VERDICTS for group in _groups(verdict, report.get(verdict))]
    if isinstance(unexplained, list) and unexplained:
        groups.insert(
            0, Group(verdict="unexplained", reason="", names=[str(n) for n in unexplained])
        )
    return Audit(
        start=start.name,
        model=model,
        source=str(report.get("source") or start.source),
        coverage=coverage,
        facts=facts,
        groups=groups,
        notes=[str(note) for note in notes] if isinstance(notes, list) else [],
    )


def _finite(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _counted(report: Mapping[str, Any], verdict: str) -> str:
    entries = report.get(verdict)
    tensors = len(entries) if isinstance(entries, list | dict) else _finite(entries)
    text = f"{count(tensors)} tensor{'' if tensors == 1 else 's'}"
    parameters = report.get("parameters")
    if isinstance(parameters, dict) and _finite(parameters.get(verdict)) is not None:
        text += f", {count(_finite(parameters[verdict]))} parameters"
    return text


def _brief(counted: str) -> str:
    """Return ``21 (3,100,000)`` for ``21 tensors, 3,100,000 parameters``."""
    tensors, _, parameters = counted.partition(", ")
    shown = tensors.split()[0]
    return f"{shown} ({parameters.split()[0]})" if parameters else shown


def parity_text(parity: Any) -> str:
    """Return the parity check of a graft in words."""
    if not isinstance(parity, dict):
        return "not checked"
    error, relative = _finite(parity.get("max_abs_error")), _finite(parity.get("relative_error"))
    tolerance, where = _finite(parity.get("tolerance")), str(parity.get("where") or "")
    if error is None:
        return where or "not checked"
    text = f"largest absolute difference {_small(error)}"
    if relative is not None:
        text += f", relative {_small(relative)}"
    if tolerance is not None:
        text += f" (allowed {_small(tolerance)})"
    return f"{text}; {where}" if where else text


def _small(value: float) -> str:
    return "0" if value == 0 else with_minus(f"{value:.1e}")


def _groups(verdict: str, entries: Any) -> list[Group]:
    if isinstance(entries, dict):
        entries = [{"name": name, "because": why} for name, why in entries.items()]
    if not isinstance(entries, list):
        return []
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        if isinstance(entry, dict):
            name, origin = str(entry.get("name", ABSENT)), entry.get("from")
            reason = str(entry.get("because") or entry.get("how") or "")
            shown = f"{name} ← {origin}" if origin and origin != name else name
        else:
            reason, shown = "", str(entry)
        by_reason.setdefault(reason, []).append(shown)
    return [
        Group(
            verdict=verdict,
            reason=reason,
            names=names[:MAX_NAMES],
            more=max(0, len(names) - MAX_NAMES),
        )
        for reason, names in by_reason.items()
    ]


def batchnorm_text(comparison: Comparison, start: str, model: str) -> str:
    """Return what the runs recorded of batch normalization, as ranges over the runs."""
    found: dict[str, list[float]] = {}
    for run in comparison.runs:
        if (run.start, run.model) == (start, model):
            for key, value in flat_numbers(run.batchnorm):
                if not key.endswith("step"):
                    found.setdefault(key, []).append(value)
    parts = []
    for key, values in found.items():
        low, high = number(min(values)), number(max(values))
        shown = low if low == high else f"{low} to {high}"
        runs = f"{len(values)} run{'' if len(values) == 1 else 's'}"
        parts.append(f"{key.replace('_', ', ')}: {shown} ({runs})")
    if not parts:
        return ""
    return "disagreement between training and evaluation mode; " + "; ".join(parts)


def grafts_table(comparison: Comparison) -> Table:
    """Return one line a graft: coverage, counts, parity."""
    rows, records = [], []
    for audit in audits(comparison):
        facts = dict(audit.facts)
        rows.append(
            cells(
                audit.start,
                audit.model,
                percent(audit.coverage, 1),
                *(_brief(facts[verdict]) for verdict in VERDICTS),
                facts["parity"],
            )
        )
        record: dict[str, Any] = {"start": audit.start, "model": audit.model}
        record |= {"source": audit.source, "coverage": audit.coverage}
        records.append(record | facts)
    return Table(
        name="grafts",
        caption="Audit of each graft: share of the network's parameters that come from the "
        "source, and what became of every tensor: tensors (parameters).",
        header=["Start", "Model", "Coverage", "Loaded", "Adapted", "Fresh", "Dropped", "Parity"],
        rows=rows,
        records=records,
        text_columns=2,
        prose=True,
    )
