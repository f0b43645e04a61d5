"""Paired permutation: if two starts are the same, which of them gave which answer is chance."""

from __future__ import annotations

import numpy as np

from voxgraft.errors import VoxgraftError
from voxgraft.statistics.sample import (
    CHUNK_ELEMENTS,
    Array,
    Floats,
    MetricLike,
    Patients,
)

EXACT_PATIENTS = 13
"""Up to this many patients all 2^n swaps are enumerated."""


def _ranks(scores: Floats) -> Floats:
    """Return midranks of each run and column over the cases, in (0, 1)."""
    ranked = np.empty_like(scores)
    flat = scores.reshape(len(scores), scores.shape[1], -1)
    out = ranked.reshape(flat.shape)
    for run in range(flat.shape[0]):
        for column in range(flat.shape[2]):
            values, place = np.unique(flat[run, :, column], return_inverse=True)
            size = np.bincount(place, minlength=len(values))
            middle = np.cumsum(size) - (size + 1) / 2 + 0.5
            out[run, :, column] = (middle / len(place))[place]
    return ranked


def rank_based(metric: MetricLike, target: Array, scores: Floats) -> bool:
    """Say whether the metric of these runs stays the same if ranks stand for the scores."""
    for run, ranks in zip(scores, _ranks(scores), strict=True):
        try:
            if not abs(metric(target, run) - metric(target, ranks)) < 1e-12:
                return False
        except VoxgraftError:  # ranks are not what this metric scores
            return False
    return True


def comparable_scores(
    metric: MetricLike, target: Array, scores_a: Floats, scores_b: Floats
) -> tuple[Floats, Floats]:
    """Return the scores in a form in which swapping two starts' makes sense.

    A metric of ranks (AUROC, average precision) does not see a score's scale, but two starts'
    scores may be on different ones, so a swap would compare unlike numbers: ranks are swapped
    then. Scores of other metrics (probabilities, values) share their scale and stay.

    Source:
        Bandos, Rockette and Gur (2005), section 2, for ranks.
    """
    if rank_based(metric, target, scores_a) and rank_based(metric, target, scores_b):
        return _ranks(scores_a), _ranks(scores_b)
    return scores_a, scores_b


def _swaps(patients: int, replicates: int, seed: int) -> tuple[Array, bool]:
    """Return which patients are swapped, ``(rows, patients)`` of 0 and 1, and if it is all."""
    if patients <= EXACT_PATIENTS and 2**patients <= replicates:
        rows = np.arange(2**patients)
        return ((rows[:, None] >> np.arange(patients)) & 1).astype(np.uint8), True
    rng = np.random.Generator(np.random.SFC64(seed))
    length = -(-patients // 8)
    packed = np.frombuffer(rng.bytes(replicates * length), np.uint8).reshape(replicates, length)
    return np.unpackbits(packed, axis=1, count=patients), False


def swapped_differences(
    metric: MetricLike,
    target: Array,
    scores_a: Floats,
    scores_b: Floats,
    patients: Patients,
    replicates: int,
    seed: int,
) -> tuple[Floats, bool]:
    """Return the differences of the means over seeds after swapping starts within patients.

    A patient's cases are swapped together, and in all seeds at once. Each start then is a sample
    of twice the cases with weights 0 and 1, so all swaps are scored in one call a run.

    Returns:
        ``(replicates,)`` differences, and whether they are all there are (exact test).
    """
    swaps, exact = _swaps(patients.count, replicates, seed)
    doubled = np.concatenate([target, target])
    seeds_a, seeds_b = len(scores_a), len(scores_b)
    rows = max(1, CHUNK_ELEMENTS // len(doubled))
    total = np.zeros(len(swaps))
    pairs = _run_pairs(seeds_a, seeds_b)
    for start in range(0, len(swaps), rows):
        swap = patients.cases(swaps[start : start + rows])
        keep = 1 - swap
        as_a, as_b = np.hstack([keep, swap]), np.hstack([swap, keep])
        for a, b in pairs:
            both = np.concatenate([scores_a[a], scores_b[b]])
            first, second = metric(doubled, both, as_a), metric(doubled, both, as_b)
            total[start : start + rows] += first - second
    return total / len(pairs), exact


def _run_pairs(seeds_a: int, seeds_b: int) -> list[tuple[int, int]]:
    """Return pairs of runs in which each run of a start stands equally often."""
    count = max(seeds_a, seeds_b)
    if seeds_a == seeds_b or count % min(seeds_a, seeds_b) == 0:
        return [(k % seeds_a, k % seeds_b) for k in range(count)]
    return [(a, b) for a in range(seeds_a) for b in range(seeds_b)]


def two_sided(observed: float, null: Floats, *, exact: bool) -> float:
    """Return the share of null values at least as far from 0 as the observed one.

    Drawn values count the observed one among them, so the p-value is never 0.

    Source:
        Phipson and Smyth (2010), equation 2.
    """
    known = null[np.isfinite(null)]
    if len(known) == 0 or not np.isfinite(observed):
        return float("nan")
    far = np.abs(known)
    rounding = 1e-9 * max(float(far.max()), abs(observed)) + 1e-15
    extreme = int(np.sum(far >= abs(observed) - rounding))
    if exact:  # no swap at all is among them
        return max(extreme, 1) / len(known)
    return (extreme + 1) / (len(known) + 1)
