"""The cases of one run: which patients train, and the stored volumes of every split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from voxgraft.datasets import (
    SliceLabels,
    Table,
    check_windows,
    nested_subsets,
    read_slice_labels,
    read_table,
)
from voxgraft.errors import TableError
from voxgraft.feeds import ClipFeed, Feed, VolumeFeed, WindowFeed, float64_array
from voxgraft.files import cache_folder
from voxgraft.recipes import Recipe
from voxgraft.runs.masked_cases import check_masked, masked_cases
from voxgraft.store import Prepared, VolumeStore
from voxgraft.training import SlidCases
from voxgraft.transforms import Preprocessing


@dataclass(frozen=True)
class SplitCases:
    """Cases of one split, in the table's order."""

    frame: pd.DataFrame
    targets: Float[np.ndarray, "n k"]
    feed: Feed | SlidCases


@dataclass(frozen=True)
class RunCases:
    """The cases that a run trains on and is scored on."""

    table: Table
    splits: dict[str, SplitCases]
    """``train`` holds the chosen training patients only."""
    notices: tuple[str, ...] = ()
    """Sentences that should be read: cases that take no part, structures without a voxel."""

    @property
    def train(self) -> SplitCases:
        """The training cases."""
        return self.splits["train"]

    @property
    def channels(self) -> int:
        """Channels of the images that the network is given."""
        return self.train_feed.image_shape[0]

    @property
    def train_feed(self) -> Feed:
        """What serves the training cases."""
        feed = self.train.feed
        if isinstance(feed, SlidCases):
            raise AssertionError("training cases are served by a feed")
        return feed

    @property
    def validation(self) -> SplitCases:
        """The validation cases: they choose the checkpoint."""
        return self.splits["validation"]


def prepare_volumes(
    table_path: Path,
    preprocessing: Preprocessing,
    store: str | None,
    *,
    jobs: int = 1,
    verify: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Preprocess all volumes of a table once, and return where they lie.

    Args:
        table_path: The table.
        preprocessing: The settings.
        store: Folder of the store; None takes ``store`` in the cache.
        jobs: Volumes made side by side.
        verify: Whether volumes that are stored already are checked now; damage is found in any
            case when they are read.
        on_progress: Told (done, total).

    Raises:
        StoreError: If volumes cannot be read; all are named.
    """
    folder = Path(store) if store is not None else cache_folder() / "store"
    table = read_table(table_path)
    return VolumeStore(folder).prepare(
        table, preprocessing, jobs=jobs, verify=verify, on_progress=on_progress
    )


def gather_cases(recipe: Recipe, *, on_stage: Callable[[str], None] | None = None) -> RunCases:
    """Read the table of a recipe, draw its training patients, and open the stored volumes.

    Args:
        recipe: A checked recipe.
        on_stage: Told in words how many volumes and masks are prepared.

    Raises:
        TableError: If the table has no split, a split that is needed is empty, or no training
            case annotates a class of a segmentation.
        StoreError: If volumes or masks cannot be prepared.
    """
    table = read_table(Path(recipe.table))
    if "split" not in table.frame:
        raise TableError(
            f"{recipe.table} has no column 'split'. "
            f"Make one: `voxgraft data split {recipe.table} --out NEW.csv`."
        )
    frames = _frames(recipe, table)
    if recipe.segmentation is not None:
        check_masked(recipe, table, frames)
    prepared = None
    if recipe.clips is None:
        prepared = prepare_volumes(
            Path(recipe.table),
            recipe.preprocessing,
            recipe.store,
            verify=False,
            on_progress=_telling(on_stage, "scans"),
        )
    if recipe.segmentation is not None and prepared is not None:
        masked = masked_cases(
            recipe, table, frames, prepared, on_progress=_telling(on_stage, "masks")
        )
        whole = {
            name: SplitCases(masked.frames[name], float64_array(feed.targets), feed)
            for name, feed in masked.feeds.items()
        }
        return RunCases(table=table, splits=whole, notices=masked.notices)
    windows = recipe.seen_windows
    labels = None
    if windows is not None:
        check_windows(windows, recipe.target.kind)
        if windows.labels == "slices" and recipe.target.kind in ("binary", "multilabel"):
            labels = read_slice_labels(table, recipe.target.columns)
    splits = {}
    feed: Feed
    for name, frame in frames.items():
        targets = recipe.target.encode(frame)
        training = name == "train"
        if prepared is None:
            feed = _clips(recipe, table, frame, targets, training=training)
        else:
            feed = _feed(recipe, prepared, frame, targets, labels, training=training)
        splits[name] = SplitCases(frame=frame, targets=targets, feed=feed)
    return RunCases(table=table, splits=splits)


def _telling(
    on_stage: Callable[[str], None] | None, what: str
) -> Callable[[int, int], None] | None:
    if on_stage is None:
        return None
    return lambda done, total: on_stage(f"preparing {what}: {done} of {total}")


def _frames(recipe: Recipe, table: Table) -> dict[str, pd.DataFrame]:
    """Return the rows of each split that a run needs; of ``train``, its drawn patients."""
    frames = {}
    for name in dict.fromkeys(("train", "validation", *recipe.score_splits)):
        frame = table.frame[table.frame["split"] == name].reset_index(drop=True)
        if name == "train" and recipe.train_size is not None:
            patients = nested_subsets(
                table, [recipe.train_size], seed=recipe.subset_seed, target=recipe.target
            )[recipe.train_size]
            frame = frame[frame["patient_id"].isin(patients)].reset_index(drop=True)
        if frame.empty:
            raise TableError(f"{recipe.table} has no case in the split {name!r}.")
        frames[name] = frame
    return frames


def _clips(
    recipe: Recipe,
    table: Table,
    frame: pd.DataFrame,
    targets: Float[np.ndarray, "n k"],
    *,
    training: bool,
) -> Feed:
    """Return what serves the videos of a split as clips."""
    assert recipe.clips is not None
    paths = [table.image_path(case_id) for case_id in frame["case_id"]]
    return ClipFeed(paths, targets, recipe.clips, training=training, seed=recipe.seed)


def _feed(
    recipe: Recipe,
    prepared: Prepared,
    frame: pd.DataFrame,
    targets: Float[np.ndarray, "n k"],
    slice_labels: SliceLabels | None,
    *,
    training: bool,
) -> Feed:
    """Return what serves the cases of a split, as the recipe's network sees them."""
    case_ids = list(frame["case_id"])
    windows = recipe.seen_windows
    if windows is None:
        return VolumeFeed(
            prepared,
            case_ids,
            targets,
            crop_size_voxels=recipe.crop_size_voxels if training else None,
            seed=recipe.seed,
        )
    return WindowFeed(
        prepared,
        case_ids,
        targets,
        windows,
        slice_labels=slice_labels,
        training=training,
        seed=recipe.seed,
    )
