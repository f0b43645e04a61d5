"""How fast the starts get where they get: figures against steps and hours, and a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.courses import Course, CoursePoint, Reached
from voxgraft.reports.hours import hours_text, unit
from voxgraft.reports.scaling import chosen_sizes
from voxgraft.reports.style import GRAY, PANEL_INCHES, Look, Panel, drawing, looks, save
from voxgraft.reports.tables import Table, cells, heading
from voxgraft.reports.wording import (
    ABSENT,
    count,
    decimals_for,
    number,
    plural,
    short,
    slugs,
)

Place = Callable[[CoursePoint], float | None]


def convergence_plots(comparison: Comparison, folder: Path, against: str) -> list[Panel]:
    """Draw a panel for each network and some training sizes.

    Args:
        comparison: The comparison.
        folder: Where the figures go.
        against: ``"steps"`` or ``"hours"``.
    """
    place: Place = _steps if against == "steps" else _hours
    look = looks(comparison.start_names, comparison.baseline_start)
    names = slugs(comparison.model_names)
    panels = []
    for model in comparison.model_names:
        own = [
            course
            for course in comparison.convergence.courses
            if course.model == model and _drawable(course, place)
        ]
        for size in chosen_sizes(sorted({course.train_size for course in own})):
            courses = [course for course in own if course.train_size == size]
            name = f"convergence-{against}-{names[model]}-n{size}"
            panels.append(_panel(comparison, model, size, courses, look, place, folder, name))
    return panels


def _steps(point: CoursePoint) -> float:
    return float(point.step)


def _hours(point: CoursePoint) -> float | None:
    return point.hours


def _drawable(course: Course, place: Place) -> bool:
    return sum(place(point) is not None for point in course.points) > 1


def _panel(
    comparison: Comparison,
    model: str,
    size: int,
    courses: list[Course],
    look: dict[str, Look],
    place: Place,
    folder: Path,
    name: str,
) -> Panel:
    found = comparison.convergence
    with drawing(PANEL_INCHES, 3.3) as figure:
        axes = figure.add_subplot()
        for course in courses:
            points = [point for point in course.points if place(point) is not None]
            own = look[course.start]
            x = np.array([place(point) for point in points], dtype=float)
            y = np.array([point.mean for point in points])
            low = np.array([point.mean if point.low is None else point.low for point in points])
            high = np.array([point.mean if point.high is None else point.high for point in points])
            axes.fill_between(x, low, high, color=own.color, alpha=0.13, linewidth=0)
            axes.plot(
                x, y,
                color=own.color, linestyle=own.dashes, marker=own.marker, markersize=3.6,
                markevery=max(1, len(x) // 8), label=short(course.start, 26),
            )  # fmt: skip
        for goal in {
            row.goal
            for row in found.reached
            if (row.model, row.train_size) == (model, size) and row.goal is not None
        }:
            axes.axhline(goal, color=GRAY, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=place is _steps))
        axes.set_xlabel("Steps" if place is _steps else _hour_label(comparison))
        axes.set_ylabel(f"{short(found.metric_label or found.metric, 20)}, validation")
        several = len(comparison.model_names) > 1
        axes.set_title(short(f"N = {size:,}{f', {model}' if several else ''}", 38), loc="left")
        figure.set_figheight(2.9 + 0.2 * len(courses))
        figure.legend(loc="outside lower left", ncols=1, handlelength=2.6)
        return save(figure, folder, name, _alt(comparison, model, size, courses))


def _hour_label(comparison: Comparison) -> str:
    return "GPU-hours a run" if comparison.device_hours.kind == "GPU" else "Hours a run"


def _alt(comparison: Comparison, model: str, size: int, courses: list[Course]) -> str:
    decimals = decimals_for([point.mean for course in courses for point in course.points])
    parts = [
        f"{course.start}: {number(course.points[0].mean, decimals)} after "
        f"{course.points[0].step:,} steps, {number(course.points[-1].mean, decimals)} after "
        f"{course.points[-1].step:,}"
        for course in courses
    ]
    return (
        f"Validation {comparison.convergence.metric_label} of {model} during training with "
        f"N = {size:,}. {'; '.join(parts)}."
    )


def reached_text(row: Reached) -> str:
    """Return in words with how many steps a start reaches the reference's last score."""
    goal = "its own final score" if row.start == row.against else f"{row.against}'s final score"
    runs = plural(row.runs or 0, "run")
    if row.steps is None:
        alone = f"; {count(row.reached)} of {runs} do" if row.reached else ""
        return f"does not reach {goal} within {count(row.last_step)} steps{alone}"
    found = f"reaches {goal} after {_step_text(row)}"
    if row.start == row.against or row.reference_steps is None or not row.steps:
        return found
    ratio = row.reference_steps / row.steps
    if abs(ratio - 1) < 0.005:
        compared = f"as many as {row.against}"
    elif ratio > 1:
        compared = f"{number(ratio, 1)} times fewer than {row.against}"
    else:
        compared = f"{number(1 / ratio, 1)} times as many as {row.against}"
    return f"{found}: {compared}"


