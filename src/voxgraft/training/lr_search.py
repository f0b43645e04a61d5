"""The learning rate of a start, chosen on the validation cases with an equal budget for each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from voxgraft.errors import RecipeError, TrainingError, raise_faults
from voxgraft.training.result import FitResult
from voxgraft.types import Json

RULE = (
    "best validation value of the primary metric within the budget; a diverged or undefined trial "
    "counts as worst; of equals the rate nearest to the grid's geometric middle, then the smaller"
)


@dataclass(frozen=True, kw_only=True)
class LearningRateChoice:
    """A grid of trials and the rate that was taken."""

    grid: tuple[float, ...]
    """Rates tried, ascending."""
    values: tuple[float | None, ...]
    """Primary validation metric of each; None where it diverged or was undefined."""
    diverged: tuple[bool, ...]
    chosen: float
    edge: str
    """``"lowest"`` or ``"highest"`` if the choice lies at that end of a grid of several rates,
    so that a better one may lie beyond; else empty."""
    metric: str
    higher_is_better: bool
    budget_steps: int
    """Updates of each trial, the same for all."""
    seconds: float
    """Time of all trials together."""
    rule: str = RULE

    def to_dict(self) -> Json:
        """Return everything as JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


def check_grid(grid: Sequence[float]) -> tuple[float, ...]:
    """Return a grid of learning rates, ascending.

    Raises:
        RecipeError: If it is empty, repeats a rate, or holds one that is impossible.
    """
    faults = [
        f"{rate!r} is no learning rate, expected a number above 0"
        for rate in grid
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 < rate < math.inf
    ]
    if not grid:
        faults.append("it is empty, expected one or more rates")
    if not faults and len(set(grid)) < len(grid):
        faults.append(f"a rate stands in it twice: {list(grid)}")
    if faults:
        raise_faults(
            RecipeError,
            "the grid of learning rates is impossible",
            faults,
            "Give different rates such as [3e-4, 1e-3, 3e-3].",
        )
    return tuple(sorted(float(rate) for rate in grid))


def choose_learning_rate(
    make_fit: Callable[[float], FitResult], grid: Sequence[float], *, higher_is_better: bool
) -> LearningRateChoice:
    """Run one trial for each rate and choose.

    Args:
        make_fit: Trains a fresh copy of the start at a rate, always with the same budget, seed
            and cases.
        grid: Rates to try.
        higher_is_better: Direction of the primary metric.

    Raises:
        RecipeError: If the grid is impossible.
        TrainingError: If the budgets of the trials differ.
    """
    rates = check_grid(grid)
    return pick_learning_rate(
        {rate: make_fit(rate) for rate in rates}, higher_is_better=higher_is_better
    )


def pick_learning_rate(
    trials: dict[float, FitResult], *, higher_is_better: bool
) -> LearningRateChoice:
    """Choose among trials that have been run.

    Args:
        trials: The result of each rate.
        higher_is_better: Direction of the primary metric.

    Raises:
        RecipeError: If the grid is impossible.
        TrainingError: If the budgets or metrics of the trials differ.
    """
    grid = check_grid(list(trials))
    results = [trials[rate] for rate in grid]
    budgets = sorted({(result.steps_planned, result.metric) for result in results})
    if len(budgets) > 1:
        raise TrainingError(
            f"the trials of a learning-rate search differ in budget or metric: {budgets}. "
            "Expected the same steps and metric for each rate, or the choice would flatter one."
        )
    values = [None if result.diverged else result.best_value for result in results]
    sign = 1.0 if higher_is_better else -1.0
    middle = 0.5 * (math.log(grid[0]) + math.log(grid[-1]))

    def rank(place: int) -> tuple[float, float, float]:
        """Order by value, then by distance from the middle, then by rate; the least is best."""
        value = values[place]
        worth = -sign * value if value is not None else math.inf
        return worth, round(abs(math.log(grid[place]) - middle), 9), grid[place]

    defined = any(value is not None for value in values)
    best = min(range(len(grid)), key=rank) if defined else 0
    edges = {0: "lowest", len(grid) - 1: "highest"} if len(grid) > 1 else {}
    return LearningRateChoice(
        grid=grid,
        values=tuple(values),
        diverged=tuple(result.diverged for result in results),
        chosen=grid[best],
        edge=edges.get(best, ""),
        metric=results[0].metric,
        higher_is_better=higher_is_better,
        budget_steps=results[0].steps_planned,
        seconds=sum(result.seconds for result in results),
    )
