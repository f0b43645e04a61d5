"""Trainings that starts go through before the comparison: a chain of runs, each a source again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from voxgraft.comparison.matrix import Study, pair_id
from voxgraft.comparison.plan import Plan, Size, Stage
from voxgraft.comparison.study import channels_of, prepare_table, settled_cases
from voxgraft.datasets import Table, Target, nested_subsets, read_table
from voxgraft.errors import RecipeError, RunError, raise_faults
from voxgraft.files import read_json, write_json
from voxgraft.metrics import get_metric, primary_metric
from voxgraft.recipes import Recipe
from voxgraft.runs import RunFolder
from voxgraft.training import FitResult, pick_learning_rate
from voxgraft.training.optimization import Optimization
from voxgraft.transforms import Preprocessing

FOLDER = "pretraining"
"""Where in a comparison's folder the stages and their runs lie."""

StageRuns = dict[str, list[tuple[Path, Recipe]]]
"""``model__start`` to the runs of its stage, one a learning rate."""


def stage_runs(study: Study, folder: Path, jobs: int, channels: int) -> StageRuns:
    """Settle the tables of the stages, prepare their volumes, and list their runs.

    Args:
        study: The study; its test patients must be in no stage.
        folder: The comparison's folder.
        jobs: Volumes made side by side.
        channels: Of the comparison's volumes, which those of a stage have too.

    Raises:
        TableError: If the table of a stage has faults.
        RecipeError: If a stage has patients or scans of the comparison's test split, or volumes
            with other channels.
        StoreError: If volumes cannot be read.
    """
    plan = study.plan
    recipes: dict[str, Recipe] = {}
    resolved: dict[str, dict[Size, int]] = {}
    for name in dict.fromkeys(plan.chained.values()):
        stage = plan.stages[name]
        place = folder / FOLDER / name
        place.mkdir(parents=True, exist_ok=True)
        table = read_table(Path(stage.table))
        target = stage.target or Target.infer(table.frame, stage.target_columns)
        cases = settled_cases(table, target, stage.split, place)
        _refuse_test_patients(study, name, cases)
        resolved[name] = _resolved_sizes(plan, name, cases, target)
        preprocessing = stage.preprocessing or plan.preprocessing
        prepared = prepare_table(
            place / "cases.csv",
            target,
            preprocessing,
            plan.store,
            jobs,
            f"preparing volumes of {name}",
        )
        found = channels_of(prepared)
        if found != channels:
            raise RecipeError(
                f"pretraining.{name}: its volumes have {found} channels, those of the comparison "
                f"{channels}. Expected the same, so that the stem carries over; give both the same "
                "intensity in preprocessing."
            )
        recipes[name] = _recipe(study, stage, place / "cases.csv", target, preprocessing)
    runs: StageRuns = {}
    for model, start in plan.pairs():
        if start.name not in plan.chained:
            continue
        name = plan.chained[start.name]
        stage, recipe = plan.stages[name], recipes[name]
        size = plan.chained_sizes.get(start.name)
        recipe = dataclasses.replace(
            recipe,
            model=model,
            train_size=None if size is None else resolved[name][size],
            start=dataclasses.replace(start, adapt=type(start.adapt)()),
        )
        grid = stage.grid or plan.learning_rate.grid
        key = pair_id(model.name, start.name)
        runs[key] = [
            (folder / FOLDER / name / f"{key}__lr{rate:g}", _at_rate(recipe, rate)) for rate in grid
        ]
    return runs


