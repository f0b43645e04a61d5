"""Does a comparison of a start with itself end in "no difference", and is a real one found?

    python benchmarks/null_comparison.py [--quick]

Nothing is trained: scores are simulated and go through the functions that ``voxgraft compare``
calls (paired differences, Holm over the family, verdict, answer). A score is ``separation x
class`` plus a latent part of the patient that all runs share (60% of the variance), one of the
start (10%), which two names of one start have in common, and one of the run (30%). The AUROC of a
run varies between seeds with the stated standard deviation. A comparison has four training sizes,
whose AUROC rises from .70 to .82, and one or two starts against the reference. "Any shown" counts
comparisons in which any difference is claimed, whatever its direction; planted differences are
.1 AUROC at all sizes.

Writes ``benchmarks/results/null_comparison.md`` (not with ``--quick``).
"""

from __future__ import annotations

import argparse
import datetime
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from voxgraft.files import write_text
from voxgraft.metrics import METRICS, auroc
from voxgraft.statistics import Compared, adjust, answer, paired_difference, verdict

SIZES = (50, 100, 200, 400)
REACHED = (0.70, 0.75, 0.79, 0.82)
RESULT = Path(__file__).parent / "results" / "null_comparison.md"


@dataclass(frozen=True)
class Scene:
    """One simulated kind of comparison."""

    patients: int
    positive: float
    seeds: int
    seed_sd: float
    starts: int
    planted: float


def start_scores(
    scene: Scene,
    reached: float,
    target: np.ndarray,
    latent: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return ``(seeds, n)`` scores of a start whose AUROC is ``reached`` on average."""
    center = math.sqrt(2) * float(stats.norm.ppf(reached))
    scale = scene.seed_sd * math.sqrt(2) / float(stats.norm.pdf(center / math.sqrt(2)))
    apart = center + scale * rng.normal(size=(scene.seeds, 1))
    own = math.sqrt(0.3) * rng.normal(size=(scene.seeds, len(target)))
    return apart * target + latent + own


def comparison(scene: Scene, rng: np.random.Generator, replicates: int) -> list[Compared]:
    positive = round(scene.patients * scene.positive)
    target = np.r_[np.ones(positive), np.zeros(scene.patients - positive)]
    patients = np.arange(scene.patients)
    shared = math.sqrt(0.6) * rng.normal(size=scene.patients)
    places, differences = [], []
    for size, reached in zip(SIZES, REACHED, strict=True):
        ways = [math.sqrt(0.1) * rng.normal(size=scene.patients) for _ in range(scene.starts + 1)]
        if not scene.planted:
            ways = [ways[0]] * (scene.starts + 1)
        reference = start_scores(scene, reached, target, shared + ways[0], rng)
        for index in range(scene.starts):
            level = reached + scene.planted
            scores = start_scores(scene, level, target, shared + ways[index + 1], rng)
            differences.append(
                paired_difference(
                    auroc,
                    target,
                    scores,
                    reference,
                    patients,
                    bounds=METRICS["auroc"].bounds,
                    replicates=replicates,
                )
            )
            places.append((f"start {index + 1}", size))
    return [
        Compared(name, "reference", size, difference)
        for (name, size), difference in zip(places, adjust(differences), strict=True)
    ]


def measure(scene: Scene, repetitions: int, replicates: int, seed: int) -> str:
    rng = np.random.default_rng([21, seed])
    any_shown = each_shown = swaps_alone = wrong = 0
    for _ in range(repetitions):
        items = comparison(scene, rng, replicates)
        sentences = verdict(items, metric_label="AUROC")
        whole = answer(items, metric_label="AUROC")
        claimed = [not text.startswith("No difference shown") for text in sentences]
        if any(claimed) == whole.startswith("No difference"):
            raise SystemExit(f"answer and verdicts disagree: {whole}")
        any_shown += any(claimed)
        each_shown += sum(claimed)
        wrong += any(item.difference.shown and not item.difference.favors_a for item in items)
        swaps_alone += any(item.difference.p_patients * len(items) <= 0.05 for item in items)
    share = any_shown / repetitions
    error = math.sqrt(max(share * (1 - share), 0.25 / repetitions) / repetitions)
    count = repetitions * len(SIZES) * scene.starts
    return (
        f"| {scene.planted:g} | {scene.patients} | {scene.positive:.0%} | {scene.seeds} | "
        f"{scene.seed_sd:g} | {scene.starts} | {100 * share:.1f} ± {100 * error:.1f} | "
        f"{100 * each_shown / count:.1f} | {100 * wrong / repetitions:.1f} | "
        f"{100 * swaps_alone / repetitions:.1f} |"
    )


def scenes() -> list[Scene]:
    null = [
        Scene(n, share, seeds, sd, starts, 0.0)
        for n, share in ((30, 0.5), (100, 0.5), (200, 0.2))
        for seeds in (3, 5)
        for sd, starts in ((0.0, 1), (0.02, 1), (0.03, 2))
    ]
    planted = [
        Scene(n, share, seeds, sd, 1, 0.1)
        for n, share in ((100, 0.5), (200, 0.5))
        for seeds in (3, 5)
        for sd in (0.01, 0.02, 0.03)
    ]
    one_seed = [Scene(200, 0.5, 1, sd, 1, 0.0) for sd in (0.0, 0.02)]
    return null + planted + one_seed


HEADER = (
    "| planted AUROC | test patients | positive | seeds | seed sd | starts | any shown (%) | "
    "each shown (%) | wrong way (%) | any, by swaps alone (%) |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="40 repetitions, 500 swaps")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=500)
    arguments = parser.parse_args()
    repetitions = 40 if arguments.quick else arguments.repetitions
    replicates = 500 if arguments.quick else arguments.replicates
    begin = time.perf_counter()
    print(HEADER, flush=True)
    rows = []
    for seed, scene in enumerate(scenes()):
        rows.append(measure(scene, repetitions, replicates, seed))
        print(rows[-1], flush=True)
    minutes = (time.perf_counter() - begin) / 60
    print(f"\n{minutes:.1f} min.")
    if arguments.quick:
        return
    about = "\n\n".join(__doc__.split("\n\n")[2:3])
    text = (
        "# A start against itself, and a planted difference\n\n"
        f"`python benchmarks/null_comparison.py`, {datetime.date.today().isoformat()}, "
        f"{repetitions} comparisons a row (± is one Monte Carlo standard error), {replicates} "
        f"swaps each, {minutes:.0f} min on 1 core.\n\n{about}\n\n"
        "Rows with one seed claim the patients only, and say so: with a seed effect they show "
        "more than 5%. The last column is the permutation of starts within patients alone, with "
        "Bonferroni's correction: what ignoring the seeds would claim.\n\n"
        f"{HEADER}\n" + "\n".join(rows) + "\n"
    )
    write_text(RESULT, text)


if __name__ == "__main__":
    main()
