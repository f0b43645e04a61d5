"""2D kernels extended along depth."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import ConversionError

Inflation = Literal["average", "center"]
INFLATIONS: tuple[Inflation, ...] = ("average", "center")


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
        method: ``"center"`` fills the middle slice; ``"average"`` repeats it and divides by depth.
        patch: The kernel cuts its input into patches that do not overlap (its stride is its size,
            and it has no padding), as in ConvNeXt's stem. Then ``depth`` may be even, and
            ``"center"`` fills slice ``depth // 2``.

    Returns:
        A kernel that gives the 2D response on volumes constant along depth
        (``"average"``: away from zero-padded borders only).

    Raises:
        ConversionError: If ``depth`` is not positive, or is even and the kernel cuts no patches;
            if the kernel is not 2D, or the method is unknown.

    Source:
        arXiv:1705.07750, section 2.3, bootstrapping 3D filters from 2D (``"average"``).
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
    if method == "center":
        out, inner, height, width = kernel.shape
        inflated = kernel.new_zeros((out, inner, depth, height, width))
        inflated[:, :, depth // 2] = kernel
        return inflated
    raise ConversionError(
        f"no inflation is called {method!r}. Expected one of {', '.join(INFLATIONS)}."
    )


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
