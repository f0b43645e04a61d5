"""How often the 95% intervals of ``voxgraft.statistics`` cover the truth, simulated.

    python benchmarks/interval_coverage.py [--quick] [--jobs 1]

Truth and samples: the score of a patient is ``separation x class`` plus a latent part shared by
all runs (70% of the variance) plus a part of the run's own. The class sizes are fixed. A run's
separation varies between seeds so that its population AUROC has the stated standard deviation;
for MAE and R² the size of its errors varies by that factor. The truth is the mean over all
patients and all seeds, by quadrature. In a difference start a is better by .05 AUROC (balanced
accuracy: the same), both runs share the patients' latent part.

Writes ``benchmarks/results/interval_coverage.md`` (not with ``--quick``).
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import math
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from voxgraft.files import write_text
from voxgraft.metrics import METRICS
from voxgraft.statistics import (
    bootstrap,
    hierarchical_bootstrap,
    paired_difference,
    performance_interval,
)

SHARED = 0.7
ERROR_SD = 0.7
RESULT = Path(__file__).parent / "results" / "interval_coverage.md"
QUADRATURE = stats.norm.ppf((np.arange(2_000) + 0.5) / 2_000)


@dataclass(frozen=True)
class Cell:
    """One simulated situation."""

    claim: str
    method: str
    metric: str
    patients: int
    positive: float
    auroc: float
    seeds: int
    seed_sd: float


def separation(auroc: float) -> float:
    return math.sqrt(2) * float(stats.norm.ppf(auroc))


def seed_scale(auroc: float, seed_sd: float) -> float:
    """Return the sd of the separation that gives the AUROC that sd."""
    return seed_sd * math.sqrt(2) / float(stats.norm.pdf(separation(auroc) / math.sqrt(2)))


def truth(cell: Cell, auroc: float) -> float:
    if cell.metric == "mae":
        return math.sqrt(2 / math.pi) * ERROR_SD * math.exp(cell.seed_sd**2 / 2)
    if cell.metric == "r2":
        return 1 - ERROR_SD**2 * math.exp(2 * cell.seed_sd**2)
    apart = separation(auroc) + seed_scale(cell.auroc, cell.seed_sd) * QUADRATURE
    if cell.metric == "auroc":
        return float(stats.norm.cdf(apart / math.sqrt(2)).mean())
    threshold = separation(cell.auroc) / 2
    return float((stats.norm.cdf(apart - threshold) + stats.norm.cdf(threshold)).mean() / 2)


def simulate(cell: Cell, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return target and scores of start a (better by .05) and of start b, ``(seeds, n)``."""
    count, seeds = cell.patients, cell.seeds
    latent = rng.normal(size=count) * math.sqrt(SHARED)

    def own() -> np.ndarray:
        return rng.normal(size=(seeds, count)) * math.sqrt(1 - SHARED)

    if cell.metric in ("mae", "r2"):
        target = rng.normal(size=count)
        size = ERROR_SD * np.exp(cell.seed_sd * rng.normal(size=(seeds, 1)))
        return target, target, target + size * (latent + own())
    positive = round(count * cell.positive)
    target = np.r_[np.ones(positive), np.zeros(count - positive)]
    shift = 0.5 - separation(cell.auroc) / 2 if cell.metric == "balanced_accuracy" else 0.0

    def start(auroc: float) -> np.ndarray:
        apart = separation(auroc)
        apart = apart + seed_scale(cell.auroc, cell.seed_sd) * rng.normal(size=(seeds, 1))
        return apart * target + latent + own() + shift

    better = start(cell.auroc + 0.05) if cell.claim.startswith("difference") else target
    return target, better, start(cell.auroc)


def one(cell: Cell, rng: np.random.Generator) -> tuple[float, float]:
    kind = "regression" if cell.metric in ("mae", "r2") else "binary"
    metric = METRICS[cell.metric]
    function = metric.function(kind)
    target, scores_a, scores_b = simulate(cell, rng)
    patients = np.arange(cell.patients)
    if cell.claim.startswith("difference"):
        found = paired_difference(
            function,
            target,
            scores_a,
            scores_b,
            patients,
            bounds=metric.bounds,
            replicates=100,
            pair_seeds=cell.method == "paired seeds",
        )
        return found.low, found.high
    if cell.method == "t":
        interval = performance_interval(function, target, scores_b, patients, bounds=metric.bounds)
    elif cell.method == "hierarchical":
        interval = hierarchical_bootstrap(
            function, target, scores_b, patients, bounds=metric.bounds, replicates=1_000
        )
    else:
        interval = bootstrap(
            lambda weights: function(target, scores_b[0], weights),
            patients,
            method="bca" if cell.method == "BCa" else "percentile",
            replicates=1_000,
            strata=target if kind == "binary" else None,
        )
    return interval.low, interval.high


