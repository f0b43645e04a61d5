"""``voxgraft predict`` with the run of a segmentation: structures of new scans as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxgraft.cli.output import emit_json, emit_table, say
from voxgraft.errors import InferenceError, UsageError

if TYPE_CHECKING:
    from voxgraft.inference import Cleaning

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
    probabilities: bool,
    force: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Segment scans, write them under ``out``, and print the volume of each structure."""
    from voxgraft.inference import WrittenScan, load_segmentation, place_on, segment_to
    from voxgraft.progress import Parts, progress_bar

    if out is None:
        raise UsageError(f"{run} is a segmentation: give --out DIR, where its files go.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; expected a folder, or a new name.")
    trained = load_segmentation(run)
    cleaning = parse_cleaning(clean, trained.recipe.target.classes)
    where = place_on(trained.network, device)
    say("preprocessing, as in training:")
    for line in trained.recipe.preprocessing.describe().splitlines():
        say(f"  {line}")
    say(f"on {where}")
    done: list[WrittenScan] = []
    failed: InferenceError | None = None
    with progress_bar(len(scans), "segmenting") as bar:
        parts = Parts(bar)

        def tell(found: WrittenScan) -> None:
            done.append(found)
            parts.whole(found.scan.name)

        try:
            segment_to(
                out,
                trained,
                scans,
                cleaning=cleaning,
                each=each,
                dicom=dicom,
                probabilities=probabilities,
                force=force,
                on_scan=tell,
                on_windows=lambda path, seen, all_: parts.part(
                    seen / all_, f"{path.name}: window {seen:,} of {all_:,}"
                ),
            )
        except InferenceError as error:  # told after what was written
            failed = error
    for one in done:
        say(f"{one.scan}: {'kept' if one.kept else 'wrote'} {one.folder}")
    if as_json:
        emit_json(
            {
                "run": str(run),
                "preprocessing": trained.recipe.preprocessing.to_dict(),
                "segmentations": [
                    {
                        "scan": str(one.scan),
                        "folder": str(one.folder),
                        "kept": one.kept,
                        "volumes_ml": one.volumes_ml,
                    }
                    for one in done
                ],
            }
        )
    elif done:
        rows = [
            [one.scan, name, f"{ml:.3f}"] for one in done for name, ml in one.volumes_ml.items()
        ]
        emit_table(["scan", "structure", "volume_ml"], rows)
    if failed is not None:
        raise failed
