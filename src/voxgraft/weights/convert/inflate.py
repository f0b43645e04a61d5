"""2D kernels extended along depth."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import ConversionError

Inflation = Literal["average", "center", "gaussian", "shift"]
INFLATIONS: tuple[Inflation, ...] = ("average", "center", "gaussian", "shift")

_SHIFTED = 8  # one input channel in so many sees the next slice, one in so many the previous


def inflate_kernel(
    kernel: Float[Tensor, "out in height width"],
    depth: int,
    method: Inflation,
    *,
    patch: bool = False,
) -> Float[Tensor, "out in depth height width"]:
    """Extend a 2D convolution kernel along a new depth axis.

    Args:
        kernel: 2D kernel.
        depth: Depth of the result, in voxels; odd, unless ``patch``.
        method: ``"center"`` fills the middle slice; ``"average"`` repeats it and divides by depth;
            ``"gaussian"`` spreads it with the weights of a Gaussian about the middle, of a standard
            deviation of a quarter of the depth, which sum to one; ``"shift"`` is ``"center"``, but
            the first eighth of the input channels lies one slice after the middle, and the second
            eighth one before.
        patch: The kernel cuts its input into patches that do not overlap (its stride is its size,
            and it has no padding), as in ConvNeXt's stem. Then ``depth`` may be even,
            ``"center"`` fills slice ``depth // 2``, and ``"shift"`` shifts nothing.

    Returns:
        A kernel that gives the 2D response on volumes constant along depth
        (all but ``"center"``: away from zero-padded borders only).

    Raises:
        ConversionError: If ``depth`` is not positive, or is even and the kernel cuts no patches;
            if the kernel is not 2D, or the method is unknown.

    Source:
        ``"average"``: arXiv:1705.07750, section 2.3, bootstrapping 3D filters from 2D.
        ``"center"``: arXiv:2103.15691, section 3.4, central frame initialisation.
        ``"gaussian"``: the inflator of that name in the public code of PUMIT
        (github.com/function2-llx/PUMIT). ``"shift"``: the temporal shift of arXiv:1811.08383,
        section 4, bi-directional with its eighths, written as a kernel; that every convolution
        along depth gets it, not one a residual block, is ours.
    """
    if kernel.ndim != 4:
        raise ConversionError(
            f"inflation was given a tensor of shape {tuple(kernel.shape)}, expected a 2D kernel "
            "(out, in, height, width)."
        )
    if depth < 1 or (depth % 2 == 0 and not patch):
        raise ConversionError(
            f"a 2D kernel cannot be inflated to a depth of {depth}: expected an odd number of "
            "voxels, so that there is a middle slice. Choose an odd depth."
        )
    if method == "average":
        repeated = kernel.unsqueeze(2).expand(-1, -1, depth, -1, -1)
        return repeated / depth
    if method == "gaussian":
        weights = torch.tensor(_gaussian(depth), dtype=kernel.dtype, device=kernel.device)
        return kernel.unsqueeze(2) * weights.view(1, 1, -1, 1, 1)
    if method in ("center", "shift"):
        out, inner, height, width = kernel.shape
        inflated = kernel.new_zeros((out, inner, depth, height, width))
        middle, shifted = depth // 2, inner // _SHIFTED
        if method == "center" or depth == 1 or patch:
            shifted = 0
        inflated[:, shifted * 2 :, middle] = kernel[:, shifted * 2 :]
        if shifted:
            inflated[:, :shifted, middle + 1] = kernel[:, :shifted]
            inflated[:, shifted : shifted * 2, middle - 1] = kernel[:, shifted : shifted * 2]
        return inflated
    raise ConversionError(
        f"no inflation is called {method!r}. Expected one of {', '.join(INFLATIONS)}."
    )


def _gaussian(depth: int) -> list[float]:
    sd = depth / 4
    heights = [math.exp(-0.5 * ((place - (depth - 1) / 2) / sd) ** 2) for place in range(depth)]
    return [height / sum(heights) for height in heights]


def patch_kernels(network: nn.Module) -> frozenset[str]:
    """Return the names of a network's 3D kernels whose windows do not overlap.

    Those are the kernels that may have an even depth, see :func:`inflate_kernel`.
    """
    return frozenset(
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv3d)
        and tuple(module.kernel_size) == tuple(module.stride)
        and not any(module.padding if isinstance(module.padding, tuple) else (1,))
    )
