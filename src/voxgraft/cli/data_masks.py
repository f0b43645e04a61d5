"""``voxgraft data import`` of scans with masks: one verb a layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from voxgraft.cli.output import say

if TYPE_CHECKING:
    from voxgraft.datasets import SegmentationOptions, Table

_ROOT = typer.Argument(..., metavar="ROOT", help="The data set's folder.")
_OUT = typer.Option(..., "--out", help="Folder for table.csv and structures.json.")
_NAMES = typer.Option(
    None, "--name-map", help="YAML (name: structure) or CSV (name, structure): what classes are."
)
_PATTERN = typer.Option(
    None, help="Regular expression whose first group, in a scan's path below ROOT, is the patient."
)
_PATIENTS = typer.Option(None, "--patients", help="CSV file with case_id and patient_id.")
_LEAVE_OUT = typer.Option(
    False,
    "--leave-out-faulty",
    help="Write the table without what cannot be used; left_out.csv says why.",
)


def abdomenatlas(
    root: Path = _ROOT,
    out: Path = _OUT,
    name_map: Path | None = _NAMES,
    patient_pattern: str | None = _PATTERN,
    patients: Path | None = _PATIENTS,
    leave_out_faulty: bool = _LEAVE_OUT,
) -> None:
    """AbdomenAtlas 1.0 or 1.1: BDMAP_xxxxxxxx/ct.nii.gz and segmentations/."""
    from voxgraft.datasets import import_abdomen_atlas

    options = _options(name_map, patient_pattern, patients, leave_out_faulty)
    _tell(import_abdomen_atlas(root, out, options))


def totalsegmentator(
    root: Path = _ROOT,
    out: Path = _OUT,
    name_map: Path | None = _NAMES,
    patient_pattern: str | None = _PATTERN,
    patients: Path | None = _PATIENTS,
    leave_out_faulty: bool = _LEAVE_OUT,
) -> None:
    """TotalSegmentator's data, v1 or v2: s0000/ct.nii.gz, segmentations/ and meta.csv."""
    from voxgraft.datasets import import_totalsegmentator

    options = _options(name_map, patient_pattern, patients, leave_out_faulty)
    _tell(import_totalsegmentator(root, out, options))


def nnunet(
    root: Path = _ROOT,
    out: Path = _OUT,
    channel: str | None = typer.Option(None, help="Name or number, if there are several."),
    name_map: Path | None = _NAMES,
    patient_pattern: str | None = _PATTERN,
    patients: Path | None = _PATIENTS,
    leave_out_faulty: bool = _LEAVE_OUT,
) -> None:
    """A raw folder of nnU-Net, version 1 or 2: dataset.json, imagesTr/ and labelsTr/."""
    from voxgraft.datasets import import_nnunet

    options = _options(name_map, patient_pattern, patients, leave_out_faulty)
    _tell(import_nnunet(root, out, options, channel=channel))


def msd(
    root: Path = _ROOT,
    out: Path = _OUT,
    name_map: Path | None = _NAMES,
    patient_pattern: str | None = _PATTERN,
    patients: Path | None = _PATIENTS,
    leave_out_faulty: bool = _LEAVE_OUT,
) -> None:
    """A task of the Medical Segmentation Decathlon, such as Task03_Liver."""
    from voxgraft.datasets import import_msd

    options = _options(name_map, patient_pattern, patients, leave_out_faulty)
    _tell(import_msd(root, out, options))


def btcv(
    root: Path = _ROOT,
    out: Path = _OUT,
    name_map: Path | None = _NAMES,
    patient_pattern: str | None = _PATTERN,
    patients: Path | None = _PATIENTS,
    leave_out_faulty: bool = _LEAVE_OUT,
) -> None:
    """BTCV's abdomen: img/img0001.nii.gz and label/label0001.nii.gz, 13 organs."""
    from voxgraft.datasets import import_btcv

    options = _options(name_map, patient_pattern, patients, leave_out_faulty)
    _tell(import_btcv(root, out, options))


def flare(
    root: Path = _ROOT,
    out: Path = _OUT,
    year: int | None = typer.Option(None, min=2021, max=2022, help="2021 or 2022; else by names."),
    name_map: Path | None = _NAMES,
    patient_pattern: str | None = _PATTERN,
    patients: Path | None = _PATIENTS,
    leave_out_faulty: bool = _LEAVE_OUT,
) -> None:
    """FLARE 2021 (4 classes) or 2022 (13): FLARE22_Tr_0001_0000.nii.gz and its mask."""
    from voxgraft.datasets import import_flare

    options = _options(name_map, patient_pattern, patients, leave_out_faulty)
    _tell(import_flare(root, out, options, year=year))


def masks(
    root: Path = _ROOT,
    out: Path = _OUT,
    images: str = typer.Option(..., help="Pattern, as 'scans/{case}.nii.gz'; * is anything."),
    masks: str = typer.Option(
        ..., help="Pattern of label maps ('labels/{case}.nii.gz') or folders ('{case}/masks')."
    ),
    labels: str | None = typer.Option(
        None, help="For label maps: liver=1,spleen=2, or a YAML or JSON file."
    ),
    name_map: Path | None = _NAMES,
    patient_pattern: str | None = _PATTERN,
    patients: Path | None = _PATIENTS,
    leave_out_faulty: bool = _LEAVE_OUT,
) -> None:
    """Any scans with label maps, or with folders of binary masks, by two patterns."""
    from voxgraft.datasets import import_masks

    options = _options(name_map, patient_pattern, patients, leave_out_faulty)
    _tell(import_masks(root, out, options, images=images, masks=masks, labels=labels))


VERBS: dict[str, Callable[..., None]] = {
    "abdomenatlas": abdomenatlas,
    "totalsegmentator": totalsegmentator,
    "nnunet": nnunet,
    "msd": msd,
    "btcv": btcv,
    "flare": flare,
    "masks": masks,
}
"""Name of each verb, and its command."""


def _options(
    name_map: Path | None, patient_pattern: str | None, patients: Path | None, leave_out: bool
) -> SegmentationOptions:
    from voxgraft.datasets import SegmentationOptions

    return SegmentationOptions(
        name_map=name_map,
        patient_pattern=patient_pattern,
        patients=patients,
        leave_out_faulty=leave_out,
        on_notice=say,
    )


def _tell(made: Table) -> None:
    from voxgraft.datasets import structure_names

    typer.echo(str(made.path))
    names = structure_names(made)
    say(f"{len(made.frame)} cases of {len(made.patients)} patients, {len(names)} structure(s)")
