"""Low-rank adapters on convolutions and linear layers, merged into plain weights at the end."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from voxgraft.errors import TrainingError


class LowRank(nn.Module):
    """Adds ``alpha / rank * left @ right``, in the weight's shape, to a frozen weight.

    ``left`` starts at zero, so that an adapted network first computes what it did before.

    Source:
        arXiv:2106.09685, section 4.1 (linear layers). For convolutions the kernel is taken as a
        matrix ``(out, in / groups * depth * height * width)``; the reference implementation
        widens the factors by the kernel's size instead.
    """

    def __init__(
        self, weight: Float[Tensor, "out ..."], rank: int, alpha: float, seed: int
    ) -> None:
        """Make the factors for one weight.

        Args:
            weight: Weight of a linear layer or of a convolution.
            rank: Rank of the update; at most the smaller side of the weight as a matrix.
            alpha: The update's factor is ``alpha / rank``.
            seed: Seed of the random factor.
        """
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        draw = torch.rand(rank, columns, generator=torch.Generator().manual_seed(seed))
        bound = 1.0 / math.sqrt(columns)
        right = ((2.0 * draw - 1.0) * bound).to(weight)
        self.left = nn.Parameter(torch.zeros(rows, rank).to(weight))
        self.right = nn.Parameter(right)
        self.scale = alpha / rank

    def forward(self, weight: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
        """Return the adapted weight."""
        return weight + (self.scale * (self.left @ self.right)).view(weight.shape)


def add_adapters(
    encoder: nn.Module, rank: int, alpha: float, seed: int, *, apart: tuple[str, ...] = ()
) -> list[str]:
    """Put an adapter on every convolution and linear layer, in place, and freeze all else.

    Args:
        encoder: Network whose weights are adapted.
        rank: Rank of each update.
        alpha: Factor of each update, over the rank.
        seed: Seed of the random factors; each layer has its own stream.
        apart: Beginnings of names that are left as they are: they train by themselves.

    Returns:
        Names of the adapted layers.

    Raises:
        TrainingError: If there is nothing to adapt.
    """
    for name, parameter in encoder.named_parameters():
        if not name.startswith(apart):
            parameter.requires_grad_(False)
    layers = [
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and not name.startswith(apart)
    ]
    if not layers:
        raise TrainingError(
            "the encoder has no convolution or linear layer that low-rank adapters could adapt. "
            "Choose another way to use the start (adapt.method), such as 'full'."
        )
    for number, (_, module) in enumerate(layers):
        adapter = LowRank(module.weight, rank, alpha, seed + number)
        parametrize.register_parametrization(module, "weight", adapter)
        module.parametrizations.weight.original.requires_grad_(False)  # type: ignore[union-attr]
    return [name for name, _ in layers]


def merge_adapters(network: nn.Module) -> None:
    """Add every adapter to its weight and remove it: the network is a plain one again."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
