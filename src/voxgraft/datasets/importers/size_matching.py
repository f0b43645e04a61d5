"""Pairs of nearly equal size, so that size alone does not tell two classes apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment

MAX_RATIO = 1.05
"""Two diameters of a pair differ by this factor at the most."""


def match_by_size(
    diameter_mm: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], names: Sequence[str]
) -> list[int]:
    """Choose as many pairs of a positive and a negative of nearly equal diameter as there are.

    Among the choices with most pairs, the one with the smallest sum of differences of log
    diameter is taken. Ties fall by ``names``, so the order of the input does not count.

    Args:
        diameter_mm: All above 0.
        positive: Class of each.
        names: Something unique to each, for ties.

    Returns:
        Positions of the chosen, ascending; half of them positive.
    """
    order = sorted(range(len(names)), key=lambda row: names[row])
    ones = [row for row in order if positive[row]]
    zeros = [row for row in order if not positive[row]]
    if not ones or not zeros:
        return []
    size = np.log(diameter_mm)
    limit = float(np.log(MAX_RATIO))
    apart = np.abs(size[ones][:, None] - size[zeros][None])
    unmatched = len(order) * limit + 1.0
    cost = np.where(apart <= limit + 1e-12, apart, unmatched)
    chosen = [
        (ones[left], zeros[right])
        for left, right in zip(*linear_sum_assignment(cost), strict=True)
        if apart[left, right] <= limit + 1e-12
    ]
    return sorted(row for pair in chosen for row in pair)
