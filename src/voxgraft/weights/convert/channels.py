"""A stem's kernel for other channels than it was trained with."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from voxgraft.errors import ConversionError

StemMethod = Literal["sum", "mean", "repeat", "first"]
STEM_METHODS: tuple[StemMethod, ...] = ("sum", "mean", "repeat", "first")


def fold_channels(
    kernel: Float[Tensor, "out old ..."], channels: int, method: StemMethod
) -> Float[Tensor, "out new ..."]:
    """Make a kernel of ``old`` input channels fit an input of ``channels`` channels.

    Where the number is the same, the kernel stays as it is. Otherwise, for an input of
    ``channels`` equal channels (a grey image):

    - ``"sum"``: each channel gets the sum over the old channels, divided by ``channels``. The
      response is that of the old network to the grey image repeated in all its channels.
    - ``"repeat"``: the old channels are dealt out in turn (R, G, B, R, ...), each split evenly
      among its copies; with fewer channels than before, those left over are added in turn. The
      response to a grey image is the same as with ``"sum"``; to channels that differ it is not.
      For a multiple of the old channels this is tiling times ``old / channels``.
    - ``"mean"``: ``"sum"`` divided by the number of old channels: the response is that to an image
      a third as bright (RGB). For networks whose first normalization undoes the scale.
    - ``"first"``: each channel gets the first old channel's kernel divided by ``channels``. The
      response is that of the old network to the image in its first channel, with zeros in others.

    Args:
        kernel: Kernel of the stem, 2D or 3D.
        channels: Number of channels of the new input.
        method: As above.

    Returns:
        The kernel for the new input; the given one itself if the number of channels is the same.

    Raises:
        ConversionError: If ``channels`` is not positive, the tensor is no kernel or the method is
            unknown.

    Source:
        ``"sum"`` for one channel is what timm's ``adapt_input_conv`` does. Its tiling for other
        numbers is scaled by ``3 / channels`` alone, which keeps the response to a grey image for
        multiples of three only; ``"repeat"`` keeps it for any number.
    """
    if channels < 1:
        raise ConversionError(
            f"a stem cannot take {channels} channels. Expected a number of at least 1."
        )
    if kernel.ndim < 3:
        raise ConversionError(
            f"a stem's kernel has the shape {tuple(kernel.shape)}, expected (out, in, ...) with "
            "one to three axes of space."
        )
    if method not in STEM_METHODS:
        raise ConversionError(
            f"no stem method is called {method!r}. Expected one of {', '.join(STEM_METHODS)}."
        )
    old = kernel.shape[1]
    if channels == old:
        return kernel
    if method == "repeat":
        return _dealt(kernel, channels)
    if method == "first":
        shared = kernel[:, :1]
    else:
        shared = kernel.sum(dim=1, keepdim=True)
        if method == "mean":
            shared = shared / old
    return shared.repeat_interleave(channels, dim=1) / channels


def _dealt(kernel: Tensor, channels: int) -> Tensor:
    old = kernel.shape[1]
    if channels > old:
        turn = [channel % old for channel in range(channels)]
        copies = kernel.new_tensor([turn.count(source) for source in turn])
        return kernel[:, turn] / copies.view(1, -1, *[1] * (kernel.ndim - 2))
    dealt = kernel[:, :channels].clone()
    for source in range(channels, old):
        dealt[:, source % channels] += kernel[:, source]
    return dealt
