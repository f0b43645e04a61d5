"""Importing all LIDC-IDRI nodules as shapes of 48 × 48 × 48 voxels of 1 mm.

    python benchmarks/lidc_import.py [--jobs 2]

Includes reading the annotation database, clustering, filling the outlines, resampling and writing
compressed NIfTI. Prints a Markdown row, with the area under the ROC curve of the diameter alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time

from sklearn.metrics import roc_auc_score

from voxgraft.datasets import import_lidc
from voxgraft.datasets.importers.lidc_database import LIDC_DATABASE
from voxgraft.packages import package_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    package_file(LIDC_DATABASE)
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.perf_counter(), time.process_time()
        table = import_lidc(folder, jobs=jobs)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        start = time.perf_counter()
        import_lidc(folder, jobs=jobs)
        again = time.perf_counter() - start
    frame = table.frame
    auroc = roc_auc_score(frame["malignant"] == "yes", frame["diameter_mm"])
    print(
        f"| {time.strftime('%Y-%m-%d')} | LIDC-IDRI import, {len(frame):,} nodules of "
        f"{len(table.patients)} patients, jobs {jobs} | {wall:.1f} s ({cpu:.1f} s of CPU), again "
        f"{again:.2f} s; AUROC of the diameter {auroc:.3f} | {os.cpu_count()} cores, "
        f"{platform.machine()} | `python benchmarks/lidc_import.py --jobs {jobs}` |"
    )


if __name__ == "__main__":
    main()
