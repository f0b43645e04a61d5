"""What is put into a training's loss besides its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voxgraft.datasets import Target
from voxgraft.tasks import Task, build_task


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """The loss of a training; what fits the kind of target is seen by :meth:`build`."""

    class_weights: Literal["balanced"] | None = None
    """``balanced`` weighs classes in the loss by the inverse of their frequency in the training
    cases; probabilities are then not those of the training cases' prior."""
    label_smoothing: float = 0.0
    """From 0 to below 1; classification only."""
    regression_loss: Literal["smooth_l1", "mse"] = "smooth_l1"
    """Loss on standardized targets; regression only."""

    def build(self, target: Target, primary: str | None = None) -> Task:
        """Return the task of a target with these settings.

        Args:
            target: Kind, columns and classes.
            primary: Name of the primary metric; the kind's own if None.

        Raises:
            TaskError: If a setting is impossible for this kind of target; all faults at once.
        """
        return build_task(
            target,
            class_weights=self.class_weights,
            label_smoothing=self.label_smoothing,
            primary=primary,
            regression_loss=self.regression_loss,
        )
