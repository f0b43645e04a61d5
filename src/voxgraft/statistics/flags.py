"""What is wrong with a run, so that no mean is taken over it in silence.

The rule of a comparison: a *diverged* run cannot be scored, so it is left out, and listed with
how many of its start's trainings diverged; a *constant* run and one *worse than chance* are what
the start gave, so they stay in the mean, and are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.errors import StatisticsError

CONSTANT = "constant"
DIVERGED = "diverged"
WORSE_THAN_CHANCE = "worse than chance"

SAME_TO = 1e-6
"""Scores that differ by less than this share of their size are one constant."""


def flag_run(
    scores: ArrayLike,
    losses: ArrayLike | None = None,
    *,
    value: float | None = None,
    chance: float | None = None,
    higher_is_better: bool = True,
) -> list[str]:
    """Return what is wrong with a run: any of "diverged", "constant", "worse than chance".

    Args:
        scores: ``(n,)`` or ``(n, columns)`` predictions on the test cases. Constant means that
            each column is, within one part in a million.
        losses: Training losses over time; NaN or infinity among them means diverged.
        value: The run's metric, to be held against ``chance``.
        chance: What a prediction that knows nothing reaches (0.5 for the AUROC, the mean's error
            for a regression).
        higher_is_better: Direction of the metric.

    Raises:
        StatisticsError: If scores or losses are no numbers.
    """
    try:
        array = np.atleast_1d(np.asarray(scores, dtype=np.float64))
        course = np.asarray([] if losses is None else losses, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"scores and losses must be numbers ({error}).") from error
    table = array.reshape(len(array), -1) if array.size else np.zeros((0, 1))
    flags = []
    finite = bool(np.isfinite(table).all())
    if not finite or not np.isfinite(course).all():
        flags.append(DIVERGED)
    if finite and len(table) > 1:
        size = np.maximum(np.abs(table).max(axis=0), 1e-12)
        if bool((np.ptp(table, axis=0) <= SAME_TO * size).all()):
            flags.append(CONSTANT)
    if value is not None and chance is not None and np.isfinite([value, chance]).all():
        worse = value < chance if higher_is_better else value > chance
        if worse:
            flags.append(WORSE_THAN_CHANCE)
    return flags


def usable(flags: Iterable[str]) -> bool:
    """Say whether a run with these flags enters the means: all but a diverged one do."""
    return DIVERGED not in set(flags)


def describe_flags(runs: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return a sentence for each flagged run, and nothing for the others.

    Args:
        runs: Name and flags of each run.
    """
    sentences = []
    for name, flags in runs:
        if not flags:
            continue
        text = f"{name}: {', '.join(flags)}"
        text += "; left out" if not usable(flags) else "; counted as it is"
        sentences.append(text + ".")
    return sentences
