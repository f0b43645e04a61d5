"""A comparison's folder becomes a page, figures and tables."""

from __future__ import annotations

from pathlib import Path

from voxgraft.errors import ReportError
from voxgraft.files import write_text
from voxgraft.reports.page import content, render
from voxgraft.reports.reading import read_comparison
from voxgraft.reports.tables import write_table

FAMILIES = (
    "learning-curve-", "differences-", "roc-", "calibration-", "scatter-", "errors-", "slices-",
    "mean-differences-", "scaling-", "convergence-", "contours-",
)  # fmt: skip
"""First words of the names of this room's figures."""


def write_report(folder: Path) -> Path:
    """Write ``report.html``, ``figures/`` and ``tables/`` from a comparison's folder alone.

    The page is one file that loads nothing else. A run whose predictions are missing or damaged,
    and an example that cannot be read, are named on the page; the rest is drawn without them.

    Args:
        folder: Folder with ``comparison.json``, and the runs and examples that it names.

    Returns:
        The path of the page.

    Raises:
        ReportError: If ``comparison.json`` is missing or damaged, or the folder cannot be written.
    """
    folder = Path(folder)
    comparison = read_comparison(folder)
    figures, tables = folder / "figures", folder / "tables"
    page = folder / "report.html"
    try:
        shown = content(comparison, folder, figures)
        for table in shown["tables"].values():
            write_table(table, tables)
        write_text(page, render(shown))
        _remove_stale(figures, shown)
    except OSError as error:
        raise ReportError(
            f"{folder}: the report cannot be written: {error.strerror or error} "
            f"({error.filename or folder}). Expected a folder that can be written to, with space "
            "left; make it so, then run `voxgraft report` again."
        ) from error
    return page


def _remove_stale(figures: Path, shown: dict[str, object]) -> None:
    """Remove figures that a former report drew and this one did not."""
    drawn: set[str] = set()
    for key in ("curves", "forest", "means", "scaling", "by_steps", "by_hours"):
        drawn |= {panel.name for panel in shown[key]}  # type: ignore[attr-defined]
    drawn |= {panel.name for plot in shown["predictions"] for panel in plot.panels}  # type: ignore[attr-defined]
    drawn |= {case.panel.name for case in shown["examples"]}  # type: ignore[attr-defined]
    drawn |= {one.panel.name for case in shown["contours"] for one in case.pictures}  # type: ignore[attr-defined]
    for path in figures.glob("*.*"):
        ours = path.name.startswith(FAMILIES) and path.suffix in (".png", ".svg")
        if ours and path.stem not in drawn:
            path.unlink()
