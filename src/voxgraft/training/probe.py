"""Linear probing: a linear head, fitted on features that were computed once."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.feeds import Feed
from voxgraft.models import Network
from voxgraft.tasks import Task
from voxgraft.training.batchnorm import batchnorm_layers, settle_on_cases
from voxgraft.training.evaluation import Evaluation, compute_features, evaluate_logits
from voxgraft.training.optimization import Optimization
from voxgraft.training.progress import METRICS_FILE, Progress
from voxgraft.training.result import FitResult, StepReport
from voxgraft.training.session import MemoryPeak


@dataclass(frozen=True)
class LinearHead:
    """Weights and biases on raw features, in float64."""

    weight: Float[Tensor, "o f"]
    bias: Float[Tensor, " o"]

    def __call__(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n o"]:
        """Return logits."""
        return features.double() @ self.weight.T + self.bias

    def put_into(self, head: nn.Linear) -> None:
        """Copy the values into a network's head, in its own precision."""
        with torch.no_grad():
            head.weight.copy_(self.weight)
            head.bias.copy_(self.bias)


def fit_linear_head(
    features: Float[Tensor, "n f"], targets: Float[Tensor, "n k"], task: Task, strength: float
) -> LinearHead:
    """Fit a linear head with an L2 penalty.

    Minimises ``mean loss + strength / 2 * |W|^2`` on features standardised with their own mean
    and standard deviation; the bias is free. Classification takes the task's own loss and L-BFGS;
    regression takes half the squared error of the standardised targets (ridge) in closed form.

    Args:
        features: Pooled features of the training cases.
        targets: Their encoded targets.
        task: The task, fitted.
        strength: Weight of the penalty.
    """
    features = features.double()
    mean, sd = features.mean(dim=0), features.std(dim=0, unbiased=False)
    varies = sd > 1e-12 * (1.0 + mean.abs())
    scaled = torch.where(varies, (features - mean) / torch.where(varies, sd, 1.0), 0.0)
    if task.target.kind == "regression":
        weight, bias = _ridge(scaled, targets.double(), task, strength)
    else:
        weight, bias = _logistic(scaled, targets.double(), task, strength)
    weight = torch.where(varies, weight / torch.where(varies, sd, 1.0), 0.0)
    return LinearHead(weight, bias - weight @ mean)


def _ridge(scaled: Tensor, targets: Tensor, task: Task, strength: float) -> tuple[Tensor, Tensor]:
    wanted = (targets - targets.new_tensor(task.fitted.mean)) / targets.new_tensor(task.fitted.sd)
    bias = wanted.mean(dim=0)
    wanted = wanted - bias
    cases, width = scaled.shape
    if width <= cases:
        gram = scaled.T @ scaled / cases
        gram.diagonal().add_(strength)
        return torch.linalg.solve(gram, scaled.T @ wanted / cases).T, bias
    gram = scaled @ scaled.T / cases
    gram.diagonal().add_(strength)
    return (scaled.T @ torch.linalg.solve(gram, wanted / cases)).T, bias


def _logistic(
    scaled: Tensor, targets: Tensor, task: Task, strength: float
) -> tuple[Tensor, Tensor]:
    weight = torch.zeros(task.outputs, scaled.shape[1], dtype=torch.float64, requires_grad=True)
    bias = task.initial_bias().double().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=500,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = task.loss(scaled @ weight.T + bias, targets)
        loss = loss + 0.5 * strength * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def fit_probe(
    network: Network,
    task: Task,
    train_feed: Feed,
    validation_feed: Feed | None,
    optimization: Optimization,
    strengths: tuple[float, ...],
    *,
    folder: Path,
    seed: int,
    on_step: Callable[[StepReport], None] | None,
) -> FitResult:
    """Compute features once, fit a head for each L2 strength, and keep the best in the network.

    BatchNorm is settled before features are computed. The strength is chosen by the primary
    metric on the validation cases; of equals the strongest is taken. There is no checkpoint:
    after a kill the probe is made again, to the same bits on a CPU.

    Args:
        network: The network, on its device.
        task: The task, fitted.
        train_feed: Training cases.
        validation_feed: Validation cases; None where there is one strength only.
        optimization: How BatchNorm is settled; steps and rates have no meaning here.
        strengths: L2 strengths to choose from.
        folder: Where the metrics go.
        seed: Seed of the training.
        on_step: Told of each fit.
    """
    started, waited = time.perf_counter(), train_feed.waiting_s
    memory = MemoryPeak(network.head.weight.device)
    layers = batchnorm_layers(network)
    settled = settle_on_cases(network, layers, train_feed, optimization, 0, seed)
    features = compute_features(network, train_feed)
    targets = train_feed.targets
    held_out = None if validation_feed is None else compute_features(network, validation_feed)
    memory.look()
    progress = Progress(start_batchnorm=dataclasses.asdict(settled))
    best, fault = None, ""
    if not bool(torch.isfinite(features).all()):
        fault = "the features of the training cases are not finite"
    for number, strength in enumerate(sorted(strengths, reverse=True) if not fault else []):
        head = fit_linear_head(features, targets, task, strength)
        evaluation = Evaluation(math.nan, {}, "")
        if held_out is not None and validation_feed is not None:
            evaluation = evaluate_logits(head(held_out), task, validation_feed)
            if evaluation.fault:
                fault = evaluation.fault
                break
        progress.step += 1
        row = {
            "step": progress.step,
            "strength": strength,
            "train_loss": float(task.loss(head(features), targets)),
            **evaluation.to_row(),
            "seconds": round(time.perf_counter() - started, 3),
        }
        value = row["validation"].get(task.primary.name)
        if progress.add_row(row, value, higher_is_better=task.higher_is_better):
            best = (strength, head)
        if on_step is not None:
            on_step(
                StepReport(
                    step=number + 1, steps=len(strengths), loss=row["train_loss"], value=value
                )
            )
    progress.write_history(folder / METRICS_FILE)
    if best is not None:
        best[1].put_into(network.head)
    network.eval()
    memory.look()
    batchnorm = dataclasses.asdict(settled)
    return FitResult(
        best_step=progress.best_step,
        best_value=progress.best_value,
        metric=task.primary.name,
        history=progress.history,
        steps_planned=len(strengths),
        steps_done=progress.step,
        stopped_early=False,
        diverged=bool(fault),
        divergence=fault,
        learning_rate=None,
        batchnorm={"start": batchnorm, "best": batchnorm},
        trainable_parameters=sum(parameter.numel() for parameter in network.head.parameters()),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        strength=None if best is None else best[0],
        seconds=time.perf_counter() - started,
        waiting_s=train_feed.waiting_s - waited,
        peak_memory_mib=memory.mib,
        device=str(network.head.weight.device),
        threads=torch.get_num_threads(),
        memory_format="contiguous"
        if network.memory_format == torch.contiguous_format
        else "channels_last",
    )
