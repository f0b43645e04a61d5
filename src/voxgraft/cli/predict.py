"""``voxgraft predict``: outputs on new scans."""

from __future__ import annotations

from pathlib import Path

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say
from voxgraft.errors import UsageError, VolumeError, raise_faults


def predict(
    run: Path = typer.Argument(..., metavar="RUN", help="The folder of a finished run."),
    scans: list[Path] = typer.Argument(
        ..., metavar="SCAN...", help="Files, DICOM folders or folders of scan files."
    ),
    out: Path | None = typer.Option(
        None,
        "--out",
        help="Also write the table: .csv, .tsv or .json. Of a segmentation: folder for its files.",
    ),
    explain: Path | None = typer.Option(
        None,
        "--explain",
        metavar="DIR",
        help="Also say why: for each scan, heat on its own grid, its slices as a table, a picture.",
    ),
    explain_method: str = typer.Option(
        "grad_cam",
        "--explain-method",
        help="grad_cam; or occlusion, for any network, with 216 predictions a window.",
    ),
    explain_output: str | None = typer.Option(
        None,
        "--explain-output",
        metavar="NAME",
        help="The class or label to explain; by default the likeliest (of two, the second).",
    ),
    clean: list[str] | None = typer.Option(
        None,
        "--clean",
        metavar="NAME=RULES",
        help="Of a segmentation: clean a structure, or all, by largest, fill, 5ml (joined by "
        "commas): its largest component, without holes, no component below 5 ml.",
    ),
    each: bool = typer.Option(
        False, "--each", help="Of a segmentation: also a file for each structure."
    ),
    dicom_seg: bool = typer.Option(
        False, "--dicom-seg", help="Of a segmentation of DICOM folders: also a DICOM SEG."
    ),
    probabilities: bool = typer.Option(
        False,
        "--probabilities",
        help="Of a segmentation: also a file with the probability of each structure.",
    ),
    force: bool = typer.Option(
        False, "--force", help="Of a segmentation: replace what other settings or runs made."
    ),
    device: str | None = typer.Option(
        None,
        "--device",
        help="Of a segmentation: cpu, cuda or cuda:1; by default the graphics card if there is "
        "one.",
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Predict scans of any supported format with the preprocessing that RUN was trained with."""
    from voxgraft.inference.scans import scans_in
    from voxgraft.runs import segments

    scans = scans_in(scans)
    if segments(run):
        from voxgraft.cli.segment import predict_segmentation

        if explain is not None or explain_output is not None:
            raise UsageError(
                f"{run} is a segmentation, which shows where structures are: leave out --explain."
            )
        predict_segmentation(
            run,
            scans,
            out,
            clean=clean or (),
            each=each,
            dicom=dicom_seg,
            probabilities=probabilities,
            force=force,
            device=device,
            as_json=as_json,
        )
        return
    if clean or each or dicom_seg or probabilities or force or device:
        raise UsageError(
            "--clean, --each, --dicom-seg, --probabilities, --force and --device are for "
            f"segmentations, and {run} is none. Leave them out."
        )
    from voxgraft.cli.heat import explain_to, method_named
    from voxgraft.files import atomic_path
    from voxgraft.inference import find_output, load_trained
    from voxgraft.inference import predict as predict_scans
    from voxgraft.progress import progress_bar

    if out is not None and out.suffix not in {".csv", ".tsv", ".json"}:
        raise UsageError(f"--out {out}: expected a name that ends in .csv, .tsv or .json.")
    if explain is None and explain_output is not None:
        raise UsageError("--explain-output needs --explain DIR, where the explanation goes.")
    if explain is not None and explain.exists() and not explain.is_dir():
        raise UsageError(f"--explain {explain} is a file; expected a folder, or a new name.")
    method = method_named(explain_method)
    trained = load_trained(run)
    if explain_output is not None:
        find_output(trained.recipe.target, explain_output)
    say("preprocessing, as in training:")
    for line in trained.recipe.preprocessing.describe().splitlines():
        say(f"  {line}")
    failed: dict[Path, str] = {}
    with progress_bar(len(scans), "predicting") as bar:
        frame = predict_scans(
            trained,
            scans,
            on_scan=lambda path: bar.advance(1, path.name),
            on_fault=failed.__setitem__,
        )
    done = [path for path in scans if path not in failed]
    records = frame.to_dict(orient="records")
    if out is not None:
        with atomic_path(out) as temporary:
            if out.suffix == ".json":
                frame.to_json(temporary, orient="records", indent=2)
            else:
                frame.to_csv(temporary, index=False, sep="\t" if out.suffix == ".tsv" else ",")
        say(f"wrote {out}")
    if explain is not None:
        with progress_bar(len(done), "explaining") as bar:
            names = explain_to(
                explain,
                trained,
                done,
                method=method,
                output=explain_output,
                on_scan=lambda path: bar.advance(1, path.name),
            )
        for path, name in zip(done, names, strict=True):
            say(f"{path}: why is in {explain}/{name}.png, {name}_heat.nii.gz, {name}_slices.csv")
    if as_json:
        emit_json(
            {
                "run": str(run),
                "preprocessing": trained.recipe.preprocessing.to_dict(),
                "predictions": records,
            }
        )
    else:
        rows = [
            [f"{value:.4f}" if isinstance(value, float) else value for value in record.values()]
            for record in records
        ]
        emit_table([str(name) for name in frame.columns], rows)
    if failed:
        raise_faults(
            VolumeError,
            f"{len(failed)} of {len(scans)} scans cannot be predicted",
            list(failed.values()),
            "Mend or leave out those files; the others are above.",
        )
