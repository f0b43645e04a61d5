"""Every error that Voxgraft raises on purpose, under one root.

A message says what was wrong (with its value), what was expected, where, and what to do.
Faults of one kind are collected and raised together: see :func:`raise_faults`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn


class VoxgraftError(Exception):
    """Root of all errors that are a user's to mend; the command line exits with 2 on it."""


class RegistryError(VoxgraftError):
    """A name is unknown to a registry, or registered twice."""


class FetchError(VoxgraftError):
    """A file that comes from a package or a hub could not be had, or has the wrong hash."""


class VolumeError(VoxgraftError):
    """A scan cannot be read or written, or its geometry makes no sense."""


class VideoError(VoxgraftError):
    """A video cannot be read, or a clip of it makes no sense."""


class TableError(VoxgraftError):
    """A table of cases is faulty."""


class PreprocessingError(VoxgraftError):
    """A preprocessing setting is impossible, or cannot be applied to a volume."""


class StoreError(VoxgraftError):
    """A store of preprocessed volumes cannot be prepared or read."""


class SourceError(VoxgraftError):
    """A starting weight is unknown, unreadable, or not what its catalogue entry says."""


class ConversionError(VoxgraftError):
    """A conversion rule cannot be applied to a tensor."""


class GraftError(VoxgraftError):
    """Weights do not fit a model: a tensor is unexplained, or parity fails."""


class ModelError(VoxgraftError):
    """A network cannot be built as asked."""


class MetricError(VoxgraftError):
    """A metric was given arrays that it cannot score."""


class StatisticsError(VoxgraftError):
    """A statistic was asked of numbers that do not support it."""


class TaskError(VoxgraftError):
    """A task does not fit its targets."""


class RecipeError(VoxgraftError):
    """A recipe or a plan has unknown, missing or impossible settings."""


class TrainingError(VoxgraftError):
    """A training cannot start or go on."""


class RunError(VoxgraftError):
    """A run folder is missing, unfinished or damaged."""


class InferenceError(VoxgraftError):
    """A trained network cannot be asked what was asked of it."""


class ScoresError(InferenceError):
    """A network's scores are NaN: nothing can be told from them."""


class ReportError(VoxgraftError):
    """A report cannot be written from a folder."""


class UsageError(VoxgraftError):
    """The command line was used in a way that cannot work."""


def raise_faults(
    error: type[VoxgraftError], headline: str, faults: Sequence[str], remedy: str, shown: int = 20
) -> NoReturn:
    """Raise one error that names all faults of a kind.

    Args:
        error: Class of the error.
        headline: What was wrong and where, without a full stop.
        faults: One sentence a fault.
        remedy: What to do.
        shown: How many faults are spelled out; the rest is counted.

    Raises:
        VoxgraftError: Always, as ``error``.
    """
    lines = [f"{headline} ({len(faults)} fault{'s' if len(faults) != 1 else ''}):"]
    lines += [f"  - {fault}" for fault in faults[:shown]]
    if len(faults) > shown:
        lines.append(f"  … and {len(faults) - shown} more")
    lines.append(remedy)
    raise error("\n".join(lines))


def listed(names: Sequence[str], shown: int = 5) -> str:
    """Return names with commas, the first few spelled out and the rest counted."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
