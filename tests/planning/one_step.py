"""A real training step on the CPU in a process of its own; prints the bytes that it took.

Arguments: network, decoder, structures, edge of the crops, crops.
"""

import ctypes
import os
import re
import sys
from pathlib import Path
from threading import Event, Thread

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from voxgraft.models import build_segmentation
from voxgraft.tasks.segmentation.loss import crop_loss


def anonymous() -> int:
    """Return the resident memory of no file; pages of libraries come and go by themselves."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


class Peak(Thread):
    """Looks at the memory every millisecond, as the kernel keeps no peak of this part of it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self._ended = 0, Event()

    def run(self) -> None:
        while not self._ended.wait(0.001):
            self.most = max(self.most, anonymous())

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.most


def step(network: torch.nn.Module, classes: int, edge: int, crops: int) -> None:
    labels = torch.randint(0, classes + 1, (crops, 1, *(edge,) * 3), dtype=torch.int16)
    known = torch.ones(crops, classes, dtype=torch.bool)
    loss = crop_loss(
        network(torch.rand(crops, 1, *(edge,) * 3)),
        labels,
        known,
        kind="dice_ce",
        overlapping=False,
    )
    loss.backward()


def main() -> None:
    model, decoder, *numbers = sys.argv[1:]
    classes, edge, crops = map(int, numbers)
    torch.set_num_threads(1)
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(-3, 1 << 20)  # large blocks go back to the system when they are freed
    warm = build_segmentation(model, classes + 1, decoder=decoder)
    step(warm, classes, 32, 1)  # libraries load their code
    del warm
    libc.malloc_trim(0)
    before = anonymous()
    peak = Peak()
    peak.start()
    network = build_segmentation(model, classes + 1, decoder=decoder)
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes the moments
    optimizer.zero_grad()
    step(network, classes, edge, crops)
    optimizer.step()
    print(peak.end() - before)


main()
