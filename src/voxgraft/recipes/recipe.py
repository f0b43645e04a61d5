"""The complete description of one training, as a frozen value and as YAML."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxgraft.datasets import Target, Windows
from voxgraft.errors import RecipeError, VoxgraftError
from voxgraft.files import content_key
from voxgraft.metrics import metric_names
from voxgraft.recipes.sections import (
    Faults,
    check_keys,
    read_section,
    read_value,
    read_yaml,
    write_yaml,
)
from voxgraft.recipes.segmentation import SegmentationSettings
from voxgraft.recipes.task import TaskSettings
from voxgraft.tasks import Task
from voxgraft.tasks.segmentation import SegmentationTask, build_segmentation_task
from voxgraft.training import Adapt, Optimization
from voxgraft.transforms import Augmentation, Preprocessing
from voxgraft.types import Json, Size3
from voxgraft.videos import Clips


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A network by registry name."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    """Options of ``build_encoder``, for example ``depth_padding: replicate``."""
    windows: Windows | None = None
    """Windows that this network sees studies through; None takes the recipe's (or plan's)."""
    batch_size: int | None = None
    """Batch size of this network; None takes the one of ``optimization``."""


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """A start: a source of weights and how it is used; without a source, from scratch."""

    name: str
    source: str | None = None
    """Catalogue id, ``timm:NAME@FILE``, a checkpoint or a run folder; None is from scratch."""
    method: Literal["average", "center", "gaussian", "shift"] = "average"
    """How 2D kernels are inflated along depth."""
    stem: Literal["sum", "mean", "repeat", "first"] = "sum"
    """How an RGB stem is fitted to the channels of the data."""
    norm: Literal["keep", "group", "instance"] = "keep"
    """Keep BatchNorm, or exchange it for group or instance normalization."""
    adapt: Adapt = field(default_factory=Adapt)
    """What of the network is trained, and how."""
    parts: Literal["encoder", "decoder", "all"] = "decoder"
    """What of the source a segmentation takes: the encoder alone; the decoder too, where the
    network has the same; or all, with the head of each class that the source has by name."""
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training, complete: the same recipe gives the same run."""

    table: str
    """Path of the table; it has a ``split`` column."""
    target: Target
    metric: str
    """The primary metric: chooses the checkpoint and ends training early."""
    preprocessing: Preprocessing
    augmentation: Augmentation
    model: ModelSettings
    start: StartSettings
    optimization: Optimization
    task: TaskSettings = field(default_factory=TaskSettings)
    train_size: int | None = None
    """Training patients; None takes all of the train split."""
    subset_seed: int = 0
    """Which chain of nested subsets the training patients are drawn from."""
    seed: int = 0
    """Seed of initialization, batches, augmentation and dropout."""
    score_splits: tuple[str, ...] = ("validation", "test")
    """Splits that the trained network is scored on."""
    crop_size_voxels: Size3 | None = None
    """Random training crops (depth, height, width); None trains on whole volumes."""
    windows: Windows | None = None
    """Windows that studies are seen through; None sees whole volumes (or crops in training)."""
    segmentation: SegmentationSettings | None = None
    """How structures are segmented, where the target is a segmentation."""
    clips: Clips | None = None
    """The table's images are videos, of which the network sees clips; nothing is preprocessed."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Layout of the network in memory; ``auto`` measures once and records the choice."""
    save_weights: bool = True
    """Whether the trained weights stay; without them nothing more can be predicted."""
    store: str | None = None
    """Folder of the preprocessed volumes; None takes the cache."""

    def to_dict(self) -> Json:
        """Return the recipe as plain data, ready for YAML."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        plain["target"] = dataclasses.asdict(self.target)
        plain["preprocessing"] = self.preprocessing.to_dict()
        for name in ("windows", "clips", "segmentation"):
            plain[name] = None if plain[name] is None else dataclasses.asdict(plain[name])
        for name in ("augmentation", "model", "start", "optimization", "task"):
            plain[name] = dataclasses.asdict(plain[name])
        return plain

    @property
    def seen_windows(self) -> Windows | None:
        """The windows that the network sees studies through: its own, or the recipe's."""
        return self.windows if self.model.windows is None else self.model.windows

    @property
    def own_optimization(self) -> Optimization:
        """The optimization with the network's own batch size, if it has one."""
        size = self.model.batch_size
        return self.optimization if size is None else self.optimization.replace(batch_size=size)

    def build_task(self) -> Task | SegmentationTask:
        """Return the task of the target, with the recipe's loss.

        The training of a segmentation chooses its weights by Dice, whatever the primary metric:
        surfaces would take too long at each evaluation.

        Raises:
            TaskError: If a setting is impossible for this kind of target.
        """
        if self.segmentation is None:
            return self.task.build(self.target, self.metric)
        return build_segmentation_task(
            self.target,
            loss=self.segmentation.loss,
            overlapping=self.segmentation.overlapping,
            deep_supervision=self.segmentation.deep_supervision,
        )

    @property
    def crops(self) -> Size3:
        """Size of the training crops of a segmentation, which are its windows too.

        Raises:
            RecipeError: If there is none.
        """
        if self.crop_size_voxels is None:
            raise RecipeError(
                "crop_size_voxels is missing: a segmentation trains on crops and sees whole scans "
                "in windows of their size. Give (depth, height, width), e.g. [96, 96, 96]; "
                "`voxgraft plan` chooses it from the data."
            )
        return self.crop_size_voxels

    def key(self) -> str:
        """Return a key of the content: equal recipes have equal keys, wherever they are stored."""
        plain = self.to_dict()
        del plain["store"]
        return content_key(plain)


