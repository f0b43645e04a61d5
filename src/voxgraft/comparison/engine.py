"""Execute run folders side by side on one machine, in worker processes that outlive single runs.

A worker is ``python -m voxgraft.comparison.worker``: it takes folders as JSON lines on its standard
input and answers with JSON lines on a pipe of its own. It ends by itself when the parent is gone
(end of its input), so that a killed comparison leaves nothing running.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxgraft.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened to a run: it made steps, it finished, or it failed."""

    folder: Path
    kind: str
    """``"steps"``, ``"finished"`` or ``"failed"``."""
    steps: int = 0
    """How many steps were made since the last event."""
    note: str = ""
    """The current metric, or why the run failed."""


class _Worker:
    """One worker process and the pipe on which it answers."""

    def __init__(self, number: int, threads: int, log_folder: Path) -> None:
        log_folder.mkdir(parents=True, exist_ok=True)
        self.log_path = log_folder / f"worker{number}.log"
        read_end, write_end = os.pipe()
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "voxgraft.comparison.worker", str(write_end)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(write_end,),
                env=environment,
                start_new_session=True,
            )
        os.close(write_end)
        self.answers = os.fdopen(read_end, "rb", buffering=0)
        self._unread = b""
        self.folder: Path | None = None

    def read(self) -> list[dict[str, Any]] | None:
        """Wait for answers and return all that have arrived; None once the process is gone."""
        while b"\n" not in self._unread:
            arrived = self.answers.read(65536)
            if not arrived:
                return None
            self._unread += arrived
        *lines, self._unread = self._unread.split(b"\n")
        return [json.loads(line) for line in lines]

    def give(self, folder: Path) -> None:
        """Hand a run folder to the worker."""
        self.folder = folder
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"folder": str(folder)}).encode() + b"\n")
        self.process.stdin.flush()

    def close(self, *, kill: bool) -> None:
        """End the process and close its pipes."""
        if kill:
            self.process.kill()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # the process may be gone already
                self.process.stdin.close()
        self.process.wait()
        self.answers.close()


class LocalEngine:
    """Runs folders in ``jobs`` worker processes of ``threads`` threads each."""

    def __init__(self, jobs: int, threads: int, log_folder: Path) -> None:
        """Remember the settings; workers start with the first run.

        Args:
            jobs: Runs side by side.
            threads: Threads of each run. Results are bitwise equal only at equal threads.
            log_folder: Where each worker's own output goes.
        """
        self.jobs = jobs
        self.threads = threads
        self.log_folder = log_folder

    def execute(self, folders: Iterable[Path], on_event: Callable[[Event], None]) -> None:
        """Execute each folder's recipe; return when all have finished or failed.

        Args:
            folders: Run folders that hold a ``recipe.yaml``.
            on_event: Told of each step, finish and failure.

        Raises:
            TrainingError: If workers cannot start at all.
        """
        waiting = deque(folders)
        selector = selectors.DefaultSelector()
        workers: list[_Worker] = []
        try:
            while len(workers) < self.jobs and waiting:
                workers.append(self._start(len(workers), selector, waiting))
            while any(worker.folder is not None for worker in workers):
                for key, _ in selector.select():
                    worker = workers[key.data]
                    answers = worker.read()
                    if answers is not None:
                        for answer in answers:
                            self._heed(answer, worker, waiting, on_event)
                        continue
                    folder = worker.folder
                    selector.unregister(worker.answers)
                    worker.close(kill=False)
                    worker.folder = None
                    if folder is not None:
                        on_event(Event(folder=folder, kind="failed", note=_last_words(worker)))
                    if waiting:
                        workers[key.data] = self._start(key.data, selector, waiting)
        finally:
            for worker in workers:
                if not worker.answers.closed:
                    worker.close(kill=worker.folder is not None)
            selector.close()

    def _start(
        self, number: int, selector: selectors.BaseSelector, waiting: deque[Path]
    ) -> _Worker:
        worker = _Worker(number, self.threads, self.log_folder)
        if worker.read() is None:
            worker.close(kill=True)
            raise TrainingError(
                f"a worker process did not start: {_last_words(worker)} Its output is in "
                f"{worker.log_path}. `voxgraft doctor` checks this machine."
            )
        selector.register(worker.answers, selectors.EVENT_READ, data=number)
        worker.give(waiting.popleft())
        return worker

    @staticmethod
    def _heed(
        answer: dict[str, Any],
        worker: _Worker,
        waiting: deque[Path],
        on_event: Callable[[Event], None],
    ) -> None:
        assert worker.folder is not None
        event = Event(folder=worker.folder, **answer)
        if event.kind != "steps":
            worker.folder = None
            if waiting:
                worker.give(waiting.popleft())
        on_event(event)


def _last_words(worker: _Worker) -> str:
    code = worker.process.poll()
    lines = worker.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
    return f"the worker process {how}: {last} (see {worker.log_path})."
