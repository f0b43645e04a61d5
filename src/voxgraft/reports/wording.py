"""Numbers as people read them: sensible digits, a true minus sign, units, intervals."""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections.abc import Iterable

from voxgraft.metrics import METRICS
from voxgraft.reports.comparison import Comparison, Task
from voxgraft.reports.parts import Estimate

ABSENT = "—"
"""Stands where there is no number."""

ALPHA = 0.05
"""Below this, a p-value after Holm's correction counts as support."""


def metric_label(name: str) -> str:
    """Return a metric's name for people."""
    return METRICS[name].label if name in METRICS else name.replace("_", " ")


def with_minus(text: str) -> str:
    """Replace the hyphen before a digit by a minus sign."""
    return re.sub(r"-(?=[\d.])", "−", text)


def number(value: float | None, decimals: int = 3, *, signed: bool = False) -> str:
    """Return a number with so many decimals; a value that rounds to zero has no sign."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if abs(value) >= 1e7:
        return with_minus(f"{value:+.3g}" if signed else f"{value:.3g}")
    rounded = round(value, decimals) + 0.0
    if rounded == 0:
        return f"{0:.{decimals}f}"
    return with_minus(f"{rounded:+,.{decimals}f}" if signed else f"{rounded:,.{decimals}f}")


def interval(
    low: float | None, high: float | None, decimals: int = 3, *, signed: bool = False
) -> str:
    """Return ``[low, high]``, or nothing if there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{number(low, decimals, signed=signed)}, {number(high, decimals, signed=signed)}]"


def estimate_text(value: Estimate, decimals: int, *, signed: bool = False) -> str:
    """Return ``estimate [low, high]``; a dash without an estimate."""
    if value.estimate is None:
        return ABSENT
    bounds = interval(value.low, value.high, decimals, signed=signed)
    return f"{number(value.estimate, decimals, signed=signed)} {bounds or '[no interval]'}"


def p_text(value: float | None) -> str:
    """Return a p-value: three decimals, or ``< 0.001``."""
    if value is None:
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(value: float | None) -> str:
    """Return a whole number with thousands separated."""
    return ABSENT if value is None else with_minus(f"{value:,.0f}")


def short(text: str, length: int = 30) -> str:
    """Return a text in one line of at most ``length`` characters, for use in a figure."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def plural(value: int, noun: str) -> str:
    """Return ``1 patient``, ``2 patients``."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def percent(value: float | None, decimals: int = 0) -> str:
    """Return a fraction as a percentage."""
    if value is None:
        return ABSENT
    text = number(100 * value, decimals)
    return text if text == ABSENT else f"{text}%"


def percent_text(value: float) -> str:
    """Return a percentage that is one already: 10%, 0.5%."""
    return f"{value:g}%"


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that suits it."""
    if seconds is None:
        return ABSENT
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def memory(mib: float | None) -> str:
    """Return an amount of memory in MiB or GiB."""
    if mib is None:
        return ABSENT
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:,.1f} GiB"


def learning_rate(value: float | None) -> str:
    """Return a learning rate with two significant digits."""
    if value is None:
        return ABSENT
    if value == 0 or abs(value) >= 1e-4:
        return with_minus(f"{value:.2g}")
    mantissa, exponent = f"{value:.1e}".split("e")
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return with_minus(f"{mantissa.removesuffix('.0')}×10{digits}")


def decimals_for(values: Iterable[float | None]) -> int:
    """Return how many decimals show these values with three significant digits.

    Values that look like rates (none beyond 1.5) get three decimals.
    """
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value)]
    if not sizes or max(sizes) <= 1.5:
        return 3
    middle = statistics.median(sizes)
    return 3 if middle < 1 else max(0, 2 - math.floor(math.log10(middle)))


def metric_decimals(comparison: Comparison) -> int:
    """Return the decimals in which a comparison's primary metric is shown."""
    values = [point.estimate for curve in comparison.curves for point in curve.points]
    values += [baseline.estimate for baseline in comparison.baselines]
    values += [
        run.scored(comparison.task.level).get(comparison.task.metric) for run in comparison.runs
    ]
    return decimals_for(values)


def direction(task: Task) -> str:
    """Return in words which way the metric improves."""
    return "higher is better" if task.higher_is_better else "lower is better"


def slug(text: str) -> str:
    """Return a part of a file name: lower-case ASCII letters, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48] or "x"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Return a distinct slug for each name, in order."""
    taken: dict[str, str] = {}
    for name in dict.fromkeys(names):
        base, candidate, n = slug(name), slug(name), 2
        while candidate in taken.values():
            candidate, n = f"{base}-{n}", n + 1
        taken[name] = candidate
    return taken
