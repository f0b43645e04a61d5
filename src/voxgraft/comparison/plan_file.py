"""Read a comparison's plan, strictly, with all faults named at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from voxgraft.comparison.plan import LearningRateSearch, Plan, Size, SplitSettings, Stage
from voxgraft.comparison.plan_chains import check_size, expand_sizes, read_chain
from voxgraft.comparison.plan_segmentation import settle_segmentation
from voxgraft.datasets import Target, Windows
from voxgraft.recipes import (
    Faults,
    ModelSettings,
    SegmentationSettings,
    StartSettings,
    TaskSettings,
    check_keys,
    read_model,
    read_preprocessing,
    read_section,
    read_start,
    read_value,
    read_yaml,
    set_path,
)
from voxgraft.training import Optimization
from voxgraft.transforms import Augmentation
from voxgraft.types import Json, Size3

_PLAIN_TYPES: dict[str, Any] = {
    "table": str,
    "title": str,
    "note": str,
    "dataset": tuple[str, ...],
    "metric": str | None,
    "level": Literal["case", "patient"],
    "reference": str | None,
    "sizes": tuple[Size, ...],
    "baselines": tuple[str, ...],
    "replicates": int,
    "threads": int | None,
    "crop_size_voxels": Size3 | None,
    "published": str | None,
    "keep_weights": Literal["all", "first seed", "none"],
    "store": str | None,
}
_SECTIONS: dict[str, Any] = {
    "split": SplitSettings,
    "augmentation": Augmentation,
    "optimization": Optimization,
    "task": TaskSettings,
    "windows": Windows,
    "segmentation": SegmentationSettings,
    "learning_rate": LearningRateSearch,
}


def plan_from_dict(data: Json, where: str) -> Plan:
    """Read a plan from plain data.

    Raises:
        RecipeError: If anything is unknown, missing or impossible; all faults are named.
    """
    faults = Faults(where)
    apart = ("networks", "sources", "stages", "chained", "chained_sizes")
    keys = [item.name for item in dataclasses.fields(Plan) if item.name not in apart]
    keys.append("pretraining")
    check_keys(data, keys, "", faults)
    values: dict[str, Any] = {}
    if isinstance(data.get("dataset"), str):
        data = {**data, "dataset": [data["dataset"]]}
    for name, annotation in _PLAIN_TYPES.items():
        if name in data:
            values[name] = read_value(annotation, data[name], name, faults)
    for name, cls in _SECTIONS.items():
        if data.get(name) is not None:
            values[name] = read_section(cls, data[name], name, faults)
    own_rate = _own_rate(data, values)
    if own_rate is not None and data.get("learning_rate") is None:
        values["learning_rate"] = LearningRateSearch(grid=(own_rate,))
    if "preprocessing" in data:
        values["preprocessing"] = read_preprocessing(data["preprocessing"], faults)
    values |= _read_target(data, "", faults)
    values |= _read_starts(data, faults)
    # A plan that was written down says all of an optimization: then grids must be said as well.
    usual = values.get("learning_rate", LearningRateSearch()).grid
    values["stages"] = {
        name: stage if stage.grid else dataclasses.replace(stage, grid=usual)
        for name, stage in _read_stages(data.get("pretraining") or {}, faults).items()
    }
    expand_sizes(values, faults)
    needed = len(values["networks"]) < len(values["starts"]) or not values["starts"]
    values["models"] = (
        _read_list(data, "models", read_model, faults) if needed or data.get("models") else ()
    )
    values["seeds"] = _read_seeds(data.get("seeds", 3), faults)
    if "table" not in data:
        faults.add("table", "missing; give the path of a table of cases")
    if not faults.found:
        _check_names(values, faults)
        settle_segmentation(values, faults)
    faults.raise_if_any("plan")
    return Plan(**values)


def read_plan(path: Path, overrides: tuple[str, ...] = ()) -> Plan:
    """Read a plan from YAML; a relative table is relative to the plan's folder.

    Raises:
        RecipeError: If it is no valid plan; all faults are named.
    """
    data = read_yaml(path)
    for assignment in overrides:
        set_path(data, assignment)
    stages = data.get("pretraining")
    for part in (data, *(stages.values() if isinstance(stages, dict) else ())):
        table = part.get("table") if isinstance(part, dict) else None
        if isinstance(table, str) and not Path(table).is_absolute():
            part["table"] = str((path.parent / table).resolve())
    return plan_from_dict(data, str(path))


def _read_list(data: Json, key: str, read: Any, faults: Faults) -> tuple[Any, ...]:
    items = data.get(key)
    if isinstance(items, str | dict):
        items = [items]
    if not isinstance(items, list) or not items:
        faults.add(key, f"expected a list with at least one entry, found {items!r}")
        return ()
    return tuple(read(item, f"{key}.{position}", faults) for position, item in enumerate(items))


def _read_starts(data: Json, faults: Faults) -> dict[str, Any]:
    """Read the starts, and what some have beside their settings.

    That is a network of their own (``model``), a source for each network (``source`` as a mapping)
    and a stage that they go through first (``pretraining``).
    """
    networks: dict[str, ModelSettings] = {}
    sources: dict[str, dict[str, str]] = {}
    chained: dict[str, str] = {}
    chained_sizes: dict[str, Size] = {}

    def read(item: Any, key: str, faults: Faults) -> StartSettings | None:
        if not isinstance(item, dict):
            return read_start(item, key, faults)
        rest = {name: value for name, value in item.items() if name not in ("model", "pretraining")}
        known = rest.get("source")
        if isinstance(known, dict):
            known = read_value(dict[str, str], rest.pop("source"), f"{key}.source", faults)
        start = read_start(rest, key, faults)
        if start is None:
            return None
        if isinstance(known, dict):
            sources[start.name] = known
        if item.get("model") is not None:
            model = read_model(item["model"], f"{key}.model", faults)
            if model is not None:
                networks[start.name] = model
        if item.get("pretraining") is not None:
            stage, size = read_chain(item["pretraining"], f"{key}.pretraining", faults)
            chained[start.name] = stage
            if size is not None:
                chained_sizes[start.name] = size
        return start

    starts = _read_list(data, "starts", read, faults)
    found = {"networks": networks, "sources": sources, "chained": chained}
    return {"starts": starts, "chained_sizes": chained_sizes} | found


def _read_stages(data: Any, faults: Faults) -> dict[str, Stage]:
    """Read the section ``pretraining``: a stage a name."""
    if not isinstance(data, dict):
        faults.add("pretraining", f"expected a mapping of names to stages, found {data!r}")
        return {}
    stages = {}
    for name, item in data.items():
        key = f"pretraining.{name}"
        if not isinstance(item, dict):
            faults.add(key, f"expected a mapping with a table and a target, found {item!r}")
            continue
        check_keys(item, [each.name for each in dataclasses.fields(Stage)], key, faults)
        values: dict[str, Any] = {}
        for part, annotation in _STAGE_TYPES.items():
            if item.get(part) is not None:
                values[part] = read_value(annotation, item[part], f"{key}.{part}", faults)
        for part, cls in _SECTIONS.items():
            if part != "learning_rate" and item.get(part) is not None:
                values[part] = read_section(cls, item[part], f"{key}.{part}", faults)
        if item.get("preprocessing") is not None:
            values["preprocessing"] = read_preprocessing(item["preprocessing"], faults)
        values |= _read_target(item, f"{key}.", faults)
        own_rate = _own_rate(item, values)
        if own_rate is not None and item.get("grid") is None:
            values["grid"] = (own_rate,)
        if "table" not in item:
            faults.add(f"{key}.table", "missing; give the path of a table of cases")
        if not faults.found:
            stages[str(name)] = Stage(**values)
    return stages


def _own_rate(data: Json, values: dict[str, Any]) -> float | None:
    """Return the one rate that a section ``optimization`` asks for, if it does."""
    section, read = data.get("optimization"), values.get("optimization")
    if read is None or not isinstance(section, dict) or "learning_rate" not in section:
        return None
    rate: float = read.learning_rate
    return rate


_STAGE_TYPES: dict[str, Any] = {
    "table": str,
    "metric": str,
    "crop_size_voxels": Size3,
    "sizes": tuple[Size, ...],
    "grid": tuple[float, ...],
    "seed": int,
}


def _read_target(data: Json, key: str, faults: Faults) -> dict[str, Any]:
    target = data.get("target")
    columns = data.get("target_columns", [])
    if isinstance(target, str):
        target, columns = None, [target]
    elif isinstance(target, list):
        target, columns = None, target
    if target is not None:
        return {"target": read_section(Target, target, f"{key}target", faults)}
    if not columns:
        faults.add(
            f"{key}target", "missing; give a column of the table, or {kind, columns, classes}"
        )
    return {"target_columns": read_value(tuple[str, ...], columns, f"{key}target", faults)}


def _read_seeds(seeds: Any, faults: Faults) -> tuple[int, ...]:
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if seeds < 1:
            faults.add("seeds", f"expected at least 1, found {seeds}")
        return tuple(range(seeds))
    read = read_value(tuple[int, ...], seeds, "seeds", faults)
    if read is not None and (not read or len(set(read)) < len(read)):
        faults.add("seeds", f"expected different numbers, found {seeds!r}")
    return read or ()


def _check_names(values: dict[str, Any], faults: Faults) -> None:
    for key in ("models", "starts"):
        names = [item.name for item in values[key]]
        for name in sorted({name for name in names if names.count(name) > 1}):
            faults.add(key, f"{name!r} stands there twice; give each its own name")
        for name in names:
            if not name or any(sign in name for sign in "/\\\n\t") or name.startswith("."):
                faults.add(key, f"{name!r} cannot name a folder; use letters, digits, - and _")
    options: dict[str, ModelSettings] = {}
    for model in (*values["models"], *values["networks"].values()):
        if options.setdefault(model.name, model) != model:
            faults.add("starts", f"the network {model.name!r} stands there with different options")
    reference = values.get("reference")
    starts = [start.name for start in values["starts"]]
    if reference is not None and reference not in starts:
        faults.add("reference", f"{reference!r} is none of the starts ({', '.join(starts)})")
    _check_references(values, faults)
    for size in values.get("sizes") or ():
        check_size(size, "sizes", faults)


def _check_references(values: dict[str, Any], faults: Faults) -> None:
    """See that starts name networks and stages that are there."""
    models = {model.name for model in values["models"]}
    for name, known in values["sources"].items():
        if name in values["networks"]:
            faults.add("starts", f"{name!r} has a network of its own and sources by network")
        strange = sorted(set(known) - models)
        if strange or not known:
            faults.add(
                "starts",
                f"{name!r} has sources for {', '.join(strange) or 'no network'}; the networks are "
                f"{', '.join(sorted(models)) or 'none'}",
            )
    for name, stage in values["chained"].items():
        if stage not in values["stages"]:
            faults.add(
                "starts",
                f"{name!r} goes through {stage!r}; pretraining has "
                f"{', '.join(values['stages']) or 'no stages'}",
            )
