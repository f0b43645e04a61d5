"""All metrics by name, and the scoring of one set of predictions with all that fit its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.errors import MetricError
from voxgraft.metrics import calibration, decisions, macro, ranking, regression, structures
from voxgraft.metrics.contract import Array, Floats, MetricFunction, numbers

Kind = Literal["binary", "multiclass", "multilabel", "regression", "segmentation"]
KINDS: tuple[Kind, ...] = ("binary", "multiclass", "multilabel", "regression", "segmentation")


@dataclass(frozen=True)
class Metric:
    """A metric with what a table or a figure must know of it.

    Attributes:
        name: Key in ``METRICS``.
        label: How a report calls it.
        functions: The function of each kind of target that it scores.
        higher_is_better: Its direction.
        unit: ``""`` for a plain number, ``"target"`` for the target's own unit.
        needs: ``"ranks"`` (any monotone score will do), ``"probabilities"``, ``"decisions"``
            (scores against a threshold of 0.5) or ``"values"``.
        bounds: Lowest and highest possible value; infinite where there is none.
        chance: Value of a prediction that knows nothing, where it does not depend on the data.
        needs_both_classes: Undefined if the cases hold one class only.
    """

    name: str
    label: str
    functions: Mapping[str, MetricFunction]
    higher_is_better: bool
    needs: Literal["ranks", "probabilities", "decisions", "values"]
    bounds: tuple[float, float] = (0.0, 1.0)
    unit: str = ""
    chance: float | None = None
    needs_both_classes: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of target that it scores."""
        return tuple(self.functions)

    def function(self, kind: str) -> MetricFunction:
        """Return the function for a kind of target.

        Raises:
            MetricError: If the metric does not score that kind.
        """
        if kind not in self.functions:
            raise MetricError(
                f"metric {self.name!r} does not score {kind!r} targets; "
                f"it scores {', '.join(self.kinds)}. For {kind!r} choose one of "
                f"{', '.join(metric_names(kind)) or 'none (unknown kind)'}."
            )
        return self.functions[kind]

    @overload
    def __call__(
        self, kind: str, target: ArrayLike, score: ArrayLike, weights: None = None
    ) -> float: ...

    @overload
    def __call__(
        self, kind: str, target: ArrayLike, score: ArrayLike, weights: Array
    ) -> Floats: ...

    def __call__(
        self, kind: str, target: ArrayLike, score: ArrayLike, weights: Array | None = None
    ) -> float | Floats:
        """Score predictions of a kind: a float, or one value a replicate."""
        function = self.function(kind)
        return function(target, score) if weights is None else function(target, score, weights)


@dataclass(frozen=True)
class Scored:
    """A metric's value.

    Attributes:
        value: The value; NaN if undefined.
        reason: Why it is undefined; empty if it is defined.
        note: What to know of a defined value ("class 3 has no case and is left out").
    """

    value: float
    reason: str = ""
    note: str = field(default="")


