"""An nnU-Net's own plan, as the tensors of its checkpoint show it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voxgraft.weights.convert.rules import Rename
from voxgraft.weights.layouts import KEY_LAYOUTS
from voxgraft.weights.prefixes import prefix_candidates

LAYOUT = "nnunet"
_PREFIXES = 8

_FIRST = re.compile(r"stages\.(\d+)\.(?:0\.convs|blocks)\.(\d+)\.(?:conv1\.)?conv\.weight")
"""The convolutions of the stages: of each block, the first."""

_UP = re.compile(r"(?:decoder\.transpconvs|tu)\.(\d+)\.weight")
"""The transposed convolutions, deepest first: their kernels are the strides that they undo."""


def nnunet_lists(names: Mapping[str, tuple[int, ...]]) -> dict[str, list[object]]:
    """Return the lists of a plan that tensors show.

    Args:
        names: Shapes of a checkpoint's tensors, the encoder's by the names that it has here.

    Returns:
        ``features, blocks, kernels``, and ``strides`` if the decoder is there; nothing if these
        are not the tensors of an nnU-Net's encoder in three dimensions.
    """
    first: dict[int, dict[int, tuple[int, ...]]] = {}
    up: dict[int, tuple[int, ...]] = {}
    for name, shape in names.items():
        if (found := _FIRST.fullmatch(name)) and len(shape) == 5:
            first.setdefault(int(found[1]), {})[int(found[2])] = shape
        elif (found := _UP.fullmatch(name)) and len(shape) == 5:
            up[int(found[1])] = shape
    stages = len(first)
    if stages < 2 or set(first) != set(range(stages)):
        return {}
    if any(set(blocks) != set(range(len(blocks))) for blocks in first.values()):
        return {}
    lists: dict[str, list[object]] = {
        "features": [first[stage][0][0] for stage in range(stages)],
        "blocks": [len(first[stage]) for stage in range(stages)],
        "kernels": [list(first[stage][0][2:]) for stage in range(stages)],
    }
    if set(up) == set(range(stages - 1)):
        # The first stage has no stride in any plan; the last one is undone first.
        undone = [list(up[index][2:]) for index in reversed(range(stages - 1))]
        lists["strides"] = [[1, 1, 1], *undone]
    return lists


@dataclass(frozen=True, kw_only=True)
class FoundNnUNet:
    """An nnU-Net's encoder among a file's tensors."""

    prefix: str
    """What stands before every name of the network."""
    residual: bool
    lists: Mapping[str, list[object]]
    """As :func:`nnunet_lists` gives them."""


def find_nnunet(
    shapes: Mapping[str, tuple[int, ...]], rules: Sequence[object] = (), prefix: str = ""
) -> FoundNnUNet | None:
    """Look for an nnU-Net of whatever plan; None if there is none.

    Args:
        shapes: Name and shape of each of the file's tensors.
        rules: More renaming, before that of the layout.
        prefix: Where it is known to lie.
    """
    for start in [prefix] if prefix else ["", *prefix_candidates(shapes)[:_PREFIXES]]:
        named: dict[str, tuple[int, ...]] = {}
        for old, shape in shapes.items():
            if not old.startswith(start):
                continue
            name = old.removeprefix(start)
            for rule in (*rules, *KEY_LAYOUTS[LAYOUT]("")):
                name = rule.rename(name) if isinstance(rule, Rename) else name
            named.setdefault(name, shape)
        if lists := nnunet_lists(named):
            residual = any(name.startswith("stages.0.blocks.") for name in named)
            return FoundNnUNet(prefix=start, residual=residual, lists=lists)
    return None
