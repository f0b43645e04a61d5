"""A run's folder: what stands in it, and whether it is finished.

``recipe.yaml`` comes first and ``result.json`` last: a folder with a ``result.json`` is finished,
everything else is a run to be started or resumed.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from voxgraft.errors import RunError
from voxgraft.files import read_json
from voxgraft.types import Json

_LOCK = ".lock"
"""Made when a run begins, and never removed."""


@dataclass(frozen=True)
class RunFolder:
    """Paths and contents of one run."""

    path: Path

    @property
    def recipe_path(self) -> Path:
        """The complete recipe, as YAML."""
        return self.path / "recipe.yaml"

    @property
    def result_path(self) -> Path:
        """The result; it exists only once the run has finished."""
        return self.path / "result.json"

    @property
    def weights_path(self) -> Path:
        """The best checkpoint, beside its ``card.json``."""
        return self.path / "model.safetensors"

    @property
    def graft_path(self) -> Path:
        """The audit of the graft; absent for a start from scratch."""
        return self.path / "graft.json"

    @property
    def begun(self) -> bool:
        """Whether a training has begun here; a recipe alone is only a plan."""
        return self.finished or (self.path / _LOCK).is_file()

    @property
    def never_trained(self) -> bool:
        """Whether a training ended here before anything was kept, and no process is on it."""
        kept = ("checkpoint", "metrics.jsonl", "model.safetensors", "result.json")
        if not self.begun or any((self.path / name).exists() for name in kept):
            return False
        with (self.path / _LOCK).open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end (a diverged run has, too)."""
        return self.result_path.is_file()

    def result(self) -> Json:
        """Return the result of a finished run.

        Raises:
            RunError: If the run has not finished, or its result is no JSON.
        """
        if not self.finished:
            raise RunError(
                f"{self.path} holds no finished run (no {self.result_path.name}). "
                "Run its recipe to the end first: `voxgraft finetune "
                f"{self.recipe_path}` resumes where it stopped."
            )
        return _read_object(self.result_path)

    def graft(self) -> Json | None:
        """Return the GraftReport, or None for a start from scratch."""
        return _read_object(self.graft_path) if self.graft_path.is_file() else None

    def predictions(self, split: str) -> pd.DataFrame:
        """Return the predictions of one split, ordered by case.

        Raises:
            RunError: If there are none.
        """
        path = self.path / "predictions.parquet"
        if not path.is_file():
            raise RunError(f"{path} is missing; {self.path} holds no predictions. Run it again.")
        frame = pd.read_parquet(path)
        frame = frame[frame["split"] == split].sort_values("case_id", ignore_index=True)
        if frame.empty:
            raise RunError(f"{path} holds no predictions of the {split} split.")
        return frame


def open_run(path: Path) -> RunFolder:
    """Return the run at ``path``.

    Raises:
        RunError: If ``path`` is no run folder.
    """
    run = RunFolder(Path(path))
    if not run.recipe_path.is_file():
        raise RunError(
            f"{path} is no run folder: it has no recipe.yaml. Give the folder of one training, "
            "for example `comparison/runs/<id>`."
        )
    return run


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; wait while another process holds it.

    The lock goes with the process, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _read_object(path: Path) -> Json:
    try:
        value = read_json(path)
    except ValueError as error:
        raise RunError(
            f"{path} is no JSON ({error}). Delete the folder and run it again."
        ) from error
    if not isinstance(value, dict):
        raise RunError(f"{path} holds no JSON object. Delete the folder and run it again.")
    return value
