"""Outputs of a network in evaluation mode, for the cases of a feed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.errors import TrainingError
from voxgraft.metrics.table import Scored
from voxgraft.models import Network
from voxgraft.tasks import Task
from voxgraft.training.feed import CaseFeed, case_targets
from voxgraft.types import Json

EVALUATION_BATCH_SIZE = 16


def predict_scores(
    network: Network,
    task: Task,
    feed: CaseFeed,
    *,
    positions: Sequence[int] | None = None,
    batch_size: int = EVALUATION_BATCH_SIZE,
) -> Float[np.ndarray, "n o"]:
    """Return the scores of cases: probabilities, or values in the target's unit.

    In evaluation mode and float32, on the device where the network lies; modes are afterwards as
    they were. A case's score does not depend on the cases beside it, but for rounding: kernels
    may sum in another order at another batch size.

    Args:
        network: A trained network.
        task: The task that it was trained for, fitted.
        feed: Cases to score.
        positions: Which cases of the feed, in which order; all, in the feed's order, if None.
        batch_size: Cases in one forward pass.
    """
    logits = compute_outputs(network, network, feed, positions, batch_size)
    return task.decode(logits)


def compute_features(
    network: Network,
    feed: CaseFeed,
    *,
    positions: Sequence[int] | None = None,
    batch_size: int = EVALUATION_BATCH_SIZE,
) -> Float[Tensor, "n f"]:
    """Return the pooled features that the head sees, in evaluation mode and float32, on the CPU.

    Args:
        network: A network.
        feed: Cases.
        positions: Which cases of the feed, in which order; all, in the feed's order, if None.
        batch_size: Cases in one forward pass.
    """
    return compute_outputs(network, network.forward_pooled, feed, positions, batch_size)


def compute_outputs(
    network: Network,
    run: Callable[[Tensor], Tensor],
    feed: CaseFeed,
    positions: Sequence[int] | None = None,
    batch_size: int = EVALUATION_BATCH_SIZE,
) -> Float[Tensor, "n o"]:
    """Return what ``run`` gives for each case, on the CPU, with the network in evaluation mode.

    Raises:
        TrainingError: If there are no cases.
    """
    order = np.arange(len(feed.targets)) if positions is None else np.asarray(positions, np.int64)
    schedule = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(order) == 0:
        raise TrainingError("no cases were asked for. Expected at least one position of the feed.")
    device = network.head.weight.device
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            outputs = [
                run(images.to(device, non_blocking=True)).float().cpu()
                for images, _ in feed.batches(schedule)
            ]
    finally:
        for module, training in modes:
            module.training = training
    return torch.cat(outputs)


@dataclass(frozen=True)
class Evaluation:
    """How a network does on the cases of a feed."""

    loss: float
    metrics: dict[str, Scored]
    fault: str
    """What was not finite; empty if all was (else there are no metrics)."""

    def to_row(self) -> Json:
        """Return the part of a history's row: undefined metrics are None, with their reason."""
        metrics = self.metrics.items()
        return {
            "validation": {
                name: scored.value if math.isfinite(scored.value) else None
                for name, scored in metrics
            },
            "undefined": {name: scored.reason for name, scored in metrics if scored.reason},
            "validation_loss": self.loss if math.isfinite(self.loss) else None,
        }


def evaluate_cases(
    network: Network, task: Task, feed: CaseFeed, batch_size: int = EVALUATION_BATCH_SIZE
) -> Evaluation:
    """Score all cases of a feed with every metric of the task."""
    return evaluate_logits(compute_outputs(network, network, feed, None, batch_size), task, feed)


def evaluate_logits(logits: Float[Tensor, "n o"], task: Task, feed: CaseFeed) -> Evaluation:
    """Score logits of all cases of a feed with every metric of the task."""
    if not bool(torch.isfinite(logits).all()):
        cases = int((~torch.isfinite(logits)).any(dim=1).sum())
        fault = f"the outputs of {cases} of {len(logits)} validation cases are not finite"
        return Evaluation(float("nan"), {}, fault)
    loss = float(task.loss(logits, feed.targets))
    return Evaluation(loss, task.metrics(case_targets(feed), task.decode(logits)), "")
