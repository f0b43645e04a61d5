"""The verbs of the command line as Python functions: what ``import voxgraft as vg`` offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import pandas as pd

from voxgraft.comparison import Plan, ke2023, plan_from_dict, read_plan, run_comparison
from voxgraft.datasets import (
    Table,
    Target,
    check_table,
    import_folder_per_class,
    import_lidc,
    import_lidc_studies,
    import_medmnist,
    import_rsna_pe,
    import_studies,
    import_videos,
    read_table,
    split_table,
    write_table,
)
from voxgraft.errors import UsageError
from voxgraft.grafting import (
    check_statistics,
    from_pretrained,
    graft,
    graft_by_rules,
    propose,
    save_graft,
)
from voxgraft.grafting import inspect_file as inspect
from voxgraft.inference import Evaluation, ExplainedScan, explain_scan, load_trained
from voxgraft.inference import evaluate as _evaluate
from voxgraft.inference import predict as _predict
from voxgraft.inference.scoring import (
    TOLERANCE_MM,
    LesionQuestion,
    SegmentationEvaluation,
    evaluate_segmentation,
)
from voxgraft.inference.scoring import evaluate_predictions as _evaluate_predictions
from voxgraft.models import MODELS, build_encoder
from voxgraft.recipes import (
    Recipe,
    read_recipe,
    recipe_from_dict,
    table_recipe,
    video_recipe,
)
from voxgraft.reports import write_report
from voxgraft.runs import (
    TrainedRun,
    TrainedSegmentation,
    begin_run,
    execute_run,
    load_segmentation,
    push,
    segments,
)
from voxgraft.transforms import Augmentation, Preprocessing
from voxgraft.types import Json
from voxgraft.volumes import read_volume, write_volume
from voxgraft.weights import SOURCES

__all__ = [
    "MODELS",
    "SOURCES",
    "Augmentation",
    "Plan",
    "Preprocessing",
    "Recipe",
    "Table",
    "Target",
    "build_encoder",
    "check_statistics",
    "check_table",
    "compare",
    "evaluate",
    "evaluate_predictions",
    "explain",
    "finetune",
    "from_pretrained",
    "graft",
    "graft_by_rules",
    "import_folder_per_class",
    "import_lidc",
    "import_lidc_studies",
    "import_medmnist",
    "import_rsna_pe",
    "import_studies",
    "import_videos",
    "inspect",
    "ke2023",
    "load_run",
    "predict",
    "pretrain",
    "propose",
    "push",
    "read_table",
    "read_volume",
    "report",
    "save_graft",
    "split_table",
    "table_recipe",
    "video_recipe",
    "write_table",
    "write_volume",
]


def compare(plan: Plan | Mapping[str, Any] | str | Path, out: str | Path, *, jobs: int = 1) -> Json:
    """Compare starts; ``voxgraft compare``.

    Args:
        plan: A plan, its plain data, or the path of its YAML file.
        out: Folder of the comparison. What is finished there is not repeated.
        jobs: Runs side by side, each in a process of its own.

    Returns:
        The content of ``comparison.json``; ``["answer"]`` is the sentence. The page is
        ``out/report.html``.

    Raises:
        VoxgraftError: If data, starts or plan are at fault.
    """
    if isinstance(plan, str | Path):
        command, chosen = f"voxgraft compare {plan}", read_plan(Path(plan))
    elif isinstance(plan, Plan):
        command, chosen = "voxgraft compare plan.yaml", plan
    else:
        command = "voxgraft compare plan.yaml"
        chosen = plan_from_dict(dict(plan), "the plan")
    comparison = run_comparison(chosen, Path(out), jobs=jobs, command=command)
    write_report(Path(out))
    return comparison


def finetune(recipe: Recipe | Mapping[str, Any] | str | Path, out: str | Path) -> Json:
    """Train one network; ``voxgraft finetune``.

    Args:
        recipe: A recipe, its plain data, or the path of its YAML file.
        out: Folder of the run. An interrupted run goes on; a finished one is returned.

    Returns:
        The content of ``result.json``.

    Raises:
        VoxgraftError: If data, start or recipe are at fault.
    """
    if isinstance(recipe, str | Path):
        chosen = read_recipe(Path(recipe))
    elif isinstance(recipe, Recipe):
        chosen = recipe
    else:
        chosen = recipe_from_dict(dict(recipe), "the recipe")
    begin_run(Path(out), chosen)
    return execute_run(Path(out))


def pretrain(recipe: Recipe | Mapping[str, Any] | str | Path, out: str | Path) -> Json:
    """Train a network whose folder is then a source; ``voxgraft pretrain``.

    :func:`video_recipe` and :func:`table_recipe` make recipes from a few words. Arguments, result
    and errors are those of :func:`finetune`.
    """
    return finetune(recipe, out)


def load_run(folder: str | Path) -> TrainedRun:
    """Return a finished run with its network.

    Raises:
        RunError: If the run is not finished or damaged.
    """
    return load_trained(Path(folder))


def predict(run: TrainedRun | str | Path, scans: Sequence[str | Path]) -> pd.DataFrame:
    """Predict scans; ``voxgraft predict``. One row a scan.

    Raises:
        VolumeError: If scans cannot be read; all are named.
    """
    trained = run if isinstance(run, TrainedRun) else load_run(run)
    return _predict(trained, [Path(scan) for scan in scans])


def explain(
    run: TrainedRun | str | Path,
    scan: str | Path,
    *,
    output: str | None = None,
    method: Literal["grad_cam", "occlusion"] = "grad_cam",
) -> ExplainedScan:
    """Say why a run scores a scan as it does; ``voxgraft predict --explain``.

    Args:
        run: A trained run, or its folder.
        scan: A file or DICOM folder.
        output: The class or label to explain; None takes the likeliest (of two, the second).
        method: Grad-CAM, or occlusion, which goes for any network and takes longer.

    Returns:
        ``.heat`` on the scan's own grid, ``.slices`` (a table), ``.explanation``.

    Raises:
        VolumeError: If the scan cannot be read.
        InferenceError: If the network has no map for Grad-CAM, or no such output.
    """
    trained = run if isinstance(run, TrainedRun) else load_run(run)
    return explain_scan(trained, Path(scan), output=output, method=method)


@overload
def evaluate(
    run: TrainedSegmentation,
    table: Table | str | Path,
    *,
    tolerance_mm: float | None = None,
    lesions: LesionQuestion | Sequence[str] = (),
    out: str | Path | None = None,
) -> SegmentationEvaluation: ...


@overload
def evaluate(run: TrainedRun, table: Table | str | Path) -> Evaluation: ...


@overload
def evaluate(
    run: str | Path,
    table: Table | str | Path,
    *,
    tolerance_mm: float | None = None,
    lesions: LesionQuestion | Sequence[str] = (),
    out: str | Path | None = None,
) -> Evaluation | SegmentationEvaluation: ...


def evaluate(
    run: TrainedRun | TrainedSegmentation | str | Path,
    table: Table | str | Path,
    *,
    tolerance_mm: float | None = None,
    lesions: LesionQuestion | Sequence[str] = (),
    out: str | Path | None = None,
) -> Evaluation | SegmentationEvaluation:
    """Score a run on labelled cases, as a whole and by site; ``voxgraft evaluate``.

    Args:
        run: A run, or its folder.
        table: Cases with the run's targets; of a segmentation, with masks.
        tolerance_mm: Of a segmentation, for the surface Dice; the recipe's if None.
        lesions: Of a segmentation: classes whose components are lesions, or a question with rules.
        out: Of a segmentation: folder that keeps scored cases, so that a killed evaluation goes
            on.

    Returns:
        ``.metrics`` and ``.predictions``; of a segmentation ``.metrics``, ``.cases``,
        ``.lesion_metrics`` and more, and ``.write(folder)``.

    Raises:
        TableError: If targets or scans are at fault; all faults are named.
        InferenceError: If a segmentation's cases cannot be scored.
        UsageError: If options of segmentations are given for another run.
    """
    cases = table if isinstance(table, Table) else read_table(Path(table))
    trained: TrainedRun | TrainedSegmentation
    if isinstance(run, str | Path):
        trained = load_segmentation(Path(run)) if segments(Path(run)) else load_run(run)
    else:
        trained = run
    if isinstance(trained, TrainedSegmentation):
        return evaluate_segmentation(
            trained,
            cases,
            tolerance_mm=tolerance_mm,
            lesions=_question(lesions),
            out=None if out is None else Path(out),
        )
    if tolerance_mm is not None or out is not None or _question(lesions) is not None:
        raise UsageError(
            f"tolerance_mm, lesions and out are for segmentations, and {trained.folder} is none. "
            "Leave them out."
        )
    return _evaluate(trained, cases)


def evaluate_predictions(
    folder: str | Path,
    table: Table | str | Path,
    *,
    classes: str = "",
    tolerance_mm: float = TOLERANCE_MM,
    lesions: LesionQuestion | Sequence[str] = (),
    out: str | Path | None = None,
) -> SegmentationEvaluation:
    """Score masks that any tool has predicted; ``voxgraft evaluate --predictions``.

    Args:
        folder: A label map named after each case, or a folder a case with a file a class.
        table: Scans with masks.
        classes: What the predictions call their classes, as for ``--classes``.
        tolerance_mm: Of the surface Dice.
        lesions: As for :func:`evaluate`.
        out: Folder that keeps scored cases.

    Raises:
        TableError: If masks are at fault.
        InferenceError: If predictions are missing or cannot be scored; all are named.
    """
    return _evaluate_predictions(
        Path(folder),
        table if isinstance(table, Table) else read_table(Path(table)),
        classes=classes,
        tolerance_mm=tolerance_mm,
        lesions=_question(lesions),
        out=None if out is None else Path(out),
    )


def _question(lesions: LesionQuestion | Sequence[str]) -> LesionQuestion | None:
    if isinstance(lesions, LesionQuestion):
        return lesions
    return LesionQuestion(tuple(lesions)) if lesions else None


def report(folder: str | Path) -> Path:
    """Write a comparison's page again, and return its path; ``voxgraft report``.

    Raises:
        ReportError: If the folder holds no comparison.
    """
    return write_report(Path(folder))
