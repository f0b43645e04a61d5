"""The moving parts of one training, between two updates."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from voxgraft.feeds import Batch, Feed, float64_array
from voxgraft.training.adapt import Adapt, Adaptation, set_training_modes
from voxgraft.training.batchnorm import Reestimation, batchnorm_layers, settle_on_cases
from voxgraft.training.checkpoint import (
    check_settings,
    load_checkpoint,
    load_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    snapshot,
)
from voxgraft.training.kinds import AnyNetwork, AnyTask, Validation, evaluate
from voxgraft.training.optimization import Optimization
from voxgraft.training.optimizers import Ema, build_optimizer
from voxgraft.training.progress import METRICS_FILE, Progress, finite
from voxgraft.training.result import FitResult, StepReport
from voxgraft.training.schedule import BatchSchedule, count_plateaus, learning_rate_at
from voxgraft.training.session import MemoryPeak
from voxgraft.types import Json

CHECKPOINT_FOLDER = "checkpoint"


class TrainingState:
    """A network, its optimizer, its average, its best weights, and how far they have come."""

    def __init__(
        self,
        network: AnyNetwork,
        task: AnyTask,
        train_feed: Feed,
        validation_feed: Validation | None,
        optimization: Optimization,
        adapt: Adapt,
        accelerator: Accelerator,
        *,
        folder: Path,
        seed: int,
        settings: Json,
        loaded: Collection[str] = (),
    ) -> None:
        """Start from the network as it is, or from the checkpoint in ``folder``."""
        self.network = network
        self.task = task
        self.train_feed = train_feed
        self.validation_feed = validation_feed
        self.optimization = optimization
        self.accelerator = accelerator
        self.folder = folder
        self.seed = seed
        self.background = train_feed.prepared.background
        self.spacing_mm = train_feed.prepared.spacing_mm
        self.settings = settings
        self.memory = MemoryPeak(accelerator.device)
        self._before = (time.perf_counter(), train_feed.waiting_s)
        self._parameters = sum(parameter.numel() for parameter in network.parameters())
        groups = ["network", "optimizer", "best"]
        if optimization.ema_decay is not None:
            groups.append("ema")
        found = load_checkpoint(folder / CHECKPOINT_FOLDER, groups)
        self.progress = Progress()
        if found is None:
            layers = batchnorm_layers(network)
            settled = settle_on_cases(network, layers, train_feed, optimization, 0, seed)
            self.progress.start_batchnorm = dataclasses.asdict(settled)
        self.adaptation = Adaptation(adapt, network, optimization.steps, seed, loaded)
        network.to(accelerator.device)
        parameter_groups = self.adaptation.parameter_groups(network, optimization)
        self.trainable_parameters = sum(
            p.numel() for group in parameter_groups for p in group["params"]
        )
        self._named = {
            name: parameter
            for group in parameter_groups
            for name, parameter in zip(group["names"], group["params"], strict=True)
        }
        for group in parameter_groups:
            del group["names"]
        self.optimizer: Any = accelerator.prepare_optimizer(
            build_optimizer(parameter_groups, optimization, accelerator.device)
        )
        self.ema = None if optimization.ema_decay is None else Ema(network, optimization.ema_decay)
        self.resumed_at: int | None = None
        if found is None:
            self.best = snapshot(network)
        else:
            self._resume(*found)
        self.progress.write_history(folder / METRICS_FILE)
        self._set_trainable()

    @property
    def evaluated(self) -> AnyNetwork:
        """The network whose weights are evaluated and kept: the average, if there is one."""
        return self.network if self.ema is None else self.ema.network

    def training_batches(self) -> Generator[Batch, None, None]:
        """Yield the batches of the updates still to come."""
        labels = None
        if self.optimization.balance == "classes":
            labels = float64_array(self.train_feed.targets)[:, 0].astype(int)
        cases, size = len(self.train_feed.targets), self.optimization.batch_size
        schedule = BatchSchedule(cases, size, self.seed, labels)
        parts = self.optimization.accumulate
        first, last = self.progress.step * parts, self.optimization.steps * parts
        yield from self.train_feed.batches(schedule.batches(first, last), first_step=first)

    def learning_rate(self, step: int) -> float:
        """Return the rate of the update from ``step``, after the evaluations so far."""
        plateaus = 0
        if self.optimization.schedule == "plateau":
            of_loss = self.optimization.plateau_on == "loss"
            plateaus = count_plateaus(
                self.progress.evaluations(None if of_loss else self.task.primary.name),
                self.optimization,
                higher_is_better=self.task.higher_is_better and not of_loss,
            )
        return learning_rate_at(step, self.optimization, plateaus)

    def after_update(self, loss: float) -> None:
        """Count an update, and let the average and the trainable set follow."""
        self.progress.add_loss(loss)
        if self.ema is not None:
            self.ema.follow(self.network, self.progress.step)
        if self.progress.step in self.adaptation.thaw_steps().values():
            self._set_trainable()
        self.memory.look()

    def evaluate(self, gradient_norm: float | None) -> str:
        """Evaluate, add a row to the history, keep the weights if they are the best.

        Args:
            gradient_norm: Of the last update, for the row.

        Returns:
            What was not finite; empty if all was.
        """
        progress, optimization = self.progress, self.optimization
        settled = self._settle()
        evaluation = evaluate(self.evaluated, self.task, self.validation_feed)
        self.memory.look()
        if evaluation.fault:
            return evaluation.fault
        row = {
            "step": progress.step,
            "train_loss": progress.take_mean_loss(),
            "learning_rate": self.learning_rate(progress.step - 1),
            "gradient_norm": None if gradient_norm is None else finite(gradient_norm),
            **evaluation.to_row(),
            "batchnorm": dataclasses.asdict(settled),
            "seconds": round(self.seconds, 3),
        }
        value = row["validation"].get(self.task.primary.name)
        higher = self.task.higher_is_better
        if progress.add_row(row, value, higher_is_better=higher):
            self.best = snapshot(self.evaluated)
        patience = optimization.early_stop_patience
        if patience is not None and progress.evaluations_since_best() >= patience:
            progress.stopped_early = progress.step < optimization.steps
        progress.append_last_row(self.folder / METRICS_FILE)
        return ""

    def save(self) -> None:
        """Write a checkpoint."""
        scaler = self.accelerator.scaler
        progress = dataclasses.replace(
            self.progress, seconds=self.seconds, waiting_s=self.waiting_s
        )
        state = {
            "settings": self.settings,
            "progress": progress.to_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        names = {parameter: name for name, parameter in self._named.items()}
        tensors = {
            "network": self.network.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer.optimizer, names),
            "best": self.best,
        }
        if self.ema is not None:
            tensors["ema"] = self.ema.network.state_dict()
        save_checkpoint(self.folder / CHECKPOINT_FOLDER, self.progress.step, state, tensors)

    def report(self, loss: float) -> StepReport:
        """Return what a progress bar shows after an update."""
        rows = self.progress.history
        value = rows[-1]["validation"].get(self.task.primary.name) if rows else None
        return StepReport(
            step=self.progress.step, steps=self.optimization.steps, loss=loss, value=value
        )

    def finish(self, fault: str, **record: Any) -> FitResult:
        """Put the best weights into the network, make it plain, and return the result."""
        load_tensors(self.network, self.best, "the best weights")
        self.adaptation.finish(self.network)
        self.network.zero_grad(set_to_none=True)
        self.network.eval()
        self.memory.look()
        progress = self.progress
        best = [row["batchnorm"] for row in progress.history if row["step"] == progress.best_step]
        return FitResult(
            best_step=progress.best_step,
            best_value=progress.best_value,
            metric=self.task.primary.name,
            history=progress.history,
            steps_planned=self.optimization.steps,
            steps_done=progress.step,
            stopped_early=progress.stopped_early,
            diverged=bool(fault),
            divergence=f"{fault} (after {progress.step} updates)" if fault else "",
            learning_rate=self.optimization.learning_rate,
            batchnorm={
                "start": progress.start_batchnorm,
                "best": best[0] if best else progress.start_batchnorm,
            },
            trainable_parameters=self.trainable_parameters,
            parameters=self._parameters,
            seconds=self.seconds,
            waiting_s=self.waiting_s,
            peak_memory_mib=self.memory.mib,
            device=str(self.accelerator.device),
            threads=torch.get_num_threads(),
            resumed_at=self.resumed_at,
            **record,
        )

    @property
    def seconds(self) -> float:
        """Time of this training so far, without what was lost by kills."""
        return self.progress.seconds + time.perf_counter() - self._before[0]

    @property
    def waiting_s(self) -> float:
        """Part of it spent waiting for training batches."""
        return self.progress.waiting_s + self.train_feed.waiting_s - self._before[1]

    def _settle(self) -> Reestimation:
        """Look at the BatchNorm layers that train, in the network that is evaluated."""
        training = [layer.training for layer in batchnorm_layers(self.network)]
        layers = list(itertools.compress(batchnorm_layers(self.evaluated), training))
        step, seed = self.progress.step, self.seed
        return settle_on_cases(
            self.evaluated, layers, self.train_feed, self.optimization, step, seed
        )

    def _set_trainable(self) -> None:
        self.adaptation.set_trainable(self.network, self.progress.step)
        set_training_modes(self.network)

    def _resume(self, state: Json, tensors: dict[str, dict[str, Tensor]]) -> None:
        where = self.folder / CHECKPOINT_FOLDER
        check_settings(where, state["settings"], self.settings)
        load_tensors(self.network, tensors["network"], f"the checkpoint in {where}")
        restore_optimizer(self.optimizer.optimizer, self._named, tensors["optimizer"])
        if self.ema is not None:
            load_tensors(self.ema.network, tensors["ema"], f"the average in {where}")
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.best = tensors["best"]
        self.progress = Progress.from_dict(state["progress"])
        self.resumed_at = self.progress.step
