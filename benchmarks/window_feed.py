"""Preparing and serving windows of 32 × 224 × 224 of chest CTs: Voxgraft against MONAI.

    python benchmarks/window_feed.py [--studies 12] [--rounds 3] [--epochs 5] [--only KIND ...]

CTs of 512 × 512 × 220 to 320 are made (``window_feed_scans.py``), windowed to [-100, 900] HU, their
slices resized to 256 × 256, and served as batches of 4 windows in random order over the studies, at
random places, each turned in its plane by up to 20 degrees or not at all. MONAI does it as its
documentation recommends (a persistent cache of what is not random, two worker processes), and in
the faster ways it offers; ours is ``VolumeStore`` with two jobs and ``WindowFeed`` with two
threads. All scans lie in the page cache. Each way runs in a process of its own, all ways in turn,
round by round, the order turned over in every other round. Times begin with the process,
imports included. Peak memory is the proportional set size of all its processes: what they share
counts once. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from process_memory import run_measured
from window_feed_scans import made_ct, write_dicom, write_nifti
from window_feed_ways import check_voxels

WAYS = Path(__file__).with_name("window_feed_ways.py")
OURS = {
    "ours, read from disk": {"budget": 0},
    "ours, kept in memory": {"budget": 2048},
    "ours, read from disk, uint8": {"budget": 0, "storage": "uint8"},
    "ours, kept in memory, uint8": {"budget": 2048, "storage": "uint8"},
}
MONAI = {
    "MONAI PersistentDataset": {"cache": "persistent"},
    "MONAI PersistentDataset, float16, slices as channels": {
        "cache": "persistent",
        "half": True,
        "flat": True,
    },
    "MONAI PersistentDataset, 4 windows of a study at a time": {
        "cache": "persistent",
        "samples": 4,
    },
    "MONAI LMDBDataset": {"cache": "lmdb"},
    "MONAI CacheDataset": {"cache": "memory"},
    "MONAI CacheDataset, float16, slices as channels": {
        "cache": "memory",
        "half": True,
        "flat": True,
    },
}


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Carry an order out in a process of its own; its times, and the peak memory in MiB."""
    with tempfile.TemporaryDirectory(dir=order.pop("folder")) as work:
        order = {**order, "work": work, "started": time.time()}
        printed, peak = run_measured([sys.executable, str(WAYS), json.dumps(order)])
        kept = sum(f.stat().st_size for f in Path(work).rglob("*") if f.is_file())
        found = json.loads(printed.strip().splitlines()[-1])
    return {**found, "peak_mib": peak, "disk_mb": kept / 1e6}


def rates(found: dict[str, Any], studies: int) -> dict[str, float]:
    """Return studies/s of preparing, and windows/s of serving and of everything together."""
    result = {"preparing (studies/s)": studies / found["preparing"]}
    if not found.get("turned"):
        return result
    for kind, name in (("plain", "windows/s"), ("turned", "turned windows/s")):
        steady = found[kind][1:]  # the first epoch starts workers, or fills the memory
        result[name] = sum(n for n, _ in steady) / sum(s for _, s in steady)
    served, seconds = (sum(column) for column in zip(*found["turned"], strict=True))
    result["all (windows/s)"] = served / (found["preparing"] + seconds)
    return result