def with_stages(study: Study, folder: Path, runs: StageRuns) -> Study:
    """Return the study with each chained start at the run of its stage that validated best.

    Raises:
        RunError: If a stage has no usable run for a start; all are named.
    """
    made: dict[str, str] = {}
    faults = []
    for key, wanted in runs.items():
        fits: dict[float, FitResult] = {}
        paths = {recipe.optimization.learning_rate: path for path, recipe in wanted}
        for rate, path in paths.items():
            run = RunFolder(path)
            if run.finished:
                fits[rate] = FitResult(**run.result()["fit"])
        usable = {rate: fit for rate, fit in fits.items() if not fit.diverged}
        if not usable:
            failure = wanted[0][0] / "failure.json"
            reason = read_json(failure)["error"] if failure.is_file() else "every run diverged"
            faults.append(f"{key}: {reason}")
            continue
        higher = get_metric(wanted[0][1].metric).higher_is_better
        chosen = next(iter(usable))
        if len(usable) > 1:
            chosen = pick_learning_rate(usable, higher_is_better=higher).chosen
        made[key] = str(paths[chosen])
    if faults:
        raise_faults(
            RunError,
            "starts did not come through their pretraining",
            faults,
            "Mend what the runs under pretraining/ say, or leave these starts out; then start the "
            "same command again.",
        )
    write_json(folder / FOLDER / "chosen.json", made)
    return dataclasses.replace(study, made=made)


def _at_rate(recipe: Recipe, rate: float) -> Recipe:
    return dataclasses.replace(recipe, optimization=recipe.optimization.replace(learning_rate=rate))


def _recipe(
    study: Study, stage: Stage, table: Path, target: Target, preprocessing: Preprocessing
) -> Recipe:
    """Return the recipe of a stage, but for network, start and learning rate."""
    plan = study.plan
    optimization: Optimization = stage.optimization or plan.optimization
    segments = target.kind == "segmentation"
    return Recipe(
        table=str(table),
        target=target,
        metric=stage.metric or primary_metric(target.kind).name,
        preprocessing=preprocessing,
        augmentation=stage.augmentation or plan.augmentation,
        model=plan.all_models[0],
        start=plan.starts[0],
        optimization=optimization.replace(threads=study.threads),
        task=stage.task or plan.task,
        seed=stage.seed,
        subset_seed=stage.seed,
        score_splits=("validation",),
        crop_size_voxels=stage.crop_size_voxels or plan.crop_size_voxels,
        windows=None if segments else stage.windows or plan.windows,
        segmentation=(stage.segmentation or plan.segmentation) if segments else None,
        store=plan.store,
    )


def _resolved_sizes(plan: Plan, name: str, cases: Table, target: Target) -> dict[Size, int]:
    """Return the training patients of each size of a stage that a start has.

    Raises:
        TableError: If a size is impossible, or too small to hold every class.
        RecipeError: If two sizes are as many patients.
    """
    through = [start for start, stage in plan.chained.items() if stage == name]
    sizes = list(dict.fromkeys(plan.chained_sizes[s] for s in through if s in plan.chained_sizes))
    seed = plan.stages[name].seed
    found: dict[Size, int] = {}
    for size in sizes:
        count = next(iter(nested_subsets(cases, [size], seed=seed, target=target)))
        alike = [repr(other) for other, known in found.items() if known == count]
        if alike:
            raise RecipeError(
                f"pretraining.{name}: the sizes {alike[0]} and {size!r} are both {count} patients. "
                "Leave one out."
            )
        found[size] = count
    return found


def _refuse_test_patients(study: Study, name: str, cases: Table) -> None:
    """See that no patient and no scan of a stage is tested on."""
    test = read_table(study.table).split("test")
    patients = sorted(set(cases.frame["patient_id"]) & set(test.frame["patient_id"]))
    tested = {str(test.image_path(case).resolve()) for case in test.frame["case_id"]}
    own = {str(cases.image_path(case).resolve()) for case in cases.frame["case_id"]}
    faults = [f"patient {patient}" for patient in patients]
    faults += [f"scan {path}" for path in sorted(tested & own)]
    if faults:
        raise_faults(
            RecipeError,
            f"pretraining.{name}: {cases.path} holds what the comparison tests on",
            faults,
            "A start that has seen the test patients proves nothing. Take them out of the stage's "
            "table; or, if patients of two data sets only share names, rename those of one.",
        )
