"""The 3D normalization and scaling layers of a twin; their tensors have timm's names."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class BatchNormAct3d(nn.BatchNorm3d):
    """Batch normalization, then dropout and an activation, as timm's ``BatchNormAct2d``."""

    def __init__(
        self,
        num_features: int,
        *,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        drop: nn.Module,
        act: nn.Module,
    ) -> None:
        """Make the layer around a dropout and an activation."""
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.drop = drop
        self.act = act

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Normalize and activate."""
        activated: Tensor = self.act(self.drop(super().forward(x)))
        return activated


class GroupNormAct(nn.GroupNorm):
    """Group normalization, then dropout and an activation."""

    def __init__(
        self, groups: int, num_channels: int, *, eps: float, drop: nn.Module, act: nn.Module
    ) -> None:
        """Make the layer around a dropout and an activation."""
        super().__init__(groups, num_channels, eps)
        self.drop = drop
        self.act = act

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        """Normalize and activate."""
        activated: Tensor = self.act(self.drop(super().forward(x)))
        return activated


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalization over the channels of each voxel, as timm's ``LayerNorm2d``."""

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Normalize."""
        return super().forward(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class GlobalResponseNorm3d(nn.Module):
    """Global response normalization over the whole volume.

    Source: ConvNeXt V2, arXiv:2301.00808, section 3.2, as timm's ``GlobalResponseNorm``; the norm
    of a channel is taken over depth too. The ratio to the mean over channels makes it independent
    of how many equal slices a volume has.
    """

    def __init__(self, dim: int, *, eps: float, channels_last: bool) -> None:
        """Make the layer for ``dim`` channels, which are the last axis or the second."""
        super().__init__()
        self.eps = eps
        self.channels_last = channels_last
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize."""
        space, channel = ((1, 2, 3), -1) if self.channels_last else ((2, 3, 4), 1)
        shape = (-1,) if self.channels_last else (-1, 1, 1, 1)
        norm = torch.linalg.vector_norm(x, dim=space, keepdim=True)
        ratio = norm / (norm.mean(dim=channel, keepdim=True) + self.eps)
        return x + torch.addcmul(self.bias.view(shape), self.weight.view(shape), x * ratio)


class LayerScale3d(nn.Module):
    """A learned factor for each channel, as timm's ``LayerScale2d``."""

    def __init__(self, gamma: nn.Parameter) -> None:
        """Adopt the factors."""
        super().__init__()
        self.gamma = gamma

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Scale."""
        return x * self.gamma.view(-1, 1, 1, 1)
