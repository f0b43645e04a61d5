"""Augmented crops of 96³ with labels: Voxgraft against nnU-Net, MONAI and TorchIO, two workers.

    python benchmarks/crop_feed.py [--cases 4] [--rounds 3] [--seconds 20] [--only WAY ...]

CTs of 512 × 512 × 200 with five structures are made as ``.nii.gz`` (``crop_feed_scans.py``) and
prepared by each way as it does it itself (not timed). Every crop is turned (up to 15, 10 and 10
degrees) and scaled (0.85 to 1.15), mirrored or not along each axis; a tenth get noise, 15 in 100
another brightness, as often as with nnU-Net. Two thirds of the crops lie around a structure, and
batches hold 2. Ways, each as its documentation recommends and with two workers
(``crop_feed_ways.py``): ``CropFeed``, reading from disk and keeping volumes in memory; nnU-Net
v2's loader on blosc2 files, with its own larger patch before the turn, batchgeneratorsv2 and its
worker processes; MONAI's ``PersistentDataset`` and ``DataLoader``; TorchIO's ``Queue``. Each way
runs in a process of its own, all ways in turn, round by round, the order turned over in every
other round; files are in the page cache, and time begins when batches come steadily (TorchIO's
with the filling of its queue, which is part of each of its rounds). Peak memory is the
proportional set size of all its processes. Packages that are not installed are left out. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from crop_feed_scans import make_scans
from crop_feed_ways import WAYS
from process_memory import run_measured

CHILD = Path(__file__).with_name("crop_feed_ways.py")


def run(way: str, folder: Path, *, prepare: bool, seconds: float = 0) -> tuple[Any, float]:
    """Run a way in a process of its own; what it counted, and its peak memory in MiB."""
    order = {"way": way, "folder": str(folder), "prepare": prepare, "seconds": seconds}
    printed, peak = run_measured([sys.executable, str(CHILD), json.dumps(order)])
    return json.loads(printed.strip().splitlines()[-1]), peak


def spread(values: list[float], digits: int = 1) -> str:
    """Return the median, and the smallest and the largest value."""
    shown = [f"{value:.{digits}f}" for value in (statistics.median(values), *_ends(values))]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _ends(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def main() -> None:
    """Run all ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="at least, a way and round")
    parser.add_argument("--edge", type=int, default=512, help="of a slice; less to try it out")
    parser.add_argument("--only", nargs="*", help="names of ways")
    arguments = parser.parse_args()
    if unknown := set(arguments.only or ()) - set(WAYS):
        parser.error(f"unknown ways {sorted(unknown)}; there are {', '.join(map(repr, WAYS))}")
    ways = [
        way
        for way, (package, _) in WAYS.items()
        if way in (arguments.only or WAYS) and importlib.util.find_spec(package) is not None
    ]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    peaks: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "scans"
        make_scans(folder, arguments.cases, edge=arguments.edge)
        for way in ways:
            run(way, folder, prepare=True)
            print("ready:", way, file=sys.stderr, flush=True)
        for number in range(arguments.rounds):
            for way in ways[:: -1 if number % 2 else 1]:
                got, peak = run(way, folder, prepare=False, seconds=arguments.seconds)
                rates[way].append(got["crops"] / got["seconds"])
                peaks[way].append(peak)
                print(number, way, got, round(peak), file=sys.stderr, flush=True)
    first = next(iter(ways))
    print(f"| way | crops a second | {first!r} is times as fast | peak memory (MiB) |")
    print("|---|---|---|---|")
    for way in ways:
        ratios = [ours / theirs for ours, theirs in zip(rates[first], rates[way], strict=True)]
        cells = [spread(rates[way]), spread(ratios), spread(peaks[way], 0)]
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
