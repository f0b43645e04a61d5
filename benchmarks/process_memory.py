"""A command in a process of its own, and the most memory that it and its workers had at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path


def run_measured(command: list[str]) -> tuple[str, float]:
    """Return what a command printed, and its peak memory in MiB.

    Memory is the proportional set size of all its processes: what they share counts once.
    """
    import psutil

    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        text=True,
    )
    process, peak = psutil.Process(running.pid), 0
    while running.poll() is None:
        total = 0
        for member in [process, *process.children(recursive=True)]:
            try:
                total += _proportional_bytes(member.pid)
            except OSError:
                continue  # it has just ended
        peak = max(peak, total)
        time.sleep(0.5)
    assert running.stdout is not None
    if running.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return running.stdout.read(), peak / 2**20


def _proportional_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return (
        next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    )
