"""A page, figures and tables from a comparison's folder alone; imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.reading import parse_comparison, read_comparison
from voxgraft.reports.terminal import comparison_table, plain_text_summary

if TYPE_CHECKING:
    from voxgraft.reports.report import write_report

__all__ = [
    "Comparison",
    "comparison_table",
    "parse_comparison",
    "plain_text_summary",
    "read_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import what draws (matplotlib, pandas) only when a report is written."""
    if name == "write_report":
        from voxgraft.reports.report import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
