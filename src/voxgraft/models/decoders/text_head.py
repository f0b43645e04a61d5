"""A head that makes each class's last layers out of an embedding of the class's name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from voxgraft.errors import ModelError

EMBEDDING_CHANNELS = 512
"""Length of an embedding: that of CLIP's text encoder."""
_CONDITION = 256
_WIDTH = 8
_PARTS = (_WIDTH * _WIDTH, _WIDTH * _WIDTH, _WIDTH, _WIDTH, _WIDTH, 1)
"""Numbers of a class: the weights of its three layers, then their biases."""
_AT_ONCE = 8
"""Classes whose maps are held in memory at a time."""

Layers = tuple[Tensor, ...]


class TextHead(nn.Module):
    """Gives each class three 1x1x1 convolutions (8, 8 and 1 channels) made for it and the volume.

    The deepest map, pooled, and the embedding of the class, projected, are 256 numbers each; one
    linear layer makes the class's convolutions of them, which go over the decoder's finest map,
    reduced to 8 channels. A class is a row of ``organ_embedding`` and nothing else: there may be
    any number, and another set can take its place.

    The embeddings come from a file. CLIP's text encoder is not run here.

    The names of modules are those of the published files; where 16 groups do not divide the
    channels of a map, the group normalization has as many as do.

    Source: arXiv:2301.00785 (CLIP-driven Universal Model), section 3.2; arXiv:2501.11253 (SuPreM).
    """

    organ_embedding: Tensor

    def __init__(
        self, channels: int, deepest_channels: int, embeddings: Float[Tensor, "k 512"]
    ) -> None:
        """Make the head, with random weights.

        Args:
            channels: Of the decoder's finest map.
            deepest_channels: Of the deepest map.
            embeddings: Of the name of each class, in order.

        Raises:
            ModelError: If the embeddings have another shape, or are not finite.
        """
        super().__init__()
        self.precls_conv = nn.Sequential(
            nn.GroupNorm(math.gcd(16, channels), channels),
            nn.ReLU(),
            nn.Conv3d(channels, _WIDTH, 1),
        )
        self.GAP = nn.Sequential(
            nn.GroupNorm(math.gcd(16, deepest_channels), deepest_channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(deepest_channels, _CONDITION, 1),
        )
        self.controller = nn.Conv3d(2 * _CONDITION, sum(_PARTS), 1)
        self.text_to_vision = nn.Linear(EMBEDDING_CHANNELS, _CONDITION)
        self.register_buffer("organ_embedding", _checked(embeddings).clone())

    @property
    def outputs(self) -> int:
        """Number of classes."""
        return len(self.organ_embedding)

    @property
    def weight(self) -> Tensor:
        """The weights that make the classes' layers; a head of any kind has such a tensor."""
        return self.controller.weight

    def set_embeddings(self, embeddings: Float[Tensor, "k 512"]) -> None:
        """Take the classes of other embeddings; see ``SegmentationNetwork.set_embeddings``.

        Raises:
            ModelError: If the embeddings have another shape, or are not finite.
        """
        self.organ_embedding = _checked(embeddings).to(self.organ_embedding, copy=True)

    def forward(
        self, x: Float[Tensor, "b c d h w"], deepest: Float[Tensor, "b f i j l"]
    ) -> Float[Tensor, "b k d h w"]:
        """Return the logit of each class in each voxel.

        Args:
            x: The decoder's finest map.
            deepest: The deepest map of the same volume.
        """
        reduced = self.precls_conv(x)
        voxels = reduced.flatten(2)
        logits = [
            torch.cat([_call(_layers_of_classes, one, *layers) for layers in self._layers(pooled)])
            for one, pooled in zip(voxels, self.GAP(deepest), strict=True)
        ]
        return torch.stack(logits).view(len(x), self.outputs, *x.shape[2:])

    def _layers(self, pooled: Float[Tensor, "256 1 1 1"]) -> Iterator[Layers]:
        """Yield the weights and biases of some classes at a time, for one volume."""
        text = F.relu(self.text_to_vision(self.organ_embedding))
        seen = pooled.flatten().to(text.dtype).expand(self.outputs, -1)
        conditions = torch.cat([seen, text], dim=1)[:, :, None, None, None]
        numbers = self.controller(conditions).flatten(1)
        for some in numbers.split(_AT_ONCE):
            yield some.split(_PARTS, dim=1)


def _layers_of_classes(
    x: Float[Tensor, "8 v"],
    first: Float[Tensor, "k 64"],
    second: Float[Tensor, "k 64"],
    third: Float[Tensor, "k 8"],
    first_bias: Float[Tensor, "k 8"],
    second_bias: Float[Tensor, "k 8"],
    third_bias: Float[Tensor, "k 1"],
) -> Float[Tensor, "k v"]:
    """Return the logits of some classes; the maps between are forgotten."""
    count = len(first)
    kernel = first.reshape(count * _WIDTH, _WIDTH)
    x = F.relu(torch.addmm(first_bias.reshape(-1, 1), kernel, x)).view(count, _WIDTH, -1)
    kernel = second.reshape(count, _WIDTH, _WIDTH)
    x = F.relu(torch.baddbmm(second_bias[:, :, None], kernel, x))
    return torch.baddbmm(third_bias[:, :, None], third[:, None], x)[:, 0]


def _call(function: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """Call it, keeping none of its activations for the backward pass, which makes them again."""
    if not torch.is_grad_enabled():
        return function(*given)
    out: Any = checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False)
    result: Tensor = out
    return result


def _checked(embeddings: Tensor) -> Tensor:
    fits = embeddings.ndim == 2 and embeddings.shape[1] == EMBEDDING_CHANNELS and len(embeddings)
    if not fits or not embeddings.is_floating_point():
        raise ModelError(
            f"the embeddings of a text-driven head are {tuple(embeddings.shape)} of "
            f"{embeddings.dtype}; expected a row of {EMBEDDING_CHANNELS} floating-point numbers "
            "for each class. Give those of CLIP's text encoder, one row a class."
        )
    if not embeddings.is_meta and not bool(torch.isfinite(embeddings).all()):
        rows = (~torch.isfinite(embeddings).all(dim=1)).nonzero().flatten().tolist()
        raise ModelError(
            f"embeddings of a text-driven head are not finite in the rows {rows[:10]}. Make them "
            "again."
        )
    return embeddings.detach().float()
