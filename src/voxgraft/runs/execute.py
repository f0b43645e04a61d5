"""Execute a run folder: from its recipe to its result, resuming what was interrupted."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from voxgraft.feeds import WindowFeed
from voxgraft.files import atomic_path, cache_folder, content_key, write_json
from voxgraft.models import Network, SegmentationNetwork
from voxgraft.recipes import Recipe, read_recipe
from voxgraft.runs.build import build_network, build_segmenter, loaded_decoder
from voxgraft.runs.cases import RunCases, gather_cases
from voxgraft.runs.environment import describe_environment
from voxgraft.runs.folder import RunFolder, locked
from voxgraft.runs.predictions import score_frame, scores_of
from voxgraft.runs.saved import save_network
from voxgraft.runs.segmentation import (
    SCORES_FILE,
    score_segmentations,
    segment_and_score,
    write_rows,
)
from voxgraft.runs.slices import SLICES_FILE, SegmentedSlice, write_slices
from voxgraft.statistics import flag_run
from voxgraft.tasks import Task
from voxgraft.tasks.segmentation import SegmentationTask
from voxgraft.training import (
    FitResult,
    MemoryFormat,
    SlidCases,
    StepReport,
    fit,
    measured_memory_format,
    predict_items,
)
from voxgraft.types import Json

OnSteps = Callable[[int, str], None]
"""Told how many steps were made since the last call, and the current metric in words."""
OnStage = Callable[[str], None]
"""Told in words what is done before and after the steps."""


def execute_run(
    folder: Path,
    *,
    on_steps: OnSteps | None = None,
    on_stage: OnStage | None = None,
    check_parity: bool = True,
) -> Json:
    """Train, score and save what ``folder/recipe.yaml`` describes; return the result.

    A finished run is returned as it stands; an interrupted one goes on from its checkpoint, and
    ends with the same bits on a CPU. ``result.json`` is written last.

    Args:
        folder: A folder with a ``recipe.yaml``.
        on_steps: Told of progress.
        on_stage: Told of what is done before and after the steps.
        check_parity: Whether to compare the grafted network with the original again.

    Raises:
        VoxgraftError: If the data, the start or the recipe are at fault.
    """
    run = RunFolder(folder)
    with locked(folder):
        if run.finished:
            return run.result()
        recipe = read_recipe(run.recipe_path)
        with _threads(recipe.optimization.threads):
            return _execute(run, recipe, on_steps, on_stage or _untold, check_parity)


def _untold(_: str) -> None:
    pass


def _execute(
    run: RunFolder,
    recipe: Recipe,
    on_steps: OnSteps | None,
    on_stage: OnStage,
    check_parity: bool,
) -> Json:
    environment = describe_environment(torch.get_num_threads())
    write_json(run.path / "environment.json", environment)
    cases = gather_cases(recipe, on_stage=on_stage)
    on_stage("making the network")
    task = recipe.build_task()
    build = build_network if recipe.segmentation is None else build_segmenter
    network, grafted = build(
        recipe, task.outputs, in_channels=cases.channels, check_parity=check_parity
    )
    if grafted is not None:
        write_json(run.graft_path, grafted.report.to_dict())
    fitted = _fit(recipe, network, task, cases, run.path, on_steps, loaded_decoder(grafted))
    on_stage(f"scoring {', '.join(recipe.score_splits)}")
    started = time.perf_counter()
    if isinstance(network, SegmentationNetwork) or isinstance(task, SegmentationTask):
        predictions = _segment(recipe, network, cases, run.path, on_stage)
    else:
        predictions, windows = _predict(recipe, network, task, cases)
        if windows is not None:
            with atomic_path(run.path / "windows.parquet") as temporary:
                windows.to_parquet(temporary, index=False)
    with atomic_path(run.path / "predictions.parquet") as temporary:
        predictions.to_parquet(temporary, index=False)
    if recipe.save_weights:
        save_network(run, network, recipe, task, grafted)
    result = _summarize(recipe, cases, fitted, predictions)
    result["predict_seconds"] = round(time.perf_counter() - started, 3)
    write_json(run.result_path, result)
    shutil.rmtree(run.path / "checkpoint", ignore_errors=True)
    return result


def _fit(
    recipe: Recipe,
    network: Network | SegmentationNetwork,
    task: Task | SegmentationTask,
    cases: RunCases,
    folder: Path,
    on_steps: OnSteps | None,
    loaded: frozenset[str],
) -> FitResult:
    layout = recipe.memory_format
    if layout == "auto":
        layout = _measured_layout(recipe, network, cases)

    def tell(report: StepReport) -> None:
        if on_steps is not None:
            value = "" if report.value is None else f"{recipe.metric} {report.value:.3f}"
            on_steps(1, f"{folder.name} {value}")

    return fit(
        network,
        task,
        cases.train_feed,
        cases.validation.feed,
        recipe.own_optimization,
        recipe.start.adapt,
        recipe.augmentation,
        folder=folder,
        seed=recipe.seed,
        loaded=loaded,
        on_step=tell,
        memory_format=layout,
    )


def _measured_layout(
    recipe: Recipe, network: Network | SegmentationNetwork, cases: RunCases
) -> MemoryFormat:
    """Return the faster memory layout, measured once on this machine and remembered."""
    size_voxels = cases.train_feed.image_shape[1:]
    batch_size = min(recipe.own_optimization.batch_size, len(cases.train_feed))
    key = {
        "model": dataclasses.asdict(recipe.model),
        "norm": recipe.start.norm,
        **({} if recipe.segmentation is None else {"outputs": network.outputs}),
        **({} if recipe.segmentation is None else dataclasses.asdict(recipe.segmentation)),
        "size_voxels": size_voxels,
        "batch_size": batch_size,
        "threads": recipe.optimization.threads,
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    }
    record = cache_folder() / "memory_formats.json"
    return measured_memory_format(record, content_key(key), network, size_voxels, batch_size)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Give the CPU's kernels so many threads: predictions are bitwise equal only then."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _predict(
    recipe: Recipe, network: Network, task: Task, cases: RunCases
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the scores of the cases and, where they are pooled of windows', those of each."""
    frames, windows = [], []
    for name in recipe.score_splits:
        split = cases.splits[name]
        if isinstance(split.feed, SlidCases):
            raise AssertionError("these cases are not segmented")
        columns = ["case_id", "patient_id", *(c for c in ("site",) if c in split.frame)]
        frame = split.frame[columns].copy()
        frame["split"] = name
        items = predict_items(network, task, split.feed)
        scores = split.feed.pool(items)
        if isinstance(split.feed, WindowFeed) and len(items) > len(scores):
            windows.append(_window_frame(split.feed, items).assign(split=name))
        for column in range(split.targets.shape[1]):
            frame[f"target_{column}"] = split.targets[:, column]
        for column in range(scores.shape[1]):
            frame[f"score_{column}"] = scores[:, column]
        frames.append(frame)
    joined = pd.concat(frames, ignore_index=True)
    return joined, pd.concat(windows, ignore_index=True) if windows else None


