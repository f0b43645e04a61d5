"""Exchange of batch normalization for group normalization."""

from __future__ import annotations

import math

from torch import nn

from voxgraft.errors import ModelError
from voxgraft.models.depth import check_choice
from voxgraft.models.layers.normalization import BatchNormAct3d, GroupNormAct


def exchange_norm(network: nn.Module, norm: str = "group", *, groups: int = 32) -> int:
    """Replace each batch normalization of a network by group normalization, in place.

    Group normalization takes its statistics from each volume alone, in training and evaluation
    alike, so small batches and running statistics are no concern. It keeps the layer's scale,
    shift and epsilon, under the names that they had (``weight``, ``bias``), and an activation that
    the layer has. The running statistics are dropped: the responses of a pre-trained network
    change, and it must be fine-tuned.

    Where a layer's channels are not a multiple of ``groups``, the largest common divisor of both is
    its number of groups.

    Args:
        network: An encoder, or any network of 3D layers.
        norm: Only ``"group"``.
        groups: Number of groups of channels.

    Returns:
        How many layers were replaced.

    Raises:
        ModelError: If ``norm`` is not ``"group"``, ``groups`` is not positive, or the network has
            no batch normalization.

    Source:
        arXiv:1803.08494, section 3.1; its default of 32 groups.
    """
    check_choice("norm", norm, ("group",))
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ModelError(f"groups is {groups!r}; expected a whole number of at least 1, as 32.")
    replaced = 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm3d):
                setattr(parent, name, _group_norm(child, groups))
                replaced += 1
    if replaced == 0:
        raise ModelError(
            "the network has no batch normalization to exchange. Leave the exchange out: ConvNeXt, "
            "for one, already normalizes each volume by itself."
        )
    return replaced


def _group_norm(layer: nn.BatchNorm3d, groups: int) -> nn.GroupNorm:
    channels = layer.num_features
    count = math.gcd(channels, groups)
    exchanged: nn.GroupNorm
    if isinstance(layer, BatchNormAct3d):
        exchanged = GroupNormAct(count, channels, eps=layer.eps, drop=layer.drop, act=layer.act)
    else:
        exchanged = nn.GroupNorm(count, channels, layer.eps)
    if layer.affine:
        exchanged.weight, exchanged.bias = layer.weight, layer.bias
    return exchanged.train(layer.training)
