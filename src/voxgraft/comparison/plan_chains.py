"""Starts that go through a stage first: at one size of its table, or at each of several."""

from __future__ import annotations

import dataclasses
from typing import Any

from voxgraft.comparison.plan import Plan, Size, Stage, pretraining_family
from voxgraft.recipes import Faults, StartSettings, check_keys, read_value


def read_chain(value: Any, key: str, faults: Faults) -> tuple[str, Size | None]:
    """Read the ``pretraining`` of a start: a stage's name, or ``{stage, size}``.

    Returns:
        The stage, and how many of its training patients; None for all, or for all of its sizes.
    """
    if not isinstance(value, dict):
        return read_value(str, value, key, faults) or "", None
    check_keys(value, ["stage", "size"], key, faults)
    size = value.get("size")
    if size is not None:
        size = read_value(Size, size, f"{key}.size", faults)
        check_size(size, f"{key}.size", faults)
    return read_value(str, value.get("stage"), f"{key}.stage", faults) or "", size


def check_size(size: Any, key: str, faults: Faults) -> None:
    """See that a number of patients may be one."""
    if isinstance(size, bool) or (isinstance(size, int | float) and not size > 0):
        faults.add(key, f"{size!r} is no number of patients, fraction or 'all'")


def expand_sizes(values: dict[str, Any], faults: Faults) -> None:
    """Give a start that goes through a stage of several sizes one start a size.

    ``grown`` through a stage with sizes 21 and ``all`` becomes ``grown-21`` and ``grown-all``.

    Args:
        values: Of the plan, as read; changed in place.
        faults: Where faults go.
    """
    stages: dict[str, Stage] = values["stages"]
    starts: list[StartSettings | None] = []  # None: it has a fault, which is told with the others
    for start in values["starts"]:
        if start is None:
            starts.append(start)
            continue
        stage = stages.get(values["chained"].get(start.name, ""))
        if stage is None or not stage.sizes or start.name in values["chained_sizes"]:
            starts.append(start)
            continue
        name = start.name
        for size in stage.sizes:
            own = dataclasses.replace(start, name=f"{name}-{size}")
            starts.append(own)
            values["chained_sizes"][own.name] = size
            for room in ("chained", "sources", "networks"):
                if name in values[room]:
                    values[room][own.name] = values[room][name]
        for room in ("chained", "sources", "networks"):
            values[room].pop(name, None)
    for name, stage in stages.items():
        for size in stage.sizes:
            check_size(size, f"pretraining.{name}.sizes", faults)
        if len(set(stage.sizes)) < len(stage.sizes):
            faults.add(f"pretraining.{name}.sizes", f"name each once, found {list(stage.sizes)}")
    values["starts"] = tuple(starts)


def families(plan: Plan) -> dict[str, list[StartSettings]]:
    """Return starts that differ only in how many patients of a stage they have seen.

    Returns:
        Name of a family to its starts, in the plan's order; those with one start are left out.
    """
    found: dict[str, list[StartSettings]] = {}
    keys: dict[Any, str] = {}
    for start in plan.starts:
        stage = plan.chained.get(start.name)
        if stage is None:
            continue
        alike = dataclasses.replace(start, name="", description="")
        sources = sorted(plan.sources.get(start.name, {}).items())
        key = repr((stage, alike, sources, plan.networks.get(start.name)))
        name = keys.setdefault(key, pretraining_family(start.name, plan.chained_sizes))
        found.setdefault(name, []).append(start)
    return {name: members for name, members in found.items() if len(members) > 1}
