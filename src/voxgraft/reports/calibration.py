"""Calibration of the starts: what was predicted against what happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.predictions import Floats, Predictions
from voxgraft.reports.style import GRAY, LIGHT, PANEL_INCHES, Panel, drawing, looks, save
from voxgraft.reports.wording import short, slugs

MAX_BINS = 10
CASES_PER_BIN = 12


def reliability(predicted: Floats, happened: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Return the mean prediction and the observed frequency in each bin that is not empty.

    Args:
        predicted: Probabilities. Shape ``(n,)``.
        happened: 1 where it happened, else 0. Shape ``(n,)``.
        edges: Inner edges of the bins, ascending; a value on an edge belongs to the upper bin.
    """
    bins = np.searchsorted(edges, predicted, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    full = counts > 0
    mean = np.bincount(bins, weights=predicted, minlength=len(counts))[full] / counts[full]
    rate = np.bincount(bins, weights=happened, minlength=len(counts))[full] / counts[full]
    return mean, rate


def quantile_edges(predicted: Floats, cases: int) -> Floats:
    """Return inner edges of bins that hold equally many predictions, fewer for few cases."""
    bins = int(np.clip(cases // CASES_PER_BIN, 3, MAX_BINS))
    return np.unique(np.quantile(predicted, np.arange(1, bins) / bins))


def outcomes(kind: str, own: Predictions) -> tuple[Floats, Floats]:
    """Return predicted probabilities and outcomes, each ``(seeds, n)``.

    Binary: P(class 1). Multiclass: the highest probability and whether its class is right.
    Multilabel: all labels pooled.
    """
    seeds = len(own.seeds)
    if kind == "multiclass":
        right = own.scores.argmax(axis=2) == own.target[:, 0]
        return own.scores.max(axis=2), right.astype(float)
    happened = np.broadcast_to(own.target, own.scores.shape)
    return own.scores.reshape(seeds, -1), happened.reshape(seeds, -1).astype(float)


def calibration_plots(
    comparison: Comparison, predictions: list[Predictions], folder: Path, stem: str
) -> list[Panel]:
    """Draw a panel a start: thin lines for the seeds, thick for all together, scores below."""
    kind = comparison.task.kind
    look = looks(comparison.start_names, comparison.baseline_start)
    names = slugs(comparison.start_names)
    x_label = "Predicted probability" if kind != "multiclass" else "Highest predicted probability"
    y_label = "Observed frequency" if kind != "multiclass" else "Share right"
    panels = []
    for own in predictions:
        predicted, happened = outcomes(kind, own)
        edges = quantile_edges(predicted.ravel(), len(own.target))
        style = look[own.start]
        with drawing(PANEL_INCHES, 3.9) as figure:
            top, bottom = figure.subplots(
                2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1], "hspace": 0.05}
            )
            top.plot([0, 1], [0, 1], color=LIGHT, linewidth=1)
            if len(own.seeds) > 1:
                for one, happens in zip(predicted, happened, strict=True):
                    top.plot(
                        *reliability(one, happens, edges),
                        color=style.color, linewidth=0.8, alpha=0.35,
                    )  # fmt: skip
            top.plot(
                *reliability(predicted.ravel(), happened.ravel(), edges),
                color=style.color, marker=style.marker, linestyle=style.dashes,
                markeredgecolor="white", markersize=7,
            )  # fmt: skip
            _histogram(bottom, predicted, style.color)
            top.set_xlim(-0.02, 1.02)
            top.set_ylim(-0.02, 1.02)
            top.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            bottom.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            top.set_ylabel(y_label)
            bottom.set_ylabel("Cases")
            bottom.set_xlabel(x_label)
            top.set_title(short(own.start, 34), loc="left")
            alt = (
                f"Calibration of {own.start} with {own.model}, {own.train_size:,} training "
                f"patients: {y_label.lower()} against {x_label.lower()}, {own.rests_on}."
            )
            panels.append(save(figure, folder, f"calibration-{stem}_{names[own.start]}", alt))
    return panels


def _histogram(axes: object, predicted: Floats, color: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    counts, edges = np.histogram(predicted.clip(0, 1), bins=20, range=(0, 1))
    per_seed: NDArray[np.float64] = counts / len(predicted)
    axes.bar(edges[:-1], per_seed, width=0.05, align="edge", color=color, alpha=0.45, linewidth=0)
    axes.set_yticks([0, round(float(per_seed.max()))])
    axes.grid(visible=False)
    axes.spines["left"].set_color(GRAY)
