"""``voxgraft predict`` with the run of a segmentation: structures of new scans as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxgraft.cli.output import emit_json, emit_table, say
from voxgraft.errors import UsageError

if TYPE_CHECKING:
    from voxgraft.inference import Cleaning, SegmentedScan

_EXPECTED = "expected NAME=largest,fill,5ml (one or more of the three), or all=... for all others"


def parse_cleaning(texts: Sequence[str], classes: Sequence[str]) -> dict[str, Cleaning]:
    """Return what ``--clean`` says for each structure.

    Raises:
        UsageError: If a text is not of that form or names no structure.
    """
    from voxgraft.inference import Cleaning

    found: dict[str, Cleaning] = {}
    for text in texts:
        name, _, rules = text.partition("=")
        if name not in (*classes, "all"):
            raise UsageError(
                f"--clean {text}: {name!r} is no structure; the run has {', '.join(classes)}."
            )
        if name in found:
            raise UsageError(f"--clean {text}: {name} is given twice. Join the rules by commas.")
        settings: dict[str, Any] = {}
        for rule in rules.split(","):
            if rule == "largest":
                settings["largest_component"] = True
            elif rule == "fill":
                settings["fill_holes"] = True
            elif rule.endswith("ml"):
                try:
                    settings["minimal_volume_ml"] = float(rule.removesuffix("ml"))
                except ValueError as error:
                    raise UsageError(
                        f"--clean {text}: {rule!r} is no volume; {_EXPECTED}."
                    ) from error
            else:
                raise UsageError(f"--clean {text}: {rule!r} is no rule; {_EXPECTED}.")
        found[name] = Cleaning(**settings)
    if "all" in found:
        others = found.pop("all")
        found = {name: found.get(name, others) for name in classes}
    return found


def predict_segmentation(
    run: Path,
    scans: Sequence[Path],
    out: Path | None,
    *,
    clean: Sequence[str],
    each: bool,
    dicom: bool,
    as_json: bool,
) -> None:
    """Segment scans, write them under ``out``, and print the volume of each structure."""
    from voxgraft.inference import load_segmentation, segment_to
    from voxgraft.progress import progress_bar

    if out is None:
        raise UsageError(f"{run} is a segmentation: give --out DIR, where its files go.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; expected a folder, or a new name.")
    trained = load_segmentation(run)
    cleaning = parse_cleaning(clean, trained.recipe.target.classes)
    say("preprocessing, as in training:")
    for line in trained.recipe.preprocessing.describe().splitlines():
        say(f"  {line}")
    volumes: list[tuple[str, str, float]] = []

    with progress_bar(len(scans), "segmenting") as bar:

        def tell(path: Path, found: SegmentedScan) -> None:
            volumes.extend((str(path), name, ml) for name, ml in found.volumes_ml().items())
            bar.advance(1, path.name)

        folders = segment_to(
            out, trained, scans, cleaning=cleaning, each=each, dicom=dicom, on_scan=tell
        )
    for path, folder in zip(scans, folders, strict=True):
        say(f"{path}: wrote {folder}")
    if as_json:
        emit_json(
            {
                "run": str(run),
                "preprocessing": trained.recipe.preprocessing.to_dict(),
                "segmentations": [
                    {
                        "scan": str(path),
                        "folder": str(folder),
                        "volumes_ml": {name: ml for scan, name, ml in volumes if scan == str(path)},
                    }
                    for path, folder in zip(scans, folders, strict=True)
                ],
            }
        )
    else:
        rows = [[scan, name, f"{ml:.3f}"] for scan, name, ml in volumes]
        emit_table(["scan", "structure", "volume_ml"], rows)
