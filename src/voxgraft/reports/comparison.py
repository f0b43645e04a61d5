"""What a comparison's ``comparison.json`` may hold.

Everything beyond ``format`` and the task's kind and metric may be absent or null: a comparison
that was stopped half-way is reported as far as it went.
"""

# ruff: noqa: RUF012 (pydantic copies the defaults)

from __future__ import annotations

from typing import Any, Literal

from voxgraft.metrics import METRICS
from voxgraft.reports.contour_case import Contours
from voxgraft.reports.courses import Convergence, DeviceHours, Scaling
from voxgraft.reports.parts import Count, Estimate, Number, Part, Seed, Size
from voxgraft.reports.several import Networks, Published

FORMAT = 1
"""Version of ``comparison.json`` that this room reads."""


class Task(Part):
    """What is predicted, and the metric that the conclusions rest on."""

    kind: Literal["binary", "multiclass", "multilabel", "regression", "segmentation"]
    metric: str
    metric_label: str = ""
    columns: list[str] = []
    classes: list[str] = []
    higher_is_better: bool = True
    level: str = "case"
    unit: str = ""

    @property
    def label(self) -> str:
        """Return the metric's name for people, with its unit where the metric carries one."""
        name = self.metric_label or self.metric
        known = METRICS.get(self.metric)
        carries = self.kind == "regression" if known is None else known.unit == "target"
        return f"{name} ({self.unit})" if carries and self.unit else name


class Split(Part):
    """How many patients and cases one side of the split holds."""

    patients: Count | None = None
    cases: Count | None = None
    classes: dict[str, Number | None] = {}


class Data(Part):
    """The table that the comparison was made on."""

    table: str = ""
    sha256: str = ""
    splits: dict[str, Split] = {}
    sites: Any = None
    preprocessing: list[str] = []
    notices: list[str] = []
    overlap: list[str] = []
    overlap_flags: list[str] = []
    datasets: list[str] = []


class Start(Part):
    """One start, and the audit of its graft onto each model."""

    name: str
    source: str = ""
    sources: dict[str, str] = {}
    method: str = ""
    stem: str = ""
    norm: str = ""
    adapt: str = ""
    licence: str = ""
    paper: str = ""
    description: str = ""
    trained_on: list[str] = []
    graft: dict[str, Any] = {}
    grafts: list[dict[str, Any]] = []


class Run(Part):
    """One training."""

    id: str
    start: str
    model: str
    train_size: Size
    seed: Seed
    status: Literal["finished", "failed", "diverged"]
    train_cases: Count | None = None
    flags: list[str] = []
    learning_rate: Number | None = None
    metrics: dict[str, Number | None] = {}
    metrics_patient: dict[str, Number | None] = {}
    steps: Count | None = None
    best_step: Count | None = None
    train_seconds: Number | None = None
    data_wait_fraction: Number | None = None
    peak_memory_mib: Number | None = None
    folder: str = ""
    batchnorm: dict[str, Any] = {}
    error: str = ""
    undefined: dict[str, str] = {}

    def scored(self, level: str) -> dict[str, float | None]:
        """Return the metrics of a level, ``"case"`` or ``"patient"``."""
        return self.metrics_patient if level == "patient" else self.metrics


class Point(Estimate):
    """One size of a learning curve."""

    train_size: Size
    values: list[Number | None] = []
    n_seeds: Count | None = None
    flagged: list[str] = []


class Curve(Part):
    """The learning curve of one start with one model."""

    start: str
    model: str
    points: list[Point] = []


class Baseline(Estimate):
    """A trivial predictor, scored on the same test patients."""

    name: str
    description: str = ""


class Difference(Estimate):
    """A start minus another on the same patients, subsets and seeds, in the metric's unit."""

    model: str = ""
    train_size: Size
    start: str
    against: str
    p_value: Number | None = None
    p_holm: Number | None = None
    n_seeds: Count | None = None
    verdict: str = ""


class Secondary(Part):
    """A metric beside the primary one, on which no conclusion rests."""

    metric: str
    metric_label: str = ""
    higher_is_better: bool = True
    curves: list[Curve] = []
    differences: list[Difference] = []


class StructureDifference(Estimate):
    """A start minus the reference in one structure, corrected over all structures and starts."""

    p_value: Number | None = None
    p_holm: Number | None = None
    shown: bool = False


class Structure(Part):
    """One structure with one start, on the test cases that annotate it."""

    structure: str
    model: str = ""
    start: str
    against: str = ""
    n_cases: Count | None = None
    n_present: Count | None = None
    n_absent: Count | None = None
    predicted_where_absent: Number | None = None
    n_patients: Count | None = None
    n_seeds: Count | None = None
    dice: Estimate = Estimate()
    surface_dice: Estimate = Estimate()
    difference: StructureDifference | None = None


