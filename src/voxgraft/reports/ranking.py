"""ROC curves of the starts at the largest training size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.predictions import Floats, Predictions
from voxgraft.reports.style import LIGHT, PANEL_INCHES, Panel, drawing, looks, save
from voxgraft.reports.wording import short, slugs

MAX_CLASSES = 6
"""More panels than this are not drawn; the caption says how many classes are left out."""

GRID = np.linspace(0, 1, 201)
"""False-positive rates at which the curves of several seeds are averaged."""


def roc_points(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Return the ROC curve of one score; equal scores share one point.

    Args:
        positive: Whether each case is positive; both kinds occur. Shape ``(n,)``.
        score: Higher means more likely positive. Shape ``(n,)``.

    Returns:
        False-positive rates and true-positive rates, ascending, from (0, 0) to (1, 1).
    """
    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], positive[order]
    last = np.r_[np.flatnonzero(np.diff(ordered)), len(ordered) - 1]
    true = np.cumsum(hits)[last]
    false = 1 + last - true
    return np.r_[0.0, false / false[-1]], np.r_[0.0, true / true[-1]]


def mean_roc(positive: NDArray[np.bool_], scores: Floats) -> Floats:
    """Return the mean over seeds of the true-positive rate at each of :data:`GRID`.

    Args:
        positive: Shape ``(n,)``.
        scores: Shape ``(seeds, n)``.
    """
    rates = []
    for score in scores:
        false, true = roc_points(positive, score)
        rates.append(step_at(GRID, false, true))
    return np.asarray(np.mean(rates, axis=0), dtype=np.float64)


def step_at(at: Floats, false: Floats, true: Floats) -> Floats:
    """Return the curve's highest true-positive rate at each false-positive rate, interpolated."""
    last = np.r_[np.flatnonzero(np.diff(false)), len(false) - 1]
    return np.asarray(np.interp(at, false[last], true[last]), dtype=np.float64)


def class_views(
    comparison: Comparison, target: Floats, outputs: int
) -> list[tuple[str, NDArray[np.bool_], int]]:
    """Return (name, positive cases, score column) for each class that is seen as one-vs-rest."""
    task = comparison.task
    if task.kind == "binary":
        name = task.classes[1] if len(task.classes) == 2 else "class 1"
        return [(name, target[:, 0] > 0.5, 0)]
    if task.kind == "multilabel":
        names = task.columns if len(task.columns) == outputs else _numbered("label", outputs)
        return [(name, target[:, n] > 0.5, n) for n, name in enumerate(names)]
    names = task.classes if len(task.classes) == outputs else _numbered("class", outputs)
    return [(name, target[:, 0] == n, n) for n, name in enumerate(names)]


def _numbered(noun: str, how_many: int) -> list[str]:
    return [f"{noun} {n}" for n in range(how_many)]


def roc_plots(
    comparison: Comparison, model: str, predictions: list[Predictions], folder: Path, stem: str
) -> tuple[list[Panel], list[str]]:
    """Draw a panel a class with all starts: thin lines for the seeds, thick for their mean.

    Returns:
        The panels, and a sentence for each class that could not be drawn.
    """
    first = predictions[0]
    views = class_views(comparison, first.target, first.scores.shape[2])
    panels, left_out = [], []
    names = slugs(name for name, _, _ in views)
    look = looks(comparison.start_names, comparison.baseline_start)
    for n, (name, _, column) in enumerate(views):
        if n >= MAX_CLASSES:
            left_out.append(f"{len(views) - MAX_CLASSES} further classes are not drawn.")
            break
        usable = []
        for own in predictions:
            own_views = class_views(comparison, own.target, own.scores.shape[2])
            if n < len(own_views) and 0 < own_views[n][1].sum() < len(own.target):
                usable.append((own, own_views[n][1]))
        if not usable:
            left_out.append(f"{name}: no ROC curve, all test cases are of one class.")
            continue
        width, height = (4.3, 4.1) if len(views) == 1 else (PANEL_INCHES, 3.2)
        with drawing(width, height + 0.2 * len(usable)) as figure:
            axes = figure.add_subplot()
            axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=1)
            for own, positive in usable:
                style = look[own.start]
                if len(own.seeds) > 1:
                    for score in own.scores[:, :, column]:
                        axes.plot(
                            *roc_points(positive, score),
                            color=style.color, linewidth=0.7, alpha=0.3,
                        )  # fmt: skip
                mean = np.r_[0.0, mean_roc(positive, own.scores[:, :, column])]
                axes.plot(
                    np.r_[0.0, GRID], mean,
                    color=style.color, linestyle=style.dashes, linewidth=2,
                    label=short(own.start, 34),
                )  # fmt: skip
            axes.set_xlim(-0.02, 1.02)
            axes.set_ylim(-0.02, 1.02)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            axes.set_xlabel("1 − specificity")
            axes.set_ylabel("Sensitivity")
            rest = " vs rest" if comparison.task.kind == "multiclass" else ""
            axes.set_title(short(name, 30) + rest, loc="left")
            figure.legend(loc="outside lower left", handlelength=2.6)
            alt = f"ROC curves of {model} for {name} on the test split, " + "; ".join(
                f"{own.start}: {own.rests_on}" for own, _ in usable
            )
            part = f"_{names[name]}" if len(views) > 1 else ""
            panels.append(save(figure, folder, f"roc-{stem}{part}", alt + "."))
    return panels, left_out
