"""Rates over scans: what was found by what there was, summed first and then divided."""

from __future__ import annotations

import numpy as np

from voxgraft.metrics.contract import Array, Evaluator, Floats, regression_metric


@regression_metric
def ratio_of_sums(target: Floats, score: Floats) -> Evaluator:
    """Return the sum of ``score`` by the sum of ``target``; NaN where that is 0.

    With lesions as target and those found as score it is the sensitivity per lesion; with ones as
    target, the mean.
    """

    def evaluate(weights: Array) -> Floats:
        counts = weights.astype(np.float64, copy=False)
        above, below = counts @ score, counts @ target
        nothing = np.full_like(above, np.nan)
        return np.divide(above, below, out=nothing, where=below != 0)

    return evaluate
