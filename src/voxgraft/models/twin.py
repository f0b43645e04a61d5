"""3D twins: timm's 2D network with each layer replaced by its 3D counterpart."""

from __future__ import annotations

import warnings
from typing import Any

import timm
import torch
from torch import nn

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthGeometry
from voxgraft.models.families import FAMILIES, Family
from voxgraft.models.initialization import (
    initialize_convolutions,
    seeded,
    zero_last_normalization,
)
from voxgraft.models.rules import convert_layers
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.types import Size3

_PROBE_SIZE = 256  # px; a multiple of every stride, so that reductions come out whole


def build_reference(architecture: str, *, in_channels: int = 1) -> nn.Module:
    """Build timm's 2D network without classifier, with random weights, in evaluation mode.

    Args:
        architecture: timm's name of it.
        in_channels: Channels of the input.

    Returns:
        A network on ``(b, c, h, w)`` that returns pooled features; ``forward_features`` gives its
        final feature map.

    Raises:
        ModelError: If timm has no such network.
    """
    return _build_2d(architecture, in_channels, {}).eval()


def _build_2d(architecture: str, in_channels: int, options: dict[str, Any]) -> nn.Module:
    if not timm.is_model(architecture):
        raise ModelError(
            f"timm {timm.__version__} has no network called {architecture!r}. Check the spelling "
            f"with timm.list_models('*{architecture[:6]}*'), or install the timm that has it."
        )
    with warnings.catch_warnings():
        # timm warns about the old names of some of its networks; they still are those networks.
        warnings.simplefilter("ignore", UserWarning)
        network: nn.Module = timm.create_model(
            architecture, pretrained=False, in_chans=in_channels, num_classes=0, **options
        )
    return network


def _family(network: nn.Module, architecture: str) -> Family:
    family = FAMILIES.get(type(network))
    if family is None:
        known = ", ".join(sorted({kind.__name__ for kind in FAMILIES}))
        raise ModelError(
            f"{architecture} has no 3D twin: its class is "
            f"{type(network).__module__}.{type(network).__qualname__}, and only {known} have a "
            "declared layout. Choose a network of the registry (`voxgraft models`)."
        )
    return family


