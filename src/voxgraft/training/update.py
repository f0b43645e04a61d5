"""One update of the parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from voxgraft.feeds import Batch
from voxgraft.training.kinds import batch_loss
from voxgraft.training.schedule import stream_seed
from voxgraft.training.state import TrainingState
from voxgraft.transforms import Augmentation, augment


@dataclass(frozen=True)
class Update:
    """What one update came to."""

    loss: float
    gradient_norm: float | None
    """Norm before clipping; None where nothing is clipped."""
    fault: str
    """What was not finite; empty if all was. The parameters then did not move."""


def make_update(
    state: TrainingState,
    batches: Iterator[Batch],
    augmentation: Augmentation | None,
) -> Update:
    """Make the next update.

    Everything random in it comes from ``(seed, step)``: the batches were drawn so, augmentation
    and dropout are seeded here.

    Args:
        state: Where the training stands.
        batches: The batches from here on.
        augmentation: What may happen to a training sample; None for nothing.
    """
    network, optimizer, optimization = state.network, state.optimizer, state.optimization
    accelerator, seed = state.accelerator, state.seed
    device, step = accelerator.device, state.progress.step
    rate = state.learning_rate(step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
    total = 0.0
    for part in range(optimization.accumulate):
        number = step * optimization.accumulate + part
        batch = next(batches)
        augmented = (
            None
            if augmentation is None
            else partial(
                augment,
                augmentation=augmentation,
                seed=stream_seed(seed, number, "augmentation"),
                background=state.background,
                spacing_mm=state.spacing_mm,
            )
        )
        seeded = partial(torch.manual_seed, stream_seed(seed, number, "dropout"))
        with accelerator.accumulate(network):
            loss = batch_loss(
                network, state.task, batch, device, augmented, seeded, accelerator.autocast
            )
            total += loss.item() / optimization.accumulate
            if not math.isfinite(total):
                optimizer.zero_grad()
                return Update(total, None, f"the training loss is {total}")
            accelerator.backward(loss)
    norm = None
    if optimization.gradient_clip_norm is not None:
        moving = [p for group in optimizer.param_groups for p in group["params"]]
        norm = float(accelerator.clip_grad_norm_(moving, optimization.gradient_clip_norm))
        if not math.isfinite(norm) and optimization.precision != "fp16":
            optimizer.zero_grad()
            return Update(total, norm, f"the norm of the gradient is {norm}")
    optimizer.step()
    optimizer.zero_grad()
    return Update(total, norm, "")
