"""How often intervals over networks and patients cover the truth, simulated.

    python benchmarks/networks_coverage.py [--quick] [--jobs 1]

Truth and samples: the score of a patient is ``separation x class`` plus a latent part that all
runs share (50% of the variance), one of the start (10%), one of the network (10%), one of the
network with that start (10%) and one of the run (20%). Class sizes are fixed. The population AUROC
of start b is .75 on average (.90 near the ceiling), that of start a .05 more. It varies between
networks by .05 in both starts alike; the difference of the starts varies between networks by the
stated sd (the interaction); either start's by .02 between seeds. "Between" is the interval of
``mean_difference_over_networks``, "Hillis" the same variance with Hillis' degrees of freedom,
"min-max" the smallest and largest difference of the networks, "fixed" the interval for these
networks, held against their own mean difference.

The last table is of ``best_against_best``: networks of two groups whose AUROC varies by the stated
sd around .75; the truth is the difference of the two networks that are best on the test patients.

Writes ``benchmarks/results/networks_coverage.md``, and its large table as ``.csv`` (not with
``--quick``).
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import itertools
import math
import multiprocessing
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from voxgraft.files import write_text
from voxgraft.metrics import auroc
from voxgraft.statistics import best_against_best, mean_difference_over_networks
from voxgraft.statistics.jackknife import MAX_PAIRS, Spread
from voxgraft.statistics.obuchowski_rockette import interval_over_networks
from voxgraft.statistics.sample import group_patients

ALIKE, OF_START, OF_NETWORK, OF_BOTH, OWN = 0.5, 0.1, 0.1, 0.1, 0.2
NETWORK_SD, SEED_SD, BETTER = 0.05, 0.02, 0.05
RESULT = Path(__file__).parent / "results" / "networks_coverage.md"
QUADRATURE = stats.norm.ppf((np.arange(1_000) + 0.5) / 1_000)
BOUNDS = (0.0, 1.0)
CLAIMS = (("random", "between"), ("random", "hillis"), ("fixed", "between"))


@dataclass(frozen=True)
class Cell:
    """One simulated situation."""

    networks: int
    patients: int
    positive: float
    interaction_sd: float
    seeds: int
    auroc: float = 0.75


@dataclass(frozen=True)
class Choice:
    """One simulated choice of the best of two groups."""

    networks_a: int
    networks_b: int
    patients: int
    positive: float
    network_sd: float


def separation(area: float) -> float:
    return math.sqrt(2) * float(stats.norm.ppf(area))


def slope(area: float) -> float:
    """Return what the separation changes with the AUROC."""
    return math.sqrt(2) / float(stats.norm.pdf(separation(area) / math.sqrt(2)))


def areas(apart: np.ndarray) -> np.ndarray:
    return stats.norm.cdf(apart / math.sqrt(2))


@functools.cache
def expected(cell: Cell) -> float:
    """Return the difference expected of a new network, by quadrature."""
    sd = math.sqrt(NETWORK_SD**2 + cell.interaction_sd**2 / 2 + SEED_SD**2) * slope(cell.auroc)
    a, b = (separation(area) + sd * QUADRATURE for area in (cell.auroc + BETTER, cell.auroc))
    return float(areas(a).mean() - areas(b).mean())


def simulate(
    cell: Cell, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return target, scores ``(starts, networks, seeds, n)`` and the truth of these networks."""
    positive = round(cell.patients * cell.positive)
    target = np.r_[np.ones(positive), np.zeros(cell.patients - positive)]
    count, seeds, n = cell.networks, cell.seeds, cell.patients

    def latent(share: float, *shape: int) -> np.ndarray:
        return rng.normal(size=(*shape, n)) * math.sqrt(share)

    level = np.array([separation(cell.auroc + BETTER), separation(cell.auroc)])[:, None, None]
    varies = slope(cell.auroc)
    level = level + varies * NETWORK_SD * rng.normal(size=(1, count, 1))
    both = cell.interaction_sd / math.sqrt(2) * rng.normal(size=(2, count, 1))
    level = level + varies * both
    apart = level + varies * SEED_SD * rng.normal(size=(2, count, seeds))
    scores = apart[..., None] * target + latent(ALIKE)
    scores += latent(OF_START, 2, 1, 1) + latent(OF_NETWORK, 1, count, 1)
    scores += latent(OF_BOTH, 2, count, 1) + latent(OWN, 2, count, seeds)
    if seeds == 1:
        known = areas(apart).mean(axis=(1, 2))
    else:
        known = areas(level + varies * SEED_SD * QUADRATURE).mean(axis=(1, 2))
    return target, apart, scores, float(known[0] - known[1])


