"""What is to be known of numbers, said once a kind and not once a number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.parts import Estimate

NAMED = 4
"""So many places are named; of more, the number is said."""


def whys(value: Estimate) -> list[str]:
    """Return what is to be known of an estimate, or why it is absent."""
    if not value.why:
        return []
    return [f"{'no estimate, ' if value.estimate is None else ''}{value.why}"]


def folded(found: Iterable[tuple[str, str]], total: int, every: str, noun: str) -> list[str]:
    """Return a line for each kind of remark.

    Remarks are divided at their semicolons; parts that hold for the same places stay together.

    Args:
        found: Place and remark, in order.
        total: Number of all places, with a remark or without.
        every: Says that a remark holds for each of them.
        noun: What the places are, in the plural.
    """
    places: dict[str, list[str]] = {}
    for place, remark in found:
        for part in dict.fromkeys(remark.split("; ")):
            places.setdefault(part, []).append(place)
    together: dict[tuple[str, ...], list[str]] = {}
    for part, named in places.items():
        together.setdefault(tuple(named), []).append(part)
    lines = []
    for where, parts in together.items():
        if len(where) == total > 1:
            head = every
        elif len(where) > NAMED:
            head = f"{len(where)} of {total} {noun}"
        else:
            head = "; ".join(where)
        lines.append(f"{head}: {'; '.join(parts)}.")
    return lines


def estimate_notes(comparison: Comparison, sizes: Sequence[int]) -> list[str]:
    """Return the remarks on the estimates at some sizes, and on the baselines."""
    several = len(comparison.model_names) > 1
    alone = len(sizes) == 1
    found, total = [], 0
    for curve in comparison.curves:
        for point in curve.points:
            if point.train_size not in sizes:
                continue
            total += 1
            where = [curve.model] if several else []
            where += [curve.start] + ([] if alone and several else [f"N = {point.train_size:,}"])
            found += [(", ".join(where), remark) for remark in whys(point)]
    what = (["network"] if several else []) + ["start"] + ([] if alone and several else ["size"])
    every = f"Every {', '.join(what[:-1])} and {what[-1]}"
    lines = folded(found, total, every, "values")
    trivial = [
        (f"Baseline {baseline.name}", remark)
        for baseline in comparison.baselines
        for remark in whys(baseline)
    ]
    return lines + folded(trivial, len(comparison.baselines) + 1, "", "baselines")
