"""What the loop does for a segmentation: the loss of crops, and Dice on whole validation cases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from voxgraft.errors import ScoresError
from voxgraft.feeds import Batch, WholeCases
from voxgraft.feeds.kept import cut
from voxgraft.metrics import Scored
from voxgraft.models import SegmentationNetwork
from voxgraft.sliding import PackedMasks, Sliding, segment_label_map, segment_multilabel
from voxgraft.tasks.segmentation import SegmentationTask
from voxgraft.training.evaluation import Evaluation


@dataclass(frozen=True)
class SlidCases:
    """Whole cases, and how a network goes over them in windows."""

    cases: WholeCases
    sliding: Sliding

    @property
    def targets(self) -> Tensor:
        """(n, K): 1 for the classes that a case annotates."""
        return self.cases.targets

    def sliding_over(self, position: int) -> Sliding:
        """Return how windows go over a case; around it lies what training crops have there."""
        cases = self.cases
        background = cases.prepared.background_of(cases.case_ids[position])
        return replace(self.sliding, padding_value=background)


def crop_loss(
    network: SegmentationNetwork,
    task: SegmentationTask,
    batch: Batch,
    device: torch.device,
    autocast: Callable[[], Any] = nullcontext,
) -> Float[Tensor, ""]:
    """Return the loss of a batch of crops, with that of coarser maps under deep supervision.

    Args:
        network: The network, on its device.
        task: Its task, fitted.
        batch: Crops with labels.
        device: The network's.
        autocast: Gives the context of the forward pass; the loss is reckoned in float32, part by
            part, and gives its gradient in the precision of the outputs.
    """
    if batch.labels is None:
        raise AssertionError("crops of a segmentation have labels")
    images = batch.images.to(device, non_blocking=True)
    labels = batch.labels.to(device, non_blocking=True)
    known = batch.targets.to(device, non_blocking=True)
    with autocast():
        levels = network.forward_levels(images) if task.deep_supervision else [network(images)]
    strides = network.level_strides[: len(levels)]
    return task.loss(levels, labels, known, strides=strides)


def segment_stored(
    network: SegmentationNetwork,
    image: Float[np.ndarray, "c d h w"],
    sliding: Sliding,
    *,
    overlapping: bool,
) -> Integer[Tensor, "d h w"] | PackedMasks:
    """Return what a network sees in a stored volume.

    Args:
        network: In evaluation mode.
        image: As the store has it.
        sliding: How windows go over it.
        overlapping: Whether each class has a sigmoid of its own.

    Returns:
        A label map, 0 for background and k + 1 for class k; or the masks, where classes may
        overlap.

    Raises:
        ScoresError: If the network's scores are NaN.
        InferenceError: If the volume cannot be seen so.
    """
    given = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    if overlapping:
        return segment_multilabel(network, given, sliding)
    return segment_label_map(network, given, sliding)


def evaluate_segmentation(
    network: SegmentationNetwork, task: SegmentationTask, feed: SlidCases
) -> Evaluation:
    """Segment whole cases and count voxels: the mean over classes of the mean Dice over cases.

    A class counts in the cases that annotate it; one that is absent in a case and not predicted
    there has no Dice there. The loss is that of one crop a case, around the middle of its
    structures. A case that annotates no class is left out. Modes are afterwards as they were.

    Args:
        network: The network.
        task: Its task, fitted.
        feed: The cases, of which one annotates a class, on the grid of the store.

    Returns:
        The evaluation; with a fault and no metrics where the network's scores are NaN.

    Raises:
        InferenceError: If a case cannot be segmented for another reason.
        StoreError: If a file is gone or damaged.
    """
    device = next(network.parameters()).device
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    dice = np.full((len(feed.cases), len(task.target.classes)), np.nan)
    losses = []
    try:
        for place in range(len(feed.cases)):
            known = feed.targets[place].numpy() > 0.5
            if not known.any():
                continue
            image, labels = feed.cases.read(place)
            sliding = feed.sliding_over(place)
            try:
                found = segment_stored(network, image, sliding, overlapping=task.overlapping)
            except ScoresError as error:
                fault = f"validation case {feed.cases.case_ids[place]!r}: {error}"
                return Evaluation(float("nan"), {}, fault)
            dice[place] = dice_of_classes(found, labels, known)
            crop = middle_crop(image, labels, sliding)
            known_here = feed.targets[place : place + 1]
            batch = Batch(crop[0][None], known_here, labels=crop[1][None])
            with torch.no_grad():
                losses.append(float(crop_loss(network, task, batch, device)))
    finally:
        for module, training in modes:
            module.training = training
    metrics = {"dice": _mean_of_classes(dice)}
    return Evaluation(float(np.mean(losses)), metrics, "")


def dice_of_classes(
    found: Integer[Tensor, "d h w"] | PackedMasks,
    labels: Integer[np.ndarray, "l d h w"],
    known: np.ndarray,
) -> Float[np.ndarray, " k"]:
    """Return the Dice of each class of one case, NaN where it is unknown or in neither.

    Args:
        found: What a network saw.
        labels: As a feed serves them: -1 in the first layer is not counted.
        known: (K,), which classes the case annotates.
    """
    counted = labels[0] >= 0
    scores = np.full(len(known), np.nan)
    if isinstance(found, PackedMasks) or len(labels) > 1:
        for index in np.flatnonzero(known):
            own = found.mask(int(index)).numpy() if isinstance(found, PackedMasks) else None
            own = (np.asarray(found) == index + 1 if own is None else own) & counted
            truth = (labels == index + 1).any(axis=0)
            scores[index] = _dice(int((own & truth).sum()), int(own.sum()), int(truth.sum()))
        return scores
    classes = len(known) + 1
    pairs = labels[0][counted].astype(np.int64) * classes + found.numpy()[counted]
    table = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    for index in np.flatnonzero(known):
        value = int(index) + 1
        scores[index] = _dice(
            int(table[value, value]), int(table[:, value].sum()), int(table[value].sum())
        )
    return scores


def _dice(both: int, found: int, truth: int) -> float:
    return 2.0 * both / (found + truth) if found + truth else float("nan")


def _mean_of_classes(dice: Float[np.ndarray, "n k"]) -> Scored:
    seen = ~np.isnan(dice)
    counts = seen.sum(axis=0)
    if not counts.any():
        return Scored(float("nan"), "no class is in the reference or predicted in any case")
    means = np.where(seen, dice, 0.0).sum(axis=0)[counts > 0] / counts[counts > 0]
    absent = int((counts == 0).sum())
    return Scored(float(means.mean()), note=f"{absent} classes left out" if absent else "")


def middle_crop(
    image: Float[np.ndarray, "c d h w"], labels: Integer[np.ndarray, "l d h w"], sliding: Sliding
) -> tuple[Float[Tensor, "c D H W"], Integer[Tensor, "l D H W"]]:
    """Return a crop around the mean place of all structures, as a training crop would be.

    Args:
        image: A stored volume.
        labels: Its labels.
        sliding: The crop's size, and what lies around a volume that is smaller.
    """
    size = sliding.window_size
    places = np.nonzero((labels > 0).any(axis=0))
    start = []
    for own, edge, full in zip(places, size, labels.shape[1:], strict=True):
        center = own.mean() if len(own) else full / 2
        room = full - edge
        start.append(int(np.clip(round(center - edge / 2), 0, room)) if room > 0 else room // 2)
    crops = []
    for whole, fill in ((image, sliding.padding_value), (labels, 0)):
        part, inside = cut(whole, (start[0], start[1], start[2]), size)
        crop = np.full((len(whole), *size), fill, dtype=whole.dtype)
        crop[inside] = part
        crops.append(torch.from_numpy(crop))
    return crops[0].float(), crops[1]