class Structures(Part):
    """Every structure of a segmentation, at the largest training size."""

    train_size: Size | None = None
    metric: str = "dice"
    rows: list[Structure] = []


class LabelSaving(Part):
    """How many training patients a start needs to reach what another reaches with more."""

    model: str = ""
    start: str
    against: str
    smallest: Number | None = None
    reference_size: Number | None = None
    reference_value: Number | None = None
    needed: Number | None = None
    needed_low: Number | None = None
    needed_high: Number | None = None
    saved_fraction: Number | None = None
    saved_low: Number | None = None
    saved_high: Number | None = None
    reached: bool | None = None
    text: str = ""
    reason: str = ""


class Trial(Part):
    """The search of one learning rate on the validation split."""

    start: str
    model: str
    train_size: Size | None = None
    grid: list[Number] = []
    values: list[Number | None] = []
    chosen: Number | None = None
    flags: list[str] = []
    error: str = ""


class Heat(Part):
    """Of which network the heat in an example's file is, and of which output; or why none is."""

    reason: str = ""
    method: str = ""
    run: str = ""
    start: str = ""
    model: str = ""
    train_size: Count | None = None
    seed: Seed | None = None
    output: str = ""
    score: Number | None = None
    windows: Count | None = None


class Example(Part):
    """One test case, with its preprocessed image in an ``.npz`` file."""

    case_id: str
    patient_id: str = ""
    file: str = ""
    target: str = ""
    scores: dict[str, Number | None] = {}
    why: str = ""
    heat: Heat | None = None


class Cost(Part):
    """What one start with one model cost, all its runs together."""

    start: str
    model: str
    runs: Count | None = None
    train_seconds_total: Number | None = None
    trial_seconds_total: Number | None = None
    device_hours: Number | None = None
    peak_memory_mib: Number | None = None
    parameters: Count | None = None
    trainable_parameters: Count | None = None


class Comparison(Part):
    """A whole comparison, as ``comparison.json`` states it."""

    format: Literal[1]
    task: Task
    created: str = ""
    voxgraft: str = ""
    command: str = ""
    title: str = "Comparison of starts"
    note: str = ""
    interval: str = ""
    answer: str = ""
    statements: list[str] = []
    data: Data = Data()
    starts: list[Start] = []
    reference: str = ""
    models: list[str] = []
    sizes: list[Size] = []
    seeds: list[Seed] = []
    runs: list[Run] = []
    curves: list[Curve] = []
    baselines: list[Baseline] = []
    differences: list[Difference] = []
    secondary: list[Secondary] = []
    structures: Structures = Structures()
    label_savings: list[LabelSaving] = []
    scaling: Scaling = Scaling()
    convergence: Convergence = Convergence()
    device_hours: DeviceHours = DeviceHours()
    networks: Networks = Networks()
    published: Published | None = None
    trials: list[Trial] = []
    examples: list[Example] = []
    contours: Contours = Contours()
    cost: list[Cost] = []
    environment: dict[str, Any] = {}
    reproduce: list[str] = []

    @property
    def start_names(self) -> list[str]:
        """Return the starts in order, those named by a run or a curve alone at the end."""
        names = [start.name for start in self.starts]
        names += [run.start for run in self.runs] + [curve.start for curve in self.curves]
        return list(dict.fromkeys(names))

    @property
    def model_names(self) -> list[str]:
        """Return the models in order, those named by a run or a curve alone at the end."""
        names = self.models + [run.model for run in self.runs]
        return list(dict.fromkeys(names + [curve.model for curve in self.curves]))

    @property
    def train_sizes(self) -> list[int]:
        """Return every training size, in patients, ascending."""
        sizes = set(self.sizes) | {run.train_size for run in self.runs}
        return sorted(sizes | {point.train_size for c in self.curves for point in c.points})

    @property
    def baseline_start(self) -> str:
        """Return the start that the others are compared with (empty if there is none)."""
        if self.reference:
            return self.reference
        against = [difference.against for difference in self.differences]
        against += [saving.against for saving in self.label_savings]
        if against:
            return max(against, key=against.count)
        return "scratch" if "scratch" in self.start_names else ""

    @property
    def interval_name(self) -> str:
        """Return what the intervals are called, in a few words."""
        return self.interval or "95% interval"

    @property
    def interval_kind(self) -> str:
        """Return what the intervals of the estimates are, in words."""
        if self.interval:
            return self.interval
        points = [point for curve in self.curves for point in curve.points]
        methods = dict.fromkeys(point.method for point in points if point.method)
        return f"95% interval: {' or '.join(methods)}" if methods else "95% interval"

    def point(self, start: str, model: str, train_size: int) -> Point | None:
        """Return a point of a learning curve, or None where the comparison has none."""
        for curve in self.curves:
            if curve.start == start and curve.model == model:
                for point in curve.points:
                    if point.train_size == train_size:
                        return point
        return None
