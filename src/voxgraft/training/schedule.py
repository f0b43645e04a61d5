"""What happens at a step, as a function of the seed and the step alone.

No generator runs along with the training: cases, augmentation, dropout and learning rate of step
``t`` are the same whether the training came to ``t`` in one go or after any number of kills. Where
the rate falls on plateaus, it is a function of the evaluations until then besides.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Int

from voxgraft.errors import TrainingError
from voxgraft.training.optimization import Optimization


def stream_seed(seed: int, step: int, purpose: str) -> int:
    """Return a seed of 63 bits for one purpose at one step.

    Args:
        seed: Seed of the training.
        step: Step (or epoch) that the seed is for.
        purpose: Name of the stream, such as ``"augmentation"``.
    """
    entropy = [seed & 0xFFFFFFFFFFFFFFFF, step, zlib.crc32(purpose.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def learning_rate_at(step: int, optimization: Optimization, plateaus: int = 0) -> float:
    """Return the learning rate of the update from ``step`` to ``step + 1``.

    Linear from ``peak / warmup_steps`` to the peak; then, as ``schedule`` says, half a cosine down
    to ``peak * final_learning_rate``, the peak itself, or the peak multiplied by
    ``plateau_factor`` for each plateau, but not below ``peak * final_learning_rate``.

    Args:
        step: Updates done.
        optimization: The settings, in steps.
        plateaus: Plateaus until then; see :func:`count_plateaus`.

    Source:
        arXiv:1706.02677, section 2.2 (gradual warm-up); arXiv:1608.03983, equation 5, one cycle.
    """
    peak, warmup = optimization.learning_rate, optimization.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    low = peak * optimization.final_learning_rate
    if optimization.schedule == "constant":
        return peak
    if optimization.schedule == "plateau":
        return max(low, peak * optimization.plateau_factor**plateaus)
    done = (step - warmup) / max(1, optimization.steps - warmup)
    return low + 0.5 * (peak - low) * (1.0 + math.cos(math.pi * min(1.0, done)))


def count_plateaus(
    evaluations: Iterable[tuple[int, float | None]],
    optimization: Optimization,
    *,
    higher_is_better: bool,
) -> int:
    """Return how often ``plateau_patience`` evaluations in a row brought no better value.

    Each plateau is counted from nothing again; what has to be bettered is the best value of all.
    An undefined value is not better. Evaluations up to the end of the warm-up, and those before
    the first defined value, set what has to be bettered and are not counted.

    Args:
        evaluations: Step and value of each evaluation, in order; None where it is undefined.
        optimization: The settings, in steps.
        higher_is_better: Direction of the value.

    Source:
        ``torch.optim.lr_scheduler.ReduceLROnPlateau`` counts the same with ``threshold=0`` and a
        patience less by one: it lets that many evaluations pass and acts at the next.
    """
    best: float | None = None
    without_better = plateaus = 0
    sign = 1.0 if higher_is_better else -1.0
    for step, value in evaluations:
        if value is not None and (best is None or sign * value > sign * best):
            best, without_better = value, 0
        elif best is not None and step > optimization.warmup_steps:
            without_better += 1
        if without_better == optimization.plateau_patience:
            plateaus, without_better = plateaus + 1, 0
    return plateaus


class BatchSchedule:
    """Which cases are in which batch: an endless stream of shuffled epochs, cut into batches.

    Every batch has ``min(batch_size, cases)`` cases. Where ``batch_size`` does not divide the
    cases, a batch runs over from one epoch into the next, so that no case is left out of an epoch
    and no batch is short (BatchNorm sees equal sizes); such a batch can hold a case twice. A
    training set smaller than a batch is one batch, shuffled.

    With labels, classes take turns in shuffled order, and the cases of each class are a stream of
    shuffled epochs of their own: classes come equally often, cases of a class equally often.
    """

    def __init__(
        self,
        cases: int,
        batch_size: int,
        seed: int,
        labels: Int[np.ndarray, " n"] | None = None,
        purpose: str = "batches",
    ) -> None:
        """Describe the stream.

        Args:
            cases: Number of training cases.
            batch_size: Cases a batch.
            seed: Seed of the training.
            labels: Class of each case, to balance classes; None draws all cases alike.
            purpose: Name of the stream; another name gives another order.

        Raises:
            TrainingError: If there are no cases.
        """
        if cases < 1:
            raise TrainingError("there are no training cases. Expected at least one.")
        self.cases = cases
        self.batch_size = min(batch_size, cases)
        self.seed = seed
        self.purpose = purpose
        self._members = (
            [np.arange(cases)]
            if labels is None
            else [np.flatnonzero(labels == label) for label in np.unique(labels)]
        )
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def positions(self, batch: int) -> Int[np.ndarray, " b"]:
        """Return the positions of the cases in batch number ``batch`` (from 0)."""
        first = batch * self.batch_size
        return np.array(
            [self._case(index) for index in range(first, first + self.batch_size)], dtype=np.int64
        )

    def batches(self, first: int, last: int) -> Iterator[Int[np.ndarray, " b"]]:
        """Yield the batches ``first`` to ``last - 1``."""
        for batch in range(first, last):
            yield self.positions(batch)

    def _case(self, index: int) -> int:
        turn, place = divmod(index, len(self._members))
        label = int(self._order(-1, turn, len(self._members))[place])
        members = self._members[label]
        epoch, offset = divmod(turn, len(members))
        return int(members[self._order(label, epoch, len(members))[offset]])

    def _order(self, stream: int, epoch: int, length: int) -> np.ndarray:
        if length == 1:
            return np.zeros(1, dtype=np.int64)
        key = (stream, epoch)
        if key not in self._orders:
            if len(self._orders) > 4 * (len(self._members) + 1):
                self._orders.clear()
            seed = stream_seed(self.seed, epoch, f"{self.purpose}/{stream}")
            self._orders[key] = np.random.default_rng(seed).permutation(length)
        return self._orders[key]
