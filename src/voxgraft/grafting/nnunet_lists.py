"""An nnU-Net's own plan, as the tensors of its checkpoint show it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from voxgraft.errors import GraftError
from voxgraft.grafting.plan import How, Plan
from voxgraft.models import Encoder
from voxgraft.models.volumetric.nnunet import NnUNetEncoder
from voxgraft.types import Json
from voxgraft.weights.convert import Rename
from voxgraft.weights.layouts import KEY_LAYOUTS

_LAYOUT = "nnunet"
_LISTS = ("features", "blocks", "kernels", "strides")

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


def follow_own_lists(
    how: How, plan: Plan, encoder: Encoder, state: Mapping[str, Tensor]
) -> tuple[Plan, list[str]]:
    """Build an nnU-Net as its checkpoint shows that it was; refuse one that computes otherwise.

    Names and shapes of an encoder do not tell its strides: those of the decoder do. Where the
    person chose no lists, the network follows the checkpoint's.

    Returns:
        The plan, perhaps with other options, and what the report should note.

    Raises:
        GraftError: If lists that were chosen, or those of a given encoder, are not the
            checkpoint's.
    """
    if how.source.key_layout != _LAYOUT or encoder.declaration.family != "nnunet":
        return plan, []
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in state.items():
        for rule in (*how.rules, *KEY_LAYOUTS[_LAYOUT](how.source.architecture)):
            name = rule.rename(name) if isinstance(rule, Rename) else name
        shapes.setdefault(name, tuple(tensor.shape))
    found = nnunet_lists(shapes)
    own = nnunet_lists({name: tuple(t.shape) for name, t in encoder.state_dict().items()})
    own["strides"] = _steps(encoder)
    differing = [name for name in found if found[name] != own.get(name)]
    if not differing:
        unseen = [] if not found or "strides" in found else [_UNSEEN]
        return plan, unseen
    shown = "; ".join(f"{name} {found[name]}" for name in differing)
    if plan.given is None and not any(name in plan.options for name in _LISTS):
        chosen: Json = {name: found.get(name, own[name]) for name in _LISTS}
        if len({len(entries) for entries in chosen.values()}) > 1:
            # Without a decoder the strides are not seen; those of another length fit nothing.
            raise GraftError(
                f"source {how.source.id!r} is an nnU-Net of {shown}, and its strides cannot be "
                "seen without its decoder. Give model_options with features, blocks, kernels and "
                "strides, as the plans.json of its training has them."
            )
        seen = [] if "strides" in found else [_UNSEEN]
        return replace(plan, options={**plan.options, **chosen}), [
            f"the network was built as the checkpoint shows it, with {shown}",
            *seen,
        ]
    raise GraftError(
        f"source {how.source.id!r} is an nnU-Net of {shown}, but {plan.name} was chosen with "
        f"{'; '.join(f'{name} {own.get(name)}' for name in differing)}: the two compute different "
        "things. Leave these options out to follow the checkpoint, or give those of its plans.json."
    )


_UNSEEN = (
    "the strides of this nnU-Net cannot be seen in its encoder's tensors: see that the model has "
    "those of its plans.json"
)


def _steps(encoder: Encoder) -> list[object]:
    """Return the stride at the start of each stage of an encoder."""
    if isinstance(encoder, NnUNetEncoder):
        # Along the axes of the training, as the kernels are.
        return [list(stride) for stride in encoder.plan.strides]
    return []
