"""What ``comparison.json`` says of the test cases whose contours are drawn."""

# ruff: noqa: RUF012 (pydantic copies the defaults)

from __future__ import annotations

from voxgraft.reports.parts import Count, Number, Part, Seed, Size


class ContourRun(Part):
    """A run whose segmentations are drawn."""

    start: str
    model: str = ""
    run: str = ""
    seed: Seed | None = None


class Found(Part):
    """The Dice of one drawn case with one run."""

    case_id: str
    start: str
    model: str = ""
    dice: Number | None = None
    structures: list[Number | None] = []
    """In the order of the case's structures."""


class ContourCase(Part):
    """A test case, with a slice of it in an ``.npz`` file."""

    case_id: str
    patient_id: str = ""
    why: str = ""
    dice: Number | None = None
    file: str = ""
    slice: Count | None = None
    slices: Count | None = None
    window: str = ""
    structures: list[str] = []
    more_structures: Count = 0
    reason: str = ""


class Contours(Part):
    """Test cases of a segmentation at its largest training size, drawn."""

    train_size: Size | None = None
    n_cases: Count | None = None
    runs: list[ContourRun] = []
    cases: list[ContourCase] = []
    found: list[Found] = []
    faults: list[str] = []
