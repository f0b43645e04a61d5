"""A network that ends in a 1×1×1 convolution, run up to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from voxgraft.errors import InferenceError

Predictor = Callable[[Float[Tensor, "b c d h w"]], Float[Tensor, "b k d h w"]]
"""From windows to values of their voxels."""

_SAME = {torch.float32: 1e-4, torch.float64: 1e-9}
_SAME_IN_HALF = 0.05
"""Between values and their recalculation, as a share of the largest."""


class Headless(NamedTuple):
    """A network without its last convolution."""

    predict: Predictor
    """Gives what the convolution would take."""
    head: Predictor
    """The convolution, in the precision of what it is given."""


def run_and_part(
    predict: Predictor, windows: Float[Tensor, "b c d h w"]
) -> tuple[object, Headless | None]:
    """Run a network once, and see whether it ends in a convolution that can be taken off.

    That is so if what it gives is the very tensor that a plain 1×1×1 convolution gave, which makes
    more channels than it takes and ran once, and if nothing changed the tensor afterwards. The
    mean of such a convolution's values over windows is its value of the mean.

    Args:
        predict: The network, or anything that runs one.
        windows: What to show it.

    Returns:
        What it gave, of the convolution's input if it can be taken off; and the rest.
    """
    if hasattr(predict, "_orig_mod") or hasattr(predict, "_torchdynamo_orig_callable"):
        return predict(windows), None  # compiled: what runs inside cannot be told
    calls: list[tuple[nn.Conv3d, Tensor, Tensor]] = []
    size = windows.shape[2:]

    def note(module: nn.Module, given: tuple[object, ...], found: object) -> None:
        if not given or not _can_be_taken_off(module):
            return
        own = given[0]
        if isinstance(own, Tensor) and isinstance(found, Tensor) and own.shape[2:] == size:
            calls.append((module, own, found))

    hook = register_module_forward_hook(note)
    try:
        found = predict(windows)
    finally:
        hook.remove()
    last = [call for call in calls if call[2] is found]
    if len(last) != 1 or sum(call[0] is last[0][0] for call in calls) != 1:
        return found, None
    convolution, given, own = last[0]
    head = _applied(convolution)
    if not _is_same(head, given, own):
        return found, None
    return given, Headless(_up_to(convolution, predict), head)


def _can_be_taken_off(module: nn.Module) -> TypeGuard[nn.Conv3d]:
    if type(module) is not nn.Conv3d:
        return False
    plain = (module.kernel_size, module.stride, module.groups) == ((1, 1, 1), (1, 1, 1), 1)
    unpadded = module.padding in ((0, 0, 0), "valid", "same")
    changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return plain and unpadded and not changed and module.in_channels < module.out_channels


def _applied(convolution: nn.Conv3d) -> Predictor:
    kernel, bias = convolution.weight.flatten(1), convolution.bias

    def head(values: Tensor) -> Tensor:
        weight = kernel.to(values.device, values.dtype)
        flat = values.flatten(2)
        with torch.autocast(values.device.type, enabled=False):
            if bias is None:
                found = torch.matmul(weight, flat)
            else:
                own = bias.to(values.device, values.dtype)[:, None]
                found = torch.stack([torch.addmm(own, weight, one) for one in flat])
        return found.view(*found.shape[:2], *values.shape[2:])

    return head


def _is_same(head: Predictor, given: Tensor, found: Tensor) -> bool:
    """Return whether values are still those of the convolution, in every voxel of the windows."""
    dtype = torch.float64 if given.dtype == torch.float64 else torch.float32
    share = _SAME.get(found.dtype, _SAME_IN_HALF)
    for depth in range(given.shape[2]):
        own = found[:, :, depth].to(dtype)
        again = head(given[:, :, depth : depth + 1].to(dtype))[:, :, 0]
        largest = float(again.abs().max())
        if not math.isfinite(largest) or not torch.allclose(own, again, 0, share * largest):
            return False
    return True


def _up_to(convolution: nn.Conv3d, predict: Predictor) -> Predictor:
    """Return a network that gives what its last convolution would take."""

    def run(windows: Tensor) -> Tensor:
        taken: list[Tensor] = []

        def keep(values: Tensor) -> Tensor:
            taken.append(values)
            return values

        vars(convolution)["forward"] = keep  # the class's own again once it is deleted
        try:
            found = predict(windows)
        finally:
            del vars(convolution)["forward"]
        if len(taken) != 1 or found is not taken[0]:
            raise InferenceError(
                "the network ended in a 1×1×1 convolution for the first window and not for "
                "another. Set split_head=False, so that windows are run whole."
            )
        return found

    return run