def _all_metrics() -> dict[str, Metric]:
    inf = float("inf")
    listed = [
        Metric(
            "auroc",
            "AUROC",
            {
                "binary": ranking.auroc,
                "multiclass": macro.multiclass_auroc,
                "multilabel": macro.multilabel_auroc,
            },
            True,
            "ranks",
            chance=0.5,
            needs_both_classes=True,
        ),
        Metric(
            "auprc",
            "AUPRC",
            {
                "binary": ranking.average_precision,
                "multiclass": macro.multiclass_average_precision,
                "multilabel": macro.multilabel_average_precision,
            },
            True,
            "ranks",
            needs_both_classes=True,
        ),
        Metric(
            "balanced_accuracy",
            "balanced accuracy",
            {
                "binary": decisions.balanced_accuracy,
                "multiclass": decisions.multiclass_balanced_accuracy,
                "multilabel": macro.multilabel_balanced_accuracy,
            },
            True,
            "decisions",
            needs_both_classes=True,
        ),
        Metric(
            "accuracy",
            "accuracy",
            {
                "binary": decisions.accuracy,
                "multiclass": decisions.multiclass_accuracy,
                "multilabel": macro.multilabel_accuracy,
            },
            True,
            "decisions",
        ),
        Metric(
            "f1",
            "F1",
            {
                "binary": decisions.f1,
                "multiclass": decisions.multiclass_f1,
                "multilabel": macro.multilabel_f1,
            },
            True,
            "decisions",
        ),
        Metric(
            "sensitivity_at_specificity",
            "sensitivity at 90% specificity",
            {
                "binary": ranking.sensitivity_at_specificity,
                "multilabel": macro.multilabel_sensitivity_at_specificity,
            },
            True,
            "ranks",
            needs_both_classes=True,
        ),
        Metric(
            "specificity_at_sensitivity",
            "specificity at 90% sensitivity",
            {
                "binary": ranking.specificity_at_sensitivity,
                "multilabel": macro.multilabel_specificity_at_sensitivity,
            },
            True,
            "ranks",
            needs_both_classes=True,
        ),
        Metric(
            "brier",
            "Brier score",
            {
                "binary": calibration.brier,
                "multiclass": calibration.multiclass_brier,
                "multilabel": macro.multilabel_brier,
            },
            False,
            "probabilities",
            bounds=(0.0, inf),
        ),
        Metric(
            "log_loss",
            "log loss",
            {
                "binary": calibration.log_loss,
                "multiclass": calibration.multiclass_log_loss,
                "multilabel": macro.multilabel_log_loss,
            },
            False,
            "probabilities",
            bounds=(0.0, inf),
            unit="nats",
        ),
        Metric(
            "ece",
            "calibration error (equal-width bins)",
            {
                "binary": calibration.expected_calibration_error,
                "multiclass": calibration.multiclass_expected_calibration_error,
                "multilabel": macro.multilabel_expected_calibration_error,
            },
            False,
            "probabilities",
        ),
        Metric(
            "ece_equal_mass",
            "calibration error (equal-mass bins)",
            {
                "binary": calibration.expected_calibration_error_equal_mass,
                "multiclass": calibration.multiclass_expected_calibration_error_equal_mass,
                "multilabel": macro.multilabel_expected_calibration_error_equal_mass,
            },
            False,
            "probabilities",
        ),
        *(
            Metric(
                name,
                label,
                {"regression": function},
                higher,
                "values",
                bounds=bounds,
                unit=unit,
                chance=chance,
            )
            for name, label, function, higher, bounds, unit, chance in (
                ("mae", "MAE", regression.mae, False, (0.0, inf), "target", None),
                ("rmse", "RMSE", regression.rmse, False, (0.0, inf), "target", None),
                ("r2", "R²", regression.r2, True, (-inf, 1.0), "", 0.0),
                ("pearson", "Pearson r", regression.pearson, True, (-1.0, 1.0), "", 0.0),
                ("spearman", "Spearman rho", regression.spearman, True, (-1.0, 1.0), "", 0.0),
            )
        ),
        *(
            Metric(
                name,
                label,
                {"segmentation": function},
                higher,
                "values",
                bounds=bounds,
                unit=unit,
            )
            for name, label, function, higher, bounds, unit in structures.LISTED
        ),
    ]
    return {metric.name: metric for metric in listed}


METRICS: dict[str, Metric] = _all_metrics()
"""Every metric by its name, in the order in which a table shows them."""


def metric_names(kind: str) -> list[str]:
    """Return the names of the metrics that score a kind of target."""
    return [name for name, metric in METRICS.items() if kind in metric.functions]


def primary_metric(kind: str) -> Metric:
    """Return the metric that decides for a kind: AUROC, MAE of a regression, Dice of structures."""
    return METRICS[{"regression": "mae", "segmentation": "dice"}.get(kind, "auroc")]


def get_metric(name: str) -> Metric:
    """Return a metric by its name.

    Raises:
        MetricError: If there is none of that name.
    """
    if name not in METRICS:
        raise MetricError(f"no metric is called {name!r}; there are {', '.join(METRICS)}.")
    return METRICS[name]


