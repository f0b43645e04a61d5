"""How fast each start gets where it gets: validation scores against steps and hours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from voxgraft.comparison.evidence import Evidence
from voxgraft.comparison.matrix import Study
from voxgraft.comparison.plan import reference_of
from voxgraft.metrics import get_metric
from voxgraft.runs import RunFolder
from voxgraft.training.progress import finite
from voxgraft.types import Json

FEWEST_SEEDS = 5
"""Runs of both starts from which an interval over them is given; fewer show themselves alone."""
REPLICATES = 2000


@dataclass(frozen=True, kw_only=True)
class Course:
    """The evaluations of one run on the validation cases."""

    steps: tuple[int, ...]
    values: tuple[float, ...]
    """NaN where the metric was undefined."""
    seconds: tuple[float, ...]
    """Of training and validation, since its beginning."""
    kept: float
    """Value of the weights that the run kept; NaN if it was never defined."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """With how many steps a start reaches a score."""

    goal: float
    steps: int | None
    """The first evaluation at which the mean over the runs, each at its best so far, is at least
    as good; None if there is none."""
    hours: float | None
    """Mean over the runs of the hours until then."""
    firsts: tuple[int | None, ...]
    """Of each run: its own first evaluation at least as good; None if there is none."""
    interval: bool
    """Whether there is an interval of the steps."""
    low: int | None
    """Its ends, by draws of runs, of both starts; None where they are not reached."""
    high: int | None


def course_of(history: Sequence[Json], metric: str, kept: float | None) -> Course:
    """Return the course of a run from the rows of its history."""
    values = [row["validation"].get(metric) for row in history]
    return Course(
        steps=tuple(int(row["step"]) for row in history),
        values=tuple(math.nan if value is None else float(value) for value in values),
        seconds=tuple(float(row.get("seconds", math.nan)) for row in history),
        kept=math.nan if kept is None else float(kept),
    )


def mean_course(courses: Sequence[Course]) -> list[Json]:
    """Return the mean over runs at each step, with the smallest and the largest of them.

    A run that ended early is in the mean up to its last evaluation; ``n`` counts the runs.
    """
    rows: list[Json] = []
    for step in sorted({step for course in courses for step in course.steps}):
        found = [
            (course.values[place], course.seconds[place] / 3600)
            for course in courses
            if step in course.steps
            for place in (course.steps.index(step),)
            if not math.isnan(course.values[place])
        ]
        if not found:
            continue
        values, hours = zip(*found, strict=True)
        rows.append(
            {
                "step": step,
                "hours": finite(float(np.mean(hours))),
                "mean": float(np.mean(values)),
                "low": min(values),
                "high": max(values),
                "n": len(values),
            }
        )
    return rows


def reach(
    courses: Sequence[Course],
    reference: Sequence[Course],
    *,
    higher_is_better: bool,
    seed: int = 0,
    level: float = 0.95,
) -> Reach | None:
    """Return with how many steps a start reaches the score that the reference ended with.

    The goal is the mean, over the runs of the reference, of the score of the weights that they
    kept; the start is there once its runs' weights, kept if they ended then, are as good in the
    mean. With at least ``FEWEST_SEEDS`` runs of both, an interval draws the runs of both with
    replacement, so that the goal's own uncertainty is in it; validation patients are not drawn.

    Returns:
        None where no run of the start, or of the reference, has a score.
    """
    sign = 1.0 if higher_is_better else -1.0
    steps, own, seconds = _best_so_far(courses, sign)
    kept = sign * np.array([course.kept for course in reference])
    kept = kept[~np.isnan(kept)]
    if not len(own) or not len(kept):
        return None
    goal = float(kept.mean())
    at = _first(own.mean(axis=0), goal)
    low: int | None = None
    high: int | None = None
    enough = min(len(own), len(kept)) >= FEWEST_SEEDS
    if enough:
        rng = np.random.default_rng([seed, 17])
        found = []
        for _ in range(REPLICATES):
            drawn = float(kept[rng.integers(len(kept), size=len(kept))].mean())
            place = _first(own[rng.integers(len(own), size=len(own))].mean(axis=0), drawn)
            found.append(len(steps) if place is None else place)
        found.sort()
        tail = (1 - level) / 2
        ends = math.floor(tail * (REPLICATES - 1)), math.ceil((1 - tail) * (REPLICATES - 1))
        low, high = (steps[found[end]] if found[end] < len(steps) else None for end in ends)
    places = [_first(run, goal) for run in own]
    return Reach(
        goal=sign * goal,
        steps=None if at is None else steps[at],
        hours=None if at is None else finite(float(seconds[:, at].mean()) / 3600),
        firsts=tuple(None if place is None else steps[place] for place in places),
        interval=enough,
        low=low,
        high=high,
    )


def _best_so_far(
    courses: Sequence[Course], sign: float
) -> tuple[list[int], Float[np.ndarray, "runs steps"], Float[np.ndarray, "runs steps"]]:
    """Return each run's best value, and its seconds, up to each step of any run.

    A run that ended early keeps its best; one without any value is left out. Values are turned by
    ``sign`` so that higher is better, and are minus infinity before the first.
    """
    scored = [course for course in courses if not math.isnan(course.kept)]
    steps = sorted({step for course in scored for step in course.steps})
    values = np.full((len(scored), len(steps)), -np.inf)
    seconds = np.zeros((len(scored), len(steps)))
    for row, course in enumerate(scored):
        best, place = -math.inf, 0
        for column, step in enumerate(steps):
            while place < len(course.steps) and course.steps[place] <= step:
                value = sign * course.values[place]
                best = best if math.isnan(value) else max(best, value)
                place += 1
            values[row, column] = best
            seconds[row, column] = course.seconds[max(place - 1, 0)]
    return steps, values, seconds


def convergence(study: Study, evidence: Evidence, folder: Path) -> Json:
    """Return the validation courses of each start at each size, and when they reach the goal.

    Runs that diverged or failed, and probes, which take no steps, are left out.

    Returns:
        ``metric``, ``higher_is_better``, ``courses`` (``start, model, train_size, n_seeds,
        points``) and ``reached`` (``start, model, train_size, against, goal, runs, reached, steps,
        low, high, fewest, most, hours, reference_steps``).
    """
    found: dict[tuple[str, str, int], list[Course]] = {}
    names: list[str] = []
    for row in evidence.runs:
        if row["status"] != "finished" or not row["steps"]:
            continue
        fit = RunFolder(folder / str(row["folder"])).result()["fit"]
        if fit["learning_rate"] is None or not fit["history"]:
            continue
        names.append(fit["metric"])
        key = (row["model"], row["start"], row["train_size"])
        found.setdefault(key, []).append(
            course_of(fit["history"], fit["metric"], fit["best_value"])
        )
    if not names:
        return {"metric": study.metric, "higher_is_better": True, "courses": [], "reached": []}
    metric = get_metric(names[0])
    courses = [
        {
            "start": start,
            "model": model,
            "train_size": size,
            "n_seeds": len(own),
            "points": mean_course(own),
        }
        for (model, start, size), own in found.items()
    ]
    reached: list[Json] = []
    for model, start in study.plan.pairs():
        against = reference_of(study.plan, model, start) or (model, start.name)
        for size in study.sizes:
            own = found.get((model.name, start.name, size), [])
            base = found.get((against[0].name, against[1], size), [])
            result = reach(own, base, higher_is_better=metric.higher_is_better)
            if result is None:
                continue
            mine = reach(base, base, higher_is_better=metric.higher_is_better)
            known = [steps for steps in result.firsts if steps is not None]
            reached.append(
                {
                    "start": start.name,
                    "model": model.name,
                    "train_size": size,
                    "against": against[1],
                    "goal": result.goal,
                    "runs": len(result.firsts),
                    "reached": len(known),
                    "steps": result.steps,
                    "fewest": min(known, default=None),
                    "most": max(known, default=None),
                    "hours": result.hours,
                    "interval": result.interval,
                    "low": result.low,
                    "high": result.high,
                    "first_evaluation": min(course.steps[0] for course in own),
                    "last_step": max(course.steps[-1] for course in own),
                    "reference_steps": None if mine is None else mine.steps,
                }
            )
    return {
        "metric": metric.name,
        "metric_label": metric.label,
        "higher_is_better": metric.higher_is_better,
        "courses": courses,
        "reached": reached,
    }


def _first(values: Float[np.ndarray, " steps"], goal: float) -> int | None:
    """Return the first place that is at least as good as the goal, up to rounding."""
    found = np.flatnonzero(values >= goal - 1e-12)
    return int(found[0]) if len(found) else None
