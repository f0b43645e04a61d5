"""Training sizes: nested subsets of the training patients, the same for every start."""

from __future__ import annotations

from collections.abc import Sequence

from voxgraft.datasets.strata import Strata, patient_strata, structure_strata
from voxgraft.datasets.table import Table
from voxgraft.datasets.target import Target
from voxgraft.errors import TableError


def nested_subsets(
    table: Table, sizes: Sequence[int | float | str], *, seed: int, target: Target | None
) -> dict[int, tuple[str, ...]]:
    """Draw training patients so that each size contains all smaller ones.

    One order of the training patients is drawn by a hash of seed and patient id, with classes (or
    quantile bins of a regression target) interleaved in proportion; each size is a start of it.
    So each size is stratified, and a patient of each class is in the smallest. A patient of a
    segmentation has the classes that a scan of the patient annotates, whether there or not.

    Args:
        table: Cases with a column ``split``; only ``train`` is drawn from.
        sizes: Numbers of patients (integers), shares of the training patients (0 < f < 1), 1.0 or
            ``"all"``.
        seed: Another seed, another draw.
        target: What to stratify by.

    Returns:
        Number of patients to their ids in the order of the draw, smallest first.

    Raises:
        TableError: If a size is impossible, larger than the training side, or too small to hold
            every class.
    """
    train = table.split("train")
    if target is not None and target.kind == "segmentation":
        strata = structure_strata(train, target, "subset", seed)
    else:
        strata = patient_strata(train.frame, target, "subset", seed)
    available = len(train.patients)
    counts = sorted({_resolved(size, available) for size in sizes})
    if not counts:
        raise TableError("no training sizes are given. Name one or more, or 'all'.")
    order = _interleaved(strata)
    _check_classes(counts, order, strata)
    return {count: tuple(order[:count]) for count in counts}


def _resolved(size: int | float | str, available: int) -> int:
    expected = (
        f"expected a whole number from 1 to {available} (patients), a share between 0 and 1, "
        "or 'all'"
    )
    if size == "all":
        return available
    if isinstance(size, bool) or not isinstance(size, int | float):
        raise TableError(f"training size is {size!r}; {expected}. Correct the list of sizes.")
    if isinstance(size, float) and 0 < size <= 1:
        return max(1, round(size * available))
    if size != size or size < 1 or size in (float("inf"),) or size != int(size):
        raise TableError(f"training size is {size!r}; {expected}. Correct the list of sizes.")
    if size > available:
        raise TableError(
            f"training size is {size}, but the training side has {available} patients; {expected}. "
            "Leave the size out, or move patients to the training side."
        )
    return int(size)


def _interleaved(strata: Strata) -> list[str]:
    """Merge the strata so that each start of the order has them in proportion."""
    placed = []
    for label, patients in strata.members.items():
        for rank, name in enumerate(patients):
            share = (rank + 0.5) / len(patients)
            placed.append((share, label, rank, name))
    order = [name for _, _, _, name in sorted(placed)]
    first: list[str] = []
    covered: set[str] = set()
    for label in sorted(strata.classes, key=lambda name: (strata.classes[name], name)):
        if label not in covered:
            chosen = next(name for name in order if label in strata.labels[name])
            first.append(chosen)
            covered |= strata.labels[chosen]
    return first + [name for name in order if name not in set(first)]


def _check_classes(counts: Sequence[int], order: Sequence[str], strata: Strata) -> None:
    faults = []
    for count in counts:
        held = {label for name in order[:count] for label in strata.labels[name]}
        absent = [repr(label) for label in strata.classes if label not in held]
        if absent:
            faults.append(
                f"a training size of {count} patients cannot hold all {len(strata.classes)} "
                f"classes: {', '.join(absent)} would be absent"
            )
    if faults:
        raise TableError(f"{'; '.join(faults)}. Use a larger size.")
