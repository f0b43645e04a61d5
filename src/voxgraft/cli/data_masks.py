"""``voxgraft data import`` of scans with masks: one verb a layout."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from voxgraft.cli.output import say

if TYPE_CHECKING:
    from voxgraft.datasets import SegmentationOptions, Table

_PLACES: dict[str, tuple[Any, Any]] = {
    "root": (Path, typer.Argument(..., metavar="ROOT", help="The data set's folder.")),
    "out": (Path, typer.Option(..., "--out", help="Folder for table.csv and structures.json.")),
}
"""Where each verb reads and writes: name of the parameter, its type, and what typer says of it."""
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "name_map": (
        Path | None,
        typer.Option(
            None,
            "--name-map",
            help="YAML (name: structure) or CSV (name, structure): what classes are.",
        ),
    ),
    "patient_pattern": (
        str | None,
        typer.Option(
            None,
            help="Regular expression whose first group, in a scan's path below ROOT, is the "
            "patient.",
        ),
    ),
    "patients": (
        Path | None,
        typer.Option(None, "--patients", help="CSV file with case_id and patient_id."),
    ),
    "leave_out_faulty": (
        bool,
        typer.Option(
            False,
            "--leave-out-faulty",
            help="Write the table without what cannot be used; left_out.csv says why.",
        ),
    ),
}
"""What each verb takes besides: the fields of ``SegmentationOptions``."""
_GIVEN = ("root", "out", "options")

VERBS: dict[str, Callable[..., None]] = {}
"""Name of each verb, and its command."""


def _verb(importer: Callable[..., Table]) -> Callable[..., Table]:
    """Make a command of an importer that takes ``root``, ``out``, ``options`` and its own options.

    The command has the importer's own options and, in place of ``options``, those that all share.
    """

    def command(**given: Any) -> None:
        from voxgraft.datasets import SegmentationOptions, structure_names

        shared = {name: given.pop(name) for name in _OPTIONS}
        options = SegmentationOptions(**shared, on_notice=say)
        made = importer(given.pop("root"), given.pop("out"), options, **given)
        typer.echo(str(made.path))
        names = structure_names(made)
        say(f"{len(made)} cases of {len(made.patients)} patients, {len(names)} structure(s)")

    own = inspect.signature(importer).parameters
    found = [_parameter(name, *said) for name, said in _PLACES.items()]
    found += [each for name, each in own.items() if name not in _GIVEN]
    found += [_parameter(name, *said) for name, said in _OPTIONS.items()]
    command.__name__, command.__doc__ = importer.__name__, importer.__doc__
    command.__signature__ = inspect.Signature(found)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in found}
    VERBS[importer.__name__] = command
    return importer


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    place = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, place, default=default, annotation=kind)


@_verb
def abdomenatlas(root: Path, out: Path, options: SegmentationOptions) -> Table:
    """AbdomenAtlas 1.0 or 1.1: BDMAP_xxxxxxxx/ct.nii.gz and segmentations/."""
    from voxgraft.datasets import import_abdomen_atlas

    return import_abdomen_atlas(root, out, options)


@_verb
def totalsegmentator(root: Path, out: Path, options: SegmentationOptions) -> Table:
    """TotalSegmentator's data, v1 or v2: s0000/ct.nii.gz, segmentations/ and meta.csv."""
    from voxgraft.datasets import import_totalsegmentator

    return import_totalsegmentator(root, out, options)


@_verb
def nnunet(
    root: Path,
    out: Path,
    options: SegmentationOptions,
    channel: str | None = typer.Option(None, help="Name or number, if there are several."),
) -> Table:
    """A raw folder of nnU-Net, version 1 or 2: dataset.json, imagesTr/ and labelsTr/."""
    from voxgraft.datasets import import_nnunet

    return import_nnunet(root, out, options, channel=channel)


@_verb
def msd(root: Path, out: Path, options: SegmentationOptions) -> Table:
    """A task of the Medical Segmentation Decathlon, such as Task03_Liver."""
    from voxgraft.datasets import import_msd

    return import_msd(root, out, options)


@_verb
def btcv(root: Path, out: Path, options: SegmentationOptions) -> Table:
    """BTCV's abdomen: img/img0001.nii.gz and label/label0001.nii.gz, 13 organs."""
    from voxgraft.datasets import import_btcv

    return import_btcv(root, out, options)


@_verb
def flare(
    root: Path,
    out: Path,
    options: SegmentationOptions,
    year: int | None = typer.Option(None, min=2021, max=2022, help="2021 or 2022; else by names."),
) -> Table:
    """FLARE 2021 (4 classes) or 2022 (13): FLARE22_Tr_0001_0000.nii.gz and its mask."""
    from voxgraft.datasets import import_flare

    return import_flare(root, out, options, year=year)


@_verb
def masks(
    root: Path,
    out: Path,
    options: SegmentationOptions,
    images: str = typer.Option(..., help="Pattern, as 'scans/{case}.nii.gz'; * is anything."),
    masks: str = typer.Option(
        ..., help="Pattern of label maps ('labels/{case}.nii.gz') or folders ('{case}/masks')."
    ),
    labels: str | None = typer.Option(
        None, help="For label maps: liver=1,spleen=2, or a YAML or JSON file."
    ),
) -> Table:
    """Any scans with label maps, or with folders of binary masks, by two patterns."""
    from voxgraft.datasets import import_masks

    return import_masks(root, out, options, images=images, masks=masks, labels=labels)
