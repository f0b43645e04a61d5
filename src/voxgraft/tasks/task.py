"""A task: outputs, loss, decoding and metrics of one target, put together from a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from voxgraft.datasets.target import Target
from voxgraft.errors import TaskError, raise_faults
from voxgraft.metrics.table import (
    Metric,
    Scored,
    get_metric,
    metric_names,
    primary_metric,
    score_all,
)
from voxgraft.tasks import decoding, losses
from voxgraft.tasks.fitted import Fitted, fit_binary, fit_multiclass, fit_regression
from voxgraft.types import Json

Array = NDArray[np.float64]
ClassWeights = Literal["balanced"]
RegressionLoss = Literal["smooth_l1", "mse"]


@dataclass(frozen=True)
class _Kind:
    """What tasks of one kind of target are made of."""

    outputs: Callable[[Target], int]
    loss: losses.Loss
    decode: decoding.Decoding


_KINDS = {
    "binary": _Kind(lambda target: 1, losses.binary_cross_entropy, decoding.sigmoid),
    "multiclass": _Kind(lambda target: len(target.classes), losses.cross_entropy, decoding.softmax),
    "multilabel": _Kind(
        lambda target: len(target.columns), losses.binary_cross_entropy, decoding.sigmoid
    ),
    "regression": _Kind(
        lambda target: len(target.columns), losses.smooth_l1, decoding.unstandardize
    ),
}


class Task:
    """Head size, loss, decoding and metrics of one target.

    ``fit`` must have seen the training targets before ``loss``, ``decode`` and ``initial_bias``.
    Targets are as ``Target.encode`` gives them: ``(n, 1)``, or ``(n, labels)`` for multilabel.
    """

    def __init__(
        self,
        target: Target,
        kind: _Kind,
        *,
        class_weights: ClassWeights | None,
        label_smoothing: float,
        primary: Metric,
        regression_loss: RegressionLoss,
    ) -> None:
        """Put the parts together; use :func:`build_task`."""
        self.target = target
        self.outputs = kind.outputs(target)
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self.primary = primary
        self.regression_loss = regression_loss
        self._loss = kind.loss
        self._decode = kind.decode
        self._fitted: Fitted | None = None

    @property
    def higher_is_better(self) -> bool:
        """Direction of the primary metric."""
        return self.primary.higher_is_better

    @property
    def fitted(self) -> Fitted:
        """What was learnt from the training targets.

        Raises:
            TaskError: If ``fit`` was not called.
        """
        if self._fitted is None:
            raise TaskError(
                f"the task of {', '.join(self.target.columns)} was not fitted. "
                "Call task.fit(training targets) first."
            )
        return self._fitted

    def fit(self, train_targets: Float[np.ndarray, "n k"]) -> Task:
        """Take priors, class weights and standardisation from the training targets alone.

        Args:
            train_targets: Encoded targets of the training cases.

        Returns:
            This task.

        Raises:
            TaskError: If the targets do not fit the task, or do not vary.
        """
        targets = self._checked(train_targets)
        balanced = self.class_weights == "balanced"
        if self.target.kind == "regression":
            self._fitted = fit_regression(targets, tuple(self.target.columns))
        else:
            if bool((targets == targets[0]).all()):
                raise TaskError(
                    f"all {len(targets)} training cases have the same target in "
                    f"{', '.join(self.target.columns)} ({targets[0].tolist()}). Expected cases of "
                    "at least two classes; train on more cases or stratify the subset."
                )
            if self.target.kind == "multiclass":
                self._fitted = fit_multiclass(targets, self.outputs, balanced=balanced)
            else:
                self._fitted = fit_binary(targets, balanced=balanced)
        return self

    def initial_bias(self) -> Float[Tensor, " o"]:
        """Return the head's bias that predicts the training prior (the mean, for regression)."""
        return torch.tensor(self.fitted.bias, dtype=torch.float32)

    def loss(
        self, logits: Float[Tensor, "b o"], targets: Float[Tensor, "b k"]
    ) -> Float[Tensor, ""]:
        """Return the mean loss of a batch.

        Raises:
            TaskError: If the number of logits is not that of the task, or ``fit`` was not called.
        """
        self._check_logits(logits)
        return self._loss(logits, targets, self.fitted, self.label_smoothing)

    def decode(self, logits: Float[Tensor, "b o"]) -> Float[np.ndarray, "b o"]:
        """Return scores: probabilities, or values in the target's unit.

        Binary tasks have one column, the probability of class 1.

        Raises:
            TaskError: If the number of logits is not that of the task, or ``fit`` was not called.
        """
        self._check_logits(logits)
        return self._decode(logits, self.fitted)

    def metrics(
        self, target: Float[np.ndarray, "n k"], score: Float[np.ndarray, "n o"]
    ) -> dict[str, Scored]:
        """Score predictions with every metric of the target's kind.

        Raises:
            MetricError: If the arrays do not fit, or a score is not finite.
        """
        return score_all(self.target.kind, target, score)

    def to_dict(self) -> Json:
        """Return the task's settings and fitted numbers, to build it again by :meth:`restore`."""
        return {
            "class_weights": self.class_weights,
            "label_smoothing": self.label_smoothing,
            "primary": self.primary.name,
            "regression_loss": self.regression_loss,
            "fitted": None if self._fitted is None else dataclasses.asdict(self._fitted),
        }

    @staticmethod
    def restore(target: Target, data: Json) -> Task:
        """Build the task of a trained network again.

        Args:
            target: The target that it was built for.
            data: What :meth:`to_dict` returned.

        Raises:
            TaskError: If a key is missing or does not belong there.
        """
        if not isinstance(data, dict):
            raise TaskError(f"the record of a task is {data!r:.80}, expected a JSON object.")
        try:
            task = build_task(
                target,
                class_weights=data["class_weights"],
                label_smoothing=data["label_smoothing"],
                primary=data["primary"],
                regression_loss=data["regression_loss"],
            )
            if data["fitted"] is not None:
                numbers: dict[str, Any] = {
                    key: tuple(value) if isinstance(value, list) else value
                    for key, value in data["fitted"].items()
                }
                task._fitted = Fitted(**numbers)
        except (KeyError, TypeError) as error:
            raise TaskError(
                f"the record of a task is damaged ({error}); expected the keys class_weights, "
                f"label_smoothing, primary, regression_loss and fitted, found {list(data)}. Take "
                "the file from the training's folder again."
            ) from error
        return task

    def _check_logits(self, logits: Tensor) -> None:
        if logits.ndim != 2 or logits.shape[1] != self.outputs:
            raise TaskError(
                f"the network gives logits of shape {tuple(logits.shape)}, expected "
                f"(batch, {self.outputs}) for the {self.target.kind} target "
                f"{', '.join(self.target.columns)}. Build its head with outputs={self.outputs}."
            )

    def _checked(self, targets: Array) -> Array:
        targets = np.asarray(targets, dtype=np.float64)
        columns = len(self.target.columns)
        faults = []
        if targets.ndim != 2 or targets.shape[1] != columns or len(targets) == 0:
            faults.append(f"their shape is {targets.shape}, expected (n, {columns}) with n > 0")
        elif not np.isfinite(targets).all():
            rows = np.flatnonzero(~np.isfinite(targets).all(axis=1))
            faults.append(f"{len(rows)} of them are not finite, the first at row {rows[0]}")
        elif self.target.kind != "regression":
            known = np.arange(self.outputs if self.target.kind == "multiclass" else 2)
            strange = np.setdiff1d(targets, known)
            if len(strange):
                faults.append(f"they hold {strange[:5].tolist()}, expected {known.tolist()}")
        if faults:
            raise_faults(
                TaskError,
                f"the training targets of {', '.join(self.target.columns)} do not fit",
                faults,
                "Encode them with Target.encode, after `voxgraft data check`.",
            )
        return targets


