"""Settle a plan on its table: split, target, sizes, threads, stored volumes, audited grafts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from voxgraft.comparison.matrix import Study
from voxgraft.comparison.plan import Plan, SplitSettings
from voxgraft.comparison.plan_change import refuse_changed_plan
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.datasets import (
    Table,
    Target,
    check_annotated,
    check_table,
    known_structures,
    nested_subsets,
    read_table,
    split_table,
    write_table,
)
from voxgraft.datasets.mask_classes import STRUCTURES, structure_files
from voxgraft.datasets.target import MASKS
from voxgraft.errors import RecipeError, TableError, raise_faults
from voxgraft.files import read_json, write_json
from voxgraft.metrics import get_metric, primary_metric
from voxgraft.models import build_encoder
from voxgraft.progress import progress_bar
from voxgraft.recipes import read_yaml, write_yaml
from voxgraft.runs import prepare_volumes
from voxgraft.store import Prepared, prepare_masks
from voxgraft.transforms import Preprocessing

SPLITS = ("train", "validation", "test")


def open_study(plan: Plan, folder: Path, jobs: int) -> Study:
    """Check a plan's table, split it if need be, and record the resolved plan in the folder.

    Args:
        plan: The plan.
        folder: The comparison's folder; what stands there must be of the same plan.
        jobs: Runs side by side; settles the threads of each run the first time.

    Raises:
        VoxgraftError: If table and plan do not go together.
    """
    plan_path = folder / "plan.yaml"
    stored = read_yaml(plan_path) if plan_path.is_file() else None
    table = read_table(Path(plan.table))
    target = plan.target or Target.infer(table.frame, plan.target_columns)
    plan = dataclasses.replace(plan, target=target, target_columns=())
    if stored is not None:
        refuse_changed_plan(plan_from_dict(stored, str(plan_path)), plan, folder)
    cases = settled_cases(table, target, plan.split, folder)
    metric = plan.metric or primary_metric(target.kind).name
    get_metric(metric).function(target.kind)
    if target.kind == "segmentation":
        known_structures(cases, target.classes)
        where = f"the training patients of {plan.table}"
        check_annotated(cases.split("train"), target.classes, where=where)
    else:
        plan.task.build(target, metric)
    _check_baselines(cases, plan)
    subsets = {
        seed: nested_subsets(cases, plan.sizes, seed=seed, target=target) for seed in plan.seeds
    }
    sizes = tuple(subsets[plan.seeds[0]])
    wanted = plan.learning_rate.size
    searched = (
        None
        if wanted is None
        else next(iter(nested_subsets(cases, [wanted], seed=plan.seeds[0], target=target)))
    )
    threads = plan.threads or (stored or {}).get("threads") or max(1, (os.cpu_count() or 1) // jobs)
    plan = dataclasses.replace(plan, threads=threads)
    write_yaml(plan_path, plan.to_dict())
    return Study(
        plan=plan,
        target=target,
        metric=metric,
        sizes=sizes,
        table=folder / "cases.csv",
        threads=threads,
        search_size=searched,
    )


def prepare_cases(study: Study, jobs: int) -> Prepared:
    """Preprocess all volumes of a study that are not in the store, with a bar.

    Raises:
        StoreError: If volumes (or masks) cannot be read; all are named.
    """
    plan = study.plan
    return prepare_table(
        study.table, study.target, plan.preprocessing, plan.store, jobs, "preparing volumes"
    )


def prepare_table(
    table: Path,
    target: Target,
    preprocessing: Preprocessing,
    store: str | None,
    jobs: int,
    description: str,
) -> Prepared:
    """Preprocess all volumes of a table that are not in the store, with a bar.

    The masks of a segmentation are brought onto their grids, too, where runs find them.

    Raises:
        StoreError: If volumes or masks cannot be read; all are named.
    """
    with _told(description) as advance:
        prepared = prepare_volumes(table, preprocessing, store, jobs=jobs, on_progress=advance)
    if target.kind == "segmentation":
        with _told(description.replace("volumes", "masks")) as advance:
            prepare_masks(
                read_table(table), target.classes, prepared, jobs=jobs, on_progress=advance
            )
    return prepared


@contextmanager
def _told(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what to tell (done, total), while a bar shows it."""
    with progress_bar(1.0, description) as bar:
        shown = 0.0

        def advance(done: int, total: int) -> None:
            nonlocal shown
            bar.advance(done / total - shown, f"{done}/{total}")
            shown = done / total

        yield advance


