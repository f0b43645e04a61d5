"""Mean differences over networks from printed cells, with an interval in place of min and max."""

from __future__ import annotations

from dataclasses import dataclass

from voxgraft.comparison.published.cells import SEVEN_3D, Cell, published_cells
from voxgraft.errors import ReportError
from voxgraft.statistics import interval_from_differences

CONTRASTS = {
    "video − none": ((True, False), (False, False)),
    "video − CT": ((True, False), (False, True)),
}
"""Starts of each difference, as (video, ct)."""

WHAT_IS_LEFT_OUT = (
    "t interval over the networks' differences alone: printed cells have no scores, so what all "
    "networks err together on these test patients is not in it; nor is another training, beyond "
    "what the spread of the networks shows"
)


@dataclass(frozen=True)
class PublishedMean:
    """A mean difference between two starts over the seven 3D networks of a printed table.

    Attributes:
        contrast: "video − none" or "video − CT".
        dataset: "RSNA" or "LIDC".
        finetune_pct: Share of the training studies, in percent.
        estimate: Mean difference in AUROC.
        low: Lower end of the t interval over networks.
        high: Upper end.
        smallest: Smallest difference of a network: the lower end of what the paper calls a 95%
            interval.
        largest: Largest difference.
        per_network: Difference of each network.
        note: What the interval leaves out, and which cells in it are doubtful.
    """

    contrast: str
    dataset: str
    finetune_pct: int
    estimate: float
    low: float
    high: float
    smallest: float
    largest: float
    per_network: dict[str, float]
    note: str


def published_means(name: str = "ke2023", *, level: float = 0.95) -> list[PublishedMean]:
    """Return the mean differences over the 3D networks, by contrast, data set and size.

    Args:
        name: Of the table (:func:`published_cells`).
        level: Of the intervals.

    Raises:
        ReportError: If no such table is here, or a network lacks a cell.
    """
    cells = {
        (cell.model, cell.video, cell.ct, cell.dataset, cell.finetune_pct): cell
        for cell in published_cells(name)
    }
    places = dict.fromkeys((cell.dataset, cell.finetune_pct) for cell in cells.values())
    means = []
    for contrast, (start, reference) in CONTRASTS.items():
        for dataset, percent in places:
            pairs = {
                model: tuple(
                    cells.get((model, *arm, dataset, percent)) for arm in (start, reference)
                )
                for model in SEVEN_3D
            }
            if all(None in pair for pair in pairs.values()):
                continue  # the paper has no such cells: CT alone at 1%
            means.append(_mean(contrast, dataset, percent, pairs, level))
    return means


def _mean(
    contrast: str,
    dataset: str,
    percent: int,
    pairs: dict[str, tuple[Cell | None, ...]],
    level: float,
) -> PublishedMean:
    differences: dict[str, float] = {}
    doubtful = []
    for model, (first, second) in pairs.items():
        if first is None or second is None:
            raise ReportError(f"{model} has no cell for {contrast}, {dataset}, {percent}%.")
        differences[model] = first.auc - second.auc
        doubtful += [f"{model}, {cell.start}" for cell in (first, second) if cell.note]
    low, high = interval_from_differences(list(differences.values()), level=level)
    note = WHAT_IS_LEFT_OUT
    if doubtful:
        note += f"; doubtful cells in it: {'; '.join(doubtful)}"
    return PublishedMean(
        contrast,
        dataset,
        percent,
        sum(differences.values()) / len(differences),
        low,
        high,
        min(differences.values()),
        max(differences.values()),
        differences,
        note,
    )
