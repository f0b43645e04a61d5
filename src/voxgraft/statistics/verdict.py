"""Conclusions in words, which claim no more than interval and corrected p-value allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from voxgraft.errors import StatisticsError
from voxgraft.statistics.differences import Difference


@dataclass(frozen=True)
class Compared:
    """One paired difference with its place in the comparison.

    Attributes:
        start: Start a of the difference.
        reference: Start b, as scratch.
        train_size: Training patients.
        difference: a − b, with ``p_holm`` filled over the family (:func:`adjust`).
        model: Network, if the comparison has several.
    """

    start: str
    reference: str
    train_size: int
    difference: Difference
    model: str = ""

    @property
    def place(self) -> str:
        """Where it was compared: "at N = 100", with the model if there is one."""
        return f"{f'on {self.model} ' if self.model else ''}at N = {self.train_size}"


def format_p(value: float) -> str:
    """Return "p = 0.012" or "p < 0.001"."""
    if math.isnan(value):
        return "p not defined"
    if value < 0.001:
        return "p < 0.001"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def _decimals(difference: Difference) -> int:
    """Return decimals that show the interval's width with two digits."""
    width = difference.high - difference.low
    if not math.isfinite(width) or width <= 0:
        width = abs(difference.estimate)
    if not math.isfinite(width) or width <= 0:
        return 3
    return min(max(3 - math.ceil(math.log10(width) + 1e-9) - 1, 0), 6)


def _number(value: float, decimals: int, *, sign: bool = False) -> str:
    value = value if round(value, decimals) else 0.0  # no minus before zero
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    return text.replace("-", "−")


def format_difference(difference: Difference, metric_label: str, unit: str = "") -> str:
    """Return "AUROC +0.054 [0.012, 0.097], p = 0.010 (Holm), n = 151 patients, 3 seeds"."""
    if math.isnan(difference.estimate):
        return f"{metric_label} undefined, n = {difference.n_patients} patients"
    decimals = max(3 if not unit else 0, _decimals(difference))
    after = f" {unit}" if unit else ""
    estimate = _number(difference.estimate, decimals, sign=True)
    if math.isnan(difference.low):
        interval = "no interval"
    else:
        low, high = (_number(end, decimals) for end in (difference.low, difference.high))
        interval = f"[{low}, {high}]"
    corrected = "" if math.isnan(difference.p_holm) else " (Holm)"
    if difference.n_seeds_a == difference.n_seeds_b:
        seeds = f"{difference.n_seeds_a} seed{'s' if difference.n_seeds_a > 1 else ''}"
    else:
        seeds = f"{difference.n_seeds_a} and {difference.n_seeds_b} seeds"
    return (
        f"{metric_label} {estimate}{after} {interval}, "
        f"{format_p(difference.p_decisive)}{corrected}, "
        f"n = {difference.n_patients} patients, {seeds}"
    )


def _allowed(difference: Difference, unit: str) -> str:
    """Return what the interval still allows, in both directions."""
    decimals = max(3 if not unit else 0, _decimals(difference))
    after = f" {unit}" if unit else ""
    up, down = max(difference.high, 0.0), max(-difference.low, 0.0)
    gain, loss = (up, down) if difference.higher_is_better else (down, up)
    parts = (
        f"a {name} of {_number(size, decimals)}{after}" if size > 0 else f"no {name}"
        for name, size in (("gain", gain), ("loss", loss))
    )
    return f"the interval still allows {' and '.join(parts)}"


def sentence(item: Compared, metric_label: str, unit: str = "") -> str:
    """Return what one difference shows, in a sentence or two."""
    difference = item.difference
    numbers = format_difference(difference, metric_label, unit)
    if math.isnan(difference.estimate) or math.isnan(difference.low):
        why = difference.note or "no interval could be estimated"
        return f"{item.start} and {item.reference} cannot be compared {item.place}: {why}."
    one = ""
    if min(difference.n_seeds_a, difference.n_seeds_b) < 2:
        one = " One training each: whether new trainings would agree is not tested."
    if difference.shown:
        verb = "beats" if difference.favors_a else "is worse than"
        return f"{item.start} {verb} {item.reference} {item.place}: {numbers}.{one}"
    extra = ""
    if difference.excludes_zero:
        extra = " (the interval alone leaves out 0, the corrected p-value does not support it)"
    return (
        f"No difference shown between {item.start} and {item.reference} {item.place}: {numbers}"
        f"{extra}; {_allowed(difference, unit)}.{one}"
    )


