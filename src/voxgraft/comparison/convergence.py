"""How fast each start gets where it gets: validation scores against steps and hours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxgraft.comparison.evidence import Evidence
from voxgraft.comparison.matrix import Study
from voxgraft.comparison.plan import reference_of
from voxgraft.metrics import get_metric
from voxgraft.runs import RunFolder
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
    """With how many steps the runs of a start reach a score."""

    goal: float
    steps: tuple[int | None, ...]
    """Of each run: its first evaluation at least as good; None if there is none."""
    hours: tuple[float | None, ...]
    median_steps: float | None
    """Over the runs, one that does not reach it counting as infinite; None if half do not."""
    median_hours: float | None
    low: float | None
    """Interval of the median by draws of runs, of both starts; None with few of them."""
    high: float | None
    """None too where the upper end is not reached."""
    interval: bool


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
                "hours": _finite(float(np.mean(hours))),
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
    kept. With at least ``FEWEST_SEEDS`` runs of both, an interval draws the runs of both with
    replacement, so that the goal's own uncertainty is in it; validation patients are not drawn.

    Returns:
        None where a start has no run, or the goal is undefined.
    """
    kept = np.array([course.kept for course in reference])
    kept = kept[~np.isnan(kept)]
    if not courses or not len(kept):
        return None
    goal = float(kept.mean())
    firsts = [_first(course, goal, higher_is_better) for course in courses]
    steps = tuple(None if at is None else course.steps[at] for at, course in _zip(firsts, courses))
    hours = tuple(
        None if at is None else _finite(course.seconds[at] / 3600)
        for at, course in _zip(firsts, courses)
    )
    low = high = None
    enough = min(len(courses), len(kept)) >= FEWEST_SEEDS
    if enough:
        rng = np.random.default_rng([seed, 17])
        medians = []
        for _ in range(REPLICATES):
            drawn = float(kept[rng.integers(len(kept), size=len(kept))].mean())
            own = [courses[k] for k in rng.integers(len(courses), size=len(courses))]
            found = [_first(course, drawn, higher_is_better) for course in own]
            medians.append(
                _median([None if at is None else one.steps[at] for at, one in _zip(found, own)])
            )
        ordered = sorted(math.inf if value is None else value for value in medians)
        tail = (1 - level) / 2
        low = _finite(ordered[math.floor(tail * (REPLICATES - 1))])
        high = _finite(ordered[math.ceil((1 - tail) * (REPLICATES - 1))])
    return Reach(
        goal=goal,
        steps=steps,
        hours=hours,
        median_steps=_median(steps),
        median_hours=_median(hours),
        low=low,
        high=high,
        interval=enough,
    )


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
            known = [steps for steps in result.steps if steps is not None]
            reached.append(
                {
                    "start": start.name,
                    "model": model.name,
                    "train_size": size,
                    "against": against[1],
                    "goal": result.goal,
                    "runs": len(own),
                    "reached": len(known),
                    "steps": result.median_steps,
                    "fewest": min(known, default=None),
                    "most": max(known, default=None),
                    "hours": result.median_hours,
                    "interval": result.interval,
                    "low": result.low,
                    "high": result.high,
                    "first_evaluation": min(course.steps[0] for course in own),
                    "last_step": max(course.steps[-1] for course in own),
                    "reference_steps": None if mine is None else mine.median_steps,
                }
            )
    return {
        "metric": metric.name,
        "metric_label": metric.label,
        "higher_is_better": metric.higher_is_better,
        "courses": courses,
        "reached": reached,
    }


def _first(course: Course, goal: float, higher_is_better: bool) -> int | None:
    sign = 1.0 if higher_is_better else -1.0
    for place, value in enumerate(course.values):
        if sign * value >= sign * goal - 1e-12:
            return place
    return None


def _median(values: Sequence[float | int | None]) -> float | None:
    whole = [math.inf if value is None else float(value) for value in values]
    return _finite(float(np.median(whole)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _zip(
    places: Sequence[int | None], courses: Sequence[Course]
) -> list[tuple[int | None, Course]]:
    return list(zip(places, courses, strict=True))
