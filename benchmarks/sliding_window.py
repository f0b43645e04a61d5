"""A network over a whole scan: memory and time of our sliding window and of MONAI's.

    python benchmarks/sliding_window.py [--size 256 256 256] [--classes 118] [--overlap 0.25]
        [--networks module segmentation opaque] [--large] [--rounds 3] [--threads 1]
        [--result labels|masks] [--device cuda --dtype bf16]

Each is a process of its own, which goes over one scan of noise with windows of 96³, weighted by a
gaussian. The networks are cheap, so that what is compared is the sliding window:

- ``module``: a 3×3×3 convolution and a 1×1×1 convolution to the classes, an ``nn.Module``;
- ``segmentation``: an encoder and a decoder of one 3×3×3 convolution each, and the head, a
  SegmentationNetwork;
- ``opaque``: a function of which nothing can be known but what it returns, scores that no module
  made.

Peaks are of the resident memory of the whole process, libraries, scan and labels and all; on a GPU
of the memory that PyTorch took there. Times are from the scan to the scores (MONAI's alone) and to
the labels (or packed masks), and of the CPU, which other work on the machine changes less. Rounds
alternate; medians are printed, with the ratios. ``--large`` adds a scan of 400×512×512, ours
alone: MONAI's scores take 46 GiB there.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from voxgraft.sliding import Sliding, segment_label_map, segment_multilabel

WINDOW = (96, 96, 96)
LARGE = [400, 512, 512]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def made(kind: str, classes: int) -> nn.Module:
    if kind == "module":
        layers = nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, classes, 1)
        return nn.Sequential(*layers).eval()
    if kind == "opaque":
        return Opaque(classes).eval()
    from voxgraft.models import SegmentationNetwork

    class Small(SegmentationNetwork):
        """Without an encoder of the registry, all of which are slow here."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.first = nn.Conv3d(1, 16, 3, padding=1)
            self.second = nn.Conv3d(16, 16, 3, padding=1)
            self.head = nn.Conv3d(16, classes, 1)

        def forward_features(self, x: Tensor) -> Tensor:
            """Return the map that the head makes the classes of."""
            return self.second(self.first(x).relu_()).relu_()

    return Small().eval()


class Opaque(nn.Module):
    """A 1×1×1 convolution of no module."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 1, 1, 1, 1))
        self.bias = nn.Parameter(torch.randn(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores."""
        return nn.functional.conv3d(x, self.weight, self.bias)


def packed(scores: Tensor) -> Tensor:
    found = scores.new_zeros((-(-len(scores) // 8), *scores.shape[1:]), dtype=torch.uint8)
    for k, own in enumerate(scores):
        found[k // 8] |= (own > 0).to(torch.uint8) << k % 8
    return found


def measure(given: argparse.Namespace) -> None:
    method, kind = given.methods[0], given.networks[0]
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    dtype = DTYPES[given.dtype]
    network = made(kind, given.classes).to(given.device, dtype)
    image = torch.randn(1, *given.size).to(given.device, dtype)
    if method == "monai":
        import monai.inferers  # noqa: F401
    on_gpu = given.device != "cpu"
    begin, busy, scored = time.perf_counter(), time.process_time(), 0.0
    if method == "ours":
        sliding = Sliding(WINDOW, given.overlap, batch_size=given.batch)
        if given.result == "labels":
            found = segment_label_map(network, image, sliding)
        else:
            found = segment_multilabel(network, image, sliding).bits
    else:
        from monai.inferers import sliding_window_inference

        with torch.inference_mode():
            scores = sliding_window_inference(
                image[None], WINDOW, given.batch, network, overlap=given.overlap, mode="gaussian"
            )[0]
            if on_gpu:
                torch.cuda.synchronize()
            scored = time.perf_counter() - begin
            found = scores.argmax(0).to(torch.uint8) if given.result == "labels" else packed(scores)
            found = found.cpu()
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    if on_gpu:
        peak = torch.cuda.max_memory_allocated()
    checksum = int(found.long().sum())
    result = {"s": seconds, "cpu": busy, "scored": scored, "gib": peak / 2**30, "sum": checksum}
    print(json.dumps(result))


def alone(given: argparse.Namespace, method: str, kind: str, size: list[int]) -> dict[str, float]:
    options = ["--alone", "--methods", method, "--networks", kind, "--size", *map(str, size)]
    for name in ("classes", "overlap", "batch", "threads", "result", "device", "dtype"):
        options += [f"--{name}", str(getattr(given, name))]
    done = subprocess.run(
        [sys.executable, __file__, *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row_of(found: dict[str, float]) -> str:
    return f"{found['s']:.1f} | {found['cpu']:.1f} | {found['gib']:.2f} | {found['sum']:.0f}"


def compare(given: argparse.Namespace, kind: str) -> None:
    rounds = [
        {method: alone(given, method, kind, given.size) for method in given.methods}
        for _ in range(given.rounds)
    ]
    for method in given.methods:
        own = [found[method] for found in rounds]
        middle = {key: statistics.median(one[key] for one in own) for key in own[0]}
        print(f"| {kind} | {method} | {row_of(middle)} | | |", flush=True)
    if set(given.methods) == {"monai", "ours"}:
        pairs = [(r["monai"], r["ours"]) for r in rounds]
        faster = statistics.median(theirs["s"] / ours["s"] for theirs, ours in pairs)
        scored = statistics.median(theirs["scored"] / ours["s"] for theirs, ours in pairs)
        memory = statistics.median(ours["gib"] / theirs["gib"] for theirs, ours in pairs)
        busy = statistics.median(theirs["cpu"] / ours["cpu"] for theirs, ours in pairs)
        ratios = (
            f"{faster:.2f} times as fast ({scored:.2f} without MONAI's last step; CPU {busy:.2f})"
        )
        print(f"| {kind} | ratio | | | | | {ratios} | {memory:.1%} of the memory |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 256])
    parser.add_argument("--classes", type=int, default=118)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to PyTorch")
    parser.add_argument("--methods", nargs="+", default=["monai", "ours"])
    parser.add_argument("--networks", nargs="+", default=["module", "segmentation", "opaque"])
    parser.add_argument("--result", choices=["labels", "masks"], default="labels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--large", action="store_true", help="400×512×512 too, ours alone")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        measure(given)
        return
    print("| network | method | time (s) | of CPU (s) | peak (GiB) | sum of the result | | |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in given.networks:
        compare(given, kind)
        if given.large:
            found = alone(given, "ours", kind, LARGE)
            print(f"| {kind}, 400×512×512 | ours | {row_of(found)} | | |", flush=True)


if __name__ == "__main__":
    main()