def verdict(items: Sequence[Compared], *, metric_label: str, unit: str = "") -> list[str]:
    """Return a sentence for each difference.

    A start "beats" the reference only where the interval leaves out 0 and the corrected p-value
    is within ``1 − level``; else "no difference shown", with what the interval still allows.

    Args:
        items: Differences with their places.
        metric_label: As "AUROC".
        unit: Of the metric; empty for a plain number.
    """
    return [sentence(item, metric_label, unit) for item in items]


def _listed(sizes: Sequence[int]) -> str:
    ordered = sorted(set(sizes))
    if len(ordered) == 1:
        return str(ordered[0])
    return f"{', '.join(map(str, ordered[:-1]))} and {ordered[-1]}"


def _about_one(items: Sequence[Compared], metric_label: str, unit: str) -> str:
    """Return the findings for one start against one reference, over all sizes."""
    name, reference = items[0].start, items[0].reference
    where = f" on {items[0].model}" if items[0].model else ""
    better = [i for i in items if i.difference.shown and i.difference.favors_a]
    worse = [i for i in items if i.difference.shown and not i.difference.favors_a]
    unknown = [i for i in items if math.isnan(i.difference.low)]
    open_ = [i for i in items if i not in better and i not in worse and i not in unknown]
    parts = []
    for group, verb in ((better, "beats"), (worse, "is worse than")):
        if group:
            best = max(group, key=lambda i: abs(i.difference.estimate))
            numbers = format_difference(best.difference, metric_label, unit)
            parts.append(
                f"{verb} {reference} at N = {_listed([i.train_size for i in group])} "
                f"({'most ' if len(group) > 1 else ''}at N = {best.train_size}: {numbers})"
            )
    if open_:
        sizes = _listed([i.train_size for i in open_])
        parts.append(f"shows no difference from {reference} at N = {sizes}")
    if unknown:
        sizes = _listed([i.train_size for i in unknown])
        parts.append(f"cannot be compared with {reference} at N = {sizes}")
    return f"{name}{where} {'; it '.join(parts)}"


def answer(items: Sequence[Compared], *, metric_label: str, unit: str = "") -> str:
    """Return the answer to a comparison: what was shown over all starts, sizes and models.

    Starts are only ranked against the reference that they were tested against.

    Args:
        items: All differences of the comparison, corrected as one family.
        metric_label: As "AUROC".
        unit: Of the metric; empty for a plain number.

    Raises:
        StatisticsError: If there is no difference to speak of.
    """
    if not items:
        raise StatisticsError("there is no difference to answer from; compare two starts at least.")
    known = [item for item in items if not math.isnan(item.difference.low)]
    if not known:
        reason = items[0].difference.note or "no interval could be estimated"
        return f"No start could be compared: {reason}."
    shown = [item for item in known if item.difference.shown]
    single = any(min(i.difference.n_seeds_a, i.difference.n_seeds_b) < 2 for i in known)
    caveat = " One training each: new trainings may differ." if single else ""
    if not shown:
        references = sorted({item.reference for item in items})
        widest = max(known, key=lambda i: max(abs(i.difference.low), abs(i.difference.high)))
        skipped = len(items) - len(known)
        missing = f" {skipped} of {len(items)} could not be compared." if skipped else ""
        return (
            f"No difference from {' or '.join(references)} was shown, in "
            f"{len(known)} comparison{'s' if len(known) != 1 else ''}; "
            f"that is not proof of none: {widest.start} {widest.place}: "
            f"{_allowed(widest.difference, unit)} ({metric_label}).{missing}{caveat}"
        )
    groups: dict[tuple[str, str, str], list[Compared]] = {}
    for item in items:
        groups.setdefault((item.model, item.reference, item.start), []).append(item)
    ordered = sorted(
        groups.values(),
        key=lambda group: (
            -sum((1 if i.difference.favors_a else -1) for i in group if i.difference.shown)
        ),
    )
    return ". ".join(_about_one(group, metric_label, unit) for group in ordered) + f".{caveat}"
