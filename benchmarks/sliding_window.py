"""A network over a whole scan: memory and time of our sliding window and of MONAI's.

    python benchmarks/sliding_window.py [--size 256 256 256] [--classes 118] [--overlap 0.25]
        [--methods monai ours] [--networks cheap small]

Each is a process of its own, which makes a label map of one scan of noise with windows of 96³,
weighted by a gaussian. ``cheap`` is one 1×1×1 convolution, a callable of which nothing is known;
``small`` is a SegmentationNetwork: an encoder and a decoder of one 3×3×3 convolution each, and
the head. Peaks are of the resident memory of the whole process, libraries and all; the time is
that from the scan to its labels. Prints a Markdown row for each.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from voxgraft.models import SegmentationNetwork
from voxgraft.sliding.scan_labels import segment_label_map
from voxgraft.sliding.sliding_window import Sliding

WINDOW = (96, 96, 96)


class Small(SegmentationNetwork):
    """A segmentation network without an encoder of the registry, all of which are slow here."""

    def __init__(self, classes: int) -> None:
        nn.Module.__init__(self)
        self.first = nn.Conv3d(1, 16, 3, padding=1)
        self.second = nn.Conv3d(16, 16, 3, padding=1)
        self.head = nn.Conv3d(16, classes, 1)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map that the head makes the classes of."""
        return self.second(self.first(x).relu_()).relu_()


def segment(method: str, network: nn.Module, image: Tensor, overlap: float) -> Tensor:
    if method == "ours":
        return segment_label_map(network, image, Sliding(WINDOW, overlap))
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        scores = sliding_window_inference(
            image[None], WINDOW, 1, network, overlap=overlap, mode="gaussian"
        )
        return scores[0].argmax(0).to(torch.uint8)


def measure(method: str, kind: str, size: list[int], classes: int, overlap: float) -> None:
    torch.manual_seed(0)
    network = (nn.Conv3d(1, classes, 1) if kind == "cheap" else Small(classes)).eval()
    image = torch.randn(1, *size)
    if method == "monai":
        import monai.inferers  # noqa: F401
    begin = time.perf_counter()
    labels = segment(method, network, image, overlap)
    duration = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    checksum = int((labels.long() * torch.arange(labels.numel()).view_as(labels) % 1009).sum())
    print(duration, peak, checksum)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 256])
    parser.add_argument("--classes", type=int, default=118)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--methods", nargs="+", default=["monai", "ours"])
    parser.add_argument("--networks", nargs="+", default=["cheap", "small"])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        measure(given.methods[0], given.networks[0], given.size, given.classes, given.overlap)
        return
    print("| network | method | time (s) | peak memory (GiB) | checksum of the labels |")
    print("|---|---|---|---|---|")
    common = ["--classes", str(given.classes), "--overlap", str(given.overlap), "--size"]
    common += [str(edge) for edge in given.size]
    for kind in given.networks:
        for method in given.methods:
            options = ["--alone", "--networks", kind, "--methods", method, *common]
            command = [sys.executable, __file__, *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            duration, peak, checksum = done.stdout.split()[-3:]
            row = f"{float(duration):.1f} | {float(peak):.2f} | {checksum}"
            print(f"| {kind} | {method} | {row} |", flush=True)


if __name__ == "__main__":
    main()
