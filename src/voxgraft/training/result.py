"""What a training tells while it runs and when it is over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from voxgraft.files import plain_json
from voxgraft.types import Json


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One update, for a progress bar."""

    step: int
    """Updates done, this one included."""
    steps: int
    """Updates planned."""
    loss: float
    """Training loss of this update."""
    value: float | None
    """Primary metric of the last evaluation on the validation cases, if there was one."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a training went; the network itself was changed in place and has the best weights."""

    best_step: int
    """Updates after which the validation metric was best; the last without validation cases;
    0 if the training diverged before its first evaluation."""
    best_value: float | None
    """Primary metric there; None without validation cases or if it was never defined."""
    metric: str
    """Name of the primary metric."""
    history: list[Json]
    """One row an evaluation, as in ``metrics.jsonl``."""
    steps_planned: int
    """The budget."""
    steps_done: int
    stopped_early: bool
    diverged: bool
    """A loss, a gradient or a score was not finite: the training ended there."""
    divergence: str
    """What was not finite, and at which step; empty if nothing was."""
    learning_rate: float | None
    """Peak rate; None for a probe."""
    batchnorm: Json
    """``{"start": ..., "best": ...}``: step, disagreement ``before`` and ``after``, ``done``."""
    trainable_parameters: int
    """Parameters (numbers) that trained at any time."""
    parameters: int
    """Parameters of the whole network, without adapters."""
    strength: float | None = None
    """L2 strength that a probe chose."""
    seconds: float = 0.0
    """Time of the training, over all resumptions, without what was lost by kills."""
    waiting_s: float = 0.0
    """Part of it spent waiting for data."""
    peak_memory_mib: float = 0.0
    device: str = "cpu"
    threads: int = 1
    memory_format: str = "contiguous"
    notices: tuple[str, ...] = ()
    """Sentences about the training that should be read."""
    resumed_at: int | None = None
    """Step of the checkpoint that this training went on from; None if it ran in one go."""

    def to_dict(self) -> Json:
        """Return everything as JSON."""
        plain: Json = plain_json(dataclasses.asdict(self))
        return plain