def _step_text(row: Reached) -> str:
    at_first = row.steps is not None and row.steps == row.first_evaluation
    steps = ABSENT if row.steps is None else plural(round(row.steps), "step")
    return f"{'at most ' if at_first else ''}{steps}"


def convergence_table(comparison: Comparison) -> Table:
    """Return when each start reaches the score that the reference ended with."""
    found = comparison.convergence
    decimals = decimals_for([row.goal for row in found.reached])
    several = len(comparison.model_names) > 1
    hours = unit(comparison).partition(" of ")[0]
    header = ["Start", "Goal", "Steps", "Between", "Single runs", f"{hours} a run", "In words"]
    rows = []
    for model in dict.fromkeys(row.model for row in found.reached):
        for size in sorted({row.train_size for row in found.reached if row.model == model}):
            title = f"N = {size:,} training patients"
            rows.append(heading(f"{model}, {title}" if several else title, len(header)))
            rows += [
                cells(
                    row.start,
                    number(row.goal, decimals),
                    _step_text(row).rpartition(" ")[0] or ABSENT,
                    _between(row),
                    f"{count(row.reached)} of {count(row.runs)}",
                    hours_text(row.hours),
                    reached_text(row),
                )
                for row in found.reached
                if (row.model, row.train_size) == (model, size)
            ]
    intervals = any(row.interval for row in found.reached)
    label = found.metric_label or found.metric
    return Table(
        name="convergence",
        caption=f"Steps after which the {label} of a start on the validation cases, each run at "
        "its best so far, is in the mean at least the goal: the mean, over the reference's runs, "
        "of the score of the weights that they kept. Single runs: how many get there alone.",
        header=header,
        rows=rows,
        records=[row.model_dump() for row in found.reached],
        notes=[
            "Between: "
            + (
                "in brackets, where there are five runs or more of both starts, a 95% interval by "
                "draws of runs (those of the goal, too); else the fewest and the most steps of "
                "the single runs that get there."
                if intervals
                else "the fewest and the most steps of the single runs that get there. With fewer "
                "than five runs no interval is given."
            ),
            "Runs are looked at where they are evaluated, so a number of steps is as coarse as "
            "that. Validation cases are the same for all and are not drawn again; they choose the "
            "weights, so a goal is a little too high for a run on other cases.",
        ],
        prose=True,
    )


def _between(row: Reached) -> str:
    if row.interval:
        ends = ["not reached" if end is None else count(end) for end in (row.low, row.high)]
        return f"[{', '.join(ends)}]"
    if row.fewest is None:
        return ABSENT
    if row.fewest == row.most:
        return count(row.fewest)
    return f"{count(row.fewest)} to {count(row.most)}"


def courses_table(comparison: Comparison) -> Table:
    """Return every point of the courses; people see them in the figures."""
    found = comparison.convergence
    records = [
        {"model": course.model, "start": course.start, "train_size": course.train_size}
        | {"metric": found.metric}
        | point.model_dump()
        for course in found.courses
        for point in course.points
    ]
    decimals = decimals_for([point.mean for course in found.courses for point in course.points])
    return Table(
        name="courses",
        caption=f"{found.metric_label or found.metric} on the validation cases during training: "
        "mean over the runs, the smallest and the largest.",
        header=["Start", "Model", "N", "Step", "Hours", "Mean", "Smallest", "Largest", "Runs"],
        rows=[
            cells(
                course.start,
                course.model,
                count(course.train_size),
                count(point.step),
                hours_text(point.hours),
                number(point.mean, decimals),
                number(point.low, decimals),
                number(point.high, decimals),
                count(point.n),
            )
            for course in found.courses
            for point in course.points
        ],
        records=records,
        text_columns=2,
    )
