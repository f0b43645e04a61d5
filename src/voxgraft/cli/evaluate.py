"""``voxgraft evaluate``: numbers on labelled cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say
from voxgraft.errors import UsageError

if TYPE_CHECKING:
    from voxgraft.datasets import Table


def evaluate(
    paths: list[Path] = typer.Argument(
        ...,
        metavar="[RUN] TABLE",
        help="The folder of a finished run (not with --predictions), and labelled cases.",
    ),
    split: str | None = typer.Option(None, help="Only the cases of this split; all by default."),
    out: Path | None = typer.Option(
        None,
        "--out",
        help="Folder for metrics.csv and predictions.csv; of a segmentation for cases.csv, "
        "metrics.csv, summary.json and more, and a killed evaluation goes on there.",
    ),
    predictions: Path | None = typer.Option(
        None,
        "--predictions",
        metavar="DIR",
        help="Score masks that any tool has predicted: a label map named after each case, or a "
        "folder a case with a file a class.",
    ),
    classes: str = typer.Option(
        "",
        "--classes",
        metavar="WHAT",
        help="With --predictions: liver=1,spleen=2 (values of label maps); liver,spleen (a "
        "choice); or a file: dataset.json, structures.json, name map. A dataset.json, labels.json "
        "or structures.json in DIR is read by itself.",
    ),
    tolerance_mm: float | None = typer.Option(
        None,
        "--tolerance-mm",
        help="Of a segmentation: for the surface Dice; the run's own, or 2 mm.",
    ),
    lesions: str | None = typer.Option(
        None,
        "--lesions",
        metavar="CLASS,...",
        help="Of a segmentation: count lesions, the components of these classes, and judge "
        "patients. With --lesion-rules pancreas CLASS=VOXELS sets a tumor's smallest size.",
    ),
    lesion_rules: str = typer.Option(
        "any",
        "--lesion-rules",
        help="any (found by one shared voxel), iou (paired one to one), or pancreas (the SuPreM "
        "study's for pancreatic tumors).",
    ),
    min_iou: float = typer.Option(0.1, "--min-iou", help="With --lesion-rules iou."),
    min_lesion_mm3: float = typer.Option(
        0.0, "--min-lesion-mm3", help="Smaller predicted ones are removed, drawn ones ignored."
    ),
    patient_score: str | None = typer.Option(
        None,
        "--patient-score",
        help="What ranks patients: volume (largest predicted lesion), or of a run probability.",
    ),
    device: str | None = typer.Option(
        None,
        "--device",
        help="Of a segmentation RUN: cpu, cuda or cuda:1; by default the graphics card if there "
        "is one.",
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Score RUN, or --predictions, on the cases of TABLE: all, and by site where it has sites."""
    from voxgraft.datasets import read_table
    from voxgraft.runs import segments

    wanted = 1 if predictions is not None else 2
    if len(paths) != wanted:
        given = " ".join(map(str, paths))
        raise UsageError(
            f"evaluate {given}: expected "
            + (
                "--predictions DIR TABLE, without a run."
                if wanted == 1
                else "RUN TABLE: the folder of a finished run, then its labelled cases."
            )
        )
    run = None if predictions is not None else paths[0]
    segmentation = run is None or segments(run)
    given_options = {
        "--classes": classes != "",
        "--tolerance-mm": tolerance_mm is not None,
        "--lesions": lesions is not None,
        "--lesion-rules": lesion_rules != "any",
        "--min-iou": min_iou != 0.1,
        "--min-lesion-mm3": min_lesion_mm3 != 0.0,
        "--patient-score": patient_score is not None,
        "--device": device is not None,
    }
    odd = [name for name, told in given_options.items() if told]
    if not segmentation and odd:
        raise UsageError(f"{', '.join(odd)}: for segmentations, and {run} is none. Leave them out.")
    if run is not None and classes:
        raise UsageError("--classes is for --predictions; a run knows its classes. Leave it out.")
    if run is None and device is not None:
        raise UsageError("--device is for a RUN; files of predictions need none. Leave it out.")
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; expected a folder, or a new name.")
    cases = read_table(paths[-1])
    if split is not None:
        cases = cases.split(split)
    elif "train" in cases.splits:
        say(f"all splits of {paths[-1]} are scored, training cases too; --split test for one")
    if not segmentation and run is not None:
        _evaluate_scores(run, paths[-1], cases, out, as_json=as_json)
        return
    from voxgraft.cli.evaluate_segmentation import evaluate_masks, lesion_question

    question = lesion_question(
        lesions,
        lesion_rules,
        min_iou=min_iou,
        min_lesion_mm3=min_lesion_mm3,
        patient_score=patient_score,
        of_run=run is not None,
    )
    evaluate_masks(
        run,
        predictions,
        cases,
        classes=classes,
        tolerance_mm=tolerance_mm,
        question=question,
        device=device,
        out=out,
        as_json=as_json,
    )


def _evaluate_scores(
    run: Path, table: Path, cases: Table, out: Path | None, *, as_json: bool
) -> None:
    """Evaluate a run that scores cases as a whole."""
    from voxgraft.files import atomic_path
    from voxgraft.inference import evaluate as evaluate_run
    from voxgraft.inference import load_trained
    from voxgraft.progress import progress_bar

    trained = load_trained(run)
    with progress_bar(len(cases.frame), "evaluating") as bar:
        result = evaluate_run(trained, cases, on_case=lambda case: bar.advance(1, case))
    if out is not None:
        for name, frame in [("metrics", result.metrics), ("predictions", result.predictions)]:
            with atomic_path(out / f"{name}.csv") as temporary:
                frame.to_csv(temporary, index=False)
        say(f"wrote {out}/metrics.csv and predictions.csv")
    records = result.metrics.to_dict(orient="records")
    if as_json:
        emit_json({"run": str(run), "table": str(table), "metrics": records})
        return
    rows = [
        [f"{value:.4f}" if isinstance(value, float) else value for value in record.values()]
        for record in records
    ]
    emit_table([str(name) for name in result.metrics.columns], rows)
