"""What a ``comparison.json`` may hold of trainings: courses, hours, what came before them."""

# ruff: noqa: RUF012 (pydantic copies the defaults)

from __future__ import annotations

from voxgraft.reports.parts import Count, Estimate, Number, Part, Size


class ScalingPoint(Estimate):
    """A start on the test cases, with the patients and cases that it was pre-trained on."""

    start: str
    patients: Count | None = None
    cases: Count | None = None
    n_seeds: Count | None = None
    flagged: list[str] = []


class Gain(Estimate):
    """Most pre-training cases minus fewest, corrected by Holm."""

    p_value: Number | None = None
    p_holm: Number | None = None
    shown: bool = False


class Family(Part):
    """Starts that differ only in how many patients they were pre-trained on."""

    family: str
    stage: str = ""
    model: str = ""
    train_size: Size
    points: list[ScalingPoint] = []
    reference: ScalingPoint | None = None
    gain: Gain | None = None


class Scaling(Part):
    """The test metric against the number of pre-training cases."""

    metric: str = ""
    families: list[Family] = []


class CoursePoint(Part):
    """The validation metric at a step: mean over runs, smallest and largest."""

    step: Count
    hours: Number | None = None
    mean: Number
    low: Number | None = None
    high: Number | None = None
    n: Count | None = None


class Course(Part):
    """The trainings of one start at one size."""

    start: str
    model: str = ""
    train_size: Size
    n_seeds: Count | None = None
    points: list[CoursePoint] = []


class Reached(Part):
    """When a start reaches the validation score that the reference ended with."""

    start: str
    model: str = ""
    train_size: Size
    against: str = ""
    goal: Number | None = None
    runs: Count | None = None
    reached: Count | None = None
    steps: Number | None = None
    fewest: Count | None = None
    most: Count | None = None
    hours: Number | None = None
    interval: bool = False
    low: Number | None = None
    high: Number | None = None
    first_evaluation: Count | None = None
    last_step: Count | None = None
    reference_steps: Number | None = None


class Convergence(Part):
    """How fast each start gets where it gets, on the validation cases."""

    metric: str = ""
    metric_label: str = ""
    higher_is_better: bool = True
    courses: list[Course] = []
    reached: list[Reached] = []


class RunHours(Part):
    """Hours of one start at one size."""

    start: str
    model: str = ""
    train_size: Size
    runs: Count | None = None
    training_hours: Number | None = None
    search_hours: Number | None = None
    hours: Number | None = None


class StageHours(Part):
    """Hours of what a start went through before the comparison."""

    start: str
    model: str = ""
    stage: str = ""
    patients: Count | None = None
    cases: Count | None = None
    runs: Count | None = None
    hours: Number | None = None


class DeviceHours(Part):
    """What the trainings took of one device."""

    device: str = ""
    kind: str = ""
    threads: Count | None = None
    runs: list[RunHours] = []
    pretraining: list[StageHours] = []
