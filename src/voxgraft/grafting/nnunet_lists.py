"""An nnU-Net is built as the tensors of its checkpoint show that it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from voxgraft.errors import GraftError, ModelError
from voxgraft.grafting.plan import How, Plan
from voxgraft.models import Encoder
from voxgraft.models.volumetric.nnunet import NnUNetEncoder
from voxgraft.types import Json
from voxgraft.weights.nnunet_lists import LAYOUT, find_nnunet, nnunet_lists

_LISTS = ("features", "blocks", "kernels", "strides")


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
    if how.source.key_layout != LAYOUT or encoder.declaration.family != "nnunet":
        return plan, []
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    seen = find_nnunet(shapes, how.rules, how.source.prefix)
    found = {} if seen is None else seen.lists
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
        unseen = [] if "strides" in found else [_UNSEEN]
        own_plan = replace(plan, options={**plan.options, **chosen})
        try:
            own_plan.build(materialize=False)
        except ModelError as fault:
            raise GraftError(
                f"the tensors of source {how.source.id!r} are those of no nnU-Net. {fault}"
            ) from fault
        return own_plan, [
            f"the network was built as the checkpoint shows it, with {shown}",
            *unseen,
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
