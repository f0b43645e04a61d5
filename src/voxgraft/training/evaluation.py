"""Outputs of a network in evaluation mode, for the cases of a feed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.feeds import Feed, float64_array
from voxgraft.metrics.table import Scored
from voxgraft.models import Network
from voxgraft.tasks import Task
from voxgraft.types import Json

Run = Callable[[Tensor, Tensor | None], Tensor]
"""Takes images (M, C, D, H, W), and which study of the batch each is of; None: one each."""


def predict_scores(
    network: Network, task: Task, feed: Feed, *, batch_size: int | None = None
) -> Float[np.ndarray, "n o"]:
    """Return the scores of a feed's cases: probabilities, or values in the target's unit.

    In evaluation mode and float32, on the device where the network lies; modes are afterwards as
    they were. A case's score does not depend on the cases beside it, but for rounding: kernels
    may sum in another order at another batch size. Where several items are of one case (windows
    of a study), their scores are pooled as the feed says.

    Args:
        network: A trained network.
        task: The task that it was trained for, fitted.
        feed: Cases to score.
        batch_size: Items in one forward pass; as the feed says if None.
    """
    return feed.pool(predict_items(network, task, feed, batch_size=batch_size))


def predict_items(
    network: Network, task: Task, feed: Feed, *, batch_size: int | None = None
) -> Float[np.ndarray, "n o"]:
    """Return the scores of a feed's items, not pooled; otherwise as :func:`predict_scores`."""
    return task.decode(compute_outputs(network, network, feed, batch_size))


def compute_features(
    network: Network, feed: Feed, *, batch_size: int | None = None
) -> Float[Tensor, "n f"]:
    """Return the pooled features that the head sees, in evaluation mode and float32, on the CPU.

    Args:
        network: A network.
        feed: Items.
        batch_size: Items in one forward pass; as the feed says if None.
    """
    return compute_outputs(network, network.forward_pooled, feed, batch_size)


def compute_outputs(
    network: Network, run: Run, feed: Feed, batch_size: int | None = None
) -> Float[Tensor, "n o"]:
    """Return what ``run`` gives for each item, on the CPU, with the network in evaluation mode."""
    size = feed.evaluation_batch_size if batch_size is None else batch_size
    order = np.arange(len(feed.targets))
    schedule = [order[start : start + size] for start in range(0, len(order), size)]
    device = network.head.weight.device
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            outputs = [
                run(batch.images.to(device, non_blocking=True), batch.bags).float().cpu()
                for batch in feed.batches(schedule)
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


def evaluate_cases(network: Network, task: Task, feed: Feed) -> Evaluation:
    """Score all cases of a feed with every metric of the task."""
    return evaluate_logits(compute_outputs(network, network, feed), task, feed)


def evaluate_logits(logits: Float[Tensor, "n o"], task: Task, feed: Feed) -> Evaluation:
    """Score the logits of all items of a feed: the loss over items, metrics over cases."""
    if not bool(torch.isfinite(logits).all()):
        items = int((~torch.isfinite(logits)).any(dim=1).sum())
        fault = f"the outputs of {items} of {len(logits)} validation cases are not finite"
        return Evaluation(float("nan"), {}, fault)
    loss = float(task.loss(logits, feed.targets))
    scores = feed.pool(task.decode(logits))
    return Evaluation(loss, task.metrics(float64_array(feed.case_targets), scores), "")
