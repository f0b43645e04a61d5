"""The stages of a network, from stem to head, read off the names of its parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

_STAGE = re.compile(
    r"(?:blocks|stages|layers|features)\.(?:\d+|[a-z_]*block_?\d+|transition_?\d+)(?=\.)"
    r"|(?:layer|stage|block)_?\d+(?=\.)"
)


@dataclass(frozen=True)
class Stage:
    """Parameters of one depth: the stem, a stage of the encoder, or the head."""

    name: str
    parameters: tuple[str, ...]
    """Names in the network's state dict."""


def network_stages(network: nn.Module) -> list[Stage]:
    """Group a network's parameters by depth, shallowest first, the head last.

    Stages are the numbered parts that image networks call ``layer1``, ``blocks.0``, ``stages.0``
    or ``features.denseblock1``. What comes before the first is the stem; what comes after one
    without being one (a last convolution or norm) belongs to the stage before it. An encoder
    without such names has one stage a child module. Order is that of the parameters.

    Args:
        network: A network with the children ``encoder`` and ``head``.
    """
    names = [name for name, _ in network.named_parameters()]
    inner = [name.removeprefix("encoder.") for name in names if name.startswith("encoder.")]
    numbered = any(_STAGE.match(name) for name in inner)
    groups: dict[str, list[str]] = {}
    current = "stem"
    for name in inner:
        found = _STAGE.match(name)
        if found:
            current = found.group()
        elif not numbered:
            current = name.split(".")[0]
        groups.setdefault(current, []).append(f"encoder.{name}")
    head = [name for name in names if not name.startswith("encoder.")]
    stages = [Stage(name, tuple(members)) for name, members in groups.items()]
    return [*stages, Stage("head", tuple(head))]
