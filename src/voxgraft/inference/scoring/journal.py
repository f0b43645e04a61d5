"""Scored cases on disk while an evaluation goes on: a killed one need not score them again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from voxgraft.errors import InferenceError
from voxgraft.types import Json

FILE = "scored.jsonl"
"""In the folder of an evaluation: a line for each scored case."""


class Journal:
    """The scored cases of an evaluation, each with a key of all that its scores depend on.

    A line that was cut off by a kill is dropped. The last line of a case counts.

    Args:
        folder: Of the evaluation, made if need be; None keeps nothing.

    Raises:
        InferenceError: If the file holds something else.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE
        self._found: dict[str, tuple[str, Json]] = {}
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._read(self._path)
        except OSError as error:
            raise InferenceError(
                f"{self._path}: cannot be used: {error.strerror or error}. Give another --out."
            ) from error

    def find(self, case_id: str, key: str) -> Json | None:
        """Return what was kept of a case; None if it is not there or of another key."""
        kept = self._found.get(case_id)
        return None if kept is None or kept[0] != key else kept[1]

    def add(self, case_id: str, key: str, content: Json) -> None:
        """Keep a case, on disk before this returns.

        Raises:
            InferenceError: If the disk does not take it.
        """
        self._found[case_id] = (key, content)
        if self._path is None:
            return
        line = json.dumps({"case_id": case_id, "key": key, "scores": content}, allow_nan=False)
        try:
            with self._path.open("ab") as file:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InferenceError(
                f"{self._path}: cannot be written: {error.strerror or error}. Check the folder and "
                "the space left, and go on with the same command."
            ) from error

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                said = json.loads(line)
                self._found[said["case_id"]] = (said["key"], said["scores"])
            except (ValueError, TypeError, KeyError) as error:
                raise InferenceError(
                    f"{path}, line {number}: is no scored case. Remove the file, or give another "
                    "--out; cases are then scored again."
                ) from error
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
