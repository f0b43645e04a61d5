"""Channel attention over volumes; the submodules have timm's names."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


def squeeze(x: Float[Tensor, "b c d h w"], *, add_maxpool: bool) -> Float[Tensor, "b c 1 1 1"]:
    """Return each channel's mean over the volume, or the mean of that and its maximum."""
    mean = x.mean((2, 3, 4), keepdim=True)
    return 0.5 * (mean + x.amax((2, 3, 4), keepdim=True)) if add_maxpool else mean


class SqueezeExcite3d(nn.Module):
    """The block of EfficientNet and MobileNetV3.

    Source: arXiv:1709.01507, section 3; the mean is taken over depth too.
    """

    def __init__(
        self, conv_reduce: nn.Module, act1: nn.Module, conv_expand: nn.Module, gate: nn.Module
    ) -> None:
        """Make the block around its converted layers."""
        super().__init__()
        self.conv_reduce = conv_reduce
        self.act1 = act1
        self.conv_expand = conv_expand
        self.gate = gate

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Weigh the channels."""
        pooled = self.act1(self.conv_reduce(squeeze(x, add_maxpool=False)))
        weighted: Tensor = x * self.gate(self.conv_expand(pooled))
        return weighted


class SEModule3d(nn.Module):
    """The block of SE-ResNet and RegNetY, with timm's optional normalization and maximum.

    Source: arXiv:1709.01507, section 3; the mean is taken over depth too.
    """

    def __init__(
        self,
        fc1: nn.Module,
        bn: nn.Module,
        act: nn.Module,
        fc2: nn.Module,
        gate: nn.Module,
        *,
        add_maxpool: bool,
    ) -> None:
        """Make the block around its converted layers."""
        super().__init__()
        self.add_maxpool = add_maxpool
        self.fc1 = fc1
        self.bn = bn
        self.act = act
        self.fc2 = fc2
        self.gate = gate

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Weigh the channels."""
        pooled = self.act(self.bn(self.fc1(squeeze(x, add_maxpool=self.add_maxpool))))
        weighted: Tensor = x * self.gate(self.fc2(pooled))
        return weighted


class EffectiveSEModule3d(nn.Module):
    """One fully connected layer instead of two.

    Source: CenterMask, arXiv:1911.06667, section 3.3; the mean is taken over depth too.
    """

    def __init__(self, fc: nn.Module, gate: nn.Module, *, add_maxpool: bool) -> None:
        """Make the block around its converted layers."""
        super().__init__()
        self.add_maxpool = add_maxpool
        self.fc = fc
        self.gate = gate

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Weigh the channels."""
        weighted: Tensor = x * self.gate(self.fc(squeeze(x, add_maxpool=self.add_maxpool)))
        return weighted


class EfficientChannelAttention3d(nn.Module):
    """A convolution over neighboring channels instead of fully connected layers.

    Source: ECA-Net, arXiv:1910.03151, section 3.2; the mean is taken over depth too.
    """

    def __init__(
        self, conv: nn.Module, act: nn.Module | None, conv2: nn.Module | None, gate: nn.Module
    ) -> None:
        """Make the block around its layers; ``act`` and ``conv2`` come together or not at all."""
        super().__init__()
        self.conv = conv
        self.act = act
        self.conv2 = conv2
        self.gate = gate

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Weigh the channels."""
        batch, channels = x.shape[:2]
        pooled = self.conv(x.mean((2, 3, 4)).view(batch, 1, channels))
        if self.act is not None and self.conv2 is not None:
            pooled = self.conv2(self.act(pooled))
        weighted: Tensor = x * self.gate(pooled).view(batch, channels, 1, 1, 1)
        return weighted
