"""Where a training stands between two updates: what a checkpoint holds besides tensors."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from voxgraft.errors import TrainingError
from voxgraft.files import write_text
from voxgraft.types import Json

METRICS_FILE = "metrics.jsonl"


@dataclass(kw_only=True)
class Progress:
    """Counters, sums and the history of a training."""

    step: int = 0
    """Updates done."""
    loss_sum: float = 0.0
    """Sum of the training losses since the last evaluation."""
    loss_count: int = 0
    """Number of updates in that sum."""
    best_step: int = 0
    best_value: float | None = None
    history: list[Json] = field(default_factory=list)
    """One row an evaluation."""
    start_batchnorm: Json = field(default_factory=dict)
    stopped_early: bool = False
    seconds: float = 0.0
    waiting_s: float = 0.0

    def to_dict(self) -> Json:
        """Return everything as JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Json) -> Progress:
        """Read what :meth:`to_dict` returned.

        Raises:
            TrainingError: If a key is missing or unknown.
        """
        try:
            return Progress(**data)
        except TypeError as error:
            raise TrainingError(
                f"the progress in a checkpoint is damaged: {error}. Delete the checkpoint to train "
                "from the beginning again."
            ) from error

    def add_loss(self, loss: float) -> None:
        """Count one update."""
        self.step += 1
        self.loss_sum += loss
        self.loss_count += 1

    def take_mean_loss(self) -> float | None:
        """Return the mean training loss since the last evaluation, and start a new sum."""
        mean = self.loss_sum / self.loss_count if self.loss_count else None
        self.loss_sum, self.loss_count = 0.0, 0
        return mean

    def add_row(self, row: Json, value: float | None, *, higher_is_better: bool) -> bool:
        """Add an evaluation to the history.

        Args:
            row: The row.
            value: Primary metric; None if it is undefined, or there are no validation cases.
            higher_is_better: Direction of the metric.

        Returns:
            Whether this is the best evaluation so far; the earlier one of two equals stays. Where
            nothing was ever defined, the latest counts as the best.
        """
        self.history.append(row)
        sign = 1.0 if higher_is_better else -1.0
        better = (
            self.best_value is None
            if value is None
            else self.best_value is None or sign * value > sign * self.best_value
        )
        if better:
            self.best_step, self.best_value = self.step, value
        return better

    def evaluations_since_best(self) -> int:
        """Return how many evaluations came after the best one."""
        return sum(row["step"] > self.best_step for row in self.history)

    def evaluations(self, metric: str | None) -> list[tuple[int, float | None]]:
        """Return step and value of each evaluation.

        Args:
            metric: Name of a metric; None for the loss on the validation cases.
        """
        return [
            (
                row["step"],
                row["validation_loss"] if metric is None else row["validation"].get(metric),
            )
            for row in self.history
        ]

    def write_history(self, path: Path) -> None:
        """Write the whole history, one JSON object a line: rows after a checkpoint go."""
        write_text(path, "".join(_line(row) for row in self.history))

    def append_last_row(self, path: Path) -> None:
        """Append the newest row."""
        with path.open("a", encoding="utf-8") as handle:
            handle.write(_line(self.history[-1]))


def finite(value: float) -> float | None:
    """Return a number, or None in place of NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def _line(row: Json) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
