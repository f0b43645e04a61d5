"""All faults of a table at once, before anything trains on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from voxgraft.datasets.masks_audit import look_at_masks
from voxgraft.datasets.slice_audit import look_at_slice_labels
from voxgraft.datasets.strata import patient_strata
from voxgraft.datasets.table import SPLITS, Table
from voxgraft.datasets.target import Target
from voxgraft.datasets.target_rules import require_columns
from voxgraft.datasets.voxel_audit import Look, look_at_images
from voxgraft.errors import listed

MIN_CLASS_PATIENTS = 3
"""Fewest patients of a class in a table without splits: one for each of three splits."""
FEW_CLASS_PATIENTS = 5
"""Below this many patients of a class in a split, numbers on it say little: a notice."""


@dataclass(frozen=True)
class Fault:
    """Something wrong with a table.

    Attributes:
        kind: What sort, in one word (``"missing_file"``, ``"patient_in_two_splits"``, …).
        where: Case, patient, class or split that it is about.
        message: What was found, what was expected, and what to do.
        severity: ``"fault"`` must be mended; ``"notice"`` should be known.
    """

    kind: str
    where: str
    message: str
    severity: Literal["fault", "notice"] = "fault"

    def __str__(self) -> str:
        return f"{self.severity} [{self.kind}] {self.where}: {self.message}"


def check_table(
    table: Table,
    target: Target | None = None,
    *,
    read_voxels: bool = True,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Fault]:
    """Look for everything that would make a training on this table fail or lie.

    Args:
        table: Cases.
        target: What is to be predicted; without it, targets are not looked at.
        read_voxels: Read each scan whole (finds damage, NaN, doubled scans); otherwise headers.
        jobs: Scans read at the same time; each holds one scan in memory.
        on_progress: Called with (scans looked at, scans in all).

    Returns:
        Faults and notices, grouped by kind; empty for a clean table.

    Raises:
        TableError: If the target's columns are not in the table.
    """
    if target is not None:
        require_columns(table.frame, target.columns)
    found = list(_ids(table)) + list(_splits(table)) + list(_sites(table))
    if target is not None:
        found += list(_values(table, target)) + list(_classes(table, target))
    looks = look_at_images(table, read_voxels=read_voxels, jobs=jobs, on_progress=on_progress)
    found += list(_images(looks)) + list(_channels(looks))
    found += list(_doubles(table, looks, target, "voxels" if read_voxels else "file"))
    depths = {look.case_id: look.depth for look in looks if look.depth}
    found += [
        Fault("slice_labels", where, message, "notice" if is_notice else "fault")
        for where, message, is_notice in look_at_slice_labels(table, target, depths)
    ]
    found += [
        Fault(kind, where, message, "notice" if is_notice else "fault")
        for kind, where, message, is_notice in look_at_masks(
            table, read_voxels=read_voxels, jobs=jobs
        )
    ]
    return sorted(found, key=lambda fault: fault.severity == "notice")


def _ids(table: Table) -> Iterator[Fault]:
    for column in ("case_id", "patient_id", "image"):
        rows = [row for row, value in enumerate(table.frame[column], 2) if not value]
        if rows:
            yield Fault(
                "missing_value",
                column,
                f"empty in {listed([f'row {row}' for row in rows])}; expected a value in each "
                "row. Fill it in.",
            )
    for case_id, count in Counter(table.case_ids).items():
        if count > 1 and case_id:
            yield Fault(
                "duplicate_case_id",
                f"case {case_id}",
                f"stands in {count} rows; expected one. Give each row a case_id of its own, or "
                "remove the copy.",
            )
    folded: dict[str, set[str]] = {}
    for name in table.patients:
        folded.setdefault(name.casefold(), set()).add(name)
    for names in folded.values():
        if len(names) > 1:
            yield Fault(
                "patient_spelling",
                f"patient {listed(sorted(names))}",
                "ids differ in case only. If they are one patient, write one id.",
                "notice",
            )


def _splits(table: Table) -> Iterator[Fault]:
    if "split" not in table.frame:
        return
    for name, group in table.frame.groupby("split", sort=False):
        if name not in SPLITS:
            yield Fault(
                "unknown_split",
                f"split {name!r}",
                f"{len(group)} cases, such as {listed(group['case_id'].tolist(), 3)}, are in "
                f"split {name!r}; expected {', '.join(SPLITS)}. Rename it.",
            )
    for name in SPLITS:
        if name not in table.splits:
            yield Fault("empty_split", f"split {name!r}", "has no cases.", "notice")
    for patient, group in table.frame.groupby("patient_id", sort=False):
        sides = list(dict.fromkeys(group["split"]))
        if len(sides) > 1 and patient:
            shown = ", ".join(
                f"{side!r} ({listed(group.loc[group['split'] == side, 'case_id'].tolist(), 3)})"
                for side in sides
            )
            yield Fault(
                "patient_in_two_splits",
                f"patient {patient!s}",
                f"has cases in {shown}; expected one split per patient. Move them to one side, or "
                "split again with `voxgraft data split`.",
            )


def _sites(table: Table) -> Iterator[Fault]:
    if "site" not in table.frame:
        return
    for patient, group in table.frame.groupby("patient_id", sort=False):
        sites = sorted(set(group["site"]))
        if len(sites) > 1:
            yield Fault(
                "patient_at_two_sites",
                f"patient {patient!s}",
                f"has cases at {listed([repr(site) for site in sites])}: sites do not share "
                "patients in most studies. Check the ids.",
                "notice",
            )


def _values(table: Table, target: Target) -> Iterator[Fault]:
    _, faults = target.encode_known(table.frame)
    for row, message in faults:
        missing = message.endswith("is missing")
        kind = "missing_target" if missing else "unknown_class"
        if target.kind == "regression" and not missing:
            kind = "bad_target"
        yield Fault(
            kind,
            f"case {table.case_ids[row]}",
            f"{message}. Correct the cell, or remove the case.",
        )


def _classes(table: Table, target: Target) -> Iterator[Fault]:
    if target.kind in ("regression", "segmentation"):
        return
    names = target.columns if target.kind == "multilabel" else target.classes
    sides: list[str | None] = [name for name in SPLITS if name in table.splits]
    if "split" not in table.frame:
        sides = [None]
    for side in sides:
        frame = table.frame if side is None else table.split(side).frame
        counts = patient_strata(frame, target, "audit", 0).classes
        smallest = MIN_CLASS_PATIENTS if side is None else 1
        place = "the table" if side is None else f"split {side!r}"
        for name in names:
            count = counts.get(name, 0)
            what = f"class {name!r} in {place}"
            if count < smallest:
                yield Fault(
                    "few_patients",
                    what,
                    f"has {count} patients; expected {smallest} or more. Add patients, merge or "
                    "drop the class, or split again.",
                )
            elif count < FEW_CLASS_PATIENTS:
                yield Fault(
                    "few_patients",
                    what,
                    f"has {count} patients only: measures on it will be very uncertain.",
                    "notice",
                )


def _images(looks: Sequence[Look]) -> Iterator[Fault]:
    """Yield each fault, and each notice once with all its cases."""
    noticed: dict[tuple[str, str], list[str]] = {}
    for look in looks:
        for kind, message, is_notice in look.findings:
            if is_notice:
                noticed.setdefault((kind, message), []).append(look.case_id)
            else:
                yield Fault(kind, f"case {look.case_id}", message)
    for (kind, message), cases in noticed.items():
        yield Fault(kind, f"case{'s' * (len(cases) > 1)} {listed(cases)}", message, "notice")


def _channels(looks: Sequence[Look]) -> Iterator[Fault]:
    counts = Counter(look.channels for look in looks if look.channels)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd = [look.case_id for look in looks if look.channels and look.channels != usual]
        yield Fault(
            "channels",
            f"cases {listed(odd)}",
            f"have another number of channels than the {counts[usual]} others ({usual}); expected "
            "the same in all. Convert them.",
        )


def _doubles(
    table: Table, looks: Sequence[Look], target: Target | None, what: str
) -> Iterator[Fault]:
    groups: dict[str, list[int]] = {}
    for row, look in enumerate(looks):
        if look.sha256:
            groups.setdefault(look.sha256, []).append(row)
    labels = None
    if target is not None and target.kind != "segmentation":
        labels = target.encode_known(table.frame)[0]
    for rows in groups.values():
        if len(rows) < 2:
            continue
        cases = [looks[row].case_id for row in rows]
        patients = list(dict.fromkeys(table.frame["patient_id"].iloc[rows]))
        where = f"cases {listed(cases)}"
        if len(patients) > 1:
            yield Fault(
                "same_voxels_two_patients",
                where,
                f"have the same {what}, but are of patients {listed(patients)}; expected "
                "different scans. Correct the patient ids, or remove the copies.",
            )
        else:
            yield Fault(
                "same_voxels",
                where,
                f"of patient {patients[0]} have the same {what}. Remove the copies, unless they "
                "are meant.",
                "notice",
            )
        if labels is not None and len({tuple(labels[row].tolist()) for row in rows}) > 1:
            yield Fault(
                "same_voxels_two_labels",
                where,
                f"have the same {what} and different targets, which no network can learn. Correct "
                "the targets, or remove the copies.",
            )
