"""A comparison's plan: data x task x models x starts x sizes x seeds x recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxgraft.datasets import Target
from voxgraft.errors import RecipeError, raise_faults
from voxgraft.recipes import (
    Faults,
    ModelSettings,
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
from voxgraft.transforms import Augmentation, Preprocessing
from voxgraft.types import Json, Size3

Size = int | float | Literal["all"]


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """How patients are split where the table has no ``split`` column."""

    fractions: tuple[float, float, float] = (0.6, 0.15, 0.25)
    """Train, validation, test; of the patients."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class LearningRateSearch:
    """The grid that each start's learning rate is chosen from, with an equal budget for each."""

    grid: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    steps: int | None = None
    """Optimizer steps of a trial; None takes the steps, or epochs, of a run."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A comparison, complete."""

    table: str
    target: Target | None = None
    """None until the table has been read, where the plan names only columns."""
    target_columns: tuple[str, ...] = ()
    title: str = "Which start is best?"
    note: str = ""
    """What a reader must know of the data; stands on the report."""
    dataset: tuple[str, ...] = ()
    """Public data sets that the cases are of, for the overlap audit; a column ``dataset`` of the
    table says it case by case."""
    metric: str | None = None
    level: Literal["case", "patient"] = "case"
    """Whether metrics are over cases or over patients (mean score of a patient's cases)."""
    split: SplitSettings = field(default_factory=SplitSettings)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    augmentation: Augmentation = field(default_factory=Augmentation)
    crop_size_voxels: Size3 | None = None
    """Random training crops (depth, height, width); None trains on whole volumes."""
    models: tuple[ModelSettings, ...]
    """Networks that every start without one of its own is tried on; may be empty if none is."""
    starts: tuple[StartSettings, ...]
    networks: Mapping[str, ModelSettings] = field(default_factory=dict)
    """Start's name to its own network, for starts that fit no other: a video network, say."""
    reference: str | None = None
    """The start that others are compared with; None takes scratch, or else the first."""
    sizes: tuple[Size, ...] = ("all",)
    """Training patients: numbers, fractions of the train split, or ``all``."""
    seeds: tuple[int, ...] = (0, 1, 2)
    optimization: Optimization = field(default_factory=Optimization)
    task: TaskSettings = field(default_factory=TaskSettings)
    learning_rate: LearningRateSearch = field(default_factory=LearningRateSearch)
    baselines: tuple[str, ...] = ()
    """Columns of the table that stand as trivial baselines (a diameter, an age)."""
    replicates: int = 2000
    """Bootstrap replicates of each interval."""
    threads: int | None = None
    """Threads of each run; None divides the cores by the jobs, once."""
    store: str | None = None

    @property
    def all_models(self) -> tuple[ModelSettings, ...]:
        """Every network of the comparison, the shared ones first."""
        own = {model.name: model for model in self.networks.values()}
        shared = {model.name for model in self.models}
        return (*self.models, *(model for name, model in own.items() if name not in shared))

    def pairs(self) -> list[tuple[ModelSettings, StartSettings]]:
        """Return each network with each start that is tried on it, by networks."""
        return [
            (model, start)
            for model in self.all_models
            for start in self.starts
            if self.tried(model, start)
        ]

    def tried(self, model: ModelSettings, start: StartSettings) -> bool:
        """Say whether a start is tried on a network."""
        own = self.networks.get(start.name)
        return model.name == own.name if own is not None else model in self.models

    def to_dict(self) -> Json:
        """Return the plan as plain data, ready for YAML."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        plain["preprocessing"] = self.preprocessing.to_dict()
        for name in ("target", "split", "augmentation", "optimization", "task", "learning_rate"):
            plain[name] = dataclasses.asdict(plain[name]) if plain[name] is not None else None
        plain["models"] = [dataclasses.asdict(model) for model in self.models]
        plain["starts"] = [dataclasses.asdict(start) for start in self.starts]
        for start in plain["starts"]:
            if start["name"] in self.networks:
                start["model"] = dataclasses.asdict(self.networks[start["name"]])
        del plain["networks"]
        if self.target is not None:
            del plain["target_columns"]
        return plain


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
    "store": str | None,
}
_SECTIONS: dict[str, Any] = {
    "split": SplitSettings,
    "augmentation": Augmentation,
    "optimization": Optimization,
    "task": TaskSettings,
    "learning_rate": LearningRateSearch,
}


def plan_from_dict(data: Json, where: str) -> Plan:
    """Read a plan from plain data.

    Raises:
        RecipeError: If anything is unknown, missing or impossible; all faults are named.
    """
    faults = Faults(where)
    keys = [item.name for item in dataclasses.fields(Plan) if item.name != "networks"]
    check_keys(data, keys, "", faults)
    values: dict[str, Any] = {}
    if isinstance(data.get("dataset"), str):
        data = {**data, "dataset": [data["dataset"]]}
    for name, annotation in _PLAIN_TYPES.items():
        if name in data:
            values[name] = read_value(annotation, data[name], name, faults)
    for name, cls in _SECTIONS.items():
        if name in data:
            values[name] = read_section(cls, data[name], name, faults)
    if "preprocessing" in data:
        values["preprocessing"] = read_preprocessing(data["preprocessing"], faults)
    values |= _read_target(data, faults)
    values["starts"], values["networks"] = _read_starts(data, faults)
    needed = len(values["networks"]) < len(values["starts"]) or not values["starts"]
    values["models"] = (
        _read_list(data, "models", read_model, faults) if needed or data.get("models") else ()
    )
    values["seeds"] = _read_seeds(data.get("seeds", 3), faults)
    if "table" not in data:
        faults.add("table", "missing; give the path of a table of cases")
    if not faults.found:
        _check_names(values, faults)
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
    table = data.get("table")
    if isinstance(table, str) and not Path(table).is_absolute():
        data["table"] = str((path.parent / table).resolve())
    return plan_from_dict(data, str(path))


def _read_list(data: Json, key: str, read: Any, faults: Faults) -> tuple[Any, ...]:
    items = data.get(key)
    if isinstance(items, str | dict):
        items = [items]
    if not isinstance(items, list) or not items:
        faults.add(key, f"expected a list with at least one entry, found {items!r}")
        return ()
    return tuple(read(item, f"{key}.{position}", faults) for position, item in enumerate(items))


def _read_starts(
    data: Json, faults: Faults
) -> tuple[tuple[StartSettings, ...], dict[str, ModelSettings]]:
    """Read the starts, and the network of each that has one of its own (``model``)."""
    networks: dict[str, ModelSettings] = {}

    def read(item: Any, key: str, faults: Faults) -> StartSettings | None:
        if not isinstance(item, dict) or item.get("model") is None:
            if isinstance(item, dict):
                item = {name: value for name, value in item.items() if name != "model"}
            return read_start(item, key, faults)
        rest = {name: value for name, value in item.items() if name != "model"}
        start = read_start(rest, key, faults)
        model = read_model(item["model"], f"{key}.model", faults)
        if start is not None and model is not None:
            networks[start.name] = model
        return start

    return _read_list(data, "starts", read, faults), networks


def _read_target(data: Json, faults: Faults) -> dict[str, Any]:
    target = data.get("target")
    columns = data.get("target_columns", [])
    if isinstance(target, str):
        target, columns = None, [target]
    elif isinstance(target, list):
        target, columns = None, target
    if target is not None:
        return {"target": read_section(Target, target, "target", faults)}
    if not columns:
        faults.add("target", "missing; give a column of the table, or {kind, columns, classes}")
    return {"target_columns": read_value(tuple[str, ...], columns, "target", faults)}


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
    for size in values.get("sizes") or ():
        if isinstance(size, bool) or (isinstance(size, int | float) and size <= 0):
            faults.add("sizes", f"{size!r} is no number of patients, fraction or 'all'")


def resolve_reference(plan: Plan) -> str:
    """Return the name of the start that the others are compared with."""
    if plan.reference is not None:
        return plan.reference
    for start in plan.starts:
        if start.source is None:
            return start.name
    return plan.starts[0].name


def reference_of(
    plan: Plan, model: ModelSettings, start: StartSettings
) -> tuple[ModelSettings, str] | None:
    """Return network and name of the start that a start is compared with, or None for itself.

    The reference on the same network, if it is tried there; else a start from scratch that has
    the same network as its own; else the reference on the first network that it is tried on.
    """
    name = resolve_reference(plan)
    if start.name == name:
        return None
    reference = next(item for item in plan.starts if item.name == name)
    if plan.tried(model, reference):
        return model, name
    for other in plan.starts:
        if other.source is None and start.source is not None and plan.tried(model, other):
            return model, other.name
    return next((at, name) for at in plan.all_models if plan.tried(at, reference))


def refuse_changed_plan(before: Plan, after: Plan, folder: Path) -> None:
    """Refuse to go on in a folder whose runs were made under other settings.

    More models, starts, sizes and seeds may be added; whatever decides a run's numbers may not
    change.

    Raises:
        RecipeError: Naming each setting that differs.
    """
    old, new = before.to_dict(), after.to_dict()
    free = {"models", "starts", "sizes", "seeds", "title", "note", "reference", "replicates"}
    free |= {"baselines", "store", "threads"}
    faults = [
        f"{name}: was {old.get(name)!r}, is now {new.get(name)!r}"
        for name in sorted((old.keys() | new.keys()) - free)
        if old.get(name) != new.get(name)
    ]
    for key in ("models", "starts"):
        known = {item["name"]: item for item in old[key]}
        faults += [
            f"{key}: {item['name']!r} was {known[item['name']]}, is now {item}"
            for item in new[key]
            if item["name"] in known and known[item["name"]] != item
        ]
    if faults:
        raise_faults(
            RecipeError,
            f"{folder} holds a comparison under other settings",
            faults,
            "Choose another --out for the changed plan, or delete that folder.",
        )
