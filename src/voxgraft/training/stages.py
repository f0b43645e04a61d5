"""The stages of a network, from stem to head, read off the names of its parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from voxgraft.models import Encoder

_STAGE = re.compile(
    r"(?:network\.|swinViT\.)?(?:"
    r"[a-z_]*(?:blocks|stages|layers|layer|features|encoders|blocks_context)\."
    r"(?:\d+|[a-z_]*block_?\d+|transition_?\d+)"
    r"|[a-z_]*(?:layers?|stage|block)_?\d+)(?=\.)"
)

_CHILD = re.compile(r"(?:network\.)?[^.]+(?:\.\d+(?=\.))?")


@dataclass(frozen=True)
class Stage:
    """Parameters of one depth: the stem, a stage of the encoder, or the head."""

    name: str
    parameters: tuple[str, ...]
    """Names in the network's state dict."""


def with_head(encoder: nn.Module) -> tuple[str, ...]:
    """Return the beginnings of an encoder's parameters that train together with the head."""
    return encoder.declaration.with_head if isinstance(encoder, Encoder) else ()


def network_stages(network: nn.Module) -> list[Stage]:
    """Group a network's parameters by depth, shallowest first, the head last.

    Stages are the numbered parts that networks call ``layer1``, ``blocks.0``, ``stages.0``,
    ``network.layers.0`` or ``features.denseblock1``. What comes before the first is the stem; what
    comes after one without being one (a last convolution or norm) belongs to the stage before it.
    An encoder without such names has one stage a child module. What the encoder declares as
    ``with_head`` is part of the head's stage. Order is that of the parameters.

    Args:
        network: A network with the children ``encoder`` and ``head``.
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
    head = [name for name in names if name not in within]
    stages = [Stage(name, tuple(members)) for name, members in groups.items()]
    return [*stages, Stage("head", tuple(head))]
