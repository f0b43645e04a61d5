"""Two starts on the same cases: what a paired difference of a comparison rests on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from voxgraft.comparison.evidence import ArmEvidence, Evidence
from voxgraft.comparison.matrix import Study
from voxgraft.metrics import Metric
from voxgraft.statistics import Difference, paired_difference

Scores = Float[np.ndarray, "..."]


def on_common_cases(first: Scores, second: Scores) -> tuple[Scores, Scores]:
    """Return the scores of two starts where every run of both has a number, NaN elsewhere.

    Of a segmentation a run has no Dice in a case that is without the structure and where it
    predicts none, and no distance where it misses the structure. If each start kept its own cases,
    one that draws structures where there are none, or misses the hard ones, would be measured on
    others than the start beside it.

    Args:
        first: ``(seeds, n, columns)``.
        second: The same of the other start, with as many cases and columns.
    """
    open_ones = np.isnan(first).any(axis=0) | np.isnan(second).any(axis=0)
    return np.where(open_ones, np.nan, first), np.where(open_ones, np.nan, second)


def paired(
    study: Study, evidence: Evidence, metric: Metric, arm: ArmEvidence, base: ArmEvidence
) -> Difference | None:
    """Return a start minus another, on the seeds and cases that both have.

    Returns:
        The difference; None where they share no seed.
    """
    shared = shared_seeds(arm, base)
    if shared is None:
        return None
    own, other = on_common_cases(*shared) if study.segments else shared
    return paired_difference(
        metric.function(study.target.kind),
        evidence.test.target,
        own,
        other,
        evidence.test.patients,
        bounds=metric.bounds,
        higher_is_better=metric.higher_is_better,
        replicates=study.plan.replicates,
        undefined=study.segments,
    )


def shared_seeds(arm: ArmEvidence, base: ArmEvidence) -> tuple[Scores, Scores] | None:
    """Return the scores of two starts in the seeds that both have; None if there is none."""
    seeds = [seed for seed in arm.seeds if seed in base.seeds]
    if not seeds:
        return None
    return (
        arm.scores[[arm.seeds.index(seed) for seed in seeds]],
        base.scores[[base.seeds.index(seed) for seed in seeds]],
    )
