"""The settings of one optimization: steps, rates, precision, stopping."""

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
    batch_size: int = 16
    """Cases in one forward pass; a smaller training set is one batch by itself."""
    accumulate: int = 1
    """Forward passes in one update; it sees ``batch_size * accumulate`` cases."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    """Peak rate, reached at the end of the warm-up."""
    final_learning_rate: float = 0.0
    """Rate at the end of the cosine, as a fraction of the peak."""
    warmup: float = 0.1
    """Linear warm-up, as a fraction of the steps."""
    momentum: float = 0.9
    """Nesterov momentum of ``sgd``; AdamW's first beta."""
    weight_decay: float = 0.01
    """Decoupled for AdamW, L2 for SGD; never on biases, norms and other vectors."""
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

    def replace(self, **changes: object) -> Optimization:
        """Return a copy with some settings changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


_WHOLE = (lambda value: isinstance(value, int) and value >= 1, "a whole number of at least 1")
_FRACTION = (lambda value: 0.0 <= value <= 1.0, "a number from 0 to 1")
_BELOW_ONE = (lambda value: 0.0 <= value < 1.0, "a number from 0 to below 1")
_POSITIVE = (lambda value: 0.0 < value < math.inf, "a number above 0")
_NOT_NEGATIVE = (lambda value: 0.0 <= value < math.inf, "a number of at least 0")

_RULES = {
    "steps": _WHOLE,
    "batch_size": _WHOLE,
    "accumulate": _WHOLE,
    "learning_rate": _POSITIVE,
    "final_learning_rate": _FRACTION,
    "warmup": _FRACTION,
    "momentum": _BELOW_ONE,
    "weight_decay": _NOT_NEGATIVE,
    "gradient_clip_norm": _POSITIVE,
    "ema_decay": _BELOW_ONE,
    "eval_every": _WHOLE,
    "early_stop_patience": _WHOLE,
    "batchnorm_batches": _WHOLE,
    "batchnorm_tolerance": _NOT_NEGATIVE,
    "threads": _WHOLE,
}
_OPTIONAL = {"gradient_clip_norm", "ema_decay", "early_stop_patience", "threads"}
_CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "precision": ("no", "bf16", "fp16"),
    "balance": ("none", "classes"),
    "batchnorm": ("auto", "always", "never"),
}


def _fits(value: object, fits: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and bool(fits(value))  # type: ignore[operator]
