"""What a plan counts for a training step against what a real step takes on the CPU.

    python benchmarks/planning_memory.py

Each network trains one step in a process of its own (forward, Dice + cross-entropy of five
structures, backward, AdamW): the peak of its resident memory less what it had before the network
was built. Beside it stands what `voxgraft plan` counts without running anything. Linux only.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import torch

from voxgraft.models import build_encoder
from voxgraft.models.decoders.build import usual_decoder
from voxgraft.planning import TrainedNetwork, TrainingMemory

STEP = Path(__file__).parents[1] / "tests" / "planning" / "one_step.py"
CLASSES = 5
STEPS = (("segresnet_16", 64, 2), ("nnunet_5_stages_3d", 64, 1), ("resnet18_3d", 64, 2),
         ("swin_unetr_12", 64, 1))  # fmt: skip


def main() -> None:
    print("| network | decoder | crops | counted | a real step | ratio | counting took |")
    print("|---|---|---|---|---|---|---|")
    for model, edge, crops in STEPS:
        with torch.device("meta"):
            decoder = usual_decoder(build_encoder(model))
        begin = time.perf_counter()
        memory = TrainingMemory(TrainedNetwork(model=model, classes=CLASSES, decoder=decoder))
        counted = memory.training_bytes((edge,) * 3, crops)
        took = time.perf_counter() - begin
        said = subprocess.run(
            [sys.executable, "-P", STEP, model, decoder, str(CLASSES), str(edge), str(crops)],
            capture_output=True,
            text=True,
            check=False,
        )
        if said.returncode:
            sys.exit(said.stderr)
        real = int(said.stdout)
        print(
            f"| {model} | {decoder} | {crops} of {edge}³ | {counted / 2**20:.0f} MiB "
            f"| {real / 2**20:.0f} MiB | {counted / real:.2f} | {took:.1f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
