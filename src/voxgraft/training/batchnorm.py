"""Running statistics of BatchNorm: how far train and eval mode disagree, and estimating anew.

A converted network carries running statistics of other images (an inflated one of 2D images), and
a short training moves them only part of the way. In training mode nothing shows; in evaluation
mode the features are off. Both are measured here, and mended without a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from voxgraft.feeds import Feed
from voxgraft.models import Network, SegmentationNetwork
from voxgraft.training.optimization import Optimization
from voxgraft.training.schedule import BatchSchedule


@dataclass(frozen=True, kw_only=True)
class Reestimation:
    """The disagreement of train and eval mode before and after estimating anew."""

    step: int
    """Step before which it was measured; 0 is before training."""
    before: float
    """Relative disagreement as found."""
    after: float
    """Relative disagreement afterwards; equal to ``before`` if nothing was done."""
    done: bool
    """Whether running statistics were estimated anew."""


Pooled = Callable[[Tensor], Tensor]
"""Images in, pooled features (or logits) out."""


def batchnorm_layers(network: nn.Module, *, training_only: bool = False) -> list[_BatchNorm]:
    """Return the layers that keep running statistics.

    Args:
        network: Any network.
        training_only: Leave out those that are in evaluation mode now (frozen ones).
    """
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm)
        and module.track_running_stats
        and (module.training or not training_only)
    ]


def reestimate(
    network: nn.Module,
    layers: list[_BatchNorm],
    batches: Iterable[Float[Tensor, "b c d h w"]],
    pooled: Pooled | None = None,
) -> None:
    """Estimate the running statistics of ``layers`` anew: the mean over ``batches``.

    Every other layer is in evaluation mode meanwhile (no dropout); modes and momenta are
    afterwards as they were.

    Args:
        network: The network that the layers are part of; called without gradients.
        layers: BatchNorm layers to estimate.
        batches: Images on the network's device, without augmentation; at least one batch.
        pooled: How the network is called; by itself if None.

    Source:
        arXiv:2105.07576, section 3.2 (PreciseBN), with equal weights of the batches; PyTorch's
        cumulative average leaves out the variance of the batches' means.
    """
    run = network if pooled is None else pooled
    with _only_in_training(network, layers), _cumulative(layers), torch.no_grad():
        for images in batches:
            run(images)


def measure_disagreement(
    network: nn.Module,
    layers: list[_BatchNorm],
    batches: Iterable[Float[Tensor, "b c d h w"]],
    pooled: Pooled | None = None,
) -> float:
    """Return how far outputs with batch statistics and with running statistics are apart.

    ``sqrt(sum |t - e|^2 / (sum |t|^2 / 2 + sum |e|^2 / 2))`` over all batches, of the outputs
    ``t`` with batch statistics and ``e`` with running statistics of ``layers``: 0 where they
    agree, at most 2. Infinite where an output is not finite. The network stays as it was.

    Args:
        network: The network that the layers are part of; called without gradients.
        layers: BatchNorm layers that differ between the modes.
        batches: Images on the network's device.
        pooled: How the network is called; by itself if None.
    """
    run = network if pooled is None else pooled
    images = list(batches)
    kept = _statistics(layers)
    with torch.no_grad():
        with _only_in_training(network, layers):
            trained = [run(batch) for batch in images]
        _put_back(layers, kept)
        return _distance(trained, _evaluated(network, run, images))


def settle_batchnorm(
    network: nn.Module,
    layers: list[_BatchNorm],
    batches: Iterable[Float[Tensor, "b c d h w"]],
    *,
    step: int,
    tolerance: float,
    pooled: Pooled | None = None,
) -> Reestimation:
    """Measure the disagreement, estimate anew where it exceeds a tolerance, and measure again.

    The same as :func:`measure_disagreement` on the first two batches, :func:`reestimate` on all,
    and :func:`measure_disagreement` again, with each pass made once.

    Args:
        network: The network that the layers are part of; called without gradients.
        layers: BatchNorm layers to look at; without any, nothing is done.
        batches: Images on the network's device, without augmentation; read as far as needed.
        step: Recorded in the result.
        tolerance: Disagreement that is left alone; negative to estimate anew in any case.
        pooled: How the network is called; by itself if None.
    """
    if not layers:
        return Reestimation(step=step, before=0.0, after=0.0, done=False)
    run = network if pooled is None else pooled
    stream = iter(batches)
    images = list(itertools.islice(stream, _MEASURED_BATCHES))
    kept = _statistics(layers)
    with torch.no_grad():
        evaluated = _evaluated(network, run, images)
        with _cumulative(layers):
            with _only_in_training(network, layers):
                trained = [run(batch) for batch in images]
            before = _distance(trained, evaluated)
            if before <= tolerance:
                _put_back(layers, kept)
                return Reestimation(step=step, before=before, after=before, done=False)
            with _only_in_training(network, layers):
                for batch in stream:
                    run(batch)
        after = _distance(trained, _evaluated(network, run, images))
    return Reestimation(step=step, before=before, after=after, done=True)


def settle_on_cases(
    network: Network | SegmentationNetwork,
    layers: list[_BatchNorm],
    feed: Feed,
    optimization: Optimization,
    step: int,
    seed: int,
) -> Reestimation:
    """Settle layers on training cases without augmentation, as the recipe asks for.

    Args:
        network: The network that the layers are part of; its pooled features are compared.
        layers: BatchNorm layers to look at.
        feed: Training cases; the batches of one seed are the same at every step.
        optimization: When to estimate anew, and from how many batches.
        step: Recorded in the result.
        seed: Seed of the training.
    """
    schedule = BatchSchedule(
        len(feed.targets), optimization.batch_size, seed, purpose="running statistics"
    )
    epoch = math.ceil(schedule.cases / schedule.batch_size)
    count = min(optimization.batchnorm_batches, epoch)
    device = next(network.parameters()).device
    tolerance = {"auto": optimization.batchnorm_tolerance, "always": -1.0, "never": math.inf}
    if schedule.batch_size < 2 and single_values(network, layers, feed.image_shape):
        return Reestimation(step=step, before=0.0, after=0.0, done=False)
    return settle_batchnorm(
        network,
        layers,
        (batch.images.to(device) for batch in feed.batches(schedule.batches(0, count))),
        step=step,
        tolerance=tolerance[optimization.batchnorm],
        pooled=pooled_features(network),
    )


def single_values(
    network: Network | SegmentationNetwork, layers: list[_BatchNorm], image_shape: Sequence[int]
) -> list[str]:
    """Return the names of BatchNorm layers that see one value a channel in a batch of one image.

    PyTorch refuses to train these: a single value has no variance. The network sees one empty
    image, and stays as it is.

    Args:
        network: A network.
        layers: Those of its layers that are asked about.
        image_shape: (channels, depth, height, width) of an image.
    """
    found: list[str] = []
    asked = set(layers)
    handles = [
        layer.register_forward_pre_hook(
            lambda _, given, name=name: (
                found.append(name) if given[0].numel() == given[0].shape[1] else None
            )
        )
        for name, layer in network.named_modules()
        if layer in asked
    ]
    like = next(network.parameters())
    try:
        if layers:
            with torch.no_grad(), _only_in_training(network, []):
                pooled_features(network)(like.new_zeros((1, *image_shape)))
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(found))


def pooled_features(network: Network | SegmentationNetwork) -> Pooled:
    """Return what gives a vector of each image, without the head."""
    if isinstance(network, SegmentationNetwork):
        return lambda images: network.forward_features(images).mean(dim=(2, 3, 4))
    return network.forward_pooled


_MEASURED_BATCHES = 2


def _evaluated(network: nn.Module, run: Pooled, images: list[Tensor]) -> list[Tensor]:
    with _only_in_training(network, []):
        return [run(batch) for batch in images]


def _distance(trained: list[Tensor], evaluated: list[Tensor]) -> float:
    apart = size = 0.0
    for one, other in zip(trained, evaluated, strict=True):
        one, other = one.double(), other.double()
        apart += float((one - other).square().sum())
        size += 0.5 * float(one.square().sum() + other.square().sum())
    if not math.isfinite(apart + size):
        return math.inf
    return math.sqrt(apart / size) if size > 0 else 0.0


@contextmanager
def _only_in_training(network: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    for layer in layers:
        layer.training = True  # not train(): a layer's own dropout stays off
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _cumulative(layers: list[_BatchNorm]) -> Iterator[None]:
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # PyTorch's cumulative average
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _statistics(layers: list[_BatchNorm]) -> list[list[Tensor]]:
    return [[buffer.clone() for buffer in layer.buffers(recurse=False)] for layer in layers]


def _put_back(layers: list[_BatchNorm], kept: list[list[Tensor]]) -> None:
    for layer, statistics in zip(layers, kept, strict=True):
        for buffer, value in zip(layer.buffers(recurse=False), statistics, strict=True):
            buffer.copy_(value)
