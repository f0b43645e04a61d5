"""Peak memory and time of a crop's loss and gradient: our tiled losses and MONAI's DiceCELoss.

    OMP_NUM_THREADS=1 python benchmarks/segmentation_loss_memory.py [--edge 96] [--classes 5 25 118]

Logits of one crop with random labels; the loss and the gradient of the logits, as a training has
them: what the logits came from needs no gradient here. Each way runs in a process of its own, which
is warmed on a small crop; counted is the most resident memory, by the kernel's high-water mark, as
a multiple of the logits, these included. Time is the best of a few repetitions afterwards. With a
sigmoid each, MONAI's is its Dice and PyTorch's binary cross-entropy, since its DiceCELoss there
takes a softmax all the same. With several levels, each coarser one has logits of its own. With
``--device cuda`` the memory is the allocator's. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

WAYS = ("ours", "monai")
FORMS = ("softmax", "sigmoid")
Loss = Callable[[list[Tensor], Tensor], Tensor]


def resident_bytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


def our_loss(classes: int, overlapping: bool) -> Loss:
    from voxgraft.datasets import Target
    from voxgraft.tasks.segmentation import build_segmentation_task

    names = tuple(f"s{k}" for k in range(classes))
    task = build_segmentation_task(
        Target(kind="segmentation", columns=("masks",), classes=names),
        overlapping=overlapping,
        deep_supervision=True,
    )
    return lambda logits, labels: task.loss(
        logits, labels, torch.ones(1, classes, device=labels.device)
    )


def monai_loss(classes: int, overlapping: bool) -> Loss:
    from monai.losses import DeepSupervisionLoss, DiceCELoss, DiceLoss
    from monai.networks.utils import one_hot

    if overlapping:
        dice, entropy = DiceLoss(sigmoid=True), torch.nn.BCEWithLogitsLoss()

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            masks = one_hot(labels, classes + 1)[:, 1:]
            whole: Tensor = dice(logits, masks) + entropy(logits, masks)
            return whole
    else:
        both = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            whole: Tensor = both(logits, labels)
            return whole

    several = DeepSupervisionLoss(loss)
    return lambda levels, labels: cast(Tensor, several(levels, labels))


def measure(way: str, form: str, classes: int, edge: int, levels: int, device: str) -> None:
    """Print the peak, as a multiple of the logits, and the time in seconds."""
    ctypes.CDLL("libc.so.6").mallopt(-3, 1 << 20)  # large blocks go back when they are freed
    torch.manual_seed(0)
    overlapping = form == "sigmoid"
    make = our_loss if way == "ours" else monai_loss
    loss = make(classes, overlapping)

    def draw(size: int) -> tuple[list[Tensor], Tensor]:
        kept = torch.int16 if way == "ours" else torch.float32  # MONAI's one_hot takes floats
        labels = torch.randint(0, classes + 1, (1, 1, size, size, size)).to(kept)
        logits = [
            torch.randn(1, classes + (not overlapping), *(size // 2**k,) * 3, device=device)
            for k in range(levels)
        ]
        return [level.requires_grad_() for level in logits], labels.to(device)

    def step(logits: list[Tensor], labels: Tensor) -> None:
        torch.autograd.grad(loss(logits, labels), logits)
        if device != "cpu":
            torch.cuda.synchronize()

    step(*draw(16))
    given = draw(edge)
    gc.collect()
    if device == "cpu":
        before = resident_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        step(*given)
        peak = resident_bytes("VmHWM") - before
    else:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(*given)
        peak = torch.cuda.max_memory_allocated() - before
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        step(*given)
        times.append(time.perf_counter() - begin)
    whole = sum(4 * level.numel() for level in given[0])
    print(json.dumps([1 + peak / whole, min(times)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 25, 118])
    parser.add_argument("--levels", type=int, default=1, help="outputs under deep supervision")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        way, form, classes = chosen.one
        measure(way, form, int(classes), chosen.edge, chosen.levels, chosen.device)
        return
    print(f"one crop of {chosen.edge} voxels an edge, {chosen.levels} level(s), {chosen.device}\n")
    print("| form | classes | peak / logits: ours | MONAI | seconds: ours | MONAI | MONAI / ours |")
    print("|---|---|---|---|---|---|---|")
    options = ["--edge", chosen.edge, "--levels", chosen.levels, "--device", chosen.device]
    for form in FORMS:
        for classes in chosen.classes:
            found = {}
            for way in WAYS:
                command = [sys.executable, __file__, *options, "--one", way, form, classes]
                done = subprocess.run(
                    [str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True
                )
                found[way] = json.loads(done.stdout.splitlines()[-1])
            (ours, our_time), (theirs, their_time) = (found[way] for way in WAYS)
            print(
                f"| {form} | {classes} | {ours:.2f} | {theirs:.2f} | {our_time:.2f} | "
                f"{their_time:.2f} | {theirs / ours:.1f} × memory, {their_time / our_time:.1f} × "
                "time |",
                flush=True,
            )


if __name__ == "__main__":
    main()
