"""The stages of a network, from stem to head, read off the names of its parameters."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from voxgraft.models import Encoder, SegmentationNetwork

_STAGE = re.compile(
    r"(?:network\.|swinViT\.)?(?:"
    r"[a-z_]*(?:blocks|stages|layers|layer|features|encoders|blocks_context)\."
    r"(?:\d+|[a-z_]*block_?\d+|transition_?\d+)"
    r"|[a-z_]*(?:layers?|stage|block)_?\d+)(?=\.)"
)

_CHILD = re.compile(r"(?:network\.)?[^.]+(?:\.\d+(?=\.))?")


@dataclass(frozen=True)
class Stage:
    """Parameters of one depth: the stem, a stage of the encoder, of a decoder, or the head."""

    name: str
    parameters: tuple[str, ...]
    """Names in the network's state dict."""


def with_head(encoder: nn.Module) -> tuple[str, ...]:
    """Return the beginnings of an encoder's parameters that train together with the head."""
    return encoder.declaration.with_head if isinstance(encoder, Encoder) else ()


def network_stages(network: nn.Module, loaded: Collection[str] = ()) -> list[Stage]:
    """Group a network's parameters by depth, shallowest first, the head last.

    Stages are the numbered parts that networks call ``layer1``, ``blocks.0``, ``stages.0``,
    ``network.layers.0`` or ``features.denseblock1``. What comes before the first is the stem; what
    comes after one without being one (a last convolution or norm) belongs to the stage before it.
    An encoder without such names has one stage a child module. What the encoder declares as
    ``with_head`` is part of the head's stage. Order is that of the parameters.

    A decoder is part of the head's stage, too, but for its levels that came from a start: these
    lie between encoder and head, coarsest first (:func:`decoder_levels`).

    Args:
        network: A network with the children ``encoder`` and ``head``.
        loaded: Names of parameters that came from a start.
    """
    names = [name for name, _ in network.named_parameters()]
    apart = with_head(network.get_submodule("encoder"))
    inner = [
        name.removeprefix("encoder.")
        for name in names
        if name.startswith("encoder.") and not name.removeprefix("encoder.").startswith(apart)
    ]
    numbered = any(_STAGE.match(name) for name in inner)
    groups: dict[str, list[str]] = {}
    current = "stem"
    for name in inner:
        found = _STAGE.match(name)
        if found:
            current = found.group()
        elif not numbered:
            current = _CHILD.match(name).group()  # type: ignore[union-attr]
        groups.setdefault(current, []).append(f"encoder.{name}")
    within = {f"encoder.{name}" for name in inner}
    stages = [Stage(name, tuple(members)) for name, members in groups.items()]
    if isinstance(network, SegmentationNetwork) and any(_in_decoder(name) for name in loaded):
        levels = decoder_levels(network)
        for number, members in reversed(list(enumerate(levels))):
            if not set(loaded).isdisjoint(members):
                stages.append(Stage(f"decoder level {number}", members))
                within |= set(members)
    head = [name for name in names if name not in within]
    return [*stages, Stage("head", tuple(head))]


def decoder_levels(network: SegmentationNetwork) -> list[tuple[str, ...]]:
    """Return the parameters of a decoder by the grid that their layer's output lies on.

    The network sees one small empty volume. Parameters of layers that the decoder does not run are
    in no level.

    Args:
        network: A segmentation network; it stays as it is.

    Returns:
        Names in the network's state dict, of the finest grid first.
    """
    sizes: dict[str, int] = {}
    shared = {name for name, _ in network.named_parameters() if _in_decoder(name)}

    def note(prefix: str, own: list[str]) -> Any:
        def hook(_layer: nn.Module, _given: object, out: object) -> None:
            if isinstance(out, torch.Tensor) and out.ndim == 5:
                for name in own:
                    sizes[f"{prefix}{name}"] = out[0, 0].numel()

        return hook

    handles = []
    for path, layer in network.named_modules():
        prefix = f"{path}." if path else ""
        own = [name for name, _ in layer.named_parameters(recurse=False) if prefix + name in shared]
        if own:
            handles.append(layer.register_forward_hook(note(prefix, own)))
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            edges = network.padded_size((1, 1, 1))
            like = next(network.parameters())
            network.eval()(like.new_zeros((1, network.encoder.in_channels, *edges)))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    order = [name for name, _ in network.named_parameters() if name in sizes]
    return [
        tuple(name for name in order if sizes[name] == size)
        for size in sorted(set(sizes.values()), reverse=True)
    ]


def _in_decoder(name: str) -> bool:
    return name.startswith("decoder.")
