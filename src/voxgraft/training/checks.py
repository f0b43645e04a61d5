"""What must hold before a training starts, and what identifies it."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from voxgraft.errors import RecipeError, TrainingError
from voxgraft.feeds import Feed, float64_array
from voxgraft.tasks import Task
from voxgraft.tasks.segmentation import SegmentationTask
from voxgraft.training.adapt import Adapt
from voxgraft.training.batchnorm import batchnorm_layers, single_values
from voxgraft.training.kinds import (
    AnyNetwork,
    AnyTask,
    Validation,
    check_kinds,
    for_probe,
)
from voxgraft.training.optimization import Optimization
from voxgraft.training.segmentation import SlidCases
from voxgraft.training.stages import with_head
from voxgraft.types import Json


def check_training(
    network: AnyNetwork,
    task: AnyTask,
    train_feed: Feed,
    validation_feed: Validation | None,
    optimization: Optimization,
    adapt: Adapt,
) -> None:
    """Refuse what would fail, or mean nothing, only after hours.

    Args:
        network: The network to train.
        task: Its task, fitted.
        train_feed: Training cases.
        validation_feed: Validation cases, if there are any.
        optimization: The settings.
        adapt: How the start is used.

    Raises:
        RecipeError: If settings do not fit the network or the cases.
        TrainingError: If the primary metric is undefined on the validation cases.
    """
    check_kinds(network, task, validation_feed)
    if adapt.method == "probe":
        for_probe(network, task, validation_feed)
    if network.outputs != task.outputs:
        raise RecipeError(
            f"the network has {network.outputs} outputs, expected {task.outputs} for "
            f"this {task.target.kind} task. Build it with outputs=task.outputs."
        )
    apart = with_head(network.encoder)
    fresh = [n for n, _ in network.encoder.named_parameters() if apart and n.startswith(apart)]
    if fresh and adapt.method == "probe":
        raise RecipeError(
            f"a probe fits a head on features of a network that does not train, and {fresh[0]} "
            f"(and {len(fresh) - 1} more) of this one are untrained: no source has them. Choose a "
            "network without them (join: mean or max), or adapt: frozen, which trains them."
        )
    layers = _lone_batchnorm(network, train_feed, optimization, adapt)
    alone = single_values(network, layers, train_feed.image_shape)
    if alone:
        raise RecipeError(
            "a batch has one case, and the network has BatchNorm that sees a single value a "
            f"channel of it, of which there is no variance ({len(alone)} layers, the first "
            f"{alone[0]}). Raise optimization.batch_size, give more training cases or larger "
            "crops, or graft with norm 'group'."
        )
    if optimization.balance == "classes" and task.target.kind not in ("binary", "multiclass"):
        raise RecipeError(
            f"optimization.balance is 'classes', expected 'none' for a {task.target.kind} target: "
            "its cases do not fall into classes."
        )
    if validation_feed is None:
        if optimization.early_stop_patience is not None:
            raise RecipeError(
                "optimization.early_stop_patience needs validation cases, and there are none. "
                "Set it to null, or split off validation patients."
            )
        if optimization.schedule == "plateau":
            raise RecipeError(
                "optimization.schedule is 'plateau', which watches validation cases, and there are "
                "none. Expected 'cosine' or 'constant'; or split off validation patients."
            )
        if adapt.method == "probe" and len(adapt.setting("strengths")) > 1:
            raise RecipeError(
                "a probe chooses its L2 strength on validation cases, and there are none. "
                "Give one value in adapt.strengths, or split off validation patients."
            )
        return
    if isinstance(task, SegmentationTask) or isinstance(validation_feed, SlidCases):
        known = validation_feed.targets.sum(dim=0) > 0
        if not bool(known.any()):
            raise TrainingError(
                "no validation case annotates any of the classes "
                f"{', '.join(task.target.classes)}, so no Dice can be computed. Add validation "
                "patients with masks of them."
            )
        return
    reason = undefined_reason(task, float64_array(validation_feed.case_targets))
    if reason:
        raise TrainingError(
            f"{task.primary.name} cannot be computed on the {len(validation_feed.targets)} "
            f"validation cases: {reason}. Add validation patients, or choose another metric "
            "(task.primary)."
        )


def training_notices(
    network: AnyNetwork, train_feed: Feed, optimization: Optimization, adapt: Adapt
) -> tuple[str, ...]:
    """Return sentences about a training that can begin, but that one should know of."""
    layers = _lone_batchnorm(network, train_feed, optimization, adapt)
    if not layers:
        return ()
    return (
        f"a batch has one case, so {len(layers)} BatchNorm layers take mean and variance from the "
        "voxels of a single case: they differ from step to step. A larger "
        "optimization.batch_size, or start.norm 'group' or 'instance', would not",
    )


def _lone_batchnorm(
    network: AnyNetwork, train_feed: Feed, optimization: Optimization, adapt: Adapt
) -> list[_BatchNorm]:
    """Return the BatchNorm layers that train, if batches have a single case."""
    if min(optimization.batch_size, len(train_feed.targets)) > 1:
        return []
    layers = batchnorm_layers(network)
    if adapt.method not in ("frozen", "probe", "lora"):
        return layers
    apart = with_head(network.encoder)
    still = {
        part
        for name, part in network.encoder.named_modules()
        if not (apart and name.startswith(apart))
    }
    return [layer for layer in layers if layer not in still]


def undefined_reason(task: Task, targets: np.ndarray) -> str:
    """Return why the primary metric is undefined on these cases whatever the scores, or ``""``."""
    if len(targets) == 0:
        return "there is no case"
    ramp = torch.linspace(-1.0, 1.0, len(targets) * task.outputs).reshape(-1, task.outputs)
    scored = task.metrics(targets, task.decode(ramp))[task.primary.name]
    return "" if np.isfinite(scored.value) else scored.reason


def training_settings(
    optimization: Optimization, adapt: Adapt, train_feed: Feed, seed: int
) -> Json:
    """Return what makes two trainings the same one, as JSON."""
    targets = np.ascontiguousarray(float64_array(train_feed.targets))
    plain = dataclasses.asdict(adapt)
    return {
        "optimization": dataclasses.asdict(optimization),
        "adapt": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in plain.items()
        },
        "seed": seed,
        "training_cases": len(targets),
        "training_targets": hashlib.sha256(targets.tobytes()).hexdigest()[:16],
    }