def _input_reductions(architecture: str, in_channels: int) -> dict[str, int]:
    """Return the reduction in the plane of the input of each module, without computing."""
    with torch.device("meta"):
        network = _build_2d(architecture, in_channels, {}).eval()
        image = torch.empty(1, in_channels, _PROBE_SIZE, _PROBE_SIZE)
    reductions: dict[str, int] = {}

    def note(path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            first = inputs[0] if inputs else None
            if isinstance(first, torch.Tensor) and first.ndim == 4:
                reductions[path] = _PROBE_SIZE // int(first.shape[2])

        return hook

    for path, module in network.named_modules():
        module.register_forward_pre_hook(note(path))
    with torch.no_grad():
        network(image)
    return reductions


class Twin(SequentialEncoder):
    """The 3D twin of a 2D network; its tensors have timm's names, without the classifier."""

    def __init__(
        self,
        network: nn.Module,
        declaration: Declaration,
        *,
        trunk: tuple[str, ...],
        pool: tuple[str, ...],
        taps: tuple[str, ...],
        in_channels: int,
    ) -> None:
        """Adopt the modules of a converted network."""
        super().__init__(declaration, trunk=trunk, pool=pool, taps=taps, in_channels=in_channels)
        for name, child in network.named_children():
            self.add_module(name, child)

    def build_reference(self) -> nn.Module:
        """Build timm's 2D network with this encoder's channels, for a parity check."""
        assert self.declaration.twin_of is not None
        return build_reference(self.declaration.twin_of, in_channels=self.in_channels)


def build_twin(
    architecture: str,
    *,
    in_channels: int = 1,
    depth_padding: str = "zeros",
    depth_kernel: str = "full",
    depth_stride: int | None = None,
    convolution: str = "full",
    drop_path: float = 0.0,
    seed: int | None = None,
) -> Twin:
    """Build the 3D twin of one of timm's convolutional networks.

    Args:
        architecture: timm's name of the 2D network.
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        depth_kernel: ``"full"`` or ``"flat"``: whether kernels extend along depth.
        depth_stride: Total reduction along depth; by default that of the plane. Where it is
            smaller, the layers nearest the input do not reduce the depth.
        convolution: ``"full"`` or ``"acs"``: whether kernels are 3D, or stay 2D, a third of each
            layer's in the axial, coronal and sagittal plane.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If timm has no such network, a module of it has no 3D rule, or an option is
            impossible.
    """
    check_options(in_channels, drop_path)
    with seeded(seed):
        options = {"drop_path_rate": drop_path} if drop_path > 0 else {}
        if options:
            with torch.device("meta"):
                family = _family(_build_2d(architecture, in_channels, {}), architecture)
            if not family.drop_path:
                raise ModelError(
                    f"drop_path is {drop_path}, but {architecture} has no stochastic depth. "
                    "Set it to 0, or choose a network of another family."
                )
        network = _build_2d(architecture, in_channels, options)
        family = _family(network, architecture)
        info: Any = network.feature_info
        taps = tuple((str(f["module"]), int(f["num_chs"]), int(f["reduction"])) for f in info)
        depth = DepthGeometry.resolve(
            depth_kernel, depth_padding, depth_stride, taps[-1][2], convolution
        )
        thick = depth.total_stride != depth.spatial_stride
        reductions = _input_reductions(architecture, in_channels) if thick else {}
        trunk, pool = family.layout(network)
        declaration = _declare(network, architecture, family, taps, depth)
        convert_layers(network, architecture, depth, reductions)
        initialize_convolutions(network, family.initialization)
        zero_last_normalization(network)
    return Twin(
        network,
        declaration,
        trunk=trunk,
        pool=pool,
        taps=tuple(module for module, _, _ in taps),
        in_channels=in_channels,
    )


def check_options(in_channels: int, drop_path: float) -> None:
    """Refuse options that no network can be built with.

    Raises:
        ModelError: If ``in_channels`` is no positive whole number, or ``drop_path`` no probability.
    """
    if isinstance(in_channels, bool) or not isinstance(in_channels, int) or in_channels < 1:
        raise ModelError(
            f"in_channels is {in_channels!r}; expected a whole number of at least 1. Give the "
            "number of channels that the volumes have."
        )
    if not 0.0 <= drop_path < 1.0:
        raise ModelError(
            f"drop_path is {drop_path!r}; expected a probability in [0, 1). "
            "0 switches stochastic depth off."
        )


def _declare(
    network: nn.Module,
    architecture: str,
    family: Family,
    taps: tuple[tuple[str, int, int], ...],
    depth: DepthGeometry,
) -> Declaration:
    # timm's networks and their configurations are untyped.
    net: Any = network
    strides: tuple[Size3, ...] = tuple((depth.reduction(s), s, s) for _, _, s in taps)
    axes = tuple(tuple(stride[axis] for stride in strides) for axis in range(3))
    smallest = tuple(family.min_size(network, axis) for axis in axes)
    return Declaration(
        family=family.name,
        stem=f"{net.pretrained_cfg['first_conv']}.weight",
        head=str(net.pretrained_cfg["classifier"]),
        feature_channels=tuple(channels for _, channels, _ in taps),
        strides=strides,
        num_features=int(getattr(net, "head_hidden_size", None) or net.num_features),
        min_size=(smallest[0], smallest[1], smallest[2]),
        preferred_size=preferred_size(strides[-1]),
        twin_of=architecture,
        convolution=depth.convolution,
    )


def preferred_size(stride: Size3) -> Size3:
    """Return the smallest size whose last feature map has three positions along each axis."""
    return (3 * stride[0], 3 * stride[1], 3 * stride[2])