def _missing_sides(kind: str, target: Floats, score: Floats) -> tuple[list[str], int]:
    """Return what lacks a class, in words, and of how many classes or labels."""
    if kind == "multiclass":
        classes = score.shape[1]
        present = {int(value) for value in np.unique(target)}
        return [f"class {index} has no case" for index in range(classes) if index not in present], (
            classes
        )
    columns = target if target.ndim == 2 else target[:, None]
    missing = []
    for index in range(columns.shape[1]):
        values = np.unique(columns[:, index])
        if len(values) == 1:
            name = "all cases are" if kind == "binary" else f"label {index}: all cases are"
            missing.append(f"{name} of class {int(values[0])}")
    return missing, columns.shape[1]


def _why_undefined(metric: Metric, kind: str, target: Floats, score: Floats) -> str:
    if len(target) == 0:
        return "there is no case"
    if kind == "regression":
        if len(target) < 2:
            return "there is one case only"
        if np.ptp(target) <= 1e-12 * np.abs(target).max():
            return "all targets are equal"
        return "the prediction is the same for all cases"
    missing, _ = _missing_sides(kind, target, score)
    if kind == "binary" and metric.name == "f1":
        return "no case is positive"
    if kind == "multiclass":
        return f"all cases are of class {int(target.flat[0])}"
    return "; ".join(missing) or "it is undefined for these cases"


def score_all(
    kind: str,
    target: ArrayLike,
    scores: ArrayLike,
    names: list[str] | None = None,
    classes: Sequence[str] | None = None,
) -> dict[str, Scored]:
    """Score predictions with every metric of their kind.

    Args:
        kind: ``binary``, ``multiclass``, ``multilabel``, ``regression`` or ``segmentation``.
        target: ``(n,)`` or ``(n, 1)``; ``(n, labels)`` for multilabel; for a segmentation
            ``(n, k)``, what the references hold, with ``scores`` the matrix of
            :func:`~voxgraft.metrics.segmentation.score_matrix`, where NaN is legal.
        scores: ``(n,)`` or ``(n, 1)`` for binary (probability of class 1) and regression;
            ``(n, classes)`` or ``(n, labels)`` otherwise.
        names: Which metrics; all of the kind if None.
        classes: Names of a segmentation's structures, for what is told of them.

    Returns:
        Each metric's value, or NaN with its reason.

    Raises:
        MetricError: If the kind is unknown, shapes differ, a score is NaN (positions are named), a
            target is outside its classes, or a probability is outside [0, 1].
    """
    if kind not in KINDS:
        raise MetricError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}.")
    if kind == "segmentation":
        return _score_structures(target, scores, names, classes)
    results: dict[str, Scored] = {}
    checked_target, checked_scores = numbers(target, "target"), numbers(scores, "score")
    for name in names if names is not None else metric_names(kind):
        metric = get_metric(name)
        value = metric.function(kind)(checked_target, checked_scores)
        if np.isnan(value):
            reason = _why_undefined(metric, kind, checked_target, checked_scores)
            results[name] = Scored(float("nan"), reason)
            continue
        note = ""
        if kind in ("multiclass", "multilabel") and (
            metric.needs_both_classes or metric.name == "f1"
        ):
            missing, _ = _missing_sides(kind, checked_target, checked_scores)
            if missing:
                note = f"left out of the mean: {'; '.join(missing)}"
        results[name] = Scored(value, note=note)
    return results


def _score_structures(
    target: ArrayLike,
    scores: ArrayLike,
    names: list[str] | None,
    classes: Sequence[str] | None,
) -> dict[str, Scored]:
    """Score a segmentation, whose undefined numbers are left out and told."""
    presence, table = structures.check_structures(target, scores)
    results: dict[str, Scored] = {}
    for name in names if names is not None else metric_names("segmentation"):
        value = get_metric(name).function("segmentation")(presence, table)
        results[name] = (
            Scored(float("nan"), structures.why_undefined(name, presence, table))
            if np.isnan(value)
            else Scored(value, note=structures.left_out(name, presence, table, classes))
        )
    return results
