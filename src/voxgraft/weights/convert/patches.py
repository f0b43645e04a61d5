"""Patch embeddings for another patch size, by the pseudo-inverse of resizing patches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from voxgraft.errors import ConversionError

Shape = tuple[int, ...]


def resize_matrix(old: int, new: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the matrix ``(new, old)`` that resizes a line of values, linearly."""
    lines = torch.eye(old, dtype=dtype).view(1, old, 1, old)
    resized = F.interpolate(
        lines, size=(1, new), mode="bilinear", align_corners=False, antialias=True
    )
    return resized.reshape(old, new).t().contiguous()


def resize_patch(kernel: Tensor, size: Sequence[int]) -> Tensor:
    """Make a patch embedding fit patches of another size.

    Where patches grow, the response to a resized patch is exactly that of the old kernel to the
    patch itself. Where they shrink, information is lost; the response is then that of the old
    kernel with the least squared error over patches of white noise.

    Args:
        kernel: ``(out, in, *patch)``, in two or three dimensions.
        size: The new patch, in as many dimensions.

    Raises:
        ConversionError: If the number of dimensions differs, or a size is not positive.

    Source:
        arXiv:2212.08013 (FlexiViT), equation 4, with linear resizing. Resizing works axis by axis,
        and so does its pseudo-inverse: that of a Kronecker product is the product of those of its
        factors. Where patches shrink, resizing is antialiased, which the paper leaves open.
    """
    if kernel.ndim - 2 != len(size) or min(size, default=0) < 1:
        raise ConversionError(
            f"a patch kernel of shape {tuple(kernel.shape)} cannot take patches of {tuple(size)}: "
            "expected a positive size for each axis after (out, in)."
        )
    resized = kernel.double()
    for axis, new in enumerate(size, start=2):
        old = kernel.shape[axis]
        if old != new:
            inverse = torch.linalg.pinv(resize_matrix(old, new).t())
            resized = torch.movedim(torch.movedim(resized, axis, -1) @ inverse.t(), -1, axis)
    return resized.to(kernel.dtype)


@dataclass(frozen=True)
class ResizePatch:
    """Make patch embeddings fit the model's patch, see :func:`resize_patch`.

    A 2D kernel for a 3D model is resized in the plane; ``Inflate`` then extends it along depth.
    """

    patches: Collection[str]
    """The model's names of kernels that cut patches without overlap."""

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the resized kernel and how, or None if the rule has nothing to do."""
        if name not in self.patches or tensor.ndim not in (4, 5) or tensor.ndim > len(shape):
            return None
        old, new = tuple(tensor.shape[2:]), shape[len(shape) - tensor.ndim + 2 :]
        if old == new:
            return None
        shown = ["×".join(map(str, patch)) for patch in (old, new)]
        how = f"patch kernel {shown[0]} to {shown[1]} (pseudo-inverse)"
        return resize_patch(tensor, new), how
