"""Settle a plan on its table: split, target, sizes, threads, stored volumes, audited grafts."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import torch

from voxgraft.comparison.matrix import Study
from voxgraft.comparison.plan import Plan, plan_from_dict, refuse_changed_plan
from voxgraft.datasets import (
    Table,
    Target,
    check_table,
    nested_subsets,
    read_table,
    split_table,
    write_table,
)
from voxgraft.errors import RecipeError, TableError, raise_faults
from voxgraft.files import read_json, write_json
from voxgraft.metrics import get_metric, primary_metric
from voxgraft.models import build_encoder
from voxgraft.progress import progress_bar
from voxgraft.recipes import read_yaml, write_yaml
from voxgraft.runs import graft_start, prepare_volumes
from voxgraft.runs.input_contract import given_input, with_findings
from voxgraft.store import Prepared
from voxgraft.types import Json

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
    cases = _cases(table, target, plan, folder)
    metric = plan.metric or primary_metric(target.kind).name
    get_metric(metric).function(target.kind)
    plan.task.build(target, metric)
    _check_baselines(cases, plan)
    subsets = {
        seed: nested_subsets(cases, plan.sizes, seed=seed, target=target) for seed in plan.seeds
    }
    sizes = tuple(subsets[plan.seeds[0]])
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
    )


def prepare_cases(study: Study, jobs: int) -> Prepared:
    """Preprocess all volumes of a study that are not in the store, with a bar.

    Raises:
        StoreError: If volumes cannot be read; all are named.
    """
    with progress_bar(1.0, "preparing volumes") as bar:
        shown = 0.0

        def advance(done: int, total: int) -> None:
            nonlocal shown
            bar.advance(done / total - shown, f"{done}/{total}")
            shown = done / total

        return prepare_volumes(
            study.table,
            study.plan.preprocessing,
            study.plan.store,
            jobs=jobs,
            on_progress=advance,
        )


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
    smallest = tuple(
        min([*(shape[axis] for shape in shapes), *([crop[axis]] if crop else [])])
        for axis in range(3)
    )
    faults = []
    for model in study.plan.all_models:
        with torch.device("meta"):
            declared = build_encoder(model.name, **model.options).declaration
        if any(found < least for found, least in zip(smallest, declared.min_size, strict=True)):
            needed = "×".join(map(str, declared.min_size))
            faults.append(f"{model.name} needs at least {needed} voxels")
    if faults:
        raise_faults(
            RecipeError,
            f"the smallest volume (or crop) is {'×'.join(map(str, smallest))} voxels, too small",
            faults,
            "Give preprocessing.size_voxels (or a finer spacing_mm) that reaches it, or leave that "
            "network out.",
        )


def audit_grafts(study: Study, folder: Path, in_channels: int) -> Json:
    """Graft every start onto every model once, with parity; nothing trains if one fails.

    Returns:
        Per model and start the GraftReport as JSON (None from scratch), also kept in
        ``grafts.json``.

    Raises:
        GraftError: If a tensor is unexplained or a graft differs from its original.
    """
    plan = study.plan
    given = given_input(
        plan.preprocessing, in_channels=in_channels, crop_size_voxels=plan.crop_size_voxels
    )
    path = folder / "grafts.json"
    known: Json = read_json(path) if path.is_file() else {}
    reports: Json = {}
    pairs = study.plan.pairs()
    with progress_bar(len(pairs), "checking grafts") as bar:
        for model, start in pairs:
            key = f"{model.name}__{start.name}"
            if key not in known:
                if start.source is None:
                    build_encoder(model.name, in_channels=in_channels, **model.options)
                grafted = graft_start(model, start, in_channels=in_channels)
                if grafted is not None:
                    grafted = with_findings(grafted, given)
                known[key] = None if grafted is None else grafted.report.to_dict()
                write_json(path, known)
            reports[key] = known[key]
            bar.advance(1, start.name)
    return reports


def _cases(table: Table, target: Target, plan: Plan, folder: Path) -> Table:
    """Return the table with its split, as it was the first time."""
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
        table = split_table(
            table, fractions=plan.split.fractions, seed=plan.split.seed, target=target
        )
    missing = [name for name in SPLITS if name not in set(table.frame["split"])]
    if missing:
        raise TableError(
            f"{table.path} has no case in the split(s) {', '.join(missing)}. "
            f"Expected {', '.join(SPLITS)}; leave the column out to have patients split for you."
        )
    frame = table.frame.copy()
    frame["image"] = [str(table.image_path(case_id).resolve()) for case_id in frame["case_id"]]
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