def fast_spread(target: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, Spread]:
    """Return AUROCs ``(runs,)`` and their jackknifed covariance, without leaving anybody out.

    Leaving out a case of an AUROC changes it by the share of the other class on its right side.
    """
    positive = int(target.sum())
    negative = len(target) - positive
    order = np.argsort(runs, axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(target))[None], axis=1)
    below = np.cumsum(order >= positive, axis=1)
    below = np.take_along_axis(below, ranks, axis=1)
    of_positives = below[:, :positive] / negative
    of_negatives = 1 - (ranks[:, positive:] + 1 - below[:, positive:]) / positive
    values = of_positives.mean(axis=1)
    parts = (np.cov(of_positives) / positive, np.cov(of_negatives) / negative)
    covariance = parts[0] + parts[1]
    pairs = positive * negative
    if pairs <= MAX_PAIRS:
        right = runs[:, :positive, None] > runs[:, None, positive:]
        rest = right - of_positives[:, :, None] - of_negatives[:, None, :] + values[:, None, None]
        flat = rest.reshape(len(runs), -1)
        covariance = covariance - flat @ flat.T / (pairs * (positive - 1) * (negative - 1))
    return values, Spread(covariance, parts, (positive, negative), len(target))


def ends_of(cell: Cell, rng: np.random.Generator, *, check: bool) -> list[tuple[float, float]]:
    """Return the ends of the four intervals, less what each claims to cover."""
    target, _, scores, of_these = simulate(cell, rng)
    runs = scores.reshape(-1, cell.patients)
    grouped = group_patients(np.arange(cell.patients), cell.patients, target)
    values, spread = fast_spread(target, runs)
    sizes = [cell.seeds] * (2 * cell.networks)
    found = [
        interval_over_networks(
            values,
            sizes,
            spread,
            grouped,
            networks=networks,
            quantile=quantile,
            bounds=BOUNDS,
            level=0.95,
        )
        for networks, quantile in (
            ("random", "between"),
            ("random", "hillis"),
            ("fixed", "between"),
        )
    ]
    if check:
        slow = mean_difference_over_networks(
            auroc, target, scores[0], scores[1], np.arange(cell.patients), bounds=BOUNDS
        )
        if not np.allclose([slow.low, slow.high], [found[0].low, found[0].high], atol=1e-9):
            raise AssertionError(f"the fast covariance differs from the jackknife in {cell}")
    each = values.reshape(2, cell.networks, cell.seeds).mean(axis=2)
    truth = expected(cell)
    ends = [(item.low, item.high) for item in found[:2]]
    ends.append((float((each[0] - each[1]).min()), float((each[0] - each[1]).max())))
    shifted = [(low - truth, high - truth) for low, high in ends]
    return [*shifted, (found[2].low - of_these, found[2].high - of_these)]


def measure(task: tuple[Cell, int, int]) -> dict[str, object]:
    cell, repetitions, seed = task
    rng = np.random.default_rng([21, seed])
    check = cell.networks * cell.patients * cell.seeds <= 1_100
    ends = np.array([ends_of(cell, rng, check=check and k == 0) for k in range(repetitions)])
    row: dict[str, object] = dataclasses.asdict(cell)
    for k, name in enumerate(("between", "hillis", "min_max", "fixed")):
        low, high = ends[:, k].T
        row[f"{name}_coverage"] = round(float(np.mean((low <= 0) & (high >= 0))), 4)
        row[f"{name}_too_high"] = round(float(np.mean(low > 0)), 4)
        row[f"{name}_width"] = round(float(np.median(high - low)), 4)
    return row


def measure_choice(task: tuple[Choice, int, int]) -> dict[str, object]:
    choice, repetitions, seed = task
    rng = np.random.default_rng([22, seed])
    n, positive = choice.patients, round(choice.patients * choice.positive)
    target = np.r_[np.ones(positive), np.zeros(n - positive)]
    found = []
    for _ in range(repetitions):
        latent = rng.normal(size=n) * math.sqrt(ALIKE + OF_START)
        groups, truths = [], []
        for count in (choice.networks_a, choice.networks_b):
            apart = separation(0.75) + slope(0.75) * choice.network_sd * rng.normal(size=(count, 1))
            noise = rng.normal(size=(count, n)) * math.sqrt(1 - ALIKE - OF_START)
            groups.append({str(k): run for k, run in enumerate(apart * target + latent + noise)})
            truths.append(areas(apart[:, 0]))
        validation = [dict.fromkeys(group, 0.5) for group in groups]
        best = best_against_best(
            auroc, target, *groups, *validation, np.arange(n), bounds=BOUNDS, replicates=300
        ).on_test
        truth = float(truths[0][int(best.name_a)] - truths[1][int(best.name_b)])
        found.append(
            (
                best.low <= truth <= best.high,
                best.difference - truth,
                best.optimism,
                best.high - best.low,
            )
        )
    coverage, bias, optimism, width = np.mean(found, axis=0)
    row: dict[str, object] = dataclasses.asdict(choice)
    return row | {
        "coverage": round(float(coverage), 4),
        "bias": round(float(bias), 4),
        "optimism": round(float(optimism), 4),
        "mean_width": round(float(width), 4),
    }


