"""Regression: predictions against targets, and errors against targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.predictions import Floats, Predictions
from voxgraft.reports.style import GRAY, INK, PANEL_INCHES, Panel, drawing, looks, save
from voxgraft.reports.wording import decimals_for, number, short, slugs

TICKS = FuncFormatter(lambda value, _: f"{value:,.6g}".replace("-", "−"))


def limits_of_agreement(errors: Floats) -> tuple[float, float, float]:
    """Return the mean error and the 95% limits of agreement (mean ± 1.96 standard deviations).

    Args:
        errors: Prediction minus target. Shape ``(n,)``, at least one.

    Source:
        Bland and Altman, Lancet 1986; here against the target, which is the reference, and
        not against the mean of both.
    """
    bias = float(errors.mean())
    spread = 1.96 * float(errors.std(ddof=1)) if len(errors) > 1 else 0.0
    return bias, bias - spread, bias + spread


def _padded(values: Floats) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def agreement_plots(
    comparison: Comparison, predictions: list[Predictions], folder: Path, stem: str
) -> list[Panel]:
    """Draw two panels for each start and target: predictions, and errors, against the target.

    A dot is a case, at the mean of its predictions over seeds.
    """
    task = comparison.task
    names = slugs(comparison.start_names)
    columns = predictions[0].target.shape[1]
    titles = (
        task.columns if len(task.columns) == columns else [f"target {n}" for n in range(columns)]
    )
    panels = []
    for column in range(columns):
        same = [own for own in predictions if own.target.shape[1] == columns]
        both = np.concatenate(
            [np.r_[own.target[:, column], own.scores.mean(0)[:, column]] for own in same]
        )
        errors = [own.scores.mean(0)[:, column] - own.target[:, column] for own in same]
        axis, error_axis = _padded(both), _padded(np.r_[np.concatenate(errors), 0.0])
        part = f"_{column}" if columns > 1 else ""
        for own, error in zip(same, errors, strict=True):
            name = f"{stem}_{names[own.start]}{part}"
            title = own.start if columns == 1 else f"{own.start}: {titles[column]}"
            panels.append(_scatter(comparison, own, column, axis, folder, f"scatter-{name}", title))
            panels.append(
                _errors(comparison, own, column, error, (axis, error_axis), folder,
                        f"errors-{name}", title)
            )  # fmt: skip
    return panels


def _unit(comparison: Comparison) -> str:
    return f" ({short(comparison.task.unit, 16)})" if comparison.task.unit else ""


def _scatter(
    comparison: Comparison,
    own: Predictions,
    column: int,
    axis: tuple[float, float],
    folder: Path,
    name: str,
    title: str,
) -> Panel:
    style = looks(comparison.start_names, comparison.baseline_start)[own.start]
    target, scores = own.target[:, column], own.scores[:, :, column]
    with drawing(PANEL_INCHES, 3.3) as figure:
        axes = figure.add_subplot()
        axes.plot(axis, axis, color=GRAY, linewidth=1)
        if len(scores) > 1:
            axes.vlines(
                target, scores.min(0), scores.max(0), color=style.color, linewidth=0.6, alpha=0.25
            )
        axes.plot(
            target, scores.mean(0),
            linestyle="none", marker=style.marker, color=style.color, markersize=4.2, alpha=0.6,
            markeredgewidth=0,
        )  # fmt: skip
        axes.set_xlim(*axis)
        axes.set_ylim(*axis)
        for which in (axes.xaxis, axes.yaxis):
            which.set_major_locator(MaxNLocator(5))
            which.set_major_formatter(TICKS)
        axes.set_xlabel(f"Target{_unit(comparison)}")
        axes.set_ylabel(f"Prediction{_unit(comparison)}")
        axes.set_title(short(title, 34), loc="left")
        alt = f"Prediction against target of {own.start} with {own.model}: {own.rests_on}."
        return save(figure, folder, name, alt)


def _errors(
    comparison: Comparison,
    own: Predictions,
    column: int,
    error: Floats,
    limits: tuple[tuple[float, float], tuple[float, float]],
    folder: Path,
    name: str,
    title: str,
) -> Panel:
    style = looks(comparison.start_names, comparison.baseline_start)[own.start]
    bias, low, high = limits_of_agreement(error)
    decimals = decimals_for([bias, low, high])
    (left, right), (bottom, top) = limits
    bottom, top = min(bottom, low * 1.05), max(top, high * 1.05)
    with drawing(PANEL_INCHES, 3.3) as figure:
        axes = figure.add_subplot()
        axes.axhline(0, color=GRAY, linewidth=1)
        axes.plot(
            own.target[:, column], error,
            linestyle="none", marker=style.marker, color=style.color, markersize=4.2, alpha=0.6,
            markeredgewidth=0,
        )  # fmt: skip
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        named = ((bias, "bias", "-"), (low, "−1.96 SD", "--"), (high, "+1.96 SD", "--"))
        for value, word, dashes in named:
            axes.axhline(value, color=INK, linewidth=1.1, linestyle=dashes)
            axes.annotate(
                f"{word} {number(value, decimals, signed=True)}",
                (1.0, value), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                textcoords="offset points", ha="right", va="bottom", fontsize=8.5, bbox=box,
            )  # fmt: skip
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top + 0.08 * (top - bottom))
        for which in (axes.xaxis, axes.yaxis):
            which.set_major_locator(MaxNLocator(5))
            which.set_major_formatter(TICKS)
        axes.set_xlabel(f"Target{_unit(comparison)}")
        axes.set_ylabel(f"Prediction − target{_unit(comparison)}")
        axes.set_title(short(title, 34), loc="left")
        alt = (
            f"Errors against target of {own.start} with {own.model}: mean error "
            f"{number(bias, decimals)}, limits of agreement {number(low, decimals)} to "
            f"{number(high, decimals)}{_unit(comparison)}; {own.rests_on}."
        )
        return save(figure, folder, name, alt)
