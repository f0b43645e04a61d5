"""The cases of a segmentation: crops to train on, whole ones to be scored, and what they lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from voxgraft.datasets import Table, cases_without, check_annotated
from voxgraft.errors import TableError
from voxgraft.feeds import CropFeed, Feed, WholeCases
from voxgraft.recipes import Recipe, SegmentationSettings
from voxgraft.store import Prepared, PreparedMasks, prepare_masks
from voxgraft.training import SlidCases

_SHOWN = 5


@dataclass(frozen=True)
class MaskedCases:
    """Rows and feeds of each split, and sentences that should be read."""

    frames: dict[str, pd.DataFrame]
    feeds: dict[str, Feed | SlidCases]
    notices: tuple[str, ...]


def check_masked(recipe: Recipe, table: Table, frames: Mapping[str, pd.DataFrame]) -> None:
    """Refuse what cannot be learnt, before volumes are prepared.

    Args:
        recipe: Of a segmentation.
        table: Its table.
        frames: Rows of each split; of ``train`` those that are trained on.

    Raises:
        TableError: If the table has no masks, or no training case annotates one of the classes.
    """
    if "masks" not in table.frame:
        raise TableError(
            f"{recipe.table} has no column 'masks', and the target is a segmentation. Import scans "
            "with masks (`voxgraft data import masks`, nnunet, totalsegmentator, ...), or add the "
            "column and structures.json as docs/data.md says."
        )
    where = "split 'train'"
    if recipe.train_size is not None:
        where = f"{recipe.train_size} training patients, subset seed {recipe.subset_seed}"
    check_annotated(_part(table, frames["train"]), recipe.target.classes, where=where)


def masked_cases(
    recipe: Recipe,
    table: Table,
    frames: Mapping[str, pd.DataFrame],
    prepared: Prepared,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> MaskedCases:
    """Return crops of the training cases, and the others whole.

    Training cases that annotate none of the classes take no part.

    Args:
        recipe: Of a segmentation, checked by :func:`check_masked`.
        table: Its table.
        frames: Rows of each split.
        prepared: The stored volumes.
        on_progress: Told (done, total) as masks are prepared.

    Raises:
        StoreError: If masks cannot be prepared.
    """
    settings = recipe.segmentation or SegmentationSettings()
    classes = recipe.target.classes
    masks = prepare_masks(table, classes, prepared, verify=False, on_progress=on_progress)
    train = frames["train"]
    useless = cases_without(_part(table, train), classes)
    left = train[~train["case_id"].isin(useless)].reset_index(drop=True)
    notices = []
    if useless:
        notices.append(
            f"{len(useless)} of {len(train)} training cases annotate none of the classes and take "
            f"no part: {_shown(useless)}"
        )
    notices += absent_structures(masks, list(left["case_id"]))
    chosen, feeds = dict(frames) | {"train": left}, dict[str, Feed | SlidCases]()
    for name, frame in chosen.items():
        case_ids = list(frame["case_id"])
        if name == "train":
            feeds[name] = CropFeed(
                prepared,
                masks,
                case_ids,
                recipe.crops,
                foreground=settings.foreground,
                augmentation=recipe.augmentation,
                seed=recipe.seed,
            )
        else:
            sliding = settings.sliding(recipe.crops, validation=name == "validation")
            feeds[name] = SlidCases(WholeCases(prepared, masks, case_ids), sliding)
    return MaskedCases(chosen, feeds, tuple(notices))


def absent_structures(masks: PreparedMasks, case_ids: Sequence[str]) -> list[str]:
    """Say which classes have no voxel in any of some cases, on the grid of the store.

    Their masks are empty, or smaller than a voxel of that grid: of such a class only that it is
    absent can be learnt. Cases are looked at until every class was seen.

    Raises:
        StoreError: If a file is gone or damaged.
    """
    known = masks.known_of(tuple(case_ids))
    unseen = known.any(axis=0)
    for case_id, own in zip(case_ids, known, strict=True):
        if not unseen.any():
            break
        unseen &= ~(own & (masks.counts(case_id) > 0))
    return [
        f"{masks.classes[place]!r} is annotated by {int(known[:, place].sum())} of "
        f"{len(case_ids)} training cases, and none has a voxel of it on the grid that is trained "
        "on: its masks are empty, or smaller than a voxel at preprocessing.spacing_mm. Training "
        "goes on, and can only learn that it is absent"
        for place in np.flatnonzero(unseen)
    ]


def _part(table: Table, frame: pd.DataFrame) -> Table:
    return table.where(table.frame["case_id"].isin(set(frame["case_id"])))


def _shown(case_ids: Sequence[str]) -> str:
    more = len(case_ids) - _SHOWN
    return ", ".join(case_ids[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