def cells(*, quick: bool) -> Iterator[Cell]:
    if quick:
        yield from (Cell(k, 100, 0.5, 0.05, seeds) for k in (2, 3, 7) for seeds in (1, 3))
        return
    for n, share, sd, seeds, k in itertools.product(
        (100, 152, 300, 1_000), (0.2, 0.5), (0.01, 0.05), (1, 3), (2, 3, 5, 7, 10)
    ):
        yield Cell(k, n, share, sd, seeds)
    for sd, seeds, k in itertools.product((0.01, 0.05), (1, 3), (2, 3, 7)):
        yield Cell(k, 152, 0.2, sd, seeds, auroc=0.9)


def choices(*, quick: bool) -> Iterator[Choice]:
    for groups, sd in itertools.product(((7, 3), (7, 1)), (0.0, 0.05)):
        yield Choice(*groups, 152, 0.2, sd)
    if not quick:
        yield from (Choice(7, 3, 1_092, 0.35, sd) for sd in (0.0, 0.05))


def table(rows: list[dict[str, object]], columns: dict[str, str]) -> str:
    lines = [f"| {' | '.join(columns.values())} |", "|---" * len(columns) + "|"]
    for row in rows:
        texts = []
        for key in columns:
            value = row[key]
            if key.endswith("coverage"):
                outside = not 0.93 <= float(str(value)) <= 0.97 and not key.startswith("min_max")
                texts.append(f"{100 * float(str(value)):.1f}{' (!)' if outside else ''}")
            elif key.endswith("too_high"):
                texts.append(f"{100 * float(str(value)):.1f}")
            else:
                texts.append(f"{value:.3f}" if key.endswith("width") else f"{value}")
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def page(
    rows: list[dict[str, object]], chosen: list[dict[str, object]], repetitions: int, timing: str
) -> str:
    outside = sum(not 0.93 <= float(str(row["between_coverage"])) <= 0.97 for row in rows)
    several = {
        "networks": "networks",
        "patients": "test patients",
        "positive": "positive",
        "auroc": "AUROC",
        "interaction_sd": "interaction sd",
        "seeds": "seeds",
        "between_coverage": "between: coverage (%)",
        "between_too_high": "too high (%)",
        "between_width": "width",
        "hillis_coverage": "Hillis (%)",
        "hillis_width": "width",
        "min_max_coverage": "min-max (%)",
        "min_max_width": "width",
        "fixed_coverage": "fixed (%)",
        "fixed_width": "width",
    }
    best = {
        "networks_a": "networks a",
        "networks_b": "networks b",
        "patients": "test patients",
        "positive": "positive",
        "network_sd": "network sd",
        "coverage": "coverage (%)",
        "bias": "bias of the test's best",
        "optimism": "estimated optimism",
        "mean_width": "mean width",
    }
    document = str(__doc__).split("\n\n")
    return (
        "# Simulated coverage of 95% intervals over networks and patients\n\n"
        f"`python benchmarks/networks_coverage.py`, {datetime.date.today().isoformat()}, "
        f"{repetitions} repetitions a cell (one Monte Carlo standard error is 0.7%), {timing}. "
        f'"Between" is within 93% and 97% in {len(rows) - outside} of {len(rows)} cells; (!) '
        "marks the others. Widths are medians.\n\n"
        f"{document[2]}\n\n{summary(rows)}\n\n{table(rows, several)}\n\n"
        f"## The best of two groups on the test patients\n\n{document[3]}\n\n"
        f"{table(chosen, best)}\n"
    )


def summary(rows: list[dict[str, object]]) -> str:
    """Return lowest, mean and highest coverage of each interval by number of networks."""
    lines = [
        "| networks | between: lowest, mean, highest (%) | Hillis | min-max | fixed |",
        "|---|---|---|---|---|",
    ]
    for count in sorted({int(str(row["networks"])) for row in rows}):
        texts = []
        for name in ("between", "hillis", "min_max", "fixed"):
            found = np.array(
                [
                    100 * float(str(row[f"{name}_coverage"]))
                    for row in rows
                    if row["networks"] == count
                ]
            )
            texts.append(f"{found.min():.1f}, {found.mean():.1f}, {found.max():.1f}")
        lines.append(f"| {count} | {' | '.join(texts)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cells, 200 repetitions")
    parser.add_argument("--repetitions", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    repetitions = 200 if arguments.quick else arguments.repetitions
    tasks = [(cell, repetitions, k) for k, cell in enumerate(cells(quick=arguments.quick))]
    picks = [(choice, repetitions, k) for k, choice in enumerate(choices(quick=arguments.quick))]
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        rows = []
        for row in pool.imap(measure, tasks):
            rows.append(row)
            print(row, flush=True)
        chosen = []
        for row in pool.imap(measure_choice, picks):
            chosen.append(row)
            print(row, flush=True)
        pool.close()
        pool.join()
    minutes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime / 60
    text = page(rows, chosen, repetitions, f"{minutes:.0f} min of one core")
    print(summary(rows))
    if not arguments.quick:
        write_text(RESULT, text)
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        write_text(RESULT.with_suffix(".csv"), "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
