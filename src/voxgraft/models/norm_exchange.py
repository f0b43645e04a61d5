"""Exchange of batch normalization for group or instance normalization, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models.depth import check_choice
from voxgraft.models.layers.normalization import BatchNormAct3d, GroupNormAct

_BATCH = (nn.BatchNorm3d, nn.BatchNorm2d)
_EACH = (nn.GroupNorm, nn.InstanceNorm3d)


def exchange_norm(
    network: nn.Module, norm: str = "group", *, groups: int = 32, fold: bool = False
) -> int:
    """Replace each batch normalization of a network by group or instance normalization, in place.

    Group and instance normalization take their statistics from each volume alone, in training and
    evaluation alike, so small batches and running statistics are no concern. They keep the layer's
    scale, shift and epsilon, under the names that they had (``weight``, ``bias``), and an
    activation that the layer has. The running statistics are dropped: the responses of a
    pre-trained network change, and it must be fine-tuned.

    With ``fold``, what the running statistics say about the channels of a group is folded into
    scale and shift: to a volume whose channels have, each, the running mean and variance, the layer
    responds as before. Without it, the channels of a group that differ in mean and variance would
    lose their own standardization. For instance normalization there is nothing to fold: each
    channel is standardized by itself, as before.

    Where a layer's channels are not a multiple of ``groups``, the largest common divisor of both is
    its number of groups.

    Args:
        network: An encoder, or any network of 3D layers; 2D layers, of a network on slices, too.
        norm: ``"group"``, or ``"instance"``: groups of one channel.
        groups: Number of groups of channels.
        fold: Fold the running statistics into scale and shift.

    Returns:
        How many layers were replaced.

    Raises:
        ModelError: If ``norm`` is neither, ``groups`` is not positive, the network has no batch
            normalization, or there are no running statistics to fold.

    Source:
        arXiv:1803.08494, section 3.1; its default of 32 groups. Folding is ours.
    """
    check_choice("norm", norm, ("group", "instance"))
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ModelError(f"groups is {groups!r}; expected a whole number of at least 1, as 32.")
    layers = [layer for layer in network.modules() if isinstance(layer, _BATCH)]
    if not layers:
        raise ModelError(
            "the network has no batch normalization to exchange. Leave the exchange out: ConvNeXt, "
            "for one, already normalizes each volume by itself."
        )
    if fold and any(layer.running_mean is None for layer in layers):
        raise ModelError(
            "a batch normalization of the network keeps no running statistics: there is nothing to "
            "fold. Exchange without fold."
        )

    def make(layer: Any) -> nn.Module:
        channels = layer.num_features
        return _group_norm(layer, channels if norm == "instance" else groups, fold)

    return _replace(network, _BATCH, make)


def restore_batch_norm(network: nn.Module, volumes: Float[Tensor, "b c d h w"]) -> int:
    """Replace each group and instance normalization by batch normalization, in place.

    A network that normalizes each volume by itself runs once on ``volumes``. Then each batch
    normalization gets, as running statistics, mean and variance of what reached its place, and
    scale and shift such that its response to a volume with these statistics is that of the layer
    that it replaces. Activations in the layer are kept.

    Args:
        network: A network of 3D layers.
        volumes: Volumes like those to come, as the network takes them: the more, the better.

    Returns:
        How many layers were replaced.

    Raises:
        ModelError: If the network has no such layer, or one of them did not run, or not on volumes.

    Source: ours; the running statistics are those of arXiv:1502.03167, algorithm 2, of one batch.
    """
    layers = {name: m for name, m in network.named_modules() if isinstance(m, _EACH)}
    if not layers:
        raise ModelError(
            "the network has no group or instance normalization to exchange. Leave it out."
        )
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        if x.ndim == 5:
            seen[layer] = x.mean((2, 3, 4)), x.var((2, 3, 4), correction=0)

    handles = [layer.register_forward_pre_hook(note) for layer in layers.values()]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(volumes)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    faults = [name for name, layer in layers.items() if layer not in seen]
    if faults:
        raise ModelError(
            f"{', '.join(faults[:5])} normalized no volume while the network ran: there is nothing "
            "to make the running statistics of. Give a network of 3D layers all of which run."
        )
    return _replace(network, _EACH, lambda layer: _batch_norm(layer, *seen[layer]))


def _replace(
    network: nn.Module, kinds: tuple[type[nn.Module], ...], make: Callable[[Any], nn.Module]
) -> int:
    replaced = 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kinds):
                setattr(parent, name, make(child).train(child.training))
                replaced += 1
    return replaced


def _group_norm(layer: Any, groups: int, fold: bool) -> nn.GroupNorm:
    channels = layer.num_features
    count = math.gcd(channels, groups)
    exchanged: nn.GroupNorm
    if hasattr(layer, "act"):  # ours for volumes, timm's for images
        exchanged = GroupNormAct(count, channels, eps=layer.eps, drop=layer.drop, act=layer.act)
    else:
        exchanged = nn.GroupNorm(count, channels, layer.eps)
    exchanged = exchanged.to(layer.weight if layer.running_mean is None else layer.running_mean)
    if layer.affine:
        exchanged.weight, exchanged.bias = layer.weight, layer.bias
    if fold:
        mean, variance = layer.running_mean, layer.running_var
        group_mean, group_variance = _of_groups(mean[None], variance[None], count)
        with torch.no_grad():
            step = exchanged.weight / (variance + layer.eps).sqrt()
            exchanged.bias.add_(step * (group_mean[0] - mean))
            exchanged.weight.copy_(step * (group_variance[0] + layer.eps).sqrt())
    return exchanged


def _batch_norm(layer: Any, mean: Tensor, variance: Tensor) -> nn.BatchNorm3d:
    """Make a batch normalization of a layer and the statistics of each volume's channels there."""
    grouped = isinstance(layer, nn.GroupNorm)
    count = layer.num_groups if grouped else mean.shape[1]
    exchanged: nn.BatchNorm3d
    if isinstance(layer, GroupNormAct):
        exchanged = BatchNormAct3d(
            mean.shape[1], eps=layer.eps, momentum=0.1, affine=True, track_running_stats=True,
            drop=layer.drop, act=layer.act,
        )  # fmt: skip
    else:
        exchanged = nn.BatchNorm3d(mean.shape[1], layer.eps)
    exchanged = exchanged.to(mean)
    group_mean, group_variance = (part.mean(0) for part in _of_groups(mean, variance, count))
    whole_mean = mean.mean(0)
    whole_variance = variance.mean(0) + mean.var(0, correction=0)
    with torch.no_grad():
        if layer.weight is not None:
            exchanged.weight.copy_(layer.weight)
            exchanged.bias.copy_(layer.bias)
        step = exchanged.weight / (group_variance + layer.eps).sqrt()
        exchanged.bias.add_(step * (whole_mean - group_mean))
        exchanged.weight.copy_(step * (whole_variance + layer.eps).sqrt())
        assert exchanged.running_mean is not None
        assert exchanged.running_var is not None
        exchanged.running_mean.copy_(whole_mean)
        exchanged.running_var.copy_(whole_variance)
    return exchanged


def _of_groups(mean: Tensor, variance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel's group, from those of its channels, ``(n, c)``."""
    samples, channels = mean.shape
    means = mean.view(samples, groups, -1)
    whole = means.mean(-1, keepdim=True)
    spread = variance.view(samples, groups, -1).mean(-1, keepdim=True)
    spread = spread + means.var(-1, correction=0, keepdim=True)
    each = channels // groups
    return whole.expand(-1, -1, each).flatten(1), spread.expand(-1, -1, each).flatten(1)
