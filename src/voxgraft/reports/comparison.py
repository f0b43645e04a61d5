"""What a comparison's ``comparison.json`` may hold, and how it is read.

Everything beyond ``format`` and the task's kind and metric may be absent or null: a comparison
that was stopped half-way is reported as far as it went.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from voxgraft.errors import ReportError, raise_faults
from voxgraft.files import plain_json

FORMAT = 1
"""Version of ``comparison.json`` that this room reads."""

Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Size = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**64)]


class Part(BaseModel):
    """A part of a comparison: typed strictly, null read as absent, unknown keys ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value


class Task(Part):
    """What is predicted, and the metric that the conclusions rest on."""

    kind: Literal["binary", "multiclass", "multilabel", "regression"]
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
        carries_unit = self.unit and self.metric.lower() in ("mae", "rmse", "medae", "bias")
        return f"{name} ({self.unit})" if carries_unit and self.unit not in name else name


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


class Start(Part):
    """One start, and the audit of its graft onto each model."""

    name: str
    source: str = ""
    method: str = ""
    stem: str = ""
    norm: str = ""
    adapt: str = ""
    licence: str = ""
    paper: str = ""
    description: str = ""
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


class Estimate(Part):
    """A number with its interval; without a number, the reason why there is none."""

    estimate: Number | None = None
    low: Number | None = None
    high: Number | None = None
    n_patients: Count | None = None
    reason: str = ""


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

    model: str
    train_size: Size
    start: str
    against: str
    p_value: Number | None = None
    p_holm: Number | None = None
    n_seeds: Count | None = None
    method: str = ""
    verdict: str = ""


class LabelSaving(Part):
    """How many training patients a start needs to reach what another reaches with more."""

    model: str
    start: str
    against: str
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


class Example(Part):
    """One test case, with its preprocessed image in an ``.npz`` file."""

    case_id: str
    patient_id: str = ""
    file: str = ""
    target: str = ""
    scores: dict[str, Number | None] = {}
    why: str = ""


class Cost(Part):
    """What one start with one model cost, all its runs together."""

    start: str
    model: str
    runs: Count | None = None
    train_seconds_total: Number | None = None
    trial_seconds_total: Number | None = None
    peak_memory_mib: Number | None = None
    parameters: Count | None = None


class Comparison(Part):
    """A whole comparison, as ``comparison.json`` states it."""

    format: Literal[1]
    task: Task
    created: str = ""
    voxgraft: str = ""
    command: str = ""
    title: str = "Comparison of starts"
    note: str = ""
    interval: str = "95% interval"
    answer: str = ""
    statements: list[str] = []
    data: Data = Data()
    starts: list[Start] = []
    models: list[str] = []
    sizes: list[Size] = []
    seeds: list[Seed] = []
    runs: list[Run] = []
    curves: list[Curve] = []
    baselines: list[Baseline] = []
    differences: list[Difference] = []
    label_savings: list[LabelSaving] = []
    trials: list[Trial] = []
    examples: list[Example] = []
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
    def reference(self) -> str:
        """Return the start that the others are compared with (empty if there is none)."""
        against = [difference.against for difference in self.differences]
        against += [saving.against for saving in self.label_savings]
        if against:
            return max(against, key=against.count)
        return "scratch" if "scratch" in self.start_names else ""

    def point(self, start: str, model: str, train_size: int) -> Point | None:
        """Return a point of a learning curve, or None where the comparison has none."""
        for curve in self.curves:
            if curve.start == start and curve.model == model:
                for point in curve.points:
                    if point.train_size == train_size:
                        return point
        return None


def parse_comparison(value: Any, where: str) -> Comparison:
    """Check a comparison's JSON value and return it typed.

    Args:
        value: What ``comparison.json`` holds, as Python objects.
        where: The file or object that messages name.

    Raises:
        ReportError: If it is not a comparison, naming every field at fault.
    """
    if not isinstance(value, dict):
        raise ReportError(
            f"{where} holds a {type(value).__name__}, expected an object with the keys of a "
            "comparison. Run `voxgraft compare` again: it repeats only what is unfinished."
        )
    if "format" in value and value["format"] != FORMAT:
        raise ReportError(
            f"{where} has format {value['format']!r}, this version of Voxgraft reads format "
            f"{FORMAT}. Report it with the version that wrote it ({value.get('voxgraft')!r})."
        )
    try:
        return Comparison.model_validate(_printable(plain_json(value)))
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False):
            key = ".".join(str(part) for part in fault["loc"])
            found = "" if fault["type"] == "missing" else f", found {shortened(fault['input'])}"
            faults.append(f"{key}: {fault['msg']}{found}")
        raise_faults(
            ReportError,
            f"{where} is not a comparison",
            faults,
            "Run `voxgraft compare` again to write it anew: it repeats only what is unfinished.",
        )


def _printable(value: Any) -> Any:
    """Return a JSON value with control characters and lone surrogates in its texts replaced."""
    if isinstance(value, str):
        return "".join(
            "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c
            for c in value
        ).replace("\r", " ")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value


def shortened(value: Any, length: int = 60) -> str:
    """Return a value's text, cut to ``length`` characters."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def read_comparison(folder: Path) -> Comparison:
    """Read ``comparison.json`` of a comparison's folder.

    Raises:
        ReportError: If the folder or file is missing, unreadable or not a comparison.
    """
    path = folder / "comparison.json"
    if not folder.is_dir():
        raise ReportError(
            f"{folder} is not a folder; expected the folder of a comparison, with "
            "comparison.json in it. Make one with `voxgraft compare PLAN`."
        )
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise ReportError(
            f"{path} does not exist; expected the comparison's results there. Run "
            "`voxgraft compare PLAN` (it goes on where it stopped), or name the folder that it "
            "wrote."
        ) from None
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"{path} is damaged: {error}. Expected UTF-8 JSON, as `voxgraft compare` writes it. "
            "Run `voxgraft compare` again to write it anew: it repeats only what is unfinished."
        ) from None
    except OSError as error:
        raise ReportError(
            f"{path} cannot be read: {error.strerror or error}. Expected a readable JSON file. "
            "Check its permissions, or run `voxgraft compare` again."
        ) from None
    return parse_comparison(value, str(path))