def build_task(
    target: Target,
    *,
    class_weights: ClassWeights | None = None,
    label_smoothing: float = 0.0,
    primary: str | None = None,
    regression_loss: RegressionLoss = "smooth_l1",
) -> Task:
    """Build the task of a target.

    Args:
        target: Kind, columns and classes.
        class_weights: ``"balanced"`` weighs classes in the loss by the inverse of their frequency
            in the training cases; probabilities are then not calibrated to the prior.
        label_smoothing: From 0 to below 1; classification only.
        primary: Name of the metric that training selects by and a comparison tests; AUROC, or MAE
            for regression, if None.
        regression_loss: Loss on standardised targets.

    Raises:
        TaskError: If a setting is impossible for this kind of target; all faults at once.
    """
    faults = []
    if target.kind not in _KINDS:
        raise TaskError(f"no task for targets of kind {target.kind!r}; known are {list(_KINDS)}.")
    if class_weights not in (None, "balanced"):
        faults.append(f"class_weights is {class_weights!r}, expected None or 'balanced'")
    if not 0.0 <= label_smoothing < 1.0:
        faults.append(f"label_smoothing is {label_smoothing!r}, expected from 0 to below 1")
    if regression_loss not in ("smooth_l1", "mse"):
        faults.append(f"regression_loss is {regression_loss!r}, expected 'smooth_l1' or 'mse'")
    if target.kind == "regression" and (class_weights is not None or label_smoothing):
        faults.append("class_weights and label_smoothing have no meaning for a regression target")
    if primary is not None and primary not in metric_names(target.kind):
        faults.append(f"primary is {primary!r}, expected one of {metric_names(target.kind)}")
    if faults:
        raise_faults(
            TaskError,
            f"the task of the {target.kind} target {', '.join(target.columns)} is impossible",
            faults,
            "Mend these settings in the recipe's section `task`.",
        )
    kind = _KINDS[target.kind]
    if target.kind == "regression" and regression_loss == "mse":
        kind = dataclasses.replace(kind, loss=losses.squared_error)
    return Task(
        target,
        kind,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
        primary=primary_metric(target.kind) if primary is None else get_metric(primary),
        regression_loss=regression_loss,
    )