def recipe_from_dict(data: Json, where: str) -> Recipe:
    """Read a recipe from plain data.

    Args:
        data: As from :meth:`Recipe.to_dict`.
        where: What the data came from, for messages.

    Raises:
        RecipeError: If anything is unknown, missing or impossible; all faults are named.
    """
    faults = Faults(where)
    fields = [item.name for item in dataclasses.fields(Recipe)]
    check_keys(data, fields, "", faults)
    values: dict[str, Any] = {
        "target": read_section(Target, data.get("target"), "target", faults),
        "preprocessing": read_preprocessing(data.get("preprocessing", {}), faults),
        "augmentation": read_section(
            Augmentation, data.get("augmentation", {}), "augmentation", faults
        ),
        "model": read_model(data.get("model"), "model", faults),
        "start": read_start(_named(data.get("start")), "start", faults),
        "optimization": read_section(
            Optimization, data.get("optimization", {}), "optimization", faults
        ),
        "task": read_section(TaskSettings, data.get("task", {}), "task", faults),
    }
    if data.get("windows") is not None:
        values["windows"] = read_section(Windows, data["windows"], "windows", faults)
    if data.get("segmentation") is not None:
        values["segmentation"] = read_section(
            SegmentationSettings, data["segmentation"], "segmentation", faults
        )
    if data.get("clips") is not None:
        values["clips"] = read_section(Clips, data["clips"], "clips", faults)
        for name in ("windows", "crop_size_voxels"):
            if data.get(name) is not None:
                faults.add(name, "is for scans; with clips, the network sees clips of videos")
    for item in dataclasses.fields(Recipe):
        if item.name in values:
            continue
        if item.name in data:
            values[item.name] = read_value(
                _RECIPE_TYPES[item.name], data[item.name], item.name, faults
            )
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            faults.add(item.name, "missing")
    target = values["target"]
    if target is not None and target.kind == "segmentation":
        _check_segmentation(data, values, faults)
    elif values["task"] is not None and target is not None:
        if values.get("segmentation") is not None:
            faults.add("segmentation", f"is for targets of that kind; this one is {target.kind}")
        try:
            values["task"].build(target)
        except VoxgraftError as error:
            faults.add("task", str(error))
    faults.raise_if_any("recipe")
    return Recipe(**values)


def _named(start: Any) -> Any:
    """Return a start that says no name under that of its source; a recipe has one start only."""
    if isinstance(start, dict) and "name" not in start and isinstance(start.get("source"), str):
        return {"name": start["source"], **start}
    return start


def _check_segmentation(data: Json, values: dict[str, Any], faults: Faults) -> None:
    """See that a recipe of a segmentation is one, and fill in its settings."""
    if data.get("segmentation") is None:
        values["segmentation"] = SegmentationSettings()
    for name in ("windows", "clips"):
        if data.get(name) is not None:
            faults.add(name, "is for whole cases; a segmentation has crop_size_voxels")
    if values["task"] not in (None, TaskSettings()):
        faults.add("task", "is for whole cases; a segmentation's loss is segmentation.loss")
    optimization, start = values["optimization"], values["start"]
    if optimization is not None and optimization.balance != "none":
        faults.add("optimization.balance", "is for classes of cases; expected none")
    if start is not None and start.adapt.method == "probe":
        faults.add("start.adapt", "probe fits features of whole cases; expected another method")
    names = metric_names("segmentation")
    if data.get("metric") is not None and data["metric"] not in names:
        faults.add("metric", f"is {data['metric']!r}, expected one of {', '.join(names)}")
    if data.get("crop_size_voxels") is None:
        faults.add(
            "crop_size_voxels",
            "missing; a segmentation trains on crops and sees whole scans in windows of their "
            "size: (depth, height, width), e.g. [96, 96, 96]",
        )


_RECIPE_TYPES: dict[str, Any] = {
    "table": str,
    "metric": str,
    "train_size": int | None,
    "subset_seed": int,
    "seed": int,
    "score_splits": tuple[str, ...],
    "crop_size_voxels": Size3 | None,
    "windows": Windows | None,
    "segmentation": SegmentationSettings | None,
    "clips": Clips | None,
    "memory_format": Literal["auto", "contiguous", "channels_last"],
    "save_weights": bool,
    "store": str | None,
}


def read_recipe(path: Path) -> Recipe:
    """Read ``recipe.yaml``.

    Raises:
        RecipeError: If it is no valid recipe; all faults are named.
    """
    return recipe_from_dict(read_yaml(path), str(path))


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML that runs again as it is."""
    write_yaml(path, recipe.to_dict())


def read_model(data: Any, key: str, faults: Faults) -> ModelSettings | None:
    """Read a network's settings from a name or a mapping."""
    return read_section(
        ModelSettings, {"name": data} if isinstance(data, str) else data, key, faults
    )


def read_start(data: Any, key: str, faults: Faults) -> StartSettings | None:
    """Read a start from a name (``scratch``, or a source's id) or a mapping."""
    if isinstance(data, str):
        data = {"name": data} if data == "scratch" else {"name": data, "source": data}
    if isinstance(data, dict) and isinstance(data.get("adapt"), str):
        data = data | {"adapt": {"method": data["adapt"]}}
    return read_section(StartSettings, data, key, faults)


def read_preprocessing(data: Any, faults: Faults) -> Preprocessing | None:
    """Read preprocessing settings; windows may come as (center, width)."""
    if not isinstance(data, dict):
        faults.add("preprocessing", f"expected a mapping of settings, found {data!r}")
        return None
    try:
        return Preprocessing.from_dict(data)
    except VoxgraftError as error:
        faults.add("preprocessing", str(error))
        return None
