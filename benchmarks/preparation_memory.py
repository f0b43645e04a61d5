"""Peak memory of preparation, all its processes together, for few and for many cases.

    python benchmarks/preparation_memory.py [--cases 8 64] [--jobs 2]

Each case is a CT of 96 × 192 × 192 voxels. The resident memory of the preparing process and of
its children is added up every 10 ms. Prints a Markdown row for each number of cases.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from voxgraft.datasets import Table
from voxgraft.store import VolumeStore
from voxgraft.transforms import Preprocessing, Window
from voxgraft.volumes import Affine, Volume, write_volume

SHAPE = (96, 192, 192)


def prepare(folder: Path, cases: int, jobs: int) -> None:
    ids = [f"{i:03d}" for i in range(cases)]
    frame = pd.DataFrame({"case_id": ids, "patient_id": ids, "image": [f"{i}.nii" for i in ids]})
    settings = Preprocessing(spacing_mm=(1.5, 1.5, 1.5), intensity=Window(-1000, 1000))
    VolumeStore(folder / f"store{cases}").prepare(Table(frame, folder), settings, jobs=jobs)


def peak_mib(command: list[str]) -> tuple[float, float]:
    """Run a command; return the peak memory of its process tree, and its time."""
    begin = time.perf_counter()
    running = subprocess.Popen(command)
    process, peak = psutil.Process(running.pid), 0
    while running.poll() is None:
        total = 0
        try:
            for member in [process, *process.children(recursive=True)]:
                total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        peak = max(peak, total)
        time.sleep(0.01)
    if running.returncode:
        sys.exit(running.returncode)
    return peak / 2**20, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        prepare(arguments.folder, arguments.cases[0], arguments.jobs)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        for i in range(max(arguments.cases)):
            voxels = rng.integers(-1000, 1000, (1, *SHAPE), dtype=np.int16)
            write_volume(Volume(voxels, Affine.from_spacing((2, 1, 1))), folder / f"{i:03d}.nii")
        print("| cases | jobs | peak memory of all processes (MiB) | time (s) |")
        print("|---|---|---|---|")
        for cases in arguments.cases:
            options = ["--cases", str(cases), "--jobs", str(arguments.jobs), "--in", name]
            peak, duration = peak_mib([sys.executable, __file__, *options])
            print(f"| {cases} | {arguments.jobs} | {peak:.0f} | {duration:.1f} |", flush=True)


if __name__ == "__main__":
    main()
