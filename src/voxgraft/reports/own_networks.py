"""A comparison whose starts each have a network of their own, on one page of panels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TOGETHER = "each start on its own network"


def together(value: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison's JSON with each start named by its network too, in one group.

    Where several networks are compared, and each start is tried on one of them only, a panel and
    a part of each table for every network would hold one line. Anything else is returned as it is.

    Args:
        value: What ``comparison.json`` holds; it may be damaged.
    """
    curves = value.get("curves")
    models = value.get("models")
    if not isinstance(curves, list) or not isinstance(models, list) or len(models) < 2:
        return value
    networks: dict[str, str] = {}
    for row in curves:
        start, model = (row.get("start"), row.get("model")) if isinstance(row, dict) else (0, 0)
        if not isinstance(start, str) or not isinstance(model, str) or start in networks:
            return value
        networks[start] = model
    names = {start: f"{start} ({model})" for start, model in networks.items()}

    def renamed(row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        changed = dict(row)
        if "model" in row:
            changed["model"] = TOGETHER
        for key in ("start", "against"):
            if isinstance(row.get(key), str):
                changed[key] = names.get(row[key], row[key])
        for key in ("points", "reference"):  # of a family of starts
            if isinstance(row.get(key), list):
                changed[key] = [renamed(point) for point in row[key]]
            elif isinstance(row.get(key), dict):
                changed[key] = renamed(row[key])
        if isinstance(row.get("scores"), dict):
            changed["scores"] = {names.get(key, key): item for key, item in row["scores"].items()}
        return changed

    result = dict(value)
    for key in ("runs", "curves", "differences", "label_savings", "trials", "cost", "examples"):
        if isinstance(value.get(key), list):
            result[key] = [renamed(row) for row in value[key]]
    for key, lists in _WITHIN.items():
        result |= {key: _inside(value[key], lists, renamed)} if key in value else {}
    if isinstance(value.get("starts"), list):
        result["starts"] = [
            row | {"name": names.get(row["name"], row["name"])}
            if isinstance(row, dict) and isinstance(row.get("name"), str)
            else row
            for row in value["starts"]
        ]
    if isinstance(value.get("reference"), str):
        result["reference"] = names.get(value["reference"], value["reference"])
    return result | {"models": [TOGETHER]}


_WITHIN = {
    "secondary": ("curves", "differences"),
    "structures": ("rows",),
    "contours": ("runs", "found"),
    "scaling": ("families",),
    "convergence": ("courses", "reached"),
    "device_hours": ("runs", "pretraining"),
}
"""Parts of a comparison to the lists within them (or within each of them) whose rows are of a start
on a network."""


def _inside(part: Any, lists: tuple[str, ...], renamed: Callable[[Any], Any]) -> Any:
    """Return a part of a comparison, or a list of parts, with the rows of its lists renamed."""
    if isinstance(part, list):
        return [_inside(one, lists, renamed) for one in part]
    if not isinstance(part, dict):
        return part
    changed = dict(part)
    for name in lists:
        if isinstance(part.get(name), list):
            changed[name] = [renamed(row) for row in part[name]]
    return changed
