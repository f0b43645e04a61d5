"""The one training loop, for every task and every start."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

import torch

from voxgraft.feeds import Feed, float64_array
from voxgraft.models import Network
from voxgraft.training.adapt import Adapt
from voxgraft.training.checks import check_training, training_notices, training_settings
from voxgraft.training.cpu_bf16 import refuse_wrong_gradients
from voxgraft.training.kinds import AnyNetwork, AnyTask, Validation, for_probe
from voxgraft.training.memory_format import FORMATS, MemoryFormat
from voxgraft.training.optimization import Optimization
from voxgraft.training.probe import fit_probe
from voxgraft.training.result import FitResult, StepReport
from voxgraft.training.session import training_session
from voxgraft.training.state import TrainingState
from voxgraft.training.update import make_update
from voxgraft.transforms import Augmentation


def fit(
    network: AnyNetwork,
    task: AnyTask,
    train_feed: Feed,
    validation_feed: Validation | None,
    optimization: Optimization,
    adapt: Adapt,
    augmentation: Augmentation | None,
    *,
    folder: Path,
    seed: int,
    loaded: Collection[str] = (),
    on_step: Callable[[StepReport], None] | None = None,
    device: str | torch.device | None = None,
    memory_format: MemoryFormat = "contiguous",
    checkpoint_every_s: float = 30.0,
    checkpoint_every_steps: int | None = None,
) -> FitResult:
    """Train a network; it is changed in place and has the best weights afterwards.

    The task is fitted on the training targets and the head's bias set to their prior (but for a
    segmentation, whose head may come from the start). If
    ``folder`` holds a checkpoint of this training, it goes on from there: on a CPU with the same
    threads, to the same bits as without the interruption. Each evaluation appends a row to
    ``folder/metrics.jsonl``. The checkpoints in ``folder/checkpoint`` are the caller's to delete
    once the training's results are safe.

    A training that diverges (a loss, gradient or score is not finite) ends there, and the result
    says so; the network then has the best weights seen, at worst those it started with.

    Args:
        network: A network as the graft left it, with a new head.
        task: What to train for.
        train_feed: Training cases.
        validation_feed: Cases that the best weights are chosen on; None takes the last weights.
        optimization: Steps or epochs (of the training items), rates, precision, stopping.
        adapt: How the start is used.
        augmentation: Of the training batches; None for none.
        folder: Where checkpoint and metrics go.
        seed: Seed of everything random.
        loaded: Names of a segmentation decoder's parameters that came from the start, for
            ``adapt.method`` ``layerwise``.
        on_step: Told of each update. An exception from it ends the training, which can go on from
            its last checkpoint.
        device: Where to train; the best there is if None.
        memory_format: Layout of the network in memory. It changes sums in the last bits: one who
            chooses by measurement must record the choice and pass it again.
        checkpoint_every_s: Time between checkpoints, in seconds.
        checkpoint_every_steps: Updates between checkpoints, besides those by time.

    Raises:
        TaskError: If targets do not fit the task.
        RecipeError: If a setting cannot work with this network, device or number of cases.
        TrainingError: If the training cannot start, or the checkpoint is damaged or of another
            training.
    """
    task.fit(float64_array(train_feed.targets))
    optimization = optimization.resolved(len(train_feed.targets))
    check_training(network, task, train_feed, validation_feed, optimization, adapt)
    notices = training_notices(network, train_feed, optimization, adapt)
    settings = training_settings(optimization, adapt, train_feed, seed) | {
        "augmentation": None if augmentation is None else augmentation.to_dict(),
        "memory_format": memory_format,
    }
    with training_session(
        device, optimization.precision, optimization.accumulate, optimization.threads
    ) as accelerator:
        if accelerator.device.type == "cpu" and optimization.precision == "bf16":
            refuse_wrong_gradients(
                network,
                train_feed.image_shape,
                encoder_trains=adapt.method != "frozen",
                channels_last=memory_format == "channels_last",
            )
        network.to(accelerator.device)
        network.set_memory_format(FORMATS[memory_format])
        network.encoder.set_gradient_checkpointing(optimization.gradient_checkpointing)
        if isinstance(network, Network):
            with torch.no_grad():
                network.head.bias.copy_(task.initial_bias())
        if adapt.method == "probe":
            network, task, validation_feed = for_probe(network, task, validation_feed)
            return fit_probe(
                network,
                task,
                train_feed,
                validation_feed,
                optimization,
                adapt.setting("strengths"),
                folder=folder,
                seed=seed,
                on_step=on_step,
            )
        state = TrainingState(
            network,
            task,
            train_feed,
            validation_feed,
            optimization,
            adapt,
            accelerator,
            folder=folder,
            seed=seed,
            settings=settings,
            loaded=loaded,
        )
        progress, fault = state.progress, ""
        saved_at, saved_step = time.perf_counter(), progress.step
        with closing(state.training_batches()) as batches:
            while progress.step < optimization.steps and not progress.stopped_early:
                update = make_update(state, batches, augmentation)
                if fault := update.fault:
                    break
                state.after_update(update.loss)
                last = progress.step == optimization.steps
                if last or progress.step % optimization.eval_every == 0:
                    fault = state.evaluate(update.gradient_norm)
                    if fault:
                        break
                if time.perf_counter() - saved_at >= checkpoint_every_s or (
                    checkpoint_every_steps is not None
                    and progress.step - saved_step >= checkpoint_every_steps
                ):
                    state.save()
                    saved_at, saved_step = time.perf_counter(), progress.step
                if on_step is not None:
                    on_step(state.report(update.loss))
        return state.finish(fault, memory_format=memory_format, notices=notices)
