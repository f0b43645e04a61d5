"""Tables of mean differences over networks, and of the best 3D network against the best 2D."""

from __future__ import annotations

from collections.abc import Sequence

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.grid import KINDS, kind_rank
from voxgraft.reports.networks import printed_mean, span
from voxgraft.reports.remarks import folded, whys
from voxgraft.reports.several import PrintedMean
from voxgraft.reports.tables import Table, cells, heading
from voxgraft.reports.wording import (
    count,
    estimate_text,
    interval,
    metric_decimals,
    number,
    p_text,
    percent_text,
)


def means_table(comparison: Comparison) -> Table:
    """Return the table of mean differences over networks, the printed ones beside them."""
    means = comparison.networks.means
    decimals = metric_decimals(comparison)
    beside = {id(row): printed_mean(comparison, row) for row in means}
    printed = [mean for mean in beside.values() if mean is not None]
    header = ["Start", "Against", "N", "Mean difference", "p", "p (Holm)"]
    header += ["Networks", "Patients", "Seeds", "Smallest to largest"]
    if printed:
        header += ["Printed: mean", "Printed: smallest to largest"]
    rows, records, found = [], [], []
    for kind in sorted({row.kind for row in means}, key=kind_rank):
        if kind:
            rows.append(heading(KINDS.get(kind, kind), len(header)))
        for row in means:
            if row.kind != kind:
                continue
            mean = beside[id(row)]
            each = [value for value in row.per_network.values() if value is not None]
            texts = [row.start, row.against, count(row.train_size)]
            texts += [estimate_text(row, decimals, signed=True), p_text(row.p_value)]
            texts += [p_text(row.p_holm), count(row.n_networks), count(row.n_patients)]
            texts += [count(row.n_seeds), span(min(each, default=None), max(each, default=None))]
            if printed:
                texts.append("" if mean is None else estimate_text(mean, 3, signed=True))
                texts.append("" if mean is None else span(mean.smallest, mean.largest))
            rows.append(cells(*texts))
            where = f"{row.start} − {row.against}, {row.kind}, N = {row.train_size:,}"
            found += [(where, remark) for remark in whys(row)]
            if row.left_out:
                found.append((where, f"without {', '.join(row.left_out)} (no usable run)"))
            records.append(row.model_dump() | _record(mean))
    notes = folded(found, len(means), "Every mean", "means")
    methods = dict.fromkeys(row.method for row in means if row.method)
    notes += [f"Method: {method}." for method in methods]
    if printed:
        notes += _printed_notes(comparison, printed)
    return Table(
        name="network-means",
        caption=f"Mean over networks of the paired difference in {comparison.task.label} (start "
        "minus the start it is compared with; the same test patients, training subsets and "
        f"seeds): estimate [low, high] ({comparison.interval_name} over networks and patients), "
        "and the smallest and largest difference of a network, which is no interval.",
        header=header,
        rows=rows,
        records=records,
        text_columns=2,
        notes=notes,
    )


def _record(mean: PrintedMean | None) -> dict[str, object]:
    keys = ("percent", "estimate", "low", "high", "smallest", "largest", "n_networks", "note")
    return {f"printed_{key}": None if mean is None else getattr(mean, key) for key in keys}


def _printed_notes(comparison: Comparison, printed: Sequence[PrintedMean]) -> list[str]:
    """Return what the printed means are; what they all say of themselves once."""
    name = comparison.published.name if comparison.published is not None else "the paper"
    networks = sorted({mean.n_networks for mean in printed if mean.n_networks is not None})
    over = f" ({networks[0]})" if len(networks) == 1 else ""
    notes = [
        f"Printed ({name}): the mean over its 3D networks{over} of the differences of printed "
        "cells, with an interval made here from them (t over networks). What the paper prints as "
        "a 95% confidence interval "
        "is the smallest and the largest of these differences, which is no interval: it widens "
        "with every network that is added."
    ]
    parts = [mean.note.split("; ") for mean in printed]
    shared = 0
    while all(len(part) > shared and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    if shared and any(parts[0][:shared]):
        notes.append(f"Every printed mean: {'; '.join(parts[0][:shared])}.")
    for mean, part in zip(printed, parts, strict=True):
        if any(part[shared:]):
            where = f"{mean.start} − {mean.against}, {percent_text(mean.percent)}"
            notes.append(f"Printed, {where}: {'; '.join(part[shared:])}.")
    return notes


def best_table(comparison: Comparison) -> Table:
    """Return the best 3D networks against the best on slices, chosen in both ways."""
    decimals = metric_decimals(comparison)
    header = ["N", "Best 3D", "Best on slices", "3D", "Slices", "Difference", "p", "Optimism"]
    rows, records, found = [], [], []
    best_of = comparison.networks.best
    ways = ("Chosen on validation, compared on test", "Chosen on the test patients themselves")
    for way, title in enumerate(ways):
        if best_of:
            rows.append(heading(title, len(header)))
        for best in best_of:
            chosen, test = best.difference, best.on_test
            where = f"N = {best.train_size:,}"
            if way == 0:
                texts = [best.chosen_3d, best.chosen_2d, number(chosen.value_a, decimals)]
                texts += [number(chosen.value_b, decimals)]
                texts += [estimate_text(chosen, decimals, signed=True), p_text(chosen.p_value), ""]
                found += [(f"{where}, chosen on validation", remark) for remark in whys(chosen)]
            else:
                bounds = interval(test.low, test.high, decimals, signed=True)
                texts = [test.name_a, test.name_b, number(test.value_a, decimals)]
                texts += [number(test.value_b, decimals)]
                shown = f"{number(test.corrected, decimals, signed=True)} {bounds}".strip()
                texts += [f"{number(test.difference, decimals, signed=True)} → {shown}", ""]
                texts += [number(test.optimism, decimals, signed=True)]
                if test.note:
                    found.append((f"{where}, chosen on test", test.note))
            rows.append(cells(count(best.train_size), *texts))
    for best in best_of:
        record = best.model_dump(exclude={"difference", "on_test"})
        record |= {f"chosen_{key}": item for key, item in best.difference.model_dump().items()}
        records.append(record | {f"test_{k}": v for k, v in best.on_test.model_dump().items()})
    notes = [
        "Chosen on the test patients themselves: the largest test values of each kind, as tables "
        "of results are usually read. The luck of these patients is chosen with them, and more of "
        "it from the kind with more networks. Optimism: how much of the difference that is, by "
        "bootstrap; after the arrow the difference without it, with an interval that takes the "
        "choice into account. It is shown beside the fair comparison, not in its place."
    ]
    notes += folded(found, len(best_of), "Every size", "sizes")
    return Table(
        name="network-best",
        caption=f"The best 3D network and start against the best on slices, in "
        f"{comparison.task.label} on the test patients: 3D minus slices, estimate [low, high] "
        f"({comparison.interval_name}).",
        header=header,
        rows=rows,
        records=records,
        text_columns=3,
        notes=notes,
    )
