"""What differs between tasks in the one loop: the loss of a batch, the evaluation, the features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from voxgraft.errors import RecipeError
from voxgraft.feeds import Batch, Feed
from voxgraft.models import Network, SegmentationNetwork
from voxgraft.tasks import Task
from voxgraft.tasks.segmentation import SegmentationTask
from voxgraft.training.evaluation import Evaluation, evaluate_cases
from voxgraft.training.segmentation import SlidCases, crop_loss, evaluate_segmentation

AnyNetwork = Network | SegmentationNetwork
AnyTask = Task | SegmentationTask
Validation = Feed | SlidCases

Augment = Callable[[Tensor], Tensor]
"""Augments images on the device; crops with labels come augmented already."""


def batch_loss(
    network: AnyNetwork,
    task: AnyTask,
    batch: Batch,
    device: torch.device,
    augmented: Augment | None,
    before_forward: Callable[[], object],
    autocast: Callable[[], Any],
) -> Tensor:
    """Return the loss of a training batch.

    Args:
        network: The network, on its device.
        task: Its task.
        batch: From the feed.
        device: The network's.
        augmented: Applied to images that come without labels of voxels.
        before_forward: Called once the images are ready (seeds dropout).
        autocast: Gives the context of the forward pass.
    """
    if isinstance(network, SegmentationNetwork) and isinstance(task, SegmentationTask):
        before_forward()
        return crop_loss(network, task, batch, device, autocast)
    if isinstance(network, SegmentationNetwork) or isinstance(task, SegmentationTask):
        raise AssertionError("check_training has seen that network and task go together")
    images = batch.images.to(device, non_blocking=True)
    targets = batch.targets.to(device, non_blocking=True)
    if augmented is not None:
        images = augmented(images)
    before_forward()
    with autocast():
        logits = network(images, batch.bags)
    return task.loss(logits.float(), targets)


def evaluate(network: AnyNetwork, task: AnyTask, validation: Validation | None) -> Evaluation:
    """Evaluate on validation cases; without any there are no metrics."""
    if isinstance(validation, SlidCases):
        if not (isinstance(network, SegmentationNetwork) and isinstance(task, SegmentationTask)):
            raise AssertionError("check_training has seen that network and task go together")
        return evaluate_segmentation(network, task, validation)
    if validation is None:
        return Evaluation(float("nan"), {}, "")
    if isinstance(network, SegmentationNetwork) or isinstance(task, SegmentationTask):
        raise AssertionError("check_training has seen that network and task go together")
    return evaluate_cases(network, task, validation)


def for_probe(
    network: AnyNetwork, task: AnyTask, validation: Validation | None
) -> tuple[Network, Task, Feed | None]:
    """Return network, task and cases of a linear probe.

    Raises:
        RecipeError: If they are of a segmentation.
    """
    if (
        isinstance(network, SegmentationNetwork)
        or isinstance(task, SegmentationTask)
        or isinstance(validation, SlidCases)
    ):
        raise RecipeError(
            "adapt is 'probe', which fits a linear head on pooled features; a segmentation has "
            "none. Expected full, frozen (decoder and head train), layerwise, gradual or lora."
        )
    return network, task, validation


def check_kinds(network: AnyNetwork, task: AnyTask, validation: Validation | None) -> None:
    """See that network, task and validation cases are of one kind.

    Raises:
        RecipeError: If they are not.
    """
    segments = isinstance(task, SegmentationTask)
    fits = isinstance(network, SegmentationNetwork) == segments
    if validation is not None:
        fits = fits and isinstance(validation, SlidCases) == segments
    if not fits:
        wanted = "a segmentation network and whole cases" if segments else "an encoder with a head"
        raise RecipeError(
            f"the task ({task.target.describe()}) needs {wanted}, found a "
            f"{type(network).__name__} and {type(validation).__name__}. Build the network for the "
            "task."
        )