def spread(values: list[float]) -> str:
    """Return the median, and the smallest and the largest value."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.3g} ({low:.3g} to {high:.3g})"


def table(rounds: list[dict[str, dict[str, float]]], first: str) -> Iterator[str]:
    """Yield the rows of a table, and of one with the ratios of ours to each way of MONAI."""
    ways = list(rounds[0])
    columns = list(rounds[0][ways[0]])
    yield f"| {first} | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for way in ways:
        cells = [spread([found[way][name] for found in rounds]) for name in columns]
        yield f"| {way} | {' | '.join(cells)} |"
    speeds = [name for name in columns if name.endswith("/s)") or name.endswith("/s")]
    yield ""
    yield f"| times as fast | {' | '.join(speeds)} |"
    yield "|---" * (len(speeds) + 1) + "|"
    for ours in (way for way in ways if way.startswith("ours")):
        for theirs in (way for way in ways if way.startswith("MONAI")):
            cells = [
                spread([found[ours][name] / found[theirs][name] for found in rounds])
                for name in speeds
            ]
            yield f"| {ours} / {theirs} | {' | '.join(cells)} |"


def make_scans(folder: Path, studies: int, few: int, edge: int) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {"nifti": [], "DICOM": [], "DICOM, JPEG 2000": []}
    for number, depth in enumerate(np.linspace(220, 320, studies).astype(int)):
        hu = made_ct(number, int(depth) * edge // 512, edge)
        found["nifti"].append(folder / f"{number:02d}.nii.gz")
        write_nifti(hu, found["nifti"][-1])
        kinds = ("DICOM", "DICOM, JPEG 2000")
        for kind in kinds[: (number < few) + (number < few // 2)]:
            found[kind].append(folder / f"{kind}{number:02d}")
            write_dicom(hu, found[kind][-1], compressed=kind != "DICOM")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=12)
    parser.add_argument("--few", type=int, default=4, help="as DICOM; half of them compressed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--edge", type=int, default=512, help="of a slice; less to try it out")
    parser.add_argument("--only", nargs="*", help="names of ways")
    parser.add_argument("--no-dicom", action="store_true")
    arguments = parser.parse_args()
    ways = {**MONAI, **OURS}
    if unknown := set(arguments.only or ()) - set(ways):
        parser.error(f"unknown ways {sorted(unknown)}; there are {', '.join(map(repr, ways))}")
    chosen = {name: options for name, options in ways.items() if name in (arguments.only or ways)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_voxels(folder)
        scans = make_scans(folder, arguments.studies, arguments.few, arguments.edge)
        volumes = sum(path.stat().st_size for path in scans["nifti"])
        print(f"{arguments.studies} studies, {volumes / 1e6:.0f} MB as .nii.gz\n", flush=True)
        rounds = []
        for number in range(arguments.rounds):
            found = {}
            for way, options in list(chosen.items())[:: -1 if number % 2 else 1]:
                order = {
                    "images": [str(path) for path in scans["nifti"]],
                    "epochs": arguments.epochs,
                    "options": options,
                    "folder": name,
                }
                got = run(order)
                found[way] = rates(got, arguments.studies)
                found[way]["peak memory (MiB)"] = got["peak_mib"]
                found[way]["on disk (MB)"] = got["disk_mb"]
                print(number, way, json.dumps(found[way]), file=sys.stderr, flush=True)
            rounds.append({way: found[way] for way in chosen})
        print("\n".join(table(rounds, "from .nii.gz")), flush=True)
        if not arguments.no_dicom:
            compare_dicom(scans, arguments, name)


def compare_dicom(scans: dict[str, list[Path]], arguments: Any, folder: str) -> None:
    """Print how many studies a second are prepared from DICOM series."""
    ways = {
        "MONAI PersistentDataset, ITKReader": {"cache": "persistent", "reader": "ITKReader"},
        "MONAI PersistentDataset, PydicomReader": {
            "cache": "persistent",
            "reader": "PydicomReader",
        },
        "ours": {"budget": 0},
    }
    if not has_itk():
        del ways["MONAI PersistentDataset, ITKReader"]
    for kind in ("DICOM", "DICOM, JPEG 2000"):
        rounds = []
        for number in range(arguments.rounds):
            found = {}
            for way, options in list(ways.items())[:: -1 if number % 2 else 1]:
                images = [str(path) for path in scans[kind]]
                order = {"images": images, "epochs": 0, "options": options, "folder": folder}
                got = run(order)
                found[way] = rates(got, len(images))
                found[way]["peak memory (MiB)"] = got["peak_mib"]
                print(kind, number, way, found[way], file=sys.stderr, flush=True)
            rounds.append({way: found[way] for way in ways})
        print("\n" + "\n".join(table(rounds, f"from {kind}")), flush=True)


def has_itk() -> bool:
    import importlib.util

    return importlib.util.find_spec("itk") is not None


if __name__ == "__main__":
    main()
