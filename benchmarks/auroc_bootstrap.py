"""How much faster a bootstrap of the AUROC is than a loop over scikit-learn, in one run.

    python benchmarks/auroc_bootstrap.py [--patients 5000] [--replicates 10000]

Ours draws and scores all replicates. scikit-learn draws and scores as many as fit into a few
seconds, and its time is scaled to all; the same draws are scored by both once, for their largest
difference. Prints a Markdown row.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from voxgraft.metrics import auroc
from voxgraft.statistics import bootstrap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=5_000)
    parser.add_argument("--replicates", type=int, default=10_000)
    parser.add_argument("--loop-replicates", type=int, default=1_000)
    arguments = parser.parse_args()
    count, replicates = arguments.patients, arguments.replicates
    rng = np.random.default_rng(0)
    target = (rng.random(count) < 0.5).astype(int)
    score = rng.normal(size=count) + target
    patients = np.arange(count)

    auroc(target, score)
    ours = []
    for _ in range(3):
        begin = time.perf_counter()
        interval = bootstrap(
            lambda weights: auroc(target, score, weights),
            patients,
            method="percentile",
            replicates=replicates,
        )
        ours.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    for _ in range(arguments.loop_replicates):
        chosen = rng.integers(0, count, count)
        roc_auc_score(target[chosen], score[chosen])
    loop = (time.perf_counter() - begin) / arguments.loop_replicates * replicates

    chosen = rng.integers(0, count, (100, count))
    counts = np.stack([np.bincount(row, minlength=count) for row in chosen])
    second = np.array([roc_auc_score(target[row], score[row]) for row in chosen])
    apart = float(np.abs(auroc(target, score, counts) - second).max())

    mine = float(np.median(ours))
    print("| patients | replicates | ours (s) | scikit-learn loop (s) | times as fast | apart |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {count} | {replicates} | {mine:.2f} | {loop:.1f} (scaled from "
        f"{arguments.loop_replicates}) | {loop / mine:.0f} | {apart:.0e} |"
    )
    print(f"\nAUROC {interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]")


if __name__ == "__main__":
    main()