def _segment(
    recipe: Recipe,
    network: Network | SegmentationNetwork,
    cases: RunCases,
    folder: Path,
    on_stage: OnStage,
) -> pd.DataFrame:
    """Segment and score the cases; a row for each of their classes goes into the folder.

    Of test cases a slice of what was found goes there, too.
    """
    settings = recipe.segmentation
    if settings is None or not isinstance(network, SegmentationNetwork):
        raise AssertionError("the recipe is of a segmentation")
    frames, rows, splits = [], [], []
    slices: list[SegmentedSlice] = []
    for name in recipe.score_splits:
        split = cases.splits[name]
        if not isinstance(split.feed, SlidCases):
            raise AssertionError("cases that are scored are seen whole")
        seen = SlidCases(split.feed.cases, settings.sliding(recipe.crops))
        kept = slices if name == "test" else None
        frame, scored = segment_and_score(
            network, cases.table, split.frame, seen, recipe.target.classes, settings, kept,
            on_case=partial(_scored, on_stage, name),
        )  # fmt: skip
        frames.append(frame.assign(split=name))
        rows += scored
        splits += [name] * len(scored)
    write_rows(rows, splits, folder / SCORES_FILE)
    if slices:
        write_slices(slices, folder / SLICES_FILE)
    return pd.concat(frames, ignore_index=True)


def _scored(on_stage: OnStage, split: str, done: int, every: int) -> None:
    on_stage(f"scored {split}: {done} of {every}")


def _window_frame(feed: WindowFeed, scores: Float[np.ndarray, "m k"]) -> pd.DataFrame:
    """Return a row a window: its case, its first slice in the stored volume, its scores."""
    frame = pd.DataFrame(
        {
            "case_id": np.asarray(feed.case_ids, dtype=object)[feed.studies],
            "first_slice": np.concatenate([np.asarray(own) for own in feed.starts]),
        }
    )
    for column in range(scores.shape[1]):
        frame[f"score_{column}"] = scores[:, column]
    return frame


def _summarize(
    recipe: Recipe, cases: RunCases, fitted: FitResult, predictions: pd.DataFrame
) -> Json:
    scored: dict[str, Any] = {}
    counted: dict[str, int] = {}
    flags: list[str] = ["diverged"] if fitted.diverged else []
    for name in recipe.score_splits:
        frame = predictions[predictions["split"] == name]
        counted[name] = len(frame)
        if recipe.segmentation is None:
            flags += flag_run(scores_of(frame))
            levels = score_frame(recipe.target, frame)
        else:
            levels = score_segmentations(frame, recipe.target.classes)
        scored[name] = {
            level: {metric: vars(value) for metric, value in table.items()}
            for level, table in levels.items()
        }
    return {
        "recipe_key": recipe.key(),
        "status": "diverged" if fitted.diverged else "finished",
        "flags": sorted(set(flags)),
        "train_patients": int(cases.train.frame["patient_id"].nunique()),
        "train_cases": len(cases.train.frame),
        "train_items": len(cases.train_feed),
        "scored_cases": counted,
        "notices": [*cases.notices, *fitted.notices],
        "metrics": scored,
        "fit": fitted.to_dict(),
    }
