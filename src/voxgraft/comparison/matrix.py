"""The matrix of a comparison: which trials and which runs there are, and their recipes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voxgraft.comparison.plan import Plan
from voxgraft.datasets import Target
from voxgraft.recipes import ModelSettings, Recipe, StartSettings


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A start on a network at one training size: what a learning rate is chosen for."""

    model: ModelSettings
    start: StartSettings
    train_size: int
    """Training patients."""

    @property
    def id(self) -> str:
        """Name of the arm, fit for a folder."""
        return arm_id(self.model.name, self.start.name, self.train_size)

    @property
    def searches(self) -> bool:
        """Whether the arm has a learning rate to choose (a linear probe has none)."""
        return self.start.adapt.method != "probe"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A plan with what its table settled: target, metric, sizes and the table of cases."""

    plan: Plan
    target: Target
    metric: str
    sizes: tuple[int, ...]
    """Training patients, ascending."""
    table: Path
    """The table with its split column, as the runs read it."""
    threads: int
    search_size: int | None = None
    """Training patients of the trials; None searches at each size."""
    made: Mapping[str, str] = field(default_factory=dict)
    """``model__start`` to the run that it went through first, once that has finished."""

    @property
    def segments(self) -> bool:
        """Whether structures are segmented; their scores are open where a case has none."""
        return self.target.kind == "segmentation"

    def pairs(self) -> list[tuple[ModelSettings, StartSettings]]:
        """Return each network with each start that is tried on it, by networks.

        A start that has gone through a stage has that run as its source.
        """
        pairs = []
        for model, start in self.plan.pairs():
            made = self.made.get(pair_id(model.name, start.name))
            pairs.append(
                (model, start if made is None else dataclasses.replace(start, source=made))
            )
        return pairs

    def arms(self) -> Iterator[Arm]:
        """Yield the arms, smallest size first."""
        for size in self.sizes:
            for model, start in self.pairs():
                yield Arm(model=model, start=start, train_size=size)

    def searched(self, arm: Arm) -> Arm:
        """Return the arm whose trials choose the learning rate of this one."""
        size = arm.train_size if self.search_size is None else self.search_size
        return dataclasses.replace(arm, train_size=size)

    def trials(self) -> Iterator[tuple[Arm, float]]:
        """Yield arm and learning rate of each trial, once each."""
        seen = set()
        for arm in map(self.searched, self.arms()):
            if arm.id in seen or not arm.searches or len(self.plan.learning_rate.grid) < 2:
                continue
            seen.add(arm.id)
            yield from ((arm, rate) for rate in self.plan.learning_rate.grid)

    def trial(self, arm: Arm, learning_rate: float) -> Recipe:
        """Return the recipe of one trial: the first seed, scored on validation alone."""
        recipe = self.recipe(arm, self.plan.seeds[0], learning_rate)
        optimization, steps = recipe.optimization, self.plan.learning_rate.steps
        if steps is not None:
            optimization = optimization.replace(steps=steps, epochs=None)
        return dataclasses.replace(
            recipe, optimization=optimization, score_splits=("validation",), save_weights=False
        )

    def run(self, arm: Arm, seed: int, learning_rate: float | None) -> Recipe:
        """Return the recipe of one run."""
        recipe = self.recipe(arm, seed, learning_rate)
        keep = self.plan.keep_weights
        saved = keep == "all" or (keep == "first seed" and seed == self.plan.seeds[0])
        return dataclasses.replace(recipe, save_weights=saved)

    def recipe(self, arm: Arm, seed: int, learning_rate: float | None) -> Recipe:
        """Return what trials and runs of an arm train by."""
        optimization = dataclasses.replace(self.plan.optimization, threads=self.threads)
        if learning_rate is not None:
            optimization = dataclasses.replace(optimization, learning_rate=learning_rate)
        return Recipe(
            table=str(self.table),
            target=self.target,
            metric=self.metric,
            preprocessing=self.plan.preprocessing,
            augmentation=self.plan.augmentation,
            model=arm.model,
            start=arm.start,
            optimization=optimization,
            task=self.plan.task,
            train_size=arm.train_size,
            subset_seed=seed,
            seed=seed,
            crop_size_voxels=self.plan.crop_size_voxels,
            windows=self.plan.windows,
            segmentation=self.plan.segmentation if self.segments else None,
            store=self.plan.store,
        )


def pair_id(model: str, start: str) -> str:
    """Return the name of a start on a network, fit for a folder."""
    return f"{model}__{start}"


def arm_id(model: str, start: str, train_size: int) -> str:
    """Return the name of an arm, fit for a folder."""
    return f"{model}__{start}__n{train_size}"


def trial_id(arm: Arm, learning_rate: float) -> str:
    """Return the folder name of a trial."""
    return f"{arm.id}__lr{learning_rate:g}"


def run_id(arm: Arm, seed: int) -> str:
    """Return the folder name of a run."""
    return f"{arm.id}__s{seed}"
