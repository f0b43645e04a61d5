"""How much of a training's time is not forward, backward and the optimizer's step.

    python benchmarks/training_loop.py

Prints a Markdown row a network for BENCHMARKS.md. Volumes lie in memory: what is measured is the
loop itself (batches, seeds, loss, clipping, records), with and without augmentation.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from voxgraft.datasets.target import Target
from voxgraft.feeds import Batch, Feed
from voxgraft.models import Network, build_encoder
from voxgraft.tasks import build_task
from voxgraft.training import Adapt, Optimization, fit
from voxgraft.transforms import Augmentation

SIZE, CASES, BATCH, STEPS, THREADS = 32, 64, 16, 12, 2


class MemoryFeed(Feed):
    """Cases in memory."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        images = generator.random((CASES, 1, SIZE, SIZE, SIZE), dtype=np.float32)
        super().__init__(np.arange(CASES)[:, None] % 2)
        self.images = torch.from_numpy(images)
        self.prepared = SimpleNamespace(background=0.0, spacing_mm=(1.0, 1.0, 1.0))

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """Shape of a case."""
        return 1, SIZE, SIZE, SIZE

    def batches(self, schedule: Any, *, first_step: int = 0) -> Any:
        """Serve batches."""
        for positions in schedule:
            chosen = torch.as_tensor(positions)
            yield Batch(self.images[chosen], self.targets[chosen])


class Stopwatch:
    """Time spent in wrapped functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that adds its time."""

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def measure(model: str, augmentation: Augmentation | None) -> tuple[float, float]:
    """Return seconds a step, and the fraction that is neither pass nor update."""
    watch = Stopwatch()
    network = Network(build_encoder(model, seed=0), 1, seed=0)
    network.forward = watch.wrap(network.forward)  # type: ignore[method-assign]
    plain = torch.Tensor.backward, torch.optim.AdamW.step
    torch.Tensor.backward = watch.wrap(plain[0])  # type: ignore[method-assign]
    torch.optim.AdamW.step = watch.wrap(plain[1])  # type: ignore[method-assign]
    marks: list[tuple[float, float]] = []
    target = Target(kind="binary", columns=("label",), classes=("no", "yes"))
    plan = Optimization(
        steps=STEPS, batch_size=BATCH, eval_every=STEPS, threads=THREADS, batchnorm="never"
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            fit(
                network,
                build_task(target),
                MemoryFeed(),
                None,
                plan,
                Adapt(),
                augmentation,
                folder=Path(folder),
                seed=0,
                device="cpu",
                on_step=lambda _: marks.append((time.perf_counter(), watch.seconds)),
            )
    finally:
        torch.Tensor.backward, torch.optim.AdamW.step = plain  # type: ignore[method-assign]
    # the first steps warm up; the last one is followed by the evaluation
    (begin, busy_before), (end, busy) = marks[1], marks[-2]
    total = end - begin
    return total / (len(marks) - 3), 1.0 - (busy - busy_before) / total


def main() -> None:
    """Print the rows."""
    standard = Augmentation.standard()
    for model in ("efficientnet_lite0_3d", "plain_resnet10_3d"):
        step_s, overhead = measure(model, None)
        augmented_s, with_augmentation = measure(model, standard)
        print(
            f"| training loop, {model}, {BATCH} x {SIZE}³, {THREADS} threads | "
            f"{step_s:.2f} s a step, {overhead:.1%} outside passes and update; with augmentation "
            f"{augmented_s:.2f} s, {with_augmentation:.1%} | `python benchmarks/training_loop.py` |"
        )


if __name__ == "__main__":
    main()
