"""A worker process: executes run folders that the engine hands it, one after another."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from voxgraft.errors import VoxgraftError


def _read_orders(orders: queue.Queue[Path]) -> None:
    for line in sys.stdin:
        orders.put(Path(json.loads(line)["folder"]))
    os._exit(0)  # the parent is gone or needs no more: a run in flight resumes from its checkpoint


def main() -> None:
    """Take orders on standard input until it ends; answer on the pipe given as first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    from voxgraft.runs import execute_run

    orders: queue.Queue[Path] = queue.Queue()
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    answer(kind="ready")
    while True:
        folder = orders.get()
        try:
            execute_run(
                folder,
                check_parity=False,  # the comparison has checked each graft once, before training
                on_steps=lambda steps, note: answer(kind="steps", steps=steps, note=note),
            )
        except VoxgraftError as error:
            answer(kind="failed", note=str(error))
        else:
            answer(kind="finished")


if __name__ == "__main__":
    main()
