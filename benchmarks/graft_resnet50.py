"""Time and memory of grafting a ResNet-50, without the parity check, in a fresh process.

Run: ``python benchmarks/graft_resnet50.py``. Expected: under 2 s, and a growth of memory under 1.2
times the source's and the model's state dicts together. Prints a row for BENCHMARKS.md.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import timm
import torch
from safetensors.torch import save_file

from voxgraft.grafting import graft


def fresh(path: str) -> None:
    torch.set_num_threads(1)
    process = psutil.Process()
    timm.create_model("resnet10t")
    before = process.memory_info().rss
    peak, done = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    result = graft(f"timm:resnet50@{path}", "resnet50_3d", check_parity=False)
    duration_s = time.perf_counter() - start
    done.set()
    watcher.join()
    model = sum(t.nbytes for t in result.encoder.state_dict().values())
    both = model + Path(path).stat().st_size
    print(
        f"| graft ResNet-50, no parity | {duration_s:.2f} s | peak {(peak - before) / 1e6:.0f} MB, "
        f"{(peak - before) / both:.2f} × both state dicts ({both / 1e6:.0f} MB) | 1 thread, "
        f"{platform.processor() or platform.machine()}, torch {torch.__version__} |"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.safetensors"
        save_file(timm.create_model("resnet50").state_dict(), path)
        subprocess.run([sys.executable, __file__, "fresh", str(path)], check=True)
        pickled = Path(folder) / "resnet50.pth"
        torch.save(timm.create_model("resnet50").state_dict(), pickled)
        subprocess.run([sys.executable, __file__, "fresh", str(pickled)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["fresh"]:
        fresh(sys.argv[2])
    else:
        main()
