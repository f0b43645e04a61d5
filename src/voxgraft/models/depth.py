"""How a 2D layer's geometry is extended along depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from voxgraft.errors import ModelError

DepthPadding = Literal["zeros", "replicate"]
"""What lies beyond the first and the last slice of a volume, for convolutions and mean pooling."""

DepthKernel = Literal["full", "flat"]
"""``"full"``: kernels are as deep as they are high. ``"flat"``: kernels are one slice deep."""


Convolution = Literal["full", "acs"]
"""``"full"``: a twin's kernels are 3D. ``"acs"``: they are the 2D kernels, a third of them in each
plane of the volume (arXiv:1911.10477)."""


def check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices of an option.

    Raises:
        ModelError: If ``value`` is not one of ``choices``.
    """
    if value not in choices:
        expected = " or ".join(map(repr, choices))
        raise ModelError(f"{option} is {value!r}; expected {expected}. Choose one of these.")


@dataclass(frozen=True)
class LayerDepth:
    """Kernel, stride, padding and dilation of one layer along depth, in voxels."""

    kernel: int
    stride: int
    padding: int
    dilation: int = 1


@dataclass(frozen=True)
class DepthGeometry:
    """The depth options of a whole network.

    Attributes:
        kernel: Whether kernels extend along depth.
        padding: What lies beyond the first and last slice.
        total_stride: Reduction of the deepest feature map along depth; at most
            ``spatial_stride``. Where it is smaller, the layers nearest the input keep their
            stride in the plane and have stride 1 along depth (for thick slices).
        spatial_stride: Reduction of the deepest feature map in the plane.
        convolution: What the kernels are.
    """

    kernel: DepthKernel
    padding: DepthPadding
    total_stride: int
    spatial_stride: int
    convolution: Convolution = "full"

    @classmethod
    def resolve(
        cls,
        kernel: str,
        padding: str,
        total_stride: int | None,
        spatial_stride: int,
        convolution: str = "full",
    ) -> DepthGeometry:
        """Check a person's options against a network's stride in the plane.

        Raises:
            ModelError: If an option is not among its choices, ``total_stride`` is not a divisor
                of ``spatial_stride``, or flat kernels are to lie in three planes.
        """
        check_choice("depth_kernel", kernel, get_args(DepthKernel))
        check_choice("depth_padding", padding, get_args(DepthPadding))
        check_choice("convolution", convolution, get_args(Convolution))
        if convolution == "acs" and kernel == "flat":
            raise ModelError(
                "convolution is 'acs' and depth_kernel is 'flat': kernels in the coronal and the "
                "sagittal plane extend along depth. Leave depth_kernel out, or choose "
                "convolution='full'."
            )
        divisors = [n for n in range(1, spatial_stride + 1) if spatial_stride % n == 0]
        if total_stride is None:
            total_stride = spatial_stride
        if isinstance(total_stride, bool) or total_stride not in divisors:
            raise ModelError(
                f"depth_stride is {total_stride!r}; this network reduces the plane by "
                f"{spatial_stride}, so the depth may be reduced by one of {divisors}. "
                "Choose one of these, or leave it out to reduce depth like the plane."
            )
        return cls(
            "full" if kernel == "full" else "flat",
            "zeros" if padding == "zeros" else "replicate",
            total_stride,
            spatial_stride,
            "acs" if convolution == "acs" else "full",
        )

    def reduction(self, spatial: int) -> int:
        """Return the reduction along depth where the plane is reduced by ``spatial``."""
        return max(1, spatial * self.total_stride // self.spatial_stride)

    def layer(
        self, where: str, kernel: int, stride: int, padding: int, dilation: int, reduction: int
    ) -> LayerDepth:
        """Give one 2D layer its geometry along depth.

        A layer whose windows do not overlap (kernel equal to stride, no padding) keeps that
        property along depth, whatever its stride there.

        Args:
            where: Name of the layer, for messages.
            kernel: Height of the 2D kernel.
            stride: Stride along height.
            padding: Padding along height, on each side.
            dilation: Dilation along height.
            reduction: Reduction of the layer's input along height.

        Raises:
            ModelError: If the kernel is even and its stride along depth would differ from that in
                the plane, so that the depth would drift by a voxel.
        """
        depth_stride = self.reduction(reduction * stride) // self.reduction(reduction)
        if kernel == stride and padding == 0 and dilation == 1:
            deep = depth_stride if self.kernel == "full" else 1
            return LayerDepth(deep, depth_stride, 0)
        if self.kernel == "flat":
            return LayerDepth(1, depth_stride, 0)
        if kernel % 2 == 0 and depth_stride != stride:
            raise ModelError(
                f"{where} has an even kernel ({kernel}) with stride {stride} in the plane and "
                f"would have stride {depth_stride} along depth, where it would shift the "
                "volume by half a voxel. Leave depth_stride out, or choose depth_kernel='flat'."
            )
        return LayerDepth(kernel, depth_stride, padding, dilation)
