"""3D kernels made flat: the way back from a volume network to an image network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from voxgraft.errors import ConversionError

Deflation = Literal["sum", "center"]
DEFLATIONS: tuple[Deflation, ...] = ("sum", "center")


def deflate_kernel(
    kernel: Float[Tensor, "out in depth height width"], method: Deflation
) -> Float[Tensor, "out in height width"]:
    """Make a 2D kernel of a 3D one.

    Args:
        kernel: 3D kernel.
        method: ``"sum"`` adds up the slices: the response to an image is that of the 3D kernel to
            a volume of which every slice is that image, away from the border; it undoes inflation
            by any method. ``"center"`` takes the middle slice (``depth // 2``): the response is
            that to a volume with the image in the middle and zeros elsewhere; it undoes inflation
            by ``"center"``.

    Returns:
        The 2D kernel.

    Raises:
        ConversionError: If the kernel is not 3D, or the method is unknown.

    Source:
        ``"sum"`` inverts arXiv:1705.07750, section 2.3; that it is used for networks trained on
        volumes is ours.
    """
    if kernel.ndim != 5:
        raise ConversionError(
            f"deflation was given a tensor of shape {tuple(kernel.shape)}, expected a 3D kernel "
            "(out, in, depth, height, width)."
        )
    if method == "sum":
        return kernel.sum(dim=2)
    if method == "center":
        return kernel[:, :, kernel.shape[2] // 2]
    raise ConversionError(
        f"no deflation is called {method!r}. Expected one of {', '.join(DEFLATIONS)}."
    )


@dataclass(frozen=True)
class Deflate:
    """Make 3D kernels flat where the model's are 2D."""

    method: Deflation

    def adapt(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, str] | None:
        """Return the adapted tensor and how, or None if the rule has nothing to do."""
        if tensor.ndim != 5 or len(shape) != 4:
            return None
        how = f"deflated ({self.method}) from depth {tensor.shape[2]}"
        return deflate_kernel(tensor, self.method), how