def channels_of(prepared: Prepared) -> int:
    """Return the channels of stored volumes.

    Raises:
        TableError: If they differ between cases.
    """
    found = sorted({prepared.shape(case_id)[0] for case_id in prepared.case_ids})
    if len(found) != 1:
        raise TableError(
            f"the volumes have {', '.join(map(str, found))} channels. Expected the same number in "
            "every case; leave the others out of the table."
        )
    return found[0]


def check_sizes(study: Study, prepared: Prepared) -> None:
    """See that every network runs on the smallest volume that it will be given.

    Raises:
        RecipeError: Naming each network that needs larger ones, with what it needs.
    """
    shapes = [prepared.shape(case_id)[1:] for case_id in prepared.case_ids]
    crop = study.plan.crop_size_voxels
    faults = []
    for model in study.plan.all_models:
        windows = study.plan.windows if model.windows is None else model.windows
        least = [
            min([*(shape[axis] for shape in shapes), *([crop[axis]] if crop else [])])
            for axis in range(3)
        ]
        smallest = tuple(least) if windows is None else windows.size_voxels
        if study.segments and crop is not None:
            smallest = crop  # a smaller scan is extended to it
        with torch.device("meta"):
            declared = build_encoder(model.name, **model.options).declaration
        if any(found < need for found, need in zip(smallest, declared.min_size, strict=True)):
            needed = "×".join(map(str, declared.min_size))
            what = "volume (or crop)" if windows is None else "window"
            what = "crop" if study.segments else what
            faults.append(
                f"{model.name} needs at least {needed} voxels; the smallest {what} has "
                f"{'×'.join(map(str, smallest))}"
            )
    if faults:
        raise_faults(
            RecipeError,
            "volumes are too small for a network",
            faults,
            "Give preprocessing.size_voxels (or a finer spacing_mm, or windows) that reaches it, "
            "or leave that network out.",
        )


def settled_cases(table: Table, target: Target, split: SplitSettings, folder: Path) -> Table:
    """Return a table with its split, as it was the first time; it stands in ``cases.csv``.

    Args:
        table: The cases.
        target: What they are split by, where they have no split.
        split: How; a share of 0 needs no cases.
        folder: Where the table and its record are kept.

    Raises:
        TableError: If the table has faults, or a split without cases.
        RecipeError: If the table has changed since the first time.
    """
    path = folder / "cases.csv"
    record_path = folder / "table.json"
    if path.is_file() and record_path.is_file():
        record = read_json(record_path)
        if record["sha256"] != table.sha256:
            raise RecipeError(
                f"{table.path} has changed since {folder} was begun (SHA-256 was "
                f"{record['sha256'][:12]}…, is {table.sha256[:12]}…). "
                "Choose another --out for the changed table, or delete that folder."
            )
        return read_table(path)
    sha256 = table.sha256
    faults = [
        fault
        for fault in check_table(table, target, read_voxels=False)
        if fault.severity == "fault"
    ]
    if faults:
        raise_faults(
            TableError,
            f"{table.path} cannot be compared on",
            [f"{fault.where}: {fault.message}" for fault in faults],
            "Mend the table; `voxgraft data check` names all faults, the voxels' too.",
        )
    if "split" not in table.frame:
        table = split_table(table, fractions=split.fractions, seed=split.seed, target=target)
    needed = [name for name, share in zip(SPLITS, split.fractions, strict=True) if share > 0]
    missing = [name for name in needed if name not in set(table.frame["split"])]
    if missing:
        raise TableError(
            f"{table.path} has no case in the split(s) {', '.join(missing)}. "
            f"Expected {', '.join(needed)}; leave the column out to have patients split for you."
        )
    frame = table.frame.copy()
    frame["image"] = [str(table.image_path(case_id).resolve()) for case_id in frame["case_id"]]
    named = [name for name in ("slice_labels", MASKS) if name in frame]
    for name in named:
        frame[name] = [str((table.root / cell).resolve()) if cell else "" for cell in frame[name]]
    if MASKS in frame:
        files = structure_files(table)
        frame[STRUCTURES] = [str(files[case_id].resolve()) for case_id in frame["case_id"]]
    write_table(dataclasses.replace(table, frame=frame), path)
    write_json(record_path, {"path": str(table.path), "sha256": sha256})
    return read_table(path)


def _check_baselines(table: Table, plan: Plan) -> None:
    faults = []
    for name in plan.baselines:
        if name not in table.frame:
            faults.append(f"baselines: no column {name!r} in the table")
        elif not table.frame[name].map(lambda value: isinstance(value, int | float)).all():
            faults.append(f"baselines: column {name!r} is not numeric")
        elif table.frame[name].isna().any():
            faults.append(f"baselines: column {name!r} has missing values")
    if faults:
        raise_faults(
            RecipeError, f"{plan.table}", faults, "Name numeric columns without missing values."
        )
