"""The settings of one optimization: steps or epochs, rates, precision, stopping."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from voxgraft.errors import RecipeError, raise_faults


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How a network is trained; the same for every task and every start.

    Raises:
        RecipeError: If a value is impossible; all faults are named at once.
    """

    steps: int = 300
    """Updates of the parameters."""
    epochs: float | None = None
    """Passes over the training items in place of ``steps``; :meth:`resolved` counts them."""
    batch_size: int = 16
    """Cases in one forward pass; a smaller training set is one batch by itself."""
    accumulate: int = 1
    """Forward passes in one update; it sees ``batch_size * accumulate`` cases."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    """Peak rate, reached at the end of the warm-up."""
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """What the rate does after the warm-up: falls along half a cosine, stays, or falls by
    ``plateau_factor`` each time that ``plateau_patience`` evaluations brought nothing better."""
    plateau_factor: float = 0.5
    """Factor of the rate at each plateau."""
    plateau_patience: int = 5
    """Evaluations after the warm-up without a better value before the rate falls; counted anew
    after each fall and each better value."""
    plateau_on: Literal["metric", "loss"] = "metric"
    """What a plateau is of: the task's primary metric, or the loss, on the validation cases."""
    final_learning_rate: float = 0.0
    """Rate at the end of the cosine, and the least one that plateaus lead to, as a fraction of
    the peak."""
    warmup: float = 0.1
    """Linear warm-up, as a fraction of the steps."""
    momentum: float = 0.9
    """Nesterov momentum of ``sgd``; the first beta of ``adamw`` and ``adam`` (the second is
    0.999)."""
    weight_decay: float = 0.01
    """Decoupled for ``adamw``, L2 for ``adam`` and ``sgd``; never on biases, norms and other
    vectors."""
    gradient_clip_norm: float | None = 1.0
    """Largest norm of the whole gradient; None clips nothing."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Automatic mixed precision of the training steps; evaluation is always in float32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory for
    about a third more time, to the same result."""
    ema_decay: float | None = None
    """Decay of an exponential moving average of the weights, which is then what is evaluated."""
    balance: Literal["none", "classes"] = "none"
    """``classes`` draws cases so that all classes come equally often."""
    eval_every: int = 25
    """Steps between evaluations on the validation cases; the last step is always evaluated."""
    eval_every_epochs: float | None = None
    """Passes over the training items between evaluations, in place of ``eval_every``."""
    early_stop_patience: int | None = None
    """Evaluations without a better validation metric before stopping; None never stops early."""
    batchnorm: Literal["auto", "always", "never"] = "auto"
    """When running statistics are estimated anew before an evaluation: where train and eval mode
    disagree by more than ``batchnorm_tolerance``, always, or never."""
    batchnorm_batches: int = 8
    """Training batches, without augmentation, that running statistics are estimated from."""
    batchnorm_tolerance: float = 0.1
    """Relative disagreement of pooled features that ``auto`` allows."""
    threads: int | None = None
    """Threads of the CPU's kernels; None leaves them as they are. Results on a CPU are bitwise
    equal only at equal threads."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        faults = [
            f"{name} is {getattr(self, name)!r}, expected {expected}"
            for name, (fits, expected) in _RULES.items()
            if not (getattr(self, name) is None and name in _OPTIONAL)
            and not _fits(getattr(self, name), fits)
        ]
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                faults.append(f"{name} is {getattr(self, name)!r}, expected one of {list(known)}")
        if not faults and self._stops_before_a_plateau:
            faults.append(
                f"early_stop_patience is {self.early_stop_patience} and plateau_patience "
                f"{self.plateau_patience}: training would stop before its rate ever fell. Expected "
                "the plateau's to be smaller, or plateau_on 'loss'"
            )
        if faults:
            raise_faults(
                RecipeError,
                "these optimization settings are impossible",
                faults,
                "Mend them in the recipe's section `optimization` (or with --set).",
            )

    @property
    def warmup_steps(self) -> int:
        """Steps of the linear warm-up."""
        return min(round(self.warmup * self.steps), self.steps - 1)

    @property
    def _stops_before_a_plateau(self) -> bool:
        watched = self.schedule == "plateau" and self.plateau_on == "metric"
        stop = self.early_stop_patience
        return watched and stop is not None and stop <= self.plateau_patience

    def resolved(self, items: int) -> Optimization:
        """Return these settings in steps, for so many training items.

        An update sees ``batch_size * accumulate`` items, or ``items * accumulate`` where they are
        fewer than a batch. The last pass is made whole: ``steps`` is rounded up, and so is
        ``eval_every``.

        Args:
            items: Training items: cases, or what else a batch is made of.

        Returns:
            Settings with ``steps`` and ``eval_every`` set and without epochs.

        Raises:
            RecipeError: If there are no items.
        """
        if items < 1:
            raise RecipeError(f"there are {items} training items, expected at least one.")
        seen = min(self.batch_size, items) * self.accumulate

        def steps(epochs: float | None, given: int) -> int:
            """Round up, but for what floating point adds to a whole number."""
            return given if epochs is None else max(1, math.ceil(round(epochs * items / seen, 6)))

        return self.replace(
            steps=steps(self.epochs, self.steps),
            eval_every=steps(self.eval_every_epochs, self.eval_every),
            epochs=None,
            eval_every_epochs=None,
        )

    def replace(self, **changes: object) -> Optimization:
        """Return a copy with some settings changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


_WHOLE = (lambda value: isinstance(value, int) and value >= 1, "a whole number of at least 1")
_FRACTION = (lambda value: 0.0 <= value <= 1.0, "a number from 0 to 1")
_BELOW_ONE = (lambda value: 0.0 <= value < 1.0, "a number from 0 to below 1")
_INSIDE = (lambda value: 0.0 < value < 1.0, "a number above 0 and below 1")
_POSITIVE = (lambda value: 0.0 < value < math.inf, "a number above 0")
_NOT_NEGATIVE = (lambda value: 0.0 <= value < math.inf, "a number of at least 0")

_RULES = {
    "steps": _WHOLE,
    "epochs": _POSITIVE,
    "batch_size": _WHOLE,
    "accumulate": _WHOLE,
    "learning_rate": _POSITIVE,
    "plateau_factor": _INSIDE,
    "plateau_patience": _WHOLE,
    "final_learning_rate": _FRACTION,
    "warmup": _FRACTION,
    "momentum": _BELOW_ONE,
    "weight_decay": _NOT_NEGATIVE,
    "gradient_clip_norm": _POSITIVE,
    "ema_decay": _BELOW_ONE,
    "eval_every": _WHOLE,
    "eval_every_epochs": _POSITIVE,
    "early_stop_patience": _WHOLE,
    "batchnorm_batches": _WHOLE,
    "batchnorm_tolerance": _NOT_NEGATIVE,
    "threads": _WHOLE,
}
_OPTIONAL = {
    "epochs",
    "gradient_clip_norm",
    "ema_decay",
    "eval_every_epochs",
    "early_stop_patience",
    "threads",
}
_CHOICES = {
    "optimizer": ("adamw", "adam", "sgd"),
    "schedule": ("cosine", "constant", "plateau"),
    "plateau_on": ("metric", "loss"),
    "precision": ("no", "bf16", "fp16"),
    "balance": ("none", "classes"),
    "batchnorm": ("auto", "always", "never"),
}


def _fits(value: object, fits: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and bool(fits(value))  # type: ignore[operator]
