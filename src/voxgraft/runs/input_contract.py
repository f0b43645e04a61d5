"""What a recipe gives to a network, held against what the weights of its start expect."""

from __future__ import annotations

import dataclasses

from voxgraft.grafting import Graft
from voxgraft.transforms import Keep, Preprocessing, Scale, Window, WindowChannels, ZScore
from voxgraft.types import Size3
from voxgraft.weights.contract import Finding, GivenInput, compare_input
from voxgraft.weights.report import GraftReport
from voxgraft.weights.source import Source

NOTE = "input, "
"""How the notes of a graft's report begin that are findings of this audit."""


def given_input(
    preprocessing: Preprocessing, *, in_channels: int, crop_size_voxels: Size3 | None = None
) -> GivenInput:
    """Return what preprocessing makes of scans, as a network gets them.

    Args:
        preprocessing: Of the recipe.
        in_channels: Channels of the volumes.
        crop_size_voxels: Size of the training's crops; None takes whole volumes.
    """
    intensity = preprocessing.intensity
    bounds = None
    if isinstance(intensity, Window | Scale):
        bounds = (float(intensity.low), float(intensity.high))
    return GivenInput(
        channels=in_channels,
        scaling=(
            "z_score"
            if isinstance(intensity, ZScore)
            else "raw"
            if isinstance(intensity, Keep)
            else "unit"
        ),
        window_hu=bounds,
        channel_windows_hu=(intensity.bounds_hu if isinstance(intensity, WindowChannels) else ()),
        spacing_mm=preprocessing.spacing_mm,
        size_voxels=crop_size_voxels or preprocessing.known_size_voxels,
    )


def with_findings(grafted: Graft, given: GivenInput) -> Graft:
    """Return a graft whose report has a note on each point where the input differs."""
    return dataclasses.replace(grafted, report=noted(grafted.report, grafted.source, given))


def noted(report: GraftReport, source: Source, given: GivenInput) -> GraftReport:
    """Return a report with a note on each point where the input is not what a source expects."""
    findings = compare_input(source.input, given, stem=report.stem)
    notes = tuple(note_of(finding) for finding in findings if finding.differs)
    return dataclasses.replace(report, notes=(*report.notes, *notes))


def note_of(finding: Finding) -> str:
    """Return a finding as a note of a graft's report."""
    return f"{NOTE}{finding.what}: {finding.text}"
