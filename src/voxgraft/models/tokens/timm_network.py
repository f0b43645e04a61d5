"""timm's 2D transformers: built without classifier, and seen as networks of feature maps."""

from __future__ import annotations

import warnings
from typing import Any

import timm
from timm.layers.patch_embed import PatchEmbed
from timm.models import is_model_in_modules
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from voxgraft.errors import ModelError

_PLAIN_MODULES = ("vision_transformer", "deit", "eva")
_WINDOWED_MODULES = ("swin_transformer", "swin_transformer_v2")
PLAIN = (VisionTransformer, Eva)
WINDOWED = (SwinTransformer, SwinTransformerV2)


def is_plain(architecture: str) -> bool:
    """Say whether timm defines a network among its plain vision transformers."""
    return bool(is_model_in_modules(architecture, _PLAIN_MODULES))


def is_windowed(architecture: str) -> bool:
    """Say whether timm defines a network among its Swin transformers."""
    return bool(is_model_in_modules(architecture, _WINDOWED_MODULES))


def build_image_network(architecture: str, in_channels: int, **options: Any) -> Any:
    """Build timm's network without classifier, with random weights, for images of any size.

    Args:
        architecture: timm's name of it.
        in_channels: Channels of the input.
        options: More options of timm's.

    Raises:
        ModelError: If timm has no such network, or it is of a class or has parts that have no 3D
            twin.
    """
    if not timm.is_model(architecture):
        raise ModelError(
            f"timm {timm.__version__} has no network called {architecture!r}. Check the spelling "
            f"with timm.list_models('*{architecture[:6]}*'), or install the timm that has it."
        )
    flexible = {"strict_img_size": False} if is_windowed(architecture) else {}
    if is_plain(architecture):
        flexible = {"dynamic_img_size": True, "dynamic_img_pad": True}
    with warnings.catch_warnings():
        # timm warns about the old names of some of its networks; they still are those networks.
        warnings.simplefilter("ignore", UserWarning)
        network: Any = timm.create_model(
            architecture,
            pretrained=False,
            in_chans=in_channels,
            num_classes=0,
            **{**flexible, **options},
        )
    _check(network, architecture)
    return network


def _check(network: Any, architecture: str) -> None:
    kind = type(network)
    if kind not in (*PLAIN, *WINDOWED):
        known = ", ".join(known.__name__ for known in (*PLAIN, *WINDOWED))
        raise ModelError(
            f"{architecture} has no 3D twin: its class is {kind.__module__}.{kind.__qualname__}, "
            f"and of transformers only {known} have one. Choose a network of the registry "
            "(`voxgraft models`)."
        )
    faults = []
    if type(network.patch_embed) is not PatchEmbed:
        faults.append(f"its patches are embedded by {type(network.patch_embed).__qualname__}")
    if getattr(network, "global_pool", "") == "prr":
        faults.append("it pools by refining its tokens ('prr')")
    if network.global_pool in ("avg", "max", "avgmax") and getattr(
        network, "pool_include_prefix", False
    ):
        faults.append("it takes the mean of class token and patches alike")
    if type(getattr(network, "rope", None)).__name__ == "RotaryEmbeddingMRope":
        faults.append("its positions are those of clips (MRoPE)")
    if faults:
        raise ModelError(
            f"{architecture} has no 3D twin: {'; '.join(faults)}, which has no 3D rule. Choose a "
            "network of the registry (`voxgraft models`)."
        )


class PlainReference(VisionTransformer):
    """timm's ViT, whose features are a map ``(b, c, h, w)`` of its patches."""

    def forward_features(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the last tokens of the patches as a map."""
        return _map(self, super().forward_features(x, *args, **kwargs), x)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the pooled features."""
        return self.forward_head(super().forward_features(x, *args, **kwargs))


class EvaReference(Eva):
    """timm's Eva, whose features are a map ``(b, c, h, w)`` of its patches."""

    def forward_features(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the last tokens of the patches as a map."""
        return _map(self, super().forward_features(x, *args, **kwargs), x)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the pooled features."""
        return self.forward_head(super().forward_features(x, *args, **kwargs))


class SwinReference(SwinTransformer):
    """timm's Swin, whose features are a map ``(b, c, h, w)``."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, channels first."""
        features: Tensor = super().forward_features(x)
        return features.permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Any:
        """Return the pooled features."""
        return self.forward_head(super().forward_features(x))


class SwinV2Reference(SwinTransformerV2):
    """timm's Swin V2, whose features are a map ``(b, c, h, w)``."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, channels first."""
        features: Tensor = super().forward_features(x)
        return features.permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Any:
        """Return the pooled features."""
        return self.forward_head(super().forward_features(x))


def _map(network: Any, tokens: Tensor, image: Tensor) -> Tensor:
    height, width = network.patch_embed.dynamic_feat_size(image.shape[-2:])
    patches = tokens[:, network.num_prefix_tokens :]
    return patches.transpose(1, 2).reshape(len(tokens), -1, height, width)


_REFERENCES: dict[type, type] = {
    VisionTransformer: PlainReference,
    Eva: EvaReference,
    SwinTransformer: SwinReference,
    SwinTransformerV2: SwinV2Reference,
}


def build_image_reference(architecture: str, *, in_channels: int = 1, **options: Any) -> nn.Module:
    """Build timm's 2D transformer to compare a twin with, in evaluation mode.

    Args:
        architecture: timm's name of it.
        in_channels: Channels of the input.
        options: More options of timm's.

    Returns:
        A network on ``(b, c, h, w)`` of any size that returns pooled features;
        ``forward_features`` gives its final feature map ``(b, f, i, j)``. Its tensors and modules
        have timm's names, and its computation is timm's own.

    Raises:
        ModelError: If timm has no such network, or none that has a 3D twin.
    """
    network = build_image_network(architecture, in_channels, **options)
    # The network stays timm's own in every tensor and module; only the views above are added.
    network.__class__ = _REFERENCES[type(network)]
    reference: nn.Module = network.eval()
    return reference