def measure(task: tuple[Cell, int, int]) -> str:
    cell, repetitions, seed = task
    rng = np.random.default_rng([20, seed])
    expected = truth(cell, cell.auroc)
    if cell.claim.startswith("difference"):
        expected = truth(cell, cell.auroc + 0.05) - expected
    ends = np.array([one(cell, rng) for _ in range(repetitions)])
    given = np.isfinite(ends).all(axis=1)
    low, high = ends[given].T
    above, below = np.mean(low > expected), np.mean(high < expected)
    coverage = 1 - above - below
    error = math.sqrt(coverage * (1 - coverage) / given.sum())
    mark = "" if 0.93 <= coverage <= 0.97 else " (!)"
    sample = f"{cell.positive:.0%}" if cell.metric not in ("mae", "r2") else "-"
    auroc = f"{cell.auroc:.2f}" if cell.metric not in ("mae", "r2") else "-"
    return (
        f"| {cell.claim} | {cell.method} | {cell.metric} | {cell.patients} | {sample} | {auroc} | "
        f"{cell.seeds} | {cell.seed_sd:g} | {100 * coverage:.1f} ± {100 * error:.1f}{mark} | "
        f"{100 * above:.1f} | {100 * below:.1f} | {np.median(high - low):.3f} | {(~given).sum()} |"
    )


def cells(quick: bool) -> Iterator[Cell]:
    sizes = (30, 100) if quick else (30, 50, 100, 300)
    few = (30,) if quick else (30, 100, 300)
    alone = "patients"
    for n, share, auroc in itertools.product(sizes, (0.5, 0.2), (0.6, 0.75, 0.9)):
        yield Cell(alone, "t", "auroc", n, share, auroc, 1, 0.0)
    for n, share, auroc in itertools.product(sizes, (0.5, 0.2), (0.75, 0.9)):
        yield Cell(alone, "t", "balanced_accuracy", n, share, auroc, 1, 0.0)
    for n, metric in itertools.product(sizes, ("mae", "r2")):
        yield Cell(alone, "t", metric, n, 0.5, 0.75, 1, 0.0)
    for method, n in itertools.product(("BCa", "percentile"), (30,) if quick else (30, 50, 100)):
        for share, auroc in itertools.product((0.5, 0.2), (0.75, 0.9)):
            yield Cell(alone, method, "auroc", n, share, auroc, 1, 0.0)
        yield Cell(alone, method, "mae", n, 0.5, 0.75, 1, 0.0)
    both = "patients and seeds"
    for n, seeds, sd in itertools.product(few, (3, 5), (0.0, 0.02, 0.05)):
        for share, auroc in ((0.5, 0.75), (0.2, 0.75), (0.5, 0.9)):
            yield Cell(both, "t", "auroc", n, share, auroc, seeds, sd)
    for n, seeds, sd in itertools.product(few, (3, 5), (0.0, 0.1)):
        for metric in ("mae", "r2"):
            yield Cell(both, "t", metric, n, 0.5, 0.75, seeds, sd)
    for n, seeds in itertools.product(few, (3, 5)):
        yield Cell(both, "t", "balanced_accuracy", n, 0.5, 0.75, seeds, 0.02)
        yield Cell(both, "hierarchical", "auroc", n, 0.5, 0.75, seeds, 0.02)
    for n in few:
        for share, auroc in ((0.5, 0.75), (0.2, 0.75), (0.5, 0.9)):
            yield Cell("difference, patients", "t", "auroc", n, share, auroc, 1, 0.0)
        yield Cell("difference, patients", "t", "balanced_accuracy", n, 0.5, 0.75, 1, 0.0)
    claim = "difference, patients and seeds"
    for n, seeds, sd in itertools.product(few, (3, 5), (0.0, 0.02, 0.05)):
        for share in (0.5, 0.2):
            yield Cell(claim, "unpaired seeds", "auroc", n, share, 0.75, seeds, sd)
        yield Cell(claim, "paired seeds", "auroc", n, 0.5, 0.75, seeds, sd)


HEADER = (
    "| claims to cover | method | metric | test patients | positive | AUROC | seeds | seed sd | "
    "coverage of 95% (%) | too high (%) | too low (%) | median width | none given |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cells, 200 repetitions")
    parser.add_argument("--repetitions", type=int, default=2_000)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    repetitions = 200 if arguments.quick else arguments.repetitions
    tasks = [(cell, repetitions, seed) for seed, cell in enumerate(cells(arguments.quick))]
    begin = time.perf_counter()
    print(HEADER, flush=True)
    rows = []
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for row in pool.imap(measure, tasks):
            rows.append(row)
            print(row, flush=True)
    minutes = (time.perf_counter() - begin) / 60
    text = page(rows, repetitions, minutes, arguments.jobs)
    print(f"\n{text.splitlines()[2]}")
    if not arguments.quick:
        write_text(RESULT, text)


def page(rows: list[str], repetitions: int, minutes: float, jobs: int) -> str:
    outside = sum("(!)" in row for row in rows)
    return (
        "# Simulated coverage of 95% intervals\n\n"
        f"`python benchmarks/interval_coverage.py`, {datetime.date.today().isoformat()}, "
        f"{repetitions} repetitions a cell (± is one Monte Carlo standard error), "
        f"{minutes:.0f} min on {jobs} core(s). {len(rows) - outside} of {len(rows)} cells are "
        "between 93% and 97%; (!) marks the others.\n\n"
        f"{__doc__.split(chr(10) * 2)[2]}\n\n{HEADER}\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    main()
