"""MONAI's networks, made to run without the package that rearranges their axes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.networks.blocks import selfattention
from monai.networks.nets import swin_unetr
from torch import Tensor, nn

Fill = Callable[[nn.Module], nn.Module]


def _permute(x: Tensor, pattern: str) -> Tensor:
    """Permute the axes as ``"b c d h w -> b d h w c"`` says."""
    before, after = (side.split() for side in pattern.split("->"))
    return x.permute([before.index(axis) for axis in after])


class _SplitHeads(nn.Module):
    """``b h (qkv l d) -> qkv b l h d`` for three parts and ``l`` heads."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = x.reshape(batch, tokens, 3, self.heads, width // 3 // self.heads)
        return parts.permute(2, 0, 3, 1, 4)


class _JoinHeads(nn.Module):
    """``b l h d -> b h (l d)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


def _rearrange_layer(pattern: str, **sizes: int) -> nn.Module:
    if pattern == "b h (qkv l d) -> qkv b l h d":
        assert sizes["qkv"] == 3
        return _SplitHeads(sizes["l"])
    assert pattern in ("b l h d -> b h (l d)", "b h l d -> b l (h d)"), pattern
    return _JoinHeads()


@pytest.fixture
def monai_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let MONAI's Swin UNETR and ViT run without einops."""
    monkeypatch.setattr(swin_unetr, "rearrange", _permute)
    monkeypatch.setattr(selfattention, "Rearrange", _rearrange_layer)


@pytest.fixture
def fill() -> Fill:
    """Give a network weights and statistics under which no layer is trivial."""

    def draw(network: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if not tensor.is_floating_point():
                    continue
                noise = torch.randn(tensor.shape, generator=generator)
                if tensor.ndim > 1:
                    tensor.copy_(noise * tensor[0].numel() ** -0.5)
                elif name.endswith(("running_var", "weight")):
                    tensor.copy_(1 + 0.1 * noise.abs())
                else:
                    tensor.copy_(0.1 * noise)
        return network.eval()

    return draw
