"""What several networks show together, in words: means over them, and the best of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.grid import KINDS, kind_rank, printed_percents
from voxgraft.reports.several import MeanDifference, PrintedMean
from voxgraft.reports.wording import (
    ABSENT,
    ALPHA,
    count,
    estimate_text,
    metric_decimals,
    number,
    p_text,
    plural,
)


def favors(row: MeanDifference, higher_is_better: bool) -> int:
    """Return 1 where a mean difference shows the start better, -1 where worse, 0 otherwise.

    It is shown if its interval leaves out zero and its p-value (after Holm's correction, where
    the comparison has it) is below :data:`ALPHA`.
    """
    low, high, p = row.low, row.high, row.p_decisive
    if low is None or high is None or p is None or p >= ALPHA or low <= 0 <= high:
        return 0
    return 1 if (low > 0) == higher_is_better else -1


def headline(comparison: Comparison) -> list[str]:
    """Return what the means over networks show, a sentence a size and kind; the largest first.

    Each start is held against the reference start; a comparison without such means has none.
    """
    reference = comparison.baseline_start
    rows = [row for row in comparison.networks.means if row.against == reference]
    sizes = sorted({row.train_size for row in rows}, reverse=True)
    kinds = sorted({row.kind for row in rows}, key=kind_rank)
    lines = []
    for size in sizes:
        for kind in kinds:
            of = [row for row in rows if row.train_size == size and row.kind == kind]
            if of:
                lines.append(_sentence(comparison, of))
    return lines


def _sentence(comparison: Comparison, rows: Sequence[MeanDifference]) -> str:
    """Return the findings for all starts over the networks of one kind at one size."""
    reference, size = rows[0].against, rows[0].train_size
    better: list[MeanDifference] = []
    worse: list[MeanDifference] = []
    same: list[MeanDifference] = []
    unknown: list[MeanDifference] = []
    for row in rows:
        sign = favors(row, comparison.task.higher_is_better)
        if row.estimate is None or row.low is None:
            unknown.append(row)
        else:
            (same, better, worse)[sign].append(row)
    parts = []
    if better:
        parts.append(f"{_those(comparison, better)} {_verb(better, 'beat')} {reference}")
    if worse:
        parts.append(f"{_those(comparison, worse)} {'is' if len(worse) == 1 else 'are'} worse "
                     f"than {reference}")  # fmt: skip
    if same:
        names = _those(comparison, same, p=False)
        parts.append(f"no difference from {reference} is shown for {names}")
    if unknown:
        names = _listed([row.start for row in unknown])
        parts.append(f"{names} cannot be compared with {reference}")
    numbers = sorted({row.n_networks for row in rows if row.n_networks is not None})
    n = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else count(next(iter(numbers), None))
    kind = KINDS.get(rows[0].kind, f"{rows[0].kind} networks".strip())
    return f"{kind}, mean over {n}, at N = {size:,}: {'; '.join(parts)}."


def _verb(rows: Sequence[MeanDifference], verb: str) -> str:
    return f"{verb}s" if len(rows) == 1 else verb


def _those(comparison: Comparison, rows: Sequence[MeanDifference], *, p: bool = True) -> str:
    """Return starts with their differences: "video (AUROC +0.146 [+0.096, +0.196], p = 0.002)"."""
    decimals = metric_decimals(comparison)
    return _listed(
        f"{row.start} ({'' if n else f'{comparison.task.label} '}"
        f"{estimate_text(row, decimals, signed=True)}{f', {_p(row)}' if p else ''})"
        for n, row in enumerate(rows)
    )


def _p(row: MeanDifference) -> str:
    p = p_text(row.p_decisive)
    return f"p {p}" if p.startswith("<") else f"p = {p}"


def _listed(texts: Iterable[str]) -> str:
    items = list(texts)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def rests_on(comparison: Comparison) -> str:
    """Return what the means over networks rest on, in one sentence; empty without means."""
    means = comparison.networks.means
    if not means:
        return ""
    patients = sorted({row.n_patients for row in means if row.n_patients is not None})
    seeds = sorted({row.n_seeds for row in means if row.n_seeds is not None})
    parts = [
        " to ".join(dict.fromkeys((count(of[0]), plural(of[-1], noun))))
        if len(of) > 1
        else plural(of[0], noun)
        for of, noun in ((patients, "test patient"), (seeds, "seed"))
        if of
    ]
    corrected = any(row.p_holm is not None for row in means)
    p = f"p after Holm's correction over {plural(len(means), 'mean difference')}"
    p = p if corrected else "p is not corrected for the number of comparisons"
    text = f"Intervals of means are for other networks and other patients; {p}"
    text = f"No difference shown is no proof of none. {text}"
    return f"{text}; {', '.join(parts)}." if parts else f"{text}."


def printed_mean(comparison: Comparison, row: MeanDifference) -> PrintedMean | None:
    """Return the published mean of the same starts and share of patients, of 3D networks."""
    if comparison.published is None or row.kind != "3D":
        return None
    percent = printed_percents(comparison).get(row.train_size)
    for mean in comparison.published.means:
        if (mean.start, mean.against, mean.percent) == (row.start, row.against, percent):
            return mean
    return None


def span(low: float | None, high: float | None) -> str:
    """Return the smallest and the largest of some differences."""
    if low is None or high is None:
        return ABSENT
    return f"{number(low, signed=True)} to {number(high, signed=True)}"


def mean_lines(comparison: Comparison) -> list[str]:
    """Return a line for each mean difference over networks, the printed one at its end."""
    decimals = metric_decimals(comparison)
    lines = []
    means = comparison.networks.means
    for row in sorted(means, key=lambda row: (row.train_size, kind_rank(row.kind))):
        text = f"{row.kind}, N = {row.train_size:,}: {row.start} − {row.against} "
        text += f"{estimate_text(row, decimals, signed=True)}, {_p(row)}"
        for n, noun in ((row.n_networks, "network"), (row.n_patients, "patient")):
            text += f", {plural(n, noun)}" if n is not None else ""
        if row.n_seeds is not None:
            text += f", {plural(row.n_seeds, 'seed')}"
        mean = printed_mean(comparison, row)
        if mean is not None:
            text += (
                f" (printed cells {estimate_text(mean, 3, signed=True)}, smallest to largest "
                f"{span(mean.smallest, mean.largest)})"
            )
        lines.append(text)
    return lines


def best_lines(comparison: Comparison) -> list[str]:
    """Return, a size, what the best 3D network does against the best on slices, in words."""
    lines = []
    decimals = metric_decimals(comparison)
    label = comparison.task.label
    for best in comparison.networks.best:
        of = best.difference
        if of.estimate is None:
            continue
        text = (
            f"Chosen on validation at N = {best.train_size:,}: {best.chosen_3d} "
            f"({number(best.validation_3d, decimals)} there), the best 3D network, against "
            f"{best.chosen_2d} ({number(best.validation_2d, decimals)}), the best on slices. On "
            f"the test patients {label} {number(of.value_a, decimals)} against "
            f"{number(of.value_b, decimals)}: difference {estimate_text(of, decimals, signed=True)}"
        )
        p = p_text(of.p_value)
        text += f", p {p}" if p.startswith("<") else f", p = {p}"
        lines.append(f"{text}: {_shown(comparison, of.low, of.high, of.p_value)}.")
    return lines


def _shown(comparison: Comparison, low: float | None, high: float | None, p: float | None) -> str:
    if low is None or high is None or p is None:
        return "no conclusion without an interval"
    if low <= 0 <= high or p >= ALPHA:
        return "no difference is shown"
    better = (low > 0) == comparison.task.higher_is_better
    return f"the {'3D network' if better else 'network on slices'} is better"
