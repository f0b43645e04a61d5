"""A comparison's plan: data x task x models x starts x sizes x seeds x recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from voxgraft.datasets import Target, Windows
from voxgraft.recipes import ModelSettings, SegmentationSettings, StartSettings, TaskSettings
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
    size: Size | None = None
    """Training patients of the trials, whose choice then holds at every size; None searches at
    each size."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training on other labelled cases that starts go through before the comparison.

    What is None is taken from the plan.
    """

    table: str
    """Its patients are no patients of the comparison's test split."""
    target: Target | None = None
    """None until the table has been read, where the plan names only columns."""
    target_columns: tuple[str, ...] = ()
    metric: str | None = None
    """Chooses the checkpoint on the stage's validation cases; None takes the target's usual."""
    sizes: tuple[Size, ...] = ()
    """Training patients (nested); each gives a start of its own, so that the page shows what a
    start gains with more of them. Empty takes all, once."""
    split: SplitSettings = field(default_factory=lambda: SplitSettings(fractions=(0.85, 0.15, 0.0)))
    """How its patients are split where its table has no ``split`` column."""
    preprocessing: Preprocessing | None = None
    augmentation: Augmentation | None = None
    windows: Windows | None = None
    optimization: Optimization | None = None
    task: TaskSettings | None = None
    crop_size_voxels: Size3 | None = None
    segmentation: SegmentationSettings | None = None
    grid: tuple[float, ...] | None = None
    """Learning rates to choose from on its validation cases, for each start and network; None
    takes the plan's grid."""
    seed: int = 0


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
    """Random training crops (depth, height, width); None trains on whole volumes. Those of a
    segmentation are its windows too."""
    segmentation: SegmentationSettings | None = None
    """How structures are segmented, where the target (or that of a stage) is a segmentation."""
    windows: Windows | None = None
    """Windows that studies are seen through; a network's own come first."""
    models: tuple[ModelSettings, ...]
    """Networks that every start without one of its own is tried on; may be empty if none is."""
    starts: tuple[StartSettings, ...]
    networks: Mapping[str, ModelSettings] = field(default_factory=dict)
    """Start's name to its own network, for starts that fit no other: a video network, say."""
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Start's name to its source on each network, for starts that mean "what this network has": a
    start is tried on the networks that it has a source for."""
    stages: Mapping[str, Stage] = field(default_factory=dict)
    """Trainings before the comparison, by name; in a file, ``pretraining``."""
    chained: Mapping[str, str] = field(default_factory=dict)
    """Start's name to the stage that it goes through first; in a file, the start's
    ``pretraining``."""
    chained_sizes: Mapping[str, Size] = field(default_factory=dict)
    """Start's name to the training patients of its stage; a start without one has all."""
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
    published: str | None = None
    """A published table that the report shows its cells beside: ``ke2023/RSNA`` or
    ``ke2023/LIDC``."""
    keep_weights: Literal["all", "first seed", "none"] = "all"
    """Of which seeds' runs the trained weights stay on disk; predictions always do."""
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
        """Return each network with each start that is tried on it, by networks.

        A start has the source that it has on that network. One that goes through a stage first has
        the source that it goes into the stage with.
        """
        return [
            (model, self.start_on(model, start))
            for model in self.all_models
            for start in self.starts
            if self.tried(model, start)
        ]

    def tried(self, model: ModelSettings, start: StartSettings) -> bool:
        """Say whether a start is tried on a network."""
        own = self.networks.get(start.name)
        if own is not None:
            return model.name == own.name
        known = self.sources.get(start.name)
        return model in self.models and (known is None or model.name in known)

    def start_on(self, model: ModelSettings, start: StartSettings) -> StartSettings:
        """Return a start with the source that it has on a network."""
        known = self.sources.get(start.name)
        return start if known is None else dataclasses.replace(start, source=known[model.name])

    def is_scratch(self, start: StartSettings) -> bool:
        """Say whether a start has seen nothing before the comparison."""
        name = start.name
        return start.source is None and name not in self.sources and name not in self.chained

    def sources_of(self, start: StartSettings) -> tuple[str, ...]:
        """Return the sources that a start begins with on the networks that it is tried on."""
        known = self.sources.get(start.name)
        if known is not None:
            return tuple(dict.fromkeys(known.values()))
        return () if start.source is None else (start.source,)

    def origin(self, start: StartSettings) -> str:
        """Return in words where a start comes from."""
        sources = self.sources_of(start)
        said = sources[0] if len(sources) == 1 else f"{len(sources)} sources, one a network"
        said = said if sources else "scratch"
        stage = self.chained.get(start.name)
        if stage is None:
            return said
        size = self.chained_sizes.get(start.name, "all")
        of = "" if size == "all" else f" ({size} of its training patients)"
        return f"{said}, then trained on {stage}{of}"

    def to_dict(self) -> Json:
        """Return the plan as plain data, ready for YAML."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        plain["preprocessing"] = self.preprocessing.to_dict()
        for name in ("target", "split", "augmentation", "optimization", "task", "learning_rate"):
            plain[name] = dataclasses.asdict(plain[name]) if plain[name] is not None else None
        plain["models"] = [dataclasses.asdict(model) for model in self.models]
        for name in ("windows", "segmentation"):
            plain[name] = None if plain[name] is None else dataclasses.asdict(plain[name])
        plain["pretraining"] = {name: _plain_stage(stage) for name, stage in self.stages.items()}
        plain["starts"] = [dataclasses.asdict(start) for start in self.starts]
        for start in plain["starts"]:
            if start["name"] in self.sources:
                start["source"] = dict(self.sources[start["name"]])
            if start["name"] in self.chained:
                stage, size = self.chained[start["name"]], self.chained_sizes.get(start["name"])
                chain: Any = stage if size is None else {"stage": stage, "size": size}
                start["pretraining"] = chain
            if start["name"] in self.networks:
                start["model"] = dataclasses.asdict(self.networks[start["name"]])
        for name in ("networks", "sources", "stages", "chained", "chained_sizes"):
            del plain[name]
        if self.target is not None:
            del plain["target_columns"]
        return plain


def _plain_stage(stage: Stage) -> Json:
    plain = {item.name: getattr(stage, item.name) for item in dataclasses.fields(stage)}
    if stage.preprocessing is not None:
        plain["preprocessing"] = stage.preprocessing.to_dict()
    sections = ("target", "split", "augmentation", "windows", "optimization", "task")
    for name in (*sections, "segmentation"):
        plain[name] = None if plain[name] is None else dataclasses.asdict(plain[name])
    if stage.target is not None:
        del plain["target_columns"]
    return plain


def pretraining_family(start: str, sizes: Mapping[str, Size]) -> str:
    """Return a start's name without the size of its stage, which was put at its end."""
    return start.removesuffix(f"-{sizes.get(start, '')}")


def resolve_reference(plan: Plan) -> str:
    """Return the name of the start that the others are compared with."""
    if plan.reference is not None:
        return plan.reference
    for start in plan.starts:
        if plan.is_scratch(start):
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
        if plan.is_scratch(other) and not plan.is_scratch(start) and plan.tried(model, other):
            return model, other.name
    return next((at, name) for at in plan.all_models if plan.tried(at, reference))
