"""An inflation of our own, independent of the converter's, and 2D networks worth comparing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

Inflate = Callable[[Tensor, tuple[int, ...], str], Tensor]


def _values(shape: tuple[int, ...], scale: float, shift: int) -> Tensor:
    """Return pseudo-random numbers, read from a fixed pool: drawing millions takes too long."""
    count = int(torch.tensor(shape).prod()) if shape else 1
    pool = _POOL.roll(shift)
    repeats = -(-count // len(pool))
    return scale * pool.repeat(repeats)[:count].reshape(shape)


_POOL = torch.randn(99_991, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def randomize() -> Callable[[nn.Module], None]:
    """Give a 2D network weights and statistics under which no layer is trivial.

    Every tensor is drawn; then the running statistics are those of a batch of noise, so that
    activations neither vanish nor explode on the way.
    """

    def fill(network: nn.Module) -> None:
        network.to_empty(device="cpu")
        with torch.no_grad():
            for index, (name, tensor) in enumerate(network.state_dict().items()):
                shape = tuple(tensor.shape)
                if not tensor.is_floating_point():
                    tensor.zero_()
                elif tensor.ndim > 1:
                    fan_in = tensor[0].numel()
                    tensor.copy_(_values(shape, fan_in**-0.5, 977 * index))
                elif name.endswith(("weight", "gamma")):
                    tensor.copy_(1 + _values(shape, 0.1, 977 * index))
                else:
                    tensor.copy_(_values(shape, 0.1, 977 * index))
            norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
            for norm in norms:
                norm.momentum = 1.0
            channels = next(p.shape[1] for p in network.parameters() if p.ndim == 4)
            if norms:
                network.train()(_values((4, channels, 64, 64), 1.0, 13))
            network.eval()

    return fill


@pytest.fixture(scope="session")
def inflate() -> Inflate:
    """Extend a 2D kernel along depth."""

    def extend(kernel: Tensor, shape: tuple[int, ...], method: str) -> Tensor:
        if kernel.ndim != 4:
            return kernel
        if method == "average":
            return (kernel / shape[2]).unsqueeze(2).repeat(1, 1, shape[2], 1, 1)
        deep = torch.zeros(shape)
        deep[:, :, shape[2] // 2] = kernel
        return deep

    return extend
