"""An import into a folder that can be killed and started again.

``import.json`` (the settings) comes first, each image is whole or absent, and ``table.csv`` comes
last: a folder with a table is finished, and one without it goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pandas as pd

from voxgraft.datasets.table import Table, read_table, write_table
from voxgraft.errors import TableError
from voxgraft.files import content_key, read_json, write_json
from voxgraft.types import Json

Progress = Callable[[int, int], None]
"""Called with (done, total)."""
_LEFT_OVER_S = 5.0
"""A temporary file that was not touched for this long belongs to an import that was killed."""
T = TypeVar("T")


class ImportFolder:
    """The folder that an import writes: ``images/``, ``import.json`` and ``table.csv``."""

    def __init__(self, out_folder: Path | str, settings: Json) -> None:
        """Open a folder for an import.

        Args:
            out_folder: Made if it is not there.
            settings: All that the result depends on; a JSON object.

        Raises:
            TableError: If the folder holds something else.
        """
        self.path = Path(out_folder)
        self.images = self.path / "images"
        self._record = self.path / "import.json"
        self._table = self.path / "table.csv"
        self._key = content_key(settings)
        if self._record.is_file():
            self._check_same(settings)
            return
        if self.path.is_file():
            raise TableError(f"{self.path}: is a file; expected a folder to import into.")
        if self.images.exists() or self._table.exists():
            raise TableError(
                f"{self.path}: holds images or a table that no import made. "
                "Choose another folder, or empty this one."
            )
        try:
            write_json(self._record, {"key": self._key, "settings": settings})
            self.images.mkdir(exist_ok=True)
        except OSError as error:
            raise TableError(f"{self.path}: cannot be written: {error}") from error

    def finished(self) -> Table | None:
        """Return the table if the import is complete, with all its images in place."""
        if not self._table.is_file():
            return None
        table = read_table(self._table)
        gone = [case_id for case_id in table.case_ids if not table.image_path(case_id).exists()]
        return None if gone else table

    def finish(self, frame: pd.DataFrame, summary: Json) -> Table:
        """Write the table (last) and remove what a killed import left behind."""
        named = {Path(image).name for image in frame["image"]}
        for path in self.images.iterdir() if self.images.is_dir() else ():
            if path.name not in named and time.time() - path.stat().st_mtime > _LEFT_OVER_S:
                path.unlink(missing_ok=True)
        write_json(self._record, {**read_json(self._record), "summary": summary})
        return write_table(Table(frame, self.path), self._table)

    def _check_same(self, settings: Json) -> None:
        try:
            found = read_json(self._record)
        except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise TableError(
                f"{self._record}: cannot be read: {error}. Empty the folder, or choose another."
            ) from error
        if isinstance(found, dict) and found.get("key") == self._key:
            self.images.mkdir(exist_ok=True)
            return
        before = found.get("settings", {}) if isinstance(found, dict) else {}
        changed = [
            f"{name} = {before.get(name)!r} there, {settings.get(name)!r} asked"
            for name in sorted({*before, *settings})
            if before.get(name) != json.loads(json.dumps(settings.get(name)))
        ]
        raise TableError(
            f"{self.path}: holds an import with other settings ({'; '.join(changed)}). "
            "Choose another folder, or remove this one."
        )


def run_jobs(
    work: Callable[[T], None], items: list[T], jobs: int, on_progress: Progress | None
) -> None:
    """Call ``work`` for each item in ``jobs`` threads; stop at the first error.

    Raises:
        TableError: If ``jobs`` is below 1.
    """
    if jobs < 1:
        raise TableError(f"jobs is {jobs}; expected 1 or more.")
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for done, future in enumerate(futures, 1):
                future.result()
                if on_progress is not None:
                    on_progress(done, len(items))
        finally:
            pool.shutdown(cancel_futures=True)
