"""A network of timm as it is, on images of any size: its maps, stages and vectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from timm.models import model_entrypoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from voxgraft.errors import ModelError
from voxgraft.models.families import FAMILIES

# By timm's module of the network: what lets it take images of other sizes than its own.
_ANY_SIZE: dict[str, dict[str, bool]] = {
    "timm.models.vision_transformer": {"dynamic_img_size": True},
    "timm.models.deit": {"dynamic_img_size": True},
    "timm.models.eva": {"dynamic_img_size": True},
    "timm.models.swin_transformer": {"strict_img_size": False},
    "timm.models.swin_transformer_v2": {"strict_img_size": False},
}
_QUARTERS = 4

RunBlock = Callable[..., Any]
"""As :meth:`voxgraft.models.encoder.Encoder.run_block`."""


def build_planar(architecture: str, in_channels: int, drop_path: float = 0.0) -> nn.Module:
    """Build a 2D network of timm without classifier, for images of any size, random weights.

    Raises:
        ModelError: If timm has no such network, or it has no stochastic depth and ``drop_path`` is
            not 0.
    """
    if not timm.is_model(architecture):
        raise ModelError(
            f"timm {timm.__version__} has no network called {architecture!r}. Check the spelling "
            f"with timm.list_models('*{architecture[:6]}*'), or install the timm that has it."
        )
    options: dict[str, Any] = dict(_ANY_SIZE.get(model_entrypoint(architecture).__module__, {}))
    if drop_path > 0:
        options["drop_path_rate"] = drop_path
    with warnings.catch_warnings():
        # timm warns about the old names of some of its networks; they still are those networks.
        warnings.simplefilter("ignore", UserWarning)
        try:
            network: nn.Module = timm.create_model(
                architecture, pretrained=False, in_chans=in_channels, num_classes=0, **options
            )
        except TypeError as fault:
            if "drop_path_rate" not in str(fault):
                raise
            raise ModelError(
                f"drop_path is {drop_path}, but {architecture} has no stochastic depth. "
                "Set it to 0, or choose a network of another family."
            ) from fault
    return network


@dataclass(frozen=True, kw_only=True)
class Planar:
    """How a 2D network of timm is run, and what it gives."""

    architecture: str
    stems: tuple[str, ...]
    """Names of the kernels that take the image."""
    head: str
    """Prefix of the classifier's tensors in timm."""
    channels: tuple[int, ...]
    """Channels of the maps of each stage, shallowest first."""
    reductions: tuple[int, ...]
    """Reduction of each of them."""
    stages: tuple[int, ...]
    """Those of timm's intermediate maps that are the stages."""
    num_features: int
    """Length of the vector of an image."""
    min_size: int
    """Smallest height and width, in pixels."""
    multiple: int
    """Images are padded to a multiple of so many pixels, with zeros below and on the right."""
    trunk: tuple[str, ...] = ()
    """Modules from the image to the final map, where the family's layout is known."""
    pool: tuple[str, ...] = ()
    """Modules from there to the vector."""
    taps: tuple[str, ...] = ()
    """Those of ``trunk`` after which a stage ends."""
    alike: bool = False
    """All stages have the same grid: a plain vision transformer."""
    batch_norm: bool = False
    """Whether, in training, images change each other's features."""

    def maps(self, network: nn.Module, images: Tensor, run: RunBlock) -> tuple[Tensor, Tensor]:
        """Return the final feature maps, ``(n, f, u, v)``, and the vectors, ``(n, g)``."""
        net: Any = network
        images, grid = self._padded(images)
        if self.trunk:
            features = images
            for name in self.trunk:
                features = run(name, network.get_submodule(name), features)
            vectors = features
            for name in self.pool:
                vectors = run(name, network.get_submodule(name), vectors)
            return features, vectors

        def whole(given: Tensor) -> tuple[Tensor, Tensor]:
            features = net.forward_features(given)
            return features, net.forward_head(features, pre_logits=True)

        features, vectors = run("network", whole, images)
        return self._as_map(network, features, grid), vectors

    def by_timm(self, network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same as :meth:`maps`, by timm's own two functions."""
        net: Any = network
        images, grid = self._padded(images)
        return self._as_map(network, net.forward_features(images), grid), net(images)

    def stage_maps(self, network: nn.Module, images: Tensor, run: RunBlock) -> list[Tensor]:
        """Return the maps of each stage, each ``(n, c, u, v)``."""
        net: Any = network
        images, _ = self._padded(images)
        if self.trunk:
            found = []
            for name in self.trunk:
                images = run(name, network.get_submodule(name), images)
                if name in self.taps:
                    found.append(images)
                if len(found) == len(self.taps):
                    break
            return found

        def whole(given: Tensor) -> tuple[Tensor, ...]:
            # Of a plain transformer, every stage with its final normalization: arXiv:2304.07193.
            options: dict[str, Any] = {"norm": True} if self.alike else {}
            maps = net.forward_intermediates(
                given, indices=list(self.stages), intermediates_only=True, **options
            )
            return tuple(maps)

        return list(run("network", whole, images))

    def _padded(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        step = self.multiple
        height, width = (-(-int(size) // step) * step for size in images.shape[2:])
        below, right = height - images.shape[2], width - images.shape[3]
        if below or right:
            images = F.pad(images, (0, right, 0, below))
        deepest = self.reductions[-1]
        return images, (-(-height // deepest), -(-width // deepest))

    def _as_map(self, network: nn.Module, features: Tensor, grid: tuple[int, int]) -> Tensor:
        if features.ndim == 4:
            last = features.shape[3] == self.channels[-1] and features.shape[1:3] == grid
            return features.permute(0, 3, 1, 2) if last else features
        prefix = int(getattr(network, "num_prefix_tokens", 0))
        return features[:, prefix:].transpose(1, 2).reshape(len(features), -1, *grid)


def describe_planar(network: nn.Module, architecture: str) -> Planar:
    """Say how a network of :func:`build_planar` is run.

    Raises:
        ModelError: If it takes images of one size alone, or gives no feature maps.
    """
    net: Any = network
    cfg: Any = net.pretrained_cfg
    info: Any = getattr(net, "feature_info", None)
    if not info or not hasattr(net, "forward_intermediates"):
        raise ModelError(
            f"{architecture} does not say what feature maps it has. Choose another network of timm."
        )
    every = [(str(f["module"]), int(f["num_chs"]), int(f["reduction"])) for f in info]
    alike = len(every) > 1 and len({(channels, step) for _, channels, step in every}) == 1
    stages = range(len(every))
    if alike:
        stages = range(len(every) // _QUARTERS - 1, len(every), max(1, len(every) // _QUARTERS))
        stages = stages if stages.start >= 0 else range(len(every))
    chosen = [every[index] for index in stages]
    reductions = tuple(step for _, _, step in chosen)
    family = FAMILIES.get(type(network))
    trunk, pool = family.layout(network) if family else ((), ())
    first = cfg["first_conv"]
    head = cfg["classifier"]
    embed = getattr(net, "patch_embed", None)
    known = family is not None or type(network).__module__ in _ANY_SIZE
    multiple = int(embed.patch_size[0]) if known and embed is not None else 1
    batch_norm = any(isinstance(module, _BatchNorm) for module in network.modules())
    planar = Planar(
        architecture=architecture,
        stems=tuple(f"{n}.weight" for n in ((first,) if isinstance(first, str) else first)),
        head=head if isinstance(head, str) else str(head[0]),
        channels=tuple(channels for _, channels, _ in chosen),
        reductions=reductions,
        stages=tuple(stages),
        num_features=int(getattr(net, "head_hidden_size", None) or net.num_features),
        min_size=family.min_size(network, reductions) if family else 1,
        multiple=multiple,
        trunk=trunk,
        pool=pool,
        taps=tuple(module for module, _, _ in chosen) if family else (),
        alike=alike,
        batch_norm=batch_norm,
    )
    return planar if known else _of_any_size(planar)


def _of_any_size(planar: Planar) -> Planar:
    """See on which images a network runs that is none of the known ones: by trying.

    Raises:
        ModelError: If on none of the sizes that it should.
    """
    deepest = planar.reductions[-1]
    trial = replace(planar, multiple=deepest)
    for times in (1, 2, 3):
        if _runs_on(trial, times * deepest) and _runs_on(trial, 5 * deepest):
            return replace(trial, min_size=1 + (times - 1) * deepest)
    raise ModelError(
        f"{planar.architecture} takes images of its own size alone, which slices of volumes do "
        "not have. Choose a convolutional network, a ViT, a DINO, a CLIP tower or a Swin."
    )


def _runs_on(planar: Planar, size: int) -> bool:
    with torch.device("meta"):
        trial = build_planar(planar.architecture, 3).eval()
    images = torch.empty(1, 3, size, size + planar.multiple, device="meta")
    wanted = (1, planar.channels[-1], size // planar.multiple, size // planar.multiple + 1)
    try:
        features, _ = planar.maps(trial, images, _run_directly)
    except (RuntimeError, AssertionError, ValueError):
        # What timm's networks raise on images of other sizes than theirs.
        return False
    return tuple(features.shape) == wanted


def _run_directly(name: str, block: Callable[..., Any], *inputs: Any) -> Any:
    return block(*inputs)
